// Command bench measures the daemon as a whole, from its socket of events to
// its ubus object, with the events of a made-up household. It prints a table
// and writes the figures to a file, a list of {name, value, unit, goal, ok};
// figures of other names that are in the file already stay.
//
// A figure only says something beside another of the same run: the row
// encoding_json_us is what the standard library takes to decode the same
// events on the same machine.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"pakon/tests/figures"
	"pakon/tests/household"
	"pakon/tests/rig"
)

func main() {
	pakon := flag.String("pakon", "bin/pakon", "the `BINARY` to measure")
	arm := flag.String("arm", "", "the `BINARY` for arm, whose size is reported")
	out := flag.String("out", "bench.json", "the `FILE` for the figures")
	events := flag.Int("events", 1_000_000, "events to ingest")
	rows := flag.Int("flows", 100_000, "live flows for the queries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *pakon, *arm, *out, *events, *rows); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pakon, arm, out string, events, rows int) error {
	var r figures.Report
	if err := ingest(ctx, &r, pakon, events); err != nil {
		return fmt.Errorf("measure ingestion: %w", err)
	}
	if err := queries(ctx, &r, pakon, rows); err != nil {
		return fmt.Errorf("measure queries: %w", err)
	}
	if err := running(ctx, &r, pakon, rows); err != nil {
		return fmt.Errorf("measure running connections: %w", err)
	}
	if arm != "" {
		fi, err := os.Stat(arm)
		if err != nil {
			return err
		}
		r.Add("binary_arm_mb", float64(fi.Size())/1e6, "MB", figures.Below(12))
	}
	r.Print(os.Stdout)
	return r.Save(out)
}

// ingest measures what an event costs, from the socket to a stored flow.
func ingest(ctx context.Context, r *figures.Report, pakon string, events int) error {
	cfg := household.Default()
	cfg.Events = events
	cfg.End = time.Now()
	lines, flows, err := generate(cfg)
	if err != nil {
		return err
	}
	d, err := startDaemon(ctx, pakon, rig.Here)
	if err != nil {
		return err
	}
	defer d.stop()
	before, err := d.cpu()
	if err != nil {
		return err
	}
	if err := d.feed(lines, 0); err != nil {
		return err
	}
	if err := d.waitStored(ctx); err != nil {
		return err
	}
	after, err := d.cpu()
	if err != nil {
		return err
	}
	rss, err := d.memory("VmRSS")
	if err != nil {
		return err
	}
	bytes, err := d.databaseBytes()
	if err != nil {
		return err
	}
	yardstick, err := decodeJSON(lines, events)
	if err != nil {
		return err
	}
	r.Add("ingest_cpu_us", micros(after-before)/float64(events), "us/event", figures.Below(2))
	r.Add("encoding_json_us", micros(yardstick)/float64(events), "us/event", figures.None)
	r.Add("ingest_rss_mb", rss, "MB", figures.None)
	r.Add("live_bytes_per_flow", float64(bytes)/float64(flows), "bytes", figures.Below(80))
	return d.stop()
}

// queries measures a day of flows, without and with peer-to-peer: its pages,
// the memory they take, and what they do to ingestion.
func queries(ctx context.Context, r *figures.Report, pakon string, rows int) error {
	for _, h := range []struct {
		prefix string
		p2p    float64
	}{{"", 0}, {"p2p_", 0.1}} {
		cfg := household.Default()
		cfg.P2P, cfg.Rows, cfg.End = h.p2p, rows, time.Now()
		lines, flows, err := generate(cfg)
		if err != nil {
			return err
		}
		if err := day(ctx, r, pakon, h.prefix, lines, flows); err != nil {
			return err
		}
	}
	return nil
}

func day(ctx context.Context, r *figures.Report, pakon, prefix string, lines []byte, flows int) error {
	d, err := startDaemon(ctx, pakon, rig.Here)
	if err != nil {
		return err
	}
	defer d.stop()
	if err := d.feed(lines, 0); err != nil {
		return err
	}
	if err := d.waitStored(ctx); err != nil {
		return err
	}
	// The collector of this process is not to be measured.
	lines = nil
	runtime.GC()
	var first, walk []time.Duration
	for range 5 {
		f, w, n, err := d.walk(ctx)
		if err != nil {
			return err
		}
		if n != flows {
			return fmt.Errorf("the pages of the day hold %d flows, want %d", n, flows)
		}
		first, walk = append(first, f), append(walk, w)
	}
	r.Add(prefix+"day_first_page_ms", millis(median(first)), "ms", figures.Below(20))
	r.Add(prefix+"day_walk_ms", millis(median(walk)), "ms", figures.Below(500))
	rss, err := d.memory("VmHWM")
	if err != nil {
		return err
	}
	if prefix != "" {
		return d.stop()
	}
	r.Add("day_rss_mb", rss, "MB", figures.None)
	if err := disturbed(ctx, r, d); err != nil {
		return err
	}
	return d.stop()
}

// disturbed measures a stream of events at a steady rate, alone and while
// one-day queries run.
func disturbed(ctx context.Context, r *figures.Report, d *daemon) error {
	const (
		events = 150_000
		rate   = 25_000 // a second; a busy household makes a hundredth of it
	)
	var took [2]time.Duration
	lost := 0
	for i := range took {
		cfg := household.Default()
		cfg.Seed, cfg.Events, cfg.End = uint64(100+i), events, time.Now()
		lines, _, err := generate(cfg)
		if err != nil {
			return err
		}
		querying, end := context.WithCancel(ctx)
		failed := make(chan error, 1)
		go func() {
			var err error
			for i == 1 && err == nil && querying.Err() == nil {
				_, _, _, err = d.walk(querying)
			}
			failed <- err
		}()
		began := time.Now()
		err = d.feed(lines, rate)
		if err == nil {
			err = d.waitStored(ctx)
		}
		took[i] = time.Since(began)
		end()
		if e := <-failed; err == nil && e != nil && !errors.Is(e, context.Canceled) {
			err = e
		}
		if err != nil {
			return err
		}
		dropped, err := d.dropped(ctx)
		if err != nil {
			return err
		}
		lost = dropped
	}
	r.Add("ingest_slowdown_pct", 100*(took[1].Seconds()/took[0].Seconds()-1), "%", figures.Below(10))
	r.Add("ingest_lost", float64(lost), "events", figures.Exactly(0))
	return nil
}

// generate makes the events of a household and counts the flows that a
// collector must end up with, of those that a device opened.
func generate(cfg household.Config) (lines []byte, flows int, err error) {
	var b bytes.Buffer
	err = household.Generate(cfg, &b, func(r *household.Row) {
		if !r.Inbound {
			flows++
		}
	})
	return b.Bytes(), flows, err
}

// decodeJSON is the CPU time of this process to decode the events with the
// standard library into the fields that a collector needs.
func decodeJSON(lines []byte, events int) (time.Duration, error) {
	before := ownCPU()
	n := 0
	for line := range bytes.Lines(lines) {
		var e struct {
			Timestamp string `json:"timestamp"`
			FlowID    uint64 `json:"flow_id"`
			EventType string `json:"event_type"`
			SrcIP     string `json:"src_ip"`
			DestIP    string `json:"dest_ip"`
			SrcPort   uint16 `json:"src_port"`
			DestPort  uint16 `json:"dest_port"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return 0, err
		}
		n++
	}
	if n != events {
		return 0, fmt.Errorf("%d events were made, want %d", n, events)
	}
	return ownCPU() - before, nil
}
