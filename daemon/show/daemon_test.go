package show

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pakon/daemon/api"
	"pakon/daemon/api/timespec"
	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store"
	"pakon/lists"
	"pakon/tests/limits"
)

// The tests in this file run the commands against the daemon's own object and a
// real store.

var laptop = client.MAC{0x00, 0x01, 0x02, 0x03, 0x04, 0x05}

// testLists group and hide what the tests' names need.
type testLists struct{}

func (testLists) Classify(name string) (c lists.Class) {
	if strings.HasSuffix(name, ".fbcdn.net") {
		c.Group = "facebook.com"
	}
	if strings.HasSuffix(name, "ads.example") {
		c.Hidden = "advertising"
	}
	return c
}

func (testLists) Service(string) (s lists.Service, ok bool) { return s, false }
func (testLists) ByLabel(string) []string                   { return nil }

func classify(name string) (string, bool) {
	c := testLists{}.Classify(name)
	return c.Group, c.Hidden != ""
}

// start puts the daemon's object on the bus, with flows.
func (r *rig) start(t testing.TB, flows []flow.Flow) *api.API {
	t.Helper()
	s, err := store.Open(context.Background(), store.Options{
		Path: filepath.Join(t.TempDir(), "pakon.db"), Classify: classify, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Add(context.Background(), flows); err != nil {
		t.Fatal(err)
	}
	hosts := client.New(slog.New(slog.DiscardHandler))
	hosts.SetHosts([]client.Host{{Name: "Laptop", MACs: []client.MAC{laptop}}})
	a := api.New(api.Config{
		Store: s, Clients: hosts, Lists: func() api.Lists { return testLists{} },
		Location: func() *time.Location { return timespec.Location("") },
		Log:      slog.New(slog.DiscardHandler),
	})
	return a
}

// TestRefusedByTheDaemon: what the daemon refuses is told in its words.
func TestRefusedByTheDaemon(t *testing.T) {
	r := newRig(t, nil)
	publish(t, r.socket, r.start(t, someFlows()).Object())
	for _, args := range [][]string{
		{"show", "-H", "foo bar"}, {"show", "--by", "client", "-H", "foo bar"}, {"show", "--follow", "-H", "foo bar"}, {"forget", "-y", "-H", "foo bar"},
	} {
		status, out, errOut := r.run(t, args...)
		if status != 1 || out != "" || !strings.HasSuffix(errOut, ": the daemon refused an argument hostname: foo bar: want a host name such as example.org, or an IP address, or the name of a service such as Facebook\n") {
			t.Errorf("%q: status %d, stdout %q, stderr %q", args, status, out, errOut)
		}
	}
}

// aFlow is the manual's flow, at so many seconds after its time.
func aFlow(after int64, change func(*flow.Flow)) flow.Flow {
	start := (1567561062 + after) * 1000
	f := flow.Flow{
		Start: start, End: start + 81_000, Client: laptop, ClientAddr: netip.MustParseAddr("192.168.1.10"),
		Remote: netip.MustParseAddr("203.0.113.7"), Port: 443, Proto: flow.UDP, Name: "google.com", Source: name.QUIC,
		Interface: "br-lan", Sent: 35840, Recvd: 429056,
	}
	if change != nil {
		change(&f)
	}
	return f
}

func someFlows() []flow.Flow {
	return []flow.Flow{
		aFlow(0, nil),
		aFlow(10, func(f *flow.Flow) { f.Client = client.MAC{0, 1, 2, 3, 4, 6} }),
		aFlow(20, func(f *flow.Flow) { f.Name, f.Proto, f.App = "x.fbcdn.net", flow.TCP, "tls" }),
		aFlow(30, func(f *flow.Flow) { f.Name = "x.ads.example" }),
		aFlow(40, func(f *flow.Flow) { f.Name, f.Source, f.Port = "", name.None, 5000 }),
		aFlow(50, func(f *flow.Flow) { f.Direction, f.Port, f.Proto, f.Name = flow.In, 22, flow.TCP, "" }),
	}
}

func TestAgainstTheDaemon(t *testing.T) {
	r := newRig(t, nil)
	publish(t, r.socket, r.start(t, someFlows()).Object())
	for _, tt := range []struct {
		args string
		want string // the column hostname, of -j
	}{
		{"", "google.com google.com facebook.com 203.0.113.7"},
		{"--no-filter", "google.com google.com facebook.com x.ads.example 203.0.113.7"},
		{"-m laptop", "google.com facebook.com 203.0.113.7"},
		{"-m 00:01:02:03:04:06", "google.com"},
		{"-m nobody", ""},
		{"-H facebook.com", "facebook.com"},
		{"-H fbcdn.net -H 203.0.113.7", "facebook.com 203.0.113.7"},
		{"-H *.fbcdn.net -H https://203.0.113.7:5000/x", "facebook.com 203.0.113.7"},
		{"-H GOOGLE.com.", "google.com google.com"},
		{"-m 10.8.0.2", ""},
		{"-s 04-09-2019T03:39:23", "facebook.com 203.0.113.7"},
		{"-s 05-09-2019", ""},
		{"-e 04-09-2019", ""},
		{"-e 04-09-2019T03:37:52", "google.com"},
		{"--direction in", "203.0.113.7"},
		{"-A -m laptop", "facebook.com 203.0.113.7 google.com"},
		{"--sort -time --limit 2", "203.0.113.7 facebook.com"},
	} {
		status, out, errOut := r.run(t, append([]string{"show", "-j"}, strings.Fields(tt.args)...)...)
		var rows [][]any
		if err := json.Unmarshal([]byte(out), &rows); err != nil || status != 0 {
			t.Errorf("%s: status %d, %v, stderr %q", tt.args, status, err, errOut)
			continue
		}
		var hosts []string
		for _, row := range rows {
			hosts = append(hosts, fmt.Sprint(row[3]))
		}
		got := strings.Join(hosts, " ")
		if strings.HasPrefix(tt.args, "-A") { // equal sums come in any order
			if len(hosts) != 3 {
				t.Errorf("%s: %s", tt.args, got)
			}
			continue
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.args, got, tt.want)
		}
	}
	_, out, _ := r.run(t, "show", "--limit", "1", "-j")
	const first = `[["2019-09-04 03:37:42", 81, "Laptop", "google.com", "443/udp", "?", 35840, 429056]]` + "\n"
	if out != first {
		t.Errorf("prints %s, want %s", out, first)
	}
	status, out, errOut := r.run(t, "show", "--by", "client,hostname", "--csv")
	const sums = "client,hostname,flows,dur,sent,recvd,unnamed\r\n"
	if status != 0 || !strings.HasPrefix(out, sums) || strings.Count(out, "\r\n") != 5 {
		t.Errorf("--by: status %d, stderr %q, stdout\n%s", status, errOut, out)
	}
}

// lines hands on what is written, line by line.
type lines struct {
	mu   sync.Mutex
	part string
	c    chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part += string(p)
	for {
		line, rest, ok := strings.Cut(l.part, "\n")
		if !ok {
			return len(p), nil
		}
		l.part = rest
		l.c <- line
	}
}

func TestFollow(t *testing.T) {
	r := newRig(t, nil)
	daemon := r.start(t, someFlows())
	publish(t, r.socket, daemon.Object())
	follow := func(args ...string) (out *lines, errOut *bytes.Buffer, status chan int, stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		out, errOut, status = &lines{c: make(chan string, 100)}, &bytes.Buffer{}, make(chan int, 1)
		go func() {
			status <- Run(ctx, append([]string{"show", "--follow", "--ubus-socket", r.socket}, args...), out, errOut)
		}()
		for deadline := time.Now().Add(limits.For(20 * time.Second)); !daemon.Object().HasSubscribers(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%v: no subscriber, stderr %q", args, errOut)
			}
		}
		return out, errOut, status, cancel
	}
	next := func(c <-chan string) string {
		t.Helper()
		select {
		case s := <-c:
			return s
		case <-time.After(limits.For(20 * time.Second)):
			t.Fatal("no output")
			return ""
		}
	}
	ended := func(status <-chan int) {
		t.Helper()
		select {
		case s := <-status:
			if s != 0 {
				t.Errorf("status %d", s)
			}
		case <-time.After(limits.For(20 * time.Second)):
			t.Fatal("does not end")
		}
		for deadline := time.Now().Add(limits.For(20 * time.Second)); daemon.Object().HasSubscribers(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("still subscribed")
			}
		}
	}

	out, errOut, status, stop := follow()
	if err := daemon.Stored(someFlows()[:1]); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"|datetime ", "|   ", "|2019-09-04 03:37:42 | 81s | Laptop  | google.com"} {
		if got := next(out.c); !strings.HasPrefix(got, want) {
			t.Errorf("line %q, want %q", got, want)
		}
	}
	if err := daemon.Stored(someFlows()[2:3]); err != nil {
		t.Fatal(err)
	}
	if got := next(out.c); !strings.Contains(got, "| facebook.com | https") {
		t.Errorf("line %q", got)
	}
	stop()
	ended(status)
	if errOut.Len() > 0 {
		t.Errorf("stderr %q", errOut)
	}

	// Those of which one is hidden.
	hides := map[string]bool{"": true, "--direction both": true, "-m LAPTOP": true, "-m 00:01:02:03:04:06 -m laptop": true}
	// The options choose the same flows as they do among those stored. Told
	// twice, so that one too many at the end is noticed.
	for _, args := range []string{"", "--no-filter", "--direction both", "--direction in", "-m LAPTOP", "-m 00-01-02-03-04-06",
		"-m 00:01:02:03:04:06 -m laptop", "-H fbcdn.net", "-H FACEBOOK.COM.", "-H com", "-H ads.example --no-filter",
		"-H 203.0.113.7 -H google.com"} {
		_, stored, _ := r.run(t, append([]string{"show", "-j"}, strings.Fields(args)...)...)
		var rows []json.RawMessage
		if err := json.Unmarshal([]byte(stored), &rows); err != nil || len(rows) == 0 {
			t.Fatalf("%s: %d rows, %v", args, len(rows), err)
		}
		out, errOut, status, _ := follow(append(strings.Fields(args), "-j", "--limit", fmt.Sprint(2*len(rows)))...)
		if err := errors.Join(daemon.Stored(someFlows()), daemon.Stored(someFlows())); err != nil {
			t.Fatal(err)
		}
		ended(status)
		said := ""
		if hides[args] {
			said = "pakon-show: hidden by the lists: 2 flows, 908KiB (--no-filter shows them)\n"
		}
		if len(out.c) != 2*len(rows) || errOut.String() != said {
			t.Errorf("%s: %d lines, want %d; stderr %q, want %q", args, len(out.c), 2*len(rows), errOut, said)
		}
		for i := 0; len(out.c) > 0; i++ {
			if got := <-out.c; got != string(rows[i%len(rows)]) {
				t.Errorf("%s: line %d is %s, want %s", args, i, got, rows[i%len(rows)])
			}
		}
	}
}

// The time from the store to the last byte printed, daemon and command together.
func BenchmarkShow(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			flows := make([]flow.Flow, n)
			for i := range flows {
				flows[i] = aFlow(int64(i), nil)
			}
			r := newRig(b, nil)
			publish(b, r.socket, r.start(b, flows).Object())
			b.ResetTimer()
			for b.Loop() {
				if status := Run(b.Context(), []string{"show", "-j", "--ubus-socket", r.socket}, io.Discard, io.Discard); status != 0 {
					b.Fatal(status)
				}
			}
		})
	}
}
