// Package store keeps flows and answers queries about them: those of the last day
// in live, a SQLite file in RAM, and those of weeks in the archive, a SQLite file
// on a drive. A backup beside the archive brings live through a reboot.
//
// Of live, one connection writes, a few others read; in WAL mode neither waits
// for the other. The file is not synced: it need not outlive the machine, only the
// process, and what a transaction has written does so even if the process is
// killed. What the database refers to is kept small: names, client addresses
// and application protocols have tables of their own, and a flow's key is its
// start time (see migrations).
//
// The archive holds blocks (package block) in order of time, and sums of days. A
// run moves what is due there slice by slice, each numbered in both databases,
// and merges it from level to level: see archiver. A view is both at one moment.
// What reads many flows reads blocks, also of live's rows: see gatherer.
//
// What a flow is and when it ends is the business of package flow, how names
// are grouped and hidden that of whoever gives Options.Classify, and when the
// archive runs and a backup is made that of whoever calls Archive and Backup.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"pakon/daemon/store/backup"
)

// Options says where a Store lies and what it may hold.
type Options struct {
	// Path is the database file. Beside it lie Path-wal, Path-shm and Path.lock.
	Path string
	// MaxFlows bounds the number of flows: the oldest are deleted when there
	// are more. 0 means no bound.
	MaxFlows int64
	// Classify tells the group of a name ("" if none) and whether it is hidden.
	// It is called for a name that is new to the database, for names that are read,
	// and again by Reclassify; from several goroutines, and not to use the Store. If
	// nil, names have no groups.
	Classify func(name string) (group string, hidden bool)
	// Location is the router's time zone, by which days are told apart; asked for
	// at each use as it may change. If nil, it is UTC.
	Location func() *time.Location
	// Files is how the backup's files are reached; backup.OS if nil.
	Files backup.FS
	// Log is told of files set aside. It must not be nil.
	Log *slog.Logger
}

// Queries is how many queries, summaries and totals read at the same time. Further
// ones may have to wait until one has ended.
const Queries = 2

// readers is the number of connections that read each database: those of queries,
// one of a backup or a run of the archive, and one to look at the state of things,
// so that this never waits.
const readers = Queries + 2

// Store is an open database. Its methods may be called from any goroutine,
// several at a time, but for Close.
type Store struct {
	path     string
	maxFlows atomic.Int64
	classify func(string) (string, bool)
	location func() *time.Location
	files    backup.FS
	log      *slog.Logger

	lock     *os.File
	read     *sql.DB
	identity int64        // state.identity
	batch    atomic.Int64 // state.batch, of the last committed transaction
	flows    atomic.Int64 // rows in flows

	// Held by what changes files on disk or moves flows between them, one at a
	// time: archive, backup, restoring, import, forgetting.
	running sync.Mutex
	config  atomic.Pointer[ArchiveConfig]
	archive atomic.Pointer[archive] // changes with querying and attached held; nil if there is none
	storage storage

	// Held for reading by each query: see drain.
	querying sync.RWMutex
	// Held for reading by who looks at the archive's state: it does not wait for who
	// waits for queries to end.
	attached sync.RWMutex
	draining atomic.Bool
	tasks    sync.WaitGroup
	closing  sync.Once

	ahead    ahead
	decoded  decoded
	known    known
	prepared prepared
	w        writer

	maxGroups int // instead of the constant, if not 0
}

// SetMaxFlows replaces Options.MaxFlows from the next batch on.
func (s *Store) SetMaxFlows(n int64) { s.maxFlows.Store(n) }

// Close ends the store, the first time it is called. No other method may be
// running or be called any more.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.tasks.Wait()
		err = errors.Join(s.detachArchive(), s.read.Close(), s.w.close(),
			// A child that is just being started holds the lock, too, until it is given up.
			syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN), s.lock.Close())
		if err != nil {
			err = fmt.Errorf("close database %s: %w", s.path, err)
		}
	})
	return err
}

// Stats describes what a Store holds.
type Stats struct {
	Flows, Names, Clients int64
	Bytes                 int64 // size of the database file and its WAL
	Oldest, Newest        int64 // start of the first and last flow, Unix ms; 0 if there is none
}

// Stats counts what the store holds.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	st := Stats{Flows: s.flows.Load()}
	var oldest, newest sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM names),
		(SELECT count(DISTINCT client) FROM endpoints),
		(SELECT min(id) FROM flows), (SELECT max(id) FROM flows)`).
		Scan(&st.Names, &st.Clients, &oldest, &newest)
	if err != nil {
		return Stats{}, fmt.Errorf("count what %s holds: %w", s.path, err)
	}
	st.Oldest, st.Newest = oldest.Int64>>idShift, newest.Int64>>idShift
	for _, p := range []string{s.path, s.path + "-wal"} {
		fi, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Stats{}, fmt.Errorf("size of the database: %w", err)
		}
		st.Bytes += fi.Size()
	}
	return st, nil
}
