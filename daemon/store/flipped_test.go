package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answers are what a store has to say: each flow, and the sums of each client and day.
type answers struct {
	flows map[Row]int
	sums  map[string]sent
}

// bytes are those of all flows.
func (a answers) bytes() (n uint64) {
	for r, times := range a.flows {
		n += uint64(times) * (r.Sent + r.Recvd)
	}
	return n
}

func ask(t *testing.T, s *Store) (a answers, err error) {
	t.Helper()
	a = answers{make(map[Row]int), make(map[string]sent)}
	everything := Filter{All: true, Out: true, In: true}
	for q := (Query{Filter: everything, Limit: 1000}); ; {
		p, err := s.Flows(t.Context(), q)
		if err != nil {
			return a, err
		}
		for _, r := range p.Rows {
			a.flows[r]++
		}
		if q.Cursor = p.Next; p.Next == "" {
			break
		}
	}
	rows, _, err := s.Summary(t.Context(), SummaryQuery{Filter: everything, By: []string{"day", "client"}, Limit: 1000})
	for _, r := range rows {
		a.sums[fmt.Sprint(r.Day, r.Client, r.ClientAddr)] = sent{r.Sent, r.Recvd, uint64(r.Flows), uint64(r.Duration)}
	}
	return a, err
}

// TestFlippedBits flips bits of each page of an archive. Whatever that hits: what is
// wrong or lacking is not passed off as right, the file is named, and live is whole.
func TestFlippedBits(t *testing.T) {
	alone(t)
	base := ramDir(t)
	s := openDisk(t, base, Options{})
	add(t, s, randomFlows(rand.New(rand.NewPCG(1, 3)), 600, 4)...)
	_, err := archiveAt(s, t.Context(), theNow)
	failOn(t, err)
	want, err := ask(t, s)
	failOn(t, err)
	closeStore(t, s)
	whole := read(t, filepath.Join(base, "srv", "pakon-archive.db"))
	r := rand.New(rand.NewPCG(5, 6))
	const size = 4096
	for page := range len(whole) / size {
		places := cells(whole[page*size : (page+1)*size])
		for range 4 {
			places = append(places, r.IntN(size))
		}
		for _, at := range places {
			at += page * size
			bit := r.IntN(8)
			dir := ramDir(t)
			copyFiles(t, base, dir)
			path := filepath.Join(dir, "srv", "pakon-archive.db")
			b := bytes.Clone(whole)
			b[at] ^= 1 << bit
			write(t, path, b)
			var log bytes.Buffer
			s := open(t, Options{Path: filepath.Join(dir, "pakon.db"), Classify: testClassify, Log: slog.New(slog.NewTextHandler(&log, nil))})
			s.SetArchive(lasting(path))
			where := fmt.Sprintf("page %d, byte %d, bit %d", page+1, at%size, bit)
			attached := s.Attach(t.Context())
			got, err := ask(t, s)
			told := strings.Contains(log.String(), path)
			for _, err := range []error{attached, err} {
				if err != nil && !strings.Contains(err.Error(), path) {
					t.Errorf("%s: the error does not name the file: %v", where, err)
				}
				told = told || err != nil
			}
			same := maps.Equal(got.flows, want.flows) && maps.Equal(got.sums, want.sums)
			if !same && !told {
				t.Errorf("%s: %d of %d flows, and nobody is told; sums %v", where, len(got.flows), len(want.flows), maps.Equal(got.sums, want.sums))
			}
			for row, n := range got.flows {
				if n > want.flows[row] {
					t.Errorf("%s: %d times %+v, want %d", where, n, row, want.flows[row])
				}
			}
			if attached == nil && err == nil {
				// Nothing of what is there is lost by a run.
				before := got.bytes()
				if _, err := archiveAt(s, t.Context(), theNow.Add(24*time.Hour)); err != nil && !strings.Contains(err.Error(), path) {
					t.Errorf("%s: the error of a run does not name the file: %v", where, err)
				}
				if got, err = ask(t, s); err != nil || got.bytes() != before {
					t.Errorf("%s: %d bytes, before the run %d: %v", where, got.bytes(), before, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: closing: %v", where, err)
			}
		}
	}
}

// cells are the first bytes of cells of a leaf: keys, and the columns that come first
// (https://sqlite.org/fileformat.html#b_tree_pages).
func cells(page []byte) (at []int) {
	const leafOfTable, leafOfIndex = 0x0d, 0x0a
	if page[0] != leafOfTable && page[0] != leafOfIndex {
		return nil
	}
	for i := range min(2, int(binary.BigEndian.Uint16(page[3:]))) {
		cell := int(binary.BigEndian.Uint16(page[8+2*i:]))
		for n := i; n < min(44, len(page)-cell); n += 2 {
			at = append(at, cell+n)
		}
	}
	return at
}
