package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"pakon/daemon/flow"
)

// tracker keeps the flows whose connections may still change: it finds the row
// of a connection, and keeps what a later run needs to take it up again.
type tracker struct {
	rows    map[uint64]int64 // flows.id by flow.Track.Key
	changes map[uint64]int64 // of the transaction in work; 0: not tracked any more

	update, track, untrack, slice, soil, cut, uncut *sql.Stmt
	drop                                            []*sql.Stmt

	// soiled are the flows of connections that the next backup will hold as they
	// are then: they are new since the last, or are noted to have changed.
	soiled  map[int64]bool
	soiling []int64 // by the transaction in work

	mu      sync.RWMutex
	running map[int64]bool // flows.id of the connections that go on
	pending map[int64]bool // changes to it by the transaction in work
}

func (t *tracker) prepare(ctx context.Context, w *writer) (err error) {
	t.rows, t.running = make(map[uint64]int64), make(map[int64]bool)
	t.changes, t.pending = make(map[uint64]int64), make(map[int64]bool)
	t.soiled = make(map[int64]bool)
	t.drop = make([]*sql.Stmt, 3)
	for _, s := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&t.update, `UPDATE flows SET duration = ?2, endpoint = ?3, name = ?4, facts = ?5, app = ?6, sent = ?8, recvd = ?9 WHERE id = ?1`},
		{&t.track, `INSERT INTO tracked (flow, running, number, port, raw_sent, raw_recvd) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET running = excluded.running, raw_sent = excluded.raw_sent, raw_recvd = excluded.raw_recvd`},
		{&t.untrack, "DELETE FROM tracked WHERE flow = ?"},
		{&t.slice, `INSERT INTO hours (flow, hour, sent, recvd) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET sent = excluded.sent, recvd = excluded.recvd`},
		{&t.soil, "INSERT OR REPLACE INTO dirty (flow, batch) VALUES (?, ?)"},
		{&t.cut, "INSERT OR REPLACE INTO forgotten (number, at, raw_sent, raw_recvd) VALUES (?, ?, ?, ?)"},
		{&t.uncut, "DELETE FROM forgotten WHERE id <= ?"},
		{&t.drop[0], "DELETE FROM flows WHERE id = ?"},
		{&t.drop[1], "DELETE FROM tracked WHERE flow = ?"},
		{&t.drop[2], "DELETE FROM hours WHERE flow = ?"},
	} {
		if *s.to, err = w.statement(ctx, s.sql); err != nil {
			return err
		}
	}
	return nil
}

// row is the id of a connection's flow, 0 if it has none.
func (t *tracker) row(key uint64) int64 {
	if id, ok := t.changes[key]; ok {
		return id
	}
	return t.rows[key]
}

// set notes the row of a connection, within a transaction; 0 for none.
func (t *tracker) set(key uint64, id int64) { t.changes[key] = id }

// commit makes what the transaction has changed hold.
func (t *tracker) commit() {
	for key, id := range t.changes {
		if id == 0 {
			delete(t.soiled, t.rows[key])
			delete(t.rows, key)
		} else {
			t.rows[key] = id
		}
	}
	t.mu.Lock()
	for id, runs := range t.pending {
		if runs {
			t.running[id] = true
		} else {
			delete(t.running, id)
		}
	}
	t.mu.Unlock()
	for _, id := range t.soiling {
		t.soiled[id] = true
	}
	t.rollback()
}

// rollback forgets what the transaction has changed.
func (t *tracker) rollback() {
	clear(t.changes)
	clear(t.pending)
	t.soiling = t.soiling[:0]
}

// change notes that a flow that the backup may hold has changed.
func (t *tracker) change(ctx context.Context, id, batch int64) error {
	if t.soiled[id] {
		return nil
	}
	if _, err := t.soil.ExecContext(ctx, id, batch); err != nil {
		return fmt.Errorf("note that a flow has changed: %w", err)
	}
	t.soiling = append(t.soiling, id)
	return nil
}

// runs tells whether the connection of a flow goes on.
func (t *tracker) runs(id int64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.running[id]
}

// put stores a flow that is recorded more than once, or that has moved bytes in
// several hours. It returns by how many the flows became more.
func (w *writer) put(ctx context.Context, f *flow.Flow, batch int64) (more int64, err error) {
	t := &w.tracker
	if f.State == flow.LeftOut {
		return 0, w.leaveOut(ctx, f)
	}
	id := int64(0)
	if f.State != flow.Whole {
		id = t.row(f.Track.Key)
	}
	switch f.State {
	case flow.Done:
		if id == 0 {
			return 0, nil
		}
		t.set(f.Track.Key, 0)
		t.pending[id] = false
		_, err := t.untrack.ExecContext(ctx, id)
		return 0, err
	case flow.Void:
		if id == 0 {
			return 0, nil
		}
		t.set(f.Track.Key, 0)
		t.pending[id] = false
		if err := t.change(ctx, id, batch); err != nil {
			return 0, err
		}
		return w.dropRow(ctx, id)
	case flow.Cut:
		return 0, t.forget(ctx, f)
	}
	start, row, err := w.row(ctx, f, batch)
	if err != nil {
		return 0, err
	}
	if id != 0 {
		row[0] = id
		// The start is that of the row, so the end is what it was at first.
		row[1] = min(max(f.End-id>>idShift, 0), maxTime)
		args := make([]any, len(row))
		for i, v := range row {
			args[i] = v
		}
		r, err := t.update.ExecContext(ctx, args[:9]...)
		if err != nil {
			return 0, fmt.Errorf("change a flow: %w", err)
		}
		if n, err := r.RowsAffected(); err != nil {
			return 0, err
		} else if n == 0 {
			id = 0 // it was deleted
		} else if err := t.change(ctx, id, batch); err != nil {
			return 0, err
		}
	}
	if id == 0 {
		if id, err = w.insertAt(ctx, start, named(row)); err != nil {
			return 0, err
		}
		more = 1
		if f.State != flow.Whole {
			t.soiling = append(t.soiling, id)
		}
	}
	if f.Track.Hour > 0 {
		_, err := t.slice.ExecContext(ctx, id, min(f.Track.Hour, maxTime), int64(min(f.Track.HourSent, maxBytes)), int64(min(f.Track.HourRecvd, maxBytes)))
		if err != nil {
			return 0, fmt.Errorf("add an hour of a flow: %w", err)
		}
	}
	if f.State == flow.Whole {
		return more, nil
	}
	t.set(f.Track.Key, id)
	t.pending[id] = f.State == flow.Running
	_, err = t.track.ExecContext(ctx, id, f.State == flow.Running, int64(f.Track.ID), int64(f.Track.OtherPort),
		int64(min(f.Track.RawSent, maxBytes)), int64(min(f.Track.RawRecvd, maxBytes)))
	if err != nil {
		return 0, fmt.Errorf("track a flow: %w", err)
	}
	return more, nil
}

// maxForgotten is how many connections are kept of which something was forgotten.
const maxForgotten = 16384

// forget notes what of a connection is not to be recorded again.
func (t *tracker) forget(ctx context.Context, f *flow.Flow) error {
	r, err := t.cut.ExecContext(ctx, int64(f.Track.ID), min(max(f.End, 0), maxTime),
		int64(min(f.Track.RawSent, maxBytes)), int64(min(f.Track.RawRecvd, maxBytes)))
	if err != nil {
		return fmt.Errorf("note what was forgotten of a connection: %w", err)
	}
	id, err := r.LastInsertId()
	if err != nil {
		return err
	}
	if _, err = t.uncut.ExecContext(ctx, id-maxForgotten); err != nil {
		return fmt.Errorf("note what was forgotten of a connection: %w", err)
	}
	return nil
}

// readForgotten returns what forget has noted.
func (s *Store) readForgotten(ctx context.Context) (cuts []flow.Flow, err error) {
	rows, err := s.w.conn.QueryContext(ctx, "SELECT number, at, raw_sent, raw_recvd FROM forgotten ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		f := flow.Flow{State: flow.Cut}
		var sent, recvd int64
		if err := rows.Scan(&f.Track.ID, &f.End, &sent, &recvd); err != nil {
			return nil, err
		}
		f.Track.RawSent, f.Track.RawRecvd = uint64(sent), uint64(recvd)
		cuts = append(cuts, f)
	}
	return cuts, errors.Join(rows.Err(), rows.Close())
}

// dropRow deletes all there is of a flow.
func (w *writer) dropRow(ctx context.Context, id int64) (more int64, err error) {
	for i, s := range w.tracker.drop {
		r, err := s.ExecContext(ctx, id)
		if err != nil {
			return 0, fmt.Errorf("delete a flow: %w", err)
		}
		if i > 0 {
			continue
		}
		n, err := r.RowsAffected()
		if err != nil {
			return 0, err
		}
		more -= n
	}
	return more, nil
}

// Tracked returns the flows of the connections that an earlier run followed,
// under keys of this one, and what of others it has forgotten. It must be called
// before flows with a key are added.
func (s *Store) Tracked(ctx context.Context) ([]flow.Flow, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	flows, rows, err := s.readTracked(ctx)
	var cuts []flow.Flow
	if err == nil {
		cuts, err = s.readForgotten(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read the running connections in %s: %w", s.path, err)
	}
	t := &s.w.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range flows {
		t.rows[flows[i].Track.Key] = rows[i]
		if flows[i].State == flow.Running {
			t.running[rows[i]] = true
		}
	}
	return append(flows, cuts...), nil
}

func (s *Store) readTracked(ctx context.Context) (flows []flow.Flow, ids []int64, err error) {
	rows, err := s.w.conn.QueryContext(ctx, `SELECT f.id, f.duration, e.client, e.address, e.interface, coalesce(n.name, ''), f.facts,
			coalesce(a.name, ''), f.remote, f.sent, f.recvd, t.running, t.number, t.port, t.raw_sent, t.raw_recvd,
			coalesce(h.hour, 0), coalesce(h.sent, 0), coalesce(h.recvd, 0)
		FROM tracked AS t JOIN flows AS f ON f.id = t.flow LEFT JOIN endpoints AS e ON e.id = f.endpoint
		LEFT JOIN names AS n ON n.id = f.name LEFT JOIN apps AS a ON a.id = f.app
		LEFT JOIN hours AS h ON h.flow = f.id AND h.hour = (SELECT max(hour) FROM hours WHERE flow = f.id)
		ORDER BY f.id`)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var f flow.Flow
		var id, duration, facts, sent, recvd, rawSent, rawRecvd, hourSent, hourRecvd int64
		var owner, address, remote []byte
		var running bool
		err := rows.Scan(&id, &duration, &owner, &address, &f.Interface, &f.Name, &facts, &f.App, &remote, &sent, &recvd,
			&running, &f.Track.ID, &f.Track.OtherPort, &rawSent, &rawRecvd, &f.Track.Hour, &hourSent, &hourRecvd)
		if err != nil {
			return nil, nil, err
		}
		unpackFacts(facts, &f)
		f.Start = id >> idShift
		f.End = f.Start + duration
		f.Client, f.ClientAddr, f.Remote = mac(owner), addr(address), addr(remote)
		f.Sent, f.Recvd = uint64(sent), uint64(recvd)
		f.State = flow.Over
		if running {
			f.State = flow.Running
		}
		f.Track.Key = uint64(len(flows) + 1)
		f.Track.RawSent, f.Track.RawRecvd = uint64(rawSent), uint64(rawRecvd)
		f.Track.HourSent, f.Track.HourRecvd = uint64(hourSent), uint64(hourRecvd)
		flows = append(flows, f)
		ids = append(ids, id)
	}
	return flows, ids, errors.Join(rows.Err(), rows.Close())
}
