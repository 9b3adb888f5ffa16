// Command capture measures what it costs a router to be watched: without a
// capture, with Suricata as it is shipped, and with Pakon in each of its modes,
// in turns on the same router of network namespaces. It prints the figures side
// by side, with ratios, and saves them as tests/bench does.
//
// Needs root and the programs that `make tools` installs. Nothing else should
// run on the machine meanwhile: clients, internet and router share it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"pakon/tests/figures"
	"pakon/tests/rig"
)

// The modes. Those that Pakon has are called as in its configuration.
const (
	modeNone   = "none"
	modeStock  = "stock"
	modeTap    = "tap"
	modeFilter = "filter"
)

var allModes = []string{modeNone, modeStock, modeTap, modeFilter}

// options are what the command line says.
type options struct {
	pakon, ubus, out string
	modes            []string
	rounds           int
	load             load
	offloads         bool
}

func main() {
	var o options
	flag.StringVar(&o.pakon, "pakon", "bin/pakon", "the `BINARY` to measure")
	flag.StringVar(&o.ubus, "ubus", "bin/ubus", "the `BINARY` of the command ubus")
	flag.StringVar(&o.out, "out", "bench.json", "the `FILE` for the figures")
	modes := flag.String("modes", strings.Join(allModes, ","), "the `MODES` to measure")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each mode is measured")
	flag.Int64Var(&o.load.bulk, "bulk", 1e9, "`BYTES` to download at full speed, a few times")
	flag.Int64Var(&o.load.paced, "paced", 1e9, "`BYTES` to download at the pace")
	flag.Int64Var(&o.load.pace, "pace", 1e9, "the pace in `BITS` a second")
	flag.IntVar(&o.load.connections, "connections", 2000, "short TLS connections")
	flag.IntVar(&o.load.idle, "idle", 5000, "idle connections")
	flag.DurationVar(&o.load.idleTime, "idle-time", 30*time.Second, "how long they are watched")
	flag.BoolVar(&o.offloads, "offloads", false, "let packets of up to 64 kB cross the router, as with GRO")
	flag.Parse()
	o.modes = strings.Split(*modes, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "capture: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	for _, m := range o.modes {
		if !slices.Contains(allModes, m) {
			return fmt.Errorf("mode %q: want some of %s", m, strings.Join(allModes, ","))
		}
	}
	if o.rounds < 1 {
		return fmt.Errorf("%d rounds: want 1 or more", o.rounds)
	}
	if err := rig.Programs(o.pakon, o.ubus); err != nil {
		return err
	}
	n, err := newNetwork(o.offloads)
	if err != nil {
		return err
	}
	defer func() {
		if e := n.router.Close(); err == nil {
			err = e
		}
	}()
	res := newResults(o.modes)
	for round := range o.rounds {
		// Another one begins each time: what one leaves behind is not always met by the same.
		for i := range o.modes {
			mode := o.modes[(round+i)%len(o.modes)]
			began := time.Now()
			got, err := measure(ctx, o, n, mode, round == o.rounds-1)
			if err != nil {
				return fmt.Errorf("measure %s: %w", mode, err)
			}
			res.add(mode, got)
			fmt.Fprintf(os.Stderr, "capture: round %d of %d, %s: %.0f s\n", round+1, o.rounds, mode, time.Since(began).Seconds())
		}
	}
	res.print(os.Stdout)
	var r figures.Report
	res.report(&r)
	fmt.Println()
	r.Print(os.Stdout)
	return r.Save(o.out)
}
