package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"pakon/daemon/client"
	"pakon/daemon/flow"
)

// TestPagingWhileFlowsArrive pages through a query of each kind while flows are
// added before, between and behind what has been read: each flow that was there
// at the first page comes once, and no other.
func TestPagingWhileFlowsArrive(t *testing.T) {
	for _, aggregate := range []bool{false, true} {
		for key := ByTime; key <= ByDuration; key++ {
			for _, descending := range []bool{false, true} {
				t.Run(fmt.Sprintf("aggregate=%t key=%d descending=%t", aggregate, key, descending), func(t *testing.T) {
					r := rand.New(rand.NewPCG(uint64(key), 3))
					s := open(t, Options{Classify: testClassify})
					m := model{classify: testClassify}
					starts := make(map[int64]bool)
					for range 200 {
						m.flows = append(m.flows, randomFlow(r, starts))
					}
					add(t, s, m.flows...)
					q := Query{Filter: Filter{All: true}, Sort: key, Descending: descending, Limit: 17, Aggregate: aggregate}
					want := m.query(q)
					for i := 0; ; i++ {
						p, err := s.Flows(t.Context(), q)
						if err != nil {
							t.Fatal(err)
						}
						for _, row := range p.Rows {
							if len(want) == 0 || row != want[0] {
								t.Fatalf("page %d: got %+v, want %+v", i, row, want[:min(1, len(want))])
							}
							want = want[1:]
						}
						if q.Cursor = p.Next; p.Next == "" {
							break
						}
						if i%2 == 0 {
							// As if another client had paged in between.
							s.ahead.put("other", found{rows: []Row{{}}}, true)
						}
						for range 5 {
							add(t, s, randomFlow(r, starts))
						}
					}
					if len(want) > 0 {
						t.Errorf("%d rows are missing", len(want))
					}
				})
			}
		}
	}
}

func TestForeignCursors(t *testing.T) {
	s := open(t, Options{})
	fill(t, s, household(100))
	q := Query{Limit: 10, Sort: BySent}
	p, err := s.Flows(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, Options{})
	fill(t, other, household(100))
	flipped := []byte(p.Next)
	flipped[0] ^= 1
	tests := []struct {
		name   string
		s      *Store
		change func(*Query)
		ok     bool
	}{
		{"the same", s, func(*Query) {}, true},
		{"another limit", s, func(q *Query) { q.Limit = 7 }, true},
		{"another sort", s, func(q *Query) { q.Sort = ByTime }, false},
		{"another order", s, func(q *Query) { q.Descending = true }, false},
		{"aggregate", s, func(q *Query) { q.Aggregate = true }, false},
		{"another window", s, func(q *Query) { q.Start = 1 }, false},
		{"another client", s, func(q *Query) { q.Clients = []client.ID{{MAC: testMAC(1)}} }, false},
		{"another name", s, func(q *Query) { q.Hostnames = []string{"example.org"} }, false},
		{"hidden too", s, func(q *Query) { q.All = true }, false},
		{"another database", other, func(*Query) {}, false},
		{"cut", s, func(q *Query) { q.Cursor = q.Cursor[1:] }, false},
		{"changed", s, func(q *Query) { q.Cursor = string(flipped) }, false},
		{"not base64", s, func(q *Query) { q.Cursor = strings.Repeat("!", len(q.Cursor)) }, false},
		{"long", s, func(q *Query) { q.Cursor = strings.Repeat("A", 1<<20) }, false},
		{"short", s, func(q *Query) { q.Cursor = "A" }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := q
			q.Cursor = p.Next
			tt.change(&q)
			_, err := tt.s.Flows(t.Context(), q)
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, ErrCursor) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzCursor(f *testing.F) {
	s := open(f, Options{})
	fill(f, s, household(100))
	q := Query{Limit: 10, Sort: BySent}
	p, err := s.Flows(f.Context(), q)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Next)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, cursor string) {
		q.Cursor = cursor
		if _, err := s.Flows(t.Context(), q); err != nil && !errors.Is(err, ErrCursor) {
			t.Error(err)
		}
	})
}

func TestBadQueries(t *testing.T) {
	s := open(t, Options{})
	many := make([]string, MaxTerms+1)
	for i := range many {
		many[i] = "example.org"
	}
	for _, f := range []Filter{
		{Hostnames: many},
		{Hostnames: []string{"."}},
		{Clients: make([]client.ID, MaxTerms+1)},
	} {
		if _, err := s.Flows(t.Context(), Query{Filter: f}); err == nil {
			t.Errorf("%d hostnames, %d clients: no error", len(f.Hostnames), len(f.Clients))
		}
		if _, _, err := s.Summary(t.Context(), SummaryQuery{Filter: f, By: []string{"client"}}); err == nil {
			t.Errorf("summary: %d hostnames, %d clients: no error", len(f.Hostnames), len(f.Clients))
		}
	}
	if _, err := s.Flows(t.Context(), Query{Sort: ByDuration + 1}); err == nil {
		t.Error("unknown key: no error")
	}
	for _, by := range [][]string{nil, {"x"}, {"client", "client"}, {"client", "hour", "day"}} {
		if _, _, err := s.Summary(t.Context(), SummaryQuery{By: by}); err == nil {
			t.Errorf("by %q: no error", by)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Flows(ctx, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if err := s.Add(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Add: got %v", err)
	}
}

func TestLimits(t *testing.T) {
	s := open(t, Options{})
	fill(t, s, household(MaxLimit+10))
	for limit, want := range map[int]int{0: DefaultLimit, -1: DefaultLimit, 1: 1, MaxLimit + 1: MaxLimit} {
		for _, sort := range []Key{ByTime, BySent} {
			p, err := s.Flows(t.Context(), Query{Limit: limit, Sort: sort})
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Rows) != want || p.Next == "" {
				t.Errorf("limit %d, sort %d: got %d rows, next %q", limit, sort, len(p.Rows), p.Next)
			}
		}
	}
	// A page that ends with the last row has no next one.
	p, err := s.Flows(t.Context(), Query{Limit: 10, Filter: Filter{Start: 1 << 45}})
	if err != nil || len(p.Rows) != 0 || p.Next != "" {
		t.Errorf("nothing: got %+v, %v", p, err)
	}
	rows, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{"hostname", "hour"}, Limit: 5})
	if err != nil || len(rows) != 5 {
		t.Errorf("summary: got %d rows, %v", len(rows), err)
	}
}

// TestAtTheSameTime adds, reads, classifies and counts all at once; with -race,
// it looks for races. Each query sees whole batches only.
func TestAtTheSameTime(t *testing.T) {
	s := open(t, Options{Classify: testClassify, MaxFlows: 1500})
	const batches, size = 60, 50
	var readers sync.WaitGroup
	done := make(chan struct{})
	ask := func(f func() error) {
		readers.Go(func() {
			for {
				if err := f(); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	ask(func() error {
		rows, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{"client"}})
		for _, r := range rows {
			// Every flow of a batch has a client of its own.
			if r.Flows > batches {
				return fmt.Errorf("client %v has %d flows of %d batches", r.Client, r.Flows, batches)
			}
		}
		return err
	})
	ask(func() error {
		_, err := s.Totals(t.Context(), 0, nobody)
		return err
	})
	ask(func() error {
		q := Query{Limit: 500, Sort: BySent}
		for {
			p, err := s.Flows(t.Context(), q)
			if err != nil || p.Next == "" {
				return err
			}
			q.Cursor = p.Next
		}
	})
	ask(func() error { return s.Reclassify(t.Context()) })
	ask(func() error {
		_, err := s.Stats(t.Context())
		return err
	})
	for b := range int64(batches) {
		flows := make([]flow.Flow, size)
		for i := range flows {
			flows[i] = testFlow(1_700_000_000_000 + b*1000)
			flows[i].Client = testMAC(byte(i))
			flows[i].Name = fmt.Sprintf("n%d.cdn.example", b)
		}
		add(t, s, flows...)
	}
	close(done)
	readers.Wait()
	st, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Flows != 1500 || len(walk(t, s, Query{})) != 1500 {
		t.Errorf("got %d flows", st.Flows)
	}
}

// TestTotalsAreBounded: MACs cost whoever makes them up nothing.
func TestTotalsAreBounded(t *testing.T) {
	s := open(t, Options{})
	flows := make([]flow.Flow, maxTotals+100)
	for i := range flows {
		flows[i] = testFlow(1_700_000_000_000 + int64(i))
		flows[i].Client = client.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		flows[i].Sent, flows[i].Recvd = uint64(i), 1
	}
	add(t, s, flows...)
	idle := flows[3].Client
	totals, err := s.Totals(t.Context(), 0, func(id client.ID) bool { return id.MAC == idle })
	if err != nil {
		t.Fatal(err)
	}
	if len(totals.Of) != maxTotals+1 {
		t.Errorf("got %d clients, want %d", len(totals.Of), maxTotals+1)
	}
	for _, f := range append(flows[100:], flows[3]) {
		if got := totals.Of[client.ID{MAC: f.Client}]; got.Sent != f.Sent {
			t.Fatalf("%v sent %d bytes, want %d", f.Client, got.Sent, f.Sent)
		}
	}
	if totals.Others != 99 || totals.Sent != 99*100/2-3 || totals.Recvd != 99 {
		t.Errorf("the others are %d with %d and %d bytes", totals.Others, totals.Sent, totals.Recvd)
	}
}

// nobody is a client that is known.
func nobody(client.ID) bool { return false }
