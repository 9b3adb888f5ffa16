package rig

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pakon/tests/limits"
)

func TestProcess(t *testing.T) {
	p, err := Start(Here, nil, "sh", "-c", "trap 'echo ends >&2; exit 0' TERM; echo ready >&2; while :; do sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(t.Context(), "ready"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(limits.For(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := p.Said(); got != "ready\nends" {
		t.Errorf("it said %q", got)
	}
}

func TestProcessFails(t *testing.T) {
	p, err := Start(Here, nil, "sh", "-c", "echo 'no such thing' >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(t.Context(), "ready"); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("waiting for a word that never comes: %v", err)
	}
	<-p.Done()
	var exit *exec.ExitError
	if err := p.Err(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("ended with %v", err)
	}
	if _, err := Start(Here, nil, "/nonexistent/program"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestProcessIsKilledIfItDoesNotEnd(t *testing.T) {
	p, err := Start(Here, nil, "sh", "-c", "trap '' TERM; echo ready >&2; while :; do sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(t.Context(), "ready"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "did not end") {
		t.Errorf("stopping: %v", err)
	}
	<-p.Done()
}

func TestRoot(t *testing.T) {
	r, err := NewRoot(t.TempDir(), []Host{
		{Name: "one", MACs: []string{"aa:bb:cc:dd:ee:01"}},
		{Name: "two", MACs: []string{"aa:bb:cc:dd:ee:02", "aa:bb:cc:dd:ee:03"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	dhcp, err := os.ReadFile(r.Path("/etc/config/dhcp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"option mac 'AA:BB:CC:DD:EE:01'", "list mac 'aa:bb:cc:dd:ee:03'", "option name 'two'"} {
		if !strings.Contains(string(dhcp), want) {
			t.Errorf("no %q in\n%s", want, dhcp)
		}
	}
	for range 2 {
		if err := r.Remove("etc/config/dhcp"); err != nil {
			t.Error(err)
		}
	}
}
