package original

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

const page = 4096

// write makes a file of b.
func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNoDatabase(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": nil, "zeros": make([]byte, 20*page), "text": []byte("no database"), "magic": []byte("SQLite format 3\x00"),
		"noise": append([]byte("SQLite format 3\x00"), bytes.Repeat([]byte{0xa5}, 3*page)...),
	} {
		if _, err := Open(t.Context(), write(t, b), t.TempDir()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: the error is %v", err)
	}
	if _, err := Open(t.Context(), t.TempDir(), ""); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("a folder: the error is %v", err)
	}
}

// changed tells how many of the flows were not there before.
func changed(got, all []Flow) (n int) {
	known := map[Flow]bool{}
	for _, f := range all {
		known[f] = true
	}
	for _, f := range got {
		if !known[f] {
			n++
		}
	}
	return n
}

func TestDamage(t *testing.T) {
	path := create(t, archiveTable) // no indexes: all pages hold rows
	fill(t, path, 5000)
	whole := content(t, path)
	all, err := read(t, openTest(t, path), Position{})
	if err != nil {
		t.Fatal(err)
	}
	pages := len(whole) / page
	perPage := 5000 / pages
	tests := []struct {
		name string
		make func(b []byte) []byte
		min  int // flows that can be read at least
		// How many of them may differ.
		changed int
	}{
		{"half of its pages", func(b []byte) []byte { return b[:pages/2*page] }, 2000, 0},
		{"cut within a page", func(b []byte) []byte { return b[:len(b)-page/2] }, 5000 - 2*perPage, 1},
		{"a page of zeros", func(b []byte) []byte { clear(b[10*page : 11*page]); return b }, 5000 - 2*perPage, 0},
		{"three pages of zeros", func(b []byte) []byte {
			clear(b[10*page : 12*page])
			clear(b[40*page : 41*page])
			return b
		}, 5000 - 5*perPage, 0},
		{"the last page", func(b []byte) []byte { clear(b[len(b)-page:]); return b }, 5000 - 2*perPage, 0},
		{"the root", func(b []byte) []byte { clear(b[page : 2*page]); return b }, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := openTest(t, write(t, tt.make(bytes.Clone(whole))))
			got, err := read(t, d, Position{})
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("the error is %v", err)
			}
			if n := changed(got, all); len(got) < tt.min || len(got) >= 5000 || n > tt.changed {
				t.Errorf("got %d flows, %d of them changed, want %d or more and %d", len(got), n, tt.min, tt.changed)
			}
			if d.Skipped().Gaps == 0 {
				t.Errorf("skipped is %+v", d.Skipped())
			}
			want := int64(len(got)) + d.Skipped().Start
			if n, err := d.Count(t.Context()); n < want || n > want && tt.changed == 0 || err != nil {
				t.Errorf("Count is %d, %v; there are %d", n, err, want)
			}
			if len(got) > 1500 {
				rest, err := read(t, d, got[1499].Position)
				if !errors.Is(err, ErrDamaged) || !equal(rest, got[1500:]) {
					t.Errorf("resumed, it yields %d flows, %v", len(rest), err)
				}
			}
		})
	}
}

// TestDamagedIndex is for damage that does not concern the rows.
func TestDamagedIndex(t *testing.T) {
	path := create(t, archiveTable)
	fill(t, path, 3000)
	before := len(content(t, path))
	db := connect(t, path)
	defer db.Close()
	if _, err := db.Exec("CREATE INDEX start ON traffic(start)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	b := content(t, path)
	clear(b[before:])
	d := openTest(t, write(t, b))
	if got, err := read(t, d, Position{}); err != nil || len(got) != 3000 {
		t.Errorf("got %d flows, %v", len(got), err)
	}
	if n, err := d.Count(t.Context()); n != 3000 || err != nil {
		t.Errorf("Count is %d, %v", n, err)
	}
}

// TestNoise damages a file in many ways. What it yields may be wrong then; but it
// must end, in order, and not panic.
func TestNoise(t *testing.T) {
	path := create(t, archiveTable+archiveLatest)
	fill(t, path, 500)
	whole := content(t, path)
	r := rand.New(rand.NewPCG(3, 4))
	opened := 0
	for range 60 {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(20) {
			at := r.IntN(len(b))
			switch r.IntN(4) {
			case 0:
				b[at] ^= 1 << r.IntN(8)
			case 1: // a page's header
				b[at&^(page-1)+r.IntN(12)] = byte(r.Uint32())
			case 2: // within the first pages, with the schema and the roots
				b[100+r.IntN(3*page)] = byte(r.Uint32())
			case 3: // a page in another's place
				copy(b[at&^(page-1):], b[r.IntN(len(b))&^(page-1):][:page])
			}
		}
		d, err := Open(t.Context(), write(t, b), t.TempDir())
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotOriginal) {
				t.Errorf("the error is %v", err)
			}
			continue
		}
		opened++
		if _, err := read(t, d, Position{}); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("the error is %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if opened < 20 {
		t.Errorf("only %d could be opened", opened)
	}
}
