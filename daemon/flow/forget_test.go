package flow

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/conntrack"
	"pakon/daemon/name"
)

func of(mac string) func(*Flow) bool {
	return func(f *Flow) bool { return f.Client.String() == mac }
}

// TestForgetRunning: what a connection moved until then is not told again, what
// it moves later is.
func TestForgetRunning(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	other := k.add(kernelConn(2, TCP, "192.168.1.11:50000", https))
	moved(e, 10, 20)
	moved(other, 1, 2)
	k.after(3 * time.Second)
	k.take()
	moved(e, 100, 200) // not recorded yet
	k.now = k.now.Add(time.Second)
	if n := k.Forget(k.now.UnixMilli(), of(phoneMAC)); n != 1 {
		t.Errorf("%d records are forgotten", n)
	}
	k.expect(t, "at once", "void", "cut")
	k.after(3 * time.Second)
	k.expect(t, "what was known when it was forgotten", `running out 443/6 "" 100+200`)
	if n := k.Forget(k.now.UnixMilli(), of(phoneMAC)); n != 1 {
		t.Errorf("%d records are forgotten the second time", n)
	}
	at := k.now.UnixMilli()
	k.take()
	k.after(3 * time.Second)
	k.expect(t, "nothing has moved")
	moved(e, 5, 7)
	k.after(3 * time.Second)
	if len(*k.got) != 1 || (*k.got)[0].Start != at {
		t.Fatalf("recorded %+v", *k.got)
	}
	k.expect(t, "later bytes", `running out 443/6 "" 5+7`)
	k.end(e)
	k.expect(t, "the end", `over out 443/6 "" 5+7`, "done")
	k.end(other)
	k.expect(t, "another client's", `over out 443/6 "" 1+2`, "done")
}

// TestForgetStart: what goes on begins when it was forgotten, whatever the kernel
// tells of its beginning; that moves with the clock.
func TestForgetStart(t *testing.T) {
	k := newKernelTable(t, Policy{})
	c := kernelConn(1, TCP, "192.168.1.10:50000", https)
	c.Start = k.now.UnixNano()
	e := k.add(c)
	moved(e, 10, 20)
	k.after(3 * time.Second)
	at := k.now.UnixMilli()
	k.Forget(at, of(phoneMAC))
	k.take()
	starts := func(what string, want int64) {
		t.Helper()
		moved(e, 5, 7)
		k.after(3 * time.Second)
		if n := len(*k.got); n == 0 || (*k.got)[n-1].Start != want {
			t.Errorf("%s: recorded %+v, want the start %d", what, *k.got, want)
		}
	}
	starts("forgotten", at)
	const set = 3_600_000
	k.mu.Lock()
	k.shift(k.now.UnixMilli(), set)
	k.mu.Unlock()
	k.now = k.now.Add(set * time.Millisecond)
	starts("the clock was set", at+set)
}

// TestForgetRestart: what was forgotten of connections that go on, or that the kernel
// still lists, does not come back in a run to come, nor in the one after it.
func TestForgetRestart(t *testing.T) {
	for _, stamped := range []bool{true, false} {
		k := newKernelTable(t, Policy{})
		var entries []*conntrack.Entry
		for i := range 3 {
			c := kernelConn(uint32(i+1), TCP, fmt.Sprintf("192.168.1.10:5000%d", i), https)
			if stamped {
				c.Start = k.now.UnixNano()
			}
			entries = append(entries, k.add(c))
			moved(entries[i], 10, 20)
		}
		runs, idle, over := entries[0], entries[1], entries[2]
		over.TCPState, over.Timeout = conntrack.TimeWait, 120
		k.after(3 * time.Second)
		k.take()
		at := k.now.UnixMilli()
		k.Forget(at, of(phoneMAC))
		k.Suspend()
		left := slices.DeleteFunc(slices.Clone(*k.got), func(f Flow) bool { return f.State == Void })
		for range 2 {
			next := newKernelTable(t, Policy{})
			next.Table, next.got = newTable(home(), Policy{Interfaces: []string{"br-lan"}})
			next.Adopt(left)
			next.now, next.entries = k.now.Add(time.Second), []*conntrack.Entry{runs, idle, over}
			next.dump()
			next.expect(t, "another run")
			moved(runs, 1, 2)
			start := at
			if !stamped {
				start = next.now.UnixMilli() // of the first listing
			}
			next.after(3 * time.Second)
			if got := *next.got; len(got) != 1 || got[0].Start != start {
				t.Errorf("recorded %+v, want the start %d", got, start)
			}
			next.expect(t, "more", fmt.Sprintf(`running out 443/6 "" %d+%d`, runs.Sent.Bytes-10, runs.Recvd.Bytes-20))
			for _, e := range []*conntrack.Entry{idle, over} {
				next.end(e)
			}
			next.expect(t, "the ends")
			// The next with the same number and ends has all its bytes.
			again := kernelConn(2, TCP, "192.168.1.10:50001", https)
			again.Start = next.now.UnixNano()
			e := next.add(again)
			moved(e, 3, 4)
			next.after(3 * time.Second)
			next.expect(t, "another connection", `running out 443/6 "" 3+4`)
		}
	}
}

// TestForgetEnded: one that moves nothing more has no record at all.
func TestForgetEnded(t *testing.T) {
	k := newKernelTable(t, Policy{})
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(3 * time.Second)
	k.take()
	k.Forget(k.now.UnixMilli(), of(phoneMAC))
	k.take()
	k.end(e)
	k.expect(t, "the end")
}

// TestForgetAnswers: names that a client asked for name nothing any more.
func TestForgetAnswers(t *testing.T) {
	k := newKernelTable(t, Policy{})
	play(t, k.Table, strings.NewReader(browse.answer("www.example.org", "203.0.113.80")))
	forget := func(match func(*Flow) bool) {
		t.Helper()
		k.Forget(k.now.UnixMilli(), match)
		e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
		moved(e, 1, 2)
		k.after(3 * time.Second)
		k.end(e)
	}
	forget(func(f *Flow) bool { return f.Name == "www.example.net" || f.Source != name.DNS })
	k.expect(t, "another name", `running out 443/6 "www.example.org" 1+2`, `over out 443/6 "www.example.org" 1+2`, "done")
	forget(func(f *Flow) bool {
		return f.Name == "www.example.org" && f.Client == mac(phoneMAC) && f.Remote == netip.MustParseAddr("203.0.113.80")
	})
	k.expect(t, "the name", `running out 443/6 "" 1+2`, `over out 443/6 "" 1+2`, "done")
}

// TestForgetBySuricata: of a flow that only Suricata counts it is not known what
// it moved before, so it is left out as a whole.
func TestForgetBySuricata(t *testing.T) {
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	const start = 1795348800400 // of the flow
	tab.Forget(start, of(phoneMAC))
	tab.Forget(start+1, of(laptopMAC))
	play(t, tab, strings.NewReader(browse.end()))
	if len(*got) != 1 {
		t.Fatalf("one that began later: %d flows", len(*got))
	}
	tab.Forget(start+1, of(phoneMAC))
	play(t, tab, strings.NewReader(browse.end()))
	if len(*got) != 1 {
		t.Errorf("one that began before: %d flows", len(*got))
	}
	for range 3 * maxForgotten {
		tab.Forget(start, of(laptopMAC))
	}
	if n := len(tab.forgotten); n != maxForgotten {
		t.Errorf("%d are held", n)
	}
}

// TestClockIsSetForSuricata: what Suricata tells after the clock was set of a
// connection that began before has both its times by the new clock.
func TestClockIsSetForSuricata(t *testing.T) {
	early := strings.NewReplacer(`"start":"2026-11-22T12:00:00.4`, `"start":"1970-01-01T00:01:00.4`)
	const start = 60_400 // by the old clock
	real := time.UnixMilli(1795348801_000)
	const last = 61_400
	for _, tt := range []struct {
		name string
		tell func(tab *Table)
	}{
		{"the kernel tells nothing", func(tab *Table) { tab.ClockSet(real, real.UnixMilli()-last) }},
		{"and as it noticed", func(tab *Table) {
			tab.mu.Lock()
			defer tab.mu.Unlock()
			tab.shift(last, real.UnixMilli()-last)
		}},
	} {
		tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
		tt.tell(tab)
		play(t, tab, strings.NewReader(early.Replace(browse.end())))
		if len(*got) != 1 || (*got)[0].Start != real.UnixMilli()-last+start || (*got)[0].End != 1795348809100 {
			t.Errorf("%s: %+v", tt.name, *got)
		}
	}
	// A clock that was right before is not told from what it is now.
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	tab.ClockSet(real.Add(time.Hour), 3_600_000)
	play(t, tab, strings.NewReader(browse.end()))
	if len(*got) != 1 || (*got)[0].Start != 1795348800400 {
		t.Errorf("an hour: %+v", *got)
	}
}

// TestClockIsSetAfterTheEnd: the end that Suricata tells after the clock was set
// of a connection that the kernel counted before is not recorded again.
func TestClockIsSetAfterTheEnd(t *testing.T) {
	tab, got := newTable(home(), Policy{Interfaces: []string{"br-lan"}})
	k := &kernelOf{Table: tab, now: time.UnixMilli(60_000), got: got}
	k.dump()
	e := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	moved(e, 10, 20)
	k.after(time.Second)
	k.end(e)
	k.expect(t, "before", `whole out 443/6 "" 10+20`)
	real := time.UnixMilli(1795348801_000)
	k.mu.Lock()
	k.shift(61_000, real.UnixMilli()-61_000)
	k.mu.Unlock()
	early := strings.NewReplacer(`"start":"2026-11-22T12:00:00.4`, `"start":"1970-01-01T00:01:00.4`, `"end":"2026-11-22T12:00:09.1`, `"end":"1970-01-01T00:01:00.9`)
	play(t, k.Table, strings.NewReader(early.Replace(browse.end())))
	k.expect(t, "after")
}
