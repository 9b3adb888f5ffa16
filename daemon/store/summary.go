package store

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
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
	Unnamed     uint64 // bytes, sent and received, to far ends of which only address and port are known
	Hidden      uint64 // bytes, likewise, of flows that were left out for their names; not by hostname
	Flows       int64
	Duration    int64 // seconds
}

// Total is what a client sent and received.
type Total struct {
	Sent, Recvd uint64 // bytes
	First, Last int64  // start of the first and end of the last flow, Unix ms
}

// maxTotals bounds the clients of Totals that nobody knows: whoever makes up MACs
// makes many.
const maxTotals = 4096

// Totals are the sums of clients.
type Totals struct {
	Of map[client.ID]Total
	// Others are the clients of which there is no sum, as there are too many, and their
	// bytes.
	Others      int
	Sent, Recvd uint64
}

// Totals sums up the flows of each client that ended at or after since (Unix
// ms), in both directions and with hidden names; bytes are those after since, as
// in a query's window. Of very many clients the known ones are told, and those with
// the most bytes of the others.
func (s *Store) Totals(ctx context.Context, since int64, known func(client.ID) bool) (Totals, error) {
	s.querying.RLock()
	defer s.querying.RUnlock()
	totals, err := s.totals(ctx, Filter{Start: since, All: true, Out: true, In: true}.normal(), known)
	if err != nil {
		return Totals{}, fmt.Errorf("sum up the clients in %s: %w", s.path, err)
	}
	return totals, nil
}

func (s *Store) totals(ctx context.Context, f Filter, known func(client.ID) bool) (Totals, error) {
	u := summing{by: by{client: true}, periods: periods{first: f.Start}}
	g, err := s.newGatherer(f, s.batch.Load(), true, mostBytes(maxTotals), u.take)
	if err != nil {
		return Totals{}, err
	}
	id := func(m *sum) client.ID {
		e := g.texts.endpoints.values[m.client]
		return client.IDOf(e.MAC, e.Address)
	}
	g.always = func(m *sum) bool { return known(id(m)) }
	if err := g.gather(ctx); err != nil {
		return Totals{}, err
	}
	sums := append(g.kept, g.front.sums...)
	t := Totals{Of: make(map[client.ID]Total, len(sums)), Others: g.all.sums - len(sums), Sent: g.all.sent, Recvd: g.all.recvd}
	for i := range sums {
		m := &sums[i]
		t.Of[id(m)] = Total{m.sent, m.recvd, m.id >> idShift, m.end}
		t.Sent, t.Recvd = t.Sent-m.sent, t.Recvd-m.recvd
	}
	return t, nil
}

// Summary sums up flows. A flow, and its duration, counts into the hour (day, ...)
// in which it began, or the first of the filter's window if it began before. Its
// bytes count if they are inside the window, see Filter: those of each hour into
// the period in which the hour begins, or likewise the first; those of its first
// hour, or all if its hours are not known, where the flow counts. The rows come
// in order of time if they are by time, else those with the most bytes first.
// hidden are the flows that were left out for their names. By client they have
// rows, too: of one whose flows are all hidden, a row without flows.
func (s *Store) Summary(ctx context.Context, q SummaryQuery) (rows []SummaryRow, hidden Count, err error) {
	s.querying.RLock()
	defer s.querying.RUnlock()
	if rows, hidden, err = s.summary(ctx, q); err != nil {
		return nil, Count{}, fmt.Errorf("sum up the flows in %s: %w", s.path, err)
	}
	return rows, hidden, nil
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

func (s *Store) summary(ctx context.Context, q SummaryQuery) ([]SummaryRow, Count, error) {
	b, err := parseBy(q.By)
	if err != nil {
		return nil, Count{}, err
	}
	if q.Limit <= 0 {
		q.Limit = DefaultLimit
	}
	q.Limit = min(q.Limit, MaxLimit)
	if q.Location == nil {
		q.Location = time.UTC
	}
	g, err := s.sumUp(ctx, q.Filter.normal(), b, q.Location, q.Limit)
	if err != nil {
		return nil, Count{}, err
	}
	sums, t := g.front.sorted(), g.texts
	rows := make([]SummaryRow, len(sums))
	for i, m := range sums {
		r := &rows[i]
		if len(b.units) > 0 {
			*r, _ = label(m.of, b.units, q.Location)
		}
		if b.client {
			e := t.endpoints.values[m.client]
			r.Client, r.ClientAddr = e.MAC, e.Address
		}
		if b.hostname {
			r.Hostname = t.shown(m.shown)
		}
		r.Sent, r.Recvd, r.Flows, r.Duration, r.Hidden = m.sent, m.recvd, int64(m.flows), m.seconds, m.hidden
		if r.Unnamed = m.unnamed; b.hostname && (m.shown&isAddress != 0 || name.OfPort(r.Hostname)) {
			r.Unnamed = m.sent + m.recvd
		}
	}
	slices.SortStableFunc(rows, func(a, b SummaryRow) int {
		return cmp.Or(cmp.Compare(a.time(), b.time()), moreBytes(a, b))
	})
	return rows, g.hidden, nil
}

func (r SummaryRow) time() int64 { return max(r.Hour, r.Day, r.Week, r.Month) }

func moreBytes(a, b SummaryRow) int { return cmp.Compare(b.Sent+b.Recvd, a.Sent+a.Recvd) }

// mostBytes is a front of the sums with the most bytes.
func mostBytes(limit int) front {
	return front{limit: limit, sort: ByTotal, descending: true, after: position{first: true}}
}

// sumUp sums up the flows of f by what is asked for. The gatherer has the sums with
// the most bytes, at most limit.
func (s *Store) sumUp(ctx context.Context, f Filter, b by, loc *time.Location, limit int) (*gatherer, error) {
	u := summing{by: b, periods: periods{units: b.units, loc: loc, first: f.Start}}
	g, err := s.newGatherer(f, s.batch.Load(), true, mostBytes(limit), u.take)
	if err != nil {
		return nil, err
	}
	// Only of far ends there are very many; what of these has no name, their own shows.
	if g.table.lean = b.hostname; g.table.lean && s.maxGroups == 0 {
		g.maxGroups = maxLean
	}
	if !slices.Contains(b.units, hour) && len(f.Hostnames) == 0 {
		// A day of another zone may lie in two periods. It is asked while flows are
		// summed up.
		whole := u.periods
		g.daily = func(d span64) bool { return whole.of(d.from) == whole.of(d.to-1) }
	}
	return g, g.gather(ctx)
}

// summing adds flows to the sums of a summary.
type summing struct {
	by      by
	periods periods
}

func (u *summing) take(g *gatherer) {
	r := &g.reading
	for i := range r.Flows {
		f := &r.Flows[i]
		if !g.match.means(f) {
			continue
		}
		hidden := g.match.hides(f)
		if hidden && !u.hidden(g, f) {
			continue
		}
		// The flow counts where it began, its bytes where they moved.
		hours := r.HoursOf(f)
		p := piece{start: f.Start(), seconds: int64(secondsOf(f)), flows: f.Flows, hidden: hidden}
		p.unnamed = byAddress(f.Name == 0, name.Source(f.Source)) || r.classes[f.Name].addr.IsValid()
		p.sent, p.recvd = g.window.base(f, hours)
		if u.by.client {
			p.hash = r.hashClient(f)
		}
		if u.by.hostname {
			p.hash = mix(p.hash, r.hashShown(f))
		}
		u.add(g, f, p)
		for k := range hours {
			if h := &hours[k]; g.window.has(h) && h.Sent+h.Recvd > 0 {
				u.add(g, f, piece{hash: p.hash, unnamed: p.unnamed, hidden: hidden, start: h.Start, sent: h.Sent, recvd: h.Recvd})
			}
		}
	}
}

// hidden counts a flow that is left out for its name. It returns whether the sums
// say how much of that there is.
func (u *summing) hidden(g *gatherer, f *block.Flow) bool {
	if !g.again {
		sent, recvd := g.window.inside(f, g.reading.HoursOf(f))
		g.hidden.add(f.Flows, sent, recvd)
	}
	return u.by.client && !u.by.hostname
}

// piece is a part of a flow that counts into one period.
type piece struct {
	hash        uint64 // of what the flow counts into
	unnamed     bool   // only address and port of the far end are known
	hidden      bool   // it is left out for its name
	start       int64  // Unix ms
	seconds     int64
	flows       uint32
	sent, recvd uint64
}

func (u *summing) add(g *gatherer, f *block.Flow, p piece) {
	of := u.periods.of(p.start)
	hash := uint32(mix(p.hash, uint64(of)))
	if !g.share.has(hash) {
		return
	}
	client, shown := uint32(differs), uint32(differs)
	if u.by.client {
		client = g.reading.client(f)
	}
	if u.by.hostname {
		shown = g.reading.shown(f)
	}
	n, isNew := g.table.find(hash, client, shown, of)
	if !g.table.lean {
		s := g.table.sum(n)
		if isNew {
			s.endpoint, s.name, s.app, s.remote = differs, differs, differs, differs
		}
		s.end = max(s.end, f.End())
		switch {
		case p.hidden:
			s.hidden += p.sent + p.recvd
		case p.unnamed:
			s.unnamed += p.sent + p.recvd
		}
	}
	s := g.table.at(n)
	if isNew {
		s.id = f.ID
	}
	s.id = min(s.id, f.ID)
	if !p.hidden {
		s.sent += p.sent
		s.recvd += p.recvd
		s.seconds += p.seconds
		s.flows = plus32(s.flows, p.flows)
	}
	if isNew {
		g.full()
	}
}

// periods tell the periods of time that a summary is by.
type periods struct {
	units []unit
	loc   *time.Location
	first int64 // what is before that, counts into its period; Unix ms
	known [64]period
}

// period is [start, end), Unix ms.
type period struct{ start, end int64 }

// of is the start of the period that a time lies in, both Unix ms; 0 if the
// summary is not by time.
func (p *periods) of(ms int64) int64 {
	if len(p.units) == 0 {
		return 0
	}
	ms = max(ms, p.first)
	// Flows come nearly in order of time, but their hours jump.
	k := &p.known[uint64(ms)/hourLong%uint64(len(p.known))]
	if ms < k.start || ms >= k.end {
		row, end := label(ms, p.units, p.loc)
		*k = period{row.time(), end}
	}
	return k.start
}
