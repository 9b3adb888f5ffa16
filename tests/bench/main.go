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
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"pakon/tests/figures"
	"pakon/tests/household"
)

// bench is a run of the benchmark.
type bench struct {
	figures.Report
	pakon   string // the binary to measure
	arm     string // that for arm, or ""
	events  int    // to ingest
	flows   int    // of a day
	perDay  int    // flows a day that an archive was made of
	workDir string
	pasts   map[variant]past
	wrong   []error // what the daemon's replies are wrong in
}

// steps are what is measured, each with daemons of its own.
var steps = []struct {
	name string
	run  func(context.Context, *bench) error
}{
	{"ingest", ingest},
	{"day", oneDay},
	{"running", running},
	{"month", month},
	{"flash", flash},
	{"lists", listsStep},
	{"size", size},
}

func main() {
	var b bench
	flag.StringVar(&b.pakon, "pakon", "bin/pakon", "the `BINARY` to measure")
	flag.StringVar(&b.arm, "arm", "", "the `BINARY` for arm, whose size is reported")
	out := flag.String("out", "bench.json", "the `FILE` for the figures")
	flag.IntVar(&b.events, "events", 1_000_000, "events to ingest")
	flag.IntVar(&b.flows, "flows", 100_000, "live flows for the queries")
	flag.IntVar(&b.perDay, "per-day", 200_000, "flows a day that the archive was made of, and that are written to flash")
	only := flag.String("only", "", "the `STEPS` to take, separated by commas; all by default")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx, *only, *out); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, only, out string) (err error) {
	if b.workDir, err = os.MkdirTemp("", "pakon-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.workDir)
	var names []string
	for _, s := range steps {
		names = append(names, s.name)
	}
	wanted := names
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, w := range wanted {
		i := slices.Index(names, w)
		if i < 0 {
			return fmt.Errorf("step %q: want some of %s", w, strings.Join(names, ", "))
		}
		began := time.Now()
		if err := steps[i].run(ctx, b); err != nil {
			return fmt.Errorf("step %s: %w", w, err)
		}
		fmt.Fprintf(os.Stderr, "bench: step %s took %s\n", w, time.Since(began).Round(time.Second))
	}
	b.Print(os.Stdout)
	return errors.Join(append(b.wrong, b.Save(out))...)
}

// check notes what is wrong; what else there is to measure is measured all the
// same.
func (b *bench) check(right bool, format string, args ...any) {
	if !right {
		b.wrong = append(b.wrong, fmt.Errorf(format, args...))
	}
}

// size tells what the binary weighs.
func size(_ context.Context, b *bench) error {
	if b.arm == "" {
		return nil
	}
	fi, err := os.Stat(b.arm)
	if err != nil {
		return err
	}
	b.Add("binary_arm_mb", mega(fi.Size()), "MB", figures.Below(12))
	return nil
}

// variant is a kind of household, and what the names of its figures begin with.
type variant struct {
	prefix string
	p2p    float64
}

var variants = []variant{{"", 0}, {"p2p_", 0.1}}

// day is a day of so many flows that ends at a time; another life is another day
// of the same household.
func (v variant) day(life uint64, rows int, end time.Time) household.Config {
	cfg := household.Default()
	cfg.Life, cfg.P2P, cfg.Rows, cfg.End = life, v.p2p, rows, end
	return cfg
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
