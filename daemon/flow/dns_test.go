package flow

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/conntrack"
)

// tunnel is what Suricata says of a connection to port 53.
func tunnel(app string) conn {
	return with(browse, func(c *conn) { c.dst, c.proto, c.app = "203.0.113.80:53", "UDP", app })
}

const dnsPort = "203.0.113.80:53"

// TestPort53 has connections that the kernel counts, of which Suricata says at
// the end what they are.
func TestPort53(t *testing.T) {
	in := kernelConn(1, UDP, "203.0.113.80:40000", "203.0.113.1:53")
	in.Reply = conntrack.Tuple{Src: netip.MustParseAddrPort("192.168.1.10:53"), Dst: in.Orig.Src}
	fromOutside := kernelConn(1, UDP, "203.0.113.80:53", "203.0.113.1:8080")
	fromOutside.Reply = conntrack.Tuple{Src: netip.MustParseAddrPort("192.168.1.10:8080"), Dst: fromOutside.Orig.Src}
	out, tcp := kernelConn(1, UDP, "192.168.1.10:50000", dnsPort), kernelConn(1, TCP, "192.168.1.10:50000", dnsPort)
	elsewhere := kernelConn(1, UDP, "192.168.1.10:50000", "203.0.113.80:5300")
	const much = 64 << 10
	tests := []struct {
		name         string
		entry        conntrack.Entry
		sent, recvd  uint64
		packets      uint64
		app          string // that Suricata says; "-": it says nothing
		want         string
		fate         Fate
		beforeItEnds bool // only if Suricata says it before the kernel forgets the connection
	}{
		{name: "DNS", entry: out, sent: 10, recvd: 20, app: "dns", fate: DNSFlow},
		{name: "DNS over TCP", entry: tcp, sent: 10, recvd: 20, app: "dns", fate: DNSFlow},
		{name: "nothing is said", entry: out, sent: 10, recvd: 20, app: "-", fate: DNSFlow},
		{name: "nothing is known", entry: out, sent: 10, recvd: 20, app: "", fate: DNSFlow},
		{name: "no DNS", entry: out, sent: 10, recvd: 20, app: "failed", want: `whole out 53/17 "" 10+20`},
		{name: "TLS", entry: tcp, sent: 10, recvd: 20, app: "tls", want: `whole out 53/6 "" 10+20`},
		{name: "no DNS and no answer", entry: out, sent: 10, app: "failed", fate: Unanswered, beforeItEnds: true},
		{name: "as much as DNS may be", entry: out, sent: 10, recvd: much - 10, packets: 1000, app: "dns", fate: DNSFlow},
		{name: "more bytes", entry: out, sent: 10, recvd: much - 9, app: "dns", want: `whole out 53/17 "" 10+65527`},
		{name: "more packets", entry: out, sent: 10, recvd: 20, packets: 1001, app: "-", want: `whole out 53/17 "" 10+20`},
		{name: "to a client's port", entry: in, sent: 10, recvd: 20, app: "failed", want: `whole in 53/17 "" 20+10`},
		{name: "much to a client's port", entry: in, sent: 10, recvd: much, app: "-", want: `whole in 53/17 "" 65536+10`},
		{name: "DNS to a client's port", entry: in, sent: 10, recvd: 20, app: "dns", fate: DNSFlow},
		{name: "from port 53", entry: fromOutside, sent: 10, recvd: 20, app: "failed", want: `whole in 8080/17 "" 20+10`},
		{name: "DNS on another port", entry: elsewhere, sent: 10, recvd: 20, app: "dns", fate: DNSFlow, beforeItEnds: true},
		{name: "a tunnel through DNS on another port", entry: elsewhere, sent: 10, recvd: much, app: "dns", want: `whole out 5300/17 "" 10+65536`, beforeItEnds: true},
	}
	for _, tt := range tests {
		for _, order := range []string{"said before its end", "said after its end"} {
			if tt.beforeItEnds && order == "said after its end" {
				continue
			}
			t.Run(tt.name+", "+order, func(t *testing.T) {
				k := newKernelTable(t, Policy{})
				k.SetCapture(Capture{Heads: true})
				e := k.add(tt.entry)
				moved(e, tt.sent, tt.recvd)
				e.Sent.Packets, e.Recvd.Packets = max(1, tt.packets)-1, 1
				if tt.recvd == 0 {
					e.Status = 0
				}
				k.now = k.now.Add(time.Second)
				say := func() {
					if tt.app == "-" {
						return
					}
					remote, local := e.Orig.Dst, e.Orig.Src
					if e.Reply.Src != e.Orig.Dst {
						remote = e.Reply.Src
					}
					c := with(tunnel(tt.app), func(c *conn) {
						c.iface, c.srcMAC, c.src, c.dst = "-", "", local.String(), remote.String()
						if e.Proto == TCP {
							c.proto = "TCP"
						}
					})
					play(t, k.Table, strings.NewReader(c.end()))
				}
				if order == "said before its end" {
					say()
				}
				k.forget(e)
				if order == "said after its end" {
					say()
				}
				k.close()
				want := []string{}
				if tt.want != "" {
					want = append(want, tt.want)
				}
				k.expect(t, tt.name, want...)
				for _, c := range k.Connections() {
					if (c.Events == 1) != (c.Fate == tt.fate) {
						t.Errorf("%v connections: %d", c.Fate, c.Events)
					}
				}
			})
		}
	}
}

// TestPort53Grows: a connection is recorded from its first byte as soon as it has
// moved more than DNS does, and stays so.
func TestPort53Grows(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, UDP, "192.168.1.10:50000", dnsPort))
	e.Start = began.UnixNano()
	moved(e, 1000, 40000)
	k.after(3 * time.Second)
	k.expect(t, "as much as DNS")
	if got, want := k.TakeCoverage()["br-lan"], (Coverage{Other: 41000}); got != want {
		t.Errorf("as much as DNS: got %+v, want %+v", got, want)
	}
	if k.Running() != 0 {
		t.Errorf("%d run", k.Running())
	}
	moved(e, 1000, 40000)
	k.after(3 * time.Second)
	if f := (*k.got)[0]; f.Start != began.UnixMilli() || f.Client != mac(phoneMAC) {
		t.Errorf("recorded %+v", f)
	}
	k.expect(t, "more than DNS", `running out 53/17 "" 2000+80000`)
	if got, want := k.TakeCoverage()["br-lan"], (Coverage{Other: 41000, Turned: 82000}); got != want {
		t.Errorf("more than DNS: got %+v, want %+v", got, want)
	}
	play(t, k.Table, strings.NewReader(tunnel("dns").end()))
	k.after(3 * time.Second)
	if f := (*k.got)[0]; f.App != "dns" {
		t.Errorf("recorded %+v", f)
	}
	k.expect(t, "called DNS", `running out 53/17 "" 2000+80000`)
	k.Forget(k.now.UnixMilli(), func(*Flow) bool { return true })
	k.expect(t, "forgotten", "void", "cut")
	moved(e, 1, 2)
	k.after(3 * time.Second)
	k.expect(t, "after that", `running out 53/17 "" 1+2`)
}

// TestPort53Forgotten: what moved before is not recorded when a connection turns
// out to be no DNS later.
func TestPort53Forgotten(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, UDP, "192.168.1.10:50000", dnsPort))
	ended := k.add(kernelConn(2, UDP, "192.168.1.10:50001", dnsPort))
	moved(e, 1000, 40000)
	moved(ended, 1000, 40000)
	k.after(3 * time.Second)
	k.end(ended)
	k.Forget(k.now.UnixMilli(), func(*Flow) bool { return true })
	play(t, k.Table, strings.NewReader(with(tunnel("failed"), func(c *conn) { c.src = "192.168.1.10:50001" }).end()))
	moved(e, 1000, 70000)
	k.after(3 * time.Second)
	k.expect(t, "afterwards", "cut", "left out dns_flow "+phoneMAC+" 1000+40000", `running out 53/17 "" 1000+70000`)
}

// TestPort53Zeroed: the kernel's counters are zeroed again and again.
func TestPort53Zeroed(t *testing.T) {
	k := newKernelTable(t, Policy{})
	bytes := k.add(kernelConn(1, UDP, "192.168.1.10:50000", dnsPort))
	packets := k.add(kernelConn(2, UDP, "192.168.1.10:50001", dnsPort))
	for range 3 {
		bytes.Sent, bytes.Recvd = conntrack.Counter{}, conntrack.Counter{}
		packets.Sent, packets.Recvd = conntrack.Counter{}, conntrack.Counter{}
		k.after(time.Second)
		moved(bytes, 10000, 20000)
		moved(packets, 10, 20)
		packets.Sent.Packets, packets.Recvd.Packets = 200, 200
		k.after(time.Second)
	}
	k.expect(t, "after three times", `running out 53/17 "" 30000+60000`, `running out 53/17 "" 30+60`)
}

// TestPort53Said: what Suricata says of a connection that runs is enough.
func TestPort53Said(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", dnsPort))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "before")
	play(t, k.Table, strings.NewReader(with(tunnel("tls"), func(c *conn) { c.proto = "TCP" }).tls(`"sni":"vpn.example.org"`)))
	k.after(3 * time.Second)
	k.expect(t, "by its hello", `running out 53/6 "vpn.example.org" 10+20`)

	// Before the kernel tells of it.
	play(t, k.Table, strings.NewReader(with(tunnel("tls"), func(c *conn) { c.proto, c.id, c.src = "TCP", 2, "192.168.1.10:50001" }).tls(`"sni":"vpn.example.org"`)))
	early := k.add(kernelConn(2, TCP, "192.168.1.10:50001", dnsPort))
	moved(early, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "its hello first", `running out 53/6 "vpn.example.org" 10+20`)

	// A connection of UDP that is silent ends for Suricata, and goes on.
	k = newKernelTable(t, Policy{})
	silent := k.add(kernelConn(3, UDP, "192.168.1.10:50002", dnsPort))
	moved(silent, 10, 20)
	k.after(30 * time.Second)
	play(t, k.Table, strings.NewReader(with(tunnel("failed"), func(c *conn) { c.src = "192.168.1.10:50002" }).end()))
	moved(silent, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "no DNS", `running out 53/17 "" 20+40`)

	// One that was called DNS once is not called anything else by what Suricata
	// sees of it after it was silent.
	k = newKernelTable(t, Policy{})
	dns := k.add(kernelConn(4, UDP, "192.168.1.10:50003", dnsPort))
	moved(dns, 10, 20)
	k.after(3 * time.Second)
	for _, app := range []string{"dns", "failed"} {
		play(t, k.Table, strings.NewReader(with(tunnel(app), func(c *conn) { c.src = "192.168.1.10:50003" }).end()))
	}
	k.after(3 * time.Second)
	k.expect(t, "DNS")
}

// TestPort53Excluded: a client that is left out stays so.
func TestPort53Excluded(t *testing.T) {
	k := newKernelTable(t, Policy{ExcludeMACs: map[client.MAC]bool{mac(phoneMAC): true}})
	e := k.add(kernelConn(1, UDP, "192.168.1.10:50000", dnsPort))
	moved(e, 10, 70000)
	k.after(3 * time.Second)
	k.end(e)
	k.expect(t, "a client that is left out", "left out excluded_client "+phoneMAC+" 10+70000")
	if n := k.Connections()[slices.IndexFunc(k.Connections(), func(c Count) bool { return c.Fate == ExcludedClient })].Events; n != 1 {
		t.Errorf("%d connections of clients that are left out", n)
	}
}

// TestPort53Adopted: a run goes on with what the one before recorded, and with
// what it did not record yet.
func TestPort53Adopted(t *testing.T) {
	k := newKernelTable(t, Policy{})
	large := k.add(kernelConn(1, UDP, "192.168.1.10:50000", dnsPort))
	said := k.add(kernelConn(2, UDP, "192.168.1.10:50001", dnsPort))
	small := k.add(kernelConn(3, UDP, "192.168.1.10:50002", dnsPort))
	small.Start = began.UnixNano()
	moved(large, 10, 70000)
	moved(said, 10, 20)
	moved(small, 10, 40000)
	play(t, k.Table, strings.NewReader(with(tunnel("failed"), func(c *conn) { c.src = "192.168.1.10:50001" }).end()))
	k.after(3 * time.Second)
	kept := slices.Clone(*k.got)
	for i := range kept {
		kept[i].Track.Key = uint64(i + 1)
	}
	k.expect(t, "before", `running out 53/17 "" 10+20`, `running out 53/17 "" 10+70000`)

	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	next := &kernelOf{Table: tab, now: k.now.Add(time.Minute), got: got, entries: k.entries}
	next.Adopt(kept)
	for _, e := range next.entries {
		moved(e, 1, 30000)
	}
	next.dump()
	play(t, tab, strings.NewReader(with(tunnel(""), func(c *conn) { c.src = "192.168.1.10:50001" }).end()))
	next.after(3 * time.Second)
	if f := (*got)[2]; f.Start != began.UnixMilli() {
		t.Errorf("recorded %+v", f)
	}
	next.expect(t, "after", `running out 53/17 "" 11+100000`, `running out 53/17 "" 11+30020`, `running out 53/17 "" 11+70000`)
}

// TestPort53Offloaded: a flow table takes the connection, and does not count.
func TestPort53Offloaded(t *testing.T) {
	k := newKernelTable(t, Policy{})
	k.SetCapture(Capture{Uncounted: true})
	e := k.add(kernelConn(1, UDP, "192.168.1.10:50000", dnsPort))
	moved(e, 10, 20)
	e.Status |= conntrack.Offloaded
	k.after(3 * time.Second)
	play(t, k.Table, strings.NewReader(with(tunnel(""), func(c *conn) { c.recvd = 5_000_000 }).end()))
	k.expect(t, "its end", `whole out 53/17 "" 1000+5000000`)
}

func TestLingeringIsBounded(t *testing.T) {
	k := newKernelTable(t, Policy{})
	for i := range maxLinger + 100 {
		e := k.add(kernelConn(uint32(i+1), UDP, netip.AddrPortFrom(netip.MustParseAddr("192.168.1.10"), uint16(i+1)).String(), dnsPort))
		moved(e, 10, 20)
		k.forget(e)
	}
	if n := len(k.kernel.lingering); n != maxLinger {
		t.Errorf("%d linger, want %d", n, maxLinger)
	}
}
