package store

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
)

// merged is a block of flows that stand for several, of two names of one group.
func merged() *scanned {
	b := new(block.Block)
	b.Reset()
	home := b.Endpoint(block.Endpoint{MAC: testMAC(1), Address: netip.MustParseAddr("192.168.1.10"), Interface: "br-lan"})
	away := b.Endpoint(block.Endpoint{MAC: testMAC(1)})
	remote := b.Remote(netip.MustParseAddr("203.0.113.1"))
	b.Hours = []block.Hour{{Start: at("11:00:00"), Sent: 4, Recvd: 40}}
	b.Flows = []block.Flow{
		{
			ID: at("10:00:00") << idShift, Duration: 2 * hourLong, Sent: 10, Recvd: 100, Endpoint: home, Name: b.Name("x.cdn.example"),
			App: b.App("tls"), Remote: remote, Flows: 5, Seconds: 77, HourCount: 1, Port: 443, Proto: flow.TCP, Source: uint8(name.TLS),
		}, {
			ID: at("11:10:00") << idShift, Duration: 1000, Sent: 1, Recvd: 1, Endpoint: away, Name: b.Name("b.example"),
			App: b.App("tls"), Remote: remote, Flows: 2, Seconds: 3, Port: 443, Proto: flow.TCP, Source: uint8(name.TLS),
		}, {
			ID: at("11:20:00") << idShift, Duration: 1000, Sent: 1000, Endpoint: away, Name: b.Name("b.example"),
			Flows: 2, Seconds: 3, Port: 443, Proto: flow.TCP, Hidden: true,
		}, {
			ID: at("11:30:00") << idShift, Duration: 2000, Sent: 7, Endpoint: away, Remote: remote, Flows: 1, Seconds: 99, Port: 80,
		},
	}
	return &scanned{Block: b}
}

// TestMergedFlows: flows that stand for several count as so many.
func TestMergedFlows(t *testing.T) {
	s := open(t, Options{Classify: testClassify})
	leading := front{limit: 10, sort: BySent, descending: true, after: position{first: true}}
	ask := func(f Filter, leading front, take func(*gatherer)) []Row {
		t.Helper()
		g, err := s.newGatherer(f.normal(), 0, true, leading, take)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.block(merged()); err != nil {
			t.Fatal(err)
		}
		g.finish()
		return s.rowsOf(g.front.sorted(), g.texts)
	}
	home, remote := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("203.0.113.1")
	one := Row{Flow: flow.Flow{Start: at("10:00:00"), End: at("12:00:00"), Client: testMAC(1), ClientAddr: home, Remote: remote, Port: 443,
		Proto: flow.TCP, Name: "x.cdn.example", Source: name.TLS, App: "tls", Interface: "br-lan", Sent: 10, Recvd: 100},
		Group: "a.example", Flows: 5, Duration: 77}
	two := Row{Flow: flow.Flow{Start: at("11:10:00"), End: at("11:10:01"), Client: testMAC(1), Remote: remote, Port: 443,
		Proto: flow.TCP, Name: "b.example", Source: name.TLS, App: "tls", Sent: 1, Recvd: 1}, Group: "a.example", Flows: 2, Duration: 3}
	single := Row{Flow: flow.Flow{Start: at("11:30:00"), End: at("11:30:02"), Client: testMAC(1), Remote: remote, Port: 80, Sent: 7}, Flows: 1, Duration: 2}
	both := one
	both.Name, both.ClientAddr, both.Interface = "", netip.Addr{}, ""
	both.Sent, both.Recvd, both.Flows, both.Duration = 11, 101, 7, 80
	alone, second := one, two
	alone.Duration, second.Duration = 7200, 1 // of itself
	if got, want := ask(Filter{}, leading, (*gatherer).takeFlows), []Row{alone, single, second}; !slices.Equal(got, want) {
		t.Errorf("sorted:\n%s", firstDifference(got, want))
	}
	if got, want := ask(Filter{}, leading, (*gatherer).takeGroups), []Row{both, single}; !slices.Equal(got, want) {
		t.Errorf("together:\n%s", firstDifference(got, want))
	}
	if got := ask(Filter{All: true}, leading, (*gatherer).takeGroups); len(got) != 2 || got[0].Sent != 1011 || got[0].Flows != 9 {
		t.Errorf("with hidden ones: got %+v", got)
	}
	both.Sent, both.Recvd = 5, 41
	window := Filter{Start: at("11:00:00"), End: at("11:30:00")}
	if got, want := ask(window, leading, (*gatherer).takeGroups), []Row{both}; !slices.Equal(got, want) {
		t.Errorf("in a window:\n%s", firstDifference(got, want))
	}
	u := summing{periods: periods{units: []unit{hour}, loc: time.UTC}}
	var got []string
	for _, r := range ask(Filter{}, leading, u.take) {
		got = append(got, fmt.Sprint(r.Sent, r.Recvd, r.Flows, r.Duration))
	}
	if want := []string{"12 41 3 5", "6 60 5 77"}; !slices.Equal(got, want) {
		t.Errorf("by hour: got %q, want %q", got, want)
	}
}

// TestShares: whatever share of the groups fits at a time, all groups come.
func TestShares(t *testing.T) {
	s := open(t, Options{})
	flows := household(2000)
	fill(t, s, flows)
	queries := []Query{{Aggregate: true, Sort: ByTotal, Descending: true}, {Aggregate: true, Limit: 100}}
	var want [][]Row
	for _, q := range queries {
		want = append(want, walk(t, s, q))
	}
	sums, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{"hostname", "hour"}, Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{500, 150} {
		s.maxGroups = n
		for i, q := range queries {
			if got := walk(t, s, q); !slices.Equal(got, want[i]) {
				t.Errorf("%d groups, %+v:\n%s", n, q, firstDifference(got, want[i]))
			}
		}
		got, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{"hostname", "hour"}, Limit: 500})
		if err != nil || !slices.Equal(got, sums) {
			t.Errorf("%d groups: %d rows of a summary are not those %d, %v", n, len(got), len(sums), err)
		}
	}
	g, err := s.newGatherer(Filter{}.normal(), s.batch.Load(), true, front{limit: 10, sort: ByTotal, after: position{first: true}}, func(g *gatherer) {
		g.takeGroups()
		if g.table.n > s.maxGroups {
			t.Errorf("%d groups are held", g.table.n)
		}
		if n := g.texts.len(); n > 6*(s.maxGroups+10) {
			t.Errorf("%d texts for %d groups", n, g.table.n)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.gather(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestTextsOfSortedFlows: those of flows that were first for a while are
// forgotten.
func TestTextsOfSortedFlows(t *testing.T) {
	s := open(t, Options{})
	g, err := s.newGatherer(Filter{}.normal(), 0, false, front{limit: 10, sort: ByTime, descending: true, after: position{first: true}}, (*gatherer).takeFlows)
	if err != nil {
		t.Fatal(err)
	}
	b := &scanned{Block: new(block.Block)}
	const blocks = 20
	for i := range blocks {
		b.Reset()
		b.Endpoint(block.Endpoint{})
		for k := range blockFlows {
			n := i*blockFlows + k
			b.Flows = append(b.Flows, block.Flow{ID: int64(n), Flows: 1, Name: b.Name(fmt.Sprint(n))})
		}
		if err := g.block(b); err != nil {
			t.Fatal(err)
		}
		if n := g.texts.len(); n > 10*blockFlows {
			t.Fatalf("%d texts are held", n)
		}
	}
	for i, r := range s.rowsOf(g.front.sorted(), g.texts) {
		if want := fmt.Sprint(blocks*blockFlows - 1 - i); r.Name != want {
			t.Errorf("row %d: got %q, want %q", i, r.Name, want)
		}
	}
}

// TestFirst compares it with sorting all.
func TestFront(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		f := front{limit: 1 + r.IntN(20), sort: BySent, descending: r.IntN(2) == 0, after: position{first: r.IntN(2) == 0, key: r.Int64N(5), id: r.Int64N(50)}}
		var want []int64
		var all []sum
		for id := range int64(r.IntN(50)) {
			all = append(all, sum{amounts: amounts{sent: r.Uint64N(5), id: id}})
		}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for i := range all {
			f.offer(&all[i])
		}
		slices.SortFunc(all, func(a, b sum) int {
			c := cmp.Or(cmp.Compare(a.sent, b.sent), cmp.Compare(a.id, b.id))
			if f.descending {
				c = -c
			}
			return c
		})
		for _, s := range all {
			c := cmp.Or(cmp.Compare(int64(s.sent), f.after.key), cmp.Compare(s.id, f.after.id))
			if f.after.first || c > 0 != f.descending && c != 0 {
				want = append(want, s.id)
			}
		}
		want = want[:min(f.limit, len(want))]
		var got []int64
		for _, s := range f.sorted() {
			got = append(got, s.id)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: got %v, want %v", f.after, got, want)
		}
	}
}

// TestInterner: values with one hash are told apart.
func TestInterner(t *testing.T) {
	x := interner[int]{hash: func(v int) uint64 { return uint64(v % 3) }}
	for v := range 500 {
		if n := x.number(v); n != uint32(v) {
			t.Fatalf("%d got the number %d", v, n)
		}
	}
	for v := range 500 {
		if n := x.number(v); n != uint32(v) || x.values[n] != v {
			t.Fatalf("%d has the number %d", v, n)
		}
	}
	if _, ok := x.find(1000, 1); ok {
		t.Error("found what is not there")
	}
	texts := newTexts(maphash.MakeSeed())
	if a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1"); texts.remotes.number(a) == texts.remotes.number(b) {
		t.Error("two addresses have one number")
	}
}
