package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/backup"
	"pakon/daemon/store/block"
)

// Forgetting says which flows are to be forgotten: of one of its kinds, those of
// any of its entries.
type Forgetting struct {
	Clients   []client.ID
	Hostnames []string // as in Filter
	Before    int64    // what began before, Unix ms; 0: does not matter
	All       bool
}

// Forget deletes flows from live, archive and backup, whatever their direction
// and whether they are hidden, and sees to it that their bytes are gone from
// the files. It returns how many rows it deleted in live and archive. All
// deletes damaged files that were set aside, too, but not the original's.
// It can end between live and archive, and be called again.
func (s *Store) Forget(ctx context.Context, what Forgetting) (deleted int64, err error) {
	s.running.Lock()
	defer s.running.Unlock()
	deleted, err = s.forget(ctx, what)
	if err != nil {
		return deleted, fmt.Errorf("forget flows: %w", err)
	}
	return deleted, nil
}

func (s *Store) forget(ctx context.Context, what Forgetting) (deleted int64, err error) {
	kinds := 0
	for _, given := range []bool{len(what.Clients) > 0, len(what.Hostnames) > 0, what.Before > 0, what.All} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return 0, errors.New("one of clients, hostnames, a time or all is to be said")
	}
	// The archive first: what is in live would be moved there otherwise.
	a, err := s.attachArchive(ctx, false)
	if err != nil {
		return 0, err
	}
	if a != nil {
		if a, err = s.attachArchive(ctx, true); err != nil {
			return 0, err
		}
	}
	if err := s.restoreFirst(ctx); err != nil {
		return 0, err
	}
	inLive, err := s.forgetLive(ctx, what)
	deleted += inLive
	if err != nil {
		return deleted, err
	}
	if a != nil {
		n, err := s.forgetArchived(ctx, a, what)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	s.ahead.forget()
	s.decoded.forget()
	if err := s.forgetBackup(ctx, what); err != nil {
		return deleted, err
	}
	if what.All {
		return deleted, s.forgetAside()
	}
	return deleted, nil
}

func (s *Store) restoreFirst(ctx context.Context) error {
	dir, err := s.backupDir()
	if err != nil {
		return err
	}
	return s.restore(ctx, dir)
}

// condition is that a flow f of live is meant.
func (w Forgetting) condition() (condition, error) {
	switch {
	case w.All:
		return condition{}, nil
	case w.Before > 0:
		var c condition
		c.and("f.id < ?", min(w.Before, maxTime)<<idShift)
		return c, nil
	}
	f := Filter{Clients: w.Clients, Hostnames: w.Hostnames, All: true, Out: true, In: true}.normal()
	return f.condition(1<<63 - 1)
}

// forgetSlice is how many flows are deleted from live at once.
const forgetSlice = 4000

func (s *Store) forgetLive(ctx context.Context, what Forgetting) (deleted int64, err error) {
	c, err := what.condition()
	if err != nil {
		return 0, err
	}
	for {
		n, err := s.forgetLiveSlice(context.WithoutCancel(ctx), c)
		deleted += n
		if err != nil {
			return deleted, fmt.Errorf("delete from %s: %w", s.path, err)
		}
		if n < forgetSlice {
			break
		}
		if err := ctx.Err(); err != nil {
			return deleted, err
		}
	}
	s.w.mu.Lock()
	err = s.w.transaction(context.WithoutCancel(ctx), func() error { return forgetLeftOut(ctx, s.w.conn, what) })
	s.w.mu.Unlock()
	if err != nil {
		return deleted, err
	}
	return deleted, s.scrubLive(ctx)
}

func (s *Store) forgetLiveSlice(ctx context.Context, c condition) (deleted int64, err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	err = s.w.transaction(ctx, func() error {
		rows, err := s.w.conn.QueryContext(ctx, "SELECT f.id FROM flows AS f"+joinNames+" WHERE "+c.String()+" LIMIT ?", append(slices.Clone(c.args), forgetSlice)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		var ids []int64
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, id := range ids {
			// What the backup has of it is deleted there, but until then must not come
			// back.
			if _, err := s.w.tracker.soil.ExecContext(ctx, id, s.batch.Load()+1); err != nil {
				return err
			}
			if _, err := s.w.dropRow(ctx, id); err != nil {
				return err
			}
			s.w.tracker.pending[id] = false
		}
		deleted = int64(len(ids))
		if deleted > 0 {
			_, err = s.w.conn.ExecContext(ctx, "UPDATE state SET batch = batch + 1")
		}
		return err
	})
	if err != nil || deleted == 0 {
		return 0, err
	}
	s.w.tracker.commit()
	s.batch.Add(1)
	s.flows.Add(-deleted)
	return deleted, nil
}

// scrubLive deletes what no flow refers to any more, and writes the database
// anew, so that what has been deleted is not in the file.
func (s *Store) scrubLive(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	s.w.mu.Lock()
	s.w.abortCleaning()
	s.w.cleaner.deleted = overdue
	s.w.mu.Unlock()
	for more := true; more; {
		s.w.mu.Lock()
		err := s.w.transaction(ctx, func() error { return s.w.cleanStep(ctx, s.flows.Load()) })
		more = s.w.cleaner.stage != 0
		s.w.mu.Unlock()
		if err != nil {
			return fmt.Errorf("clean %s: %w", s.path, err)
		}
	}
	s.known.changed()
	// No query may hold on to the old pages.
	s.querying.Lock()
	defer s.querying.Unlock()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if _, err := s.w.conn.ExecContext(ctx, "VACUUM"); err != nil {
		return fmt.Errorf("write %s anew: %w", s.path, err)
	}
	if _, err := s.w.conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return fmt.Errorf("empty the WAL of %s: %w", s.path, err)
	}
	return nil
}

// matcher tells whether a flow of a block is meant.
func (s *Store) matcher(what Forgetting) func(*block.Block, *block.Flow) bool {
	switch {
	case what.All:
		return func(*block.Block, *block.Flow) bool { return true }
	case what.Before > 0:
		return func(_ *block.Block, f *block.Flow) bool { return f.Start() < what.Before }
	case len(what.Clients) > 0:
		meant := newClients(what.Clients)
		return func(b *block.Block, f *block.Flow) bool {
			e := &b.Endpoints[f.Endpoint]
			return meant.has(e.MAC, e.Address)
		}
	}
	hosts := what.hosts()
	known := make(map[string]bool)
	return func(b *block.Block, f *block.Flow) bool {
		n := b.Names[f.Name]
		is, ok := known[n]
		if !ok && n != "" {
			group, _ := s.classify(n)
			is = hosts.named(n, group)
			known[n] = is
		}
		return is || byAddress(n == "", name.Source(f.Source)) && hosts.addrs[b.Remotes[f.Remote]]
	}
}

// Matcher tells the flows that are meant: the same as are deleted from the store.
// classify is as in Options.
func (w Forgetting) Matcher(classify func(string) (group string, hidden bool)) func(*flow.Flow) bool {
	switch {
	case w.All:
		return func(*flow.Flow) bool { return true }
	case w.Before > 0:
		return func(f *flow.Flow) bool { return f.Start < w.Before }
	case len(w.Clients) > 0:
		meant := newClients(w.Clients)
		return func(f *flow.Flow) bool { return meant.has(f.Client, f.ClientAddr) }
	}
	hosts := w.hosts()
	return func(f *flow.Flow) bool {
		if f.Name != "" {
			if group, _ := classify(f.Name); hosts.named(f.Name, group) {
				return true
			}
		}
		return byAddress(f.Name == "", f.Source) && hosts.addrs[f.Remote.Unmap().WithZone("")]
	}
}

func (w Forgetting) hosts() *hosts {
	return newHosts(Filter{Hostnames: w.Hostnames}.normal().Hostnames)
}

// forgetArchived deletes from the archive, day by day, and writes the file anew.
func (s *Store) forgetArchived(ctx context.Context, a *archive, what Forgetting) (deleted int64, err error) {
	r := &archiver{s: s, a: a, location: s.location(), hour: s.hourStart()}
	if r.days, err = a.days(ctx, a.write); err != nil {
		return 0, err
	}
	metas, err := a.metas(ctx, a.write, 0, 1<<63-1)
	if err != nil {
		return 0, err
	}
	meant := s.matcher(what)
	err = r.shorten(ctx, metas, func(f *block.Flow) bool { return !meant(&r.in, f) })
	if err = errors.Join(err, r.unsettled); err != nil {
		return r.run.Expired, fmt.Errorf("delete from archive %s: %w", a.path, err)
	}
	if err := a.transaction(ctx, func(c *sql.Conn) error {
		// What can not be read may hold it.
		statement := "DELETE FROM damaged"
		if what.All {
			statement += "; DELETE FROM sums"
		}
		if _, err := c.ExecContext(ctx, statement); err != nil {
			return err
		}
		return forgetLeftOut(ctx, c, what)
	}); err != nil {
		return r.run.Expired, fmt.Errorf("delete from archive %s: %w", a.path, err)
	}
	return r.run.Expired, s.scrubArchive(context.WithoutCancel(ctx), a)
}

// scrubArchive writes the archive anew, without what has been deleted, in the
// place of the old file.
func (s *Store) scrubArchive(ctx context.Context, a *archive) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write archive %s anew: %w", a.path, err)
		}
	}()
	temp := a.path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := a.write.ExecContext(ctx, "VACUUM INTO ?", temp); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	f, err := os.OpenFile(temp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	if err := s.noteWritten(ctx, fi.Size()); err != nil {
		return err
	}
	if err := s.detachArchive(); err != nil {
		return err
	}
	if err := os.Rename(temp, a.path); err != nil {
		return err
	}
	if err := (backup.OS{}).SyncDir(filepath.Dir(a.path)); err != nil {
		return err
	}
	_, err = s.attachArchive(ctx, true)
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Store) forgetBackup(ctx context.Context, what Forgetting) error {
	dir, err := s.backupDir()
	if err != nil {
		return err
	}
	meant := s.matcher(what)
	for _, i := range dir.Segments() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if what.All || i.Err != nil {
			// What can not be read may hold it.
			if err := dir.Remove(i.Number); err != nil {
				return err
			}
			continue
		}
		written, err := dir.Rewrite(i.Number, func(b *block.Block) (bool, error) {
			n := len(b.Flows)
			b.Flows = slices.DeleteFunc(b.Flows, func(f block.Flow) bool { return meant(b, &f) })
			return len(b.Flows) < n, nil
		})
		if err != nil {
			return err
		}
		if err := s.noteWritten(context.WithoutCancel(ctx), written); err != nil {
			return err
		}
	}
	for _, name := range dir.Aside() {
		if err := dir.RemoveAside(name); err != nil {
			return err
		}
	}
	return nil
}

// forgetAside deletes the damaged databases that were set aside.
func (s *Store) forgetAside() error {
	for _, p := range []string{s.path, s.config.Load().Path} {
		for _, name := range aside(p) {
			if !strings.HasPrefix(name, p+".damaged-") {
				continue
			}
			for _, n := range []string{name, name + "-wal"} {
				if err := removeIfThere(n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
