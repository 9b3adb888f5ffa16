package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"pakon/tests/figures"
	"pakon/tests/household"
	"pakon/tests/rig"
)

// ingest measures what an event costs, from the socket to a stored flow.
func ingest(ctx context.Context, b *bench) error {
	cfg := household.Default()
	cfg.Events = b.events
	cfg.End = time.Now()
	lines, flows, err := generate(cfg)
	if err != nil {
		return err
	}
	d, err := startDaemon(ctx, b.pakon, rig.Here)
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
	yardstick, err := decodeJSON(lines, b.events)
	if err != nil {
		return err
	}
	b.Add("ingest_cpu_us", micros(after-before)/float64(b.events), "us/event", figures.Below(2))
	b.Add("encoding_json_us", micros(yardstick)/float64(b.events), "us/event", figures.None)
	b.Add("ingest_rss_mb", rss, "MB", figures.None)
	b.Add("live_bytes_per_flow", float64(bytes)/float64(flows), "bytes", figures.Below(80))
	return d.stop()
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

// disturbed measures a stream of events at a steady rate, alone and while
// queries run, one after another.
func disturbed(ctx context.Context, b *bench, d *daemon, prefix string, q query) error {
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
				_, _, _, err = d.walk(querying, q, nil)
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
		if lost, err = d.dropped(ctx); err != nil {
			return err
		}
	}
	b.Add(prefix+"ingest_slowdown_pct", 100*(took[1].Seconds()/took[0].Seconds()-1), "%", figures.Below(10))
	b.Add(prefix+"ingest_lost", float64(lost), "events", figures.Exactly(0))
	return nil
}
