package flow

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/conntrack"
	"pakon/daemon/name"
	"pakon/suricata"
)

// life is a connection as it was, in ms after began. Which source tells of it when
// is another matter.
type life struct {
	start, over, stop int64
	name              string
	sent, recvd       uint64 // as the kernel counts
	tail              bool   // Suricata takes its last packet for another connection
}

// message is what a source tells: of the kernel 'n'ew, 'o'ver, 'e'nded; of Suricata
// the name 's', its end 'f' and that of its 't'ail; 'l' is a listing.
type message struct {
	what byte
	life int
}

func (m message) String() string { return fmt.Sprintf("%c%d", m.what, m.life) }

// telling is one run of messages, with the times at which they arrive.
type telling struct {
	lives    []life
	messages []message
	at       []int64 // ms after began
	heads    bool
	stamps   bool // the kernel tells times
	flushed  bool // Suricata tells names late, with the time of then
	number   uint32
}

func (q *telling) String() string {
	var b strings.Builder
	for i, m := range q.messages {
		fmt.Fprintf(&b, "%v@%d ", m, q.at[i])
	}
	return fmt.Sprintf("heads %v, stamps %v, flushed %v: %s%+v", q.heads, q.stamps, q.flushed, &b, q.lives)
}

func (q *telling) moment(ms int64) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }

// entry is the connection as the kernel tells it.
func (q *telling) entry(l *life, what byte) *conntrack.Entry {
	e := kernelConn(q.number, TCP, "192.168.1.10:50000", https)
	e.Status = conntrack.SeenReply | conntrack.Assured
	if what == 'n' {
		e.Status = 0
	}
	if what == 'o' || what == 'e' {
		e.TCPState = conntrack.TimeWait
	}
	if what == 'l' || what == 'e' {
		e.Counted = true
		e.Sent, e.Recvd = conntrack.Counter{Packets: 5, Bytes: l.sent}, conntrack.Counter{Packets: 5, Bytes: l.recvd}
		if q.stamps {
			e.Start = q.moment(l.start).UnixNano()
		}
		if what == 'e' && q.stamps {
			e.Stop = q.moment(l.stop).UnixNano()
		}
	}
	return &e
}

func (q *telling) event(i int, what byte, at int64) *suricata.Event {
	l := &q.lives[i]
	ev := &suricata.Event{
		Kind: suricata.Flow, FlowID: uint64(1000 + i), Interface: []byte("br-lan"), Proto: TCP,
		Src: netip.MustParseAddrPort("192.168.1.10:50000"), Dst: netip.MustParseAddrPort(https), SrcMAC: mac(phoneMAC), DstMAC: mac(routerMAC),
		Time: q.moment(at).UnixMilli(), App: []byte("tls"),
	}
	ev.Flow = suricata.FlowEnd{
		Start: q.moment(l.start).UnixMilli(), End: q.moment(l.over).UnixMilli(), State: []byte("closed"), Reason: []byte("timeout"),
		BytesToServer: l.sent + 5*linkHeader, BytesToClient: l.recvd + 5*linkHeader, PktsToServer: 5, PktsToClient: 5,
	}
	switch what {
	case 's':
		ev.Kind, ev.App, ev.Name = suricata.TLS, nil, []byte(l.name)
		ev.Flow = suricata.FlowEnd{}
		if !q.flushed {
			ev.Time = q.moment(l.start + 20).UnixMilli()
		}
	case 'f':
		if l.tail {
			ev.Flow.BytesToServer -= 60
			ev.Flow.PktsToServer--
		}
	case 't':
		ev.FlowID += 500
		ev.App, ev.Midstream = nil, true
		ev.Flow = suricata.FlowEnd{
			Start: q.moment(l.over).UnixMilli(), End: q.moment(l.over).UnixMilli(), State: []byte("new"), Reason: []byte("shutdown"),
			BytesToServer: 60, PktsToServer: 1,
		}
	}
	return ev
}

// play tells a table everything, and returns what is recorded in the end.
func (q *telling) play() []string {
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	kernel := slices.ContainsFunc(q.messages, func(m message) bool { return m.what == 'n' })
	if kernel {
		tab.SetTimeouts(conntrack.Timeouts{UDP: 30 * time.Second, UDPStream: 120 * time.Second, TimeWait: 120 * time.Second, Close: 10 * time.Second})
	}
	tab.SetCapture(Capture{Heads: q.heads})
	there := map[int]byte{}
	list := func(at int64) {
		tab.DumpBegins(q.moment(at))
		for i, l := range q.lives {
			if state, ok := there[i]; ok {
				e := q.entry(&l, 'l')
				if state == 'o' {
					e.TCPState = conntrack.TimeWait
				}
				tab.Connection(conntrack.Listed, e, q.moment(at))
			}
		}
		tab.DumpEnds(q.moment(at), true)
	}
	if kernel {
		list(-10_000)
	}
	events, last := uint64(0), int64(0)
	for i, m := range q.messages {
		last = q.at[i]
		at := q.moment(last)
		switch m.what {
		case 'n':
			there[m.life] = 'n'
			tab.Connection(conntrack.New, q.entry(&q.lives[m.life], 'n'), at)
		case 'o':
			there[m.life] = 'o'
			tab.Connection(conntrack.Updated, q.entry(&q.lives[m.life], 'o'), at)
		case 'e':
			delete(there, m.life)
			tab.Connection(conntrack.Ended, q.entry(&q.lives[m.life], 'e'), at)
		case 'l':
			list(last)
		default:
			tab.Event(q.event(m.life, m.what, last))
			events++
		}
	}
	for range 15 {
		if last += 2000; kernel {
			list(last)
		}
	}
	tab.Suspend()
	told := uint64(0)
	for _, c := range tab.Counts() {
		told += c.Events
	}
	var out []string
	if told != events {
		out = append(out, fmt.Sprintf("%d events, and fates of %d", events, told))
	}
	for _, f := range final(*got) {
		out = append(out, fmt.Sprintf("%q by %v, %s, %d+%d", f.Name, f.Source, f.App, f.Sent, f.Recvd))
	}
	slices.Sort(out)
	return out
}

// final are the flows that are left of all records.
func final(records []Flow) (flows []Flow) {
	running := map[uint64]Flow{}
	for _, f := range records {
		switch f.State {
		case Whole:
			flows = append(flows, f)
		case Void:
			delete(running, f.Track.Key)
		case Done:
			flows = append(flows, running[f.Track.Key])
			delete(running, f.Track.Key)
		default:
			running[f.Track.Key] = f
		}
	}
	for _, f := range running {
		flows = append(flows, f)
	}
	return flows
}

// want are the flows that there should be.
func (q *telling) want(header uint64) []string {
	var out []string
	for _, l := range q.lives {
		out = append(out, fmt.Sprintf("%q by %v, tls, %d+%d", l.name, name.TLS, l.sent+5*header, l.recvd+5*header))
	}
	slices.Sort(out)
	return out
}

// possible sets the times of what happened so that it can have been told in this
// order, and reports whether it can.
func (q *telling) possible(kernel bool) bool {
	before := int64(-5000)
	for i := range q.lives {
		first, told, ended, name, flow := int64(-1), -1, -1, false, false
		for j, m := range q.messages {
			if m.what == 'l' && first >= 0 && kernel && told < 0 {
				return false // the listing would have waited for the kernel's word
			}
			if m.what == 'l' || m.life != i {
				continue
			}
			if first < 0 {
				first = q.at[j]
			}
			switch m.what {
			case 'n':
				told = j
			case 'e':
				ended = j
			case 's':
				name = true
			case 'f':
				if !name {
					return false
				}
				flow = true
			case 't':
				if !flow {
					return false
				}
			}
		}
		l := &q.lives[i]
		l.start = max(before+30, first-100)
		l.over = l.start + 60
		l.stop = l.over + 30
		if l.stop > first {
			// No source tells of what is still to come.
			shift := l.stop - first
			for j := range q.at {
				if q.at[j] >= first {
					q.at[j] += shift
				}
			}
			first += shift
		}
		if ended >= 0 {
			l.stop = max(l.stop, q.at[ended]-10)
			if i+1 < len(q.lives) { // the next one's first packet ended it
				for j, m := range q.messages {
					if m.life == i+1 && m.what != 'l' {
						l.stop = max(l.over+30, min(l.stop, q.at[j]-100))
						break
					}
				}
			}
			before = l.stop
		}
	}
	return true
}

// interleavings calls f with every order of messages that keeps the order of each
// sequence.
func interleavings(sequences [][]message, f func([]message)) {
	var order []message
	next := make([]int, len(sequences))
	total := 0
	for _, s := range sequences {
		total += len(s)
	}
	var step func()
	step = func() {
		if len(order) == total {
			f(order)
			return
		}
		for i, s := range sequences {
			if next[i] < len(s) {
				order = append(order, s[next[i]])
				next[i]++
				step()
				next[i]--
				order = order[:len(order)-1]
			}
		}
	}
	step()
}

func messages(text string) (out []message) {
	for _, w := range strings.Fields(text) {
		out = append(out, message{w[0], int(w[1] - '0')})
	}
	return out
}

// TestEveryOrder: whatever order both sources tell of connections in, and with
// whatever delays, each connection is one flow with the kernel's bytes and
// Suricata's name.
func TestEveryOrder(t *testing.T) {
	a := life{name: "a.example.org", sent: 1000, recvd: 2000}
	b := life{name: "b.example.org", sent: 333, recvd: 444}
	tailed := a
	tailed.tail = true
	for _, tt := range []struct {
		name      string
		lives     []life
		sequences []string
	}{
		{"a connection", []life{a}, []string{"n0 o0 e0", "s0 f0", "l0 l0"}},
		{"one that runs", []life{a}, []string{"n0", "s0 f0", "l0 l0"}},
		{"two flows of Suricata's", []life{tailed}, []string{"n0 o0 e0", "s0 f0 t0", "l0 l0"}},
		{"ports used again", []life{a, b}, []string{"n0 o0 e0 n1 o1 e1", "s0 f0 s1 f1", "l0"}},
		{"ports used again while the first is not ended", []life{a, b}, []string{"n0 e0 n1", "s0 f0 s1 f1", "l0 l0"}},
		{"Suricata alone", []life{a}, []string{"s0 f0"}},
		{"Suricata alone, two flows", []life{tailed}, []string{"s0 f0 t0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sequences [][]message
			for _, s := range tt.sequences {
				sequences = append(sequences, messages(s))
			}
			kernel := strings.Contains(tt.sequences[0], "n")
			orders, tried, wrong := 0, 0, 0
			interleavings(sequences, func(order []message) {
				orders++
				for variant := range 3 * 8 {
					pause := []int64{1, 150, 3000}[variant/8]
					if len(tt.lives) > 1 && orders%3 != variant/8 {
						continue // there are enough
					}
					q := &telling{
						lives: slices.Clone(tt.lives), messages: order, number: 7,
						heads: variant&1 != 0, stamps: variant&2 == 0, flushed: variant&4 != 0,
					}
					if !kernel && (q.heads || !q.stamps || pause > 1) || !q.stamps && len(q.lives) > 1 {
						continue
					}
					for i := range order {
						q.at = append(q.at, 1000+int64(i)*pause)
					}
					if !q.possible(kernel) {
						continue
					}
					tried++
					header := uint64(0)
					if !kernel {
						header = linkHeader
					}
					if got, want := q.play(), q.want(header); !slices.Equal(got, want) {
						if wrong++; wrong <= 3 {
							t.Errorf("%v\nrecorded\n%s\nwant\n%s", q, strings.Join(got, "\n"), strings.Join(want, "\n"))
						}
					}
				}
			})
			if wrong > 0 || tried == 0 {
				t.Errorf("%d of %d orders are wrong", wrong, tried)
			}
		})
	}
}

// TestRandomOrders plays three connections with the same ends, one after another,
// of which each source tells with delays of its own, among listings.
func TestRandomOrders(t *testing.T) {
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		q := &telling{number: 7, heads: seed&1 != 0, stamps: true}
		type due struct {
			message
			when, at int64 // when it was, and when it is told
		}
		var all []due
		start := int64(0)
		lag, delay := 1+r.Int64N(3000), 1+r.Int64N(18_000)
		for i := range 3 {
			l := life{name: fmt.Sprintf("n%d.example.org", i), sent: 100 + r.Uint64N(1000), recvd: 200 + r.Uint64N(1000)}
			start += 100 + r.Int64N(5000)
			l.start = start
			l.over = l.start + 50 + r.Int64N(4000)
			l.stop = l.over + 10_000 + r.Int64N(1000)
			if i < 2 && r.IntN(2) == 0 { // the next one's first packet ends it
				l.stop = l.over + 100 + r.Int64N(3000)
			}
			start = l.stop
			q.lives = append(q.lives, l)
			for what, when := range map[byte]int64{'n': l.start, 'o': l.over, 'e': l.stop} {
				all = append(all, due{message{what, i}, when, when + lag})
			}
			named := l.start + 20 + r.Int64N(delay)
			all = append(all, due{message{'s', i}, l.start + 20, named}, due{message{'f', i}, l.over, max(l.over, named) + r.Int64N(delay)})
		}
		for at := int64(500); at < 90_000; at += 2000 + r.Int64N(1000) {
			for i := range all { // what happened before a listing is told before it
				if d := &all[i]; strings.IndexByte("noe", d.what) >= 0 && d.when <= at {
					d.at = min(d.at, at)
				}
			}
			all = append(all, due{message{'l', 0}, at, at})
		}
		slices.SortStableFunc(all, func(a, b due) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.when, b.when)) })
		for _, d := range all {
			q.messages, q.at = append(q.messages, d.message), append(q.at, d.at)
		}
		if got, want := q.play(), q.want(0); !slices.Equal(got, want) {
			t.Fatalf("seed %d: %v\nrecorded\n%s\nwant\n%s", seed, q, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
