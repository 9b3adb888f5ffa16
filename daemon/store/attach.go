package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// SetArchive says where the archive lies and what it keeps, from the next run
// on. The rules must be one at least.
func (s *Store) SetArchive(c ArchiveConfig) { s.config.Store(&c) }

// attachArchive opens the archive unless it is open already, and puts right what a
// crash has left between it and live. A new one is begun if create is set;
// without it and without an archive both results are nil. What is opened by
// create can be written. The caller holds s.running.
func (s *Store) attachArchive(ctx context.Context, create bool) (*archive, error) {
	config := s.config.Load()
	if config == nil {
		return nil, fmt.Errorf("%w: no path is known for it", ErrNoArchive)
	}
	a := s.archive.Load()
	if a != nil && (a.path != config.Path || !a.there() || a.readOnly && create && !readOnlyFile(a.path)) {
		if err := s.detachArchive(); err != nil {
			s.log.Warn("the archive could not be closed", "err", err)
		}
		a = nil
	}
	if a == nil {
		opened, err := s.openArchive(ctx, config.Path, create)
		if errors.Is(err, fs.ErrNotExist) && !create {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if err := s.takeUp(ctx, opened); err != nil {
			return nil, fmt.Errorf("take up archive %s: %w", config.Path, errors.Join(err, opened.close()))
		}
		s.setArchive(opened)
		a = opened
	}
	if create && a.readOnly {
		return nil, fmt.Errorf("write archive %s: %w", a.path, syscall.EROFS)
	}
	return a, nil
}

// takeUp puts right what is between an archive that has just been opened and live.
func (s *Store) takeUp(ctx context.Context, a *archive) error {
	if err := s.finishSlice(ctx, a); err != nil || a.readOnly {
		return err
	}
	// What was written before live was lost.
	days := make(map[int64]int64)
	if err := s.writtenBy(ctx, a.write, days); err != nil {
		return err
	}
	// The parts of the backup may be of an archive that is gone: slices are to have
	// numbers that none of them knows.
	dir, err := s.backupDir()
	if err != nil {
		return err
	}
	var ran, highest int64
	if err := a.write.QueryRowContext(ctx, "SELECT ran FROM state").Scan(&ran); err != nil {
		return fmt.Errorf("read the archive's state: %w", err)
	}
	for _, i := range dir.Segments() {
		highest = max(highest, i.Slice)
		if i.Written > ran { // the archive does not know of it
			from, _ := day.period(time.UnixMilli(i.Written).In(s.location()))
			days[from.UnixMilli()] += i.Size
		}
	}
	out, err := readLeftOut(ctx, a.write, 0)
	if err != nil {
		return fmt.Errorf("read what was left out in %s: %w", a.path, err)
	}
	s.w.mu.Lock()
	err = s.w.transaction(ctx, func() error {
		if err := takeLeftOut(ctx, s.w.conn, out); err != nil {
			return err
		}
		for d, n := range days {
			if _, err := s.w.conn.ExecContext(ctx, "INSERT INTO written VALUES (?, ?) ON CONFLICT DO UPDATE SET bytes = max(bytes, excluded.bytes)", d, n); err != nil {
				return err
			}
		}
		_, err := s.w.conn.ExecContext(ctx, "UPDATE state SET slice = max(slice, ?)", highest)
		return err
	})
	s.w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("note what was written: %w", err)
	}
	return s.agree(ctx, a)
}

// detachArchive closes the archive once no query reads it.
func (s *Store) detachArchive() error {
	if a := s.setArchive(nil); a != nil {
		return a.close()
	}
	return nil
}

// setArchive changes which archive is read, and returns the one before, which nobody
// reads any more.
func (s *Store) setArchive(a *archive) (before *archive) {
	s.querying.Lock()
	defer s.querying.Unlock()
	s.attached.Lock()
	defer s.attached.Unlock()
	return s.archive.Swap(a)
}

// moving is a slice that the archive has, but that is in live, too, as far as it
// has not been deleted there yet.
type moving struct {
	first, last, batch int64
	kept               string // ids that stay, a JSON array
}

// errBetween says that archive and live were read in different states.
var errBetween = errors.New("archive and live do not match")

// pending returns the slice that is both in archive and live; nil if there is
// none. Both are read as a transaction of each shows them.
func (s *Store) pending(ctx context.Context, live, archive querier) (*moving, error) {
	var identity, got, had int64
	if err := archive.QueryRowContext(ctx, "SELECT identity, slice FROM state").Scan(&identity, &got); err != nil {
		return nil, fmt.Errorf("read the archive's state: %w", err)
	}
	if err := live.QueryRowContext(ctx, "SELECT slice FROM state").Scan(&had); err != nil {
		return nil, fmt.Errorf("read live's state: %w", err)
	}
	switch {
	case identity != s.identity || got == had:
		return nil, nil
	case got != had+1:
		return nil, errBetween
	}
	var m moving
	err := archive.QueryRowContext(ctx, "SELECT first, last, batch, kept FROM moved WHERE slice = ?", got).Scan(&m.first, &m.last, &m.batch, &m.kept)
	if err != nil {
		return nil, fmt.Errorf("read what was moved last: %w", err)
	}
	return &m, nil
}

// condition is that a flow f of live is one of those moved.
func (m *moving) condition() (string, []any) {
	return "f.id BETWEEN ? AND ? AND f.batch <= ? AND f.id NOT IN (SELECT value FROM json_each(?))", []any{m.first, m.last, m.batch, m.kept}
}

// finishSlice deletes from live what the archive got last, if that is not done.
// With the last of it, live's number of slices is the archive's.
func (s *Store) finishSlice(ctx context.Context, a *archive) error {
	if a.readOnly {
		return nil // what is pending stays so
	}
	s.w.mu.Lock()
	m, err := s.pending(ctx, s.w.conn, a.write)
	s.w.mu.Unlock()
	if err != nil && !errors.Is(err, errBetween) {
		return err
	}
	for more := m != nil; more; {
		if more, err = s.deleteMoved(ctx, m); err != nil {
			return fmt.Errorf("delete from live what has been moved: %w", err)
		}
	}
	return nil
}

// agree makes the numbers of slices the same. Where they are not, live or archive
// is another than before.
func (s *Store) agree(ctx context.Context, a *archive) error {
	var got, identity int64
	if err := a.write.QueryRowContext(ctx, "SELECT slice, identity FROM state").Scan(&got, &identity); err != nil {
		return fmt.Errorf("read the archive's state: %w", err)
	}
	// Nobody else changes it meanwhile, and the drive may be slow: flows that come in
	// are not to wait for it.
	had, err := s.slice(ctx)
	if err != nil {
		return err
	}
	if got == had && identity == s.identity {
		return nil
	}
	if had < got {
		s.w.mu.Lock()
		_, err := s.w.conn.ExecContext(ctx, "UPDATE state SET slice = ?", got)
		s.w.mu.Unlock()
		if err != nil {
			return fmt.Errorf("number live's slices: %w", err)
		}
	}
	// Parts of the backup may be older than slices of this archive: never go back.
	err = a.transaction(ctx, func(c *sql.Conn) error {
		_, err := c.ExecContext(ctx, "UPDATE state SET slice = ?, identity = ?", max(got, had), s.identity)
		return err
	})
	if err != nil {
		return fmt.Errorf("number the archive's slices: %w", err)
	}
	return nil
}

// slice is live's number of slices.
func (s *Store) slice(ctx context.Context) (n int64, err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err := s.w.conn.QueryRowContext(ctx, "SELECT slice FROM state").Scan(&n); err != nil {
		return 0, fmt.Errorf("read live's state: %w", err)
	}
	return n, nil
}

// deleteMoved deletes some flows that have been moved. It returns false after
// the last of them; only then does live say that it is done.
func (s *Store) deleteMoved(ctx context.Context, m *moving) (more bool, err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var deleted int64
	err = s.w.transaction(ctx, func() error {
		where, args := m.condition()
		var last sql.NullInt64
		err := s.w.conn.QueryRowContext(ctx, "SELECT max(id), count(*) FROM (SELECT f.id AS id FROM flows AS f WHERE "+where+" ORDER BY f.id LIMIT ?)",
			append(args, deleteSlice)...).Scan(&last, &deleted)
		if err != nil {
			return err
		}
		if deleted > 0 {
			to := *m
			to.last = last.Int64
			where, args := to.condition()
			if _, err := s.w.conn.ExecContext(ctx, "DELETE FROM flows AS f WHERE "+where, args...); err != nil {
				return err
			}
			if _, err := s.w.conn.ExecContext(ctx, "DELETE FROM hours WHERE flow BETWEEN ? AND ? AND flow NOT IN (SELECT id FROM flows)", m.first, last.Int64); err != nil {
				return err
			}
			if _, err := s.w.conn.ExecContext(ctx, "DELETE FROM dirty WHERE flow BETWEEN ? AND ? AND flow NOT IN (SELECT id FROM flows)", m.first, last.Int64); err != nil {
				return err
			}
		}
		if more = deleted == deleteSlice; more {
			return nil
		}
		// The parts of the backup that hold those that stayed will go.
		if _, err := s.w.conn.ExecContext(ctx, "INSERT OR REPLACE INTO dirty SELECT value, (SELECT batch FROM state) FROM json_each(?) WHERE value IN (SELECT id FROM flows)", m.kept); err != nil {
			return err
		}
		_, err = s.w.conn.ExecContext(ctx, "UPDATE state SET slice = slice + 1")
		return err
	})
	if err != nil {
		return false, err
	}
	s.flows.Add(-deleted)
	s.w.cleaner.deleted += deleted
	s.drain()
	return more, nil
}

// noteWritten adds to the bytes written to disk today.
func (s *Store) noteWritten(ctx context.Context, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	from, _ := day.period(time.Now().In(s.location()))
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	_, err := s.w.conn.ExecContext(ctx, `INSERT INTO written VALUES (?, ?)
		ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes`, from.UnixMilli(), bytes)
	if err != nil {
		return fmt.Errorf("note what was written: %w", err)
	}
	return nil
}
