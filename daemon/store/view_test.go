package store

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
)

// spread makes flows of several weeks, no two of which begin in the same ms.
func spread(r *rand.Rand, n, days int) []flow.Flow {
	flows := randomFlows(r, n, days)
	taken := make(map[int64]bool)
	for i := range flows {
		f := &flows[i]
		for taken[f.Start] {
			f.Start--
		}
		taken[f.Start] = true
	}
	return flows
}

// modelOf is the model of all that is in live and archive, as it is there.
func modelOf(t testing.TB, s *Store) (m model, flows map[int64]int64) {
	t.Helper()
	m = model{classify: s.classify, hours: make(map[int64][]moved)}
	flows = make(map[int64]int64)
	take := func(b *block.Block) {
		for i := range b.Flows {
			f := &b.Flows[i]
			e := b.Endpoints[f.Endpoint]
			m.flows = append(m.flows, flow.Flow{
				Start: f.Start(), End: f.End(), Client: e.MAC, ClientAddr: e.Address, Interface: e.Interface, Remote: b.Remotes[f.Remote],
				Port: f.Port, Proto: f.Proto, Direction: flow.Direction(f.Direction), Name: b.Names[f.Name], Source: name.Source(f.Source),
				App: b.Apps[f.App], Sent: f.Sent, Recvd: f.Recvd,
			})
			flows[f.Start()] += int64(f.Flows)
			for _, h := range b.HoursOf(f) {
				m.hours[f.Start()] = append(m.hours[f.Start()], moved{h.Start, h.Sent, h.Recvd})
			}
		}
	}
	_, blocks := archived(t, s)
	for _, b := range append(blocks, inLive(t, s)...) {
		take(b)
	}
	slices.SortFunc(m.flows, func(a, b flow.Flow) int { return cmp.Compare(a.Start, b.Start) })
	return m, flows
}

// TestQueryArchive asks for what is in live and archive, and compares with what is
// there.
func TestQueryArchive(t *testing.T) {
	alone(t)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			s := openArchived(t, Options{Classify: testClassify}, ArchiveConfig{Rules: withoutThresholds(testRules)})
			add(t, s, spread(r, 3000, 25)...)
			if _, err := archiveAt(s, t.Context(), theNow); err != nil {
				t.Fatal(err)
			}
			if st, err := s.Storage(t.Context()); err != nil || st.Flows == 0 || s.flows.Load() == 0 {
				t.Fatalf("%+v, %v", st, err)
			}
			m, flows := modelOf(t, s)
			end := theNow.UnixMilli()
			for _, f := range []Filter{
				{}, {Start: end - 20*dayMS, End: end - 10*dayMS}, {Start: end - 2*dayMS}, {End: end - 3*dayMS - 12345},
				{Clients: []client.ID{{MAC: client.MAC{2, 0, 0, 0, 0, 1}}, {}}}, {Clients: []client.ID{{Addr: netip.MustParseAddr("192.168.1.2")}}},
				{Hostnames: []string{"example.org", "203.0.113.5"}}, {In: true}, {In: true, Out: true, Start: end - 9*dayMS},
			} {
				f.All = true
				for _, q := range []Query{
					{}, {Descending: true, Limit: 37}, {Limit: 100}, {Sort: ByTotal, Descending: true, Limit: 501}, {Sort: ByDuration},
				} {
					q.Filter = f
					got, want := walk(t, s, q), m.query(q)
					for i := range got {
						if got[i].Flows != flows[got[i].Start] {
							t.Errorf("%+v: %d flows begin at %d, want %d", q, got[i].Flows, got[i].Start, flows[got[i].Start])
						}
						got[i].Flows = 1
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%+v:\n%s", q, firstDifference(got, want))
					}
				}
			}
			for _, row := range walk(t, s, Query{}) {
				if _, hidden := testClassify(row.Name); hidden && row.Name != "" {
					t.Fatalf("a hidden one is shown: %+v", row)
				}
			}
		})
	}
}

// TestSumsAfterArchive: what is summed up does not depend on where flows are, nor
// on how often they have been merged.
func TestSumsAfterArchive(t *testing.T) {
	alone(t)
	for _, zone := range []string{"Asia/Kathmandu", "UTC", "Europe/Prague"} {
		t.Run(zone, func(t *testing.T) {
			loc, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(3, 9))
			s := openArchived(t, Options{Classify: testClassify, Location: func() *time.Location { return loc }},
				ArchiveConfig{Rules: withoutThresholds(testRules)})
			flows := randomFlows(r, 1500, 25)
			for i := range flows { // hours are those of the zone
				flows[i].Track = flow.Track{}
			}
			add(t, s, flows...)
			var queries []SummaryQuery
			for _, by := range [][]string{{"client"}, {"hostname"}, {"day"}, {"week"}, {"month"}, {"client", "hostname"}, {"hostname", "day"}, {"client", "month"}} {
				for _, f := range []Filter{{}, {All: true, In: true, Out: true}, {Clients: []client.ID{{MAC: client.MAC{2, 0, 0, 0, 0, 1}}}}, {Hostnames: []string{"example.org"}}} {
					queries = append(queries, SummaryQuery{By: by, Filter: f, Location: loc, Limit: MaxLimit})
				}
			}
			sums := func() (all [][]SummaryRow) {
				t.Helper()
				for _, q := range queries {
					rows, _, err := s.Summary(t.Context(), q)
					if err != nil {
						t.Fatal(err)
					}
					// Those with as many bytes may come in any order.
					slices.SortFunc(rows, func(a, b SummaryRow) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
					all = append(all, rows)
				}
				return all
			}
			want := sums()
			grouped := walk(t, s, Query{Aggregate: true, Filter: Filter{All: true}})
			for day := -20; day <= 3; day += 6 {
				if _, err := archiveAt(s, t.Context(), theNow.AddDate(0, 0, day)); err != nil {
					t.Fatal(err)
				}
				for i, got := range sums() {
					if !slices.Equal(got, want[i]) {
						t.Fatalf("day %d, %+v:\n got %+v\nwant %+v", day, queries[i], got, want[i])
					}
				}
			}
			// TCP and UDP may have become one, so only the bytes are the same.
			var got, before [2]uint64
			for i, rows := range [][]Row{walk(t, s, Query{Aggregate: true, Filter: Filter{All: true}}), grouped} {
				for _, row := range rows {
					[]*[2]uint64{&got, &before}[i][0] += row.Sent
					[]*[2]uint64{&got, &before}[i][1] += row.Recvd
				}
			}
			if got != before {
				t.Errorf("put together: %v bytes, want %v", got, before)
			}
		})
	}
}

// TestQueryWhileArchiving: at no moment is a flow missing or there twice.
func TestQueryWhileArchiving(t *testing.T) {
	s := openArchived(t, Options{Classify: testClassify}, ArchiveConfig{Rules: withoutThresholds(testRules)})
	r := rand.New(rand.NewPCG(1, 1))
	flows := randomFlows(r, 8000, 12)
	fill(t, s, flows)
	total := func(ctx context.Context) (sum SummaryRow, err error) {
		rows, _, err := s.Summary(ctx, SummaryQuery{By: []string{"month"}, Filter: Filter{All: true, In: true, Out: true}})
		for _, r := range rows {
			sum.Sent, sum.Recvd, sum.Flows = sum.Sent+r.Sent, sum.Recvd+r.Recvd, sum.Flows+r.Flows
		}
		return sum, err
	}
	want, err := total(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for day := -12; day <= 1 && err == nil; day++ {
			_, err = archiveAt(s, context.Background(), theNow.AddDate(0, 0, day))
		}
		done <- err
	}()
	asked := 0
	for running := true; running; asked++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		got, err := total(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("after %d questions: %+v, want %+v", asked, got, want)
		}
		// In one page, all rows are of one moment.
		p, err := s.Flows(t.Context(), Query{Filter: Filter{All: true, In: true, Out: true}, Limit: MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		var sent uint64
		for _, row := range p.Rows {
			sent += row.Sent
		}
		if sent != want.Sent {
			t.Fatalf("rows hold %d bytes sent, want %d", sent, want.Sent)
		}
	}
	if s.flows.Load() > 200 {
		t.Errorf("%d flows are still in live", s.flows.Load())
	}
	t.Logf("asked %d times", asked)
}
