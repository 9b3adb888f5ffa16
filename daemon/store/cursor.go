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
		q.Start, q.End, q.All, q.Out, q.In, q.MACs, q.Hostnames)
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

// aheadRows is how many rows are read at once where reading them in pages would
// mean sorting or adding up all flows for each page.
const aheadRows = 3000

// ahead keeps what was read beyond the last page, or is being read, for the one
// who asks for the next. It holds the rest of one query, at most aheadRows rows
// or a page.
type ahead struct {
	mu     sync.Mutex
	cursor string
	ready  chan struct{} // closed when the rest is there
	rows   []Row
	more   bool
}

// put keeps rows for the one who comes with the cursor.
func (a *ahead) put(cursor string, rows []Row, more bool) {
	if len(rows) > 0 {
		a.promise(cursor)(rows, more, true)
	}
}

// promise says that the rows for the cursor are being read. Whoever comes with
// it waits for keep, which must be called; ok is false if there are none.
func (a *ahead) promise(cursor string) (keep func(rows []Row, more, ok bool)) {
	ready := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cursor, a.ready, a.rows, a.more = cursor, ready, nil, false
	return func(rows []Row, more, ok bool) {
		defer close(ready)
		a.mu.Lock()
		defer a.mu.Unlock()
		switch {
		case a.ready != ready: // another query has come
		case ok:
			a.rows, a.more = rows, more
		default:
			a.cursor = ""
		}
	}
}

// take returns what is kept for the cursor, if that is a whole page or all.
func (a *ahead) take(ctx context.Context, cursor string, limit int) (rows []Row, more, ok bool) {
	if cursor == "" {
		return nil, false, false
	}
	a.mu.Lock()
	ready := a.ready
	known := cursor == a.cursor
	a.mu.Unlock()
	if !known {
		return nil, false, false
	}
	select {
	case <-ready:
	case <-ctx.Done():
		return nil, false, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if cursor != a.cursor || len(a.rows) < limit && a.more {
		return nil, false, false
	}
	rows, more = a.rows, a.more
	a.cursor, a.rows = "", nil
	return rows, more, true
}
