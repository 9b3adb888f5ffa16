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
)

// Filter says which flows are meant.
type Filter struct {
	// Start and End bound a window of time, [Start, End), in Unix ms; 0 means
	// unbounded. A flow is in if it overlaps the window.
	Start, End int64
	// MACs are the clients meant; all if there is none. The zero MAC means the
	// clients whose MAC is not known. At most MaxTerms.
	MACs []client.MAC
	// Hostnames are the names meant; all if there is none. A flow is in if its
	// name, its group or, where it has no name, its remote address is one of
	// them, or its name a subdomain of one. Case and a trailing dot do not
	// matter. At most MaxTerms.
	Hostnames []string
	// All is whether to include the flows whose names are hidden.
	All bool
	// Out and In are the directions meant. Neither is the same as Out.
	Out, In bool
}

// MaxTerms bounds the MACs and the hostnames of a filter.
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

// Row is a flow, or several put together: then Start is the earliest, End the
// latest, Sent and Recvd are sums, and what differs between them is empty
// (Direction: Out). If the address of the far end was a name to some of them,
// it is the Name of all. State tells whether the connection, or one of several,
// is still running; Track is empty.
type Row struct {
	flow.Flow
	Group    string // what the name belongs to, "" if it has no group
	Flows    int64  // how many
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
	p := s.page(q, after.batch, rows, more)
	if q.Cursor != "" && p.Next != "" && len(rows) == len(p.Rows) && q.Limit <= aheadRows {
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

// page cuts a page from the front of rows and keeps the rest for the next one.
func (s *Store) page(q Query, batch int64, rows []Row, more bool) Page {
	n := min(q.Limit, len(rows))
	p := Page{Rows: rows[:n:n]}
	if n < len(rows) || more {
		last := &rows[n-1]
		p.Next = s.cursor(q, position{batch: batch, key: last.key, id: last.id})
		s.ahead.put(p.Next, rows[n:], more)
	}
	for i := range p.Rows {
		p.Rows[i].key, p.Rows[i].id = 0, 0 // so that equal flows are equal rows
	}
	return p
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
	if len(f.MACs) > MaxTerms || len(f.Hostnames) > MaxTerms {
		return c, fmt.Errorf("a filter takes at most %d MACs and %d hostnames", MaxTerms, MaxTerms)
	}
	c.and("f.batch <= ?", batch)
	if !f.All {
		c.and("n.hidden IS NOT 1")
	}
	if f.Out != f.In {
		direction := flow.Out
		if f.In {
			direction = flow.In
		}
		c.and("f.facts & 1 = ?", int64(direction))
	}
	if len(f.MACs) > 0 {
		var either condition
		for _, m := range f.MACs {
			if m.IsZero() {
				either.and("length(client) <> 6")
			} else {
				either.and("client = ?", m[:])
			}
		}
		c.and("f.endpoint IN (SELECT id FROM endpoints WHERE "+either.or()+")", either.args...)
	}
	if len(f.Hostnames) > 0 {
		var named, unnamed condition
		for _, h := range f.Hostnames {
			if h == "" {
				return c, errors.New("a hostname in a filter is empty")
			}
			sub := "." + h
			named.and("name = ? OR shown = ? OR substr(name, ?) = ?", h, h, -len([]rune(sub)), sub)
			if a, err := netip.ParseAddr(h); err == nil {
				unnamed.and("f.name IS NULL AND f.remote = ?", addrBytes(a))
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

func (c *condition) or() string { return strings.Join(c.sql, " OR ") }

// longFlow is the duration in ms from which a flow is in the index long_flows.
const longFlow = 3_600_000

// span is a part of the table of flows that a window of time reaches.
type span struct {
	table string
	condition
}

// spans are the parts of the table where the flows of a window are found. A
// flow that overlaps it but began more than longFlow earlier is long, and so in
// an index.
func (f Filter) spans(ctx context.Context, db *sql.DB) ([]span, error) {
	table := span{table: "flows AS f"}
	if f.End > 0 {
		table.and("f.id < ?", f.End<<idShift)
	}
	if f.Start == 0 {
		return []span{table}, nil
	}
	if f.End > 0 && f.End <= f.Start {
		table.and("0")
		return []span{table}, nil
	}
	from := max(f.Start-longFlow, 0) << idShift
	table.and("f.id >= ? AND (f.id >> 12) + f.duration >= ?", from, f.Start)
	long := span{table: "flows AS f INDEXED BY long_flows"}
	long.and("f.duration >= 3600000 AND f.id < ? AND (f.id >> 12) + f.duration >= ?", from, f.Start)
	var exists bool
	err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+long.table+" WHERE "+long.String()+")", long.args...).Scan(&exists)
	if err != nil {
		return nil, err
	}
	if !exists {
		return []span{table}, nil
	}
	return []span{table, long}, nil
}

// The tables that flows refer to, as selectFlows joins them.
const (
	joinNames = " LEFT JOIN names AS n ON n.id = f.name"
	joinAll   = " LEFT JOIN endpoints AS e ON e.id = f.endpoint" + joinNames + " LEFT JOIN apps AS a ON a.id = f.app"
)

// selectFlows is a SELECT of columns from all spans.
func selectFlows(columns, joins string, spans []span, c condition) (sql string, args []any) {
	parts := make([]string, len(spans))
	for i, s := range spans {
		parts[i] = "SELECT " + columns + " FROM " + s.table + joins + " WHERE " + s.String() + " AND " + c.String()
		args = append(append(args, s.args...), c.args...)
	}
	return strings.Join(parts, " UNION ALL "), args
}

// keys are the expressions over a flow by which Key sorts.
var keys = [...]string{
	ByTime:     "f.id",
	BySent:     "f.sent",
	ByRecvd:    "f.recvd",
	ByTotal:    "f.sent + f.recvd",
	ByDuration: seconds,
}

// seconds is a flow's duration as it is told.
const seconds = "((f.id >> 12) + f.duration) / 1000 - (f.id >> 12) / 1000"

// fetch reads the rows that follow after: as many as a page needs, or more
// where finding the next page would be as dear as finding this one. more tells
// whether there are still others.
func (s *Store) fetch(ctx context.Context, q Query, after position) (rows []Row, more bool, err error) {
	s.querying.RLock()
	defer s.querying.RUnlock()
	c, err := q.condition(after.batch)
	if err != nil {
		return nil, false, err
	}
	spans, err := q.spans(ctx, s.read)
	if err != nil {
		return nil, false, err
	}
	limit := q.Limit
	if q.Aggregate || q.Sort != ByTime {
		limit = max(limit, aheadRows)
	}
	statement := flowRows
	if q.Aggregate {
		statement = aggregateRows
	}
	query, args := statement(q, spans, c, after)
	if rows, err = s.readRows(ctx, q, query, append(args, limit+1)); err != nil {
		return nil, false, err
	}
	if more = len(rows) > limit; more {
		rows = rows[:limit]
	}
	return rows, more, nil
}

// readRows reads all rows of a statement for q.
func (s *Store) readRows(ctx context.Context, q Query, query string, args []any) ([]Row, error) {
	// Before the transaction, which holds a connection that this may need.
	kept, err := s.prepared.get(ctx, s.read, query)
	if err != nil {
		return nil, err
	}
	since := s.known.now()
	// One transaction: the flows and what they refer to are of the same moment.
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() // nothing was written
	var stmt *sql.Stmt
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
	flows := newFlowScanner(q.Sort != ByTime)
	scan := flows.scan
	if q.Aggregate {
		scan = scanAggregate
	}
	rows := make([]Row, 0, min(q.Limit, DefaultLimit)+1)
	for result.Next() {
		rows = append(rows, Row{})
		if err := scan(result, &rows[len(rows)-1]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(result.Err(), result.Close()); err != nil {
		return nil, err
	}
	if q.Aggregate {
		return rows, nil
	}
	for i := range rows {
		if s.w.tracker.runs(rows[i].id) {
			rows[i].State = flow.Running
		}
	}
	return rows, s.known.resolve(ctx, tx, since, rows, flows.refs)
}

// beyond is the condition that a row follows the position.
func (q Query) beyond(key, id string, after position) condition {
	var c condition
	switch {
	case after.first:
		c.and("1")
	case q.Descending:
		c.and("("+key+", "+id+") < (?, ?)", after.key, after.id)
	default:
		c.and("("+key+", "+id+") > (?, ?)", after.key, after.id)
	}
	return c
}

// order is the ORDER BY clause for the columns key and id.
func (q Query) order() string {
	if q.Descending {
		return " ORDER BY key DESC, id DESC"
	}
	return " ORDER BY key, id"
}

// flowRows is the statement for single flows. What they refer to is looked up
// afterwards: it repeats.
func flowRows(q Query, spans []span, c condition, after position) (string, []any) {
	columns := `f.id AS id, f.duration, f.endpoint, f.name, f.facts, f.app, f.remote, f.sent, f.recvd`
	order := q.order()
	if q.Sort == ByTime {
		// So written, SQLite sees that the table is in this order, and where in
		// it to begin.
		if !after.first {
			op := " > ?"
			if q.Descending {
				op = " < ?"
			}
			c.and("f.id"+op, after.id)
		}
		order = strings.Replace(order, "key", "id", 1)
		order = order[:strings.Index(order, ",")]
	} else {
		key := keys[q.Sort]
		columns += ", " + key + " AS key"
		b := q.beyond(key, "f.id", after)
		c.and(b.String(), b.args...)
	}
	joins := ""
	if !q.All {
		joins = joinNames
	}
	query, args := selectFlows(columns, joins, spans, c)
	return query + order + " LIMIT ?", args
}

// flowScanner reads the rows of flowRows one after another.
type flowScanner struct {
	refs []references // of the rows read

	keyed                    bool // there is a column key
	key, id, duration, facts int64
	sent, recvd              int64
	ref                      references
	remote                   sql.RawBytes
	columns                  []any // pointers to those above
}

func newFlowScanner(keyed bool) *flowScanner {
	s := &flowScanner{keyed: keyed}
	s.columns = []any{&s.id, &s.duration, &s.ref.endpoint, &s.ref.name, &s.facts, &s.ref.app, &s.remote, &s.sent, &s.recvd}
	if keyed {
		s.columns = append(s.columns, &s.key)
	}
	return s
}

func (s *flowScanner) scan(rows *sql.Rows, r *Row) error {
	if err := rows.Scan(s.columns...); err != nil {
		return err
	}
	s.refs = append(s.refs, s.ref)
	r.key, r.id = s.id, s.id
	if s.keyed {
		r.key = s.key
	}
	unpackFacts(s.facts, &r.Flow)
	r.Start = s.id >> idShift
	r.End = r.Start + s.duration
	r.Remote = addr(s.remote)
	r.Sent, r.Recvd = uint64(s.sent), uint64(s.recvd)
	r.Flows = 1
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
