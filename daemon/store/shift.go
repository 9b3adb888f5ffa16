package store

import (
	"context"
	"errors"
	"fmt"

	"pakon/daemon/store/block"
)

// Shift moves the flows that began before a time by so many ms, both in Unix ms:
// they were recorded while the clock was not set. Connections that are still
// followed are left to whoever follows them.
func (s *Store) Shift(ctx context.Context, before, by int64) error {
	if before <= 0 || by == 0 {
		return nil
	}
	for {
		n, err := s.shiftSlice(context.WithoutCancel(ctx), before, by)
		if err != nil {
			return fmt.Errorf("move flows in %s that began under a wrong clock: %w", s.path, err)
		}
		if n == 0 {
			return ctx.Err()
		}
	}
}

func (s *Store) shiftSlice(ctx context.Context, before, by int64) (n int, err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var b block.Block
	hour := s.hourStart()
	err = s.w.transaction(ctx, func() error {
		flows := readLive(s.w.conn, "f.id < ? AND NOT EXISTS (SELECT 1 FROM tracked WHERE flow = f.id)", before<<idShift)
		if _, err := flows.next(ctx, &b); err != nil {
			return err
		}
		if err := flows.close(); err != nil {
			return err
		}
		n = len(b.Flows)
		for i := range b.Flows {
			f := &b.Flows[i]
			if f.Start()+by < before {
				return errors.New("they would still begin before")
			}
			if _, err := s.w.tracker.soil.ExecContext(ctx, f.ID, s.batch.Load()+1); err != nil {
				return err
			}
			if _, err := s.w.dropRow(ctx, f.ID); err != nil {
				return err
			}
			if f.End() > before {
				// It ended after the clock was set.
				f.Duration = max(f.Duration-by, 0)
			}
			f.ID += by << idShift
			for j := range b.HoursOf(f) {
				h := &b.HoursOf(f)[j]
				if h.Start < before {
					h.Start = hour(h.Start + by)
				}
			}
			if err := s.w.addRow(ctx, &b, f, s.batch.Load()+1); err != nil {
				return err
			}
		}
		if n > 0 {
			_, err = s.w.conn.ExecContext(ctx, "UPDATE state SET batch = batch + 1")
		}
		return err
	})
	if err != nil || n == 0 {
		return 0, err
	}
	s.w.tracker.commit()
	s.batch.Add(1)
	return n, nil
}
