package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"pakon/daemon/store/backup"
	"pakon/uci/regular"
)

// applicationID marks a SQLite file as ours ("Pako" in its header).
const applicationID = 0x50616b6f

//go:embed migrations/*.sql
var migrations embed.FS

// ErrInUse is wrapped by Open's error if another process has the database open.
var ErrInUse = errors.New("database is in use by another process")

// Open opens the database, beginning a new one if there is none and bringing
// one of an older version up to date. What lies at its path but is not a
// database that this version can use is renamed and told to the log, never
// deleted: the original's database to PATH.original, others to PATH.damaged-N,
// PATH.newer-N and PATH.foreign-N.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	if o.Classify == nil {
		o.Classify = func(string) (string, bool) { return "", false }
	}
	if o.Location == nil {
		o.Location = func() *time.Location { return time.UTC }
	}
	if o.Files == nil {
		o.Files = backup.OS{}
	}
	s := &Store{path: o.Path, classify: o.Classify, location: o.Location, files: o.Files, log: o.Log}
	s.SetMaxFlows(o.MaxFlows)
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
		return nil, fmt.Errorf("open database %s: %w", o.Path, err)
	}
	if s.lock, err = lock(o.Path); err != nil {
		return nil, fmt.Errorf("open database %s: %w", o.Path, err)
	}
	defer func() {
		if err != nil {
			s.abandon()
			err = fmt.Errorf("open database %s: %w", o.Path, err)
		}
	}()
	if err := clearTheWay(ctx, o.Path, liveKind, o.Log); err != nil {
		return nil, err
	}
	// Created here because SQLite would let everyone read it; its companions
	// take over the mode.
	f, err := os.OpenFile(o.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err := s.openWriter(ctx); err != nil {
		return nil, err
	}
	return s, s.openReaders(ctx)
}

// abandon closes what a failed Open has opened.
func (s *Store) abandon() {
	if s.read != nil {
		s.read.Close()
	}
	s.w.close()
	s.lock.Close()
}

// lock makes sure that no other process has the database open. The kernel
// gives the lock up with the file, so one that is left behind does not matter.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		b, _ := io.ReadAll(io.LimitReader(f, 20))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return nil, fmt.Errorf("%w (pid %d)", ErrInUse, pid)
		}
		return nil, ErrInUse
	}
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := f.Truncate(int64(len(pid))); err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if _, err := f.WriteAt(pid, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f, nil
}

// A kind of database of ours, and how it is told from others.
type kind struct {
	id     int // its application_id
	latest int // the newest version known
}

var (
	liveKind    = kind{applicationID, len(migrationFiles(migrations, "migrations"))}
	archiveKind = kind{archiveID, len(migrationFiles(archiveMigrations, "archive"))}
)

// clearTheWay renames what lies at the path unless it is a database of the kind.
func clearTheWay(ctx context.Context, path string, k kind, log *slog.Logger) error {
	// SQLite waits for who writes to a FIFO that it takes for a journal.
	for _, ext := range []string{"", "-journal", "-wal", "-shm"} {
		if err := regular.Check(path + ext); err != nil {
			return err
		}
	}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Size() == 0:
		return nil
	}
	suffix, why, err := inspect(ctx, path, k)
	if err != nil || suffix == "" {
		return err
	}
	to, err := freePath(path + suffix)
	if err != nil {
		return err
	}
	// Its WAL holds part of it and must go along; the index of the WAL is made
	// anew by whoever opens it.
	for _, ext := range []string{"-wal", ""} {
		if err := os.Rename(path+ext, to+ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set aside, as %s: %w", why, err)
		}
	}
	if err := os.Remove(path + "-shm"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set aside, as %s: %w", why, err)
	}
	log.Warn("database set aside, a new one is begun", "path", path, "to", to, "reason", why)
	return nil
}

// freePath is base, or if that exists, the first free one of base-2, base-3
// and so on; where base ends in a dash, a number is always behind it.
func freePath(base string) (string, error) {
	for n := 1; ; n++ {
		p := base
		if strings.HasSuffix(base, "-") {
			p += strconv.Itoa(n)
		} else if n > 1 {
			p += "-" + strconv.Itoa(n)
		}
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			return p, nil
		} else if err != nil {
			return "", err
		}
	}
}

// inspect tells by which suffix the file at the path is to be set aside, and
// why; "" if it is of the kind and whole.
func inspect(ctx context.Context, path string, k kind) (suffix, why string, err error) {
	// SQLite would take a file shorter than a page for an empty one.
	if ok, err := hasMagic(path); err != nil {
		return "", "", err
	} else if !ok {
		return ".damaged-", "it is not a database", nil
	}
	source := dsn(path, "query_only(1)", fmt.Sprintf("cache_size(-%d)", readerCache))
	if readOnlyFile(path) {
		source += "&immutable=1"
	}
	db, err := sql.Open("sqlite", source)
	if err != nil {
		return "", "", err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var application, version, tables, original int
	var check string
	err = db.QueryRowContext(ctx, `SELECT
		(SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version),
		(SELECT count(*) FROM sqlite_master),
		(SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'traffic')`).
		Scan(&application, &version, &tables, &original)
	if err == nil {
		if application == 0 && original == 1 {
			// Also if it is damaged: what can be read of it is imported.
			return ".original", "it is the database of the original Pakon", nil
		}
		err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&check)
	}
	switch {
	case Damaged(err):
		return ".damaged-", err.Error(), nil
	case err != nil:
		return "", "", err
	case check != "ok":
		return ".damaged-", check, nil
	case application != k.id && tables > 0:
		return ".foreign-", "it belongs to another program", nil
	case application == k.id && version > k.latest:
		return ".newer-", fmt.Sprintf("it was made by a newer Pakon (version %d, known are up to %d)", version, k.latest), nil
	}
	return "", "", nil
}

// readOnlyFile tells whether a file lies on a file system that is read-only.
func readOnlyFile(path string) bool {
	return errors.Is(syscall.Access(path, 2), syscall.EROFS) // W_OK
}

// hasMagic tells whether a file begins like a SQLite database
// (https://sqlite.org/fileformat.html#magic_header_string).
func hasMagic(path string) (bool, error) {
	const magic = "SQLite format 3\x00"
	f, err := regular.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, len(magic))
	if _, err := io.ReadFull(f, b); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return string(b) == magic, nil
}

// Damaged tells whether an error of this package means that the database file
// is damaged, so that closing the store and opening it again begins a new one.
func Damaged(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return true
	}
	return false
}

// dsn names a database file that exists to the driver.
func dsn(path string, pragmas ...string) string {
	q := url.Values{"mode": {"rw"}, "_pragma": pragmas}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// The memory that a connection keeps for pages, in KiB.
const (
	writerCache = 512
	readerCache = 256
)

// walPages is the size of the WAL, in pages of 4 KiB, at which its content is
// moved to the database.
const walPages = 128

func (s *Store) openWriter(ctx context.Context) error {
	db, err := sql.Open("sqlite", dsn(s.path,
		"journal_mode(WAL)", "synchronous(OFF)", "busy_timeout(5000)",
		fmt.Sprintf("wal_autocheckpoint(%d)", walPages),
		fmt.Sprintf("journal_size_limit(%d)", walPages*4096*2),
		fmt.Sprintf("cache_size(-%d)", writerCache)))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	s.w.db, s.w.location = db, s.location
	if s.w.conn, err = db.Conn(ctx); err != nil {
		return err
	}
	if err := migrate(ctx, s.w.conn, migrations, "migrations", applicationID); err != nil {
		return err
	}
	var batch, flows int64
	err = s.w.conn.QueryRowContext(ctx, `SELECT batch, identity, (SELECT count(*) FROM flows) FROM state`).
		Scan(&batch, &s.identity, &flows)
	if err != nil {
		return fmt.Errorf("read its state: %w", err)
	}
	s.batch.Store(batch)
	s.flows.Store(flows)
	return s.w.prepare(ctx, s.classify)
}

// openReaders opens all connections now: should the file be removed later,
// they go on reading the one that is being written.
func (s *Store) openReaders(ctx context.Context) error {
	db, err := sql.Open("sqlite", dsn(s.path, "query_only(1)", "busy_timeout(5000)",
		fmt.Sprintf("cache_size(-%d)", readerCache)))
	if err != nil {
		return err
	}
	s.read = db
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	for range readers {
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.PingContext(ctx); err != nil {
			return err
		}
	}
	return nil
}

// migrationFiles are the names of the migrations; the first is version 1.
func migrationFiles(in embed.FS, folder string) []fs.DirEntry {
	files, err := in.ReadDir(folder)
	if err != nil {
		panic(err) // they are part of the binary
	}
	return files
}

// migrate brings a database up to the latest version, each step in a
// transaction of its own.
func migrate(ctx context.Context, c *sql.Conn, in embed.FS, folder string, id int) error {
	var version int
	if err := c.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read its version: %w", err)
	}
	for i, f := range migrationFiles(in, folder) {
		if i < version {
			continue
		}
		script, err := in.ReadFile(folder + "/" + f.Name())
		if err != nil {
			return err
		}
		tx, err := c.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("%s; PRAGMA user_version = %d; PRAGMA application_id = %d", script, i+1, id))
		if err != nil {
			tx.Rollback()
			return fmt.Errorf("migration %s: %w", f.Name(), err)
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("migration %s: %w", f.Name(), err)
		}
	}
	return nil
}
