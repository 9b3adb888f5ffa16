package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/backup"
	"pakon/daemon/store/block"
)

// BackupRun tells what a backup has done.
type BackupRun struct {
	Flows   int64 // how many it wrote
	Written int64 // bytes
	Took    time.Duration
}

// Backup writes what is new in live since the last backup to the disk, or all of
// it if there is none, and has the archive know what was left out. What it wrote is
// on the disk when it returns. Parts of the backup that hold nothing but what the
// archive has are removed.
func (s *Store) Backup(ctx context.Context) (run BackupRun, err error) {
	s.running.Lock()
	defer s.running.Unlock()
	began := time.Now()
	if run, err = s.backup(ctx); err == nil {
		var written int64
		written, err = s.keepLeftOut(ctx)
		run.Written += written
	}
	run.Took = time.Since(began)
	s.noteBackup(run, err)
	if err != nil {
		return run, fmt.Errorf("back up %s: %w", s.path, err)
	}
	return run, nil
}

// backupState is what live says of its backup.
type backupState struct {
	backed, series, segment, slice int64
	batch                          int64
}

const readBackupState = "SELECT backed, series, segment, slice, batch FROM state"

func (b *backupState) scan(row *sql.Row) error {
	return row.Scan(&b.backed, &b.series, &b.segment, &b.slice, &b.batch)
}

func (s *Store) backup(ctx context.Context) (run BackupRun, err error) {
	dir, err := s.backupDir()
	if err != nil {
		return run, err
	}
	if err := s.restore(ctx, dir); err != nil {
		return run, err // it would be lost
	}
	tx, state, err := s.backupSnapshot(ctx)
	if err != nil {
		return run, err
	}
	defer tx.Rollback() // nothing was written
	h := backup.Header{Identity: state.series, Slice: state.slice, Written: time.Now().UnixMilli()}
	where := "f.batch > ? OR f.id IN (SELECT flow FROM dirty)"
	newest, ok := newestSegment(dir)
	full := !ok || state.series == 0 || newest.Identity != state.series || newest.Number != state.segment
	if !full {
		if h.Replaced, err = dirty(ctx, tx); err != nil {
			return run, err
		}
		full = len(h.Replaced) > backup.MaxReplaced
	}
	if full {
		where, state.backed = "f.batch > ?", -1
		h.Identity, h.Replaced = rand.Int64N(1<<62)+1, nil
	}
	var any bool
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM flows AS f WHERE "+where+")", state.backed).Scan(&any); err != nil {
		return run, fmt.Errorf("look for what is new: %w", err)
	}
	if !any && len(h.Replaced) == 0 {
		return run, s.trimBackup(ctx, dir)
	}
	if full {
		// Should it be written and not be noted any more, it must not be taken for
		// another's.
		if err := s.begunSeries(ctx, h.Identity); err != nil {
			return run, err
		}
	}
	flows := readLive(tx, where, state.backed)
	run.Written, err = dir.Write(h, func(write func([]byte) error) error {
		var b block.Block
		var data []byte
		for {
			ok, err := flows.next(ctx, &b)
			if !ok || err != nil {
				return err
			}
			if data, err = block.Encode(data[:0], &b); err != nil {
				return fmt.Errorf("put flows into a block: %w", err)
			}
			run.Flows += int64(len(b.Flows))
			if err := write(data); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return run, errors.Join(err, s.noteWritten(context.WithoutCancel(ctx), run.Written))
	}
	tx.Rollback()
	newest, ok = newestSegment(dir)
	if !ok {
		return run, errors.New("what was written is not there")
	}
	// It is on the disk: from here on the rest must be done.
	ctx = context.WithoutCancel(ctx)
	if err := s.backedUp(ctx, h.Identity, newest.Number, state.batch); err != nil {
		return run, err
	}
	if err := s.noteWritten(ctx, run.Written); err != nil {
		return run, err
	}
	return run, s.trimBackup(ctx, dir)
}

// backupSnapshot begins a transaction that reads live as it is now. What changes
// afterwards is noted anew.
func (s *Store) backupSnapshot(ctx context.Context) (*sql.Tx, backupState, error) {
	var state backupState
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return nil, state, err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err := state.scan(tx.QueryRowContext(ctx, readBackupState)); err != nil {
		return nil, state, errors.Join(fmt.Errorf("read live's state: %w", err), tx.Rollback())
	}
	clear(s.w.tracker.soiled)
	return tx, state, nil
}

// dirty are the flows that the backup has otherwise.
func dirty(ctx context.Context, tx *sql.Tx) ([]int64, error) {
	rows, err := tx.QueryContext(ctx, "SELECT flow FROM dirty ORDER BY flow LIMIT ?", backup.MaxReplaced+1)
	if err != nil {
		return nil, fmt.Errorf("read what has changed: %w", err)
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read what has changed: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// begunSeries notes that a series is live's own, as part 0 of it.
func (s *Store) begunSeries(ctx context.Context, series int64) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if _, err := s.w.conn.ExecContext(ctx, "INSERT INTO restored VALUES (?, 0, -1)", series); err != nil {
		return fmt.Errorf("note that a backup is begun: %w", err)
	}
	return nil
}

func (s *Store) backedUp(ctx context.Context, series, segment, batch int64) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	err := s.w.transaction(ctx, func() error {
		_, err := s.w.conn.ExecContext(ctx, "UPDATE state SET backed = ?, series = ?, segment = ?", batch, series, segment)
		if err != nil {
			return err
		}
		_, err = s.w.conn.ExecContext(ctx, "DELETE FROM dirty WHERE batch <= ?", batch)
		return err
	})
	if err != nil {
		return fmt.Errorf("note the backup: %w", err)
	}
	return nil
}

// newestSegment is the newest part of the backup whose header is whole.
func newestSegment(dir *backup.Dir) (backup.Info, bool) {
	segments := dir.Segments()
	for i := len(segments) - 1; i >= 0; i-- {
		if segments[i].Err == nil {
			return segments[i], true
		}
	}
	return backup.Info{}, false
}

// series are the parts of the newest backup, in order. A full backup begins a
// new one; all parts before are of no use then.
func series(dir *backup.Dir) []backup.Info {
	newest, ok := newestSegment(dir)
	if !ok {
		return nil
	}
	segments := dir.Segments()
	return slices.DeleteFunc(segments, func(i backup.Info) bool {
		return i.Err == nil && i.Identity != newest.Identity || errors.Is(i.Err, backup.ErrNewer)
	})
}

// trimBackup removes the parts of the backup that are not needed any more: those
// of series before live's, and those that hold nothing but what is archived.
func (s *Store) trimBackup(ctx context.Context, dir *backup.Dir) error {
	var state backupState
	s.w.mu.Lock()
	err := state.scan(s.w.conn.QueryRowContext(ctx, readBackupState))
	s.w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read live's state: %w", err)
	}
	newest, ok := newestSegment(dir)
	if !ok || newest.Identity != state.series {
		return nil
	}
	moved := int64(0) // flows that began before have been moved
	if a := s.archive.Load(); a != nil {
		if err := a.read.QueryRowContext(ctx, "SELECT ran FROM state").Scan(&moved); err != nil {
			return fmt.Errorf("read the archive's state: %w", err)
		}
		moved -= liveFor.Milliseconds()
	}
	var errs []error
	for _, i := range dir.Segments() {
		if i.Number >= newest.Number {
			break
		}
		if i.Err != nil {
			errs = append(errs, s.setAside(dir, i.Number, i.Err))
			continue
		}
		if i.Identity == state.series {
			if i.Written >= moved || i.Slice >= state.slice {
				continue
			}
			needed, err := s.soilNeeded(ctx, dir, i)
			if errors.Is(err, backup.ErrDamaged) {
				err = s.setAside(dir, i.Number, err)
				needed = true
			}
			if errs = append(errs, err); needed || err != nil {
				continue // the next backup has those flows anew
			}
		}
		errs = append(errs, dir.Remove(i.Number))
	}
	return errors.Join(errs...)
}

// soilNeeded tells whether a part of live's own backup has flows that are still in
// live and in no later part: of connections that go on, or with times of a clock
// that was wrong. They are noted, so that the next backup has them.
func (s *Store) soilNeeded(ctx context.Context, dir *backup.Dir, in backup.Info) (needed bool, err error) {
	later := make(map[int64]bool)
	for _, i := range dir.Segments() {
		if i.Err != nil || i.Number <= in.Number || i.Identity != in.Identity {
			continue
		}
		h, err := dir.Header(i.Number)
		if err != nil {
			return false, err
		}
		for _, id := range h.Replaced {
			later[id] = true
		}
	}
	err = dir.Read(in.Number, func(b *block.Block) error {
		ids := make([]int64, 0, len(b.Flows))
		for i := range b.Flows {
			if !later[b.Flows[i].ID] {
				ids = append(ids, b.Flows[i].ID)
			}
		}
		list, err := json.Marshal(ids)
		if err != nil {
			return err
		}
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		r, err := s.w.conn.ExecContext(ctx, "INSERT OR REPLACE INTO dirty SELECT id, (SELECT batch FROM state) FROM flows WHERE id IN (SELECT value FROM json_each(?))", string(list))
		if err != nil {
			return fmt.Errorf("note what the backup is to have anew: %w", err)
		}
		n, err := r.RowsAffected()
		needed = needed || n > 0
		return err
	})
	return needed, err
}

// setAside keeps a part of the backup that can not be read, and says so.
func (s *Store) setAside(dir *backup.Dir, number int64, why error) error {
	if errors.Is(why, backup.ErrNewer) {
		return nil
	}
	s.log.Warn("a part of the backup is damaged; it is kept aside", "number", number, "reason", why)
	s.storage.damaged.Add(1)
	return dir.SetAside(number)
}

// backupDir is the folder of the backup: that of the archive.
func (s *Store) backupDir() (*backup.Dir, error) {
	config := s.config.Load()
	if config == nil {
		return nil, fmt.Errorf("%w: no path is known for it", ErrNoArchive)
	}
	// Opened anew each time: another drive may be there now.
	return backup.Open(filepath.Dir(config.Path), s.files, s.log)
}

// restore takes the flows of a backup that is not live's own into live: that of
// before a reboot. Flows that have been moved to the archive since are left
// out.
func (s *Store) restore(ctx context.Context, dir *backup.Dir) error {
	var own int64
	s.w.mu.Lock()
	err := s.w.conn.QueryRowContext(ctx, "SELECT series FROM state").Scan(&own)
	s.w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read live's state: %w", err)
	}
	parts := series(dir)
	newest, ok := newestSegment(dir)
	if !ok || newest.Identity == own {
		return nil
	}
	var ours bool
	s.w.mu.Lock()
	err = s.w.conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM restored WHERE series = ? AND segment = 0)", newest.Identity).Scan(&ours)
	s.w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read whose the backup is: %w", err)
	}
	if ours {
		return nil
	}
	r := &restoring{s: s, dir: dir, replaced: make(map[int64]int64)}
	// What was moved there is not to come back, so it must be open if it is there.
	if a, err := s.attachArchive(ctx, false); err != nil {
		return err
	} else if a != nil {
		if r.moved, err = a.moved(ctx); err != nil {
			return err
		}
	}
	for _, i := range parts {
		if i.Err != nil {
			continue
		}
		r.series = i.Identity
		h, err := dir.Header(i.Number)
		if err != nil {
			return err
		}
		for _, id := range h.Replaced {
			r.replaced[id] = i.Number
		}
	}
	defer s.storage.restoring.Store(nil)
	for n, i := range parts {
		s.storage.restoring.Store(&Progress{Done: int64(n), Total: int64(len(parts))})
		if i.Err != nil {
			continue
		}
		if err := r.segment(ctx, i); err != nil {
			return fmt.Errorf("restore part %d of the backup: %w", i.Number, err)
		}
	}
	if r.flows > 0 {
		s.log.Info("flows restored from the backup", "flows", r.flows)
	}
	return nil
}

// restoring is a restore in work.
type restoring struct {
	s        *Store
	dir      *backup.Dir
	series   int64
	replaced map[int64]int64 // number of the last part that has a flow anew, by the flow's id
	moved    []movedSlice
	flows    int64
}

// movedSlice is a slice that the archive has got.
type movedSlice struct {
	number, first, last int64
	kept                map[int64]bool
}

// moved are the slices that the backup may still hold.
func (a *archive) moved(ctx context.Context) ([]movedSlice, error) {
	rows, err := a.read.QueryContext(ctx, "SELECT slice, first, last, k.value FROM moved LEFT JOIN json_each(kept) AS k ORDER BY slice")
	if err != nil {
		return nil, fmt.Errorf("read what was moved: %w", err)
	}
	defer rows.Close()
	var all []movedSlice
	for rows.Next() {
		m := movedSlice{kept: make(map[int64]bool)}
		var kept sql.NullInt64
		if err := rows.Scan(&m.number, &m.first, &m.last, &kept); err != nil {
			return nil, fmt.Errorf("read what was moved: %w", err)
		}
		if n := len(all); n == 0 || all[n-1].number != m.number {
			all = append(all, m)
		}
		if kept.Valid {
			all[len(all)-1].kept[kept.Int64] = true
		}
	}
	return all, rows.Err()
}

func (r *restoring) segment(ctx context.Context, i backup.Info) error {
	done := 0
	r.s.w.mu.Lock()
	err := r.s.w.conn.QueryRowContext(ctx, "SELECT blocks FROM restored WHERE series = ? AND segment = ?", i.Identity, i.Number).Scan(&done)
	r.s.w.mu.Unlock()
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if done < 0 {
		return nil
	}
	n := 0
	err = r.dir.Read(i.Number, func(b *block.Block) error {
		if n++; n <= done {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b.Flows = slices.DeleteFunc(b.Flows, func(f block.Flow) bool { return !r.wanted(f.ID, i) })
		r.flows += int64(len(b.Flows))
		return r.s.addBlock(context.WithoutCancel(ctx), b, func(c *sql.Conn) error {
			_, err := c.ExecContext(ctx, "INSERT OR REPLACE INTO restored VALUES (?, ?, ?)", i.Identity, i.Number, n)
			return err
		})
	})
	if errors.Is(err, backup.ErrDamaged) {
		// What could be read has been.
		if e := r.s.setAside(r.dir, i.Number, err); e != nil {
			r.s.log.Warn("a damaged part of the backup stays where it is", "number", i.Number, "err", e)
		}
		err = nil
	}
	if err != nil {
		return err
	}
	r.s.w.mu.Lock()
	defer r.s.w.mu.Unlock()
	_, err = r.s.w.conn.ExecContext(context.WithoutCancel(ctx), "INSERT OR REPLACE INTO restored VALUES (?, ?, -1)", i.Identity, i.Number)
	return err
}

// wanted tells whether a flow of a part belongs into live.
func (r *restoring) wanted(id int64, in backup.Info) bool {
	if r.replaced[id] > in.Number {
		return false
	}
	for i := range r.moved {
		m := &r.moved[i]
		if m.number > in.Slice && m.first <= id && id <= m.last && !m.kept[id] {
			return false
		}
	}
	return true
}

// addBlock adds the flows of a block to live, in one transaction with what note
// does.
func (s *Store) addBlock(ctx context.Context, b *block.Block, note func(*sql.Conn) error) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	err := s.w.transaction(ctx, func() error {
		batch := s.batch.Load() + 1
		for i := range b.Flows {
			if err := s.w.addRow(ctx, b, &b.Flows[i], batch); err != nil {
				return err
			}
		}
		if _, err := s.w.conn.ExecContext(ctx, "UPDATE state SET batch = ?", batch); err != nil {
			return err
		}
		return note(s.w.conn)
	})
	if err != nil {
		return fmt.Errorf("add %d flows to %s: %w", len(b.Flows), s.path, err)
	}
	s.w.tracker.commit()
	s.batch.Add(1)
	s.flows.Add(int64(len(b.Flows)))
	s.drain()
	return nil
}

// addRow adds a flow of a block, under its id if that is free.
func (w *writer) addRow(ctx context.Context, b *block.Block, from *block.Flow, batch int64) error {
	e := b.Endpoints[from.Endpoint]
	f := flow.Flow{
		Start: from.Start(), End: from.End(), Client: e.MAC, ClientAddr: e.Address, Interface: e.Interface,
		Remote: b.Remotes[from.Remote], Port: from.Port, Proto: from.Proto, Direction: flow.Direction(from.Direction),
		Name: b.Names[from.Name], Source: name.Source(from.Source), App: b.Apps[from.App],
		Sent: from.Sent, Recvd: from.Recvd,
	}
	start, row, err := w.row(ctx, &f, batch)
	if err != nil {
		return err
	}
	row[0] = from.ID
	id, err := w.insertAt(ctx, start, named(row))
	if err != nil {
		return fmt.Errorf("add a flow: %w", err)
	}
	for _, h := range b.HoursOf(from) {
		if _, err := w.tracker.slice.ExecContext(ctx, id, h.Start, int64(h.Sent), int64(h.Recvd)); err != nil {
			return fmt.Errorf("add an hour of a flow: %w", err)
		}
	}
	return nil
}
