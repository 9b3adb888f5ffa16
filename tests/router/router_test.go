package router

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func start(t *testing.T, devices []Device, options ...Option) *Router {
	t.Helper()
	if os.Geteuid() != 0 {
		if _, err := Start(devices); !errors.Is(err, ErrUnable) {
			t.Fatalf("without root: %v", err)
		}
		t.Skip(ErrUnable)
	}
	r, err := Start(devices, options...)
	if errors.Is(err, ErrUnable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestConnections makes each kind of connection from both networks and finds
// it on the bridges, with at least the bytes that the application moved.
func TestConnections(t *testing.T) {
	r := start(t, Household())
	tap, err := r.Tap(false)
	if err != nil {
		t.Fatal(err)
	}
	var all []Connection
	for _, c := range []*Client{r.Clients()[0], r.Clients()[5]} {
		for _, v6 := range []bool{false, true} {
			for _, q := range []Request{
				{Site: "www.example.org", Protocol: HTTP, Receive: 20000},
				{Site: "video.example.org", Protocol: TLS12, Receive: 30000},
				{Site: "shop.example.com", Protocol: TLS13, Receive: 4000, Send: 10000},
				{Site: "mail.example.com", Protocol: TLS13, Receive: 300, NoSNI: true, DNSOverTCP: true},
				{Site: "shop.example.com", Protocol: TLS12, Receive: 300, NoSNI: true, NoLookup: true},
				{Site: "play.example.org", Protocol: HTTP3, Receive: 50000},
			} {
				q.IPv6 = v6
				t.Run(fmt.Sprintf("%s/%v/%s/v6=%v", c, q.Protocol, q.Site, v6), func(t *testing.T) {
					made, err := c.Fetch(t.Context(), q)
					if err != nil {
						t.Fatal(err)
					}
					if made.Local.Addr() != c.V4 && made.Local.Addr() != c.V6 || made.Local.Port() == 0 || made.Remote.Addr().Is6() != v6 {
						t.Errorf("%+v", made)
					}
					all = append(all, made)
				})
			}
		}
	}
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	for _, made := range all {
		sent, recvd := tap.Counts(made)
		if sent.Net() < uint64(made.Sent)+100 || recvd.Net() < uint64(made.Recvd)+100 {
			t.Errorf("%v: the bridge saw %+v sent, %+v received; the application %d and %d", made, sent, recvd, made.Sent, made.Recvd)
		}
	}
	if _, err := r.Clients()[0].Lookup(t.Context(), "missing.test", false, false); err == nil || !strings.Contains(err.Error(), "NXDOMAIN") {
		t.Errorf("a missing name: %v", err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	start(t, nil) // skips without root
	before := openNamespaces(t)
	bad := append(Household(), Device{Network: "br-none", MAC: "02:00:00:00:00:99"})
	if _, err := Start(bad); err == nil || !strings.Contains(err.Error(), "br-none") {
		t.Fatalf("a device on an unknown network: %v", err)
	}
	if after := openNamespaces(t); after != before {
		t.Errorf("%d namespaces are open, %d were before", after, before)
	}
}

// openNamespaces is the number of namespaces that this process holds open.
func openNamespaces(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "net:") {
			n++
		}
	}
	return n
}

// TestUnable: where a program is lacking, the error is one to skip a test by.
func TestUnable(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if r, err := Start(Household()); !errors.Is(err, ErrUnable) {
		t.Errorf("without ip and nft: %v, %v", r, err)
	}
}
