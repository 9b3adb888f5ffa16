package tests

import (
	"context"
	"testing"
	"time"

	"pakon/tests/limits"
	"pakon/tests/rig"
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
		if took := time.Since(back); took > limits.For(4*time.Second) {
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
