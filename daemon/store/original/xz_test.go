package original

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ulikunitz/xz"
)

// pack compresses b.
func pack(t testing.TB, b []byte, config xz.WriterConfig) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, err := config.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func TestXZ(t *testing.T) {
	path := create(t, archiveTable+archiveLatest)
	fill(t, path, 2500)
	want, err := read(t, openTest(t, path), Position{})
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]xz.WriterConfig{
		"as xz does": {}, "blocks": {BlockSize: 100_000}, "CRC32": {CheckSum: xz.CRC32}, "SHA-256": {CheckSum: xz.SHA256},
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			d, err := OpenXZ(t.Context(), write(t, pack(t, content(t, path), config)), temp)
			if err != nil {
				t.Fatal(err)
			}
			got, err := read(t, d, Position{})
			if err != nil {
				t.Fatal(err)
			}
			if !equal(got, want) {
				t.Errorf("got %d flows, want %d", len(got), len(want))
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			empty(t, temp)
		})
	}
}

// empty checks that nothing is left in a folder.
func empty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestBadXZ(t *testing.T) {
	path := create(t, archiveTable)
	fill(t, path, 300)
	whole := pack(t, content(t, path), xz.WriterConfig{})
	change := func(at int, b byte) []byte {
		c := bytes.Clone(whole)
		c[(at+len(c))%len(c)] ^= b
		return c
	}
	// A header is 12 bytes; then come the block's: its length, flags, the filter
	// LZMA2, the length of its properties, the dictionary.
	tests := map[string]struct {
		b    []byte
		want error
	}{
		"empty":            {nil, ErrDamaged},
		"text":             {bytes.Repeat([]byte("text "), 20), ErrDamaged},
		"half":             {whole[:len(whole)/2], ErrDamaged},
		"a byte short":     {whole[:len(whole)-1], ErrDamaged},
		"a byte missing":   {append(bytes.Clone(whole[:500]), whole[501:]...), ErrDamaged},
		"twice":            {append(bytes.Clone(whole), whole...), ErrDamaged},
		"a bit":            {change(2000, 4), ErrDamaged},
		"header":           {change(0, 1), ErrDamaged},
		"footer":           {change(-12, 1), ErrDamaged},
		"filter":           {change(14, 1), ErrDamaged},
		"big dictionary":   {change(16, whole[16]^40), ErrTooLarge},
		"no database":      {pack(t, []byte("text"), xz.WriterConfig{}), ErrDamaged},
		"nothing":          {pack(t, nil, xz.WriterConfig{}), ErrDamaged},
		"other database":   {pack(t, content(t, create(t, "CREATE TABLE a (b)")), xz.WriterConfig{}), ErrNotOriginal},
		"says it is large": {claim(whole, 3<<30), ErrTooLarge},
		"says it is small": {claim(whole, 5000), ErrDamaged},
		"says too much":    {claim(whole, 1<<20), ErrDamaged},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			if _, err := OpenXZ(t.Context(), write(t, tt.b), temp); !errors.Is(err, tt.want) {
				t.Errorf("the error is %v, want %v", err, tt.want)
			}
			empty(t, temp)
		})
	}
	if _, err := OpenXZ(t.Context(), filepath.Join(t.TempDir(), "none"), t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: the error is %v", err)
	}
}

// claim is a file whose index tells another size.
func claim(whole []byte, size uint64) []byte {
	const ends = 12
	indexSize := (int(binary.LittleEndian.Uint32(whole[len(whole)-8:])) + 1) * 4
	start := len(whole) - ends - indexSize
	packed, _ := binary.Uvarint(whole[start+2:])
	index := binary.AppendUvarint(binary.AppendUvarint([]byte{0, 1}, packed), size)
	for len(index)%4 > 0 {
		index = append(index, 0)
	}
	index = append(index, 0, 0, 0, 0) // a checksum, which no one reads so early
	footer := bytes.Clone(whole[len(whole)-ends:])
	binary.LittleEndian.PutUint32(footer[4:], uint32(len(index)/4-1))
	return bytes.Join([][]byte{whole[:start], index, footer}, nil)
}

func TestNoSpace(t *testing.T) {
	if err := fits(1<<50, t.TempDir()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("the error is %v", err)
	}
	if err := fits(1, t.TempDir()); err != nil {
		t.Error(err)
	}
}

func FuzzUnpackedSize(f *testing.F) {
	f.Add(pack(f, []byte("text"), xz.WriterConfig{}))
	f.Add(pack(f, bytes.Repeat([]byte("text"), 100), xz.WriterConfig{BlockSize: 100}))
	f.Add(claim(pack(f, []byte("text"), xz.WriterConfig{}), 3<<30))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := unpackedSize(bytes.NewReader(b), int64(len(b)))
		if n < 0 || n > maxBackup || err != nil && n != 0 {
			t.Errorf("got %d, %v", n, err)
		}
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("the error is %v", err)
		}
	})
}
