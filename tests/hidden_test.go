package tests

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// aConnection are the events of a connection from a network without MACs.
func aConnection(id int, client, name string, sent, recvd int) string {
	return strings.Replace(peerFlow(id, client, name, sent), `"bytes_toclient":9000`, fmt.Sprintf(`"bytes_toclient":%d`, recvd), 1)
}

// leftOut is what a reply says to be left out, by why.
type leftOut []struct {
	Day, Why    string
	Sent, Recvd uint64
}

func (l leftOut) sums() map[string]uint64 {
	sums := make(map[string]uint64)
	for _, o := range l {
		sums[o.Why] += o.Sent + o.Recvd
	}
	return sums
}

// TestNobodyHides: by no name that a sender chooses much can be moved unseen: what is
// hidden is said, what is large is not hidden, what is left out is counted, also over
// a restart, and nobody's silence hides who sends.
func TestNobodyHides(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.interface='wg0'\n|pakon.monitor.exclude_client='10.8.0.4'\n"+
		"|pakon.monitor.exclude_hostname='secret.example'\n"); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")
	const mib, hides = 1 << 20, "ocsp.digicert.com"
	tell(t, s, func(w *bufio.Writer) {
		for _, e := range []string{
			aConnection(1, "10.8.0.2", hides, 1000, 2000),
			aConnection(2, "10.8.0.2", hides, 9*mib, 1000),
			aConnection(3, "10.8.0.3", "www.secret.example", 30*mib, 7*mib),
			aConnection(4, "10.8.0.4", "www.example.org", 50*mib, mib),
			aConnection(5, "10.8.0.2", "", 5*mib, 0), // which nobody answers
			aConnection(6, "10.8.0.2", "", 5000, 0),
			aConnection(7, "10.8.0.2", "www.example.org", 1, 2),
		} {
			w.WriteString(e)
		}
	})
	awaitFlows(t, s, 4)
	var reply struct {
		Flows []struct {
			Hostname    string
			Sent, Recvd uint64
		}
		Hidden, Total struct{ Flows, Bytes, Sent, Recvd uint64 }
	}
	if err := s.Call(t.Context(), "query", map[string]any{"sort": "sent", "count": true}, &reply); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(reply.Flows); got != fmt.Sprintf("[{www.example.org 1 2} { %d 0} {%s %d 1000}]", 5*mib, hides, 9*mib) {
		t.Errorf("the flows are %s", got)
	}
	if reply.Hidden.Flows != 1 || reply.Hidden.Bytes != 3000 || reply.Total.Flows != 3 || reply.Total.Sent != 14*mib+1 {
		t.Errorf("hidden %+v, total %+v", reply.Hidden, reply.Total)
	}
	// Each table and form of the command.
	const said = "hidden by the lists: 1 flow, 3KiB (--no-filter shows them)\n"
	for _, args := range []string{"", "-A", "--by client", "--by hostname", "-j", "--csv", "-s -1h -H digicert.com --detail"} {
		var out, errOut strings.Builder
		cmd := exec.CommandContext(t.Context(), s.Pakon, append([]string{"show", "--ubus-socket", s.Root.Socket()}, strings.Fields(args)...)...)
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil {
			t.Fatalf("show %s: %v, %s", args, err, errOut.String())
		}
		forPrograms := args == "-j" || args == "--csv"
		if !forPrograms && !strings.HasSuffix(out.String(), said) || forPrograms && errOut.String() != "pakon-show: "+said {
			t.Errorf("show %s prints %q, and on stderr %q", args, out.String(), errOut.String())
		}
	}
	// What is left out is counted for whose it is, and a restart changes nothing of it.
	const names, clients = uint64(37 * mib), uint64(51 * mib)
	check := func(when string) {
		t.Helper()
		var list struct {
			Clients []struct {
				Addresses []netip.Addr
				LeftOut   leftOut `json:"left_out"`
			}
		}
		if err := s.Call(t.Context(), "clients", nil, &list); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]map[string]uint64)
		for _, c := range list.Clients {
			if sums := c.LeftOut.sums(); len(sums) > 0 {
				got[fmt.Sprint(c.Addresses)] = sums
			}
		}
		want := map[string]map[string]uint64{"[10.8.0.3]": {"excluded_hostname": names}, "[10.8.0.4]": {"excluded_client": clients}}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: clients says %v, want %v", when, got, want)
		}
		var st struct {
			LeftOut leftOut `json:"left_out"`
		}
		if err := s.Call(t.Context(), "status", nil, &st); err != nil {
			t.Fatal(err)
		}
		if sums := st.LeftOut.sums(); sums["excluded_hostname"] != names || sums["excluded_client"] != clients {
			t.Errorf("%s: status says %v", when, sums)
		}
		out, err := exec.CommandContext(t.Context(), s.Pakon, "status", "--ubus-socket", s.Root.Socket()).Output()
		if err != nil || !strings.Contains(string(out), "51MiB of excluded devices today") || !strings.Contains(string(out), "37MiB to excluded names today") {
			t.Errorf("%s: %v, status prints\n%s", when, err, out)
		}
	}
	check("at first")
	restartDaemon(t, s, "--no-suricata")
	check("after a restart")
	if err := s.StopDaemon(); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{"", "-wal", "-shm"} { // what a reboot loses
		if err := s.Root.Remove("var/lib/pakon.db" + ext); err != nil {
			t.Fatal(err)
		}
	}
	startDaemon(t, s, "--no-suricata")
	if err := s.Until(t.Context(), reportTime, func(ctx context.Context) (bool, error) {
		var st struct {
			LeftOut leftOut `json:"left_out"`
		}
		err := s.Call(ctx, "status", nil, &st)
		return len(st.LeftOut) > 0, err
	}); err != nil {
		t.Fatal(err)
	}
	check("after a reboot")
	// Wrong calls cost a line of the log a minute, whoever makes them.
	for range 30 {
		if err := s.Call(t.Context(), "query", map[string]any{"limit": -1}, &json.RawMessage{}); err == nil {
			t.Fatal("a wrong argument is taken")
		}
	}
	daemon := s.Daemon
	if err := s.StopDaemon(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(daemon.Said(), "wrong argument in a call"); n < 1 || n > 2 {
		t.Errorf("30 wrong calls have logged %d lines", n)
	}
}

// TestSenderWithoutAnswer: the kernel's count of what nobody answers is a flow, and
// what goes through the port of DNS in slices too small for one is counted.
func TestSenderWithoutAnswer(t *testing.T) {
	t.Parallel()
	r := startRouter(t, router.Household()[:2])
	if err := r.Firewall(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"udp_timeout", "udp_timeout_stream"} {
		if err := r.Sysctl("netfilter/nf_conntrack_"+key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Echo(53); err != nil {
		t.Fatal(err)
	}
	s := newSystem(t, r.Do, nil)
	startDaemon(t, s, "--no-suricata")
	c, tunnel := r.Clients()[0], r.Clients()[1]
	probe(t, tunnel)
	silent, dns := netip.AddrPortFrom(router.EchoAddr, 9999), netip.AddrPortFrom(router.EchoAddr, 53)
	if err := c.Send(t.Context(), silent, 2<<20); err != nil {
		t.Fatal(err)
	}
	const times, each, often = 50, 1400, 20
	for range times {
		if _, err := tunnel.AskOften(t.Context(), "udp", dns, strings.Repeat("x", each), often); err != nil {
			t.Fatal(err)
		}
	}
	var flows []rig.Flow
	if err := s.Until(t.Context(), reportTime, func(context.Context) (bool, error) {
		flows = slices.DeleteFunc(flowsOf(t, s, c), func(f rig.Flow) bool { return f.Port != silent.Port() })
		return len(flows) == 1 && flows[0].Sent > 2<<20, nil
	}); err != nil {
		t.Fatalf("%v: the flows are %+v", err, flows)
	}
	if f := flows[0]; f.Recvd != 0 || f.Proto != "udp" {
		t.Errorf("the flow is %+v", f)
	}
	// Each is counted when it is known that Suricata says nothing of it: after a minute.
	var left uint64
	if err := s.Until(t.Context(), 4*reportTime, func(ctx context.Context) (bool, error) {
		var list struct {
			Clients []struct {
				MAC     string
				LeftOut leftOut `json:"left_out"`
			}
		}
		err := s.Call(ctx, "clients", nil, &list)
		for _, c := range list.Clients {
			if c.MAC == tunnel.MAC {
				left = c.LeftOut.sums()["dns_flow"]
			}
		}
		return left > times*each*often, err // half of it: the latest waits until it is more
	}); err != nil {
		t.Errorf("%v: %d bytes of DNS are left out", err, left)
	}
	if flows := flowsOf(t, s, tunnel); len(flows) != 0 {
		t.Errorf("recorded are %+v", flows)
	}
}
