package original

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/ulikunitz/xz"

	"pakon/uci/regular"
)

// Bounds of a backup.
const (
	maxBackup     = 2 << 30  // bytes, unpacked
	maxDictionary = 64 << 20 // bytes of memory to unpack it; xz -9 needs so much, xz alone 8 MiB
	maxIndex      = 64 << 10 // bytes; an entry is under 20, and most files have one
	spare         = 8 << 20  // bytes to leave free in tempDir
)

// OpenXZ opens the backup at path. It is unpacked to a file in tempDir, which
// loses its name as soon as it is open, and so goes with Close or the process. A
// backup that is cut off, would be over 2 GiB or would fill tempDir is refused
// before anything is written.
//
// Errors wrap ErrNotOriginal, ErrDamaged, ErrTooLarge, or what the system said.
func OpenXZ(ctx context.Context, path, tempDir string) (*Database, error) {
	d, err := openXZ(ctx, path, tempDir)
	if err != nil {
		return nil, fmt.Errorf("open the original's backup %s: %w", path, err)
	}
	d.path = path
	return d, nil
}

func openXZ(ctx context.Context, path, tempDir string) (*Database, error) {
	in, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return nil, err
	}
	size, err := unpackedSize(in, fi.Size())
	if err != nil {
		return nil, err
	}
	if err := fits(size, tempDir); err != nil {
		return nil, err
	}
	out, err := os.CreateTemp(tempDir, "pakon-backup-*.tmp")
	if err != nil {
		return nil, err
	}
	err = errors.Join(unpack(ctx, out, in, size), out.Close())
	var d *Database
	if err == nil {
		d, err = open(ctx, out.Name(), tempDir)
	}
	if err2 := os.Remove(out.Name()); err2 != nil && d != nil {
		return nil, errors.Join(err2, d.Close())
	}
	return d, err
}

// fits refuses what would fill the file system.
func fits(size int64, dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < uint64(size)+spare {
		return fmt.Errorf("%w: it needs %d bytes in %s, and %d are free", ErrTooLarge, size, dir, free)
	}
	return nil
}

func unpack(ctx context.Context, out io.Writer, in *os.File, size int64) error {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, err := xz.ReaderConfig{SingleStream: true}.NewReader(bufio.NewReaderSize(in, 64<<10))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	b := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(b)
		if size -= int64(n); size < 0 {
			return fmt.Errorf("%w: it holds more than it says", ErrDamaged)
		}
		if _, err := out.Write(b[:n]); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if err == io.EOF && size == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: unpack: %w", ErrDamaged, err)
		}
	}
}

// unpackedSize tells from the index of a file of a length how long it is
// unpacked, in bytes; and refuses one that is not all there, or that would take
// too much memory to unpack. See https://tukaani.org/xz/xz-file-format.txt.
func unpackedSize(f io.ReaderAt, length int64) (int64, error) {
	const ends = 12 // bytes of the header and of the footer
	damaged := func(why string) (int64, error) { return 0, fmt.Errorf("%w: %s", ErrDamaged, why) }
	if length < 2*ends {
		return damaged("it is not an xz file")
	}
	var footer [ends]byte
	if _, err := f.ReadAt(footer[:], length-ends); err != nil {
		return 0, err
	}
	if string(footer[10:]) != "YZ" {
		return damaged("it does not end like an xz file")
	}
	indexSize := (int64(binary.LittleEndian.Uint32(footer[4:])) + 1) * 4
	if indexSize > min(maxIndex, length-2*ends) {
		return damaged("its index makes no sense")
	}
	index := make([]byte, indexSize)
	if _, err := f.ReadAt(index, length-ends-indexSize); err != nil {
		return 0, err
	}
	r := bytes.NewReader(index)
	if mark, _ := r.ReadByte(); mark != 0 {
		return damaged("its index makes no sense")
	}
	blocks, err := binary.ReadUvarint(r)
	if err != nil {
		return damaged("its index makes no sense")
	}
	at, size := int64(ends), int64(0)
	for range blocks {
		packed, err1 := binary.ReadUvarint(r)
		unpacked, err2 := binary.ReadUvarint(r)
		if err1 != nil || err2 != nil || packed > uint64(length) {
			return damaged("its index makes no sense")
		}
		if unpacked > maxBackup || size+int64(unpacked) > maxBackup {
			return 0, fmt.Errorf("%w: it would be over %d bytes", ErrTooLarge, int64(maxBackup))
		}
		need, err := dictionary(f, at)
		if err != nil {
			return damaged(err.Error())
		}
		if need > maxDictionary {
			return 0, fmt.Errorf("%w: unpacking it takes %d bytes of memory", ErrTooLarge, need)
		}
		at += (int64(packed) + 3) &^ 3
		size += int64(unpacked)
	}
	if at+indexSize+ends != length {
		return damaged("parts of it are missing")
	}
	return size, nil
}

// dictionary tells how many bytes of memory the block at an offset takes.
func dictionary(f io.ReaderAt, at int64) (int64, error) {
	errBlock := errors.New("a block in it makes no sense")
	header := make([]byte, 1024) // the longest
	n, err := f.ReadAt(header, at)
	if err != nil && err != io.EOF || n < 8 {
		return 0, errBlock
	}
	r := bytes.NewReader(header[2:n])
	flags := header[1]
	if flags&0x3f != 0 { // more than one filter, or unknown ones
		return 0, errBlock
	}
	for _, bit := range []byte{0x40, 0x80} { // packed and unpacked size are given
		if flags&bit != 0 {
			if _, err := binary.ReadUvarint(r); err != nil {
				return 0, errBlock
			}
		}
	}
	var filter [3]byte // LZMA2, one byte of properties, that byte
	if _, err := io.ReadFull(r, filter[:]); err != nil || filter[0] != 0x21 || filter[1] != 1 || filter[2] > 40 {
		return 0, errBlock
	}
	bits := filter[2]
	return int64(2|bits&1) << (bits/2 + 11), nil
}
