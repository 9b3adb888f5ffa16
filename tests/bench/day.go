package main

import (
	"context"
	"time"

	"pakon/tests/figures"
	"pakon/tests/rig"
)

// oneDay measures a day of flows, without and with peer-to-peer: its pages, the
// memory they take, and what they do to ingestion.
func oneDay(ctx context.Context, b *bench) error {
	for _, v := range variants {
		if err := v.pages(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (v variant) pages(ctx context.Context, b *bench) error {
	d, err := startDaemon(ctx, b.pakon, rig.Here)
	if err != nil {
		return err
	}
	defer d.stop()
	flows, err := d.record(ctx, v.day(0, b.flows, time.Now()))
	if err != nil {
		return err
	}
	var first, walk []time.Duration
	for range 5 {
		f, w, n, err := d.walk(ctx, query{}, nil)
		if err != nil {
			return err
		}
		b.check(n == flows, "%sday: the pages hold %d flows, want %d", v.prefix, n, flows)
		first, walk = append(first, f), append(walk, w)
	}
	b.Add(v.prefix+"day_first_page_ms", millis(median(first)), "ms", figures.Below(20))
	b.Add(v.prefix+"day_walk_ms", millis(median(walk)), "ms", figures.Below(500))
	rss, err := d.memory("VmHWM")
	if err != nil {
		return err
	}
	if v.prefix != "" {
		return d.stop()
	}
	b.Add("day_rss_mb", rss, "MB", figures.None)
	if err := disturbed(ctx, b, d, "", query{}); err != nil {
		return err
	}
	return d.stop()
}
