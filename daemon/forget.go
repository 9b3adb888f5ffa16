package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store"
)

// forget deletes flows wherever they are, and what is remembered of those that
// go on. It returns how many were deleted. Where the drive is not there, the rest
// is deleted all the same, and the error says so.
func (d *daemon) forget(ctx context.Context, f store.Forgetting) (int64, error) {
	var deleted int64
	err := d.keeper.ask(ctx, func(ctx context.Context) error {
		matches := f.Matcher(d.classify)
		running := d.table.Forget(time.Now().UnixMilli(), matches)
		// Devices are known for their flows, but not by the names of far ends.
		// One that was never seen is known by the owner's word alone.
		d.clients.Forget(func(c *client.Device) bool {
			return len(f.Hostnames) == 0 && (f.Before == 0 || c.LastSeen > 0) && matches(&flow.Flow{Client: c.MAC, Start: c.LastSeen})
		})
		d.writer.flush(matches)
		stored, err := d.store.Forget(ctx, f)
		deleted = running + stored
		err = errors.Join(err, d.keeper.forgetDevices(ctx, f.All))
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

// jumped tells those who remember times that the wall clock was set by so many ms,
// by ours of them in this run.
func (d *daemon) jumped(_ context.Context, by, ours int64) {
	now := time.Now()
	d.clients.ClockSet(now.UnixMilli()-ours, ours) // before flows are told by the clock as it is now
	d.table.ClockSet(now, by)
	d.writer.flush(nil)
}
