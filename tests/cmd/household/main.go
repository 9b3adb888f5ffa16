// Command household writes the events of a made-up home network, and the flows
// that an ideal collector would keep of them, to look at or to feed by hand:
//
//	household -events 100000 -rows-to rows.tsv >eve.json
//	household -rows 1000000 -only-rows -rows-to rows.tsv
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"pakon/tests/household"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "household:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	cfg := household.Default()
	flag.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "the same seed makes the same household")
	flag.IntVar(&cfg.Events, "events", 0, "stop after so many events")
	flag.IntVar(&cfg.Rows, "rows", 0, "stop after so many rows")
	flag.Float64Var(&cfg.Days, "days", cfg.Days, "time to spread them over")
	flag.IntVar(&cfg.Devices, "devices", cfg.Devices, "machines in the house")
	flag.IntVar(&cfg.Hosts, "hosts", cfg.Hosts, "names in the internet")
	flag.Float64Var(&cfg.P2P, "p2p", cfg.P2P, "fraction of sessions that are peer-to-peer")
	flag.Float64Var(&cfg.Noise, "noise", cfg.Noise, "fraction that is noise")
	flag.Float64Var(&cfg.Inbound, "inbound", cfg.Inbound, "fraction from outside")
	flag.IntVar(&cfg.Format, "format", cfg.Format, "events of Suricata 7 or 8")
	flag.BoolVar(&cfg.Queries, "queries", false, "DNS queries as well as answers")
	end := flag.String("end", "", "end of the time span: Unix seconds or \"now\" (default 2025-06-01)")
	only := flag.Bool("only-rows", false, "no events")
	rowsTo := flag.String("rows-to", "", "write the rows to this file: start, seconds, MAC, address, port, remote address, port, protocol, application protocol, sent, received, name, source, direction")
	flag.Parse()
	switch *end {
	case "":
	case "now":
		cfg.End = time.Now()
	default:
		s, err := strconv.ParseInt(*end, 10, 64)
		if err != nil {
			return fmt.Errorf("-end %q: want Unix seconds or \"now\"", *end)
		}
		cfg.End = time.Unix(s, 0)
	}
	var events io.Writer = os.Stdout
	if *only {
		events = nil
	}
	var row func(*household.Row)
	if *rowsTo != "" {
		f, err := os.Create(*rowsTo)
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		defer func() { err = errors.Join(err, w.Flush(), f.Close()) }()
		row = func(r *household.Row) { writeRow(w, r) }
	}
	return household.Generate(cfg, events, row)
}

func writeRow(w io.Writer, r *household.Row) {
	proto, direction, app := "TCP", "out", r.App
	if r.Proto == household.UDP {
		proto = "UDP"
	}
	if r.Inbound {
		direction = "in"
	}
	if app == "" {
		app = "?"
	}
	fmt.Fprintf(w, "%d.%03d\t%d\t%s\t%s\t%d\t%s\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n",
		r.Start/1000, r.Start%1000, r.End/1000-r.Start/1000, r.MAC, r.Local, r.OpenerPort, r.Remote, r.Port,
		proto, app, r.Sent, r.Recvd, r.Name, r.Source, direction)
}
