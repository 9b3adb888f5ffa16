package main

import (
	"context"
	"log/slog"
	"path/filepath"
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
	write(t, root, "var/run/pakon/restart", "")
	if !keep() {
		t.Error("Suricata does not outlive a restart")
	}
}
