package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
)

// view is live and archive as they are at one moment: no flow is in both, and
// none in neither.
type view struct {
	live    *sql.Tx
	archive *sql.Tx // nil if there is no archive
	a       *archive
	moving  *moving // nil as a rule
}

// viewTries is how often a view is tried while flows are moved. Each try meets
// another slice; they take far longer than it does.
const viewTries = 100

// view begins to read. The caller holds s.querying and must close it.
func (s *Store) view(ctx context.Context) (*view, error) {
	a := s.archive.Load()
	for range viewTries {
		v, err := s.tryView(ctx, a)
		if err == nil || !errors.Is(err, errBetween) {
			return v, err
		}
		if a.readOnly {
			// Nothing is moved there; it is of another live.
			return s.tryView(ctx, nil)
		}
	}
	return nil, errBetween
}

func (s *Store) tryView(ctx context.Context, a *archive) (_ *view, err error) {
	v := &view{a: a}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.live, err = s.read.BeginTx(ctx, nil); err != nil {
		return nil, err
	}
	if a == nil {
		return v, nil
	}
	if v.archive, err = a.read.BeginTx(ctx, nil); err != nil {
		return nil, err
	}
	v.moving, err = s.pending(ctx, v.live, v.archive)
	return v, err
}

// close ends reading. Nothing was written.
func (v *view) close() {
	if v.archive != nil {
		v.archive.Rollback()
	}
	if v.live != nil {
		v.live.Rollback()
	}
}

// current adds to a condition over f (flows) that it is not of those that the
// archive has got already.
func (v *view) current(c *condition) {
	if v.moving == nil {
		return
	}
	moved, args := v.moving.condition()
	c.and("NOT ("+moved+")", args...)
}

// archived are the blocks that may hold flows which a window wants, in order.
func (v *view) archived(ctx context.Context, w window) ([]blockRow, error) {
	if v.archive == nil || w.end <= w.start {
		return nil, nil
	}
	metas, err := v.a.metas(ctx, v.archive, 0, min(w.end, maxTime+1)<<idShift)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(metas, func(m blockRow) bool { return m.ends < w.start }), nil
}

// scanArchive does what scan does for the archive.
func (v *view) scanArchive(ctx context.Context, f Filter, daily bool, do func(*scanned) error) error {
	metas, err := v.archived(ctx, f.window())
	if err != nil || len(metas) == 0 {
		return err
	}
	b := &scanned{Block: new(block.Block)}
	var days []span64
	if daily {
		if days, err = v.days(ctx, f.window()); err != nil {
			return err
		}
	}
	for _, m := range metas {
		if d, ok := dayIn(days, m.first>>idShift); ok && m.last>>idShift < d.to {
			continue
		}
		if err := v.a.readable(ctx, v.archive, m, b.Block); err != nil {
			return err
		}
		if len(days) > 0 {
			b.Flows = slices.DeleteFunc(b.Flows, func(f block.Flow) bool {
				_, summed := dayIn(days, f.Start())
				return summed
			})
		}
		if err := do(b); err != nil {
			return err
		}
	}
	for _, d := range days {
		if err := v.sums(ctx, d, b, do); err != nil {
			return err
		}
	}
	return nil
}

// days are the days with sums that lie in a window as a whole, in order.
func (v *view) days(ctx context.Context, w window) ([]span64, error) {
	days, err := v.a.days(ctx, v.archive)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(days, func(d span64) bool { return d.from < w.start || d.to > w.end }), nil
}

// dayIn is the one of the days in which a time lies.
func dayIn(days []span64, ms int64) (span64, bool) {
	i, _ := slices.BinarySearchFunc(days, ms, func(d span64, ms int64) int {
		if d.to <= ms {
			return -1
		}
		return 1
	})
	if i < len(days) && days[i].from <= ms {
		return days[i], true
	}
	return span64{}, false
}

// sums gives the sums of a day.
func (v *view) sums(ctx context.Context, d span64, b *scanned, do func(*scanned) error) error {
	rows, err := v.archive.QueryContext(ctx, "SELECT data FROM sums WHERE day = ? ORDER BY part", d.from)
	if err != nil {
		return fmt.Errorf("read sums of %s: %w", v.a.path, err)
	}
	defer rows.Close()
	var data sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&data); err != nil {
			return fmt.Errorf("read sums of %s: %w", v.a.path, err)
		}
		if err := block.Decode(b.Block, data); err != nil {
			v.a.noteDamagedSums(d.from, err)
			continue
		}
		if err := do(b); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// archivedRows are the first rows of the archive, at most limit, that q wants, in
// its order of time, after a position and before the id bound.
func (s *Store) archivedRows(ctx context.Context, v *view, q Query, after position, bound int64, limit int) ([]Row, error) {
	metas, err := v.archived(ctx, q.window())
	if err != nil || len(metas) == 0 {
		return nil, err
	}
	beyond := func(id, limit int64) bool { // whether id comes after limit
		if q.Descending {
			return id < limit
		}
		return id > limit
	}
	metas = slices.DeleteFunc(metas, func(m blockRow) bool {
		first, last := m.first, m.last
		if q.Descending {
			first, last = last, first
		}
		return !after.first && !beyond(last, after.id) || !beyond(bound, first)
	})
	if q.Descending {
		slices.Reverse(metas)
	}
	m, err := s.newMatcher(q.Filter, true)
	if err != nil {
		return nil, err
	}
	var rows []Row
	var b block.Block
	for _, meta := range metas {
		if err := v.a.readable(ctx, v.archive, meta, &b); err != nil {
			return nil, err
		}
		m.read(&b)
		if q.Descending {
			slices.Reverse(b.Flows)
		}
		at := 0
		if !after.first {
			at, _ = slices.BinarySearchFunc(b.Flows, after.id, func(f block.Flow, id int64) int {
				if beyond(f.ID, id) {
					return 1
				}
				return -1
			})
		}
		for i := at; i < len(b.Flows); i++ {
			f := &b.Flows[i]
			if !beyond(bound, f.ID) {
				return rows, nil
			}
			if !m.wants(f) {
				continue
			}
			if rows = append(rows, m.row(&b, f, q.window())); len(rows) == limit {
				return rows, nil
			}
		}
	}
	return rows, nil
}

// row is a flow of the block that m has read last.
func (m *matcher) row(b *block.Block, f *block.Flow, w window) Row {
	e := &b.Endpoints[f.Endpoint]
	r := Row{
		Flow: flow.Flow{
			Start: f.Start(), End: f.End(), Client: e.MAC, ClientAddr: e.Address, Remote: b.Remotes[f.Remote],
			Port: f.Port, Proto: f.Proto, Direction: flow.Direction(f.Direction),
			Name: b.Names[f.Name], Source: name.Source(f.Source), App: b.Apps[f.App], Interface: e.Interface,
		},
		Group: m.classes[f.Name].group, Flows: int64(f.Flows), Duration: f.End()/1000 - f.Start()/1000,
		key: f.ID, id: f.ID,
	}
	r.Sent, r.Recvd = w.inside(f, b.HoursOf(f))
	return r
}

// mergeRows puts rows that are in order together, at most limit.
func mergeRows(a, b []Row, descending bool, limit int) []Row {
	if len(a) == 0 {
		return b[:min(limit, len(b))]
	}
	merged := make([]Row, 0, min(limit, len(a)+len(b)))
	for len(merged) < limit && len(a)+len(b) > 0 {
		first := len(b) == 0
		if len(a) > 0 && len(b) > 0 {
			c := cmp.Compare(a[0].id, b[0].id)
			first = c <= 0 != descending
		}
		if first {
			merged, a = append(merged, a[0]), a[1:]
		} else {
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	return merged
}
