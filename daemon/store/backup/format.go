package backup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// A segment file, all numbers little endian:
//
//	magic 8, version 4, CRC of these 4       the same in every version
//	identity 8, number 8, slice 8, written 8
//	replaced ids: how many 4, their bytes 4, CRC of the bytes 4
//	CRC of all before 4
//	replaced ids: the first as varint, then as uvarint how much each is larger
//	for each block:
//	  magic 4, index from 0 4, bytes 4, CRC of the bytes 4, CRC of this frame 4
//	  the encoded block
//	at the end the same frame with another magic: index is the number of blocks
//
// The magic of frames is there to find the next one behind a damaged one.
const (
	fileMagic  = "PakonBak"
	blockMagic = "PkBl"
	endMagic   = "PkEn"

	// version goes up when the form of this file or of the blocks changes.
	version = 1

	prefixSize = 16
	headerSize = 64
	frameSize  = 20
)

// Bounds of what is written and read.
const (
	MaxReplaced = 1 << 20 // ids in a header
	MaxBlock    = 4 << 20 // bytes of an encoded block
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// appendSum appends the CRC of what b holds.
func appendSum(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, checksum(b)) }

// summed tells whether b ends with the CRC of what is before.
func summed(b []byte) bool {
	n := len(b) - 4
	return checksum(b[:n]) == binary.LittleEndian.Uint32(b[n:])
}

// encodeHeader is the header as it is written.
func encodeHeader(h Header) ([]byte, error) {
	if len(h.Replaced) > MaxReplaced {
		return nil, fmt.Errorf("%d replaced flows: at most %d are possible", len(h.Replaced), MaxReplaced)
	}
	var ids []byte
	for i, id := range h.Replaced {
		if i == 0 {
			ids = binary.AppendVarint(ids, id)
			continue
		}
		if id <= h.Replaced[i-1] {
			return nil, errors.New("replaced flows are not in order")
		}
		ids = binary.AppendUvarint(ids, uint64(id)-uint64(h.Replaced[i-1]))
	}
	le := binary.LittleEndian
	b := make([]byte, 0, headerSize+len(ids))
	b = append(b, fileMagic...)
	b = le.AppendUint32(b, version)
	b = appendSum(b)
	for _, n := range []int64{h.Identity, h.Number, h.Slice, h.Written} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = le.AppendUint32(b, uint32(len(h.Replaced)))
	b = le.AppendUint32(b, uint32(len(ids)))
	b = le.AppendUint32(b, checksum(ids))
	b = appendSum(b)
	return append(b, ids...), nil
}

// fixed is the part of the header that has the same size in all files.
type fixed struct {
	Header          // without Replaced
	count    uint32 // of replaced ids
	size     uint32 // of them in bytes
	checksum uint32
}

// readFixed reads the beginning of the segment with the number.
func readFixed(r io.Reader, number int64) (fixed, error) {
	var b [headerSize]byte
	// A newer version may have less behind the prefix.
	n, err := io.ReadFull(r, b[:])
	switch {
	case err != nil && err != io.EOF && err != io.ErrUnexpectedEOF:
		return fixed{}, err
	case n < prefixSize || string(b[:len(fileMagic)]) != fileMagic || !summed(b[:prefixSize]):
		return fixed{}, fmt.Errorf("%w: it does not begin like one", ErrDamaged)
	}
	le := binary.LittleEndian
	if v := le.Uint32(b[8:]); v > version {
		return fixed{}, fmt.Errorf("%w (version %d, known are up to %d)", ErrNewer, v, version)
	} else if v == 0 {
		return fixed{}, fmt.Errorf("%w: version 0", ErrDamaged)
	}
	if n < headerSize || !summed(b[:]) {
		return fixed{}, fmt.Errorf("%w: its header is", ErrDamaged)
	}
	n64 := func(i int) int64 { return int64(le.Uint64(b[i:])) }
	h := fixed{
		Header: Header{Identity: n64(16), Number: n64(24), Slice: n64(32), Written: n64(40)},
		count:  le.Uint32(b[48:]), size: le.Uint32(b[52:]), checksum: le.Uint32(b[56:]),
	}
	switch {
	case h.Number != number:
		return fixed{}, fmt.Errorf("%w: it is number %d", ErrDamaged, h.Number)
	case h.count > MaxReplaced || h.size < h.count || h.size > h.count*binary.MaxVarintLen64:
		return fixed{}, fmt.Errorf("%w: %d replaced flows in %d bytes", ErrDamaged, h.count, h.size)
	}
	return h, nil
}

// decodeIDs is the inverse of what encodeHeader does.
func decodeIDs(b []byte, count int) ([]int64, error) {
	if count == 0 {
		return nil, nil
	}
	wrong := fmt.Errorf("%w: its list of replaced flows is", ErrDamaged)
	ids := make([]int64, count)
	id, n := binary.Varint(b)
	for i := range ids {
		if i > 0 {
			var more uint64
			more, n = binary.Uvarint(b)
			next := int64(uint64(id) + more)
			if next <= id {
				return nil, wrong
			}
			id = next
		}
		if n <= 0 {
			return nil, wrong
		}
		ids[i], b = id, b[n:]
	}
	if len(b) > 0 {
		return nil, wrong
	}
	return ids, nil
}

func appendFrame(b []byte, magic string, index uint32, encoded []byte) []byte {
	le := binary.LittleEndian
	from := len(b)
	b = append(b, magic...)
	b = le.AppendUint32(b, index)
	b = le.AppendUint32(b, uint32(len(encoded)))
	b = le.AppendUint32(b, checksum(encoded))
	return le.AppendUint32(b, checksum(b[from:]))
}

// segment is a segment file that is being read.
type segment struct {
	file   File
	r      *bufio.Reader
	header Header
	size   int64 // of the file

	offset int64 // how far it was read
	start  int64 // where the frame that was read last begins
	next   int64 // the least index that the next frame may have
	index  int64 // of the block that was read last; at the end how many there are
	whole  bool  // its end was read
	buf    []byte
}

// openSegment opens a segment file and reads its header.
func openSegment(f FS, path string, number int64) (_ *segment, err error) {
	file, err := f.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	s := &segment{file: file, r: bufio.NewReaderSize(file, 32<<10), size: fi.Size()}
	h, err := readFixed(s.r, number)
	if err != nil {
		return nil, err
	}
	s.header = h.Header
	s.offset = headerSize + int64(h.size)
	if s.offset > s.size {
		return nil, fmt.Errorf("%w: its header is cut off", ErrDamaged)
	}
	b := make([]byte, h.size)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, err
	}
	if checksum(b) != h.checksum {
		return nil, fmt.Errorf("%w: its list of replaced flows is", ErrDamaged)
	}
	s.header.Replaced, err = decodeIDs(b, int(h.count))
	return s, err
}

func (s *segment) close() { s.file.Close() }

// block returns the next block that is as it was written; it is valid until the
// next call. At the end of the file the error is io.EOF.
func (s *segment) block() ([]byte, error) {
	le := binary.LittleEndian
	for {
		frame, err := s.r.Peek(frameSize)
		if err != nil {
			return nil, err
		}
		magic := string(frame[:4])
		index, size, sum := int64(le.Uint32(frame[4:])), le.Uint32(frame[8:]), le.Uint32(frame[12:])
		if magic != blockMagic && magic != endMagic || !summed(frame) || index < s.next || size > MaxBlock {
			s.r.Discard(1)
			s.offset++
			continue
		}
		s.r.Discard(frameSize)
		s.start, s.index = s.offset, index
		s.offset += frameSize
		if magic == endMagic {
			s.whole = true
			return nil, io.EOF
		}
		s.next = index + 1
		s.buf = slices.Grow(s.buf[:0], int(size))[:size]
		n, err := io.ReadFull(s.r, s.buf)
		s.offset += int64(n)
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		if err != nil {
			return nil, err
		}
		if checksum(s.buf) == sum {
			return s.buf, nil
		}
	}
}

// lost says what is missing when all was read and given blocks were usable.
func (s *segment) lost(given int64) error {
	switch {
	case !s.whole:
		return fmt.Errorf("%w: it is cut off after %d usable blocks", ErrDamaged, given)
	case given < s.index:
		return fmt.Errorf("%w: %d of %d blocks are lost", ErrDamaged, s.index-given, s.index)
	}
	return nil
}
