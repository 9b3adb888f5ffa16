package flow

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/conntrack"
	"pakon/daemon/name"
)

// began is when the connections of these tests begin: half a second before what
// events say.
var began = time.UnixMilli(1795348800400)

// kernelConn is a connection as the kernel knows it; IPv4 is translated.
func kernelConn(id uint32, proto uint8, from, to string) conntrack.Entry {
	src, dst := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	e := conntrack.Entry{ID: id, Proto: proto, Orig: conntrack.Tuple{Src: src, Dst: dst}, Reply: conntrack.Tuple{Src: dst, Dst: src}}
	if src.Addr().Is4() {
		e.Reply.Dst = netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), src.Port())
	}
	return e
}

// kernelOf plays a kernel to a table.
type kernelOf struct {
	*Table
	now     time.Time
	entries []*conntrack.Entry
	got     *[]Flow
}

func newKernelTable(t *testing.T, p Policy) *kernelOf {
	t.Helper()
	if p.Interfaces == nil {
		p.Interfaces = []string{"br-lan"}
	}
	tab, got := newTable(home(), p)
	tab.SetTimeouts(conntrack.Timeouts{UDP: 30 * time.Second, UDPStream: 120 * time.Second, TimeWait: 120 * time.Second, Close: 10 * time.Second})
	k := &kernelOf{Table: tab, now: began, got: got}
	k.dump()
	return k
}

func (k *kernelOf) add(e conntrack.Entry) *conntrack.Entry {
	k.entries = append(k.entries, &e)
	k.Connection(conntrack.New, &e, k.now)
	return &e
}

// dump tells of all connections, with their counters.
func (k *kernelOf) dump() {
	k.DumpBegins(k.now)
	for _, e := range k.entries {
		listed := *e
		listed.Counted = true
		k.Connection(conntrack.Listed, &listed, k.now)
	}
	k.DumpEnds(k.now, true)
}

// after lets time pass, and dumps.
func (k *kernelOf) after(d time.Duration) {
	k.now = k.now.Add(d)
	k.dump()
}

// moved lets a connection move bytes.
func moved(e *conntrack.Entry, sent, recvd uint64) {
	e.Sent.Bytes += sent
	e.Sent.Packets++
	e.Recvd.Bytes += recvd
	e.Recvd.Packets++
	e.Status |= conntrack.SeenReply
}

func (k *kernelOf) update(e *conntrack.Entry) { k.Connection(conntrack.Updated, e, k.now) }

// end ends a connection, and lets it linger for as long as it does.
func (k *kernelOf) end(e *conntrack.Entry) {
	k.forget(e)
	k.close()
}

// close ends the time for which connections linger.
func (k *kernelOf) close() {
	k.mu.Lock()
	k.lingered(k.now, true)
	k.mu.Unlock()
	k.Flush()
}

// forget makes the kernel forget a connection.
func (k *kernelOf) forget(e *conntrack.Entry) {
	k.entries = slices.DeleteFunc(k.entries, func(o *conntrack.Entry) bool { return o == e })
	last := *e
	last.Counted = true
	last.Stop = k.now.UnixNano()
	k.Connection(conntrack.Ended, &last, k.now)
}

// take returns what was recorded since the last call, in short.
func (k *kernelOf) take() []string {
	var out []string
	for _, f := range *k.got {
		states := [...]string{"whole", "running", "over", "left out", "done", "void", "cut"}
		s := states[f.State]
		if f.State == LeftOut {
			s += fmt.Sprintf(" %s %s %d+%d", f.Fate, f.Client, f.Sent, f.Recvd)
		} else if f.State < Done {
			s += fmt.Sprintf(" %s %d/%d %q %d+%d", f.Direction, f.Port, f.Proto, f.Name, f.Sent, f.Recvd)
			if f.Track.Hour > 0 {
				s += fmt.Sprintf(" (%d+%d)", f.Track.HourSent, f.Track.HourRecvd)
			}
		}
		out = append(out, s)
	}
	*k.got = nil
	return out
}

func (k *kernelOf) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := k.take(); !slices.Equal(got, want) {
		t.Errorf("%s: recorded\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const https = "203.0.113.80:443"

// TestLongConnection: it is recorded while it runs, and its name comes when it
// comes.
func TestLongConnection(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	k.expect(t, "a first packet")
	moved(e, 100, 1000)
	k.update(e)
	k.after(time.Second)
	k.expect(t, "after a second")
	k.after(2 * time.Second)
	k.expect(t, "after three", `running out 443/6 "" 100+1000`)
	k.after(3 * time.Second)
	k.expect(t, "nothing moved")
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"Www.Example.ORG"`)))
	moved(e, 1, 2)
	k.after(3 * time.Second)
	k.expect(t, "a name", `running out 443/6 "www.example.org" 101+1002`)
	if k.Running() != 1 {
		t.Errorf("%d run", k.Running())
	}
	e.TCPState = conntrack.TimeWait
	k.update(e)
	closed := k.now
	if k.Running() != 0 {
		t.Errorf("%d run after the end", k.Running())
	}
	moved(e, 10, 20)
	k.after(3 * time.Second)
	f := (*k.got)[0]
	if f.Start != began.UnixMilli() || f.End != closed.UnixMilli() || f.Client != mac(phoneMAC) || f.Interface != "br-lan" ||
		f.Source != name.TLS || f.App != "tls" || f.Remote != netip.MustParseAddr("203.0.113.80") {
		t.Errorf("recorded %+v", f)
	}
	k.expect(t, "its end", `over out 443/6 "www.example.org" 111+1022`)
	play(t, k.Table, strings.NewReader(browse.end())) // Suricata's word
	k.after(3 * time.Second)
	k.expect(t, "Suricata's count")
	k.now = k.now.Add(2 * time.Minute)
	k.end(e)
	k.expect(t, "the last word", "done")
	play(t, k.Table, strings.NewReader(browse.end()))
	k.expect(t, "Suricata's count, late")
	fates := map[string]uint64{}
	for _, c := range k.Counts() {
		fates[c.Fate.String()] = c.Events
	}
	if fates["counted"] != 2 || fates["recorded"] != 0 {
		t.Errorf("fates %v", fates)
	}
}

// TestShownSoon: a connection that goes on is shown at the second listing at most.
func TestShownSoon(t *testing.T) {
	for first, listings := range map[time.Duration]int{100 * time.Millisecond: 2, 1400 * time.Millisecond: 2, 1500 * time.Millisecond: 1} {
		k := newKernelTable(t, Policy{})
		e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
		moved(e, 1, 2)
		n := 1
		for k.after(first); len(k.take()) == 0 && n < 5; n++ {
			k.after(2 * time.Second)
		}
		if n != listings {
			t.Errorf("first listed after %v, it is shown at listing %d, want %d", first, n, listings)
		}
	}
}

func TestShortConnections(t *testing.T) {
	k := newKernelTable(t, Policy{})
	tests := []struct {
		name  string
		entry conntrack.Entry
		want  []string
	}{
		{"UDP", kernelConn(1, UDP, "192.168.1.10:1", "203.0.113.80:443"), []string{`whole out 443/17 "" 10+20`}},
		{"IPv6", kernelConn(2, UDP, "[2001:db8:1::10]:1", "[2001:db8:f::80]:123"), []string{`whole out 123/17 "ntp" 10+20`}},
		{"DNS", kernelConn(3, UDP, "192.168.1.10:2", "203.0.113.80:53"), nil},
		{"to the router", kernelConn(4, TCP, "192.168.1.10:3", "192.168.1.1:80"), []string{`whole out 80/6 "router" 10+20`}},
		{"by the router", kernelConn(5, TCP, "192.168.1.1:3", "192.168.1.10:80"), nil},
		{"the router and the internet", kernelConn(6, TCP, "203.0.113.1:3", "203.0.113.80:80"), nil},
		{"ICMP", kernelConn(7, 1, "192.168.1.10:0", "203.0.113.80:0"), nil},
		{"another network", kernelConn(8, TCP, "10.0.0.1:3", "203.0.113.80:80"), nil},
	}
	in := kernelConn(9, TCP, "203.0.113.80:4000", "203.0.113.1:8080")
	in.Reply = conntrack.Tuple{Src: netip.MustParseAddrPort("192.168.1.10:80"), Dst: in.Orig.Src}
	tests = append(tests, struct {
		name  string
		entry conntrack.Entry
		want  []string
	}{"forwarded port", in, []string{`whole in 80/6 "" 20+10`}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := k.add(tt.entry)
			moved(e, 10, 20)
			k.now = k.now.Add(time.Second)
			k.end(e)
			k.expect(t, tt.name, tt.want...)
		})
	}
	unanswered := k.add(kernelConn(20, UDP, "192.168.1.10:7", https))
	unanswered.Sent.Bytes = 100
	k.after(5 * time.Second)
	k.end(unanswered)
	k.expect(t, "no answer")
	want := map[string]uint64{"recorded": 4, "unanswered": 1, "dns_flow": 1, "router": 1}
	for _, c := range k.Connections() {
		if c.Events != want[c.Fate.String()] {
			t.Errorf("%v connections: %d, want %d", c.Fate, c.Events, want[c.Fate.String()])
		}
	}
}

// TestEndOfUDP: silence ends it, so its last packet was earlier than its end.
func TestEndOfUDP(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, UDP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	e.Status |= conntrack.Assured
	k.now = k.now.Add(125 * time.Second)
	k.end(e)
	if f := (*k.got)[0]; f.End-f.Start != 5000 {
		t.Errorf("it lasted %d ms", f.End-f.Start)
	}
}

// TestNameFirst: Suricata tells of a connection before the kernel does.
func TestNameFirst(t *testing.T) {
	k := newKernelTable(t, Policy{})
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"first.example.org"`)))
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "after three seconds", `running out 443/6 "first.example.org" 10+20`)
}

// TestAnswerBeforeMAC: the client's MAC becomes known after it has asked.
func TestAnswerBeforeMAC(t *testing.T) {
	clients := home()
	clients.neighbours = map[netip.Addr]client.MAC{}
	tab, got := newTable(clients, Policy{Interfaces: []string{"br-lan"}})
	k := &kernelOf{Table: tab, now: began, got: got}
	k.dump()
	asking := browse
	asking.srcMAC = "" // as in a netfilter log
	play(t, tab, strings.NewReader(asking.answer("asked.example.org", "203.0.113.80")))
	clients.neighbours[netip.MustParseAddr("192.168.1.10")] = mac(phoneMAC)
	play(t, tab, strings.NewReader(asking.tls(`"version":"TLS 1.3"`)))
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	if f := (*k.got)[0]; f.App != "tls" || f.Client != mac(phoneMAC) {
		t.Errorf("recorded %+v", f)
	}
	k.expect(t, "after three seconds", `running out 443/6 "asked.example.org" 10+20`)
}

func TestNameOfAnswer(t *testing.T) {
	k := newKernelTable(t, Policy{})
	play(t, k.Table, strings.NewReader(browse.answer("asked.example.org", "203.0.113.80")))
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "after three seconds", `running out 443/6 "asked.example.org" 10+20`)
}

// TestZeroed: another program zeroes the kernel's counters.
func TestZeroed(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 100, 1000)
	k.after(3 * time.Second)
	k.take()
	e.Sent, e.Recvd = conntrack.Counter{}, conntrack.Counter{}
	moved(e, 5, 2000) // one direction has outgrown what it was
	k.after(3 * time.Second)
	k.expect(t, "after the zeroing", `running out 443/6 "" 105+3000`)
	if k.Zeroed() != 1 {
		t.Errorf("noticed %d times", k.Zeroed())
	}
	// Suricata saw 7 and 70 bytes more, moved just before the zeroing, and what
	// the kernel tells after it.
	moved(e, 1, 1)
	c := browse
	c.sent, c.recvd = 106+7+14, 3001+70+14
	play(t, k.Table, strings.NewReader(c.end()))
	k.after(3 * time.Second)
	k.expect(t, "after Suricata's word", `running out 443/6 "" 106+3001`)
	k.end(e)
	k.expect(t, "the end", `over out 443/6 "" 113+3071`, "done")
}

// TestEventsAfterDump: a dump has the connection that took the ports before the
// end of the one that had them is told.
func TestEventsAfterDump(t *testing.T) {
	for _, number := range []uint32{1, 2} {
		k := newKernelTable(t, Policy{})
		a := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
		a.Start = began.UnixNano()
		moved(a, 5, 50)
		k.after(3 * time.Second)
		k.take()
		b := kernelConn(number, TCP, "192.168.1.10:50000", https)
		b.Start = k.now.UnixNano()
		moved(&b, 10, 100)
		over := *a
		over.TCPState = conntrack.TimeWait
		k.entries = []*conntrack.Entry{&b}
		k.dump()
		k.Connection(conntrack.Updated, &over, k.now)
		k.end(&over)
		b.TCPState = 0
		k.Connection(conntrack.New, &b, k.now)
		k.Flush()
		k.expect(t, "the first", `over out 443/6 "" 5+50`, "done")
		k.after(3 * time.Second)
		k.expect(t, "the second", `running out 443/6 "" 10+100`)
		k.end(&b)
		k.expect(t, "its end", `over out 443/6 "" 10+100`, "done")
	}
}

// TestSuricataFirst: Suricata tells of a whole connection before the kernel tells
// of any of it.
func TestSuricataFirst(t *testing.T) {
	e := kernelConn(1, TCP, "192.168.1.10:50000", https)
	e.Start = began.UnixNano()
	moved(&e, 10, 20)
	e.TCPState = conntrack.TimeWait

	k := newKernelTable(t, Policy{})
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"first.example.org"`)+"\n"+browse.end()))
	k.expect(t, "Suricata's word")
	k.add(e)
	k.after(3 * time.Second)
	k.expect(t, "the kernel's", `over out 443/6 "first.example.org" 10+20`)
	k.now = k.now.Add(time.Minute)
	k.end(k.entries[0])
	k.expect(t, "its end", "done")

	k = newKernelTable(t, Policy{})
	play(t, k.Table, strings.NewReader(browse.end()))
	k.after(3 * time.Second)
	k.expect(t, "no word of the kernel's", `whole out 443/6 "" 1000+5000`)
	k.add(e)
	k.after(3 * time.Second)
	k.now = k.now.Add(time.Minute)
	k.end(k.entries[0])
	k.expect(t, "the kernel's word, too late")
}

// TestNameOfTheNext: the name of the next connection with the same ports comes
// before the kernel's word of it.
func TestNameOfTheNext(t *testing.T) {
	k := newKernelTable(t, Policy{})
	first := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(first, 1, 2)
	first.TCPState = conntrack.TimeWait
	k.update(first)
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"second.example.org"`))) // 100 ms later
	k.Idle()
	last := *first
	last.Counted, k.entries = true, nil
	k.Connection(conntrack.Ended, &last, k.now.Add(200*time.Millisecond))
	second := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(second, 3, 4)
	k.Idle()
	k.after(3 * time.Second)
	k.expect(t, "both", `running out 443/6 "second.example.org" 3+4`, `over out 443/6 "" 1+2`)
}

// TestNameAfterTheEnd: as nothing is told of a next connection with the same ports,
// a name with a time after the end is of the one that has ended.
func TestNameAfterTheEnd(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 1, 2)
	e.TCPState = conntrack.TimeWait
	k.update(e)
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"late.example.org"`))) // 100 ms later
	k.Idle()
	k.Idle()
	k.after(3 * time.Second)
	k.expect(t, "after a listing", `over out 443/6 "late.example.org" 1+2`)
}

// TestUntracked: what the kernel does not track is recorded as soon as the kernel
// has told all that had happened, for which it is asked.
func TestUntracked(t *testing.T) {
	k := newKernelTable(t, Policy{})
	asked := 0
	k.AskKernel(func() { asked++ })
	play(t, k.Table, strings.NewReader(browse.end()))
	k.Idle() // it may have read all just before
	k.expect(t, "at first")
	k.Idle()
	k.expect(t, "a turn later", `whole out 443/6 "" 1000+5000`)
	if k.Idle(); asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

// TestZones: connections with the same ends in two zones are two, in a run to come,
// too; what Suricata tells is of one of them.
func TestZones(t *testing.T) {
	k := newKernelTable(t, Policy{})
	a, b := kernelConn(1, UDP, "192.168.1.10:50000", https), kernelConn(2, UDP, "192.168.1.10:50000", https)
	a.Zone, b.Zone = 3, 4
	first, second := k.add(a), k.add(b)
	moved(first, 10, 20)
	moved(second, 100, 200)
	c := browse
	c.proto = "UDP"
	play(t, k.Table, strings.NewReader(c.quic(`"sni":"zone.example.org"`)))
	k.after(3 * time.Second)
	left := slices.Clone(*k.got)
	k.expect(t, "both", `running out 443/17 "zone.example.org" 10+20`, `running out 443/17 "" 100+200`)
	for i := range left {
		left[i].Track.Key = uint64(i + 1)
	}

	next := newKernelTable(t, Policy{})
	next.Table, next.got = newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	next.Adopt(left)
	next.now, next.entries = k.now.Add(time.Second), []*conntrack.Entry{second, first}
	moved(first, 1, 2)
	moved(second, 3, 4)
	next.dump()
	next.expect(t, "another run", `running out 443/17 "" 103+204`, `running out 443/17 "zone.example.org" 11+22`)
	next.end(first)
	next.end(second)
	next.expect(t, "the ends", `over out 443/17 "zone.example.org" 11+22`, "done", `over out 443/17 "" 103+204`, "done")
}

// TestTail: the last packets of a connection that Suricata has forgotten already
// are added to its flow.
func TestTail(t *testing.T) {
	whole := conn{id: 1, src: "192.168.1.10:50000", dst: "203.0.113.80:80", srcMAC: phoneMAC, dstMAC: routerMAC, app: "http", sent: 500, recvd: 900, state: "closed"}
	tail := conn{id: 2, src: whole.dst, dst: whole.src, srcMAC: routerMAC, dstMAC: phoneMAC, app: "failed", recvd: 66, tcp: `{"ack":true}`, late: 8700 * time.Millisecond}
	soon := func(c conn) string { // told at once
		return strings.Replace(c.end(), c.stamp(500*time.Millisecond), c.stamp(9101*time.Millisecond), 1)
	}
	for _, tt := range []struct {
		name   string
		events []string
		want   []string
	}{
		{"the last packet", []string{soon(whole), tail.end()}, []string{"over 566+900", "done"}},
		{"two of them", []string{soon(whole), tail.end(), with(tail, func(c *conn) { c.src, c.dst, c.sent, c.recvd = c.dst, c.src, 70, 0 }).end()}, []string{"over 636+900", "done"}},
		{"none", []string{soon(whole)}, []string{"over 500+900", "done"}},
		{"told later", []string{strings.Replace(whole.end(), whole.stamp(500*time.Millisecond), whole.stamp(20*time.Second), 1), tail.end()}, []string{"whole 500+900"}},
		{"of a later one", []string{soon(whole), with(tail, func(c *conn) { c.late = time.Minute }).end()}, []string{"over 500+900", "done"}},
		{"one that somebody opened", []string{soon(whole), with(tail, func(c *conn) { c.tcp = `{"syn":true}` }).end()}, []string{"over 500+900", "done"}},
		{"of another connection", []string{soon(whole), with(tail, func(c *conn) { c.dst = "192.168.1.10:50001" }).end()}, []string{"over 500+900", "done"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
			accounted(t, tab, play(t, tab, strings.NewReader(strings.Join(tt.events, "\n"))))
			tab.Suspend()
			var out []string
			for i, f := range *got {
				switch {
				case f.State == Done:
					out = append(out, "done")
				case i+1 < len(*got) && (*got)[i+1].State == Over: // the next replaces it
				default:
					out = append(out, fmt.Sprintf("%s %d+%d", map[State]string{Whole: "whole", Over: "over"}[f.State], f.Sent, f.Recvd))
				}
			}
			if !slices.Equal(out, tt.want) {
				t.Errorf("recorded %q, want %q", out, tt.want)
			}
		})
	}
}

// TestLostEnd: the end was lost; the connection is gone, or another has its
// ports.
func TestLostEnd(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.take()
	k.entries = nil
	k.after(3 * time.Second)
	k.expect(t, "one dump without it")
	k.after(3 * time.Second)
	k.expect(t, "two dumps without it", `over out 443/6 "" 10+20`, "done")

	first := k.add(kernelConn(2, TCP, "192.168.1.10:50000", https))
	moved(first, 1, 2)
	k.after(3 * time.Second)
	k.take()
	k.entries = nil
	second := k.add(kernelConn(3, TCP, "192.168.1.10:50000", https))
	k.Flush()
	k.expect(t, "another with its ports", `over out 443/6 "" 1+2`, "done")
	k.end(first) // told after all: it is of another
	k.expect(t, "the end of the first, late")
	moved(second, 5, 6)
	k.after(3 * time.Second)
	k.expect(t, "the second", `running out 443/6 "" 5+6`)
}

// TestPortsUsedAgain: the kernel gives the next connection with the same ports
// the same number.
func TestPortsUsedAgain(t *testing.T) {
	k := newKernelTable(t, Policy{})
	for i := range 3 {
		e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
		c := browse
		c.id, c.late = 100+i, k.now.Sub(began)
		play(t, k.Table, strings.NewReader(c.tls(fmt.Sprintf(`"sni":"n%d.example.org"`, i))))
		moved(e, 10, 20)
		e.TCPState = conntrack.TimeWait
		k.update(e)
		k.after(3 * time.Second)
		if i == 2 {
			k.take()
			continue
		}
		k.expect(t, "when it is over", fmt.Sprintf(`over out 443/6 "n%d.example.org" 10+20`, i))
		if i == 1 { // its end is lost
			k.entries = nil
			continue
		}
		k.end(e)
		k.expect(t, "its end", "done")
	}
}

// TestListedFirst: a dump has a connection before its beginning is told.
func TestListedFirst(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := kernelConn(1, TCP, "192.168.1.10:50000", https)
	moved(&e, 10, 20)
	e.TCPState = conntrack.TimeWait
	k.entries = []*conntrack.Entry{&e}
	k.dump()
	k.expect(t, "listed", `over out 443/6 "" 10+20`)
	began := kernelConn(1, TCP, "192.168.1.10:50000", https)
	k.Connection(conntrack.New, &began, k.now)
	k.after(3 * time.Second)
	k.end(&e)
	k.expect(t, "told", "done")
}

// TestHours: bytes belong to the hour in which they moved.
func TestHours(t *testing.T) {
	k := newKernelTable(t, Policy{HourOffset: 30 * 60_000})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 1, 10)
	k.after(29 * time.Minute)
	k.expect(t, "in the first hour", `running out 443/6 "" 1+10`)
	moved(e, 2, 20)
	k.after(2 * time.Minute)
	k.expect(t, "in the second", `running out 443/6 "" 3+30 (2+20)`)
	moved(e, 3, 30)
	k.after(time.Minute)
	k.expect(t, "in the second still", `running out 443/6 "" 6+60 (5+50)`)
	moved(e, 4, 40)
	k.after(3 * time.Hour)
	if f := (*k.got)[0]; f.Track.Hour != k.Hour(k.now.UnixMilli()) || f.Track.Hour%3_600_000 != 30*60_000 {
		t.Errorf("the hour is %d", f.Track.Hour)
	}
	k.expect(t, "hours later", `running out 443/6 "" 10+100 (4+40)`)
}

// TestAdopt: a run goes on where the one before ended.
func TestAdopt(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	gone := k.add(kernelConn(2, TCP, "192.168.1.10:50001", https))
	over := k.add(kernelConn(3, TCP, "192.168.1.10:50002", https))
	moved(e, 10, 20)
	moved(gone, 1, 2)
	moved(over, 3, 4)
	over.TCPState = conntrack.TimeWait
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"kept.example.org"`)))
	k.after(3 * time.Second)
	kept := slices.Clone(*k.got)
	for i := range kept {
		kept[i].Track.Key = uint64(i + 1)
	}

	next := newKernelTable(t, Policy{})
	next.Table, next.got = newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	next.Adopt(kept)
	next.now, next.entries = k.now.Add(5*time.Second), []*conntrack.Entry{e, over}
	moved(e, 100, 200)
	next.dump()
	next.expect(t, "the first dump", `running out 443/6 "kept.example.org" 110+220`)
	next.after(3 * time.Second)
	next.expect(t, "one is gone", `over out 443/6 "" 1+2`, "done")
	e.Sent, e.Recvd = conntrack.Counter{}, conntrack.Counter{}
	moved(e, 1, 2)
	next.after(3 * time.Second)
	next.expect(t, "zeroed since", `running out 443/6 "kept.example.org" 111+222`)
	next.end(over)
	next.expect(t, "what was over", "done")
}

// TestAdoptInVain: the kernel does not tell of its connections any more.
func TestAdoptInVain(t *testing.T) {
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	k := &kernelOf{Table: tab, now: began, got: got}
	k.Adopt([]Flow{{
		Start: 1, End: 2, ClientAddr: netip.MustParseAddr("192.168.1.10"), Remote: netip.MustParseAddr("203.0.113.80"), Port: 443, Proto: TCP,
		Interface: "br-lan", Sent: 5, Recvd: 6, State: Running, Track: Track{Key: 1, OtherPort: 50000, RawSent: 5, RawRecvd: 6},
	}})
	k.DumpBegins(k.now) // which fails
	k.Inactive()
	k.expect(t, "what was left", `over out 443/6 "" 5+6`, "done")
	play(t, k.Table, strings.NewReader(browse.end()))
	k.expect(t, "Suricata counts again", `whole out 443/6 "" 1000+5000`)
}

// TestSuricataKnowsMore: what the kernel does not count is Suricata's.
func TestSuricataKnowsMore(t *testing.T) {
	later := conn{id: 5, src: "192.168.1.10:60000", dst: "203.0.113.90:443", srcMAC: phoneMAC, dstMAC: routerMAC, app: "tls", sent: 30, recvd: 40}
	tests := []struct {
		name    string
		capture Capture
		since   time.Duration // after the connection's start
		want    []string
		fate    Fate
	}{
		{"not tracked", Capture{}, -time.Minute, []string{`whole out 443/6 "" 30+40`}, Recorded},
		{"ended before", Capture{}, time.Hour, nil, Earlier},
		{"head only", Capture{Heads: true}, -time.Minute, nil, HeadOnly},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
			k := &kernelOf{Table: tab, now: began.Add(tt.since), got: got}
			k.SetCapture(tt.capture)
			k.dump()
			play(t, tab, strings.NewReader(later.end()))
			k.expect(t, "before the kernel has told of all")
			k.after(3 * time.Second)
			k.expect(t, tt.name, tt.want...)
			if n := tab.Counts()[tt.fate].Events; n != 1 {
				t.Errorf("%v: %d events", tt.fate, n)
			}
		})
	}
}

// TestAccountingOff: a connection without counters is Suricata's.
func TestAccountingOff(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	e.Status |= conntrack.SeenReply
	list := func() {
		k.DumpBegins(k.now)
		k.Connection(conntrack.Listed, e, k.now)
		k.DumpEnds(k.now, true)
	}
	list()
	list()
	k.expect(t, "without counters")
	play(t, k.Table, strings.NewReader(browse.end()))
	list()
	k.expect(t, "Suricata's count", `whole out 443/6 "" 1000+5000`)
}

// TestUncountedOffload: a flow table takes the connection, and does not count.
func TestUncountedOffload(t *testing.T) {
	k := newKernelTable(t, Policy{})
	k.SetCapture(Capture{Uncounted: true})
	for _, last := range []bool{false, true} { // whether the kernel forgets it before Suricata does
		e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
		moved(e, 10, 20)
		c := browse
		c.late = k.now.Sub(began)
		play(t, k.Table, strings.NewReader(c.tls(`"sni":"www.example.org"`)))
		k.after(3 * time.Second)
		k.expect(t, "before", `running out 443/6 "www.example.org" 10+20`)
		e.Status |= conntrack.Offloaded
		k.after(3 * time.Second)
		k.expect(t, "offloaded", "void")
		e.Status &^= conntrack.Offloaded
		if last {
			k.end(e)
		}
		play(t, k.Table, strings.NewReader(c.end()))
		if !last {
			k.end(e)
		}
		k.after(3 * time.Second)
		k.expect(t, "its end", `whole out 443/6 "www.example.org" 1000+5000`)
	}
}

// TestUncountedLate: the kernel's word of a connection that it does not count comes
// late and all at once, before or after Suricata tells its end.
func TestUncountedLate(t *testing.T) {
	for _, last := range []bool{false, true} { // whether Suricata's word of the end is the last
		k := newKernelTable(t, Policy{})
		k.SetCapture(Capture{Uncounted: true})
		play(t, k.Table, strings.NewReader(browse.tls(`"sni":"www.example.org"`)))
		if !last {
			play(t, k.Table, strings.NewReader(browse.end()))
		}
		k.now = k.now.Add(2 * time.Second)
		e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
		moved(e, 10, 20)
		e.Status |= conntrack.Offloaded
		k.update(e)
		k.end(e)
		if last {
			play(t, k.Table, strings.NewReader(browse.end()))
		}
		k.after(3 * time.Second)
		k.after(3 * time.Second)
		k.expect(t, fmt.Sprintf("Suricata's word last: %v", last), `whole out 443/6 "www.example.org" 1000+5000`)
	}
}

func TestExcluded(t *testing.T) {
	k := newKernelTable(t, Policy{ExcludeNames: func(n string) bool { return n == "secret.example.org" }})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "before its name is known", `running out 443/6 "" 10+20`)
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"secret.example.org"`)))
	moved(e, 1, 2)
	k.after(3 * time.Second)
	k.expect(t, "with its name", "void", "left out excluded_hostname "+phoneMAC+" 11+22")
	moved(e, 1, 2)
	k.after(3 * time.Second)
	k.end(e)
	k.expect(t, "afterwards", "left out excluded_hostname "+phoneMAC+" 1+2")

	other := k.add(kernelConn(2, TCP, "192.168.1.10:50009", https))
	moved(other, 10, 20)
	k.after(3 * time.Second)
	k.take()
	k.SetPolicy(Policy{Interfaces: []string{"br-lan"}, ExcludeMACs: map[client.MAC]bool{mac(phoneMAC): true}})
	k.expect(t, "the client is left out", "void")
	moved(other, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "and stays so", "left out excluded_client "+phoneMAC+" 20+40")

	k.SetPolicy(Policy{Interfaces: []string{"br-lan"}, ExcludePeers: map[netip.Addr]bool{
		netip.MustParseAddr("192.168.1.99"): true, netip.MustParseAddr("192.168.1.10"): true}})
	peer := k.add(kernelConn(3, TCP, "192.168.1.99:50000", https))
	moved(peer, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "a client without a MAC, which is left out", "left out excluded_client  10+20")
	known := k.add(kernelConn(4, TCP, "192.168.1.10:50010", https))
	moved(known, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "a device with an address that is left out for one without a MAC", `running out 443/6 "" 10+20`)
}

// TestInterfaceNoLongerMonitored: its connections end; they are not begun anew.
func TestInterfaceNoLongerMonitored(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.take()
	k.SetPolicy(Policy{Interfaces: []string{"br-guest_turris"}})
	k.expect(t, "without the interface", `over out 443/6 "" 10+20`, "done")
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.expect(t, "afterwards")
}

// TestOffAndOn: what moves while nothing is monitored is not recorded, what moves
// afterwards is; and a run to come goes on from there.
func TestOffAndOn(t *testing.T) {
	on := Policy{Interfaces: []string{"br-lan"}}
	k := newKernelTable(t, on)
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	e.Start = began.UnixNano()
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.take()
	k.SetPolicy(Policy{Off: true, Interfaces: on.Interfaces})
	k.expect(t, "off", `over out 443/6 "" 10+20`, "done")
	moved(e, 100, 200)
	k.after(3 * time.Second)
	k.SetPolicy(on)
	k.after(3 * time.Second)
	moved(e, 1, 2)
	k.after(3 * time.Second)
	left := slices.Clone(*k.got)
	k.expect(t, "on again", `running out 443/6 "" 1+2`)

	tab, got := newTable(home(), on)
	next := &kernelOf{Table: tab, now: k.now, got: got, entries: k.entries}
	next.Adopt(left)
	moved(e, 3, 4)
	next.after(3 * time.Second)
	next.expect(t, "another run", `running out 443/6 "" 4+6`)
}

// TestClockIsSet: what began when the clock stood at 1970 moves with it.
func TestClockIsSet(t *testing.T) {
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	k := &kernelOf{Table: tab, now: time.UnixMilli(5_000_000), got: got}
	real := time.UnixMilli(began.UnixMilli())
	k.dump()
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	if f := (*k.got)[0]; f.Start != 5_000_000 {
		t.Fatalf("began %v", time.UnixMilli(f.Start))
	}
	k.take()
	k.mu.Lock()
	k.shift(k.now.UnixMilli(), real.Sub(k.now).Milliseconds())
	k.mu.Unlock()
	k.now = real
	k.dump()
	if len(*k.got) != 2 || (*k.got)[0].State != Void {
		t.Fatalf("recorded %+v", *k.got)
	}
	f := (*k.got)[1]
	if want := real.Add(-3 * time.Second).UnixMilli(); f.Start != want {
		t.Errorf("began %d, want %d", f.Start, want)
	}
	if f.Sent != 10 || f.State != Running || f.Track.Hour != 0 {
		t.Errorf("recorded %+v", f)
	}
}

func TestCoverage(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	dns := k.add(kernelConn(2, UDP, "192.168.1.10:50001", "192.168.1.1:53"))
	moved(e, 100, 900)
	moved(dns, 10, 20)
	k.after(3 * time.Second)
	want := map[string]Coverage{"br-lan": {Recorded: 1000, Other: 30}}
	if got := k.TakeCoverage(); !maps.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"www.example.org"`)))
	moved(e, 1, 9)
	k.after(3 * time.Second)
	// The bytes of before have a name now, too.
	want["br-lan"] = Coverage{Recorded: 10, Named: 1010}
	if got := k.TakeCoverage(); !maps.Equal(got, want) {
		t.Errorf("with a name: got %+v, want %+v", got, want)
	}
	if got := k.TakeCoverage(); len(got) != 0 {
		t.Errorf("what was taken is there again: %+v", got)
	}
}

// TestCoverageOfSuricata: what Suricata counts is known at the end of the
// connection, whenever it moved.
func TestCoverageOfSuricata(t *testing.T) {
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	play(t, tab, strings.NewReader(browse.end()))
	if len(*got) != 1 {
		t.Fatalf("%d flows", len(*got))
	}
	if c := tab.TakeCoverage()["br-lan"]; c.Recorded == 0 || c.Begun != (*got)[0].Start {
		t.Errorf("coverage %+v of %+v", c, (*got)[0])
	}
}

func BenchmarkDump(b *testing.B) {
	tab, _ := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	entries := make([]conntrack.Entry, 5000)
	for i := range entries {
		entries[i] = kernelConn(uint32(i+1), TCP, fmt.Sprintf("192.168.1.10:%d", 1000+i), https)
		entries[i].Counted = true
		moved(&entries[i], 10, 20)
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(3 * time.Second)
		tab.DumpBegins(now)
		for i := range entries {
			tab.Connection(conntrack.Listed, &entries[i], now)
		}
		tab.DumpEnds(now, true)
	}
}
