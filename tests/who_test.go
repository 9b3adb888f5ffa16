package tests

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/tests/rig"
)

// eventTime is the time of an event so long ago, as Suricata writes it.
func eventTime(ago time.Duration) string {
	return time.Now().Add(-ago).UTC().Format("2006-01-02T15:04:05.000000+0000")
}

// peerFlow are the events of a connection from a network without MACs, of which the
// client sent so many bytes.
func peerFlow(id int, client, name string, sent int) string {
	head := fmt.Sprintf(`"flow_id":%d,"in_iface":"wg0","src_ip":%q,"src_port":%d,"dest_ip":"203.0.113.80","dest_port":443,"proto":"TCP"`, id, client, 5000+id)
	return fmt.Sprintf(`{"timestamp":%q,%s,"event_type":"tls","tls":{"sni":%q,"version":"TLS 1.3"}}`, eventTime(time.Second), head, name) + "\n" +
		fmt.Sprintf(`{"timestamp":%q,%s,"event_type":"flow","app_proto":"tls","flow":{"pkts_toserver":9,"pkts_toclient":9,"bytes_toserver":%d,"bytes_toclient":9000,`+
			`"start":%q,"end":%q,"state":"closed"},"tcp":{"syn":true,"fin":true,"ack":true}}`, eventTime(0), head, sent, eventTime(time.Second), eventTime(0)) + "\n"
}

// TestWhoIsMeant: a client without a MAC is asked for, left out and forgotten by its
// address, a far end by the name as its owner writes it.
func TestWhoIsMeant(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.interface='wg0'\n|pakon.monitor.exclude_client='10.8.0.4'\n"+
		"|pakon.monitor.exclude_client='FD00:8:0::4'\n|pakon.monitor.exclude_hostname='https://müller.example/x'\n"); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")
	const háčky = "www.xn--hkyrky-ptac70bc.cz"
	events := peerFlow(1, "10.8.0.2", háčky, 1001) + peerFlow(2, "10.8.0.3", "www.shop.example", 1002) +
		peerFlow(3, "10.8.0.4", "www.shop.example", 1003) + peerFlow(4, "fd00:8::4", "www.shop.example", 1004) +
		peerFlow(5, "10.8.0.3", "xn--mller-kva.example", 1005) + peerFlow(6, "fd00:8::2", "www.shop.example", 1006)
	tell(t, s, func(w *bufio.Writer) { w.WriteString(events) })
	awaitFlows(t, s, 3)
	// sent is what tells the flows apart that a query finds.
	sent := func(args map[string]any) (sent []uint64) {
		t.Helper()
		flows, _, err := s.Query(t.Context(), args)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		for _, f := range flows {
			sent = append(sent, f.Sent)
		}
		slices.Sort(sent)
		return sent
	}
	for _, tt := range []struct {
		argument, value string
		want            []uint64
	}{
		{"", "", []uint64{1001, 1002, 1006}},
		{"mac", "10.8.0.2", []uint64{1001}},
		{"mac", "::ffff:10.8.0.3", []uint64{1002}},
		{"mac", "FD00:8:0::2", []uint64{1006}},
		{"hostname", "*.háčkyčárky.cz", []uint64{1001}},
		{"hostname", "https://SHOP.example:443/x?y", []uint64{1002, 1006}},
	} {
		args := map[string]any{"filter": false}
		if tt.argument != "" {
			args[tt.argument] = []string{tt.value}
		}
		if got := sent(args); !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: flows that sent %v, want %v", tt.argument, tt.value, got, tt.want)
		}
	}
	var clients struct {
		Clients []struct {
			MAC       string
			Addresses []string
		}
	}
	if err := s.Call(t.Context(), "clients", nil, &clients); err != nil {
		t.Fatal(err)
	}
	// Those that are left out are there for the bytes that are.
	if got := fmt.Sprint(clients.Clients); got != "[{ [10.8.0.2]} { [10.8.0.3]} { [10.8.0.4]} { [fd00:8::2]} { [fd00:8::4]}]" {
		t.Errorf("clients %s", got)
	}
	pakon := func(args ...string) (string, int) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, s.Pakon, append(args, "--ubus-socket", s.Root.Socket())...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, tt := range []struct {
		args   []string
		status int
		said   string
	}{
		{[]string{"show", "-H", "foo bar"}, 1, "foo bar: want a host name"},
		{[]string{"forget", "-y", "-H", "203.0.113.0/24"}, 1, "203.0.113.0/24: want a host name"},
		{[]string{"forget", "-y", "-m", "10.8.0.300"}, 1, "no client has this name"},
		{[]string{"forget", "-y", "-m", "10.8.0.3"}, 0, "1 flow was deleted"},
		{[]string{"forget", "-y", "-H", "HÁČKYČÁRKY.cz"}, 0, "1 flow was deleted"},
	} {
		if out, status := pakon(tt.args...); status != tt.status || !strings.Contains(out, tt.said) {
			t.Errorf("%q: status %d, %q", tt.args, status, out)
		}
	}
	if got := sent(map[string]any{"filter": false}); !slices.Equal(got, []uint64{1006}) {
		t.Errorf("afterwards there are flows that sent %v, want 1006", got)
	}
}
