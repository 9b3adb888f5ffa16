package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
)

// Filter says which flows are meant.
type Filter struct {
	// Start and End bound a window of time, [Start, End), in Unix ms; 0 means
	// unbounded. A flow is in if it overlaps the window. Of its bytes, those are
	// in that it moved in hours that overlap the window, as far as it is known
	// (see table hours); else all. So a flow may be in with no bytes.
	Start, End int64
	// Clients are the clients meant; all if there is none. At most MaxTerms.
	Clients []client.ID
	// Hostnames are the names meant; all if there is none. A flow is in if its
	// name, its group or, where it has no name but what its port gave it, its remote
	// address is one of them, or its name a subdomain of one. Case and a trailing dot do not
	// matter. At most MaxTerms.
	Hostnames []string
	// All is whether to include the flows whose names are hidden. Those that have
	// moved more than 8 MiB always are.
	All bool
	// Out and In are the directions meant. Neither is the same as Out.
	Out, In bool
}

// MaxTerms bounds the clients and the hostnames of a filter.
const MaxTerms = 256

// Key is what flows are sorted by. Flows that are equal in it come in order of
// time.
type Key uint8

// The keys.
const (
	ByTime Key = iota // start
	BySent
	ByRecvd
	ByTotal    // sent and received
	ByDuration // in seconds
)

// The number of rows in a page.
const (
	DefaultLimit = 1000
	MaxLimit     = 10000
)

// Query asks for flows, page by page.
type Query struct {
	Filter
	Sort       Key
	Descending bool
	// Limit is the number of rows wanted: 0 means DefaultLimit, more than
	// MaxLimit means MaxLimit.
	Limit int
	// Cursor is Next of the page before, asked with the same filter, sort,
	// direction and Aggregate; empty for the first page.
	Cursor string
	// Aggregate puts the flows together: one row for each client, shown name
	// (group, else name, else remote address), port and protocol.
	Aggregate bool
}

// Row is a flow, or several put together. Sent and Recvd are the bytes inside the
// query's window; all else is of the whole flow. Of several, Start is the earliest, End the
// latest, Sent and Recvd are sums, and what differs between them is empty
// (Direction: Out). If the address of the far end was a name to some of them,
// it is the Name of all. State tells whether the connection, or one of several,
// is still running; Track is empty.
type Row struct {
	flow.Flow
	Group    string // what the name belongs to, "" if it has no group
	Hidden   bool   // the archive has put flows together that were hidden for their names
	Large    bool   // one of them at least is never hidden, see Large
	Flows    int64  // how many; also those that the archive has put together count
	Duration int64  // seconds, from the second of the start to that of the end; the sum if there are several

	key, id int64 // its place in the order
}

// Page is a part of a query's result.
type Page struct {
	Rows []Row
	Next string // cursor of the next page, empty if this is the last
}

// Flows returns a page of the flows that q asks for. No transaction is held
// between pages, and what was added after the first page is left out of those
// that follow. The error wraps ErrCursor if q.Cursor is not one for this query.
func (s *Store) Flows(ctx context.Context, q Query) (Page, error) {
	q = q.normal()
	after, err := s.position(q)
	if err != nil {
		return Page{}, err
	}
	if q.Sort > ByDuration {
		return Page{}, fmt.Errorf("sort key %d is not known", q.Sort)
	}
	rows, more, ok := s.ahead.take(ctx, q.Cursor, q.Limit)
	if !ok {
		rows, more, err = s.fetch(ctx, q, after)
		if err != nil {
			return Page{}, fmt.Errorf("query %s: %w", s.path, err)
		}
	}
	p, kept := s.page(q, after.batch, rows, more)
	if q.Cursor != "" && p.Next != "" && !kept && q.Limit <= aheadRows {
		q.Cursor = p.Next
		s.readAhead(q)
	}
	return p, nil
}

// readAhead reads the next page for one who has asked for a second: who walks
// through all then need not wait for each.
func (s *Store) readAhead(q Query) {
	after, err := s.position(q)
	if err != nil {
		return // the cursor is ours; should it be wrong, the one who uses it is told
	}
	keep := s.ahead.promise(q.Cursor)
	s.tasks.Go(func() {
		rows, more, err := s.fetch(context.Background(), q, after)
		keep(rows, more, err == nil)
	})
}

// page cuts a page from the front of rows and keeps the rest, if there is one,
// for the next page.
func (s *Store) page(q Query, batch int64, rows found, more bool) (p Page, kept bool) {
	n := min(q.Limit, rows.len())
	page, rest := rows.cut(n)
	if kept = rest.len() > 0; kept || more {
		key, id := page.last(q.Sort)
		p.Next = s.cursor(q, position{batch: batch, key: key, id: id})
		s.ahead.put(p.Next, rest, more)
	}
	if p.Rows = page.rows; page.texts != nil {
		p.Rows = s.rowsOf(page.sums, page.texts)
	}
	for i := range p.Rows {
		p.Rows[i].key, p.Rows[i].id = 0, 0 // so that equal flows are equal rows
	}
	return p, kept
}

func (q Query) normal() Query {
	if q.Limit <= 0 {
		q.Limit = DefaultLimit
	}
	q.Limit = min(q.Limit, MaxLimit)
	q.Filter = q.Filter.normal()
	return q
}

func (f Filter) normal() Filter {
	if !f.Out && !f.In {
		f.Out = true
	}
	f.Start, f.End = min(max(f.Start, 0), 2*maxTime+1), min(max(f.End, 0), maxTime+1)
	names := make([]string, len(f.Hostnames))
	for i, h := range f.Hostnames {
		names[i] = strings.ToLower(strings.TrimSuffix(h, "."))
	}
	f.Hostnames = names
	return f
}

// condition is a part of a WHERE clause with its arguments.
type condition struct {
	sql  []string
	args []any
}

func (c *condition) and(sql string, args ...any) {
	c.sql = append(c.sql, sql)
	c.args = append(c.args, args...)
}

func (c *condition) String() string {
	if len(c.sql) == 0 {
		return "1"
	}
	return strings.Join(c.sql, " AND ")
}

// condition is what a filter demands of a flow, its time apart.
func (f Filter) condition(batch int64) (condition, error) {
	var c condition
	if err := f.check(); err != nil {
		return c, err
	}
	c.and("f.batch <= ?", batch)
	if !f.All {
		c.and("(n.hidden IS NOT 1 OR f.sent + f.recvd > ?)", largeFlow)
	}
	f.whose(&c)
	if len(f.Hostnames) > 0 {
		var named, unnamed condition
		for _, h := range f.Hostnames {
			sub := "." + h
			named.and("name = ? OR shown = ? OR substr(name, ?) = ?", h, h, -len([]rune(sub)), sub)
			if a, err := netip.ParseAddr(h); err == nil {
				unnamed.and("(f.name IS NULL OR (f.facts >> 1 & 7) = ?) AND f.remote = ?", int64(name.Port), addrBytes(a.Unmap()))
			}
		}
		sql, args := "f.name IN (SELECT id FROM names WHERE "+named.or()+")", named.args
		if len(unnamed.sql) > 0 {
			sql, args = "("+sql+" OR "+unnamed.or()+")", append(args, unnamed.args...)
		}
		c.and(sql, args...)
	}
	return c, nil
}

// whose adds what a filter demands of a flow's client and direction.
func (f Filter) whose(c *condition) {
	if f.Out != f.In {
		direction := flow.Out
		if f.In {
			direction = flow.In
		}
		c.and("f.facts & 1 = ?", int64(direction))
	}
	if len(f.Clients) > 0 {
		var either condition
		for _, who := range f.Clients {
			either.ofClient(who)
		}
		c.and("f.endpoint IN (SELECT id FROM endpoints WHERE "+either.or()+")", either.args...)
	}
}

// ofClient adds that the column client is a client's; the zero one stands for all
// without a MAC.
func (c *condition) ofClient(who client.ID) {
	if who == (client.ID{}) {
		c.and("length(client) <> 6")
		return
	}
	c.and("client = ?", ownerOf(who))
}

func (c *condition) or() string { return strings.Join(c.sql, " OR ") }

// longFlow is the duration in ms from which a flow is in the index long_flows.
const longFlow = 3_600_000

// span is a part of the table of flows that a window of time reaches.
type span struct {
	table string
	condition
}

// spans are the parts of the table where the flows of a window are found whose
// ids are in [lo, hi). A flow that overlaps the window but began more than
// longFlow earlier is long, and so in an index; long tells whether to look there.
// Bounds are one each: SQLite goes by the first that it meets.
func (f Filter) spans(lo, hi int64, long bool) []span {
	if f.End > 0 {
		hi = min(hi, f.End<<idShift)
	}
	if f.End > 0 && f.End <= f.Start {
		hi = lo
	}
	table := span{table: "flows AS f"}
	if f.Start == 0 {
		table.and("f.id >= ? AND f.id < ?", lo, hi)
		return []span{table}
	}
	from := max(f.Start-longFlow, 0) << idShift
	table.and("f.id >= ? AND f.id < ? AND (f.id >> 12) + f.duration >= ?", max(lo, from), hi, f.Start)
	if !long {
		return []span{table}
	}
	older := span{table: "flows AS f INDEXED BY long_flows"}
	older.and("f.duration >= 3600000 AND f.id >= ? AND f.id < ? AND (f.id >> 12) + f.duration >= ?", lo, min(from, hi), f.Start)
	return []span{table, older}
}

// hasLong tells whether long flows reach into the window that began more than
// longFlow before it.
func (f Filter) hasLong(ctx context.Context, db querier) (exists bool, err error) {
	if f.Start == 0 {
		return false, nil
	}
	older := f.spans(0, noBound, true)[1]
	err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+older.table+" WHERE "+older.String()+")", older.args...).Scan(&exists)
	if err != nil {
		return false, fmt.Errorf("look for long flows: %w", err)
	}
	return exists, nil
}

// joinNames joins the names of flows.
const joinNames = " LEFT JOIN names AS n ON n.id = f.name"

// selectFlows is a SELECT of columns from all spans.
func selectFlows(columns, joins string, spans []span, c condition) (sql string, args []any) {
	parts := make([]string, len(spans))
	for i, s := range spans {
		parts[i] = "SELECT " + columns + " FROM " + s.table + joins + " WHERE " + s.String() + " AND " + c.String()
		args = append(append(args, s.args...), c.args...)
	}
	return strings.Join(parts, " UNION ALL "), args
}

// fetch reads the rows that follow after: as many as a page needs, or more
// where finding the next page would be as dear as finding this one. more tells
// whether there are still others.
func (s *Store) fetch(ctx context.Context, q Query, after position) (rows found, more bool, err error) {
	s.querying.RLock()
	defer s.querying.RUnlock()
	if q.Aggregate || q.Sort != ByTime {
		ahead := walkRows
		if after.first {
			ahead = aheadRows
		}
		return s.fetchSums(ctx, q, after, max(q.Limit, ahead))
	}
	if rows.rows, err = s.fetchByTime(ctx, q, after, q.Limit+1); err != nil {
		return rows, false, err
	}
	if more = len(rows.rows) > q.Limit; more {
		rows.rows = rows.rows[:q.Limit]
	}
	return rows, more, nil
}

// noBound is an id after all others.
const noBound = 1<<63 - 1

// fetchByTime reads the first rows, at most limit, in order of time.
func (s *Store) fetchByTime(ctx context.Context, q Query, after position, limit int) ([]Row, error) {
	c, err := q.condition(after.batch)
	if err != nil {
		return nil, err
	}
	long, err := q.hasLong(ctx, s.read)
	if err != nil {
		return nil, err
	}
	lo, hi := int64(0), int64(noBound)
	switch {
	case after.first:
	case q.Descending:
		hi = after.id
	default:
		lo = after.id + 1
	}
	statement := func(lo, hi int64, c condition) (string, []any) {
		query, args := flowRows(q, q.spans(lo, hi, long), c)
		return query, append(args, limit)
	}
	query, _ := statement(lo, hi, c)
	// Before the view, which holds a connection that this may need.
	kept, err := s.prepared.get(ctx, s.read, query)
	if err != nil {
		return nil, err
	}
	since := s.known.now()
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	defer v.close()
	if v.moving != nil {
		v.current(&c)
		kept = nil
	}
	if q.Descending {
		query, args := statement(lo, hi, c)
		live, err := s.readRows(ctx, v.live, q, kept, query, args, since)
		if err != nil {
			return nil, err
		}
		if len(live) == limit {
			lo = live[limit-1].id
		}
		archived, err := s.archivedRows(ctx, v, q, lo, hi, limit)
		return mergeRows(archived, live, true, limit), err
	}
	archived, err := s.archivedRows(ctx, v, q, lo, hi, limit)
	if err != nil {
		return nil, err
	}
	if len(archived) == limit {
		hi = archived[limit-1].id
	}
	query, args := statement(lo, hi, c)
	live, err := s.readRows(ctx, v.live, q, kept, query, args, since)
	return mergeRows(archived, live, false, limit), err
}

// readRows reads all rows of a statement for q, which may be prepared already.
// since is what s.known.now said before tx began.
func (s *Store) readRows(ctx context.Context, tx *sql.Tx, q Query, kept *sql.Stmt, query string, args []any, since int) ([]Row, error) {
	var stmt *sql.Stmt
	var err error
	if kept != nil {
		stmt = tx.StmtContext(ctx, kept)
	} else if stmt, err = tx.PrepareContext(ctx, query); err != nil {
		return nil, err
	}
	result, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	flows := newFlowScanner()
	var rows []Row
	for result.Next() {
		rows = append(rows, Row{})
		if err := flows.scan(result, &rows[len(rows)-1]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(result.Err(), result.Close()); err != nil {
		return nil, err
	}
	for i := range rows {
		if s.w.tracker.runs(rows[i].id) {
			rows[i].State = flow.Running
		}
	}
	if err := cutRows(ctx, tx, q.window(), rows); err != nil {
		return nil, err
	}
	return rows, s.known.resolve(ctx, tx, since, rows, flows.refs)
}

// cutRows leaves to the rows only the bytes that are known to lie inside the
// window.
func cutRows(ctx context.Context, tx *sql.Tx, w window, rows []Row) error {
	var hoursOf *sql.Stmt
	var hours []block.Hour
	for i := range rows {
		r := &rows[i]
		if r.Start >= w.start && r.End < w.end {
			continue
		}
		if hoursOf == nil {
			var err error
			if hoursOf, err = tx.PrepareContext(ctx, "SELECT hour, sent, recvd FROM hours WHERE flow = ? ORDER BY hour"); err != nil {
				return err
			}
			defer hoursOf.Close()
		}
		var err error
		if hours, err = readHours(ctx, hoursOf, r.id, hours[:0]); err != nil {
			return fmt.Errorf("read the hours of flow %d: %w", r.id, err)
		}
		f := block.Flow{ID: r.id, Duration: r.End - r.Start, Sent: r.Sent, Recvd: r.Recvd}
		r.Sent, r.Recvd = w.inside(&f, hours)
	}
	return nil
}

// readHours appends what a flow moved in the hours after its first.
func readHours(ctx context.Context, hoursOf *sql.Stmt, id int64, hours []block.Hour) ([]block.Hour, error) {
	rows, err := hoursOf.QueryContext(ctx, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h block.Hour
		var sent, recvd int64
		if err := rows.Scan(&h.Start, &sent, &recvd); err != nil {
			return nil, err
		}
		h.Sent, h.Recvd = uint64(sent), uint64(recvd)
		hours = append(hours, h)
	}
	return hours, errors.Join(rows.Err(), rows.Close())
}

// flowRows is the statement for single flows, in order of time. What they refer
// to is looked up afterwards: it repeats.
func flowRows(q Query, spans []span, c condition) (string, []any) {
	order := " ORDER BY id LIMIT ?"
	if q.Descending {
		order = " ORDER BY id DESC LIMIT ?"
	}
	joins := ""
	if !q.All {
		joins = joinNames
	}
	query, args := selectFlows(columns, joins, spans, c)
	return query + order, args
}

// columns are those of a flow as it is read.
const columns = "f.id AS id, f.duration, f.endpoint, f.name, f.facts, f.app, f.remote, f.sent, f.recvd"

// flowScanner reads rows of these columns one after another.
type flowScanner struct {
	refs []references // of the rows read

	id, duration, facts, sent, recvd int64
	ref                              references
	remote                           sql.RawBytes
	columns                          []any // pointers to those above
}

func newFlowScanner() *flowScanner {
	s := &flowScanner{}
	s.columns = []any{&s.id, &s.duration, &s.ref.endpoint, &s.ref.name, &s.facts, &s.ref.app, &s.remote, &s.sent, &s.recvd}
	return s
}

func (s *flowScanner) scan(rows *sql.Rows, r *Row) error {
	if err := rows.Scan(s.columns...); err != nil {
		return err
	}
	s.refs = append(s.refs, s.ref)
	r.key, r.id = s.id, s.id
	unpackFacts(s.facts, &r.Flow)
	r.Start = s.id >> idShift
	r.End = r.Start + s.duration
	r.Remote = addr(s.remote)
	r.Sent, r.Recvd = uint64(s.sent), uint64(s.recvd)
	r.Flows, r.Large = 1, Large(&r.Flow)
	r.Duration = r.End/1000 - r.Start/1000
	return nil
}

// mac is the MAC in a column client, zero if there is an address in it.
func mac(b []byte) (m client.MAC) {
	if len(b) == len(m) {
		copy(m[:], b)
	}
	return m
}

// addr is a stored address.
func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
