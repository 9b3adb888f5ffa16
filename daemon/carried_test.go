package main

import (
	"context"
	"log/slog"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"pakon/daemon/client"
	"pakon/daemon/flow"
)

func fullHour(ms int64) int64 { return ms / 3_600_000 * 3_600_000 }

// nothingKnown is what a table knows of no connection.
func nothingKnown() map[string]flow.Coverage { return nil }

// TestCarried: what is known of an interface's traffic is compared with what it
// carried in the same time, and not at all where one lacks what the other has.
func TestCarried(t *testing.T) {
	start := time.UnixMilli(1_790_640_000_000) // of an hour
	recorded := func(n uint64) flow.Coverage { return flow.Coverage{Recorded: n} }
	type look struct {
		minute       int
		index        int
		bytes        uint64
		known        flow.Coverage
		incomparable bool
		final        uint64 // what the link before told when it was deleted, told first
	}
	type hour struct {
		bytes, recorded, named, other uint64
		apart                         bool
	}
	for _, tt := range []struct {
		name  string
		looks []look
		want  []hour
	}{
		{"one hour", []look{{minute: 0, index: 3, bytes: 1000}, {minute: 10, index: 3, bytes: 3000, known: flow.Coverage{Recorded: 1500, Named: 500, Other: 300}}},
			[]hour{{2000, 1500, 500, 300, false}}},
		{"what was known before the first look", []look{{minute: 0, index: 3, bytes: 1000, known: recorded(900)}, {minute: 1, index: 3, bytes: 1100, known: recorded(100)}},
			[]hour{{100, 100, 0, 0, false}}},
		{"what moves over a full hour belongs to one of them", []look{{minute: 59, index: 3, bytes: 0}, {minute: 61, index: 3, bytes: 5000, known: recorded(4900)}},
			[]hour{{5000, 4900, 0, 0, false}}},
		{"two hours", []look{{minute: 50, index: 3}, {minute: 59, index: 3, bytes: 100, known: recorded(90)}, {minute: 62, index: 3, bytes: 300, known: recorded(200)}},
			[]hour{{100, 90, 0, 0, false}, {200, 200, 0, 0, false}}},
		{"a name comes in the next hour", []look{{minute: 50, index: 3}, {minute: 59, index: 3, bytes: 100, known: recorded(90)},
			{minute: 62, index: 3, bytes: 110, known: flow.Coverage{Recorded: 10, Named: 100}}},
			[]hour{{100, 90, 90, 0, false}, {10, 10, 10, 0, false}}},
		{"what was taken for DNS turns out to be none", []look{{minute: 50, index: 3}, {minute: 59, index: 3, bytes: 100, known: flow.Coverage{Other: 90}},
			{minute: 62, index: 3, bytes: 200, known: flow.Coverage{Other: 50, Turned: 130}}},
			[]hour{{100, 80, 0, 10, false}, {100, 50, 0, 0, false}}},
		{"a bridge made anew", []look{{minute: 0, index: 3, bytes: 1000}, {minute: 1, index: 9, bytes: 50, known: recorded(118_000), final: 119_000}},
			[]hour{{118_050, 118_000, 0, 0, false}}},
		{"its end is told late", []look{{minute: 0, index: 3, bytes: 1000}, {minute: 1, index: 9, bytes: 10, known: recorded(118_000)},
			{minute: 2, index: 9, bytes: 60, known: recorded(50), final: 119_000}},
			[]hour{{118_060, 118_050, 0, 0, false}}},
		{"its end is lost", []look{{minute: 0, index: 3, bytes: 1000}, {minute: 1, index: 9, bytes: 10, known: recorded(118_000)}, {minute: 2, index: 9, bytes: 60, known: recorded(50)}},
			[]hour{{60, 118_050, 0, 0, true}}},
		{"counters zeroed", []look{{minute: 0, index: 3, bytes: 1_000_000}, {minute: 1, index: 3, bytes: 50, known: recorded(90)}, {minute: 70, index: 3, bytes: 150, known: recorded(90)}},
			[]hour{{50, 90, 0, 0, true}, {100, 90, 0, 0, false}}},
		{"counters that are not read at once", []look{{minute: 0, index: 3, bytes: 1_000_000}, {minute: 1, index: 3, bytes: 999_990}, {minute: 2, index: 3, bytes: 1_000_100, known: recorded(90)}},
			[]hour{{100, 90, 0, 0, false}}},
		{"a queue dropped some", []look{{minute: 0, index: 3}, {minute: 1, index: 3, bytes: 1000, known: recorded(1010)}},
			[]hour{{1010, 1010, 0, 0, false}}},
		{"all of it told at the end", []look{{minute: 10, index: 3}, {minute: 20, index: 3, bytes: 1000}, {minute: 30, index: 3, bytes: 2000, known: flow.Coverage{Recorded: 1900, Begun: start.Add(15 * time.Minute).UnixMilli()}}},
			[]hour{{2000, 1900, 0, 0, false}}},
		{"part of it moved earlier", []look{{minute: 10, index: 3}, {minute: 20, index: 3, bytes: 1000, known: flow.Coverage{Recorded: 1900, Begun: start.UnixMilli()}}},
			[]hour{{1000, 1900, 0, 0, true}}},
		{"packets go past the counters", []look{{minute: 0, index: 3}, {minute: 1, index: 3, bytes: 1000, known: recorded(90_000), incomparable: true}},
			[]hour{{1000, 90_000, 0, 0, true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCarried(slog.New(slog.DiscardHandler), fullHour, nothingKnown)
			for _, l := range tt.looks {
				if l.final != 0 {
					c.deleted(&rtnetlink.LinkMessage{Index: 3, Attributes: &rtnetlink.LinkAttributes{Name: "br-lan", Stats64: &rtnetlink.LinkStats64{RXBytes: l.final}}})
				}
				at := start.Add(time.Duration(l.minute) * time.Minute)
				c.note("br-lan", linkCounter{index: l.index, bytes: l.bytes}, l.known, at, !l.incomparable)
				c.looked = at
			}
			var got []hour
			for _, h := range c.of("br-lan") {
				got = append(got, hour{h.bytes, h.recorded, h.named, h.other, h.apart})
				if !h.apart && h.recorded+h.other > h.bytes || h.named > h.recorded {
					t.Errorf("more than all: %+v", h)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestCarriedIsBounded(t *testing.T) {
	c := newCarried(slog.New(slog.DiscardHandler), fullHour, nothingKnown)
	for i := range 100 {
		c.note("br-lan", linkCounter{index: 9, bytes: uint64(5000 + i)}, flow.Coverage{}, time.UnixMilli(1_790_640_000_000).Add(time.Duration(i)*time.Hour), true)
	}
	if n := len(c.of("br-lan")); n != carriedHours {
		t.Errorf("%d hours are kept", n)
	}
}

// TestKnownWhileAway: what is known of an interface that is away at a look is
// compared once it is back, as what it had carried is.
func TestKnownWhileAway(t *testing.T) {
	var known map[string]flow.Coverage
	c := newCarried(slog.New(slog.DiscardHandler), fullHour, func() map[string]flow.Coverage { return known })
	lo := []client.Interface{{Name: "lo", Index: 1}}
	for _, look := range []struct {
		there []client.Interface
		known uint64
	}{{lo, 0}, {nil, 1000}, {nil, 100}, {lo, 10}} {
		known = map[string]flow.Coverage{"lo": {Recorded: look.known}}
		if err := c.sample([]string{"lo"}, look.there, true); err != nil {
			t.Fatal(err)
		}
	}
	var recorded uint64
	for _, h := range c.of("lo") {
		recorded += h.recorded
	}
	if recorded != 1110 {
		t.Errorf("%d bytes are known of 1110", recorded)
	}
}

// TestNotMonitoredForAWhile: what an interface carries while it is not monitored
// is not compared with what is then known of it.
func TestNotMonitoredForAWhile(t *testing.T) {
	c := newCarried(slog.New(slog.DiscardHandler), fullHour, nothingKnown)
	at := time.UnixMilli(1_790_640_000_000)
	c.note("br-lan", linkCounter{index: 3, bytes: 1000}, flow.Coverage{}, at, true)
	c.forget([]string{"br-guest"})
	c.note("br-lan", linkCounter{index: 3, bytes: 900_000}, flow.Coverage{}, at.Add(time.Minute), true)
	c.note("br-lan", linkCounter{index: 3, bytes: 900_100}, flow.Coverage{Recorded: 100}, at.Add(2*time.Minute), true)
	if h := c.of("br-lan"); len(h) != 1 || h[0].bytes != 100 || h[0].apart {
		t.Errorf("%+v", h)
	}
}

func TestLinkBytes(t *testing.T) {
	for _, tt := range []struct {
		kind string
		typ  uint16
		want uint64
	}{
		{"bridge", unix.ARPHRD_ETHER, 3000 - 14*2}, {"vlan", unix.ARPHRD_ETHER, 3000 - 14*2}, {"veth", unix.ARPHRD_ETHER, 3000 - 14*5},
		{"", unix.ARPHRD_ETHER, 3000 - 14*5}, {"wireguard", unix.ARPHRD_NONE, 3000},
	} {
		a := &rtnetlink.LinkAttributes{Stats64: &rtnetlink.LinkStats64{RXBytes: 1000, RXPackets: 3, TXBytes: 2000, TXPackets: 2}}
		if tt.kind != "" {
			a.Info = &rtnetlink.LinkInfo{Kind: tt.kind}
		}
		if got := linkBytes(&rtnetlink.LinkMessage{Type: tt.typ, Attributes: a}); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.kind, got, tt.want)
		}
	}
}

// TestCarriedByADeletedBridge: what a real bridge counted until it was deleted is
// part of what it carried.
func TestCarriedByADeletedBridge(t *testing.T) {
	inNamespace(t, func() {
		ip(t, "link add br-lan type bridge")
		ip(t, "link add port type veth peer name eth0")
		ip(t, "link set port master br-lan up")
		ip(t, "link set eth0 up")
		ip(t, "link set br-lan up")
		conn, err := rtnetlink.Dial(nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		index := func() int {
			links, err := conn.Link.List()
			if err != nil {
				t.Error(err)
			}
			for _, l := range links {
				if l.Attributes.Name == "br-lan" {
					return int(l.Index)
				}
			}
			return 0
		}
		c := newCarried(slog.New(slog.DiscardHandler), fullHour, nothingKnown)
		look := func() {
			if err := c.sample([]string{"br-lan"}, []client.Interface{{Name: "br-lan", Index: index()}}, true); err != nil {
				t.Error(err)
			}
		}
		// The socket belongs to the namespace of the thread that opens it.
		told, err := subscribeLinks()
		if err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		var following sync.WaitGroup
		defer following.Wait()
		defer cancel()
		following.Go(func() {
			if err := c.follow(ctx, told); err != nil {
				t.Error(err)
			}
		})
		before := index()
		look()
		ip(t, "address add 192.0.2.1/24 dev br-lan")
		ip(t, "neigh replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev br-lan nud permanent")
		sendUDP(t, 1000)
		ip(t, "link del br-lan")
		for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
			c.mu.Lock()
			final, ok := c.final[before]
			c.mu.Unlock()
			if ok && final >= 1000 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("the deleted bridge had counted %d bytes, known: %v", final, ok)
				return
			}
		}
		ip(t, "link add br-lan type bridge")
		look()
		if h := c.of("br-lan"); len(h) != 1 || h[0].bytes < 1000 || h[0].apart {
			t.Errorf("carried %+v", h)
		}
	})
}

// inNamespace runs f on a thread in a network namespace of its own.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("needs iproute2: %v", err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is of no further use
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		defer close(done)
		f()
	}()
	if err := <-done; err != nil {
		t.Skipf("a network namespace can not be made here: %v", err)
	}
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", args, err, out)
	}
}

// sendUDP sends to 192.0.2.9 datagrams of 100 bytes until they are so many bytes.
func sendUDP(t *testing.T, bytes int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	at := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 9}}
	for range bytes / 100 {
		if err := unix.Sendto(fd, make([]byte, 100), 0, at); err != nil {
			t.Errorf("send: %v", err)
		}
	}
}
