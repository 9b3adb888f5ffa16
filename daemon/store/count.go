package store

import (
	"context"
	"fmt"
)

// Count is how many flows there are, and what they have moved.
type Count struct {
	Flows       int64
	Sent, Recvd uint64 // bytes
}

func (c *Count) add(flows uint32, sent, recvd uint64) {
	c.Flows += int64(flows)
	c.Sent += sent
	c.Recvd += recvd
}

// Count counts the flows that f wants, and those that it leaves out because their
// names are hidden. Bytes are those inside the filter's window.
func (s *Store) Count(ctx context.Context, f Filter) (wanted, hidden Count, err error) {
	s.querying.RLock()
	defer s.querying.RUnlock()
	if wanted, hidden, err = s.count(ctx, f.normal()); err != nil {
		return Count{}, Count{}, fmt.Errorf("count the flows in %s: %w", s.path, err)
	}
	return wanted, hidden, nil
}

func (s *Store) count(ctx context.Context, f Filter) (wanted, hidden Count, err error) {
	m, err := s.newMatcher(f, false)
	if err != nil {
		return wanted, hidden, err
	}
	v, err := s.view(ctx)
	if err != nil {
		return wanted, hidden, err
	}
	defer v.close()
	// What the sums of a day have put together may have lost its names.
	daily := func(span64) bool { return len(f.Hostnames) == 0 }
	w := f.window()
	err = v.scan(ctx, f, s.batch.Load(), daily, func(b *scanned) error {
		m.read(b.Block)
		for i := range b.Flows {
			f := &b.Flows[i]
			if !m.means(f) {
				continue
			}
			to := &wanted
			if m.hides(f) {
				to = &hidden
			}
			sent, recvd := w.inside(f, b.HoursOf(f))
			to.add(f.Flows, sent, recvd)
		}
		return nil
	})
	return wanted, hidden, err
}
