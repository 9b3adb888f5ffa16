package flow

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/conntrack"
	"pakon/daemon/name"
)

const (
	phoneMAC  = "02:aa:00:00:00:10"
	laptopMAC = "02:aa:00:00:00:11"
	routerMAC = "02:00:00:00:01:01"
)

func mac(s string) client.MAC {
	m, err := client.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// home is a router with br-lan, 192.168.1.0/24 and 2001:db8:1::/64.
func home() *lan {
	return &lan{
		interfaces: map[string]client.Interface{"br-lan": {
			Name: "br-lan", Index: 3, MAC: mac(routerMAC), Up: true,
			Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("2001:db8:1::/64")},
		}},
		neighbours: map[netip.Addr]client.MAC{netip.MustParseAddr("192.168.1.10"): mac(phoneMAC)},
		macs:       map[client.MAC]bool{mac(routerMAC): true},
		addrs:      map[netip.Addr]bool{netip.MustParseAddr("192.168.1.1"): true, netip.MustParseAddr("2001:db8:1::1"): true},
		seen:       map[client.MAC]int64{},
	}
}

// Events as Suricata writes them, with what a test varies.
type conn struct {
	id             int
	iface          string // "" for br-lan, "-" for none
	src, dst       string // address:port
	srcMAC, dstMAC string
	proto          string // "" for TCP
	app            string
	sent, recvd    int
	packets        int           // each way, 0 for 1
	tcp            string        // the object of that name, "" for none
	late           time.Duration // after the others
	state          string        // "" for bypassed
}

// stamp is a time as Suricata writes it, so long after 12:00:00.
func (c conn) stamp(after time.Duration) string {
	return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).Add(after + c.late).Format("2006-01-02T15:04:05.000000-0700")
}

func (c conn) head(kind string) string {
	iface := ""
	if c.iface != "-" {
		if c.iface == "" {
			c.iface = "br-lan"
		}
		iface = fmt.Sprintf(`"in_iface":%q,`, c.iface)
	}
	if c.proto == "" {
		c.proto = "TCP"
	}
	src, dst := netip.MustParseAddrPort(c.src), netip.MustParseAddrPort(c.dst)
	return fmt.Sprintf(`{"timestamp":%q,"flow_id":%d,%s"event_type":%q,"src_ip":%q,"src_port":%d,"dest_ip":%q,"dest_port":%d,"proto":%q`,
		c.stamp(500*time.Millisecond), c.id, iface, kind, src.Addr(), src.Port(), dst.Addr(), dst.Port(), c.proto)
}

func (c conn) tls(body string) string  { return c.head("tls") + `,"tls":{` + body + "}}" }
func (c conn) http(body string) string { return c.head("http") + `,"http":{` + body + "}}" }
func (c conn) quic(body string) string { return c.head("quic") + `,"quic":{` + body + "}}" }

func (c conn) end() string {
	ether := ""
	if c.srcMAC != "" {
		ether = fmt.Sprintf(`,"ether":{"dest_macs":[%q],"src_macs":[%q]}`, c.dstMAC, c.srcMAC)
	}
	if c.tcp != "" {
		ether += `,"tcp":` + c.tcp
	}
	return c.head("flow") + fmt.Sprintf(`,"app_proto":%q,"flow":{"pkts_toserver":%d,"pkts_toclient":%[2]d,"bytes_toserver":%d,"bytes_toclient":%d,"start":%q,"end":%q,"state":%q,"reason":"timeout"}%s}`,
		c.app, max(1, c.packets), c.sent, c.recvd, c.stamp(400*time.Millisecond), c.stamp(9100*time.Millisecond), cmp.Or(c.state, "bypassed"), ether)
}

// answer is a DNS answer that the client of c received a moment before.
func (c conn) answer(asked, addr string) string {
	c.dst = netip.AddrPortFrom(netip.MustParseAddr("192.168.1.1"), 53).String()
	c.proto, c.id = "UDP", c.id+1000
	ether := ""
	if c.srcMAC != "" {
		ether = fmt.Sprintf(`"ether":{"src_mac":%q,"dest_mac":%q},`, c.srcMAC, routerMAC)
	}
	return c.head("dns") + fmt.Sprintf(`,%s"dns":{"version":2,"type":"answer","id":1,"rrname":%q,"rrtype":"A","rcode":"NOERROR","answers":[{"rrname":%q,"rrtype":"A","ttl":60,"rdata":%q}]}}`,
		ether, asked, asked, addr)
}

var browse = conn{id: 1, src: "192.168.1.10:50000", dst: "203.0.113.80:443", srcMAC: phoneMAC, dstMAC: routerMAC, app: "tls", sent: 1000, recvd: 5000}

func TestFlowOfAConnection(t *testing.T) {
	clients := home()
	tab, got := newTable(clients, Policy{Interfaces: []string{"br-lan"}})
	play(t, tab, strings.NewReader(browse.tls(`"sni":"Www.Example.ORG"`)+"\n"+browse.end()))
	want := Flow{
		Start: 1795348800400, End: 1795348809100,
		Client: mac(phoneMAC), ClientAddr: netip.MustParseAddr("192.168.1.10"), Remote: netip.MustParseAddr("203.0.113.80"),
		Port: 443, Proto: TCP, Direction: Out, Name: "www.example.org", Source: name.TLS, App: "tls", Interface: "br-lan",
		Sent: 1000, Recvd: 5000,
	}
	if len(*got) != 1 || (*got)[0] != want {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	if clients.seen[mac(phoneMAC)] != want.End {
		t.Errorf("the device was seen at %d, want %d", clients.seen[mac(phoneMAC)], want.End)
	}
}

// with returns c changed by f.
func with(c conn, f func(*conn)) conn { f(&c); return c }

func TestNames(t *testing.T) {
	c := browse
	cert := `"subject":"C=US, CN=cert.example.org"`
	tests := []struct {
		name   string
		events []string
		want   string
		source name.Source
	}{
		{"none", nil, "", name.None},
		{"TLS", []string{c.tls(`"sni":"a.example"`)}, "a.example", name.TLS},
		{"HTTP", []string{c.http(`"hostname":"a.example:8080"`)}, "a.example", name.HTTP},
		{"QUIC", []string{c.quic(`"version":"1"`), c.quic(`"sni":"a.example"`), c.quic(`"version":"1"`)}, "a.example", name.QUIC},
		{"first of several requests", []string{c.http(`"hostname":"a.example"`), c.http(`"hostname":"b.example"`)}, "a.example", name.HTTP},
		{"SNI over Host, whichever comes first", []string{c.http(`"hostname":"a.example"`), c.tls(`"sni":"b.example"`), c.http(`"hostname":"c.example"`)}, "b.example", name.TLS},
		{"DNS", []string{c.answer("a.example", "203.0.113.80")}, "a.example", name.DNS},
		{"DNS of another address", []string{c.answer("a.example", "203.0.113.81")}, "", name.None},
		{"DNS of another client", []string{with(c, func(c *conn) { c.srcMAC = laptopMAC }).answer("a.example", "203.0.113.80")}, "", name.None},
		{"SNI over DNS", []string{c.answer("a.example", "203.0.113.80"), c.tls(`"sni":"b.example"`)}, "b.example", name.TLS},
		{"certificate", []string{c.tls(cert)}, "cert.example.org", name.Certificate},
		{"wildcard certificate", []string{c.tls(`"subject":"CN=*.example.org"`)}, "example.org", name.Certificate},
		{"DNS over certificate", []string{c.answer("a.example", "203.0.113.80"), c.tls(cert)}, "a.example", name.DNS},
		{"certificate chooses among DNS names", []string{c.answer("cert.example.org", "203.0.113.80"), c.answer("a.example", "203.0.113.80"), c.tls(cert)}, "cert.example.org", name.DNS},
		{"a bad SNI", []string{c.answer("a.example", "203.0.113.80"), c.tls(`"sni":"a\u0000b"`)}, "a.example", name.DNS},
		{"an address as Host", []string{c.http(`"hostname":"203.0.113.80"`)}, "", name.None},
		{"a hostile name", []string{c.tls(`"sni":"<img src=x onerror=alert(1)>"`)}, "", name.None},
		{"a password", []string{c.http(`"hostname":"anna:geheim@a.example:8080"`)}, "a.example", name.HTTP},
		{"two hosts", []string{c.http(`"hostname":"a.example, b.example"`)}, "a.example", name.HTTP},
		{"HTTP/2", []string{c.http(`"version":"2","http2":{}`), c.http(`"request_headers":[{"name":":authority","value":"A.example:8080"}]`)}, "a.example", name.HTTP},
		{"subjectAltName", []string{c.tls(`"subject":"","subjectaltname":["mail.example.net"]`)}, "mail.example.net", name.Certificate},
		{"common name that is none", []string{c.tls(`"subject":"CN=example nas default","subjectaltname":["192.0.2.1","*.a.example"]`)}, "a.example", name.Certificate},
		{"common name that is none, alone", []string{c.tls(`"subject":"CN=example nas default"`)}, "", name.None},
		{"common name over subjectAltName", []string{c.tls(cert[:len(cert)-1] + `","subjectaltname":["b.example"]`)}, "cert.example.org", name.Certificate},
		{"DNS over subjectAltName", []string{c.answer("a.example", "203.0.113.80"), c.tls(`"subject":"","subjectaltname":["b.example"]`)}, "a.example", name.DNS},
		{"subjectAltName chooses among DNS names", []string{c.answer("www.b.example", "203.0.113.80"), c.answer("a.example", "203.0.113.80"), c.tls(`"subject":"CN=c.example","subjectaltname":["c.example","*.B.example"]`)}, "www.b.example", name.DNS},
		{"a cover", []string{c.tls(`"sni":"cloudflare-ech.com"`)}, "cloudflare-ech.com", name.TLS},
		{"a cover in QUIC", []string{c.quic(`"sni":"Cloudflare-ECH.com"`)}, "cloudflare-ech.com", name.QUIC},
		{"DNS over a cover", []string{c.answer("a.example", "203.0.113.80"), c.tls(`"sni":"cloudflare-ech.com"`)}, "a.example", name.DNS},
		{"DNS over a cover in QUIC", []string{c.answer("a.example", "203.0.113.80"), c.quic(`"sni":"cloudflare-ech.com"`), c.quic(`"version":"1"`)}, "a.example", name.DNS},
		{"DNS that comes later over a cover", []string{c.tls(`"sni":"cloudflare-ech.com"`), c.answer("a.example", "203.0.113.80")}, "a.example", name.DNS},
		{"Host over a cover", []string{c.tls(`"sni":"cloudflare-ech.com"`), c.http(`"hostname":"a.example"`)}, "a.example", name.HTTP},
		{"DNS of a cover", []string{c.answer("cloudflare-ech.com", "203.0.113.80")}, "cloudflare-ech.com", name.DNS},
		{"a name of another connection", []string{with(c, func(c *conn) { c.id = 2 }).tls(`"sni":"b.example"`)}, "", name.None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
			events := append(tt.events, c.end())
			accounted(t, tab, play(t, tab, strings.NewReader(strings.Join(events, "\n"))))
			if len(*got) != 1 {
				t.Fatalf("%d flows, want 1", len(*got))
			}
			if f := (*got)[0]; f.Name != tt.want || f.Source != tt.source {
				t.Errorf("the name is %q by %q, want %q by %q", f.Name, f.Source, tt.want, tt.source)
			}
		})
	}
}

// TestAdoptedCover: a cover that an earlier run recorded still gives way.
func TestAdoptedCover(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.now = k.now.Add(time.Second)
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"cloudflare-ech.com"`)))
	k.after(3 * time.Second)
	kept := slices.Clone(*k.got)
	k.expect(t, "no answer", `running out 443/6 "cloudflare-ech.com" 10+20`)

	next := newKernelTable(t, Policy{})
	next.Table, next.got = newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	kept[0].Track.Key = 1
	next.Adopt(kept)
	next.Learn(mac(phoneMAC), netip.MustParseAddr("203.0.113.80"), "a.example", kept[0].Start)
	next.now, next.entries = k.now.Add(5*time.Second), []*conntrack.Entry{e}
	moved(e, 1, 2)
	next.dump()
	next.expect(t, "an answer of before", `running out 443/6 "a.example" 11+22`)
}

// TestNamesByIPv4 is about connections to addresses that stand for one of IPv4.
func TestNamesByIPv4(t *testing.T) {
	for _, tt := range []struct {
		name, to, want string
		source         name.Source
	}{
		{"told of the address of IPv4", "[64:ff9b::cb00:7150]:8443", "a.example", name.DNS},
		{"another address", "[64:ff9b::cb00:7151]:8443", "", name.None},
		{"a public resolver", "[64:ff9b::808:808]:853", "dns.google", name.Address},
	} {
		c := with(browse, func(c *conn) { c.src, c.dst = "[2001:db8:1::10]:50000", tt.to })
		tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
		play(t, tab, strings.NewReader(browse.answer("a.example", "203.0.113.80")+"\n"+c.end()))
		if len(*got) != 1 || (*got)[0].Name != tt.want || (*got)[0].Source != tt.source || (*got)[0].Remote != netip.MustParseAddrPort(tt.to).Addr() {
			t.Errorf("%s: %+v", tt.name, *got)
		}
	}
}

// TestResolverOfTheHouse is about a device that asks for others, which are told
// nothing that shows.
func TestResolverOfTheHouse(t *testing.T) {
	const holeMAC, holeAddr, holeAddr6 = "02:aa:00:00:00:53", "192.168.1.53", "2001:db8:1::53"
	// told is an answer that a client received from a server.
	told := func(version int, client, clientMAC, server, asked, addr string) string {
		serverMAC := routerMAC
		if server == holeAddr {
			serverMAC = holeMAC
		}
		c := conn{id: 2000, src: netip.AddrPortFrom(netip.MustParseAddr(client), 40000).String(), dst: netip.AddrPortFrom(netip.MustParseAddr(server), 53).String(), proto: "UDP"}
		body := fmt.Sprintf(`"version":2,"type":"answer","rrname":%q,"rrtype":"A"`, asked)
		from, to := clientMAC, serverMAC
		if version == 3 {
			c.src, c.dst, from, to = c.dst, c.src, to, from
			body = fmt.Sprintf(`"version":3,"type":"response","queries":[{"rrname":%q,"rrtype":"A"}]`, asked)
		}
		return c.head("dns") + fmt.Sprintf(`,"ether":{"src_mac":%q,"dest_mac":%q},"dns":{%s,"id":1,"rcode":"NOERROR","answers":[{"rrname":%q,"rrtype":"A","ttl":60,"rdata":%q}]}}`,
			from, to, body, asked, addr)
	}
	const far, router, outside = "203.0.113.80", "192.168.1.1", "9.9.9.9"
	hole := func(asked, addr string) []string { return []string{told(2, holeAddr, holeMAC, outside, asked, addr)} }
	own := with(browse, func(c *conn) { c.id, c.src, c.srcMAC = 77, holeAddr+":50000", holeMAC })
	tests := []struct {
		name   string
		events []string
		want   string
	}{
		{"asks the router", []string{told(2, holeAddr, holeMAC, router, "a.example", far)}, ""},
		{"asks outside", hole("a.example", far), "a.example"},
		{"asks outside, as Suricata 8 tells it", []string{told(3, holeAddr, holeMAC, outside, "a.example", far)}, "a.example"},
		{"asks outside over IPv6", []string{told(3, holeAddr6, holeMAC, "2620:fe::fe", "a.example", far)}, "a.example"},
		{"of another address", hole("a.example", "203.0.113.81"), ""},
		{"a client that asks the router", []string{told(2, "192.168.1.11", laptopMAC, router, "a.example", far)}, ""},
		{"asks outside and connects itself", append(hole("a.example", far), own.tls(`"sni":"a.example"`)), ""},
		{"asks outside and has connected itself", append(hole("a.example", far), own.end()), ""},
		{"its own answer goes first", append(hole("a.example", far), told(2, "192.168.1.10", phoneMAC, router, "b.example", far)), "b.example"},
		{"the client was told of others", append(hole("a.example", far), told(2, "192.168.1.10", phoneMAC, router, "b.example", "203.0.113.81")), ""},
		{"seen to answer", append(hole("a.example", far), told(2, "192.168.1.12", "02:aa:00:00:00:12", holeAddr, "b.example", "203.0.113.81")), "a.example"},
		{"seen to answer, as Suricata 8 tells it", append(hole("a.example", far), told(3, "192.168.1.12", "02:aa:00:00:00:12", holeAddr, "b.example", "203.0.113.81")), "a.example"},
		{"seen to answer this client, too", append(hole("a.example", far), told(2, "192.168.1.10", phoneMAC, holeAddr, "b.example", "203.0.113.81")), "a.example"},
		{"seen to answer, asks the router", []string{told(2, holeAddr, holeMAC, router, "a.example", far), told(2, "192.168.1.12", "02:aa:00:00:00:12", holeAddr, "b.example", "203.0.113.81")}, "a.example"},
		{"seen to answer the router", []string{told(2, holeAddr, holeMAC, router, "a.example", far), told(2, router, routerMAC, holeAddr, "b.example", "203.0.113.81")}, "a.example"},
		{"the router asks outside", []string{told(2, router, routerMAC, outside, "a.example", far)}, ""},
		{"seen to answer, connects itself", append(append(hole("a.example", far), own.end()), told(2, "192.168.1.12", "02:aa:00:00:00:12", holeAddr, "b.example", "203.0.113.81")), "a.example"},
		{"two names for the address", append(hole("a.example", far), hole("b.example", far)...), ""},
		{"two resolvers that agree", append(hole("a.example", far), told(2, "192.168.1.54", "02:aa:00:00:00:54", outside, "a.example", far)), "a.example"},
		{"two resolvers that do not", append(hole("a.example", far), told(2, "192.168.1.54", "02:aa:00:00:00:54", outside, "b.example", far)), ""},
		{"SNI over it", append(hole("a.example", far), browse.tls(`"sni":"b.example"`)), "b.example"},
		{"it over a certificate", append(hole("a.example", far), browse.tls(`"subject":"CN=b.example"`)), "a.example"},
		{"a certificate chooses", append(append(hole("a.example", far), hole("b.example", far)...), browse.tls(`"subject":"CN=a.example"`)), "a.example"},
		{"it over a cover", append(hole("a.example", far), browse.tls(`"sni":"cloudflare-ech.com"`)), "a.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clients := home()
			clients.neighbours[netip.MustParseAddr(holeAddr)] = mac(holeMAC)
			tab, got := newTable(clients, Policy{Interfaces: []string{"br-lan"}})
			accounted(t, tab, play(t, tab, strings.NewReader(strings.Join(append(slices.Clone(tt.events), browse.end()), "\n"))))
			f := (*got)[len(*got)-1]
			if f.Name != tt.want || f.Client != mac(phoneMAC) || (f.Source == name.DNS) != (tt.want != "" && tt.name != "SNI over it") && f.Source != name.Certificate {
				t.Errorf("the name is %q by %q, want %q", f.Name, f.Source, tt.want)
			}

			// The same where the kernel counts.
			tab, got = newTable(clients, Policy{Interfaces: []string{"br-lan"}})
			k := &kernelOf{Table: tab, now: began, got: got}
			k.dump()
			var events []string
			for _, e := range tt.events {
				if e != own.end() {
					events = append(events, e)
				}
			}
			play(t, k.Table, strings.NewReader(strings.Join(events, "\n")))
			if len(events) < len(tt.events) {
				k.end(k.add(kernelConn(7, TCP, own.src, own.dst)))
			}
			e := k.add(kernelConn(1, TCP, browse.src, browse.dst))
			k.now = k.now.Add(time.Second)
			moved(e, 1, 2)
			k.end(e)
			if tt.name == "SNI over it" || strings.Contains(tt.name, "certificate") || strings.Contains(tt.name, "cover") {
				return // said before the kernel's connection began
			}
			if got := *k.got; len(got) != 1 || got[0].Name != tt.want {
				t.Errorf("kernel: %+v, want %q", got, tt.want)
			}
		})
	}
	// Where the owner sends the clients is known, whatever it asks, at whichever of its
	// addresses.
	clients := home()
	clients.neighbours[netip.MustParseAddr(holeAddr)] = mac(holeMAC)
	for _, from := range []string{holeAddr, holeAddr6} {
		for _, before := range []string{"", told(2, "192.168.1.10", phoneMAC, router, "b.example", "203.0.113.81") + "\n"} {
			tab, got := newTable(clients, Policy{Interfaces: []string{"br-lan"}, Resolvers: []netip.Addr{netip.MustParseAddr(router), netip.MustParseAddr(holeAddr)}})
			play(t, tab, strings.NewReader(before+strings.Replace(told(2, holeAddr, holeMAC, router, "a.example", far), holeAddr, from, 1)+"\n"+own.end()+"\n"+browse.end()))
			if len(*got) != 2 || (*got)[1].Name != "a.example" {
				t.Errorf("asked from %s: %+v", from, *got)
			}
		}
	}
	// Where it is not known who is inside, nobody is.
	tab, got := newTable(&lan{}, Policy{Interfaces: []string{"br-lan"}})
	play(t, tab, strings.NewReader(hole("a.example", far)[0]+"\n"+browse.end()))
	if len(*got) != 1 || (*got)[0].Name != "" {
		t.Errorf("a capture: %+v", *got)
	}
}

// TestNamesOfUnmarkedEvents is for captures that tell no MAC: the neighbour
// table says whose the answer and the connection are.
func TestNamesOfUnmarkedEvents(t *testing.T) {
	c := with(browse, func(c *conn) { c.srcMAC, c.iface = "", "-" })
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	play(t, tab, strings.NewReader(c.answer("a.example", "203.0.113.80")+"\n"+c.end()))
	if len(*got) != 1 || (*got)[0].Name != "a.example" || (*got)[0].Client != mac(phoneMAC) {
		t.Errorf("got %+v", *got)
	}
	// A client without a known MAC is one all the same.
	c.src = "192.168.1.99:50000"
	tab, got = newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	play(t, tab, strings.NewReader(c.answer("a.example", "203.0.113.80")+"\n"+c.end()))
	if len(*got) != 1 || (*got)[0].Name != "a.example" || !(*got)[0].Client.IsZero() || (*got)[0].ClientAddr.String() != "192.168.1.99" {
		t.Errorf("got %+v", *got)
	}
}

func TestFates(t *testing.T) {
	policy := Policy{
		Interfaces:   []string{"br-lan"},
		ExcludeMACs:  map[client.MAC]bool{mac(laptopMAC): true},
		ExcludePeers: map[netip.Addr]bool{netip.MustParseAddr("192.168.1.99"): true, netip.MustParseAddr("192.168.1.10"): true},
		ExcludeNames: func(n string) bool { return n == "secret.example" },
		ExcludeAddrs: map[netip.Addr]bool{netip.MustParseAddr("203.0.113.99"): true},
	}
	tests := []struct {
		name   string
		events []string
		want   Fate // of the last event
	}{
		{"recorded", []string{browse.end()}, Recorded},
		{"unanswered", []string{with(browse, func(c *conn) { c.recvd = 0 }).end()}, Unanswered},
		{"answer without a question", []string{with(browse, func(c *conn) { c.sent = 0 }).end()}, Unanswered},
		{"ICMP", []string{with(browse, func(c *conn) { c.proto = "ICMP" }).end()}, OtherProtocol},
		{"DNS", []string{with(browse, func(c *conn) { c.app, c.proto, c.dst = "dns", "UDP", "192.168.1.1:53" }).end()}, DNSFlow},
		{"DNS over TCP", []string{with(browse, func(c *conn) { c.app, c.dst = "dns", "9.9.9.9:53" }).end()}, DNSFlow},
		{"port 53, of which Suricata says nothing", []string{with(browse, func(c *conn) { c.app, c.proto, c.dst = "", "UDP", "9.9.9.9:53" }).end()}, DNSFlow},
		{"the same, the answer seen first", []string{with(browse, func(c *conn) { c.app, c.proto, c.src, c.dst = "", "UDP", "9.9.9.9:53", "192.168.1.10:40000" }).end()}, DNSFlow},
		{"no DNS on port 53", []string{with(browse, func(c *conn) { c.app, c.proto, c.dst = "failed", "UDP", "9.9.9.9:53" }).end()}, Recorded},
		{"no DNS from port 53", []string{with(browse, func(c *conn) { c.app, c.proto, c.src = "", "UDP", "192.168.1.10:53" }).end()}, Recorded},
		{"no DNS to a client's port 53", []string{with(browse, func(c *conn) { c.app, c.proto, c.src, c.dst = "failed", "UDP", "198.51.100.7:40000", "192.168.1.10:53" }).end()}, Recorded},
		{"DNS to a client's port 53", []string{with(browse, func(c *conn) { c.app, c.proto, c.src, c.dst = "dns", "UDP", "198.51.100.7:40000", "192.168.1.10:53" }).end()}, DNSFlow},
		{"as much as DNS may be", []string{with(browse, func(c *conn) {
			c.app, c.proto, c.dst, c.packets, c.recvd = "dns", "UDP", "9.9.9.9:53", 500, 64<<10+14*1000-c.sent
		}).end()}, DNSFlow},
		{"more bytes than DNS", []string{with(browse, func(c *conn) {
			c.app, c.proto, c.dst, c.packets, c.recvd = "dns", "UDP", "9.9.9.9:53", 500, 64<<10+14*1000-c.sent+1
		}).end()}, Recorded},
		{"more packets than DNS", []string{with(browse, func(c *conn) { c.app, c.dst, c.packets, c.recvd = "dns", "9.9.9.9:53", 501, 50000 }).end()}, Recorded},
		{"more than DNS, of which Suricata says nothing", []string{with(browse, func(c *conn) { c.app, c.dst, c.recvd = "", "9.9.9.9:53", 70000 }).end()}, Recorded},
		{"DNS on another port", []string{with(browse, func(c *conn) { c.app, c.proto, c.dst = "dns", "UDP", "9.9.9.9:5300" }).end()}, DNSFlow},
		{"a tunnel through DNS on another port", []string{with(browse, func(c *conn) { c.app, c.proto, c.dst, c.recvd = "dns", "UDP", "9.9.9.9:5300", 70000 }).end()}, Recorded},
		{"TLS to port 53", []string{with(browse, func(c *conn) { c.dst = "203.0.113.80:53" }).end()}, Recorded},
		{"the router's own", []string{with(browse, func(c *conn) { c.src = "192.168.1.1:50000" }).end()}, RouterFlow},
		{"another interface", []string{with(browse, func(c *conn) { c.iface = "eth0" }).end()}, OtherInterface},
		{"name on another interface", []string{with(browse, func(c *conn) { c.iface = "eth0" }).tls(`"sni":"a.example"`)}, OtherInterface},
		{"no interface told", []string{with(browse, func(c *conn) { c.iface = "-" }).end()}, Recorded},
		{"excluded client", []string{with(browse, func(c *conn) { c.srcMAC = laptopMAC }).end()}, ExcludedClient},
		{"excluded client without a MAC", []string{with(browse, func(c *conn) { c.src, c.srcMAC = "192.168.1.99:50000", "" }).end()}, ExcludedClient},
		{"another without a MAC", []string{with(browse, func(c *conn) { c.src, c.srcMAC = "192.168.1.98:50000", "" }).end()}, Recorded},
		{"excluded name", []string{browse.tls(`"sni":"secret.example"`), browse.end()}, ExcludedName},
		{"excluded address", []string{with(browse, func(c *conn) { c.dst = "203.0.113.99:443" }).end()}, ExcludedName},
		{"name", []string{browse.tls(`"sni":"a.example"`)}, Named},
		{"no name", []string{browse.tls(`"version":"TLS 1.3"`)}, NoName},
		{"name of no connection", []string{with(browse, func(c *conn) { c.id = 0 }).tls(`"sni":"a.example"`)}, BadEvent},
		{"bad name", []string{browse.tls(`"sni":"a\u001bb"`)}, BadName},
		{"answer", []string{browse.answer("a.example", "203.0.113.80")}, DNSAnswer},
		{"answer without address", []string{browse.answer("a.example", "nonsense")}, DNSNoAddress},
		{"unknown event", []string{browse.head("fileinfo") + "}"}, OtherEvent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab, got := newTable(home(), policy)
			accounted(t, tab, play(t, tab, strings.NewReader(strings.Join(tt.events, "\n"))))
			for _, c := range tab.Counts() {
				if c.Fate == tt.want && c.Events == 0 {
					t.Errorf("no event was %v: %v", tt.want, tab.Counts())
				}
			}
			if n := len(withoutLeftOut(*got)); (n == 1) != (tt.want == Recorded) {
				t.Errorf("%d flows were recorded", n)
			}
		})
	}
}

func TestDisabled(t *testing.T) {
	tab, got := newTable(home(), Policy{Off: true, Interfaces: []string{"br-lan"}})
	accounted(t, tab, play(t, tab, strings.NewReader(browse.tls(`"sni":"a.example"`)+"\n"+browse.end())))
	if len(*got) != 0 || tab.pending.Len() != 0 {
		t.Errorf("%d flows and %d names while monitoring is disabled", len(*got), tab.pending.Len())
	}
}

func TestDirection(t *testing.T) {
	const gateway = "02:00:00:00:09:09" // a router that is not this machine
	tests := []struct {
		name             string
		clients          *lan
		before           []conn // which the table saw first
		conn             conn
		dir              Direction
		client           string
		clientIP, remote string
	}{
		{name: "out", clients: home(), conn: browse, dir: Out, client: phoneMAC, clientIP: "192.168.1.10", remote: "203.0.113.80"},
		{name: "in by a port forward", clients: home(),
			conn: conn{src: "198.51.100.7:40000", dst: "192.168.1.10:22", srcMAC: routerMAC, dstMAC: phoneMAC},
			dir:  In, client: phoneMAC, clientIP: "192.168.1.10", remote: "198.51.100.7"},
		{name: "in over IPv6", clients: home(),
			conn: conn{src: "[2001:db8:f::7]:40000", dst: "[2001:db8:1::10]:22", srcMAC: routerMAC, dstMAC: phoneMAC},
			dir:  In, client: phoneMAC, clientIP: "2001:db8:1::10", remote: "2001:db8:f::7"},
		{name: "to the router", clients: home(),
			conn: conn{src: "192.168.1.10:40000", dst: "192.168.1.1:80", srcMAC: phoneMAC, dstMAC: routerMAC},
			dir:  Out, client: phoneMAC, clientIP: "192.168.1.10", remote: "192.168.1.1"},
		{name: "between clients", clients: home(),
			conn: conn{src: "192.168.1.11:40000", dst: "192.168.1.10:445", srcMAC: laptopMAC, dstMAC: phoneMAC},
			dir:  Out, client: laptopMAC, clientIP: "192.168.1.11", remote: "192.168.1.10"},
		{name: "from behind another router of the LAN", clients: home(),
			conn: conn{src: "10.9.8.7:40000", dst: "203.0.113.80:443", srcMAC: laptopMAC, dstMAC: routerMAC},
			dir:  Out, client: laptopMAC, clientIP: "10.9.8.7", remote: "203.0.113.80"},
		{name: "a capture: out", clients: &lan{},
			conn: conn{src: "192.168.1.10:40000", dst: "203.0.113.80:443", srcMAC: phoneMAC, dstMAC: gateway},
			dir:  Out, client: phoneMAC, clientIP: "192.168.1.10", remote: "203.0.113.80"},
		{name: "a capture: in", clients: &lan{},
			conn: conn{src: "203.0.113.80:40000", dst: "192.168.1.10:22", srcMAC: gateway, dstMAC: phoneMAC},
			dir:  In, client: phoneMAC, clientIP: "192.168.1.10", remote: "203.0.113.80"},
		{name: "a capture: in over IPv6, the gateway being known by now", clients: &lan{},
			before: []conn{{src: "192.168.1.10:40000", dst: "203.0.113.80:443", srcMAC: phoneMAC, dstMAC: gateway}},
			conn:   conn{src: "[2001:db8:f::7]:40000", dst: "[2001:db8:1::10]:22", srcMAC: gateway, dstMAC: phoneMAC},
			dir:    In, client: phoneMAC, clientIP: "2001:db8:1::10", remote: "2001:db8:f::7"},
		{name: "multicast teaches no gateway", clients: &lan{},
			before: []conn{{src: "192.168.1.10:5353", dst: "224.0.0.251:5353", srcMAC: phoneMAC, dstMAC: laptopMAC, proto: "UDP"}},
			conn:   conn{src: "192.168.1.11:40000", dst: "192.168.1.10:22", srcMAC: laptopMAC, dstMAC: phoneMAC},
			dir:    Out, client: laptopMAC, clientIP: "192.168.1.11", remote: "192.168.1.10"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab, got := newTable(tt.clients, Policy{Interfaces: []string{"br-lan"}})
			for i, c := range append(tt.before, tt.conn) {
				c.id, c.sent, c.recvd = i+1, 100, 200
				play(t, tab, strings.NewReader(c.end()))
			}
			if len(*got) != len(tt.before)+1 {
				t.Fatalf("%d flows", len(*got))
			}
			f := (*got)[len(*got)-1]
			if f.Direction != tt.dir || f.Client != mac(tt.client) || f.ClientAddr.String() != tt.clientIP || f.Remote.String() != tt.remote {
				t.Errorf("%v, client %v at %v, far end %v", f.Direction, f.Client, f.ClientAddr, f.Remote)
			}
			sent, recvd := uint64(100), uint64(200)
			if tt.dir == In {
				sent, recvd = recvd, sent
			}
			if f.Sent != sent || f.Recvd != recvd {
				t.Errorf("the client sent %d and received %d", f.Sent, f.Recvd)
			}
		})
	}
}

// TestResumed is about connections that Suricata had forgotten while they were
// idle: whoever speaks first then did not open them.
func TestResumed(t *testing.T) {
	const forgotten, whole = `{"tcp_flags":"00"}`, `{"tcp_flags":"1b","syn":true}`
	back := conn{src: "203.0.113.80:443", dst: "192.168.1.10:50000", srcMAC: routerMAC, dstMAC: phoneMAC}
	tests := []struct {
		name     string
		conn     conn
		dir      Direction
		port     uint16
		resolved string // by the name of the connection before
	}{
		{"server speaks first", with(back, func(c *conn) { c.tcp = forgotten }), Out, 443, "a.example"},
		{"client speaks first", with(browse, func(c *conn) { c.tcp = forgotten }), Out, 443, "a.example"},
		{"a server of the client", conn{src: "198.51.100.7:40000", dst: "192.168.1.10:22", srcMAC: routerMAC, dstMAC: phoneMAC, tcp: forgotten}, In, 22, ""},
		{"a server of the client speaks first", conn{src: "192.168.1.10:22", dst: "198.51.100.7:40000", srcMAC: phoneMAC, dstMAC: routerMAC, tcp: forgotten}, In, 22, ""},
		{"a new connection from outside", with(back, func(c *conn) { c.tcp = whole }), In, 50000, ""},
		{"QUIC, server speaks first", with(back, func(c *conn) { c.proto = "UDP" }), Out, 443, "a.example"},
		{"UDP between high ports", with(back, func(c *conn) { c.proto, c.src = "UDP", "203.0.113.80:4443" }), In, 50000, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
			before := with(browse, func(c *conn) { c.proto, c.tcp = tt.conn.proto, whole })
			tt.conn.id, tt.conn.sent, tt.conn.recvd = 2, 100, 200
			play(t, tab, strings.NewReader(before.tls(`"sni":"a.example"`)+"\n"+before.end()+"\n"+tt.conn.end()))
			if len(*got) != 2 {
				t.Fatalf("%d flows", len(*got))
			}
			f := (*got)[1]
			if f.Direction != tt.dir || f.Port != tt.port || f.Name != tt.resolved || f.Client != mac(phoneMAC) {
				t.Errorf("%v, port %d, %q, client %v; want %v, port %d, %q", f.Direction, f.Port, f.Name, f.Client, tt.dir, tt.port, tt.resolved)
			}
		})
	}
}

// TestBothVersions compares the flows that Suricata 7 and 8 tell of the same
// traffic in the same router.
func TestBothVersions(t *testing.T) {
	var flows [2][]string
	for i, version := range []string{"7", "8"} {
		f, err := os.Open(filepath.Join("../../suricata/testdata/eve", "router-"+version+"-afpacket.json"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		tab, got := newTable(&lan{}, Policy{Interfaces: []string{"br-lan", "br-guest"}})
		accounted(t, tab, play(t, tab, f))
		for _, f := range *got {
			flows[i] = append(flows[i], fmt.Sprint(f.Client, " ", f.Remote, " ", f.Port, " ", f.Proto, " ", f.App, " ", f.Name, " ", f.Source, " ", f.Interface))
		}
		slices.Sort(flows[i])
	}
	if !slices.Equal(flows[0], flows[1]) {
		t.Errorf("Suricata 7:\n%s\nSuricata 8:\n%s", strings.Join(flows[0], "\n"), strings.Join(flows[1], "\n"))
	}
	want := []string{
		"02:aa:00:00:00:10 203.0.113.80 443 6 tls tls12.example.test tls br-lan",
		"02:aa:00:00:00:10 203.0.113.80 80 6 http plain.example.test http br-lan",
		"02:bb:00:00:00:10 203.0.113.80 80 6 http guest.example.test http br-guest",
	}
	for _, w := range want {
		if !slices.Contains(flows[0], w) {
			t.Errorf("no flow %s among\n%s", w, strings.Join(flows[0], "\n"))
		}
	}
}

func TestPendingIsBounded(t *testing.T) {
	tab, _ := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	var b strings.Builder
	for i := range maxPending + 100 {
		b.WriteString(with(browse, func(c *conn) { c.id = i + 1 }).tls(`"sni":"a.example"`))
		b.WriteByte('\n')
	}
	play(t, tab, strings.NewReader(b.String()))
	if tab.pending.Len() != maxPending || tab.NamesDropped() != 100 {
		t.Errorf("%d names wait, %d were dropped", tab.pending.Len(), tab.NamesDropped())
	}
}

func TestBatches(t *testing.T) {
	var sizes []int
	tab := New(home(), func(f []Flow) { sizes = append(sizes, len(f)) })
	tab.SetPolicy(Policy{Interfaces: []string{"br-lan"}})
	var b strings.Builder
	for i := range batchSize + 3 {
		b.WriteString(with(browse, func(c *conn) { c.id = i + 1 }).end() + "\n")
	}
	play(t, tab, strings.NewReader(b.String()))
	tab.Flush()
	if !slices.Equal(sizes, []int{batchSize, 3}) {
		t.Errorf("batches of %v flows", sizes)
	}
}

// TestTunnels: Suricata tells of the connections that a client's GRE, 6in4 or
// IPIP carries, with the addresses inside and without MACs. Those are of no
// client here; what has an address of the network is, and so is what has a
// client's or no Ethernet's address.
func TestTunnels(t *testing.T) {
	clients := home()
	clients.neighbours[netip.MustParseAddr("10.99.0.5")] = mac(laptopMAC) // has an address of another network, too
	clients.interfaces["wg0"] = client.Interface{Name: "wg0", Index: 4, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/24")}}
	clients.interfaces["br-bare"] = client.Interface{Name: "br-bare", Index: 5, Up: true, MAC: mac(routerMAC)}
	tests := []struct {
		name string
		conn conn
		want string // the client's MAC or address; "": there is none
	}{
		{"GRE", conn{src: "10.9.0.2:5000", dst: "10.9.0.1:7000", proto: "UDP"}, ""},
		{"GRE to the internet", conn{src: "172.28.2.3:50123", dst: "66.59.111.190:22"}, ""},
		{"from the internet", conn{src: "66.59.111.190:50123", dst: "172.28.2.3:22"}, ""},
		{"6in4", conn{src: "[2001:db8:77::2]:5000", dst: "[2001:db8:77::1]:443"}, ""},
		{"a client that has no MAC here", conn{src: "192.168.1.99:5000", dst: "203.0.113.80:443"}, "192.168.1.99"},
		{"the same over IPv6", conn{src: "[2001:db8:1::99]:5000", dst: "[2001:db8:f::80]:443"}, "2001:db8:1::99"},
		{"opened from outside", conn{src: "203.0.113.80:5000", dst: "192.168.1.99:443"}, "192.168.1.99"},
		{"a neighbour of another network", conn{src: "10.99.0.5:5000", dst: "203.0.113.80:443"}, laptopMAC},
		{"from behind another router of the LAN", conn{src: "10.9.8.7:40000", dst: "203.0.113.80:443", srcMAC: laptopMAC, dstMAC: routerMAC}, laptopMAC},
		{"WireGuard", conn{iface: "wg0", src: "10.8.0.2:5000", dst: "203.0.113.80:443"}, "10.8.0.2"},
		{"from behind a WireGuard client", conn{iface: "wg0", src: "10.77.0.2:5000", dst: "203.0.113.80:443"}, "10.77.0.2"},
		{"a bridge without addresses", conn{iface: "br-bare", src: "192.168.7.2:5000", dst: "203.0.113.80:443"}, "192.168.7.2"},
		{"a capture that tells no interface", conn{iface: "-", src: "192.168.7.2:5000", dst: "203.0.113.80:443"}, "192.168.7.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab, got := newTable(clients, Policy{Interfaces: []string{"br-lan", "wg0", "br-bare"}})
			c := tt.conn
			c.id, c.app, c.sent, c.recvd = 1, "ssh", 100, 200
			accounted(t, tab, play(t, tab, strings.NewReader(c.end())))
			who := ""
			for _, f := range *got {
				if who = f.ClientAddr.String(); !f.Client.IsZero() {
					who = f.Client.String()
				}
			}
			if who != tt.want {
				t.Errorf("the client is %q, want %q", who, tt.want)
			}
			if tt.want == "" && tab.Counts()[OtherNetwork].Events != 1 {
				t.Errorf("counted as %v", tab.Counts())
			}
		})
	}
	tab, _ := newTable(clients, Policy{Interfaces: []string{"br-lan"}})
	inside := conn{src: "10.9.0.2:5000"}.answer("a.example", "203.0.113.80")
	inside = strings.ReplaceAll(inside, "192.168.1.1", "10.9.0.1")
	play(t, tab, strings.NewReader(inside))
	if tab.Counts()[OtherNetwork].Events != 1 || tab.memory.Len() != 0 {
		t.Errorf("an answer inside a tunnel: %v", tab.Counts())
	}
}
