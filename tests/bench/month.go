package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"pakon/tests/figures"
	"pakon/tests/household"
	"pakon/tests/rig"
	"pakon/ubus"
)

// month measures four weeks of flows, without and with peer-to-peer: how they
// come from the original's archive, what a night costs, and their queries.
func month(ctx context.Context, b *bench) error {
	for _, v := range variants {
		if err := v.month(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// archivedDays are the days of an original's archive: four weeks, as they were
// after last night's run, which left the last day in live. The oldest is due to
// be deleted this night, as on every night.
const archivedDays = 27

// past is an original's archive.
type past struct {
	path string
	now  time.Time // of which it is the past: it ends 48 hours before
	rows int
	sums totals
}

// past makes an original's archive, or returns the one that was made.
func (b *bench) past(ctx context.Context, v variant) (past, error) {
	if p, ok := b.pasts[v]; ok {
		return p, nil
	}
	p := past{path: filepath.Join(b.workDir, v.prefix+"original.db"), now: time.Now()}
	cfg := v.day(0, archivedDays*b.perDay, p.now.Add(-2*dayLength))
	cfg.Days = archivedDays
	var err error
	if p.rows, p.sums, err = original(ctx, p.path, cfg); err != nil {
		return p, fmt.Errorf("make an archive of the original: %w", err)
	}
	if b.pasts == nil {
		b.pasts = make(map[variant]past)
	}
	b.pasts[v] = p
	return p, nil
}

// startWith starts a daemon that finds the archive of an original. asked, which
// may be nil, is told how long each status took that was asked for until the
// archive was taken over.
func startWith(ctx context.Context, b *bench, p past, asked func(time.Duration)) (_ *daemon, err error) {
	r, err := newRoot()
	if err != nil {
		return nil, err
	}
	archive := r.path("srv/pakon/pakon-archive.db")
	err = os.Mkdir(filepath.Dir(archive), 0o700)
	if err == nil {
		err = os.Link(p.path, archive)
	}
	if err != nil {
		return nil, errors.Join(err, r.remove())
	}
	d, err := startIn(ctx, b.pakon, rig.Here, r)
	if err != nil {
		return nil, err
	}
	if err := d.waitImported(ctx, archive, asked); err != nil {
		return nil, errors.Join(d.explain(err), d.stop())
	}
	return d, nil
}

// waitImported waits until an archive of the original was taken over.
func (d *daemon) waitImported(ctx context.Context, archive string, asked func(time.Duration)) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		began := time.Now()
		s, err := d.status(ctx)
		if err != nil {
			return err
		}
		if asked != nil {
			asked(time.Since(began))
		}
		_, imports := s.Table("import")
		_, err = os.Stat(archive + ".imported")
		if err == nil && !imports {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond): // a question costs what is being measured
		case <-ctx.Done():
			return fmt.Errorf("%d of %d rows are imported: %w", number(s, "import", "done"), number(s, "import", "total"), ctx.Err())
		}
	}
}

func (v variant) month(ctx context.Context, b *bench) error {
	p, err := b.past(ctx, v)
	if err != nil {
		return err
	}
	d, err := v.imports(ctx, b, p)
	if err != nil {
		return err
	}
	defer d.stop()
	if err := v.night(ctx, b, d, p.now); err != nil {
		return err
	}
	if err := v.backsUp(ctx, b, d, p.now); err != nil {
		return err
	}
	if err := v.queries(ctx, b, d, p.now); err != nil {
		return err
	}
	if v.prefix != "" {
		return d.stop()
	}
	if err := disturbed(ctx, b, d, "month_", query{start: p.now.Add(-keep)}); err != nil {
		return err
	}
	return d.stop()
}

// imports measures how the archive of an original is taken over.
func (v variant) imports(ctx context.Context, b *bench, p past) (_ *daemon, err error) {
	began, slowest := time.Now(), time.Duration(0)
	d, err := startWith(ctx, b, p, func(took time.Duration) { slowest = max(slowest, took) })
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	took := time.Since(began)
	used, err := d.used(ctx)
	if err != nil {
		return nil, err
	}
	name := v.prefix + "import"
	b.Add(name+"_rows", float64(p.rows), "rows", figures.None)
	b.Add(name+"_rows_per_s", float64(p.rows)/took.Seconds(), "rows/s", figures.None)
	b.Add(name+"_cpu_s", used.cpu.Seconds(), "s", figures.None)
	used.addPeak(&b.Report, name, figures.None)
	used.addWritten(&b.Report, name, figures.None)
	b.Add(name+"_status_max_ms", millis(slowest), "ms", figures.Below(100))
	sums, err := d.clientTotals(ctx, query{})
	if err != nil {
		return nil, err
	}
	b.check(maps.Equal(sums, p.sums), "%s: what was imported sums up to\n%v, want\n%v", name, sums, p.sums)
	// It is done once: what it has left in memory is not to be measured with the rest.
	return d.again(ctx, b.pakon, rig.Here)
}

// night measures a run of the archive, with a day of flows to be moved.
func (v variant) night(ctx context.Context, b *bench, d *daemon, now time.Time) error {
	if _, err := d.record(ctx, v.day(1, b.flows, now.Add(-dayLength))); err != nil {
		return err
	}
	if _, err := d.backup(ctx); err != nil {
		return err
	}
	before, err := d.live(ctx)
	if err != nil {
		return err
	}
	var run ubus.Table
	c, err := d.measure(ctx, func() (err error) {
		run, err = d.archive(ctx)
		return err
	})
	if err != nil {
		return err
	}
	name := v.prefix + "archive"
	moved := number(run, "moved")
	b.check(moved == before, "%s: %d flows of live were moved, want %d", name, moved, before)
	b.Add(name+"_cpu_s", c.cpu.Seconds(), "s", figures.Below(1))
	c.addWritten(&b.Report, name, figures.Below(100))
	c.addPeak(&b.Report, name, figures.None)
	s, err := d.status(ctx)
	if err != nil {
		return err
	}
	flows := number(s, "archive", "flows")
	if flows == 0 {
		return errors.New("the archive has no flows")
	}
	b.Add(name+"_flows", float64(flows), "flows", figures.None)
	b.Add(name+"_bytes_per_flow", float64(number(s, "archive", "bytes"))/float64(flows), "bytes", figures.Below(60))
	return nil
}

// backsUp measures a backup of a day.
func (v variant) backsUp(ctx context.Context, b *bench, d *daemon, now time.Time) error {
	if _, err := d.record(ctx, v.day(2, b.flows, now)); err != nil {
		return err
	}
	live, err := d.live(ctx)
	if err != nil {
		return err
	}
	var run ubus.Table
	c, err := d.measure(ctx, func() (err error) {
		run, err = d.backup(ctx)
		return err
	})
	if err != nil {
		return err
	}
	name := v.prefix + "backup"
	flows := number(run, "flows")
	b.check(flows == live, "%s: %d flows were backed up, want %d", name, flows, live)
	b.Add(name+"_cpu_s", c.cpu.Seconds(), "s", figures.None)
	c.addWritten(&b.Report, name, figures.None)
	c.addPeak(&b.Report, name, figures.None)
	b.Add(name+"_bytes_per_flow", float64(number(run, "written"))/float64(live), "bytes", figures.None)
	return nil
}

// queries measures the queries of four weeks.
func (v variant) queries(ctx context.Context, b *bench, d *daemon, now time.Time) error {
	name := v.prefix + "month"
	all := query{start: now.Add(-keep)}
	devices, err := household.Devices(v.day(0, 1, now))
	if err != nil {
		return err
	}
	one := all
	one.mac = devices[0].MAC
	aggregate, oneAggregate := all, one
	aggregate.aggregate, oneAggregate.aggregate = true, true
	for _, p := range []struct {
		name string
		goal figures.Goal
		q    query
	}{
		{"_first_page_ms", figures.Below(50), all},
		{"_client_first_page_ms", figures.None, one},
		{"_aggregate_first_page_ms", figures.None, aggregate},
		{"_client_aggregate_first_page_ms", figures.None, oneAggregate},
	} {
		took, err := d.firstPage(ctx, p.q)
		if err != nil {
			return err
		}
		b.Add(name+p.name, millis(took), "ms", p.goal)
	}
	for _, s := range []struct {
		name string
		goal figures.Goal
		by   []string
	}{
		{"_summary_ms", figures.Below(300), []string{"client", "hostname"}},
		{"_summary_day_ms", figures.None, []string{"day"}},
		{"_summary_hour_ms", figures.None, []string{"hour"}},
	} {
		took, err := medianOf(5, func() error {
			_, err := d.summary(ctx, all, s.by...)
			return err
		})
		if err != nil {
			return err
		}
		b.Add(name+s.name, millis(took), "ms", s.goal)
	}
	seen := make(totals)
	var took time.Duration
	c, err := d.measure(ctx, func() (err error) {
		_, took, _, err = d.walk(ctx, all, func(row ubus.Table) error { seen.addRow(row); return nil })
		return err
	})
	if err != nil {
		return err
	}
	b.Add(name+"_walk_s", took.Seconds(), "s", figures.None)
	b.Add(name+"_walk_cpu_s", c.cpu.Seconds(), "s", figures.None)
	c.addPeak(&b.Report, name+"_walk", figures.Below(32))
	return v.right(ctx, b, d, all, seen)
}

// right checks that the sums are those of the flows, and that no flow is missing.
func (v variant) right(ctx context.Context, b *bench, d *daemon, q query, seen totals) error {
	sums, err := d.clientTotals(ctx, q)
	if err != nil {
		return err
	}
	name := v.prefix + "month"
	b.check(maps.Equal(sums, seen), "%s: the sums by client are\n%v, those of the flows are\n%v", name, sums, seen)
	var want, got traffic
	for _, s := range sums {
		want.sent += s.sent
		want.recvd += s.recvd
	}
	hours, err := d.summary(ctx, q, "hour")
	if err != nil {
		return err
	}
	for _, h := range hours {
		row, _ := h.(ubus.Table)
		got.sent += number(row, "sent")
		got.recvd += number(row, "recvd")
	}
	b.check(got == want, "%s: the sums by hour amount to %v, those by client to %v", name, got, want)
	s, err := d.status(ctx)
	if err != nil {
		return err
	}
	_, _, flows, err := d.walk(ctx, query{both: true}, nil)
	if err != nil {
		return err
	}
	stored := number(s, "archive", "flows") + number(s, "flows", "live")
	b.check(int64(flows) == stored, "%s: all pages hold %d flows, archive and live %d", name, flows, stored)
	return nil
}
