package flow

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/conntrack"
	"pakon/daemon/name"
	"pakon/suricata"
)

const laptopAddr = "192.168.1.11"

// flood makes the i-th connection of a kind that fills the table.
func (k *kernelOf) flood(kind string, i int) *conntrack.Entry {
	from, to, proto := fmt.Sprintf("192.168.1.10:%d", 1024+i%50000), fmt.Sprintf("203.0.113.%d:443", 1+i/50000), uint8(TCP)
	switch kind {
	case "made-up addresses":
		from = fmt.Sprintf("192.168.1.%d:%d", 12+i%200, 1024+i/200)
	case "DNS":
		to, proto = "203.0.113.53:53", UDP
	case "UDP":
		proto = UDP
	}
	e := kernelConn(uint32(1000+i), proto, from, to)
	e.Start = k.now.UnixNano()
	added := k.add(e)
	switch kind {
	case "ended", "DNS", "UDP", "running":
		moved(added, 100, 200)
	}
	if kind == "ended" {
		added.TCPState, added.Timeout = conntrack.TimeWait, 120
		k.update(added)
	}
	return added
}

// TestFullTable: whatever one client fills the table with, the connections of
// another are recorded in time with all their bytes, and nothing is twice.
func TestFullTable(t *testing.T) {
	for _, tt := range []struct {
		kind       string
		unfollowed bool // connections of the flood that went on
	}{
		{kind: "unanswered"},
		{kind: "made-up addresses"},
		{kind: "ended"},
		{kind: "DNS"},
		{kind: "UDP", unfollowed: true},
		{kind: "running", unfollowed: true},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			k := newKernelTable(t, Policy{})
			k.clients.(*lan).neighbours[netip.MustParseAddr(laptopAddr)] = mac(laptopMAC)
			flooded := 0
			more := func(n int) {
				for range n {
					k.flood(tt.kind, flooded)
					flooded++
				}
			}
			records := make(map[uint64]Flow) // as the store keeps them
			whole := 0
			var flood, victim uint64
			note := func() {
				for _, f := range *k.got {
					switch f.State {
					case Void:
						delete(records, f.Track.Key)
					case Running, Over:
						records[f.Track.Key] = f
					case Whole:
						whole++
						if f.Client == mac(laptopMAC) {
							victim += f.Sent + f.Recvd
						} else {
							flood += f.Sent + f.Recvd
						}
					}
				}
				*k.got = nil
			}
			more(maxConns)
			k.after(2 * time.Second)
			more(1100)
			k.after(2 * time.Second)
			const n = 40
			var own []*conntrack.Entry
			for i := range n {
				e := kernelConn(uint32(i+1), TCP, fmt.Sprintf("%s:%d", laptopAddr, 2000+i), https)
				e.Start = k.now.UnixNano()
				own = append(own, k.add(e))
				more(10)
			}
			more(1000)
			for _, e := range own {
				moved(e, 1000, 9000)
			}
			// An event of the beginning may have been lost, too.
			lost := kernelConn(n+1, TCP, laptopAddr+":3000", https)
			lost.Start = k.now.UnixNano()
			moved(&lost, 1000, 9000)
			k.entries = append(k.entries, &lost)
			k.after(2 * time.Second)
			more(1000)
			k.after(2 * time.Second)
			note()
			shown := 0
			for _, f := range records {
				if f.Client == mac(laptopMAC) {
					shown++
				}
			}
			if shown != n+1 {
				t.Errorf("%d of %d connections of another client are shown in time", shown, n+1)
			}
			if got := len(k.kernel.conns); got > maxConns {
				t.Errorf("%d connections are followed", got)
			}
			if got := k.Unfollowed() > 0; got != tt.unfollowed {
				t.Errorf("%d are said to be followed no more", k.Unfollowed())
			}
			// The kernel forgets them all, those of the flood first.
			for len(k.entries) > 0 {
				for range min(len(k.entries), 2000) {
					i := len(k.entries) - 1
					last := *k.entries[i]
					last.Counted, last.Stop, last.Timeout = true, k.now.UnixNano(), 0
					k.entries = k.entries[:i]
					k.Connection(conntrack.Ended, &last, k.now)
				}
				k.after(2 * time.Second)
				note()
			}
			k.close()
			note()
			for _, f := range records {
				if f.Client == mac(laptopMAC) {
					victim += f.Sent + f.Recvd
				} else {
					flood += f.Sent + f.Recvd
				}
			}
			if want := uint64(n+1) * 10000; victim != want {
				t.Errorf("%d bytes of the other client are recorded, want %d", victim, want)
			}
			most := uint64(300 * flooded)
			if tt.kind == "unanswered" || tt.kind == "made-up addresses" || tt.kind == "DNS" {
				most = 0
			}
			if flood > most || flood < most*9/10 {
				t.Errorf("%d bytes of the flood are recorded, of %d", flood, most)
			}
			for r, w := range k.kernel.crowds {
				if len(w.shares) != 0 || w.most() != nil {
					t.Errorf("rank %d still has %d shares", r, len(w.shares))
				}
			}
		})
	}
}

// TestFullTableNamed: a connection that Suricata has named is not what makes
// room first.
func TestFullTableNamed(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, browse.src, browse.dst))
	play(t, k.Table, strings.NewReader(browse.tls(`"sni":"www.example.org"`)))
	for i := range maxConns + 100 {
		k.flood("unanswered", i)
	}
	moved(e, 100, 1000)
	k.after(2 * time.Second)
	k.expect(t, "after a flood", `running out 443/6 "www.example.org" 100+1000`)
}

// TestFullTableOfOne: a client that has nearly all does not take from itself, again
// and again, what is then not recorded.
func TestFullTableOfOne(t *testing.T) {
	k := newKernelTable(t, Policy{})
	for i := range maxConns + 1000 {
		k.flood("running", i)
	}
	for range 5 {
		k.after(2 * time.Second)
	}
	if n := k.Unfollowed(); n != 0 {
		t.Errorf("%d are followed no more", n)
	}
}

// TestFullTableHides: what moves much is recorded while it runs though the same client
// has filled the table with what moves little.
func TestFullTableHides(t *testing.T) {
	k := newKernelTable(t, Policy{})
	for i := range maxConns + 100 {
		k.flood("running", i)
	}
	k.after(2 * time.Second)
	const n, size = 3, 100 << 20
	var large []*conntrack.Entry
	for i := range uint32(n) {
		large = append(large, k.add(kernelConn(1+i, TCP, fmt.Sprint("192.168.1.10:", 60_000+i), https)))
	}
	for range 5 {
		for _, e := range large {
			moved(e, size/5, 0)
		}
		k.after(2 * time.Second)
	}
	sent := make(map[uint64]uint64)
	for _, f := range *k.got {
		if f.State == Running && f.Track.ID <= n {
			sent[f.Track.Key] = f.Sent
		}
	}
	var all uint64
	for _, n := range sent {
		all += n
	}
	if len(sent) != n || all != n*size || k.Unfollowed() != n {
		t.Errorf("%d bytes of %d connections are recorded while they run, want %d of %d; %d are followed no more", all, len(sent), n*size, n, k.Unfollowed())
	}
}

// TestCrowd compares shares with a list.
func TestCrowd(t *testing.T) {
	w := crowd{shares: make(map[holder]*share)}
	var list []*tracked // the oldest first
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		if rnd.IntN(3) > 0 || len(list) == 0 {
			c := &tracked{mac: client.MAC{5: byte(rnd.IntN(10))}, iface: "br-lan"}
			w.add(c, idle)
			list = append(list, c)
		} else {
			i := rnd.IntN(len(list))
			w.remove(list[i])
			list = slices.Delete(list, i, i+1)
		}
		counts, most := make(map[holder]int), 0
		for _, c := range list {
			counts[c.holder()]++
			most = max(most, counts[c.holder()])
		}
		s := w.most()
		if s == nil {
			if most != 0 {
				t.Fatalf("none has the most, %d are right", most)
			}
			continue
		}
		oldest := list[slices.IndexFunc(list, func(c *tracked) bool { return c.holder() == s.holder })]
		if s.n != most || counts[s.holder] != most || s.first != oldest || len(w.shares) != len(counts) {
			t.Fatalf("%d of %v are the most, want %d of %v", s.n, s.holder, most, counts)
		}
		if len(list) > 300 {
			for _, c := range list {
				w.remove(c)
			}
			list = nil
		}
	}
}

// TestFullTablesHold: whatever is full holds no more than MaxMemory.
func TestFullTablesHold(t *testing.T) {
	alive := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := alive()
	tab := New(home(), func([]Flow) {})
	tab.SetPolicy(Policy{Interfaces: []string{"br-lan"}})
	tab.SetCapture(Capture{Heads: true})
	long := func(kind string, i int) []byte {
		return fmt.Appendf(nil, "%s%07d%s", kind, i, strings.Repeat(".abcdefghijklmnopqrstuvwxyz", 9))
	}
	addr := func(i int) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
	}
	tls := func(number int, src, dst netip.AddrPort, name []byte) {
		tab.Event(&suricata.Event{Kind: suricata.TLS, Time: began.UnixMilli(), FlowID: uint64(number), Proto: TCP, Src: src, Dst: dst, Name: name})
	}
	client := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("2001:db8:1::10"), uint16(1024+i%60000))
	}
	// Names whose connections the kernel has not told of, and ends.
	for i := range maxPending + maxHeld*maxHeldEach {
		src, dst := client(i/maxHeldEach), netip.AddrPortFrom(addr(1+i/maxHeldEach), 443)
		tls(1_000_000+i, src, dst, long("pending", i))
		if i < maxPending {
			continue
		}
		tab.Event(&suricata.Event{Kind: suricata.Flow, Time: began.UnixMilli(), FlowID: uint64(1_000_000 + i), Proto: TCP, Src: src, Dst: dst,
			App: []byte("tls"), Flow: suricata.FlowEnd{Start: began.UnixMilli(), End: began.UnixMilli(), State: []byte("closed"), Reason: []byte("timeout")}})
	}
	// Connections that have ended and linger, and those that run, each with its name.
	for i := range maxPast + maxConns {
		e := conntrack.Entry{ID: uint32(i + 1), Proto: TCP, Start: began.UnixNano()}
		e.Orig = conntrack.Tuple{Src: client(i), Dst: netip.AddrPortFrom(addr(1<<20+i), 443)}
		e.Reply = conntrack.Tuple{Src: e.Orig.Dst, Dst: e.Orig.Src}
		tab.Connection(conntrack.New, &e, began)
		if i >= maxPast {
			tls(1+i, e.Orig.Src, e.Orig.Dst, long("conn", i))
		}
		moved(&e, 100, 200)
		e.Counted = true
		if kind := conntrack.Listed; i >= maxPast {
			tab.Connection(kind, &e, began)
		} else {
			e.Stop = began.UnixNano()
			tab.Connection(conntrack.Ended, &e, began)
		}
	}
	// Answers: all names that can be kept of each address.
	for i := range 4 * maxMemory {
		for j := range 3 {
			n := long(fmt.Sprint("dns", j), i)
			tab.memory.Answer(name.Client{2, byte(i >> 5), byte(i >> 13)}, began.UnixMilli(), n, []name.Record{{Owner: n, Addr: addr(i), TTL: 60}})
		}
	}
	held := alive() - before
	t.Logf("%d followed, %d pending, %d held, %d linger, %d answers hold %d bytes", len(tab.kernel.conns), tab.pending.Len(), tab.kernel.held.Len(),
		len(tab.kernel.lingering), tab.memory.Len(), held)
	if len(tab.kernel.conns) != maxConns || tab.pending.Len() < maxPending*9/10 || tab.kernel.held.Len() != maxHeld || len(tab.kernel.lingering) != maxLinger ||
		tab.memory.Len() < maxMemory*9/10 {
		t.Error("the tables are not full: the test shows nothing")
	}
	if held > MaxMemory || held < MaxMemory/2 {
		t.Errorf("full tables hold %d bytes, said to be at most %d", held, MaxMemory)
	}
	runtime.KeepAlive(tab)
}

// BenchmarkFlood measures a connection that is never answered, in a full table, with
// as many clients as connections and with one.
func BenchmarkFlood(b *testing.B) {
	for _, kind := range []string{"unanswered", "made-up addresses"} {
		b.Run(kind, func(b *testing.B) {
			tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
			k := &kernelOf{Table: tab, now: began, got: got}
			i := 0
			for ; i < maxConns; i++ {
				k.flood(kind, i)
			}
			b.ReportAllocs()
			for b.Loop() {
				k.entries = k.entries[:0]
				k.flood(kind, i)
				i++
			}
		})
	}
}
