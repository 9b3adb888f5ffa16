package store

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
)

// open opens a store in a folder of the test's own.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "pakon.db")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func add(t testing.TB, s *Store, flows ...flow.Flow) {
	t.Helper()
	if err := s.Add(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
}

// walk reads all pages of a query.
func walk(t testing.TB, s *Store, q Query) []Row {
	t.Helper()
	var all []Row
	for {
		p, err := s.Flows(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		all = append(all, p.Rows...)
		if p.Next == "" {
			return all
		}
		if len(p.Rows) == 0 {
			t.Fatalf("%+v: an empty page that is not the last", q)
		}
		q.Cursor = p.Next
	}
}

func testMAC(n byte) client.MAC { return client.MAC{2, 0, 0, 0, 0, n} }

// testFlow is a flow with all that a flow can have.
func testFlow(start int64) flow.Flow {
	return flow.Flow{
		Start: start, End: start + 1500, Client: testMAC(1),
		ClientAddr: netip.MustParseAddr("192.168.1.10"), Remote: netip.MustParseAddr("2001:db8::1"),
		Port: 443, Proto: flow.TCP, Name: "www.example.org", Source: name.TLS, App: "tls",
		Interface: "br-lan", Sent: 1000, Recvd: 20000,
	}
}

func TestAFlowComesBackAsItWent(t *testing.T) {
	full := testFlow(1_700_000_000_123)
	tests := []struct {
		name   string
		change func(*flow.Flow)
	}{
		{"all fields", func(*flow.Flow) {}},
		{"incoming UDP", func(f *flow.Flow) { f.Direction, f.Proto, f.Port = flow.In, flow.UDP, 65535 }},
		{"no MAC", func(f *flow.Flow) { f.Client = client.MAC{} }},
		{"no MAC, IPv6", func(f *flow.Flow) {
			f.Client, f.ClientAddr = client.MAC{}, netip.MustParseAddr("fe80::1")
		}},
		{"no addresses", func(f *flow.Flow) { f.ClientAddr, f.Remote = netip.Addr{}, netip.Addr{} }},
		{"no name", func(f *flow.Flow) { f.Name, f.Source = "", name.None }},
		{"no app, no interface, port 0", func(f *flow.Flow) { f.App, f.Interface, f.Port = "", "", 0 }},
		{"IPv4 in IPv6", func(f *flow.Flow) { f.Remote = netip.MustParseAddr("::ffff:192.0.2.1") }},
		{"no bytes, no time", func(f *flow.Flow) { f.End, f.Sent, f.Recvd = f.Start, 0, 0 }},
		{"many bytes, long", func(f *flow.Flow) { f.End, f.Sent, f.Recvd = f.Start+30*86400_000, 1<<40, 1<<48 }},
		{"longest name", func(f *flow.Flow) { f.Name = strings.Repeat("a", 255) }},
		{"a name beyond ASCII", func(f *flow.Flow) { f.Name = "žluťoučký.example" }},
		{"a name with quotes", func(f *flow.Flow) { f.Name = `'";--` }},
		{"from 1970", func(f *flow.Flow) { f.Start, f.End = 0, 0 }},
		{"every source", func(f *flow.Flow) { f.Source = name.Certificate }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, Options{})
			f := full
			tt.change(&f)
			add(t, s, f)
			rows := walk(t, s, Query{Filter: Filter{Out: true, In: true}})
			want := Row{Flow: f, Flows: 1, Duration: f.End/1000 - f.Start/1000, Large: f.Sent > 8<<20}
			if len(rows) != 1 || rows[0] != want {
				t.Errorf("got %+v, want %+v", rows, want)
			}
			rows = walk(t, s, Query{Filter: Filter{Out: true, In: true}, Aggregate: true})
			if len(rows) != 1 || rows[0] != want {
				t.Errorf("as an aggregate: got %+v, want %+v", rows, want)
			}
		})
	}
}

func TestWhatIsOutOfBoundsIsStoredAsTheNearest(t *testing.T) {
	s := open(t, Options{})
	f := testFlow(-5)
	f.End, f.Sent = -1, 1<<63
	f.ClientAddr = netip.MustParseAddr("fe80::1%br-lan")
	g := f
	g.Start, g.End = 1<<62, 1<<63-1
	add(t, s, f, g)
	rows := walk(t, s, Query{})
	if len(rows) != 2 {
		t.Fatalf("got %d rows, want 2", len(rows))
	}
	if r := rows[0]; r.Start != 0 || r.End != 0 || r.Sent != maxBytes || r.ClientAddr.Zone() != "" {
		t.Errorf("got %+v", r)
	}
	if r := rows[1]; r.Start != maxTime || r.End != 2*maxTime {
		t.Errorf("got %+v", r)
	}
}

func TestManyFlowsOfOneMillisecond(t *testing.T) {
	s := open(t, Options{})
	const n = 1<<idShift + 5
	flows := make([]flow.Flow, n)
	for i := range flows {
		flows[i] = testFlow(1_700_000_000_000)
		flows[i].Sent = uint64(i)
	}
	add(t, s, flows[:10]...)
	add(t, s, flows[10:]...)
	seen := make(map[uint64]bool)
	for _, r := range walk(t, s, Query{Sort: BySent}) {
		seen[r.Sent] = true
		if r.Start-flows[0].Start > 3 {
			t.Fatalf("start moved by %d ms", r.Start-flows[0].Start)
		}
	}
	if len(seen) != n {
		t.Errorf("got %d flows, want %d", len(seen), n)
	}
}

func TestStats(t *testing.T) {
	s := open(t, Options{})
	st, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Flows != 0 || st.Oldest != 0 || st.Newest != 0 || st.Bytes == 0 {
		t.Errorf("empty: got %+v", st)
	}
	a, b := testFlow(1_700_000_000_000), testFlow(1_700_000_100_000)
	b.Name, b.Client = "", testMAC(2)
	add(t, s, b, a)
	if st, err = s.Stats(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.Bytes = 0
	want := Stats{Flows: 2, Names: 1, Clients: 2, Oldest: a.Start, Newest: b.Start}
	if st != want {
		t.Errorf("got %+v, want %+v", st, want)
	}
}
