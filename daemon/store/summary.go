package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pakon/daemon/client"
)

// SummaryQuery asks for sums over flows.
type SummaryQuery struct {
	Filter
	// By is one or two of "client", "hostname", "hour", "day", "week" (from
	// Monday) and "month".
	By []string
	// Limit is the number of rows: those with the most bytes. 0 means
	// DefaultLimit, more than MaxLimit means MaxLimit.
	Limit int
	// Location is where hours, days, weeks and months are told; nil means UTC.
	Location *time.Location
}

// SummaryRow is the sum of the flows that have in common what was asked for;
// what was not asked for is empty.
type SummaryRow struct {
	Client     client.MAC
	ClientAddr netip.Addr // instead of a MAC that is not known
	Hostname   string     // the group, else the name, else the remote address
	// Starts of hour, day, week and month, Unix ms.
	Hour, Day, Week, Month int64

	Sent, Recvd uint64
	Flows       int64
	Duration    int64 // seconds
}

// Total is what a client sent and received.
type Total struct {
	Sent, Recvd uint64 // bytes
	First, Last int64  // start of the first and end of the last flow, Unix ms
}

// maxTotals bounds the clients of Totals: whoever makes up MACs makes many.
const maxTotals = 4096

// Totals sums up the flows of each client that ended at or after since (Unix
// ms), in both directions and with hidden names. Of very many clients those
// with the most bytes are told. The zero MAC stands for all clients whose MAC
// is not known.
func (s *Store) Totals(ctx context.Context, since int64) (map[client.MAC]Total, error) {
	s.querying.RLock()
	defer s.querying.RUnlock()
	totals, err := s.totals(ctx, Filter{Start: since, All: true, Out: true, In: true}.normal())
	if err != nil {
		return nil, fmt.Errorf("sum up the clients in %s: %w", s.path, err)
	}
	return totals, nil
}

func (s *Store) totals(ctx context.Context, f Filter) (map[client.MAC]Total, error) {
	c, err := f.condition(s.batch.Load())
	if err != nil {
		return nil, err
	}
	spans, err := f.spans(ctx, s.read)
	if err != nil {
		return nil, err
	}
	flows, args := selectFlows(`CASE WHEN length(e.client) = 6 THEN e.client END AS client, f.sent AS sent, f.recvd AS recvd, f.id AS id, (f.id >> 12) + f.duration AS ended`, joinAll, spans, c)
	rows, err := s.read.QueryContext(ctx, `SELECT client, sum(sent), sum(recvd), min(id), max(ended) FROM (`+flows+`)
		GROUP BY client ORDER BY sum(sent + recvd) DESC LIMIT ?`, append(args, maxTotals)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	totals := make(map[client.MAC]Total)
	for rows.Next() {
		var owner sql.RawBytes
		var t Total
		if err := rows.Scan(&owner, &t.Sent, &t.Recvd, &t.First, &t.Last); err != nil {
			return nil, err
		}
		t.First >>= idShift
		totals[mac(owner)] = t
	}
	return totals, rows.Err()
}

// Summary sums up flows. A flow counts into the hour (day, ...) in which it
// began, or the first of the filter's window if it began before; its bytes into
// those in which they moved, where that is known: see table hours. The rows come
// in order of time if they are by time, else those with the most bytes first.
func (s *Store) Summary(ctx context.Context, q SummaryQuery) ([]SummaryRow, error) {
	s.querying.RLock()
	defer s.querying.RUnlock()
	rows, err := s.summary(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("sum up the flows in %s: %w", s.path, err)
	}
	return rows, nil
}

// by is what a summary is by: columns of the statement and units of time.
type by struct {
	client, hostname bool
	units            []unit
}

func parseBy(keys []string) (b by, err error) {
	if len(keys) < 1 || len(keys) > 2 || len(keys) == 2 && keys[0] == keys[1] {
		return b, fmt.Errorf("by %q: want one or two different keys", keys)
	}
	for _, k := range keys {
		switch u, ok := unitNames[k]; {
		case ok:
			b.units = append(b.units, u)
		case k == "client":
			b.client = true
		case k == "hostname":
			b.hostname = true
		default:
			return b, fmt.Errorf("by %q: want client, hostname, hour, day, week or month", k)
		}
	}
	return b, nil
}

func (s *Store) summary(ctx context.Context, q SummaryQuery) ([]SummaryRow, error) {
	b, err := parseBy(q.By)
	if err != nil {
		return nil, err
	}
	if q.Limit <= 0 {
		q.Limit = DefaultLimit
	}
	q.Limit = min(q.Limit, MaxLimit)
	if q.Location == nil {
		q.Location = time.UTC
	}
	q.Filter = q.Filter.normal()
	c, err := q.condition(s.batch.Load())
	if err != nil {
		return nil, err
	}
	spans, err := q.spans(ctx, s.read)
	if err != nil {
		return nil, err
	}
	if len(b.units) == 0 {
		return s.sum(ctx, b, q.Limit, spans, c, part{q.Start, q.Start, q.End}, SummaryRow{})
	}
	return s.summaryByTime(ctx, b, q, spans, c)
}

// summaryByTime sums up one period after the other: the table is in order of
// time, so each is a part of it, whatever the clocks of the place do.
func (s *Store) summaryByTime(ctx context.Context, b by, q SummaryQuery, spans []span, c condition) ([]SummaryRow, error) {
	var all []SummaryRow
	for start := q.Start; ; {
		// The first period of a window has the flows that began before, too.
		// All others have those that begin in them; skip where there are none.
		if start > q.Start || q.Start == 0 {
			var next, moved sql.NullInt64
			err := s.read.QueryRowContext(ctx, "SELECT (SELECT min(id) FROM flows WHERE id >= ?), (SELECT min(hour) FROM hours WHERE hour >= ?)",
				start<<idShift, start).Scan(&next, &moved)
			if err != nil {
				return nil, err
			}
			if !next.Valid && !moved.Valid {
				break
			}
			next.Int64 >>= idShift
			if !next.Valid || moved.Valid && moved.Int64 < next.Int64 {
				next = moved
			}
			start = next.Int64
			spans = []span{{table: "flows AS f"}}
			spans[0].and("f.id >= ?", start<<idShift)
		}
		if q.End > 0 && start >= q.End || start > maxTime {
			break
		}
		row, end := label(start, b.units, q.Location)
		period := condition{sql: slices.Clone(c.sql), args: slices.Clone(c.args)}
		if q.End > 0 {
			end = min(end, q.End)
		}
		period.and("f.id < ?", end<<idShift)
		rows, err := s.sum(ctx, b, q.Limit, spans, period, part{max(row.time(), q.Start), q.Start, end}, row)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
		if len(all) >= 2*q.Limit {
			all = largest(all, q.Limit)
		}
		start = end
	}
	all = largest(all, q.Limit)
	slices.SortStableFunc(all, func(a, b SummaryRow) int {
		return cmp.Or(cmp.Compare(a.time(), b.time()), moreBytes(a, b))
	})
	return all, nil
}

func (r SummaryRow) time() int64 { return max(r.Hour, r.Day, r.Week, r.Month) }

func moreBytes(a, b SummaryRow) int { return cmp.Compare(b.Sent+b.Recvd, a.Sent+a.Recvd) }

// largest keeps the n rows with the most bytes.
func largest(rows []SummaryRow, n int) []SummaryRow {
	slices.SortStableFunc(rows, moreBytes)
	return rows[:min(n, len(rows))]
}

// part is a part [start, end) of the window of a query that begins at window, in
// Unix ms; an end of 0 is none.
type part struct{ start, window, end int64 }

// selectHours are the statements that put right what whole flows count: what of
// the flows that begin in the part moved after it, and what moved in it of flows
// that began before.
func (p part) selectHours(c condition) (sql string, args []any) {
	add := func(sign string, w condition) {
		sql += " UNION ALL SELECT e.client, " + shownColumn + ", " + sign + "h.sent, " + sign + "h.recvd, 0, 0 FROM hours AS h CROSS JOIN flows AS f ON f.id = h.flow" +
			joinAll + " WHERE " + w.String() + " AND " + c.String()
		args = append(append(args, w.args...), c.args...)
	}
	if p.end > 0 {
		var after condition
		after.and("h.hour >= ? AND f.id >= ? AND f.id < ?", p.end, p.whole()<<idShift, p.end<<idShift)
		add("-", after)
	}
	if p.start > p.window {
		var before condition
		before.and("h.hour >= ? AND h.hour < ? AND f.id < ?", p.start, p.end, p.start<<idShift)
		add("", before)
	}
	return sql, args
}

// whole is the start from which flows count with all their bytes, but those of
// later parts: in a window, also those that began less than an hour before.
func (p part) whole() int64 {
	if p.start > p.window {
		return p.start
	}
	return max(p.start-longFlow, 0)
}

// inside is what of a column counts: of flows that began earlier than whole, what
// is known of their hours in the part, or all if nothing is.
func (p part) inside(column string) string {
	if p.window == 0 || p.start > p.window {
		return "f." + column
	}
	end := p.end
	if end == 0 {
		end = 2 * maxTime
	}
	return fmt.Sprintf(`CASE WHEN f.id < %d AND EXISTS (SELECT 1 FROM hours AS h WHERE h.flow = f.id)
		THEN (SELECT coalesce(sum(h.%s), 0) FROM hours AS h WHERE h.flow = f.id AND h.hour > %d AND h.hour < %d)
		ELSE f.%s END`, p.whole()<<idShift, column, p.window-longFlow, end, column)
}

// sum sums up the flows of spans, which are those of the part, into rows that
// have the times of row.
func (s *Store) sum(ctx context.Context, b by, limit int, spans []span, c condition, p part, row SummaryRow) ([]SummaryRow, error) {
	columns, group := []string{"NULL", "NULL"}, []string{}
	if b.client {
		columns[0], group = "client", append(group, "client")
	}
	if b.hostname {
		columns[1], group = "shown", append(group, "shown")
	}
	groupBy := ""
	if len(group) > 0 {
		groupBy = " GROUP BY " + strings.Join(group, ", ")
	}
	flows, args := selectFlows(`e.client AS client, `+shownColumn+` AS shown, `+p.inside("sent")+` AS sent, `+p.inside("recvd")+` AS recvd, `+
		seconds+` AS seconds, 1 AS one`, joinAll, spans, c)
	hours, more := p.selectHours(c)
	flows, args = flows+hours, append(args, more...)
	result, err := s.read.QueryContext(ctx, `SELECT `+strings.Join(columns, ", ")+`,
		sum(sent) AS sent, sum(recvd) AS recvd, sum(one) AS flows, sum(seconds) AS seconds
		FROM (`+flows+`)`+groupBy+` HAVING count(*) > 0 ORDER BY sum(sent + recvd) DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	var rows []SummaryRow
	for result.Next() {
		var owner sql.RawBytes
		var shown any
		r := row
		if err := result.Scan(&owner, &shown, &r.Sent, &r.Recvd, &r.Flows, &r.Duration); err != nil {
			return nil, err
		}
		r.Client = mac(owner)
		if r.Client.IsZero() {
			r.ClientAddr = addr(owner)
		}
		switch s := shown.(type) {
		case string:
			r.Hostname = s
		case []byte:
			if a := addr(s); a.IsValid() {
				r.Hostname = a.String()
			}
		}
		rows = append(rows, r)
	}
	return rows, result.Err()
}
