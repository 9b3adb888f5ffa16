package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"pakon/tests/figures"
	"pakon/tests/router"
)

// runningConns are connections that go on while the daemon's memory is measured.
const runningConns = 5000

// running measures the daemon's memory with a day of flows and very many
// connections that go on, while the day is walked through. It needs a router,
// and so root: without, there is no such figure.
func running(ctx context.Context, b *bench) error {
	home, err := router.Start(router.Household())
	if errors.Is(err, router.ErrUnable) {
		fmt.Fprintf(os.Stderr, "bench: daemon_rss_mb is not measured: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer home.Close()
	if err := home.Firewall(); err != nil {
		return err
	}
	// The day is over before the connections of the kernel are followed: the
	// ends of connections before that would count as those of another run.
	for _, n := range router.Networks {
		if err := home.SetUp(n.Bridge, false); err != nil {
			return err
		}
	}
	d, err := startDaemon(ctx, b.pakon, home.Do)
	if err != nil {
		return err
	}
	defer d.stop()
	if _, err := d.record(ctx, variants[0].day(0, b.flows, time.Now())); err != nil {
		return err
	}
	// On a router with these networks a few more of the household's connections
	// were opened by a device than without.
	_, _, flows, err := d.walk(ctx, query{}, nil)
	if err != nil {
		return err
	}
	before, err := d.live(ctx)
	if err != nil {
		return err
	}
	if err := home.SetUp(router.LAN, true); err != nil {
		return err
	}
	idle, err := home.Clients()[0].Idle(ctx, runningConns)
	if err != nil {
		return err
	}
	defer idle.Close()
	for now := before; now < before+runningConns; {
		if now, err = d.live(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond): // a question costs what is being measured
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for range 3 {
		_, _, n, err := d.walk(ctx, query{}, nil)
		if err != nil {
			return err
		}
		b.check(n == flows+runningConns, "running: the pages hold %d flows, want %d", n, flows+runningConns)
	}
	rss, err := d.memory("VmHWM")
	if err != nil {
		return err
	}
	b.Add("daemon_rss_mb", rss, "MB", figures.Below(24))
	return d.stop()
}
