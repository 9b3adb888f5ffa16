package router

import (
	"fmt"
	"testing"
)

// firewalled is a router with one device on each network and a firewall.
func firewalled(t *testing.T, options ...Option) *Router {
	t.Helper()
	r := start(t, []Device{Household()[0], Household()[4]}, options...)
	if err := r.Firewall(); err != nil {
		t.Fatal(err)
	}
	return r
}

// entry is the kernel's only one of a connection.
func entry(t *testing.T, r *Router, c Connection) Tracked {
	t.Helper()
	all, err := r.Conntrack()
	if err != nil {
		t.Fatal(err)
	}
	var found []Tracked
	for _, e := range all {
		if e.Is(c) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%v is tracked %d times; all: %+v", c, len(found), all)
	}
	return found[0]
}

// sameAs compares the kernel's counters with the frames on the bridge.
func sameAs(t *testing.T, tap *Tap, c Connection, e Tracked) {
	t.Helper()
	sent, recvd := tap.Counts(c)
	got, want := [2]Counter{e.Sent, e.Recvd}, [2]Counter{{sent.Packets, sent.Net()}, {recvd.Packets, recvd.Net()}}
	if got != want || sent.Net() < uint64(c.Sent) || recvd.Net() < uint64(c.Recvd) {
		t.Errorf("%v moved %d and %d bytes: the kernel counts %v, the bridge saw %v", c, c.Sent, c.Recvd, got, want)
	}
}

func TestTransfer(t *testing.T) {
	r := firewalled(t)
	tap, err := r.Tap(false)
	if err != nil {
		t.Fatal(err)
	}
	var all []Connection
	for _, protocol := range []Protocol{HTTP, TLS12, TLS13} {
		for _, v6 := range []bool{false, true} {
			c := r.Clients()[len(all)%2]
			x, err := c.Open(t.Context(), "www.example.org", protocol, v6)
			if err != nil {
				t.Fatal(err)
			}
			var last Tracked
			for step := range 3 {
				if err := x.Move(int64(10_000*step), 300_000); err != nil {
					t.Fatal(err)
				}
				now := entry(t, r, x.Connection)
				if now.Recvd.Bytes < last.Recvd.Bytes+300_000 {
					t.Errorf("%v: from %+v to %+v in a step", x, last, now)
				}
				last = now
			}
			if x.Sent != 30_000 || x.Recvd != 900_000 {
				t.Errorf("%d and %d bytes were moved", x.Sent, x.Recvd)
			}
			end := x.Close
			if v6 {
				end = x.Abort
			}
			if err := end(); err != nil {
				t.Error(err)
			}
			if err := x.Move(1, 1); err == nil {
				t.Error("a step over a connection that is closed")
			}
			all = append(all, x.Connection)
		}
	}
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		sameAs(t, tap, c, entry(t, r, c))
	}
	if _, err := r.Clients()[0].Open(t.Context(), "www.example.org", HTTP3, false); err == nil {
		t.Error("a transfer by QUIC")
	}
}

// TestVisit: the internet opens connections to a client.
func TestVisit(t *testing.T) {
	r := firewalled(t)
	c := r.Clients()[0]
	if err := c.Serve(8080); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Visit(t.Context(), c, 8080, false); err == nil {
		t.Error("a visit without a forward")
	}
	if err := r.Forward(80, c, 8080); err != nil {
		t.Fatal(err)
	}
	if err := r.ReloadFirewall(); err != nil {
		t.Fatal(err)
	}
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			tap, err := r.Tap(false)
			if err != nil {
				t.Fatal(err)
			}
			x, err := r.Visit(t.Context(), c, 8080, v6)
			if err != nil {
				t.Fatal(err)
			}
			if err := x.Move(2000, 50_000); err != nil {
				t.Fatal(err)
			}
			if x.Sent != 50_000 || x.Recvd != 2000 {
				t.Errorf("the client sent %d and received %d", x.Sent, x.Recvd)
			}
			if err := x.Abort(); err != nil {
				t.Fatal(err)
			}
			if err := tap.Close(); err != nil {
				t.Fatal(err)
			}
			e := entry(t, r, x.Connection)
			if !e.Inbound {
				t.Errorf("not inbound: %+v", e)
			}
			sameAs(t, tap, x.Connection, e)
		})
	}
}

// TestOthersDisturb: what other programs do to tables and counters is done, and
// the firewall works afterwards.
func TestOthersDisturb(t *testing.T) {
	r := firewalled(t)
	x, err := r.Clients()[0].Open(t.Context(), "www.example.org", TLS13, false)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Abort()
	if err := x.Move(0, 100_000); err != nil {
		t.Fatal(err)
	}
	before := entry(t, r, x.Connection)
	zeroed, err := r.ZeroCounters()
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for _, e := range zeroed {
		if e.Is(x.Connection) && e == before {
			taken++
		}
	}
	if after := entry(t, r, x.Connection); taken != 1 || after.Recvd.Bytes > 1000 {
		t.Errorf("%+v was read %d times while it was zeroed, and is %+v then", before, taken, after)
	}
	if err := r.FlushRuleset(); err != nil {
		t.Fatal(err)
	}
	if err := r.Firewall(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Clients()[0].Fetch(t.Context(), Request{Site: "www.example.org", Protocol: TLS13, Send: 1000, Receive: 1000}); err != nil {
		t.Error(err)
	}
	if err := r.Sysctl("netfilter/nf_conntrack_events", "1"); err != nil {
		t.Error(err)
	}
	if err := r.Sysctl("netfilter/none", "1"); err == nil {
		t.Error("a setting that is not there was set")
	}
}

func TestRecreateBridge(t *testing.T) {
	r := firewalled(t)
	for _, n := range Networks {
		if err := r.RecreateBridge(n.Bridge); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range r.Clients() {
		for _, v6 := range []bool{false, true} {
			if _, err := c.Fetch(t.Context(), Request{Site: "www.example.org", Protocol: TLS13, IPv6: v6, Receive: 1000}); err != nil {
				t.Error(err)
			}
		}
	}
	if err := r.RecreateBridge("br-none"); err == nil {
		t.Error("a bridge that is not there was recreated")
	}
}
