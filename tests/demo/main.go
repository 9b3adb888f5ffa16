// Command demo shows Pakon at work: a router made of network namespaces, with
// devices in its LAN and its guest network that browse, real Suricata, the bus
// and the daemon; and what its owner sees then. Without root it plays a
// capture file of the same router through Suricata instead.
//
// It exits with 0 only if each connection of the devices was shown: from both
// networks, named by DNS alone, HTTP, TLS and QUIC.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"pakon/tests/rig"
)

// options are the command line.
type options struct {
	once    bool
	verbose bool
	pakon   string
	ubus    string
	capture string // base name of the capture file and of what is in it
}

func main() {
	var o options
	var record, replay bool
	flag.BoolVar(&o.once, "once", false, "end when everything was shown")
	flag.BoolVar(&o.verbose, "v", false, "show what the daemon and the bus say")
	flag.StringVar(&o.pakon, "pakon", "bin/pakon", "the program pakon")
	flag.StringVar(&o.ubus, "ubus", "bin/ubus", "the program ubus")
	flag.StringVar(&o.capture, "capture", "tests/testdata/demo", "the capture file is this .pcap, what is in it this .json")
	flag.BoolVar(&replay, "replay", false, "play the capture file even as root")
	flag.BoolVar(&record, "record", false, "make the capture file, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case record:
		err = recordCapture(ctx, o)
	case replay || os.Geteuid() != 0:
		err = run(ctx, o, playCapture)
	default:
		err = run(ctx, o, browse)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// run does one of the two demonstrations in a folder of its own.
func run(ctx context.Context, o options, demo func(context.Context, *shown) error) (err error) {
	if err := rig.Programs(o.pakon, o.ubus); err != nil {
		return err
	}
	if _, err := exec.LookPath("suricata"); err != nil {
		return fmt.Errorf("the demo needs Suricata 7 or 8: %w (on Debian `make tools` installs it)", err)
	}
	dir, err := os.MkdirTemp("", "pakon-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root, err := rig.NewRoot(filepath.Join(dir, "root"), hosts())
	if err != nil {
		return err
	}
	s := &shown{options: o, out: os.Stdout}
	s.System = rig.System{Root: root, Where: rig.Here}
	if s.Pakon, err = filepath.Abs(o.pakon); err != nil {
		return err
	}
	if s.Ubus, err = filepath.Abs(o.ubus); err != nil {
		return err
	}
	if o.verbose {
		s.Echo = os.Stderr
	}
	err = demo(ctx, s)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted before everything was shown")
	}
	return err
}

// shown is a demonstration under way.
type shown struct {
	rig.System
	options
	out io.Writer
}

func (s *shown) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }
