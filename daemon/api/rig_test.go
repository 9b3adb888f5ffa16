package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pakon/daemon/api/timespec"
	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store"
	"pakon/lists"
	"pakon/tests/limits"
	"pakon/ubus"
	"pakon/ubus/broker"
)

// testNow is when all calls of the tests come: 2026-03-10 12:00:00.250 UTC.
var testNow = time.Date(2026, 3, 10, 12, 0, 0, 250e6, time.UTC)

const nowMS = 1773144000250

var (
	laptop = client.MAC{0x00, 0x01, 0x02, 0x03, 0x04, 0x05}
	phone  = client.MAC{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}
)

// rig is a bus with the object on it and somebody who calls it.
type rig struct {
	*API
	caller *ubus.Client
	socket string
	log    *lockedBuffer
	later  atomic.Int64 // than testNow, as time.Duration
}

// lockedBuffer is where the object's log goes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	l.b.Reset()
	return s
}

// prague is the router's zone, whether or not the machine has a zone database.
func prague(t testing.TB) *time.Location {
	t.Helper()
	t.Setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
	loc := timespec.Location(t.TempDir())
	if name, _ := testNow.In(loc).Zone(); name != "CET" {
		t.Fatalf("the test's zone is %s", name)
	}
	return loc
}

// newRig puts the object on a bus of its own and fills in what the test does
// not set.
func newRig(t testing.TB, c Config) *rig {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "ubus.sock")
	b, err := broker.Listen(socket, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { b.Run(ctx) })
	t.Cleanup(func() { cancel(); tasks.Wait() })
	return newRigOn(t, socket, c)
}

// newRigOn is newRig on a bus that is there.
func newRigOn(t testing.TB, socket string, c Config) *rig {
	t.Helper()
	r := &rig{log: &lockedBuffer{}, socket: socket}
	loc := prague(t)
	c.Location = func() *time.Location { return loc }
	c.Log = slog.New(slog.NewTextHandler(r.log, nil))
	if c.Clients == nil {
		hosts := client.New(slog.New(slog.DiscardHandler))
		hosts.SetHosts([]client.Host{{Name: "Laptop", MACs: []client.MAC{laptop}}})
		c.Clients = hosts
	}
	if c.Lists == nil {
		c.Lists = func() Lists { return testLists{} }
	}
	r.API = New(c)
	r.now = func() time.Time { return testNow.Add(time.Duration(r.later.Load())) }

	bus := ubus.New(r.socket, slog.New(slog.DiscardHandler))
	if err := bus.Publish(r.Object()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { bus.Run(ctx) })
	t.Cleanup(func() { cancel(); tasks.Wait() })
	select {
	case <-bus.Ready():
	case <-time.After(limits.For(10 * time.Second)):
		t.Fatal("the object was not published")
	}
	var err error
	if r.caller, err = ubus.Dial(ctx, r.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.caller.Close() })
	return r
}

// json calls a method with arguments given as JSON, as `ubus call` does.
func (r *rig) json(t testing.TB, method, args string) (ubus.Table, error) {
	t.Helper()
	table, err := ubus.FromJSON([]byte(args))
	if err != nil {
		t.Fatalf("arguments %s: %v", args, err)
	}
	return r.call(t, method, table)
}

func (r *rig) call(t testing.TB, method string, args ubus.Table) (ubus.Table, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limits.For(20*time.Second))
	defer cancel()
	return r.caller.Call(ctx, Path, method, args)
}

// testLists group and hide what the tests' names need.
type testLists struct{}

func (testLists) Classify(name string) lists.Class {
	switch {
	case strings.HasSuffix(name, ".fbcdn.net"):
		return lists.Class{Group: "facebook.com", Category: "social"}
	case strings.HasSuffix(name, "ads.example"):
		return lists.Class{Hidden: "advertising"}
	}
	return lists.Class{}
}

func (testLists) Service(key string) (lists.Service, bool) {
	return lists.Service{Key: "facebook.com", Label: "Facebook", Category: "social"}, key == "facebook.com"
}

func (testLists) ByLabel(label string) []string {
	if strings.EqualFold(label, "Facebook") {
		return []string{"facebook.com"}
	}
	if label == "Amazon Web Services" {
		return []string{"amazonaws.com"}
	}
	return nil
}

func classify(name string) (string, bool) {
	c := testLists{}.Classify(name)
	return c.Group, c.Hidden != ""
}

// openStore opens a store with flows.
func openStore(t testing.TB, flows ...flow.Flow) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), store.Options{
		Path: filepath.Join(t.TempDir(), "pakon.db"), Classify: classify, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Add(context.Background(), flows); err != nil {
		t.Fatal(err)
	}
	return s
}

// aFlow is an HTTPS connection of the laptop that began so long before now.
func aFlow(ago time.Duration, change func(*flow.Flow)) flow.Flow {
	start := testNow.Add(-ago).UnixMilli()
	f := flow.Flow{
		Start: start, End: start + 81_000, Client: laptop, ClientAddr: netip.MustParseAddr("192.168.1.10"),
		Remote: netip.MustParseAddr("203.0.113.7"), Port: 443, Proto: flow.TCP, Name: "example.org", Source: 5,
		App: "tls", Interface: "br-lan", Sent: 35840, Recvd: 429056,
	}
	if change != nil {
		change(&f)
	}
	return f
}

// leftOut says that 10+20 bytes of a client were left out so long before now.
func leftOut(ago time.Duration, m client.MAC, why flow.Fate) flow.Flow {
	return flow.Flow{State: flow.LeftOut, Fate: why, Client: m, Start: testNow.Add(-ago).UnixMilli(), Sent: 10, Recvd: 20}
}

// recorder is a store that notes what it is asked.
type recorder struct {
	mu      sync.Mutex
	query   *store.Query
	summary *store.SummaryQuery
	since   int64
	err     error
}

func (r *recorder) Flows(_ context.Context, q store.Query) (store.Page, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.query = &q
	return store.Page{}, r.err
}

func (r *recorder) Count(context.Context, store.Filter) (wanted, hidden store.Count, err error) {
	return wanted, hidden, r.err
}

func (r *recorder) Summary(_ context.Context, q store.SummaryQuery) ([]store.SummaryRow, store.Count, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary = &q
	return nil, store.Count{}, r.err
}

func (r *recorder) LeftOut(context.Context, int64) ([]store.LeftOut, error) { return nil, r.err }

func (r *recorder) Totals(_ context.Context, since int64, _ func(client.ID) bool) (store.Totals, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = since
	return store.Totals{}, r.err
}

func wantStatus(t testing.TB, err error, want ubus.Status) {
	t.Helper()
	var got ubus.Status
	if err != nil && !errors.As(err, &got) {
		t.Fatalf("error %v is no status", err)
	}
	if got != want {
		t.Errorf("status %d (%v), want %d", got, err, want)
	}
}
