package store

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"pakon/daemon/flow"
	"pakon/daemon/name"
)

// download is a connection that begins at 10:59 and is recorded again and again.
func download(key uint64, state flow.State, sent, recvd uint64) flow.Flow {
	return flow.Flow{
		Start: at("10:59:00"), End: at("10:59:00"), ClientAddr: netip.MustParseAddr("192.168.1.10"), Remote: netip.MustParseAddr("203.0.113.80"),
		Port: 443, Proto: flow.TCP, Name: "video.example.org", Source: name.TLS, App: "tls", Interface: "br-lan",
		Sent: sent, Recvd: recvd, State: state, Track: flow.Track{Key: key, ID: 77, OtherPort: 40000, RawSent: sent, RawRecvd: recvd},
	}
}

// at is a time on a certain day, in Unix ms.
func at(clock string) int64 {
	var h, m, s int64
	for i, n := range []*int64{&h, &m, &s} {
		*n = int64(clock[3*i]-'0')*10 + int64(clock[3*i+1]-'0')
	}
	return 1_790_640_000_000 + ((h*60+m)*60+s)*1000
}

func TestTrackedFlow(t *testing.T) {
	s := open(t, Options{})
	add := func(f ...flow.Flow) {
		t.Helper()
		if err := s.Add(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	rows := func() []Row {
		t.Helper()
		p, err := s.Flows(t.Context(), Query{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Rows
	}
	add(download(5, flow.Running, 100, 1000))
	if r := rows(); len(r) != 1 || r[0].State != flow.Running || r[0].Recvd != 1000 {
		t.Fatalf("while it runs: %+v", r)
	}
	f := download(5, flow.Running, 200, 2000)
	f.End, f.Name = at("10:59:30"), "other.example.org"
	add(f, flow.Flow{State: flow.Done, Track: flow.Track{Key: 99}}, flow.Flow{State: flow.Void, Track: flow.Track{Key: 98}})
	r := rows()
	if len(r) != 1 || r[0].Recvd != 2000 || r[0].Name != "other.example.org" || r[0].Duration != 30 || r[0].State != flow.Running {
		t.Fatalf("after a change: %+v", r)
	}
	a, err := s.Flows(t.Context(), Query{Aggregate: true})
	if err != nil || len(a.Rows) != 1 || a.Rows[0].State != flow.Running {
		t.Errorf("aggregated: %+v, %v", a.Rows, err)
	}
	f.State = flow.Over
	add(f)
	if r := rows(); len(r) != 1 || r[0].State != flow.Whole {
		t.Errorf("when it is over: %+v", r)
	}
	// A late packet, then nothing more.
	f.Sent++
	add(f, flow.Flow{State: flow.Done, Track: flow.Track{Key: 5}})
	if r := rows(); len(r) != 1 || r[0].Sent != 201 {
		t.Errorf("after its last packet: %+v", r)
	}
	// The same key again is another connection.
	add(download(5, flow.Running, 1, 1))
	if r := rows(); len(r) != 2 || s.flows.Load() != 2 {
		t.Errorf("a second one: %+v, %d are counted", r, s.flows.Load())
	}
	add(flow.Flow{State: flow.Void, Track: flow.Track{Key: 5}})
	if r := rows(); len(r) != 1 || s.flows.Load() != 1 {
		t.Errorf("the second one left out: %+v, %d are counted", r, s.flows.Load())
	}
}

// TestTrackedAfterRestart: what runs is found again, with what it takes to go on.
func TestTrackedAfterRestart(t *testing.T) {
	path := t.TempDir() + "/pakon.db"
	s := open(t, Options{Path: path})
	f := download(5, flow.Running, 100, 1000)
	f.Track.RawSent = 30
	f.Track.Hour, f.Track.HourSent, f.Track.HourRecvd = at("11:00:00"), 40, 400
	over := download(6, flow.Over, 7, 8)
	if err := s.Add(t.Context(), []flow.Flow{f, over, download(7, flow.Whole, 1, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: path})
	got, err := s.Tracked(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.Track.Key, over.Track.Key = 1, 2
	if want := []flow.Flow{f, over}; !slices.Equal(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	f.Sent = 500
	if err := s.Add(t.Context(), []flow.Flow{f}); err != nil {
		t.Fatal(err)
	}
	p, err := s.Flows(t.Context(), Query{Sort: BySent, Descending: true})
	if err != nil || len(p.Rows) != 3 || p.Rows[0].Sent != 500 || p.Rows[0].State != flow.Running {
		t.Errorf("%+v, %v", p.Rows, err)
	}
}

// TestForgottenAfterRestart: what was forgotten of connections is found again, the
// latest of each, and so many at most.
func TestForgottenAfterRestart(t *testing.T) {
	path := t.TempDir() + "/pakon.db"
	s := open(t, Options{Path: path})
	cut := func(number uint32, sent uint64) flow.Flow {
		return flow.Flow{State: flow.Cut, End: at("11:00:00"), Track: flow.Track{ID: number, RawSent: sent, RawRecvd: 2 * sent}}
	}
	f := download(5, flow.Running, 100, 1000)
	if err := s.Add(t.Context(), []flow.Flow{cut(1, 10), f, cut(1<<32-1, 20), cut(1, 30)}); err != nil {
		t.Fatal(err)
	}
	check := func(want ...flow.Flow) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Path: path})
		got, err := s.Tracked(t.Context())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %d, %v\n%+v\nwant %d\n%+v", len(got), err, got[:min(len(got), 5)], len(want), want[:min(len(want), 5)])
		}
	}
	f.Track.Key = 1
	check(f, cut(1<<32-1, 20), cut(1, 30))
	s.SetArchive(ArchiveConfig{Path: t.TempDir() + "/archive.db"})
	if _, err := s.Forget(t.Context(), Forgetting{All: true}); err != nil {
		t.Fatal(err)
	}
	var many []flow.Flow
	for i := range uint32(maxForgotten) {
		many = append(many, cut(i+2, 40))
	}
	check(cut(1<<32-1, 20), cut(1, 30))
	if err := s.Add(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	check(many...)
}

func TestAddRollsTrackingBack(t *testing.T) {
	s := open(t, Options{})
	f := download(5, flow.Running, 100, 1000)
	ctx := context.Background()
	if err := s.Add(ctx, []flow.Flow{f}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"CREATE TEMP TRIGGER no BEFORE UPDATE ON state BEGIN SELECT RAISE(FAIL, 'no'); END", "DROP TRIGGER no"} {
		if _, err := s.w.conn.ExecContext(ctx, sql); err != nil {
			t.Fatal(err)
		}
		err := s.Add(ctx, []flow.Flow{download(6, flow.Running, 1, 1), {State: flow.Void, Track: flow.Track{Key: 5}}})
		if failed := err != nil; failed != (sql[0] == 'C') {
			t.Fatalf("after %q: %v", sql, err)
		}
	}
	p, err := s.Flows(ctx, Query{})
	if err != nil || len(p.Rows) != 1 || p.Rows[0].Sent != 1 || p.Rows[0].State != flow.Running {
		t.Errorf("%+v, %v", p.Rows, err)
	}
}

// TestLimitKeepsTracked: what runs is not deleted for being old.
func TestLimitKeepsTracked(t *testing.T) {
	s := open(t, Options{MaxFlows: 10})
	if err := s.Add(t.Context(), []flow.Flow{download(5, flow.Running, 100, 1000)}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		f := download(0, flow.Whole, 1, 1)
		f.Start += int64(i) * 1000
		f.End = f.Start
		f.Track = flow.Track{}
		if err := s.Add(t.Context(), []flow.Flow{f}); err != nil {
			t.Fatal(err)
		}
	}
	p, err := s.Flows(t.Context(), Query{Sort: BySent, Descending: true})
	if err != nil || len(p.Rows) > 11 || p.Rows[0].Sent != 100 || int64(len(p.Rows)) != s.flows.Load() {
		t.Errorf("%d rows, %d counted, %v", len(p.Rows), s.flows.Load(), err)
	}
}

// TestSummaryOfLongFlows: bytes count into the hours in which they moved, and
// the hours add up.
func TestSummaryOfLongFlows(t *testing.T) {
	s := open(t, Options{})
	f := download(5, flow.Running, 10, 100)
	hourly := []struct {
		hour        string
		sent, recvd uint64
	}{{"11:00:00", 20, 200}, {"12:00:00", 30, 300}, {"14:00:00", 40, 400}}
	short := download(0, flow.Whole, 1, 1)
	short.Start, short.End, short.Track = at("12:30:00"), at("12:31:00"), flow.Track{}
	if err := s.Add(t.Context(), []flow.Flow{f, short}); err != nil {
		t.Fatal(err)
	}
	for _, h := range hourly {
		f.Sent, f.Recvd = f.Sent+h.sent, f.Recvd+h.recvd
		f.End = at(h.hour) + 60_000
		f.Track.Hour, f.Track.HourSent, f.Track.HourRecvd = at(h.hour), h.sent, h.recvd
		if err := s.Add(t.Context(), []flow.Flow{f}); err != nil {
			t.Fatal(err)
		}
	}
	type sum struct {
		hour        string
		sent, flows int64
	}
	tests := []struct {
		name       string
		start, end string
		by         []string
		want       []sum
	}{
		{"all", "", "", []string{"hour"}, []sum{{"10:00:00", 10, 1}, {"11:00:00", 20, 0}, {"12:00:00", 31, 1}, {"14:00:00", 40, 0}}},
		{"by client and hour", "", "", []string{"client", "hour"}, []sum{{"10:00:00", 10, 1}, {"11:00:00", 20, 0}, {"12:00:00", 31, 1}, {"14:00:00", 40, 0}}},
		{"by day", "", "", []string{"day"}, []sum{{"00:00:00", 101, 2}}},
		{"no time", "", "", []string{"client"}, []sum{{"", 101, 2}}},
		{"window", "12:00:00", "14:00:00", []string{"hour"}, []sum{{"12:00:00", 31, 2}}},
		{"window, no time", "12:00:00", "14:00:00", []string{"client"}, []sum{{"", 31, 2}}},
		{"from its beginning", "10:00:00", "12:00:00", []string{"client"}, []sum{{"", 30, 1}}},
		{"from a little after it", "10:59:30", "12:00:00", []string{"client"}, []sum{{"", 30, 1}}},
		{"to the end", "14:00:00", "", []string{"hour"}, []sum{{"14:00:00", 40, 1}}},
		{"after a gap", "13:00:00", "", []string{"hour"}, []sum{{"13:00:00", 0, 1}, {"14:00:00", 40, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := SummaryQuery{By: tt.by}
			if tt.start != "" {
				q.Start = at(tt.start)
			}
			if tt.end != "" {
				q.End = at(tt.end)
			}
			rows, _, err := s.Summary(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var got []sum
			for _, r := range rows {
				g := sum{sent: int64(r.Sent), flows: r.Flows}
				if r.time() > 0 {
					for _, w := range tt.want {
						if r.time() == at(w.hour) {
							g.hour = w.hour
						}
					}
				}
				got = append(got, g)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
