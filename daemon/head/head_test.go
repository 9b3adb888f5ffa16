package head

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// foreign is somebody else's firewall, which offloads nothing and loses
// nothing, but has a table by the same name.
const foreign = `
table inet fw4 {
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "br-lan" counter accept
	}
}
table ip pakon {
	chain mine { }
}
`

func TestLog(t *testing.T) {
	r := newHouse(t)
	h, w := r.head()
	r.start(h)
	r.apply(h, Settings{Way: NFLOG, Interfaces: []string{"br-lan", "wan", "br-absent"}})
	listing := r.ruleset()
	for _, want := range []string{
		"table inet pakon {",
		"meta l4proto != { 6, 17 } return",
		"ct packets > 0 ct packets < 40 ct bytes < 65536 goto known_from", "goto known_to", "ct state new goto new_from",
		"th sport 53 goto dns_to", "th dport 53 goto dns_from",
		"limit rate 1000/second burst 2000 packets } log group 20545 queue-threshold 1",
		"limit rate 2000/second burst 4000 packets } log group 20545 queue-threshold 1",
		"tcp flags fin,rst goto end_from",
		"type filter hook forward priority filter - 5; policy accept;",
		"type filter hook input priority filter - 5; policy accept;",
		"type filter hook output priority filter - 5; policy accept;",
		`iifname "br-lan" goto head`, `oifname "br-lan" goto head`, `iifname "br-absent" goto head`,
	} {
		if !strings.Contains(listing, want) {
			t.Errorf("nft does not show %q", want)
		}
	}
	if t.Failed() {
		t.Log(listing)
	}
	logged := r.listenLog()
	const bulk = 20 << 20
	for _, host := range []string{server4, server6, router4} {
		logged.reset()
		r.fetch(host, 0, bulk)
		// The packets of the end come last; each direction has a FIN.
		logged.until(2, host+": ends of the connection", func(p packet) bool { return p.is(unix.IPPROTO_TCP, 8080) && p.flags&tcpFIN != 0 })
		n, bytes := logged.count(func(p packet) bool { return p.is(unix.IPPROTO_TCP, 8080) })
		// The last packet of the head may be merged from many, and so may one
		// with a FIN.
		if n < 5 || n > headPackets+4 || bytes > headBytes+3<<16 {
			t.Errorf("%s: %d packets of %d bytes were logged of %d bytes", host, n, bytes, bulk)
		}
		if n, _ := logged.count(func(p packet) bool { return p.flags&tcpSYN != 0 }); n != 2 {
			t.Errorf("%s: %d packets with SYN, one of each direction is right", host, n)
		}
		t.Logf("%s: %d packets of %d bytes of %d", host, n, bytes, bulk)
	}
	for _, host := range []string{server4, server6, router4} {
		logged.reset()
		const questions = 3 * headPackets
		r.ask(host, questions)
		dns := func(p packet) bool { return p.is(unix.IPPROTO_UDP, 53) }
		logged.until(2*questions, host+": DNS", dns)
		if n, _ := logged.count(dns); n != 2*questions {
			t.Errorf("%s: %d DNS packets were logged of %d", host, n, 2*questions)
		}
	}
	logged.flood(r, NFLOG)
	w.none(t)
}

// Without accounting all connections have 0 packets, for ever.
func TestLogWithoutAccounting(t *testing.T) {
	r := newHouse(t)
	h, _ := r.head()
	r.apply(h, Settings{Way: NFLOG, Interfaces: []string{"br-lan"}})
	// The rules have switched it on.
	r.in(r.router, func() error { return writeSysctl("netfilter/nf_conntrack_acct", "0") })
	logged := r.listenLog()
	r.fetch(server4, 0, 5<<20)
	fin := func(p packet) bool { return p.flags&(tcpFIN|tcpRST) != 0 }
	logged.until(2, "ends of the connection", fin)
	if n, _ := logged.count(func(p packet) bool { return !fin(p) }); n != 0 {
		t.Errorf("%d packets were logged", n)
	}
}

func TestRestore(t *testing.T) {
	for _, way := range []Way{NFLOG, Mirror} {
		t.Run(way.String(), func(t *testing.T) {
			r := newHouse(t)
			h, w := r.head()
			r.nft(foreign)
			r.start(h)
			r.apply(h, Settings{Way: way, Interfaces: []string{"br-lan"}})
			want, theirs := r.ruleset(), r.run(r.router, "", "nft", "list", "table", "inet", "fw4")
			table := map[Way]string{NFLOG: "inet pakon", Mirror: "netdev pakon"}[way]
			chain := map[Way]string{NFLOG: "head_from", Mirror: "head0_from"}[way]
			for i, harm := range []string{
				"delete table " + table,
				"flush table " + table,
				"insert rule " + table + " " + chain + " return",
				"add chain " + table + " another",
			} {
				r.nft(harm)
				line := w.next(t)
				if !strings.Contains(line, "put back") {
					t.Errorf("%s: the warning is %q", harm, line)
				}
				if got := r.ruleset(); got != want {
					t.Errorf("%s: the rules are\n%s\nand were\n%s", harm, got, want)
				}
				if s := h.State(); s.Restored != i+1 || s.Err != nil || s.Way != way {
					t.Errorf("%s: %+v", harm, s)
				}
			}
			r.nft("flush ruleset")
			w.next(t)
			if got := r.ruleset(); !strings.Contains(got, "table "+table) || strings.Contains(got, "fw4") {
				t.Errorf("after the flush the rules are\n%s", got)
			}
			// The first five are put back at once, this one within a minute.
			r.nft("flush ruleset")
			r.nft(foreign)
			r.apply(h, Settings{Way: way, Interfaces: []string{"br-lan"}})
			if got := r.run(r.router, "", "nft", "list", "table", "inet", "fw4"); got != theirs {
				t.Errorf("the firewall was\n%s\nand is\n%s", theirs, got)
			}
			if got := r.ruleset(); !strings.Contains(got, "table "+table) {
				t.Errorf("Apply did not put the rules back:\n%s", got)
			}
			w.next(t)
			w.none(t)
		})
	}
}

func TestApplyReplacesAndRemoves(t *testing.T) {
	r := newHouse(t)
	r.nft(foreign)
	before := r.ruleset()
	// What another process left that was killed.
	dead, _ := r.head()
	r.apply(dead, Settings{Way: Mirror, Interfaces: []string{"br-lan", "wan"}})
	r.apply(dead, Settings{Way: NFLOG, Interfaces: []string{"br-lan", "wan"}})
	r.nft("add table netdev pakon\nadd chain netdev pakon left")
	r.ip(r.router, "link add pakon7 type ifb")

	h, w := r.head()
	r.start(h)
	lan := Settings{Way: NFLOG, Interfaces: []string{"br-lan"}}
	r.apply(h, lan)
	if got := r.ruleset(); strings.Contains(got, `"wan"`) || strings.Contains(got, "netdev") || !strings.Contains(got, `iifname "br-lan" goto`) {
		t.Errorf("the first Apply leaves\n%s", got)
	}
	if links := r.run(r.router, "", "ip", "link"); strings.Contains(links, "pakon") {
		t.Errorf("mirror devices are left:\n%s", links)
	}
	print := h.print
	r.apply(h, lan)
	if h.print != print || print == "" {
		t.Error("the same settings write the rules anew")
	}
	r.apply(h, Settings{Way: NFLOG, Interfaces: []string{"wan", "", "br-lan", "wan", "much-too-long-a-name"}})
	if got := r.ruleset(); strings.Count(got, `iifname "wan" goto`) != 2 || strings.Contains(got, "much") {
		t.Errorf("another interface:\n%s", got)
	}
	r.apply(h, Settings{Way: Mirror, Interfaces: []string{"br-lan"}})
	if got := r.ruleset(); strings.Contains(got, "inet pakon") || !strings.Contains(got, `ingress device "br-lan"`) {
		t.Errorf("another way:\n%s", got)
	}
	r.in(r.router, h.Remove)
	r.in(r.router, h.Remove)
	if got := r.ruleset(); got != before {
		t.Errorf("Remove leaves\n%s\nof\n%s", got, before)
	}
	if links := r.run(r.router, "", "ip", "link"); strings.Contains(links, "pakon") {
		t.Errorf("Remove leaves devices:\n%s", links)
	}
	if s := h.State(); s.Way != None || s.Mirrors != nil || s.Restored != 0 || s.Err != nil {
		t.Errorf("after Remove: %+v", s)
	}
	r.apply(dead, Settings{Way: Mirror, Interfaces: []string{"br-lan"}})
	r.in(r.router, Clean)
	r.in(r.router, Clean)
	if got := r.ruleset() + r.run(r.router, "", "ip", "link"); strings.Contains(got, "netdev") || strings.Contains(got, "pakon0") {
		t.Errorf("Clean leaves\n%s", got)
	}
	w.none(t)
}

func TestManyInterfaces(t *testing.T) {
	r := newHouse(t)
	var names, commands []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("br-%d", i))
		commands = append(commands, "link add "+names[i]+" type bridge")
	}
	r.ip(r.router, commands...)
	h, _ := r.head()
	for _, way := range []Way{Mirror, NFLOG} {
		r.apply(h, Settings{Way: way, Interfaces: names})
		if h.print == "" {
			t.Errorf("%v: not all rules are in force", way)
		}
	}
}

func TestProbe(t *testing.T) {
	r := newHouse(t)
	r.nft(foreign)
	before := r.ruleset() + r.run(r.router, "", "ip", "-o", "link")
	changes := r.listenLinks()
	for _, names := range [][]string{{"br-lan", "absent"}, {"absent"}, nil} {
		r.in(r.router, func() error {
			a, err := Probe(names)
			if a.NFLOG != nil || a.Mirror != nil || len(a.Flowtables) != 0 {
				t.Errorf("%q: %+v", names, a)
			}
			return err
		})
	}
	if after := r.ruleset() + r.run(r.router, "", "ip", "-o", "link"); after != before {
		t.Errorf("Probe leaves\n%s\nof\n%s", after, before)
	}
	r.ip(r.router, "link add last type bridge")
	if got := changes(); got != "last" {
		t.Errorf("Probe changes the link %q", got)
	}
}

func TestMirror(t *testing.T) {
	r := newHouse(t)
	h, w := r.head()
	r.start(h)
	lan := Settings{Way: Mirror, Interfaces: []string{"br-lan", "br-absent"}}
	r.apply(h, lan)
	mirrors := h.State().Mirrors
	device := ""
	for name, network := range mirrors {
		if network == "br-lan" {
			device = name
		}
	}
	if len(mirrors) != 2 || device == "" {
		t.Fatalf("the mirrors are %v", mirrors)
	}
	listing := r.ruleset()
	for _, want := range []string{
		"table netdev pakon {",
		"type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service",
		"type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service",
		"size 65536", "flags dynamic,timeout", "timeout 2m",
		`type filter hook ingress device "br-lan" priority -100; policy accept;`,
		`type filter hook egress device "br-lan" priority -100; policy accept;`,
		`quota 24 kbytes } dup to "` + device + `"`,
	} {
		if !strings.Contains(listing, want) {
			t.Errorf("nft does not show %q", want)
		}
	}
	if t.Failed() {
		t.Log(listing)
	}
	seen := r.listenDevice(device)
	const bulk = 20 << 20
	check := func(what, host string, port int) {
		t.Helper()
		seen.reset()
		r.fetch(host, port, bulk)
		tcp := func(p packet) bool { return p.is(unix.IPPROTO_TCP, 8080) }
		seen.until(2, what+": ends of the connection", func(p packet) bool { return tcp(p) && p.flags&tcpFIN != 0 })
		n, bytes := seen.count(tcp)
		// Headers of segments that were merged come on top of the quota.
		if n < 8 || n > 200 || bytes > 2*quotaBytes+2<<16 {
			t.Errorf("%s: %d packets of %d bytes were mirrored of %d bytes", what, n, bytes, bulk)
		}
		if n, _ := seen.count(func(p packet) bool { return tcp(p) && p.flags&tcpSYN != 0 }); n != 2 {
			t.Errorf("%s: %d packets with SYN, one of each direction is right", what, n)
		}
		// The first packet of data of each direction has what names it.
		for _, from := range []bool{true, false} {
			if n, _ := seen.count(func(p packet) bool { return tcp(p) && (p.from == 8080) == from && p.data > 0 }); n == 0 {
				t.Errorf("%s: no data (from the server: %v)", what, from)
			}
		}
		if n, _ := seen.count(func(p packet) bool { return p.length > wireSize }); n != 0 {
			t.Errorf("%s: %d packets are larger than on a cable", what, n)
		}
		t.Logf("%s: %d packets of %d bytes of %d", what, n, bytes, bulk)
	}
	check("v4", server4, 40000)
	check("v6", server6, 40000)
	check("the router", router4, 0)
	questions := func(what, host string) {
		t.Helper()
		seen.reset()
		const n = 60 // of 512 bytes: more than the quota
		r.ask(host, n)
		dns := func(p packet) bool { return p.is(unix.IPPROTO_UDP, 53) }
		seen.until(2*n, what+": DNS", dns)
		if got, _ := seen.count(dns); got != 2*n {
			t.Errorf("%s: %d of %d DNS packets were mirrored", what, got, 2*n)
		}
	}
	questions("v4", server4)
	questions("v6", server6)
	questions("the router", router4)
	seen.flood(r, Mirror)

	// Who calls Apply at every change of a link must not be told of one by it.
	changes := r.listenLinks()
	r.apply(h, lan)
	if got := h.State().Mirrors; len(got) != 2 || got[device] != "br-lan" {
		t.Errorf("the mirrors are %v", got)
	}
	r.ip(r.router, "link add last type bridge")
	if got := changes(); got != "last" {
		t.Errorf("Apply with the same settings changes the link %q", got)
	}
	// A network restart: the bridge, and with it the hooks, are gone and come.
	r.ip(r.router, "link del br-lan")
	r.apply(h, lan)
	if got := r.ruleset(); strings.Contains(got, "hook ingress") {
		t.Errorf("without the bridge:\n%s", got)
	}
	r.ip(r.router, createBridge...)
	r.apply(h, lan)
	if got := h.State().Mirrors; got[device] != "br-lan" {
		t.Errorf("the mirror is another one: %v", got)
	}
	check("the bridge made anew", server4, 0)
	// The same without a word in between.
	r.ip(r.router, append([]string{"link del br-lan"}, createBridge...)...)
	r.apply(h, lan)
	check("the bridge made anew at once", server4, 0)
	// A mirror device that somebody deleted.
	r.ip(r.router, "link del "+device)
	r.apply(h, lan)
	seen = r.listenDevice(device)
	check("the mirror made anew", server4, 0)
	if s := h.State(); s.Restored != 0 || s.Err != nil {
		t.Errorf("%+v", s)
	}
	w.none(t)
}

// The same ports again, before the quota is forgotten.
func TestMirrorReusedPorts(t *testing.T) {
	r := newHouse(t)
	h, _ := r.head()
	r.apply(h, Settings{Way: Mirror, Interfaces: []string{"br-lan"}})
	seen := r.listenDevice("pakon0")
	for _, host := range []string{server4, server6} {
		for range 3 {
			seen.reset()
			r.fetch(host, 40001, 2<<20)
			seen.until(2, "ends of the connection", func(p packet) bool { return p.is(unix.IPPROTO_TCP, 8080) && p.flags&tcpFIN != 0 })
			// The request, and the beginning of the answer.
			for _, from := range []bool{true, false} {
				if n, _ := seen.count(func(p packet) bool { return (p.from == 8080) == from && p.data > 0 && p.flags&tcpFIN == 0 }); n == 0 {
					t.Errorf("%s: no data (from the server: %v)", host, from)
				}
			}
		}
	}
}

// A flowtable that has the bridge's ports takes packets before the bridge.
func TestMirrorPorts(t *testing.T) {
	r := newHouse(t)
	r.ip(r.router, "link add lan2 type veth peer name eth1 netns "+r.path(r.server), "link set lan2 master br-lan up")
	r.ip(r.server, "addr add 192.168.1.3/32 dev eth1", "link set eth1 up",
		"rule add from 192.168.1.3 lookup 100", "route add 192.168.1.0/24 dev eth1 table 100")
	h, _ := r.head()
	// The kernel here may have no flowtables: write the plan for one.
	var p plan
	r.in(r.router, func() (err error) {
		if p, err = prepare(Settings{Way: Mirror, Interfaces: []string{"br-lan"}}); err != nil {
			return err
		}
		c, err := dialLinks()
		if err != nil {
			return err
		}
		defer c.Close()
		links, err := c.list()
		if err != nil {
			return err
		}
		n := &p.networks[0]
		n.hooks, n.mac = hooks("br-lan", links, []Flowtable{{Devices: []string{"lan1"}}})
		return writeRules(p.rules())
	})
	if listing := r.ruleset(); !strings.Contains(listing, `ingress device "lan2"`) || strings.Contains(listing, `device "br-lan"`) {
		t.Errorf("the rules are\n%s", listing)
	}
	seen := r.listenDevice(p.networks[0].mirror.name)
	for _, host := range []string{server4, server6, router4} {
		seen.reset()
		r.fetch(host, 0, 2<<20)
		seen.until(2, host+": ends of the connection", func(p packet) bool { return p.is(unix.IPPROTO_TCP, 8080) && p.flags&tcpFIN != 0 })
		if n, _ := seen.count(func(p packet) bool { return p.is(unix.IPPROTO_TCP, 8080) && p.flags&tcpSYN != 0 }); n != 2 {
			t.Errorf("%s: %d packets with SYN, one of each direction is right", host, n)
		}
	}
	seen.reset()
	r.fetch("192.168.1.3", 40002, 2<<20) // from port to port, which is nothing to the router
	r.fetch(router4, 40003, 2<<20)
	seen.until(2, "ends of the connection", func(p packet) bool { return p.is(unix.IPPROTO_TCP, 40003) && p.flags&tcpFIN != 0 })
	if n, _ := seen.count(func(p packet) bool { return p.is(unix.IPPROTO_TCP, 40002) }); n != 0 {
		t.Errorf("%d packets that the router only switched were mirrored", n)
	}
	r.in(r.router, h.Remove)
}
