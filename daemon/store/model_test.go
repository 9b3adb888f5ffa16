package store

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
)

// A model is what the store does, done plainly over a slice.
type model struct {
	flows    []flow.Flow
	hours    map[int64][]moved // of flows, by start, if these are known
	classify func(string) (string, bool)
}

// moved is what a flow moved in an hour after its first.
type moved struct {
	hour        int64
	sent, recvd uint64
}

// pieces are what is known of when a flow moved its bytes: the first is that of
// its first hour, or all. Those outside of the window are left out.
func (m model) pieces(f flow.Flow, w Filter) []moved {
	first, hours := moved{f.Start, f.Sent, f.Recvd}, m.hours[f.Start]
	in := func(from, to int64) bool { return (w.End == 0 || from < w.End) && to > w.Start }
	var all []moved
	for _, h := range hours {
		first.sent, first.recvd = first.sent-h.sent, first.recvd-h.recvd
		if in(h.hour, h.hour+3600_000) {
			all = append(all, h)
		}
	}
	if len(hours) > 0 && !in(f.Start, min(f.End, (f.Start/3600_000+1)*3600_000)) {
		return all
	}
	return append([]moved{first}, all...)
}

// inside leaves to a flow the bytes inside the window.
func (m model) inside(f flow.Flow, w Filter) flow.Flow {
	pieces := m.pieces(f, w)
	f.Sent, f.Recvd = 0, 0
	for _, p := range pieces {
		f.Sent, f.Recvd = f.Sent+p.sent, f.Recvd+p.recvd
	}
	return f
}

func (m model) shown(f flow.Flow) string {
	if g, _ := m.classify(f.Name); f.Name != "" && g != "" {
		return g
	}
	if f.Name != "" {
		return f.Name
	}
	if f.Remote.IsValid() {
		return f.Remote.String()
	}
	return ""
}

func (m model) matches(f flow.Flow, w Filter) bool { return m.means(f, w) && !m.hides(f, w) }

// hides tells whether a flow is left out for its name.
func (m model) hides(f flow.Flow, w Filter) bool {
	_, hidden := m.classify(f.Name)
	return hidden && !w.All && f.Sent+f.Recvd <= 8<<20
}

// means tells whether a flow matches unless it is hidden.
func (m model) means(f flow.Flow, w Filter) bool {
	group, _ := m.classify(f.Name)
	if f.Name == "" {
		group = ""
	}
	if w.End > 0 && (f.Start >= w.End || w.Start >= w.End) || f.End < w.Start {
		return false
	}
	if f.Direction == flow.Out && !w.Out && w.In || f.Direction == flow.In && !w.In {
		return false
	}
	if len(w.Clients) > 0 && !slices.ContainsFunc(w.Clients, func(id client.ID) bool {
		return id.MAC == f.Client && (!f.Client.IsZero() || !id.Addr.IsValid() || id.Addr == f.ClientAddr)
	}) {
		return false
	}
	if len(w.Hostnames) == 0 {
		return true
	}
	return slices.ContainsFunc(w.Hostnames, func(h string) bool {
		h = strings.ToLower(strings.TrimSuffix(h, "."))
		if f.Name == "" {
			return m.shown(f) == h
		}
		if f.Source == name.Port && f.Remote.String() == h {
			return true
		}
		return f.Name == h || group == h || strings.HasSuffix(f.Name, "."+h)
	})
}

func (m model) query(q Query) []Row {
	var rows []Row
	for _, f := range m.flows {
		if m.matches(f, q.Filter) {
			r := Row{Flow: m.inside(f, q.Filter), Flows: 1, Duration: f.End/1000 - f.Start/1000, Large: f.Sent+f.Recvd > 8<<20}
			if f.Name != "" {
				r.Group, _ = m.classify(f.Name)
			}
			rows = append(rows, r)
		}
	}
	if q.Aggregate {
		rows = m.aggregate(rows)
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		c := cmp.Or(cmp.Compare(sortKey(a, q.Sort), sortKey(b, q.Sort)), cmp.Compare(a.Start, b.Start))
		if q.Descending {
			return -c
		}
		return c
	})
	return rows
}

func sortKey(r Row, k Key) int64 {
	switch k {
	case BySent:
		return int64(r.Sent)
	case ByRecvd:
		return int64(r.Recvd)
	case ByTotal:
		return int64(r.Sent + r.Recvd)
	case ByDuration:
		return r.Duration
	}
	return r.Start
}

func (m model) owner(f flow.Flow) string {
	if f.Client.IsZero() {
		return f.ClientAddr.String()
	}
	return f.Client.String()
}

func (m model) aggregate(flows []Row) []Row {
	groups, firstOf := make(map[string]*Row), make(map[string]Row)
	for _, f := range flows {
		k := fmt.Sprint(m.owner(f.Flow), " ", m.shown(f.Flow), " ", f.Port, " ", f.Proto)
		g, ok := groups[k]
		if !ok {
			groups[k], firstOf[k] = &f, f
			continue
		}
		if g.Name != f.Name {
			g.Name = ""
		}
		if g.ClientAddr != f.ClientAddr || g.Interface != f.Interface {
			g.Interface = ""
			if !g.Client.IsZero() {
				g.ClientAddr = netip.Addr{}
			}
		}
		if g.Remote != f.Remote {
			g.Remote = netip.Addr{}
		}
		if g.Source != f.Source {
			g.Source = name.None
		}
		if g.App != f.App {
			g.App = ""
		}
		g.Direction = min(g.Direction, f.Direction)
		g.Group = max(g.Group, f.Group)
		g.Start, g.End = min(g.Start, f.Start), max(g.End, f.End)
		g.Sent, g.Recvd = g.Sent+f.Sent, g.Recvd+f.Recvd
		g.Flows, g.Duration = g.Flows+1, g.Duration+f.Duration
		g.Large = g.Large || f.Large
	}
	var rows []Row
	for k, g := range groups {
		if shown := m.shown(firstOf[k].Flow); g.Name == "" && g.Group == "" && g.Remote.String() != shown {
			g.Name = shown
		}
		rows = append(rows, *g)
	}
	return rows
}

func (m model) totals(since int64) map[client.ID]Total {
	t := make(map[client.ID]Total)
	for _, f := range m.flows {
		if f.End < since {
			continue
		}
		f = m.inside(f, Filter{Start: since})
		id := client.ID{MAC: f.Client}
		if f.Client.IsZero() {
			id.Addr = f.ClientAddr
		}
		u, ok := t[id]
		if !ok {
			u.First = f.Start
		}
		t[id] = Total{u.Sent + f.Sent, u.Recvd + f.Recvd, min(u.First, f.Start), max(u.Last, f.End)}
	}
	return t
}

// count counts the flows that match, and those that are left out for their names.
func (m model) count(w Filter) (wanted, hidden Count) {
	for _, f := range m.flows {
		if !m.means(f, w) {
			continue
		}
		to := &wanted
		if m.hides(f, w) {
			to = &hidden
		}
		f = m.inside(f, w)
		*to = Count{to.Flows + 1, to.Sent + f.Sent, to.Recvd + f.Recvd}
	}
	return wanted, hidden
}

// summary gives the rows by their keys.
func (m model) summary(q SummaryQuery) map[string]SummaryRow {
	rows := make(map[string]SummaryRow)
	for _, f := range m.flows {
		if !m.means(f, q.Filter) {
			continue
		}
		if m.hides(f, q.Filter) {
			if !slices.Contains(q.By, "client") || slices.Contains(q.By, "hostname") {
				continue
			}
			r := m.summaryRow(f, q, f.Start)
			rows[key(r)] = plus(rows[key(r)], r)
			for _, p := range m.pieces(f, q.Filter) {
				if r := m.summaryRow(f, q, p.hour); p.sent+p.recvd > 0 {
					r.Hidden = p.sent + p.recvd
					rows[key(r)] = plus(rows[key(r)], r)
				}
			}
			continue
		}
		r := m.summaryRow(f, q, f.Start)
		r.Flows, r.Duration = 1, f.End/1000-f.Start/1000
		rows[key(r)] = plus(rows[key(r)], r)
		for _, p := range m.pieces(f, q.Filter) {
			if p.sent+p.recvd == 0 {
				continue
			}
			r := m.summaryRow(f, q, p.hour)
			r.Sent, r.Recvd = p.sent, p.recvd
			if _, err := netip.ParseAddr(m.shown(f)); err == nil || f.Source == name.Port {
				r.Unnamed = p.sent + p.recvd
			}
			rows[key(r)] = plus(rows[key(r)], r)
		}
	}
	return rows
}

// key tells rows of a summary apart.
func key(r SummaryRow) string {
	r.Sent, r.Recvd, r.Unnamed, r.Hidden, r.Flows, r.Duration = 0, 0, 0, 0, 0, 0
	return fmt.Sprint(r)
}

func plus(a, b SummaryRow) SummaryRow {
	b.Sent, b.Recvd, b.Unnamed, b.Hidden = a.Sent+b.Sent, a.Recvd+b.Recvd, a.Unnamed+b.Unnamed, a.Hidden+b.Hidden
	b.Flows, b.Duration = a.Flows+b.Flows, a.Duration+b.Duration
	return b
}

// summaryRow is an empty row for what a flow did at a time.
func (m model) summaryRow(f flow.Flow, q SummaryQuery, at int64) (r SummaryRow) {
	t := time.UnixMilli(max(at, q.Start)).In(q.Location)
	y, mo, d := t.Date()
	for _, by := range q.By {
		switch by {
		case "client":
			if r.Client = f.Client; f.Client.IsZero() {
				r.ClientAddr = f.ClientAddr
			}
		case "hostname":
			r.Hostname = m.shown(f)
		case "hour":
			r.Hour = t.Truncate(time.Hour).UnixMilli()
		case "day":
			r.Day = time.Date(y, mo, d, 0, 0, 0, 0, q.Location).UnixMilli()
		case "week":
			monday := d
			for w := t; w.Weekday() != time.Monday; w = w.AddDate(0, 0, -1) {
				monday--
			}
			r.Week = time.Date(y, mo, monday, 0, 0, 0, 0, q.Location).UnixMilli()
		case "month":
			r.Month = time.Date(y, mo, 1, 0, 0, 0, 0, q.Location).UnixMilli()
		}
	}
	return r
}

func testClassify(n string) (string, bool) {
	switch {
	case strings.HasSuffix(n, ".cdn.example"), n == "b.example":
		return "a.example", false
	case strings.HasPrefix(n, "ads."):
		return "", true
	}
	return "", false
}

// randomFlow begins in the days before and after the change of clocks in
// Prague on 27 October 2024, at a millisecond that no other flow has: rows that
// are equal in a key then have one order.
func randomFlow(r *rand.Rand, starts map[int64]bool) flow.Flow {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	start := int64(0)
	for start == 0 || starts[start] {
		start = time.Date(2024, 10, 26, 0, 0, 0, 0, time.UTC).UnixMilli() + r.Int64N(3*86400_000)
	}
	starts[start] = true
	f := flow.Flow{
		Start:      start,
		Client:     testMAC(byte(r.IntN(4))),
		ClientAddr: netip.AddrFrom4([4]byte{192, 168, 1, byte(r.IntN(5))}),
		Remote:     netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(3))}),
		Port:       []uint16{443, 80, 65000}[r.IntN(3)],
		Proto:      []uint8{flow.TCP, flow.UDP}[r.IntN(2)],
		Name: pick("", "a.example", "www.a.example", "b.example", "x.cdn.example", "y.cdn.example",
			"ads.example", "203.0.113.1", "c.example", "notc.example", "w.c.example", "wireguard"),
		App:       pick("", "tls", "quic"),
		Interface: pick("br-lan", "br-guest"),
		Sent:      uint64(r.IntN(50)),
		Recvd:     uint64(r.Int64N(1 << (20 + r.IntN(16)))),
	}
	if r.IntN(4) == 0 {
		f.Client = client.MAC{}
	}
	if r.IntN(5) == 0 {
		f.Direction = flow.In
	}
	switch f.Name {
	case "":
	case "wireguard":
		f.Source = name.Port
	default:
		f.Source = name.Source(1 + r.IntN(6))
	}
	f.End = f.Start + []int64{0, r.Int64N(1000), r.Int64N(600_000), r.Int64N(100_000_000)}[min(r.IntN(20), 3)]
	return f
}

// randomHours spreads what a flow has moved over some of the hours after its
// first, and returns the records that say so.
func randomHours(r *rand.Rand, f *flow.Flow, key uint64) (records []flow.Flow, hours []moved) {
	g := *f
	g.State, g.Track.Key = flow.Over, key
	records = append(records, g)
	for at := (f.Start/3600_000 + 1) * 3600_000; at <= f.End; at += 3600_000 {
		if r.IntN(3) > 0 {
			continue
		}
		h := moved{at, uint64(r.IntN(20)), uint64(r.Int64N(1 << 30))}
		if r.IntN(5) == 0 {
			h.sent, h.recvd = 0, 0
		}
		hours = append(hours, h)
		g.Sent, g.Recvd = g.Sent+h.sent, g.Recvd+h.recvd
		g.Track.Hour, g.Track.HourSent, g.Track.HourRecvd = h.hour, h.sent, h.recvd
		records = append(records, g)
	}
	f.Sent, f.Recvd = g.Sent, g.Recvd
	return append(records, flow.Flow{State: flow.Done, Track: flow.Track{Key: key}}), hours
}

func randomFilter(r *rand.Rand) Filter {
	f := Filter{All: r.IntN(2) == 0, Out: r.IntN(3) > 0, In: r.IntN(2) == 0}
	at := func() int64 {
		return time.Date(2024, 10, 26, 0, 0, 0, 0, time.UTC).UnixMilli() + r.Int64N(3*86400_000)
	}
	if r.IntN(2) == 0 {
		f.Start = at()
	}
	if r.IntN(2) == 0 {
		f.End = at()
	}
	for range max(0, r.IntN(5)-2) {
		f.Clients = append(f.Clients, []client.ID{{}, {MAC: testMAC(0)}, {MAC: testMAC(1)}, {MAC: testMAC(9)},
			{Addr: netip.MustParseAddr("192.168.1.1")}, {Addr: netip.MustParseAddr("192.168.1.9")}}[r.IntN(6)])
	}
	for range max(0, r.IntN(5)-2) {
		f.Hostnames = append(f.Hostnames, []string{"A.Example", "c.example.", "example", "203.0.113.1",
			"203.0.113.2", "none.example", "x.CDN.example", "%.example", "ads.example"}[r.IntN(9)])
	}
	return f
}

// TestModel compares the store with the model: random flows in random batches,
// random queries with random pages.
func TestModel(t *testing.T) {
	alone(t)
	prague, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			s := open(t, Options{Classify: testClassify})
			s.maxGroups = []int{0, 50, 20}[seed]
			m := model{classify: testClassify, hours: make(map[int64][]moved)}
			starts := make(map[int64]bool)
			for range 10 {
				var batch []flow.Flow
				for range r.IntN(100) {
					f := randomFlow(r, starts)
					records := []flow.Flow{f}
					if r.IntN(2) == 0 {
						records, m.hours[f.Start] = randomHours(r, &f, uint64(len(starts)))
					}
					batch = append(batch, records...)
					m.flows = append(m.flows, f)
				}
				add(t, s, batch...)
			}
			for range 100 {
				q := Query{Filter: randomFilter(r), Sort: Key(r.IntN(5)), Descending: r.IntN(2) == 0,
					Limit: 1 + r.IntN(300), Aggregate: r.IntN(2) == 0}
				got, want := walk(t, s, q), m.query(q)
				if !slices.Equal(got, want) {
					t.Fatalf("%+v:\n%s", q, firstDifference(got, want))
				}
			}
			for range 30 {
				by := []string{"client", "hostname", "hour", "day", "week", "month"}
				r.Shuffle(len(by), func(i, j int) { by[i], by[j] = by[j], by[i] })
				q := SummaryQuery{Filter: randomFilter(r), By: by[:1+r.IntN(2)], Location: prague}
				checkSummary(t, s, m, q)
			}
			for range 30 {
				f := randomFilter(r)
				wanted, hidden, err := s.Count(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				if w, h := m.count(f); wanted != w || hidden != h {
					t.Errorf("%+v: counted %+v and hidden %+v, want %+v and %+v", f, wanted, hidden, w, h)
				}
			}
			for range 10 {
				since := randomFilter(r).Start
				got, err := s.Totals(t.Context(), since, nobody)
				if err != nil {
					t.Fatal(err)
				}
				if want := m.totals(since); !maps.Equal(got.Of, want) {
					t.Errorf("totals since %d:\n got %v\nwant %v", since, got, want)
				}
			}
		})
	}
}

func firstDifference(got, want []Row) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("row %d: got  %+v\n       want %+v", i, got[i], want[i])
		}
	}
	return fmt.Sprintf("got %d rows, want %d", len(got), len(want))
}

func checkSummary(t *testing.T, s *Store, m model, q SummaryQuery) {
	t.Helper()
	got, hidden, err := s.Summary(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if _, want := m.count(q.Filter); hidden != want {
		t.Fatalf("%+v: hidden %+v, want %+v", q, hidden, want)
	}
	want := m.summary(q)
	for _, r := range got {
		if w, ok := want[key(r)]; !ok || w != r {
			t.Fatalf("%+v:\n got %+v\nwant %+v", q, r, w)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%+v: got %d rows, want %d", q, len(got), len(want))
	}
	ordered := slices.IsSortedFunc(got, func(a, b SummaryRow) int {
		return cmp.Or(cmp.Compare(a.time(), b.time()), moreBytes(a, b))
	})
	if !ordered {
		t.Fatalf("%+v: rows are not in order", q)
	}
}
