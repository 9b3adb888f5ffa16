package original

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"pakon/daemon/name"
	"pakon/tests/limits"
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
		{"pages that lead to one leaf again and again", func(b []byte) []byte {
			root := bytes.Clone(b[page : 2*page])
			lead := func(from, to int) {
				p := b[from*page:][:page]
				copy(p, root)
				binary.BigEndian.PutUint32(p[8:], uint32(to+1)) // the rightmost
				for i := range int(binary.BigEndian.Uint16(p[3:])) {
					binary.BigEndian.PutUint32(p[binary.BigEndian.Uint16(p[12+2*i:]):], uint32(to+1))
				}
			}
			for i := 1; i < 10; i++ {
				lead(i, i+1)
			}
			return b
		}, perPage / 2, 0},
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

// TestDamagedRow: a row that can not be read is left out at once, however far its
// rowid is from that of the row before.
func TestDamagedRow(t *testing.T) {
	path := create(t, archiveTable)
	fill(t, path, 10)
	const far = 1 << 40
	db := connect(t, path)
	defer db.Close()
	if _, err := db.Exec("UPDATE traffic SET rowid = ? WHERE rowid = 10", far); err != nil {
		t.Fatal(err)
	}
	db.Close()
	b := content(t, path)
	// Its rowid, as SQLite writes it, and behind it the size of the row's header.
	id := []byte{0xa0, 0x80, 0x80, 0x80, 0x80, 0}
	at := bytes.LastIndex(b, id)
	if at < 0 || b[at+len(id)] > 20 {
		t.Fatalf("at %d is no row", at)
	}
	b[at+len(id)] = 0x7f
	d := openTest(t, write(t, b))
	ctx, cancel := context.WithTimeout(t.Context(), limits.For(20*time.Second))
	defer cancel()
	n := 0
	err := d.Read(ctx, Position{}, func(flows []Flow) error { n += len(flows); return nil })
	if !errors.Is(err, ErrDamaged) || n != 9 || d.Skipped().Gaps != 1 {
		t.Errorf("%d flows, %+v, %v", n, d.Skipped(), err)
	}
}

// FuzzDatabase: whatever happened to a database, it is read to its end, and what it
// yields are flows.
func FuzzDatabase(f *testing.F) {
	path := create(f, "PRAGMA page_size = 512; "+archiveTable+archiveIndex)
	fill(f, path, 40)
	whole := content(f, path)
	patch := func(at int, b ...byte) (p []byte) {
		for i, v := range b {
			p = append(binary.LittleEndian.AppendUint16(p, uint16(at+i)), v)
		}
		return p
	}
	f.Add([]byte(nil), uint16(len(whole)))
	f.Add([]byte(nil), uint16(len(whole)/2))
	f.Add(patch(16, 2, 1), uint16(len(whole)))              // the size of pages
	f.Add(patch(512, 0, 0, 0, 0, 0, 0), uint16(len(whole))) // the root's header
	f.Add(patch(len(whole)-100, make([]byte, 100)...), uint16(len(whole)))
	path = filepath.Join(f.TempDir(), "file.db")
	temp := f.TempDir()
	f.Fuzz(func(t *testing.T, patches []byte, size uint16) {
		b := bytes.Clone(whole[:min(int(size), len(whole))])
		for p := range slices.Chunk(patches, 3) {
			if at := int(p[0]) | int(p[len(p)/2])<<8; len(p) == 3 && at < len(b) {
				b[at] = p[2]
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limits.For(20*time.Second))
		defer cancel()
		d, err := Open(ctx, path, temp)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotOriginal) {
				t.Fatal(err)
			}
			return
		}
		defer d.Close()
		var last Position
		err = d.Read(ctx, Position{}, func(flows []Flow) error {
			for _, f := range flows {
				if last != (Position{}) && last.compare(f.Position) >= 0 || f.Flow.Start != f.Position.Start || f.Flow.End < f.Flow.Start {
					t.Errorf("at %v, behind %v: %+v", f.Position, last, f)
				}
				if max(f.Flow.Sent, f.Flow.Recvd) > maxBytes || !utf8.ValidString(f.Flow.Name) || len(f.Flow.Name) > name.MaxLen || f.Flow.Client.IsGroup() {
					t.Errorf("%+v", f)
				}
				last = f.Position
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}
