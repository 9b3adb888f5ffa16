package main

import (
	"context"
	"time"

	"pakon/tests/figures"
)

// flash measures what is written to the drive on a day: the run of the archive,
// which moves the day before, and a backup every two hours.
func flash(ctx context.Context, b *bench) error {
	const backups = 12
	v := variants[0]
	p, err := b.past(ctx, v)
	if err != nil {
		return err
	}
	d, err := startWith(ctx, b, p, nil)
	if err != nil {
		return err
	}
	defer d.stop()
	if _, err := d.record(ctx, v.day(1, b.perDay, p.now.Add(-dayLength))); err != nil {
		return err
	}
	// That was written on the day before.
	if _, err := d.backup(ctx); err != nil {
		return err
	}
	night, err := d.measure(ctx, func() error {
		_, err := d.archive(ctx)
		return err
	})
	if err != nil {
		return err
	}
	day := cost{}
	for i := range backups {
		cfg := v.day(uint64(2+i), b.perDay/backups, p.now.Add(-time.Duration(backups-1-i)*dayLength/backups))
		cfg.Days = 1.0 / backups
		if _, err := d.record(ctx, cfg); err != nil {
			return err
		}
		c, err := d.measure(ctx, func() error {
			_, err := d.backup(ctx)
			return err
		})
		if err != nil {
			return err
		}
		day.written += c.written
		day.kernel += c.kernel
	}
	b.Add("flash_mb_per_day", mega(night.written+day.written), "MB", figures.Below(13))
	if d.root.onDisk() {
		b.Add("flash_kernel_mb_per_day", mega(night.kernel+day.kernel), "MB", figures.None)
	}
	b.Add("flash_archive_mb", mega(night.written), "MB", figures.None)
	b.Add("flash_backup_mb", mega(day.written), "MB", figures.None)
	return d.stop()
}
