package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"pakon/daemon/client"
	"pakon/ubus"
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
