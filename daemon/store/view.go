package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

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
	if v.moving, err = s.pending(ctx, v.live, v.archive); err != nil {
		return nil, fmt.Errorf("compare with archive %s: %w", a.path, err)
	}
	return v, nil
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

// scanArchive does what scan does for the archive.
func (v *view) scanArchive(ctx context.Context, f Filter, daily func(span64) bool, to *exchange) error {
	w := f.window()
	if v.archive == nil || w.end <= w.start {
		return nil
	}
	metas, err := v.a.metas(ctx, v.archive, 0, min(w.end, maxTime+1)<<idShift)
	if err != nil {
		return err
	}
	var days []span64
	if daily != nil {
		if days, err = v.days(ctx, w); err != nil {
			return err
		}
		days = slices.DeleteFunc(days, func(d span64) bool { return !daily(d) })
	}
	for _, m := range metas {
		if m.ends < w.start {
			continue
		}
		if d, ok := dayIn(days, m.first>>idShift); ok && m.last>>idShift < d.to {
			continue
		}
		b := to.b
		if err := v.a.readable(ctx, v.archive, m, b.Block); err != nil {
			return err
		}
		if len(days) > 0 {
			b.Flows = slices.DeleteFunc(b.Flows, func(f block.Flow) bool {
				_, summed := dayIn(days, f.Start())
				return summed
			})
		}
		if err := to.give(); err != nil {
			return err
		}
	}
	for _, d := range days {
		if err := v.sums(ctx, d, to); err != nil {
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
func (v *view) sums(ctx context.Context, d span64, to *exchange) error {
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
		if err := block.Decode(to.b.Block, data); err != nil {
			v.a.noteDamagedSums(d.from, err)
			continue
		}
		if err := to.give(); err != nil {
			return err
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("read sums of %s: %w", v.a.path, err)
	}
	return nil
}

// decoded is a block of the archive that was read last: who walks through it page
// by page asks for it many times.
type decoded struct {
	mu   sync.Mutex
	of   *archive
	meta blockRow
	b    *block.Block
}

// take returns the block if it is that of the archive, and is as it was.
func (d *decoded) take(a *archive, m blockRow) *block.Block {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of != a || d.meta != m {
		return nil
	}
	b := d.b
	d.of, d.b = nil, nil
	return b
}

// keep keeps a block for the next one.
func (d *decoded) keep(a *archive, m blockRow, b *block.Block) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of, d.meta, d.b = a, m, b
}

// forget drops what is kept.
func (d *decoded) forget() { d.keep(nil, blockRow{}, nil) }

// archivedRows are the first rows of the archive, at most limit, that q wants and
// whose ids are in [lo, hi), in its order of time.
func (s *Store) archivedRows(ctx context.Context, v *view, q Query, lo, hi int64, limit int) ([]Row, error) {
	w := q.window()
	if v.archive == nil || w.end <= w.start {
		return nil, nil
	}
	hi = min(hi, min(w.end, maxTime+1)<<idShift)
	m, err := s.newMatcher(q.Filter, true)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for lo < hi {
		meta, ok, err := v.nextBlock(ctx, q.Descending, lo, hi, w.start)
		if !ok || err != nil {
			return rows, err
		}
		b := s.decoded.take(v.a, meta)
		if b == nil {
			b = new(block.Block)
			if err := v.a.readable(ctx, v.archive, meta, b); err != nil {
				return nil, err
			}
		}
		rows = m.rows(rows, b, q.Descending, lo, hi, w, limit)
		s.decoded.keep(v.a, meta, b)
		if len(rows) == limit {
			return rows, nil
		}
		if q.Descending {
			hi = meta.first
		} else {
			lo = meta.last + 1
		}
	}
	return rows, nil
}

// nextBlock is the first block, or the last, that holds ids in [lo, hi) and a flow
// that ends at ends (Unix ms) or later.
func (v *view) nextBlock(ctx context.Context, last bool, lo, hi, ends int64) (m blockRow, ok bool, err error) {
	order := "ORDER BY first LIMIT 1"
	if last {
		order = "ORDER BY first DESC LIMIT 1"
	}
	// Blocks do not overlap: the one in which lo lies is the last that begins before.
	err = v.archive.QueryRowContext(ctx, `SELECT first, last, level, ends, flows, mark FROM blocks
		WHERE first >= coalesce((SELECT max(first) FROM blocks WHERE first <= ?1), 0) AND first < ?2 AND last >= ?1 AND ends >= ?3 `+order,
		lo, hi, ends).Scan(&m.first, &m.last, &m.level, &m.ends, &m.flows, &m.mark)
	if errors.Is(err, sql.ErrNoRows) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("look for a block of %s: %w", v.a.path, err)
	}
	return m, true, nil
}

// rows appends the flows of a block that are wanted and whose ids are in [lo, hi),
// until there are limit rows.
func (m *matcher) rows(rows []Row, b *block.Block, descending bool, lo, hi int64, w window, limit int) []Row {
	m.read(b)
	at := func(id int64) int {
		i, _ := slices.BinarySearchFunc(b.Flows, id, func(f block.Flow, id int64) int { return cmp.Compare(f.ID, id) })
		return i
	}
	from, to := at(lo), at(hi)
	for n := range to - from {
		i := from + n
		if descending {
			i = to - 1 - n
		}
		if f := &b.Flows[i]; m.wants(f) {
			if rows = append(rows, m.row(b, f, w)); len(rows) == limit {
				break
			}
		}
	}
	return rows
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
		Group: m.classes[f.Name].group, Hidden: f.Hidden, Large: large(f), Flows: int64(f.Flows), Duration: f.End()/1000 - f.Start()/1000,
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
