package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"pakon/daemon/store/block"
	"pakon/uci/regular"
)

// ArchiveConfig says where the archive lies and what it keeps.
type ArchiveConfig struct {
	Path     string        // its file; the backup of live is put beside it
	Keep     time.Duration // flows that ended longer ago are deleted
	MaxFlows int64         // the oldest are deleted when there are more; 0: no bound
	Rules    []Rule        // how it is merged, from the finest level to the coarsest
}

// Rule says what becomes of flows older than UpTo: those of the level before
// that belong together and are less than Window apart become one. Threshold is
// the number of bytes below which a flow is then dropped.
type Rule struct {
	UpTo, Window time.Duration
	Threshold    int64
}

// liveFor is the age at which flows leave live.
const liveFor = 24 * time.Hour

// ErrNoArchive is wrapped by errors that say why there is no archive now.
var ErrNoArchive = errors.New("the archive can not be used")

//go:embed archive/*.sql
var archiveMigrations embed.FS

// archiveID marks an archive ("PakA" in its header).
const archiveID = 0x50616b41

// archive is an open archive. One goroutine writes, see Store.running.
type archive struct {
	path               string
	readOnly           bool
	dev, ino           uint64 // of the file, to tell whether another is there now
	log                *slog.Logger
	damage             damage
	read               *sql.DB
	db                 *sql.DB
	write              *sql.Conn // nil if it is read-only
	walPages, walMoved int64     // of the WAL, told already
}

// openArchive opens the archive at path, beginning a new one if create is set.
// Without a file the error wraps fs.ErrNotExist. On a file system that is
// read-only it can be read.
func (s *Store) openArchive(ctx context.Context, path string, create bool) (_ *archive, err error) {
	a := &archive{path: path, log: s.log}
	defer func() {
		if err != nil {
			a.close()
			err = fmt.Errorf("open archive %s: %w", path, err)
		}
	}()
	if _, err := os.Stat(path); err != nil && !create {
		return nil, err
	}
	if create {
		if err := makeFolder(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	if err := clearTheWay(ctx, path, archiveKind, s.log); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, syscall.EROFS) {
		a.readOnly = true
		f, err = regular.Open(path)
		if fi, e := os.Stat(path + "-wal"); e == nil && fi.Size() > 0 {
			err = errors.Join(err, errors.New("a run was interrupted: it must be written to once before it can be read"))
		}
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	a.dev, a.ino = identify(fi)
	if !a.readOnly {
		if err := a.openWriter(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.openReaders(ctx); err != nil {
		return nil, err
	}
	return a, a.check(ctx)
}

// makeFolder makes the folder of archive and backup, for the owner alone.
// That in which it lies must be there: it may be a drive that is not mounted.
func makeFolder(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func identify(fi fs.FileInfo) (dev, ino uint64) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), st.Ino
	}
	return 0, 0
}

func (a *archive) openWriter(ctx context.Context) error {
	db, err := sql.Open("sqlite", dsn(a.path,
		"journal_mode(WAL)",
		// What has been moved is deleted from live next: it must be on the disk.
		"synchronous(FULL)", "busy_timeout(10000)",
		"wal_autocheckpoint(0)", "temp_store(MEMORY)",
		fmt.Sprintf("cache_size(-%d)", archiveCache)))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	a.db = db
	if a.write, err = db.Conn(ctx); err != nil {
		return err
	}
	return migrate(ctx, a.write, archiveMigrations, "archive", archiveID)
}

// archiveCache is the memory that a connection to the archive keeps for pages, in
// KiB. It is read from one end to the other; keeping much would not help.
const archiveCache = 128

func (a *archive) openReaders(ctx context.Context) error {
	source := dsn(a.path, "query_only(1)", "busy_timeout(10000)", fmt.Sprintf("cache_size(-%d)", archiveCache))
	if a.readOnly {
		// Nobody writes, and SQLite can not make the files by which it would see to
		// that.
		source = dsn(a.path, "query_only(1)", fmt.Sprintf("cache_size(-%d)", archiveCache)) + "&immutable=1"
	}
	db, err := sql.Open("sqlite", source)
	if err != nil {
		return err
	}
	a.read = db
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return db.PingContext(ctx)
}

// close closes what was opened. SQLite moves the WAL to the file with the last
// connection.
func (a *archive) close() error {
	var errs []error
	if a.read != nil {
		errs = append(errs, a.read.Close())
	}
	if a.write != nil {
		errs = append(errs, a.write.Close())
	}
	if a.db != nil {
		errs = append(errs, a.db.Close())
	}
	return errors.Join(errs...)
}

// there tells whether the file that was opened is still the one at its path.
func (a *archive) there() bool {
	fi, err := os.Stat(a.path)
	if err != nil {
		return false
	}
	dev, ino := identify(fi)
	return dev == a.dev && ino == a.ino
}

// transaction runs f within one.
func (a *archive) transaction(ctx context.Context, f func(*sql.Conn) error) error {
	if _, err := a.write.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f(a.write)
	if err == nil {
		if _, err = a.write.ExecContext(ctx, "COMMIT"); err == nil {
			return nil
		}
	}
	// SQLite may have rolled back by itself; then this fails, and need not be told.
	a.write.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return err
}

// walFrame is what a page takes in a WAL, in bytes
// (https://sqlite.org/fileformat.html#the_write_ahead_log).
const walFrame = 4096 + 24

// settle moves the WAL to the file, as far as queries let it, and tells how many
// bytes both have taken. It does not wait for queries.
func (a *archive) settle(ctx context.Context) (written int64, err error) {
	var busy, pages, moved int64
	if err := a.write.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &moved); err != nil {
		return 0, fmt.Errorf("settle archive %s: %w", a.path, err)
	}
	if pages < a.walPages {
		a.walPages, a.walMoved = 0, 0 // it was begun anew
	}
	written = (pages-a.walPages)*walFrame + max(moved-a.walMoved, 0)*4096
	a.walPages, a.walMoved = pages, moved
	if moved < pages {
		return written, nil
	}
	if _, err := a.write.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
		return written, fmt.Errorf("settle archive %s: %w", a.path, err)
	}
	err = a.write.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	if busy == 0 {
		a.walPages, a.walMoved = 0, 0
	}
	if _, e := a.write.ExecContext(ctx, "PRAGMA busy_timeout = 10000"); err != nil || e != nil {
		return written, fmt.Errorf("settle archive %s: %w", a.path, errors.Join(err, e))
	}
	return written, nil
}

// blockRow is a row of blocks without its data.
type blockRow struct {
	first, last int64
	level       int
	ends, flows int64
	mark        int64
}

// metas returns the blocks that hold ids from lo up to, not including, hi.
func (a *archive) metas(ctx context.Context, q querier, lo, hi int64) ([]blockRow, error) {
	rows, err := q.QueryContext(ctx, `SELECT first, last, level, ends, flows, mark FROM blocks
		WHERE first < ?2 AND last >= ?1 ORDER BY first`, lo, hi)
	if err != nil {
		return nil, fmt.Errorf("list blocks of %s: %w", a.path, err)
	}
	defer rows.Close()
	var all []blockRow
	for rows.Next() {
		var m blockRow
		if err := rows.Scan(&m.first, &m.last, &m.level, &m.ends, &m.flows, &m.mark); err != nil {
			return nil, fmt.Errorf("list blocks of %s: %w", a.path, err)
		}
		all = append(all, m)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list blocks of %s: %w", a.path, err)
	}
	return all, nil
}

// load reads a block into b.
func (a *archive) load(ctx context.Context, q querier, first int64, b *block.Block) error {
	var data sql.RawBytes
	rows, err := q.QueryContext(ctx, "SELECT data FROM blocks WHERE first = ?", first)
	if err != nil {
		return fmt.Errorf("read block %d of %s: %w", first, a.path, err)
	}
	defer rows.Close()
	if !rows.Next() {
		return fmt.Errorf("read block %d of %s: %w", first, a.path, errors.Join(sql.ErrNoRows, rows.Err()))
	}
	if err := rows.Scan(&data); err != nil {
		return fmt.Errorf("read block %d of %s: %w", first, a.path, err)
	}
	if err := block.Decode(b, data); err != nil {
		return fmt.Errorf("read block %d of %s: %w", first, a.path, err)
	}
	return nil
}

// querier reads from a database: a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// blockFlows is how many flows a block of the archive holds at most. More
// compress a little better, but take more memory to read.
const blockFlows = 4096

// put stores flows of a level, in order of their ids, as blocks. No block that
// is there may hold ids between theirs.
func (a *archive) put(ctx context.Context, c *sql.Conn, level int, b *block.Block) error {
	return inBlocks(b, func(flows []block.Flow, data []byte) error {
		m := rowOf(flows, data)
		if _, err := c.ExecContext(ctx, "INSERT INTO blocks (first, last, level, ends, flows, mark, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
			m.first, m.last, level, m.ends, m.flows, m.mark, data); err != nil {
			return fmt.Errorf("add a block: %w", err)
		}
		return nil
	})
}

// inBlocks gives do the flows in parts of at most blockFlows, and each part as a
// block.
func inBlocks(b *block.Block, do func(flows []block.Flow, data []byte) error) error {
	part := *b
	for at := 0; at < len(b.Flows); at += blockFlows {
		part.Flows = b.Flows[at:min(at+blockFlows, len(b.Flows))]
		data, err := block.Encode(nil, &part)
		if err != nil {
			return fmt.Errorf("put flows into a block: %w", err)
		}
		if err := do(part.Flows, data); err != nil {
			return err
		}
	}
	return nil
}

// latest is the end of the flow that ends last, in Unix ms.
func latest(flows []block.Flow) int64 {
	ends := int64(0)
	for i := range flows {
		ends = max(ends, flows[i].End())
	}
	return ends
}

// damage is what of an archive can not be read.
type damage struct {
	mu     sync.Mutex
	blocks map[int64]int64 // how many flows, by the first
	days   map[int64]bool  // days whose sums can not be
}

// noteDamage notes, and says once, that a block can not be read.
func (a *archive) noteDamage(m blockRow, why error) {
	a.damage.mu.Lock()
	defer a.damage.mu.Unlock()
	if _, known := a.damage.blocks[m.first]; known {
		return
	}
	if a.damage.blocks == nil {
		a.damage.blocks = make(map[int64]int64)
	}
	a.damage.blocks[m.first] = m.flows
	a.log.Error("a part of the archive is damaged; its flows are lacking", "path", a.path, "flows", m.flows,
		"from", time.UnixMilli(m.first>>idShift).UTC(), "to", time.UnixMilli(m.last>>idShift).UTC(), "err", why)
}

// noteDamagedSums does so for the sums of a day.
func (a *archive) noteDamagedSums(from int64, why error) {
	a.damage.mu.Lock()
	defer a.damage.mu.Unlock()
	if a.damage.days[from] {
		return
	}
	if a.damage.days == nil {
		a.damage.days = make(map[int64]bool)
	}
	a.damage.days[from] = true
	a.log.Error("sums of a day in the archive are damaged; they are made anew with the next run", "path", a.path,
		"day", time.UnixMilli(from).UTC(), "err", why)
}

// readable reads a block into b, as load does. If it is damaged, that is noted and
// b is empty.
func (a *archive) readable(ctx context.Context, q querier, m blockRow, b *block.Block) error {
	err := a.load(ctx, q, m.first, b)
	if errors.Is(err, block.ErrDamaged) {
		a.noteDamage(m, err)
		b.Reset()
		return nil
	}
	return err
}

// take reads a block into b and deletes it. One that is damaged is kept aside,
// and b is empty.
func (a *archive) take(ctx context.Context, c *sql.Conn, m blockRow, b *block.Block) error {
	err := a.load(ctx, c, m.first, b)
	if errors.Is(err, block.ErrDamaged) {
		a.noteDamage(m, err)
		b.Reset()
		_, err = c.ExecContext(ctx, "INSERT INTO damaged SELECT first, last, level, flows, data FROM blocks WHERE first = ?", m.first)
	}
	if err != nil {
		return err
	}
	return a.remove(ctx, c, m.first)
}

func (a *archive) remove(ctx context.Context, c *sql.Conn, first int64) error {
	if _, err := c.ExecContext(ctx, "DELETE FROM blocks WHERE first = ?", first); err != nil {
		return fmt.Errorf("delete a block: %w", err)
	}
	return nil
}
