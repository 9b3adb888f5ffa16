package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/clock"
	"pakon/daemon/flow"
	"pakon/daemon/store"
)

// forget deletes flows wherever they are, and what is remembered of those that
// go on. It returns how many were deleted. Where the drive is not there, the rest
// is deleted all the same, and the error says so.
func (d *daemon) forget(ctx context.Context, f store.Forgetting) (int64, error) {
	var deleted int64
	err := d.keeper.ask(ctx, func(ctx context.Context) error {
		matches := forgets(f, d.classify)
		running := d.table.Forget(time.Now().UnixMilli(), matches)
		// Devices are known for their flows, but not by the names of far ends.
		d.clients.Forget(func(c *client.Device) bool {
			return len(f.Hostnames) == 0 && matches(&flow.Flow{Client: c.MAC, Start: c.LastSeen})
		})
		d.writer.flush(matches)
		stored, err := d.store.Forget(ctx, f)
		deleted = running + stored
		if err == nil && d.keeper.unusable != nil {
			err = fmt.Errorf("%d flows were deleted, but what is on the drive was not: %w (do it again once it is there)", deleted, d.keeper.unusable)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return deleted, nil
}

// forgets tells the flows that are to be forgotten, as the store does.
func forgets(f store.Forgetting, classify func(string) (string, bool)) func(*flow.Flow) bool {
	switch {
	case f.All:
		return func(*flow.Flow) bool { return true }
	case f.Before > 0:
		return func(o *flow.Flow) bool { return o.Start < f.Before }
	case len(f.MACs) > 0:
		return func(o *flow.Flow) bool { return slices.Contains(f.MACs, o.Client) }
	}
	addrs := make(map[netip.Addr]bool)
	for _, h := range f.Hostnames {
		if a, err := netip.ParseAddr(h); err == nil {
			addrs[a.Unmap()] = true
		}
	}
	return func(o *flow.Flow) bool {
		if o.Name == "" {
			return addrs[o.Remote.Unmap()]
		}
		group, _ := classify(o.Name)
		return slices.ContainsFunc(f.Hostnames, func(h string) bool {
			return o.Name == h || group == h || strings.HasSuffix(o.Name, "."+h)
		})
	}
}

// jumped tells those who remember times that the wall clock was set by so many ms
// when it showed last (Unix ms).
func (d *daemon) jumped(_ context.Context, last, by int64) {
	d.table.ClockSet(time.Now(), by)
	if last < clock.Earliest.UnixMilli() {
		d.clients.ClockSet(last, by)
	}
	d.writer.flush(nil)
}
