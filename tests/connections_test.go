package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// awaitCapture waits until the daemon's Suricata sees the clients' packets.
func awaitCapture(t *testing.T, s *rig.System, clients ...*router.Client) {
	t.Helper()
	var probes []func(context.Context) error
	for _, c := range clients {
		probes = append(probes, c.Probe)
	}
	if err := s.AwaitCapture(t.Context(), probes...); err != nil {
		t.Fatal(err)
	}
}

// requests are connections of every kind; bytes differ so that no two flows of
// a client look the same.
func requests(device int) []router.Request {
	var list []router.Request
	for _, v6 := range []bool{false, true} {
		for _, q := range []router.Request{
			{Site: "www.example.org", Protocol: router.HTTP, Receive: 2000},
			{Site: "video.example.org", Protocol: router.TLS12, Receive: 300_000},
			{Site: "shop.example.com", Protocol: router.TLS13, Receive: 40_000, Send: 90_000},
			{Site: "shop.example.com", Protocol: router.TLS13, NoSNI: true, Receive: 700},
			{Site: "video.example.org", Protocol: router.TLS13, NoSNI: true, Receive: 900},
			{Site: "mail.example.com", Protocol: router.TLS13, NoSNI: true, DNSOverTCP: true, Receive: 300},
			{Site: "photos.test", Protocol: router.TLS12, NoSNI: true, NoLookup: true, Receive: 500},
			{Site: "weather.test", Protocol: router.TLS13, NoSNI: true, NoLookup: true, Receive: 600},
			{Site: "play.example.org", Protocol: router.HTTP3, Receive: 200_000},
			{Site: "video.example.org", Protocol: router.HTTP3, Receive: 5_000, Send: 20_000},
		} {
			q.IPv6 = v6
			q.Receive += int64(1000 * device)
			list = append(list, q)
		}
	}
	return list
}

// browse lets all devices make their connections, all at the same time.
func browse(t *testing.T, r *router.Router) []router.Connection {
	t.Helper()
	var mu sync.Mutex
	var all []router.Connection
	var errs []error
	var wg sync.WaitGroup
	for i, c := range r.Clients() {
		wg.Go(func() {
			for _, q := range requests(i) {
				made, err := c.Fetch(t.Context(), q)
				mu.Lock()
				all, errs = append(all, made), append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return all
}

// shown is a flow as text: two are the same if all that is compared is.
func shown(client, mac, name, source, address string, port uint16, proto, app string, sent, recvd uint64) string {
	return fmt.Sprintf("%s %s %q by %q %s %d/%s %s sent %d recvd %d", client, mac, name, source, address, port, proto, app, sent, recvd)
}

// TestEveryConnectionIsRecorded compares what the devices did, and the bytes of
// the frames that passed the bridges, with the flows: each connection exactly
// once, and nothing else. Bytes are counted by Suricata where the kernel does
// not track connections.
func TestEveryConnectionIsRecorded(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name, mode string
		tracking   bool
		bytesFrom  string
	}{
		{"tap without connection tracking", "tap", false, "suricata"},
		{"tap", "tap", true, "conntrack"},
		{"filter", "filter", true, "conntrack"},
	} {
		t.Run(how.name, func(t *testing.T) { everyConnection(t, how.mode, how.tracking, how.bytesFrom) })
	}
}

func everyConnection(t *testing.T, mode string, tracking bool, bytesFrom string) {
	t.Parallel()
	// At its end Suricata writes all flows it still knows, and drops what the
	// socket's buffer does not hold: with these devices it holds all.
	devices := []router.Device{router.Household()[1], router.Household()[3], router.Household()[4]}
	r := newRouter(t, devices)
	var hosts []rig.Host
	for _, d := range devices {
		if d.Name != "" {
			hosts = append(hosts, rig.Host{Name: d.Name, MACs: append(slices.Clone(d.Others), d.MAC)})
		}
	}
	s := newSystem(t, r.Do, hosts)
	if tracking {
		if err := r.Firewall(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.mode='"+mode+"'\n"); err != nil {
		t.Fatal(err)
	}
	tap, err := r.Tap(false)
	if err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s)
	awaitCapture(t, s, r.Clients()[0], r.Clients()[2])
	all := browse(t, r)
	overTCP := 0
	for _, c := range all {
		if c.App != "quic" {
			overTCP++
		}
	}
	// Those over TCP come by themselves, soon after their end.
	err = s.Until(t.Context(), 90*time.Second, func(ctx context.Context) (bool, error) {
		st, err := s.Status(ctx)
		return st.Flows.Live >= int64(overTCP), err
	})
	if err != nil {
		t.Fatalf("flows of %d TCP connections: %v; %d are there", overTCP, err, status(t, s).Flows.Live)
	}
	before := status(t, s)
	if before.BytesFrom != bytesFrom || before.Mode != mode {
		t.Errorf("mode %s, bytes from %s; want %s, %s", before.Mode, before.BytesFrom, mode, bytesFrom)
	}
	if before.Suricata.Drops > 0 || before.Events.Dropped > 0 || before.Events.Malformed > 0 {
		t.Errorf("lost on the way: %+v", before)
	}
	// The rest Suricata tells when it is stopped, so that a restart loses nothing;
	// otherwise a minute after the last packet.
	restartDaemon(t, s)
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	flows, _, err := s.Query(t.Context(), map[string]any{"start": "-3600", "direction": "both", "filter": false})
	if err != nil {
		t.Fatal(err)
	}
	// Two starts and an end of Suricata: none of it is worth the owner's attention.
	if said := fmt.Sprint(s.Echo); strings.Contains(said, "suricata: ") {
		t.Error("what Suricata says at every start is in the owner's log")
	}
	var got, want []string
	for _, f := range flows {
		got = append(got, shown(f.Client, f.MAC, f.Hostname, f.Source, f.Address, f.Port, f.Proto, f.App, f.Sent, f.Recvd))
		if f.Direction != "" && f.Direction != "out" {
			t.Errorf("direction %q of %+v", f.Direction, f)
		}
	}
	for _, c := range all {
		sent, recvd := tap.Counts(c)
		bytes := [2]uint64{sent.Suricata(), recvd.Suricata()}
		if tracking {
			bytes = [2]uint64{sent.Net(), recvd.Net()}
		}
		proto := "tcp"
		if c.App == "quic" {
			proto = "udp"
		}
		want = append(want, shown(c.Client.String(), c.Client.MAC, c.Name, c.Source, c.Remote.Addr().String(), c.Remote.Port(), proto, c.App, bytes[0], bytes[1]))
	}
	diff(t, want, got)
}

// TestStagedInterfaces: what is monitored follows `uci set` and a restart, and
// a reload too.
func TestStagedInterfaces(t *testing.T) {
	t.Parallel()
	r := newRouter(t, router.Household())
	s := newSystem(t, r.Do, nil)
	lan, guest := r.Clients()[0], r.Clients()[4]
	// fetch lets both browse a site, and returns who is recorded with it once
	// Suricata has told of all connections, which it does when it is stopped.
	fetch := func(site string, seen ...*router.Client) []string {
		t.Helper()
		awaitCapture(t, s, seen...)
		for _, c := range []*router.Client{lan, guest} {
			if _, err := c.Fetch(t.Context(), router.Request{Site: site, Protocol: router.TLS13, Receive: 1000}); err != nil {
				t.Fatal(err)
			}
		}
		awaitCapture(t, s, seen...) // it has looked at all packets before these
		restartDaemon(t, s)
		flows, _, err := s.Query(t.Context(), map[string]any{"start": "-3600", "hostname": []string{site}, "filter": false})
		if err != nil {
			t.Fatal(err)
		}
		var who []string
		for _, f := range flows {
			who = append(who, f.MAC)
		}
		slices.Sort(who)
		return who
	}
	both := []string{lan.MAC, guest.MAC}
	slices.Sort(both)
	startDaemon(t, s)
	awaitCapture(t, s)
	// Staged while the daemon runs: in force from the restart that ends the first round.
	if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.interface='br-lan'\n"); err != nil {
		t.Fatal(err)
	}
	if got := fetch("www.example.org", lan, guest); !slices.Equal(got, both) {
		t.Errorf("before the restart: recorded %v, want %v", got, both)
	}
	if got := fetch("mail.example.com", lan); !slices.Equal(got, []string{lan.MAC}) {
		t.Errorf("with br-lan alone: recorded %v, want %v", got, lan.MAC)
	}
	if err := s.Root.Remove("tmp/.uci/pakon"); err != nil {
		t.Fatal(err)
	}
	awaitCapture(t, s, lan)
	pid := status(t, s).Suricata.PID
	if err := s.Call(t.Context(), "reload", nil, nil); err != nil {
		t.Fatal(err)
	}
	awaitOtherSuricata(t, s, pid)
	if got := fetch("weather.test", lan, guest); !slices.Equal(got, both) {
		t.Errorf("after the reload: recorded %v, want %v", got, both)
	}
}

// awaitOtherSuricata waits until another Suricata than the one with this number
// captures.
func awaitOtherSuricata(t *testing.T, s *rig.System, pid int) {
	t.Helper()
	err := s.Until(t.Context(), 40*time.Second, func(ctx context.Context) (bool, error) {
		st, err := s.Status(ctx)
		return st.Suricata.State == "running" && st.Suricata.PID != pid && st.Events.Connections > 1, err
	})
	if err != nil {
		t.Fatalf("no other Suricata than %d: %v; status: %+v", pid, err, status(t, s).Suricata)
	}
}

// TestSuricataDies: it is started again, and what it sees then is recorded.
func TestSuricataDies(t *testing.T) {
	t.Parallel()
	r := newRouter(t, router.Household())
	s := newSystem(t, r.Do, nil)
	startDaemon(t, s)
	awaitCapture(t, s)
	pid := status(t, s).Suricata.PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitOtherSuricata(t, s, pid)
	if st := status(t, s); st.Suricata.Restarts != 1 {
		t.Errorf("status tells of %d restarts, want 1", st.Suricata.Restarts)
	}
	c := r.Clients()[1]
	awaitCapture(t, s, c)
	if _, err := c.Fetch(t.Context(), router.Request{Site: "photos.test", Protocol: router.HTTP3, Receive: 1000}); err != nil {
		t.Fatal(err)
	}
	awaitCapture(t, s, c)
	restartDaemon(t, s)
	flows, _, err := s.Query(t.Context(), map[string]any{"start": "-3600", "hostname": []string{"photos.test"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(flows) != 1 || flows[0].MAC != c.MAC {
		t.Errorf("recorded %+v, want one connection of %s", flows, c)
	}
}

// diff complains about what is only in one of two lists; how often something is
// in a list counts.
func diff(t *testing.T, want, got []string) {
	t.Helper()
	t.Logf("%d flows, want %d", len(got), len(want))
	count := map[string]int{}
	for _, w := range want {
		count[w]++
	}
	for _, g := range got {
		count[g]--
	}
	var lines []string
	for text, n := range count {
		switch {
		case n > 0:
			lines = append(lines, fmt.Sprintf("%s: missing %d times", text, n))
		case n < 0:
			lines = append(lines, fmt.Sprintf("%s: too often, %d times", text, -n))
		}
	}
	slices.Sort(lines)
	if len(lines) > 0 {
		t.Errorf("%d differences:\n%s", len(lines), strings.Join(lines[:min(len(lines), 40)], "\n"))
	}
}
