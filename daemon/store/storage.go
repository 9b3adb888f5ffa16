package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"pakon/daemon/clock"
	"pakon/daemon/store/backup"
)

// Progress is how far something is that takes its time.
type Progress struct{ Done, Total int64 }

// DayBytes is what was written to disk on a day.
type DayBytes struct {
	Day   int64 // local midnight, Unix ms
	Bytes int64
}

// Storage is what is known of archive and backup.
type Storage struct {
	Path     string // of the archive
	Open     bool   // it can be read
	ReadOnly bool
	Bytes    int64   // of its file and WAL
	Flows    int64   // rows
	Oldest   int64   // start of its first flow, Unix ms; 0 if there is none
	Levels   []int64 // rows by level
	Lost     int64   // rows in parts of it that are damaged

	Ran     int64      // when the last run that was whole ended, Unix ms; 0: never
	Age     clock.Age  // that data had then; zero if none has aged
	LastRun ArchiveRun // of this process
	RunErr  error      // why the last run failed

	Segments    int   // parts of the backup
	BackupBytes int64 // of them
	BackedUp    int64 // when the newest was written, Unix ms; 0: there is none
	LastBackup  BackupRun
	BackupErr   error // why the last backup failed
	Damaged     int64 // parts that were set aside by this process

	Restoring *Progress  // parts of the backup; nil if nothing is being restored
	Importing *Progress  // rows; nil likewise
	Written   []DayBytes // of the last days, the newest last
	Aside     []string   // files that were set aside: damaged, of the original, of others
}

// storage is what the Store remembers for Storage.
type storage struct {
	restoring, importing atomic.Pointer[Progress]
	damaged              atomic.Int64

	mu        sync.Mutex
	run       ArchiveRun
	runErr    error
	backup    BackupRun
	backupErr error
}

func (s *Store) noteRun(run ArchiveRun, err error) {
	s.storage.mu.Lock()
	defer s.storage.mu.Unlock()
	s.storage.run, s.storage.runErr = run, err
}

func (s *Store) noteBackup(run BackupRun, err error) {
	s.storage.mu.Lock()
	defer s.storage.mu.Unlock()
	s.storage.backup, s.storage.backupErr = run, err
}

// writtenDays is how many days of Storage.Written there are at most.
const writtenDays = 31

// Storage tells what is known of archive and backup.
func (s *Store) Storage(ctx context.Context) (Storage, error) {
	var st Storage
	s.storage.mu.Lock()
	st.LastRun, st.RunErr = s.storage.run, s.storage.runErr
	st.LastBackup, st.BackupErr = s.storage.backup, s.storage.backupErr
	s.storage.mu.Unlock()
	st.Restoring, st.Importing, st.Damaged = s.storage.restoring.Load(), s.storage.importing.Load(), s.storage.damaged.Load()
	config := s.config.Load()
	if config == nil {
		return st, nil
	}
	st.Path = config.Path
	s.attached.RLock()
	defer s.attached.RUnlock()
	days := make(map[int64]int64)
	if err := s.writtenBy(ctx, s.read, days); err != nil {
		return st, err
	}
	if a := s.archive.Load(); a != nil {
		st.Open, st.ReadOnly = true, a.readOnly
		if err := a.describe(ctx, &st); err != nil {
			return st, err
		}
	}
	for d, n := range days {
		st.Written = append(st.Written, DayBytes{d, n})
	}
	slices.SortFunc(st.Written, func(a, b DayBytes) int { return cmp.Compare(a.Day, b.Day) })
	st.Written = st.Written[max(0, len(st.Written)-writtenDays):]
	if dir, err := backup.Look(filepath.Dir(config.Path), s.files, s.log); err == nil {
		for _, i := range dir.Segments() {
			st.Segments++
			st.BackupBytes += i.Size
			st.BackedUp = max(st.BackedUp, i.Written)
		}
		for _, name := range dir.Aside() {
			st.Aside = append(st.Aside, filepath.Join(filepath.Dir(config.Path), name))
		}
	}
	for _, p := range []string{s.path, config.Path} {
		st.Aside = append(st.Aside, aside(p)...)
	}
	return st, nil
}

// aside are the files that were set aside from a path.
func aside(path string) []string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil // the path itself then has its error
	}
	var names []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if !ok {
			continue
		}
		for _, kind := range []string{"damaged-", "newer-", "foreign-", "original", "imported"} {
			if strings.HasPrefix(rest, kind) && !strings.HasSuffix(rest, "-wal") {
				names = append(names, filepath.Join(filepath.Dir(path), e.Name()))
			}
		}
	}
	return names
}

func (s *Store) writtenBy(ctx context.Context, q querier, days map[int64]int64) error {
	rows, err := q.QueryContext(ctx, "SELECT day, bytes FROM written ORDER BY day DESC LIMIT ?", writtenDays)
	if err != nil {
		return fmt.Errorf("read what was written: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var d DayBytes
		if err := rows.Scan(&d.Day, &d.Bytes); err != nil {
			return fmt.Errorf("read what was written: %w", err)
		}
		days[d.Day] = max(days[d.Day], d.Bytes)
	}
	return rows.Err()
}

// describe tells what the archive holds.
func (a *archive) describe(ctx context.Context, st *Storage) error {
	err := a.read.QueryRowContext(ctx, `SELECT ran, aged, boot, uptime, (SELECT coalesce(sum(flows), 0) FROM blocks),
		(SELECT coalesce(min(first), 0) FROM blocks) FROM state`).Scan(&st.Ran, &st.Age.Until, &st.Age.Boot, &st.Age.Uptime, &st.Flows, &st.Oldest)
	if err != nil {
		return fmt.Errorf("describe archive %s: %w", a.path, err)
	}
	st.Oldest >>= idShift
	if err := a.read.QueryRowContext(ctx, "SELECT coalesce(sum(flows), 0) FROM damaged").Scan(&st.Lost); err != nil {
		return fmt.Errorf("describe archive %s: %w", a.path, err)
	}
	a.damage.mu.Lock()
	for first, n := range a.damage.blocks {
		var there bool
		if err := a.read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM blocks WHERE first = ?)", first).Scan(&there); err == nil && there {
			st.Lost += n
		}
	}
	a.damage.mu.Unlock()
	rows, err := a.read.QueryContext(ctx, "SELECT level, sum(flows) FROM blocks GROUP BY level ORDER BY level")
	if err != nil {
		return fmt.Errorf("describe archive %s: %w", a.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var level int
		var n int64
		if err := rows.Scan(&level, &n); err != nil {
			return fmt.Errorf("describe archive %s: %w", a.path, err)
		}
		for len(st.Levels) <= level {
			st.Levels = append(st.Levels, 0)
		}
		st.Levels[level] = n
	}
	for _, p := range []string{a.path, a.path + "-wal"} {
		fi, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("size of the archive: %w", err)
		}
		st.Bytes += fi.Size()
	}
	return rows.Err()
}

// Attach opens the archive and the backup if they are there, to be read at least,
// and takes into live what the backup has that live has not. It is cheap if all
// of that has been done. It is to be called at the start, and again when what
// is mounted has changed or something failed.
func (s *Store) Attach(ctx context.Context) error {
	s.running.Lock()
	defer s.running.Unlock()
	if _, err := s.attachArchive(ctx, false); err != nil {
		return err
	}
	dir, err := s.backupDir()
	if err != nil {
		return err
	}
	if err := s.restore(ctx, dir); err != nil {
		return fmt.Errorf("restore live from the backup: %w", err)
	}
	return nil
}

// Detach closes the archive, until Attach or a run opens it again.
func (s *Store) Detach() error {
	s.running.Lock()
	defer s.running.Unlock()
	return s.detachArchive()
}

// Clock returns what was last said to SetClock; "" if nothing was.
func (s *Store) Clock(ctx context.Context) (said string, err error) {
	if err := s.read.QueryRowContext(ctx, "SELECT clock FROM state").Scan(&said); err != nil {
		return "", fmt.Errorf("read the clock in %s: %w", s.path, err)
	}
	return said, nil
}

// SetClock keeps what is said of the clock by which flows were recorded so far.
func (s *Store) SetClock(ctx context.Context, said string) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if _, err := s.w.conn.ExecContext(ctx, "UPDATE state SET clock = ?", said); err != nil {
		return fmt.Errorf("note the clock in %s: %w", s.path, err)
	}
	return nil
}
