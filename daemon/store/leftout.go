package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
)

const (
	// maxLeftOut bounds the rows of a day in table left_out: whoever makes up MACs
	// makes many. Those with the fewest bytes become one.
	maxLeftOut = 512
	// maxLeftOutDays bounds the days in it: without an archive, none expires.
	maxLeftOutDays = 400
)

// LeftOut is what of a client's bytes was not recorded on a day.
type LeftOut struct {
	Day         int64     // its start, Unix ms
	Client      client.ID // zero: of clients for which there was no room
	Why         string    // a flow.Fate, as status names it
	Sent, Recvd uint64
}

// LeftOut returns what was not recorded on days that end after since (Unix ms), the
// earliest first.
func (s *Store) LeftOut(ctx context.Context, since int64) ([]LeftOut, error) {
	s.querying.RLock()
	defer s.querying.RUnlock()
	rows, err := readLeftOut(ctx, s.read, since)
	if err != nil {
		return nil, fmt.Errorf("read what was left out in %s: %w", s.path, err)
	}
	return rows, nil
}

// LeftOutOfAll is LeftOut of all clients together. It waits for no query.
func (s *Store) LeftOutOfAll(ctx context.Context, since int64) ([]LeftOut, error) {
	rows, err := queryLeftOut(ctx, s.read, "SELECT day, x'', why, sum(sent), sum(recvd) FROM left_out WHERE day > ? GROUP BY day, why ORDER BY day, why", since)
	if err != nil {
		return nil, fmt.Errorf("sum up what was left out in %s: %w", s.path, err)
	}
	return rows, nil
}

// dayLong is how long a day is at most, in ms.
const dayLong = 25 * hourLong

func readLeftOut(ctx context.Context, q querier, since int64) ([]LeftOut, error) {
	return queryLeftOut(ctx, q, "SELECT day, client, why, sent, recvd FROM left_out WHERE day > ? ORDER BY day, client, why", since)
}

func queryLeftOut(ctx context.Context, q querier, statement string, since int64) (list []LeftOut, err error) {
	rows, err := q.QueryContext(ctx, statement, since-dayLong)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var l LeftOut
		var owner []byte
		var sent, recvd int64
		if err := rows.Scan(&l.Day, &owner, &l.Why, &sent, &recvd); err != nil {
			return nil, err
		}
		l.Client = client.ID{MAC: mac(owner), Addr: addr(owner)}
		l.Sent, l.Recvd = uint64(sent), uint64(recvd)
		list = append(list, l)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}

// leaveOut adds to what was left out on the day of a record.
func (w *writer) leaveOut(ctx context.Context, f *flow.Flow) error {
	from, _ := day.period(time.UnixMilli(min(max(f.Start, 0), maxTime)).In(w.location()))
	l := LeftOut{from.UnixMilli(), client.IDOf(f.Client, f.ClientAddr), f.Fate.String(), min(f.Sent, maxBytes), min(f.Recvd, maxBytes)}
	if err := addLeftOut(ctx, w.conn, l); err != nil {
		return fmt.Errorf("count what is left out: %w", err)
	}
	return nil
}

// addLeftOut adds bytes to a row, which is new if there is none.
func addLeftOut(ctx context.Context, c *sql.Conn, l LeftOut) error {
	owner, sent, recvd := ownerOf(l.Client), int64(l.Sent), int64(l.Recvd)
	r, err := c.ExecContext(ctx, `UPDATE left_out SET sent = min(sent + ?4, ?6), recvd = min(recvd + ?5, ?6)
		WHERE day = ?1 AND client = ?2 AND why = ?3`, l.Day, owner, l.Why, sent, recvd, int64(maxBytes))
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); n > 0 || err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "INSERT INTO left_out VALUES (?, ?, ?, ?, ?)", l.Day, owner, l.Why, sent, recvd); err != nil {
		return err
	}
	return boundLeftOut(ctx, c, l.Day)
}

// boundLeftOut keeps within bounds the rows of a day that has got a new one, and the
// days.
func boundLeftOut(ctx context.Context, c *sql.Conn, on int64) error {
	var rows int
	if err := c.QueryRowContext(ctx, "SELECT count(*) FROM left_out WHERE day = ?", on).Scan(&rows); err != nil {
		return err
	}
	if rows == 1 {
		_, err := c.ExecContext(ctx, "DELETE FROM left_out WHERE day NOT IN (SELECT DISTINCT day FROM left_out ORDER BY day DESC LIMIT ?)", maxLeftOutDays)
		return err
	}
	if rows <= maxLeftOut {
		return nil
	}
	least := LeftOut{Day: on}
	var owner []byte
	err := c.QueryRowContext(ctx, "SELECT client, why, sent, recvd FROM left_out WHERE day = ? AND client <> x'' ORDER BY sent + recvd LIMIT 1", on).
		Scan(&owner, &least.Why, &least.Sent, &least.Recvd)
	if err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "DELETE FROM left_out WHERE day = ? AND client = ? AND why = ?", on, owner, least.Why); err != nil {
		return err
	}
	return addLeftOut(ctx, c, least)
}

// takeLeftOut takes rows of another database. What was counted in both may be the
// same: the larger number stands.
func takeLeftOut(ctx context.Context, to *sql.Conn, rows []LeftOut) error {
	for _, l := range rows {
		_, err := to.ExecContext(ctx, `INSERT INTO left_out VALUES (?1, ?2, ?3, ?4, ?5)
			ON CONFLICT DO UPDATE SET sent = max(sent, excluded.sent), recvd = max(recvd, excluded.recvd)
			WHERE excluded.sent > sent OR excluded.recvd > recvd`, l.Day, ownerOf(l.Client), l.Why, int64(l.Sent), int64(l.Recvd))
		if err != nil {
			return fmt.Errorf("note what was left out: %w", err)
		}
	}
	return nil
}

// ownerOf is the column client for one.
func ownerOf(id client.ID) []byte { return endpoint{mac: id.MAC, address: id.Addr}.owner() }

// keepLeftOut has the archive know what was left out, and no more, so that it
// outlives live. It returns how many bytes it wrote. Without anything to keep, no
// archive is begun.
func (s *Store) keepLeftOut(ctx context.Context) (written int64, err error) {
	rows, err := s.LeftOut(ctx, 0)
	if err != nil {
		return 0, err
	}
	a, err := s.attachArchive(ctx, len(rows) > 0)
	if err != nil || a == nil || a.readOnly {
		return 0, err
	}
	old, err := readLeftOut(ctx, a.write, 0)
	if err != nil {
		return 0, fmt.Errorf("read what was left out in %s: %w", a.path, err)
	}
	if slices.Equal(old, rows) {
		return 0, nil
	}
	if err := a.transaction(ctx, func(c *sql.Conn) error { return replaceLeftOut(ctx, c, old, rows) }); err != nil {
		return 0, fmt.Errorf("keep what was left out in %s: %w", a.path, err)
	}
	written, err = a.settle(ctx)
	return written, errors.Join(err, s.noteWritten(context.WithoutCancel(ctx), written))
}

// replaceLeftOut puts rows in the place of old ones. What is equal stays untouched.
func replaceLeftOut(ctx context.Context, c *sql.Conn, old, rows []LeftOut) error {
	there := make(map[LeftOut]bool, len(old))
	for _, l := range old {
		there[l] = true
	}
	for _, l := range rows {
		if there[l] {
			delete(there, l)
			continue
		}
		if _, err := c.ExecContext(ctx, "INSERT OR REPLACE INTO left_out VALUES (?, ?, ?, ?, ?)", l.Day, ownerOf(l.Client), l.Why, int64(l.Sent), int64(l.Recvd)); err != nil {
			return err
		}
	}
	for l := range there {
		// Not if it has been replaced.
		if _, err := c.ExecContext(ctx, "DELETE FROM left_out WHERE day = ? AND client = ? AND why = ? AND sent = ? AND recvd = ?",
			l.Day, ownerOf(l.Client), l.Why, int64(l.Sent), int64(l.Recvd)); err != nil {
			return err
		}
	}
	return nil
}

// expireLeftOut deletes what was left out on days that ended before a time, in Unix
// ms. The archive follows with the next backup.
func (s *Store) expireLeftOut(ctx context.Context, before int64) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if _, err := s.w.conn.ExecContext(ctx, "DELETE FROM left_out WHERE day <= ?", before-dayLong); err != nil {
		return fmt.Errorf("delete what was left out long ago: %w", err)
	}
	return nil
}

// forgetLeftOut deletes what was left out of the clients that are meant, or on the
// days before. Of names nothing is kept.
func forgetLeftOut(ctx context.Context, c *sql.Conn, what Forgetting) error {
	var meant condition
	switch {
	case what.All:
		meant.and("1")
	case what.Before > 0:
		meant.and("day < ?", what.Before-24*hourLong)
	}
	for _, who := range what.Clients {
		meant.ofClient(who)
	}
	if len(meant.sql) == 0 {
		return nil
	}
	if _, err := c.ExecContext(ctx, "DELETE FROM left_out WHERE "+meant.or(), meant.args...); err != nil {
		return fmt.Errorf("forget what was left out: %w", err)
	}
	return nil
}

// shiftLeftOut moves what was left out on days that were told by a wrong clock: as
// Shift does. Of a day it is known only that it is one.
func (s *Store) shiftLeftOut(ctx context.Context, from, to, by int64) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	loc := s.location()
	err := s.w.transaction(ctx, func() error {
		rows, err := readLeftOut(ctx, s.w.conn, from)
		if err != nil {
			return err
		}
		for _, l := range rows {
			_, ends := day.period(time.UnixMilli(l.Day).In(loc))
			// A day that was wrong only in part stays, unless it is another one altogether.
			if l.Day >= to || l.Day < from && max(by, -by) < 24*hourLong {
				continue
			}
			moved := l
			on, _ := day.period(time.UnixMilli(max(min(ends.UnixMilli(), to)-1+by, 0)).In(loc))
			if moved.Day = on.UnixMilli(); moved.Day == l.Day {
				continue
			}
			if _, err := s.w.conn.ExecContext(ctx, "DELETE FROM left_out WHERE day = ? AND client = ? AND why = ?", l.Day, ownerOf(l.Client), l.Why); err != nil {
				return err
			}
			if err := addLeftOut(ctx, s.w.conn, moved); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("move what was left out under a wrong clock: %w", err)
	}
	return nil
}
