package store

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
)

// ErrCursor is wrapped by the error about a cursor that did not come from the
// same query to the same database.
var ErrCursor = errors.New("cursor does not belong to this query")

// position is a place in the order of a query's rows.
type position struct {
	first   bool  // before all rows
	batch   int64 // what was added later is left out
	key, id int64 // of the last row before the place
}

// A cursor is 32 bytes: fingerprint of the query, batch, key and id.
const cursorSize = 4 * 8

// fingerprint tells a query from others, also from those to other databases.
// The size of the page does not matter to it.
func (s *Store) fingerprint(q Query) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d %t %t %d %d %t %t %t %v %q", s.identity, q.Sort, q.Descending, q.Aggregate,
		q.Start, q.End, q.All, q.Out, q.In, q.Clients, q.Hostnames)
	return h.Sum64()
}

func (s *Store) cursor(q Query, p position) string {
	b := make([]byte, 0, cursorSize)
	b = binary.BigEndian.AppendUint64(b, s.fingerprint(q))
	for _, n := range []int64{p.batch, p.key, p.id} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// position is where the query's cursor points to.
func (s *Store) position(q Query) (position, error) {
	now := s.batch.Load()
	if q.Cursor == "" {
		return position{first: true, batch: now}, nil
	}
	var b [cursorSize]byte
	if len(q.Cursor) != base64.RawURLEncoding.EncodedLen(cursorSize) {
		return position{}, ErrCursor
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(q.Cursor)); err != nil {
		return position{}, fmt.Errorf("%w: %w", ErrCursor, err)
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) }
	p := position{batch: n(1), key: n(2), id: n(3)}
	if uint64(n(0)) != s.fingerprint(q) || p.batch < 0 || p.batch > now {
		return position{}, ErrCursor
	}
	return p, nil
}

// How many rows are read at once where all flows must be read for each page: for
// the first page, and for one who goes on from there.
const (
	aheadRows = 3000
	walkRows  = 1 << 13
)

// ahead keeps what was read beyond the last page, or is being read, for the one
// who asks for the next. It holds the rest of one query, at most walkRows rows.
type ahead struct {
	mu     sync.Mutex
	cursor string
	ready  chan struct{} // closed when the rest is there
	rest   found
	more   bool
}

// found are rows that a query has read, in order. Most of them are asked for
// later, if ever: those of long reading are kept as the sums that they are made
// of.
type found struct {
	rows  []Row // or
	sums  []sum
	texts *texts
}

func (f found) len() int { return len(f.rows) + len(f.sums) }

// cut divides it behind the nth.
func (f found) cut(n int) (page, rest found) {
	if f.texts != nil {
		return found{sums: f.sums[:n], texts: f.texts}, found{sums: f.sums[n:], texts: f.texts}
	}
	return found{rows: f.rows[:n:n]}, found{rows: f.rows[n:]}
}

// last is the place of the last one.
func (f found) last(k Key) (key, id int64) {
	if f.texts != nil {
		s := &f.sums[len(f.sums)-1]
		return s.key(k), s.id
	}
	r := &f.rows[len(f.rows)-1]
	return r.key, r.id
}

// put keeps rows for the one who comes with the cursor.
func (a *ahead) put(cursor string, rest found, more bool) {
	if rest.len() > 0 {
		a.promise(cursor)(rest, more, true)
	}
}

// promise says that the rows for the cursor are being read. Whoever comes with
// it waits for keep, which must be called; ok is false if there are none.
func (a *ahead) promise(cursor string) (keep func(rest found, more, ok bool)) {
	ready := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cursor, a.ready, a.rest, a.more = cursor, ready, found{}, false
	return func(rest found, more, ok bool) {
		defer close(ready)
		a.mu.Lock()
		defer a.mu.Unlock()
		switch {
		case a.ready != ready: // another query has come
		case ok:
			a.rest, a.more = rest, more
		default:
			a.cursor = ""
		}
	}
}

// forget drops what is kept or being read.
func (a *ahead) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cursor, a.ready, a.rest = "", nil, found{}
}

// take returns what is kept for the cursor, if that is a whole page or all.
func (a *ahead) take(ctx context.Context, cursor string, limit int) (rest found, more, ok bool) {
	if cursor == "" {
		return found{}, false, false
	}
	a.mu.Lock()
	ready := a.ready
	known := cursor == a.cursor
	a.mu.Unlock()
	if !known {
		return found{}, false, false
	}
	select {
	case <-ready:
	case <-ctx.Done():
		return found{}, false, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if cursor != a.cursor || a.rest.len() < limit && a.more {
		return found{}, false, false
	}
	rest, more = a.rest, a.more
	a.cursor, a.rest = "", found{}
	return rest, more, true
}
