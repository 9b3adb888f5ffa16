package store

import (
	"context"
	"errors"
	"fmt"

	"pakon/daemon/store/block"
)

// Shift moves the flows of live that began in [from, to) by so many ms, all in
// Unix ms: they were recorded under a wrong clock. They must be moved out of that
// span if it is forwards. Connections that are still followed are left to whoever
// follows them.
func (s *Store) Shift(ctx context.Context, from, to, by int64) error {
	if to <= max(from, 0) || by == 0 {
		return nil
	}
	if err := s.shiftLeftOut(context.WithoutCancel(ctx), max(from, 0), to, by); err != nil {
		return err
	}
	for at := max(from, 0) << idShift; ; {
		next, err := s.shiftSlice(context.WithoutCancel(ctx), at, to, by)
		if err != nil {
			return fmt.Errorf("move flows in %s that began under a wrong clock: %w", s.path, err)
		}
		if next == at {
			return ctx.Err()
		}
		at = next
	}
}

// shiftSlice moves the first flows whose ids are at least first. It returns the id
// at which to go on; first if there are none.
func (s *Store) shiftSlice(ctx context.Context, first, to, by int64) (next int64, err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var b block.Block
	hour := s.hourStart()
	next = first
	err = s.w.transaction(ctx, func() error {
		flows := readLive(s.w.conn, "f.id >= ? AND f.id < ? AND NOT EXISTS (SELECT 1 FROM tracked WHERE flow = f.id)", first, to<<idShift)
		if _, err := flows.next(ctx, &b); err != nil {
			return err
		}
		if err := flows.close(); err != nil {
			return err
		}
		for i := range b.Flows {
			f := &b.Flows[i]
			if by > 0 && f.Start()+by < to {
				return errors.New("they would still begin before")
			}
			next = f.ID + 1
			if err := s.shiftFlow(ctx, &b, f, to, by, hour); err != nil {
				return err
			}
		}
		if len(b.Flows) > 0 {
			_, err = s.w.conn.ExecContext(ctx, "UPDATE state SET batch = batch + 1")
		}
		return err
	})
	if err != nil || next == first {
		return first, err
	}
	s.w.tracker.commit()
	s.batch.Add(1)
	return next, nil
}

// shiftFlow moves a flow. to is when the clock was set, as the clock before showed.
func (s *Store) shiftFlow(ctx context.Context, b *block.Block, f *block.Flow, to, by int64, hour func(int64) int64) error {
	if _, err := s.w.tracker.soil.ExecContext(ctx, f.ID, s.batch.Load()+1); err != nil {
		return err
	}
	if _, err := s.w.dropRow(ctx, f.ID); err != nil {
		return err
	}
	if by > 0 && f.End() > to {
		// It ended after the clock was set.
		f.Duration = max(f.Duration-by, 0)
	}
	f.ID += by << idShift
	for j := range b.HoursOf(f) {
		h := &b.HoursOf(f)[j]
		if h.Start < to {
			h.Start = hour(h.Start + by)
		}
	}
	return s.w.addRow(ctx, b, f, s.batch.Load()+1)
}
