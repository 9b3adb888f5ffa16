package flow

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/conntrack"
	"pakon/daemon/name"
)

// TestWellKnownNames: address and port name what nothing else does, whoever
// counts it.
func TestWellKnownNames(t *testing.T) {
	to := func(dst, proto string) conn {
		return with(browse, func(c *conn) { c.dst, c.proto, c.app = dst, proto, "" })
	}
	resolver, ntp := to("8.8.8.8:443", "TCP"), to("203.0.113.80:123", "UDP")
	cert := `"subject":"CN=cert.example.org"`
	tests := []struct {
		name    string
		conn    conn
		events  []string
		want    string
		source  name.Source
		unnamed bool // as far as coverage goes
	}{
		{name: "neither", conn: browse, unnamed: true},
		{name: "port", conn: ntp, want: "ntp", source: name.Port, unnamed: true},
		{name: "address", conn: resolver, want: "dns.google", source: name.Address},
		{name: "address over port", conn: to("8.8.8.8:853", "TCP"), want: "dns.google", source: name.Address},
		{name: "router", conn: to("192.168.1.1:80", "TCP"), want: "router", source: name.Address},
		{name: "router over IPv6", conn: with(to("[2001:db8:1::1]:123", "UDP"), func(c *conn) { c.src = "[2001:db8:1::10]:123" }), want: "router", source: name.Address},
		{name: "SNI over address", conn: resolver, events: []string{resolver.tls(`"sni":"a.example"`)}, want: "a.example", source: name.TLS},
		{name: "DNS over address", conn: resolver, events: []string{resolver.answer("a.example", "8.8.8.8")}, want: "a.example", source: name.DNS},
		{name: "DNS over port", conn: ntp, events: []string{ntp.answer("pool.example", "203.0.113.80")}, want: "pool.example", source: name.DNS},
		{name: "DNS over router", conn: to("192.168.1.1:80", "TCP"), events: []string{browse.answer("turris.example", "192.168.1.1")}, want: "turris.example", source: name.DNS},
		{name: "certificate over address", conn: resolver, events: []string{resolver.tls(cert)}, want: "cert.example.org", source: name.Certificate},
		{name: "opened from outside", conn: conn{id: 1, src: "203.0.113.80:40000", dst: "192.168.1.10:51820", srcMAC: routerMAC, dstMAC: phoneMAC, proto: "UDP", sent: 1000, recvd: 5000}, unnamed: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check := func(by string, tab *Table, got []Flow) {
				t.Helper()
				if len(got) != 1 {
					t.Fatalf("%s: %d flows, want 1", by, len(got))
				}
				if f := got[0]; f.Name != tt.want || f.Source != tt.source {
					t.Errorf("%s: the name is %q by %q, want %q by %q", by, f.Name, f.Source, tt.want, tt.source)
				}
				cov := tab.TakeCoverage()["br-lan"]
				if cov.Recorded == 0 || cov.Named != 0 && cov.Named != cov.Recorded || (cov.Named == 0) != tt.unnamed {
					t.Errorf("%s: coverage %+v", by, cov)
				}
			}
			tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
			accounted(t, tab, play(t, tab, strings.NewReader(strings.Join(append(slices.Clone(tt.events), tt.conn.end()), "\n"))))
			check("Suricata", tab, *got)

			k := newKernelTable(t, Policy{})
			proto := TCP
			if tt.conn.proto == "UDP" {
				proto = UDP
			}
			e := k.add(kernelConn(1, proto, tt.conn.src, tt.conn.dst))
			k.now = k.now.Add(time.Second)
			play(t, k.Table, strings.NewReader(strings.Join(tt.events, "\n")))
			moved(e, 1000, 5000)
			k.end(e)
			check("kernel", k.Table, *k.got)
		})
	}
}

// TestWellKnownGivesWay: a name that comes later replaces it, also in the records
// of a run before.
func TestWellKnownGivesWay(t *testing.T) {
	begin := func() (*kernelOf, *conntrack.Entry) {
		k := newKernelTable(t, Policy{})
		e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", "1.1.1.1:443"))
		moved(e, 10, 20)
		k.after(3 * time.Second)
		return k, e
	}
	cloudflare := with(browse, func(c *conn) { c.dst = "1.1.1.1:443" })
	more := func(k *kernelOf, e *conntrack.Entry, event string) {
		moved(e, 1, 2)
		play(t, k.Table, strings.NewReader(event))
		k.after(3 * time.Second)
	}

	k, e := begin()
	kept := slices.Clone(*k.got)
	k.expect(t, "no name yet", `running out 443/6 "one.one.one.one" 10+20`)
	more(k, e, cloudflare.tls(`"version":"TLS 1.3"`))
	k.expect(t, "no SNI", `running out 443/6 "one.one.one.one" 11+22`)
	more(k, e, cloudflare.tls(`"sni":"sni.example.org"`))
	k.expect(t, "SNI", `running out 443/6 "sni.example.org" 12+24`)
	want := Coverage{Recorded: 36, Named: 36}
	if got := k.TakeCoverage()["br-lan"]; got != want {
		t.Errorf("coverage %+v, want %+v", got, want)
	}

	k, e = begin()
	k.take()
	more(k, e, cloudflare.answer("asked.example.org", "1.1.1.1"))
	k.expect(t, "an answer", `running out 443/6 "asked.example.org" 11+22`)

	k, e = begin()
	next := newKernelTable(t, Policy{})
	next.Table, next.got = newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	kept[0].Track.Key = 1
	next.Adopt(kept)
	next.now, next.entries = k.now.Add(5*time.Second), []*conntrack.Entry{e}
	moved(e, 1, 2)
	next.dump()
	next.expect(t, "of the run before", `running out 443/6 "one.one.one.one" 11+22`)
	play(t, next.Table, strings.NewReader(cloudflare.answer("asked.example.org", "1.1.1.1")))
	moved(e, 1, 2)
	next.after(3 * time.Second)
	next.expect(t, "an answer in the next run", `running out 443/6 "asked.example.org" 12+24`)
}

// TestForwardedIsNotTheRouter: a client that takes the way over this machine's
// outer address reaches another client.
func TestForwardedIsNotTheRouter(t *testing.T) {
	clients := home()
	clients.addrs[netip.MustParseAddr("203.0.113.1")] = true
	tab, got := newTable(clients, Policy{Interfaces: []string{"br-lan"}})
	k := &kernelOf{Table: tab, now: began, got: got}
	k.dump()
	for _, tt := range []struct{ behind, want string }{
		{"192.168.1.11:80", `whole out 8080/6 "" 10+20`},
		{"203.0.113.1:8080", `whole out 8080/6 "router" 10+20`},
	} {
		c := kernelConn(1, TCP, "192.168.1.10:50000", "203.0.113.1:8080")
		c.Reply.Src = netip.MustParseAddrPort(tt.behind)
		e := k.add(c)
		moved(e, 10, 20)
		k.now = k.now.Add(time.Second)
		k.end(e)
		k.expect(t, tt.behind, tt.want)
	}
}

// TestWellKnownNamesAreNames: to those who leave out or forget by name.
func TestWellKnownNamesAreNames(t *testing.T) {
	const timeServer = "203.0.113.80:123"
	without := Policy{Interfaces: []string{"br-lan"}, ExcludeNames: func(n string) bool { return n == "ntp" }}
	ntp := with(browse, func(c *conn) { c.dst, c.proto, c.app = timeServer, "UDP", "ntp" })

	tab, got := newTable(home(), without)
	play(t, tab, strings.NewReader(ntp.end()))
	if n := tab.Counts()[ExcludedName].Events; len(withoutLeftOut(*got)) != 0 || n != 1 {
		t.Errorf("Suricata's count: %d flows, %d left out by name", len(*got), n)
	}
	tab, got = newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	tab.Forget(began.Add(time.Second).UnixMilli(), func(f *Flow) bool { return f.Name == "ntp" })
	play(t, tab, strings.NewReader(ntp.end()))
	if n := tab.Counts()[Forgotten].Events; len(*got) != 0 || n != 1 {
		t.Errorf("Suricata's count: %d flows, %d forgotten", len(*got), n)
	}

	begin := func(p Policy) (*kernelOf, *conntrack.Entry) {
		k := newKernelTable(t, p)
		e := k.add(kernelConn(1, UDP, "192.168.1.10:123", timeServer))
		moved(e, 10, 20)
		k.after(3 * time.Second)
		return k, e
	}
	k, _ := begin(without)
	k.expect(t, "left out", "left out excluded_hostname "+phoneMAC+" 10+20")
	k, _ = begin(Policy{})
	k.expect(t, "recorded", `running out 123/17 "ntp" 10+20`)
	k.SetPolicy(without)
	k.expect(t, "left out from now on", "void")
	k, e := begin(Policy{})
	k.take()
	if n := k.Forget(k.now.UnixMilli(), func(f *Flow) bool { return f.Name == "ntp" }); n != 1 {
		t.Errorf("%d connections are forgotten", n)
	}
	moved(e, 1, 2)
	k.after(3 * time.Second)
	k.expect(t, "forgotten", "void", "cut", `running out 123/17 "ntp" 1+2`)
}

// told is a DNS event of the client of c as versions 2 and 3 write it.
func (c conn) told(version int, asked, typ, answers string) string {
	c.dst, c.proto, c.id = "192.168.1.1:53", "UDP", c.id+1000
	head, body := c.head("dns"), `"version":2,"type":"answer","rrname":"`+asked+`","rrtype":"`+typ+`"`
	if version == 3 {
		c.src, c.dst = c.dst, c.src
		head, body = c.head("dns"), `"version":3,"type":"response","queries":[{"rrname":"`+asked+`","rrtype":"`+typ+`"}]`
	}
	return head + `,"dns":{` + body + `,"id":1,"rcode":"NOERROR","answers":[` + answers + `]}}`
}

// TestAnswersOfOtherTypes: HTTPS records, as Suricata writes them, name no address
// and hinder nothing; what an address is called in reverse names nothing.
func TestAnswersOfOtherTypes(t *testing.T) {
	const (
		alias   = `{"rrname":"a.example","rrtype":"CNAME","ttl":60,"rdata":"cdn.example"}`
		address = `{"rrname":"cdn.example","rrtype":"A","ttl":60,"rdata":"203.0.113.80"}`
		svc     = `{"rrname":"a.example","rrtype":"HTTPS","ttl":60}`
		svcCDN  = `{"rrname":"cdn.example","rrtype":"HTTPS","ttl":60}`
		reverse = "80.113.0.203.in-addr.arpa"
		ptr     = `{"rrname":"` + reverse + `","rrtype":"PTR","ttl":60,"rdata":"server80.isp.example"}`
	)
	c := browse
	type answer struct{ asked, typ, answers string }
	tests := []struct {
		name string
		told []answer
		want string
	}{
		{"HTTPS alone", []answer{{"a.example", "HTTPS", svc}}, ""},
		{"HTTPS, then A", []answer{{"a.example", "HTTPS", svc}, {"a.example", "A", alias + "," + address}}, "a.example"},
		{"HTTPS of an alias, then A", []answer{{"a.example", "HTTPS", alias + "," + svcCDN}, {"a.example", "A", alias + "," + address}}, "a.example"},
		{"HTTPS that ends in an alias, then A", []answer{{"a.example", "HTTPS", alias}, {"a.example", "A", alias + "," + address}}, "a.example"},
		{"A, then HTTPS", []answer{{"a.example", "A", alias + "," + address}, {"a.example", "HTTPS", alias}}, "a.example"},
		{"PTR", []answer{{reverse, "PTR", ptr}}, ""},
		{"PTR by an alias", []answer{{reverse, "PTR", `{"rrname":"` + reverse + `","rrtype":"CNAME","ttl":60,"rdata":"80.net.example"},{"rrname":"80.net.example","rrtype":"PTR","ttl":60,"rdata":"server80.isp.example"}`}}, ""},
		{"PTR with addresses", []answer{{reverse, "PTR", ptr + `,{"rrname":"` + reverse + `","rrtype":"A","ttl":60,"rdata":"203.0.113.80"}`}}, ""},
		{"PTR that is an address", []answer{{reverse, "PTR", `{"rrname":"` + reverse + `","rrtype":"PTR","ttl":60,"rdata":"203.0.113.80"}`}}, ""},
		{"PTR after A", []answer{{"a.example", "A", alias + "," + address}, {reverse, "PTR", ptr}}, "a.example"},
	}
	for _, tt := range tests {
		for _, version := range []int{2, 3} {
			tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
			var events []string
			for _, a := range tt.told {
				events = append(events, c.told(version, a.asked, a.typ, a.answers))
			}
			events = append(events, c.end())
			accounted(t, tab, play(t, tab, strings.NewReader(strings.Join(events, "\n"))))
			if len(*got) != 1 || (*got)[0].Name != tt.want {
				t.Errorf("%s, version %d: %+v, want the name %q", tt.name, version, *got, tt.want)
			}
		}
	}
}
