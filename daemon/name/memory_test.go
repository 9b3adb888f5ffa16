package name

import (
	"fmt"
	"net/netip"
	"testing"
)

var (
	phone  = Client{1}
	laptop = Client{2}
	web    = netip.MustParseAddr("203.0.113.80")
	web6   = netip.MustParseAddr("2001:db8:f::80")
)

const minute = 60_000 // ms

func rec(owner, typ, data string, ttl uint32) Record {
	r := Record{Owner: []byte(owner), TTL: ttl}
	switch typ {
	case "CNAME":
		r.Alias = []byte(data)
	case "A", "AAAA":
		r.Addr, _ = netip.ParseAddr(data)
	}
	return r
}

func memory(size int) *Memory { return NewMemory(size, NewInterner(1000)) }

func TestAnswer(t *testing.T) {
	tests := []struct {
		name    string
		asked   string
		records []Record
		want    string // name of web
		taken   int
	}{
		{"address", "www.example.org", []Record{rec("www.example.org", "A", "203.0.113.80", 60)}, "www.example.org", 1},
		{"case and final dot", "WWW.Example.org.", []Record{rec("www.example.ORG", "A", "203.0.113.80", 60)}, "www.example.org", 1},
		{"alias", "www.alias.test", []Record{rec("www.alias.test", "CNAME", "web.example.net", 0), rec("web.example.net", "A", "203.0.113.80", 0)}, "www.alias.test", 1},
		{"alias in any order", "a.test", []Record{rec("c.test", "A", "203.0.113.80", 0), rec("b.test", "CNAME", "c.test", 0), rec("a.test", "CNAME", "b.test", 0)}, "a.test", 1},
		{"loop", "a.test", []Record{rec("a.test", "CNAME", "b.test", 0), rec("b.test", "CNAME", "a.test", 0), rec("b.test", "A", "203.0.113.80", 0)}, "a.test", 1},
		{"alias of itself", "a.test", []Record{rec("a.test", "CNAME", "a.test", 0), rec("a.test", "A", "203.0.113.80", 0)}, "a.test", 1},
		{"owner that was not asked for", "a.test", []Record{rec("bank.example", "A", "203.0.113.80", 60)}, "", 0},
		{"no address", "a.test", []Record{rec("a.test", "A", "203.0.113", 60), rec("a.test", "TXT", "203.0.113.80", 60)}, "", 0},
		{"bad name", "a\x00.test", []Record{rec("a\x00.test", "A", "203.0.113.80", 60)}, "", 0},
		{"several", "a.test", []Record{rec("a.test", "A", "203.0.113.80", 60), rec("a.test", "A", "203.0.113.81", 60)}, "a.test", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := memory(10)
			if n := m.Answer(phone, 0, []byte(tt.asked), tt.records); n != tt.taken {
				t.Errorf("took %d addresses, want %d", n, tt.taken)
			}
			if got := m.Lookup(phone, web, 1000, nil); got != tt.want {
				t.Errorf("the name is %q, want %q", got, tt.want)
			}
			if got := m.Lookup(laptop, web, 1000, nil); got != "" {
				t.Errorf("another client's name is %q", got)
			}
		})
	}
}

func TestAnswerLongChain(t *testing.T) {
	var records []Record
	for i := range 1000 {
		records = append(records, rec(fmt.Sprintf("n%d.test", i), "CNAME", fmt.Sprintf("n%d.test", i+1), 0))
	}
	records = append(records, rec("n3.test", "A", "203.0.113.80", 0), rec("n900.test", "A", "203.0.113.81", 0))
	m := memory(10)
	if n := m.Answer(phone, 0, []byte("n0.test"), records); n != 1 {
		t.Errorf("took %d addresses, want the one within %d steps", n, maxChain)
	}
}

func TestAnswerRecord(t *testing.T) {
	m := memory(10)
	for _, r := range []Record{
		rec("www.a.test", "CNAME", "b.test", 0),
		rec("b.test", "CNAME", "c.test", 0),
		rec("c.test", "CNAME", "www.a.test", 0), // a loop
		rec("c.test", "CNAME", "b.test", 0),     // and another
		rec("c.test", "A", "203.0.113.80", 0),
	} {
		m.AnswerRecord(phone, 0, r)
	}
	if got := m.Lookup(phone, web, 0, nil); got != "www.a.test" {
		t.Errorf("the name is %q, want the one that was asked for", got)
	}
}

func TestLookup(t *testing.T) {
	type answer struct {
		at   int64 // minutes
		name string
		ttl  uint32
	}
	tests := []struct {
		name    string
		answers []answer
		at      int64 // minutes
		hint    string
		want    string
	}{
		{"latest of two", []answer{{0, "a", 3600}, {1, "b", 3600}}, 2, "", "b"},
		{"valid before expired", []answer{{0, "a", 3600}, {1, "b", 60}}, 30, "", "a"},
		{"expired is better than nothing", []answer{{0, "a", 60}}, 500, "", "a"},
		{"answers after the connection began do not count", []answer{{0, "a", 60}, {5, "b", 60}}, 1, "", "a"},
		{"only later answers", []answer{{5, "a", 60}}, 1, "", ""},
		{"asked again", []answer{{0, "a", 60}, {1, "b", 60}, {2, "a", 60}}, 2, "", "a"},
		{"asked again later", []answer{{0, "a", 60}, {1, "b", 60}, {9, "a", 60}}, 2, "", "b"},
		{"hint of the certificate", []answer{{0, "a", 3600}, {1, "b", 3600}}, 2, "a", "a"},
		{"hint that was not asked for", []answer{{0, "a", 3600}}, 2, "c", "a"},
		{"more names than are kept", []answer{{0, "a", 60}, {0, "b", 60}, {0, "c", 60}, {0, "d", 60}, {0, "e", 60}, {1, "f", 60}}, 1, "", "f"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := memory(10)
			for _, a := range tt.answers {
				m.Answer(phone, a.at*minute, []byte(a.name), []Record{rec(a.name, "AAAA", web6.String(), a.ttl)})
			}
			if got := m.Lookup(phone, web6, tt.at*minute, func(n string) bool { return n == tt.hint }); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := memory(100)
	for i := range 10_000 {
		a := fmt.Sprintf("10.0.%d.%d", i/256, i%256)
		m.Answer(phone, int64(i), []byte("a.test"), []Record{rec("a.test", "A", a, 60)})
		m.AnswerRecord(phone, int64(i), rec("a.test", "CNAME", fmt.Sprintf("n%d.test", i), 60))
	}
	if m.Len() > 100 || m.Len() < 98 || m.aliases.Len() != maxAliases {
		t.Errorf("%d pairs and %d aliases are kept", m.Len(), m.aliases.Len())
	}
	if got := m.Lookup(phone, netip.MustParseAddr("10.0.39.15"), 10_000, nil); got != "a.test" {
		t.Errorf("the latest address has the name %q", got)
	}
}

// TestMemoryIsShared: a client that floods it with answers forgets its own.
func TestMemoryIsShared(t *testing.T) {
	m := memory(100)
	m.Answer(laptop, 0, []byte("a.test"), []Record{rec("a.test", "A", "203.0.113.80", 60)})
	for i := range 10_000 {
		m.Answer(phone, int64(i), []byte("b.test"), []Record{rec("b.test", "A", fmt.Sprintf("10.0.%d.%d", i/256, i%256), 60)})
	}
	if got := m.Lookup(laptop, web, 0, nil); got != "a.test" {
		t.Errorf("the name is %q", got)
	}
	if m.Len() > 100 {
		t.Errorf("%d pairs are kept", m.Len())
	}
	// Clients that are made up are bounded, too.
	for i := range 3 * maxClients {
		m.Answer(Client{3, byte(i), byte(i >> 8)}, int64(i), []byte("c.test"), []Record{rec("c.test", "A", "203.0.113.80", 60)})
	}
	sum := 0
	for _, a := range m.clients.Values() {
		sum += a.Len()
	}
	if m.newPairs != sum || len(m.newcomers) != m.clients.Len() {
		t.Errorf("%d pairs of newcomers are counted, %d kept; %d newcomers of %d", m.newPairs, sum, len(m.newcomers), m.clients.Len())
	}
	if m.Len() > 100 || m.Len() != sum || m.clients.Len() > maxClients {
		t.Errorf("%d pairs are counted, %d kept, of %d clients", m.Len(), sum, m.clients.Len())
	}
}

// TestMadeUpClients: however many clients are made up, those that were there before
// keep what they were told, and those that come afterwards are remembered, too.
func TestMadeUpClients(t *testing.T) {
	const hour = 60 * minute
	for _, tt := range []struct {
		name    string
		answers int   // of each client that is made up
		before  int64 // ms from the household's answers to those
		again   bool  // the household asks again just before
		round   int64 // ms between one made-up client and the next
		want    int   // names of each of the household's clients
	}{
		{"one answer", 1, 0, false, 0, 10},
		{"several answers", 4, 0, false, 0, 10},
		{"at length", 1, 0, false, 1000, 10},
		{"an idle household", 1, 24 * hour, false, 0, 10},
		{"an old household", 12, 2 * hour, true, 0, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := memory(6144)
			told := func(c Client, at int64, n int, name string) {
				for i := range n {
					m.Answer(c, at, []byte(name), []Record{rec(name, "A", fmt.Sprintf("203.0.113.%d", i), 3600)})
				}
			}
			known := func(c Client, at int64, name string) (n int) {
				for i := range 256 {
					if m.Lookup(c, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), at, nil) == name {
						n++
					}
				}
				return n
			}
			at := int64(0)
			for i := range 20 {
				told(Client{1, byte(i)}, at, 10, "home.test")
			}
			at += tt.before
			if tt.again {
				for i := range 20 {
					told(Client{1, byte(i)}, at, 10, "home.test")
				}
			}
			for i := range 3 * maxClients {
				at += tt.round
				told(Client{2, byte(i), byte(i >> 8)}, at, tt.answers, "made-up.test")
			}
			for i := range 20 {
				if n := known(Client{1, byte(i)}, at, "home.test"); n != tt.want {
					t.Fatalf("client %d has %d names, want %d", i, n, tt.want)
				}
			}
			if m.clients.Len() > maxClients || m.Len() > 6144 {
				t.Errorf("%d clients with %d addresses are remembered", m.clients.Len(), m.Len())
			}
			for i := range 20 { // new devices, after it
				told(Client{3, byte(i)}, at, tt.answers+2, "new.test")
			}
			for i := range 20 {
				if n := known(Client{3, byte(i)}, at, "new.test"); n != tt.answers+2 {
					t.Fatalf("new client %d has %d names, want %d", i, n, tt.answers+2)
				}
			}
		})
	}
}

// TestMadeUpResolvers: clients that are answered from outside do not take the place of
// the resolver of the house.
func TestMadeUpResolvers(t *testing.T) {
	m := memory(6144)
	m.Serves(laptop)
	m.Answer(laptop, 0, []byte("a.test"), []Record{rec("a.test", "A", web.String(), 60)})
	for i := range 2 * maxResolvers {
		m.AskedOutside(Client{3, byte(i)})
	}
	if got := m.LookupHouse(web, 0, true, nil); got != "a.test" || m.Resolvers() != maxResolvers {
		t.Errorf("the name is %q, with %d resolvers", got, m.Resolvers())
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add("a.test", "a.test", "CNAME", "b.test", "b.test", "A", "1.2.3.4")
	f.Add("a.test", "a.test", "CNAME", "a.test", "a.test", "AAAA", "::1")
	f.Fuzz(func(t *testing.T, asked, o1, t1, d1, o2, t2, d2 string) {
		m := memory(4)
		records := []Record{rec(o1, t1, d1, 1), rec(o2, t2, d2, 1<<32-1)}
		m.Answer(phone, 0, []byte(asked), records)
		for _, r := range records {
			m.AnswerRecord(phone, 0, r)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	m := memory(1000)
	records := []Record{rec("www.alias.test", "CNAME", "web.example.net", 0), rec("web.example.net", "A", "203.0.113.80", 0)}
	asked := []byte("www.alias.test")
	b.ReportAllocs()
	for b.Loop() {
		m.Answer(phone, 0, asked, records)
	}
}

func TestForget(t *testing.T) {
	m := memory(10)
	for _, c := range []Client{phone, laptop} {
		m.Answer(c, 0, []byte("a.test"), []Record{rec("a.test", "A", "203.0.113.80", 60), rec("a.test", "AAAA", "2001:db8:f::80", 60)})
		m.Answer(c, 1000, []byte("b.test"), []Record{rec("b.test", "A", "203.0.113.80", 60)})
	}
	m.Forget(func(a Answered) bool {
		return a.Client == phone && a.Name == "b.test" && a.Addr == web && a.Last == 1000
	})
	m.Forget(func(a Answered) bool { return a.Client == laptop && a.Addr == web6 })
	for _, tt := range []struct {
		client Client
		addr   netip.Addr
		want   string
	}{{phone, web, "a.test"}, {phone, web6, "a.test"}, {laptop, web, "b.test"}, {laptop, web6, ""}} {
		if got := m.Lookup(tt.client, tt.addr, minute, nil); got != tt.want {
			t.Errorf("%v of %v is %q, want %q", tt.addr, tt.client, got, tt.want)
		}
	}
	if m.Len() != 3 {
		t.Errorf("%d pairs are left", m.Len())
	}
	m.Forget(func(Answered) bool { return true })
	if m.Len() != 0 || m.clients.Len() != 0 || len(m.intern.m) != 0 {
		t.Errorf("%d pairs, %d clients, %d strings are left", m.Len(), m.clients.Len(), len(m.intern.m))
	}
}
