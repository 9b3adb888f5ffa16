package tests

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pakon/tests/limits"
	"pakon/tests/rig"
	"pakon/ubus"
)

// TestBusComesBack: the bus dies and comes back, and the object is there again
// within a second, with all it had.
func TestBusComesBack(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	startDaemon(t, s, "--no-suricata")
	rows := feed(t, s, householdOf(3_000, 8))
	awaitFlows(t, s, len(rows))
	for range 3 {
		if err := s.Bus.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.StartBus(t.Context()); err != nil {
			t.Fatal(err)
		}
		back := time.Now()
		if err := s.WaitForObject(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The daemon tries again after at most a second.
		if took := time.Since(back); took > limits.For(10*time.Second) {
			t.Errorf("the object came back after %v", took)
		}
		flows, _, err := s.Query(t.Context(), map[string]any{"start": "-7d", "direction": "both", "filter": false})
		if err != nil {
			t.Fatal(err)
		}
		if len(flows) != len(rows) {
			t.Errorf("%d flows, want %d", len(flows), len(rows))
		}
	}
}

// TestDaemonWaitsForTheBus: a bus that is not there yet is no error, and events
// are recorded meanwhile.
func TestDaemonWaitsForTheBus(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	if err := s.Bus.Stop(limits.For(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var err error
	s.Daemon, err = rig.Start(s.Where, nil, s.Pakon, "daemon", "--root", string(s.Root), "--ubus-socket", s.Root.Socket(), "--no-suricata")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limits.For(30*time.Second))
	defer cancel()
	if err := s.Daemon.Await(ctx, "Pakon starts"); err != nil {
		t.Fatal(err)
	}
	rows := feed(t, s, householdOf(2_000, 7))
	if err := s.StartBus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitForObject(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitFlows(t, s, len(rows))
}

// TestFloodOfCalls: hundreds of callers ask for much and leave. The daemon answers at
// once what can be said at once, then and while they are there; who asks for much as
// well does not wait for their answers; and where many stay, each gets its own.
func TestFloodOfCalls(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	startDaemon(t, s, "--no-suricata")
	awaitFlows(t, s, len(feed(t, s, householdOf(20_000, 8))))
	summary := ubus.Table{{Name: "by", Value: ubus.Array{"client", "hostname"}}, {Name: "filter", Value: false}}
	dial := func() *ubus.Client {
		c, err := ubus.Dial(t.Context(), s.Root.Socket())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	owner := dial()
	defer owner.Close()
	took := func(method string, args ubus.Table) time.Duration {
		t.Helper()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), limits.For(time.Minute))
		defer cancel()
		if _, err := owner.Call(ctx, "pakon", method, args); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		return time.Since(began)
	}
	alone := took("summary", summary)

	// The bus takes 256 clients.
	const callers = 200
	methods := []string{"clients", "summary"}
	calls := callers * len(methods)
	asking, leave := context.WithCancel(t.Context())
	defer leave()
	var flood sync.WaitGroup
	var answered atomic.Int64
	over := make(chan struct{}, calls)
	for range callers {
		c := dial()
		flood.Go(func() {
			defer c.Close()
			var waiting sync.WaitGroup
			for _, method := range methods {
				waiting.Go(func() {
					if _, err := c.Call(asking, "pakon", method, summary); err == nil {
						answered.Add(1)
					}
					over <- struct{}{}
				})
			}
			waiting.Wait()
		})
	}
	// So many calls of queries may wait or be worked on: when most of the others have
	// been refused, all places are taken.
	const places = 64 + 2
	for range calls - 2*places {
		<-over
	}
	before := answered.Load()
	took("status", nil)
	if n := answered.Load() - before; n > places/2 {
		t.Errorf("status was answered after %d of the %d other calls that had a place", n, places)
	}
	leave()
	flood.Wait()
	// With all of their calls ahead, each would take a hundred times as long as a summary.
	soon := 10*alone + limits.For(2*time.Second)
	if d := took("status", nil); d > soon {
		t.Errorf("status took %v after the callers have left; a summary takes %v", d, alone)
	}
	if d := took("summary", summary); d > soon {
		t.Errorf("a summary took %v after the callers have left, %v alone", d, alone)
	}

	const parallel = 40
	answers := make(chan error, parallel)
	for range parallel {
		c := dial()
		go func() {
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), limits.For(time.Minute))
			defer cancel()
			_, err := c.Call(ctx, "pakon", "summary", summary)
			answers <- err
		}()
	}
	for range parallel {
		if err := <-answers; err != nil {
			t.Errorf("of those who stay: %v", err)
		}
	}
}
