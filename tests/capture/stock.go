package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// stockYAML is the configuration that Debian ships.
const stockYAML = "/etc/suricata/suricata.yaml"

const (
	startLimit = 30 * time.Second
	stopLimit  = 30 * time.Second
)

// stock is Suricata as it is shipped, without rules, on both bridges. It writes
// its events to a file.
type stock struct {
	dir     string
	process *rig.Process
}

func startStock(ctx context.Context, n *network) (_ *stock, err error) {
	s := &stock{}
	if s.dir, err = os.MkdirTemp("", "pakon-capture-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_, stopErr := s.stop(ctx)
			err = errors.Join(err, stopErr)
		}
	}()
	yaml, err := os.ReadFile(stockYAML)
	if err != nil {
		return nil, fmt.Errorf("read the settings of stock Suricata: %w", err)
	}
	// Two interfaces cannot be of one cluster.
	const shipped = "\naf-packet:\n  - interface: eth0\n"
	if bytes.Count(yaml, []byte(shipped)) != 1 {
		return nil, fmt.Errorf("%s: no af-packet section that begins with eth0", stockYAML)
	}
	yaml = bytes.Replace(yaml, []byte(shipped), fmt.Appendf(nil,
		"\naf-packet:\n  - interface: %s\n    cluster-id: 98\n    cluster-type: cluster_flow\n    defrag: yes\n  - interface: %s\n",
		router.Guest, router.LAN), 1)
	config := filepath.Join(s.dir, "suricata.yaml")
	if err := os.WriteFile(config, yaml, 0o600); err != nil {
		return nil, err
	}
	s.process, err = rig.Start(n.router.Do, nil, "suricata", "-c", config, "--af-packet", "-S", "/dev/null",
		"-l", s.dir, "--pidfile", filepath.Join(s.dir, "pid"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := s.process.Await(ctx, "Engine started"); err != nil {
		return nil, err
	}
	for _, probe := range n.probes() {
		if err := s.awaitAnswer(ctx, probe); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// awaitAnswer lets a client ask for a name until Suricata tells of one more
// answer than before.
func (s *stock) awaitAnswer(ctx context.Context, probe func(context.Context) error) error {
	before, err := s.count("dns")
	if err != nil {
		return err
	}
	for {
		if err := probe(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond): // nobody tells that a file has grown
		case <-ctx.Done():
			return fmt.Errorf("waiting for Suricata to see packets: %w; it said:\n%s", ctx.Err(), s.process.Said())
		}
		if now, err := s.count("dns"); err != nil || now > before {
			return err
		}
	}
}

// event is what is looked at of a line of eve.json.
type event struct {
	Type     string     `json:"event_type"`
	SrcIP    netip.Addr `json:"src_ip"`
	SrcPort  uint16     `json:"src_port"`
	DestIP   netip.Addr `json:"dest_ip"`
	DestPort uint16     `json:"dest_port"`
	TLS      struct {
		SNI string `json:"sni"`
	} `json:"tls"`
	Stats struct {
		Capture struct {
			Drops uint64 `json:"kernel_drops"`
		} `json:"capture"`
	} `json:"stats"`
}

// each calls f with each event of a type that was written so far.
func (s *stock) each(eventType string, f func(event)) error {
	b, err := os.ReadFile(filepath.Join(s.dir, "eve.json"))
	if err != nil {
		return fmt.Errorf("read the events of stock Suricata: %w", err)
	}
	mark := []byte(strconv.Quote(eventType))
	for line := range bytes.Lines(b) {
		if !bytes.Contains(line, mark) || !bytes.HasSuffix(line, []byte{'\n'}) {
			continue
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read the events of stock Suricata: %w", err)
		}
		if e.Type == eventType {
			f(e)
		}
	}
	return nil
}

func (s *stock) count(eventType string) (n int, err error) {
	return n, s.each(eventType, func(event) { n++ })
}

func (s *stock) pids(context.Context) (suricata, daemon int, err error) {
	b, err := os.ReadFile(filepath.Join(s.dir, "pid"))
	if err != nil {
		return 0, 0, err
	}
	suricata, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return suricata, 0, err
}

func (s *stock) names(ctx context.Context, made []router.Connection) (int, error) {
	return settled(ctx, len(made), func(context.Context) (int, error) {
		type key struct{ local, remote netip.AddrPort }
		told := map[key]string{}
		err := s.each("tls", func(e event) {
			told[key{netip.AddrPortFrom(e.SrcIP, e.SrcPort), netip.AddrPortFrom(e.DestIP, e.DestPort)}] = e.TLS.SNI
		})
		right := 0
		for _, c := range made {
			if told[key{c.Local, c.Remote}] == c.Name {
				right++
			}
		}
		return right, err
	})
}

func (s *stock) stop(context.Context) (drops uint64, err error) {
	var errs []error
	if s.process != nil {
		errs = append(errs, s.process.Stop(stopLimit))
		// It writes its statistics once more at its end. They are totals.
		errs = append(errs, s.each("stats", func(e event) { drops = e.Stats.Capture.Drops }))
	}
	return drops, errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
