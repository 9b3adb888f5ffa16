package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"pakon/daemon/client"
	"pakon/ubus"
	"pakon/ubus/broker"
)

// TestCaptureEndedAtOnce: a stop may come before it is known what is to run
// Suricata.
func TestCaptureEndedAtOnce(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	root := t.TempDir()
	d := &daemon{log: log, paths: pathsBelow(root), clients: client.New(log), bus: ubus.New(filepath.Join(root, "ubus.sock"), log)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.capture(ctx); err != nil {
		t.Error(err)
	}
	if d.monitor.Load() != nil {
		t.Error("there is a monitor of a Suricata that nothing runs")
	}
}

// TestServiceOnARouter: where procd is installed it runs Suricata, also while
// it can not be asked.
func TestServiceOnARouter(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	root := t.TempDir()
	d := &daemon{log: log, paths: pathsBelow(root), clients: client.New(log), bus: ubus.New(filepath.Join(root, "ubus.sock"), log)}
	write(t, root, "sbin/procd", "")
	b, err := broker.Listen(filepath.Join(root, "ubus.sock"), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = b.Run(ctx) })
	running.Go(func() { _ = d.bus.Run(ctx) })
	service, keep := d.service(ctx)
	if service == nil || service.Kind() != "procd" || keep == nil {
		t.Fatalf("%v", service)
	}
	if keep() {
		t.Error("Suricata outlives a stop")
	}
	for pid, want := range map[string]bool{"": false, "1": false, strconv.Itoa(os.Getpid()): true} {
		write(t, root, "var/run/pakon/restart", pid+"\n")
		if keep() != want {
			t.Errorf("at a restart of process %q, Suricata is kept: %v", pid, !want)
		}
	}
}
