package name

import (
	"fmt"
	"net/netip"
	"testing"
)

var hole = Client{53}

func TestLookupHouse(t *testing.T) {
	type answer struct {
		at   int64 // seconds
		name string
		ttl  uint32
	}
	tests := []struct {
		name    string
		answers []answer
		at      int64
		prefer  string
		want    string
	}{
		{"just told", []answer{{0, "a", 300}}, 1, "", "a"},
		{"as long as it is good", []answer{{0, "a", 300}}, 299, "", "a"},
		{"no longer", []answer{{0, "a", 300}}, 310, "", ""},
		{"told again", []answer{{0, "a", 300}, {200, "a", 300}}, 400, "", "a"},
		{"not before it was told", []answer{{10, "a", 300}}, 5, "", ""},
		{"two names", []answer{{0, "a", 300}, {5, "b", 300}}, 6, "", ""},
		{"two names, one of which is over", []answer{{0, "a", 60}, {100, "b", 300}}, 120, "", "b"},
		{"two names, one of which was just told", []answer{{0, "a", 300}, {100, "b", 300}}, 101, "", "b"},
		{"two names, long ago", []answer{{0, "a", 300}, {100, "b", 300}}, 150, "", ""},
		{"two names, one of which is preferred", []answer{{0, "a", 300}, {1, "b", 300}}, 150, "a", "a"},
		{"what is preferred was not told", []answer{{0, "a", 300}}, 1, "c", "a"},
	}
	for _, tt := range tests {
		m := memory(10)
		for _, a := range tt.answers {
			m.Answer(hole, a.at*1000, []byte(a.name), []Record{rec(a.name, "A", web.String(), a.ttl)})
			m.AskedOutside(hole)
		}
		prefer := func(n string) bool { return n == tt.prefer }
		if got := m.LookupHouse(web, tt.at*1000, false, prefer); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if got := m.LookupHouse(web, tt.at*1000, true, prefer); got != "" {
			t.Errorf("%s: %q, though the client was told of others", tt.name, got)
		}
		m.Serves(hole)
		if got := m.LookupHouse(web, tt.at*1000, true, prefer); got != tt.want {
			t.Errorf("%s, known to answer: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestWhoAsksForOthers: one that connects to what it asks for asks for itself.
func TestWhoAsksForOthers(t *testing.T) {
	for _, tt := range []struct {
		told, connects int
		want           bool
	}{{1, 0, true}, {1, 1, false}, {7, 1, false}, {8, 1, true}, {100, 13, false}, {100, 12, true}, {3000, 1500, false}, {3000, 100, true}} {
		m := memory(10_000)
		every := tt.told + 1
		if tt.connects > 0 {
			every = tt.told / tt.connects
		}
		for i := range tt.told {
			a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			m.Answer(hole, 0, []byte("a.test"), []Record{rec("a.test", "A", a.String(), 60)})
			m.AskedOutside(hole)
			if i%every == 0 && i/every < tt.connects {
				m.Connects(hole, a)
				m.Connects(hole, a) // counts once
			}
		}
		if got := m.LookupHouse(netip.MustParseAddr("10.0.0.0"), 0, false, nil) != ""; got != tt.want {
			t.Errorf("%d answers, %d connections: %v", tt.told, tt.connects, got)
		}
	}
	m := memory(10)
	m.Connects(hole, web) // which nobody knows
	if m.Resolvers() != 0 || m.Told(hole) {
		t.Error("somebody asks who was told nothing")
	}
	for i := range 10 * maxResolvers {
		m.AskedOutside(Client{3, byte(i), byte(i >> 8)})
	}
	if m.Resolvers() > maxResolvers {
		t.Errorf("%d may ask for others", m.Resolvers())
	}
}

// TestResolverIsForgotten: what it was told can be forgotten as others' answers.
func TestResolverIsForgotten(t *testing.T) {
	m := memory(10)
	m.Answer(hole, 0, []byte("a.test"), []Record{rec("a.test", "A", web.String(), 60)})
	m.Serves(hole)
	m.Forget(func(a Answered) bool { return a.Name == "a.test" })
	if got := m.LookupHouse(web, 0, false, nil); got != "" {
		t.Errorf("the name is %q", got)
	}
}

func BenchmarkLookup(b *testing.B) {
	m := memory(6000)
	for i := range 5000 {
		m.Answer(hole, 0, fmt.Appendf(nil, "n%d.test", i), []Record{rec(fmt.Sprintf("n%d.test", i), "A", fmt.Sprintf("10.0.%d.%d", i/256, i%256), 600)})
	}
	m.Serves(hole)
	a := netip.MustParseAddr("64:ff9b::10.0.5.5")
	b.ReportAllocs()
	for b.Loop() {
		m.Lookup(phone, a, 0, nil)
		m.LookupHouse(a, 0, false, nil)
	}
}
