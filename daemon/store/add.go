package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
)

// A flow's id is its start in Unix ms, shifted, and a number below 1<<idShift.
const idShift = 12

// Bounds of what a flow may say. They keep ids and sums within 64 bits.
const (
	maxTime  = 1 << 50 // Unix ms
	maxBytes = 1 << 48
)

// maxSource is the last source that facts has room for. If there are more, the
// next line does not compile.
const maxSource = 7

const _ = maxSource + 1 - name.Sources

// facts packs a flow's small numbers; see column facts.
func facts(f *flow.Flow) int64 {
	return int64(f.Port)<<12 | int64(f.Proto)<<4 | int64(f.Source&maxSource)<<1 | int64(f.Direction&1)
}

// unpackFacts is the reverse of facts.
func unpackFacts(n int64, f *flow.Flow) {
	f.Port = uint16(n >> 12)
	f.Proto = uint8(n >> 4)
	f.Source = name.Source(n >> 1 & maxSource)
	f.Direction = flow.Direction(n & 1)
}

// endpoint is where a client was seen.
type endpoint struct {
	mac     client.MAC
	address netip.Addr
	iface   string
}

// owner is the column endpoints.client.
func (e endpoint) owner() []byte {
	if e.mac.IsZero() {
		return addrBytes(e.address)
	}
	return e.mac[:]
}

// addrBytes is an address as it is stored: without a zone, never nil.
func addrBytes(a netip.Addr) []byte {
	b := a.AsSlice()
	if b == nil {
		return []byte{}
	}
	return b
}

// writer is the one connection that writes, and what it remembers.
type writer struct {
	mu         sync.Mutex
	location   func() *time.Location
	db         *sql.DB
	conn       *sql.Conn
	insertOne  driver.Stmt
	insertMany driver.Stmt         // of manyRows flows
	args       []driver.NamedValue // of insertMany, reused; as of insertOne, if there are less
	starts     []int64             // of the flows in args
	number     int64               // of the flow in its millisecond, see column id; counts on
	last       *sql.Stmt           // the last id in a range
	statements []*sql.Stmt         // all that are to be closed
	names      dictionary[string]
	endpoints  dictionary[endpoint]
	apps       dictionary[string]
	cleaner    cleaner
	tracker    tracker
}

// flowColumns is the number of columns of flows.
const flowColumns = 10

// manyRows is how many flows one statement inserts. A statement has a cost of
// its own, which is shared by so many; more would save little.
const manyRows = 16

func (w *writer) prepare(ctx context.Context, classify func(string) (string, bool)) error {
	w.names = dictionary[string]{
		table: "names",
		key:   func(n string) []any { return []any{n} },
		row: func(n string) []any {
			group, hidden := classify(n)
			return []any{n, shown(n, group), hidden}
		},
	}
	w.endpoints = dictionary[endpoint]{
		table: "endpoints",
		key:   func(e endpoint) []any { return []any{e.owner(), addrBytes(e.address), e.iface} },
	}
	w.endpoints.row = w.endpoints.key
	w.apps = dictionary[string]{
		table: "apps",
		key:   func(a string) []any { return []any{a} },
	}
	w.apps.row = w.apps.key
	// Whatever deleted flows before has left its garbage.
	w.cleaner = cleaner{deleted: overdue}
	err := errors.Join(
		w.names.prepare(ctx, w, "SELECT id FROM names WHERE name = ?",
			"INSERT INTO names (name, shown, hidden) VALUES (?, ?, ?)"),
		w.endpoints.prepare(ctx, w, "SELECT id FROM endpoints WHERE client = ? AND address = ? AND interface = ?",
			"INSERT INTO endpoints (client, address, interface) VALUES (?, ?, ?)"),
		w.apps.prepare(ctx, w, "SELECT id FROM apps WHERE name = ?",
			"INSERT INTO apps (name) VALUES (?)"))
	if err != nil {
		return err
	}
	if err := w.tracker.prepare(ctx, w); err != nil {
		return err
	}
	if w.last, err = w.statement(ctx, "SELECT max(id) FROM flows WHERE id BETWEEN ? AND ?"); err != nil {
		return err
	}
	w.cleaner.marks, err = w.statement(ctx, "SELECT id, name, endpoint, app FROM flows WHERE id > ? ORDER BY id LIMIT ?")
	if err != nil {
		return err
	}
	w.args = make([]driver.NamedValue, 0, manyRows*flowColumns)
	w.starts = make([]int64, 0, manyRows)
	// Once per flow, the driver is called directly: database/sql would add half
	// again to what an insertion costs.
	const row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	return w.conn.Raw(func(c any) error {
		conn := c.(driver.ConnPrepareContext)
		one, err := conn.PrepareContext(ctx, "INSERT OR IGNORE INTO flows VALUES "+row)
		if err != nil {
			return err // one, holding a nil of the driver, is not nil
		}
		w.insertOne = one
		many, err := conn.PrepareContext(ctx, "INSERT INTO flows VALUES "+row+strings.Repeat(", "+row, manyRows-1))
		if err != nil {
			return err
		}
		w.insertMany = many
		return nil
	})
}

// statement prepares one for the life of the connection.
func (w *writer) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	s, err := w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	w.statements = append(w.statements, s)
	return s, nil
}

// close closes what was opened. SQLite moves the WAL to the database when the
// last connection ends, if it has no statements left.
func (w *writer) close() error {
	var errs []error
	for _, s := range w.statements {
		errs = append(errs, s.Close())
	}
	for _, stmt := range []driver.Stmt{w.insertOne, w.insertMany} {
		if stmt != nil {
			errs = append(errs, w.conn.Raw(func(any) error { return stmt.Close() }))
		}
	}
	if w.conn != nil {
		errs = append(errs, w.conn.Close())
	}
	if w.db != nil {
		errs = append(errs, w.db.Close())
	}
	return errors.Join(errs...)
}

// shown is the column of that name: what stands for a name where flows are put
// together; nil for the name itself. A name that spells an address is the same
// as that address without a name.
func shown(n, group string) any {
	if group != "" {
		return group
	}
	if a, err := netip.ParseAddr(n); err == nil {
		return addrBytes(a)
	}
	return nil
}

// Add stores a batch of flows: all of them or, on error, none. Those that are
// tracked take the place of what was stored of their connections. Once it has
// returned, they survive the process. Times outside of the years 1970 to 35000
// and byte counts over 1<<48 are stored as the nearest of those; of an address
// the zone is not stored.
func (s *Store) Add(ctx context.Context, flows []flow.Flow) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// A batch is a matter of milliseconds; watching the context in each of its
	// statements would cost more than they do.
	ctx = context.WithoutCancel(ctx)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var added, deleted int64
	err := s.w.transaction(ctx, func() (err error) {
		batch := s.batch.Load() + 1
		if added, err = s.w.addAll(ctx, flows, batch); err != nil {
			return err
		}
		if deleted, err = s.deleteOldest(ctx, added); err != nil {
			return err
		}
		if err := s.w.cleanStep(ctx, s.flows.Load()); err != nil {
			return err
		}
		_, err = s.w.conn.ExecContext(ctx, "UPDATE state SET batch = ?", batch)
		return err
	})
	if err != nil {
		return fmt.Errorf("add %d flows to %s: %w", len(flows), s.path, err)
	}
	s.w.tracker.commit()
	s.batch.Add(1)
	s.flows.Add(added - deleted)
	s.w.cleaner.deleted += deleted
	s.drain()
	return nil
}

// transaction runs f within one. If it fails, the dictionaries and the cleaner
// start afresh, as what they know may have been rolled back.
func (w *writer) transaction(ctx context.Context, f func() error) error {
	_, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	if err != nil {
		return err
	}
	if err = f(); err == nil {
		if _, err = w.conn.ExecContext(ctx, "COMMIT"); err == nil {
			return nil
		}
	}
	// SQLite may have rolled back by itself; then this fails, and need not be told.
	w.conn.ExecContext(ctx, "ROLLBACK")
	w.names.forget()
	w.endpoints.forget()
	w.apps.forget()
	w.tracker.rollback()
	w.abortCleaning()
	return err
}

// addAll stores the flows, and tells by how many there are more.
func (w *writer) addAll(ctx context.Context, flows []flow.Flow, batch int64) (more int64, err error) {
	w.args, w.starts = w.args[:0], w.starts[:0]
	for i := range flows {
		f := &flows[i]
		if f.State != flow.Whole || f.Track.Hour > 0 {
			n, err := w.put(ctx, f, batch)
			if err != nil {
				return 0, err
			}
			more += n
			continue
		}
		if err := w.add(ctx, f, batch); err != nil {
			return 0, err
		}
		more++
		if len(w.starts) == manyRows {
			if err := w.insertAll(ctx); err != nil {
				return 0, err
			}
		}
	}
	return more, w.insertEach(ctx)
}

// add puts one flow into w.args.
func (w *writer) add(ctx context.Context, f *flow.Flow, batch int64) error {
	start, row, err := w.row(ctx, f, batch)
	if err != nil {
		return err
	}
	w.starts = append(w.starts, start)
	for _, v := range row {
		w.args = append(w.args, driver.NamedValue{Ordinal: len(w.args) + 1, Value: v})
	}
	return nil
}

// named numbers values as arguments of a statement.
func named(row [flowColumns]driver.Value) []driver.NamedValue {
	args := make([]driver.NamedValue, len(row))
	for i, v := range row {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return args
}

// row is a flow as its table has it, and its start.
func (w *writer) row(ctx context.Context, f *flow.Flow, batch int64) (start int64, row [flowColumns]driver.Value, err error) {
	nameID, appID := driver.Value(nil), driver.Value(nil)
	if f.Name != "" {
		id, err := w.names.id(ctx, f.Name)
		if err != nil {
			return 0, row, err
		}
		w.names.mark(id)
		nameID = id
	}
	if f.App != "" {
		id, err := w.apps.id(ctx, f.App)
		if err != nil {
			return 0, row, err
		}
		w.apps.mark(id)
		appID = id
	}
	endpointID, err := w.endpoints.id(ctx, endpoint{f.Client, f.ClientAddr.WithZone(""), f.Interface})
	if err != nil {
		return 0, row, err
	}
	w.endpoints.mark(endpointID)
	start = min(max(f.Start, 0), maxTime)
	row = [flowColumns]driver.Value{
		start<<idShift | w.number,
		min(max(f.End-start, 0), maxTime),
		endpointID,
		nameID,
		facts(f),
		appID,
		addrBytes(f.Remote),
		int64(min(f.Sent, maxBytes)),
		int64(min(f.Recvd, maxBytes)),
		batch,
	}
	w.number = (w.number + 1) & (1<<idShift - 1)
	return start, row, nil
}

// insertAll inserts the flows in w.args, of which there are manyRows.
func (w *writer) insertAll(ctx context.Context) error {
	_, err := w.exec(ctx, w.insertMany, w.args)
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT {
		return w.insertEach(ctx) // one has an id that is taken, and none was inserted
	}
	w.args, w.starts = w.args[:0], w.starts[:0]
	return err
}

// insertEach inserts the flows in w.args one by one.
func (w *writer) insertEach(ctx context.Context) error {
	for i, start := range w.starts {
		args := w.args[i*flowColumns : (i+1)*flowColumns]
		for j := range args {
			args[j].Ordinal = j + 1
		}
		if _, err := w.insertAt(ctx, start, args); err != nil {
			return err
		}
	}
	w.args, w.starts = w.args[:0], w.starts[:0]
	return nil
}

// insertAt inserts a flow under its id or, if that is taken, the next free one
// of the millisecond start, or of a later one if there is none. It returns the
// id.
func (w *writer) insertAt(ctx context.Context, start int64, args []driver.NamedValue) (id int64, err error) {
	ok, err := w.tryInsert(ctx, args)
	for ; err == nil && !ok; start++ {
		var last sql.NullInt64
		first, end := start<<idShift, start<<idShift|(1<<idShift-1)
		if err = w.last.QueryRowContext(ctx, first, end).Scan(&last); err != nil {
			return 0, err
		}
		if id := max(first, last.Int64+1); id <= end {
			args[0].Value = id
			ok, err = w.tryInsert(ctx, args)
		}
	}
	return args[0].Value.(int64), err
}

// tryInsert inserts the flow unless there is one with its id.
func (w *writer) tryInsert(ctx context.Context, args []driver.NamedValue) (ok bool, err error) {
	n, err := w.exec(ctx, w.insertOne, args)
	return n == 1, err
}

// exec runs a statement of the driver and returns how many rows it changed.
func (w *writer) exec(ctx context.Context, stmt driver.Stmt, args []driver.NamedValue) (n int64, err error) {
	err = w.conn.Raw(func(any) error {
		r, err := stmt.(driver.StmtExecContext).ExecContext(ctx, args)
		if err != nil {
			return err
		}
		n, err = r.RowsAffected()
		return err
	})
	return n, err
}

// deleteOldest deletes flows in excess of the limit, not more at a time than
// keep a batch short. The flows just added are not in s.flows yet.
func (s *Store) deleteOldest(ctx context.Context, added int64) (int64, error) {
	limit := s.maxFlows.Load()
	excess := s.flows.Load() + added - limit
	if limit == 0 || excess <= 0 {
		return 0, nil
	}
	n := min(excess, 2*added+1000)
	var last int64
	err := s.w.conn.QueryRowContext(ctx, "SELECT id FROM flows WHERE NOT EXISTS (SELECT 1 FROM tracked WHERE tracked.flow = flows.id) ORDER BY id LIMIT 1 OFFSET ?", n-1).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find the oldest flows: %w", err)
	}
	const past = " <= ? AND NOT EXISTS (SELECT 1 FROM tracked WHERE tracked.flow = "
	r, err := s.w.conn.ExecContext(ctx, "DELETE FROM flows WHERE id"+past+"flows.id)", last)
	if err != nil {
		return 0, fmt.Errorf("delete the oldest flows: %w", err)
	}
	if _, err := s.w.conn.ExecContext(ctx, "DELETE FROM hours WHERE flow"+past+"hours.flow)", last); err != nil {
		return 0, fmt.Errorf("delete the oldest flows' hours: %w", err)
	}
	return r.RowsAffected()
}

// A WAL that has outgrown its usual size by so much is one that queries, each
// begun before the last has ended, keep from being started over.
const drainSize = 16 << 20

// drain starts the WAL over if it has grown too large: queries that begin now
// wait until those that run have ended. It does not keep the writer waiting.
func (s *Store) drain() {
	fi, err := os.Stat(s.path + "-wal")
	if err != nil || fi.Size() < drainSize || !s.draining.CompareAndSwap(false, true) {
		return
	}
	s.tasks.Go(func() {
		defer s.draining.Store(false)
		s.querying.Lock()
		defer s.querying.Unlock()
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		// A backup or a slice that is moved may be reading: that is not waited for.
		_, err := s.w.conn.ExecContext(context.Background(), "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)")
		_, e := s.w.conn.ExecContext(context.Background(), "PRAGMA busy_timeout = 5000")
		if err = errors.Join(err, e); err != nil {
			s.log.Warn("cannot shorten the database's WAL", "path", s.path, "error", err)
		}
	})
}
