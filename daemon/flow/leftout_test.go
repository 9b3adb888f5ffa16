package flow

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/conntrack"
)

// spoke lets one side of a connection move bytes that nobody answers.
func spoke(e *conntrack.Entry, sent, recvd uint64) {
	e.Sent.Bytes += sent
	e.Recvd.Bytes += recvd
	e.Sent.Packets++
}

// TestUnheard: who speaks at length is recorded though nobody answers, whatever the
// protocol and whoever began; an attempt is not.
func TestUnheard(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name        string
		proto       uint8
		from, to    string
		sent, recvd uint64
		running     string // what is recorded while it runs
		over        []string
	}{
		{"an attempt", TCP, "192.168.1.10:50000", https, 180, 0, "", nil},
		{"a datagram", UDP, "192.168.1.10:50000", "203.0.113.80:9", 1023, 0, "", nil},
		{"up to the bound", UDP, "192.168.1.10:50000", "203.0.113.80:9", mib, 0, "", []string{"left out unanswered " + phoneMAC + " 1048576+0"}},
		{"UDP", UDP, "192.168.1.10:50000", "203.0.113.80:9", mib + 1, 0, `running out 9/17 "" 1048577+0`, []string{"done"}},
		{"1 GB of UDP", UDP, "192.168.1.10:50000", "203.0.113.80:9", 1 << 30, 0, `running out 9/17 "" 1073741824+0`, []string{"done"}},
		{"to the port of DNS", UDP, "192.168.1.10:50000", "203.0.113.80:53", 1 << 30, 0, `running out 53/17 "" 1073741824+0`, []string{"done"}},
		{"TCP whose answers go another way", TCP, "192.168.1.10:50000", https, 2 * mib, 0, `running out 443/6 "" 2097152+0`, []string{"done"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKernelTable(t, Policy{})
			e := k.add(kernelConn(1, tt.proto, tt.from, tt.to))
			spoke(e, tt.sent, tt.recvd)
			k.after(3 * time.Second)
			var want []string
			if tt.running != "" {
				want = append(want, tt.running)
			}
			k.expect(t, "while it runs", want...)
			k.after(time.Minute)
			k.end(e)
			got := k.take()
			// That it is over changes its end.
			got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "over ") })
			if !slices.Equal(got, tt.over) {
				t.Errorf("at its end %q is recorded, want %q", got, tt.over)
			}
		})
	}
}

// TestUnheardFromOutside: somebody outside sends at length to a port that is
// forwarded to a client, which is silent.
func TestUnheardFromOutside(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := kernelConn(1, UDP, "198.51.100.7:4000", "203.0.113.1:5000")
	e.Reply.Src = netip.MustParseAddrPort("192.168.1.10:5000")
	e.Reply.Dst = e.Orig.Src
	c := k.add(e)
	spoke(c, 2<<20, 0)
	k.after(3 * time.Second)
	k.expect(t, "a flood from outside", `running in 5000/17 "" 0+2097152`)
}

// TestUnheardBySuricata: the same where Suricata counts.
func TestUnheardBySuricata(t *testing.T) {
	for _, tt := range []struct {
		up, down int
		want     Fate
	}{{1 << 20, 0, Unanswered}, {1<<20 + 1, 0, Recorded}, {0, 1<<20 + 1, Recorded}, {1 << 30, 0, Recorded}} {
		tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
		end := with(browse, func(c *conn) { c.sent, c.recvd = tt.up, tt.down })
		play(t, tab, strings.NewReader(end.end()))
		if recorded := len(*got) == 1; recorded != (tt.want == Recorded) || tab.Counts()[tt.want].Events != 1 {
			t.Errorf("%d sent and %d received: %+v, want %s", tt.up, tt.down, *got, tt.want)
		}
	}
}

// TestLeftOutBySuricata: what is left out is counted where Suricata counts, too.
func TestLeftOutBySuricata(t *testing.T) {
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}, ExcludeNames: func(n string) bool { return n == "secret.example.org" }})
	for _, s := range []string{"secret.example.org", "secret.example.org", "www.example.org"} {
		play(t, tab, strings.NewReader(browse.tls(`"sni":"`+s+`"`)+"\n"+browse.end()))
	}
	var left []string
	for _, f := range *got {
		if f.State == LeftOut {
			left = append(left, fmt.Sprint(f.Fate, " ", f.Client, " ", f.Sent, "+", f.Recvd, " ", f.Start))
		}
	}
	one := fmt.Sprint("excluded_hostname ", phoneMAC, " ", browse.sent, "+", browse.recvd, " ", (*got)[len(*got)-1].End)
	if want := []string{one, one}; !slices.Equal(left, want) {
		t.Errorf("left out %q, want %q", left, want)
	}
}

// TestLeftOutOnce: each byte is counted once as left out or recorded, also over
// restarts, and whatever is not recorded any more is counted with all it moved.
func TestLeftOutOnce(t *testing.T) {
	policy := Policy{Interfaces: []string{"br-lan"}, ExcludeMACs: map[client.MAC]bool{mac(laptopMAC): true},
		ExcludeNames: func(n string) bool { return n == "secret.example.org" }}
	for _, ended := range []bool{true, false} { // the run before has ended by itself
		t.Run(fmt.Sprint("ended ", ended), func(t *testing.T) {
			withLaptop := home()
			withLaptop.neighbours[netip.MustParseAddr("192.168.1.11")] = mac(laptopMAC)
			k := newKernelTable(t, policy)
			k.Table, k.got = newTable(withLaptop, policy)
			k.dump()
			mine := k.add(kernelConn(1, TCP, "192.168.1.11:50000", https))
			secret := k.add(kernelConn(2, TCP, "192.168.1.10:50000", https))
			plain := k.add(kernelConn(3, TCP, "192.168.1.10:50001", https))
			for i, e := range []*conntrack.Entry{mine, secret, plain} {
				moved(e, uint64(100+i), 1000)
			}
			k.after(3 * time.Second)
			play(t, k.Table, strings.NewReader(browse.tls(`"sni":"secret.example.org"`)))
			k.after(3 * time.Second)
			sum := leftOutOf(*k.got)
			if want := map[string]uint64{"excluded_client " + laptopMAC: 1100, "excluded_hostname " + phoneMAC: 1101}; fmt.Sprint(sum) != fmt.Sprint(want) {
				t.Errorf("left out %v, want %v", sum, want)
			}
			if ended {
				k.Suspend()
			}
			// What this run has written that the next one goes on with.
			var rows []Flow
			for _, f := range *k.got {
				if f.State == Running && f.Track.ID == 3 {
					rows = []Flow{f}
				}
			}
			for _, f := range *k.got {
				if f.State == Cut {
					rows = append(rows, f)
				}
			}
			next := newKernelTable(t, policy)
			next.Table, next.got = newTable(withLaptop, policy)
			next.Adopt(rows)
			next.now, next.entries = k.now.Add(time.Second), k.entries
			next.dump()
			for _, e := range next.entries {
				moved(e, 7, 0)
			}
			next.after(3 * time.Second)
			sum = leftOutOf(*next.got)
			if want := map[string]uint64{"excluded_client " + laptopMAC: 7}; fmt.Sprint(sum) != fmt.Sprint(want) {
				t.Errorf("the next run has left out %v, want %v", sum, want)
			}
			for _, f := range *next.got {
				if ended && f.State == Running && f.Track.ID == 2 && f.Sent+f.Recvd != 7 {
					t.Errorf("what was left out is recorded by the next run: %+v", f)
				}
			}
			// A client that is left out from now on.
			*next.got = nil
			policy := policy
			policy.ExcludeMACs = map[client.MAC]bool{mac(laptopMAC): true, mac(phoneMAC): true}
			next.SetPolicy(policy)
			next.after(3 * time.Second)
			if sum := leftOutOf(*next.got); sum["excluded_client "+phoneMAC] != 1102+7+7 {
				t.Errorf("what was recorded, and now is not, counts as %v", sum)
			}
		})
	}
}

// withoutLeftOut are the flows that are recorded.
func withoutLeftOut(flows []Flow) []Flow {
	return slices.DeleteFunc(slices.Clone(flows), func(f Flow) bool { return f.State == LeftOut })
}

// leftOutOf are the bytes that records say to be left out, by why and whose.
func leftOutOf(flows []Flow) map[string]uint64 {
	sums := make(map[string]uint64)
	for _, f := range flows {
		if f.State == LeftOut {
			sums[fmt.Sprint(f.Fate, " ", f.Client)] += f.Sent + f.Recvd
		}
	}
	return sums
}

// TestLeftOutIsBounded: many clients are told in parts, those of whom there is little
// as one, and no byte is lost.
func TestLeftOutIsBounded(t *testing.T) {
	const clients = 3*maxLeftOut + 5
	for _, tt := range []struct {
		why   Fate
		each  uint64
		rows  int
		alone bool
	}{
		{ExcludedClient, 1, clients, true},
		{Unanswered, leastUnheard, clients, true},
		{Unanswered, 1, 0, false},
		{DNSFlow, 100, 0, false},
	} {
		tab, got := newTable(home(), Policy{})
		for i := range clients {
			tab.leaveOut(&Flow{Client: client.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, Sent: tt.each, End: int64(i)}, tt.why)
			if len(tab.leftOut) >= maxLeftOut {
				t.Fatalf("%d clients wait", len(tab.leftOut))
			}
		}
		tab.Flush()
		if sum := leftOutOf(*got); len(sum) != tt.rows {
			t.Errorf("%s: %d clients are told, want %d", tt.why, len(sum), tt.rows)
		}
		tab.Suspend()
		sum, all := leftOutOf(*got), uint64(0)
		for _, n := range sum {
			all += n
		}
		if all != clients*tt.each || (len(sum) == clients) != tt.alone {
			t.Errorf("%s: %d clients with %d bytes are told, want %d bytes", tt.why, len(sum), all, clients*tt.each)
		}
	}
}

// TestManySmall: what is too little to be recorded is counted though it goes in many
// connections, each of which is nothing. A little of it waits.
func TestManySmall(t *testing.T) {
	for _, tt := range []struct {
		name        string
		to          string
		sent, recvd uint64
		n           int
		waits       bool
		want        string
	}{
		{"datagrams", "203.0.113.80:9", 980, 0, 1000, false, "unanswered"},
		{"attempts", "203.0.113.80:9", 60, 0, 10, true, "unanswered"},
		{"a tunnel through port 53", "203.0.113.80:53", 30_000, 30_000, 100, false, "dns_flow"},
		{"to port 53, without an answer", "203.0.113.80:53", 60_000, 0, 100, false, "dns_flow"},
		{"questions", "203.0.113.80:53", 60, 120, 10, true, "dns_flow"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKernelTable(t, Policy{})
			for i := range tt.n {
				e := k.add(kernelConn(uint32(1+i), UDP, fmt.Sprint("192.168.1.10:", 20_000+i), tt.to))
				if tt.recvd > 0 {
					moved(e, tt.sent, tt.recvd)
				} else {
					spoke(e, tt.sent, 0)
				}
				k.end(e)
			}
			k.after(time.Minute)
			if sum := leftOutOf(*k.got); (len(sum) == 0) != tt.waits {
				t.Errorf("left out %v while it runs", sum)
			}
			k.Suspend()
			want := map[string]uint64{tt.want + " " + phoneMAC: uint64(tt.n) * (tt.sent + tt.recvd)}
			if sum := leftOutOf(*k.got); fmt.Sprint(sum) != fmt.Sprint(want) {
				t.Errorf("left out %v, want %v", sum, want)
			}
		})
	}
}
