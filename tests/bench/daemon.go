package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"pakon/tests/rig"
	"pakon/ubus"
	"pakon/ubus/broker"
)

// daemon is a Pakon that takes events from its socket, with a bus of its own.
type daemon struct {
	root   string
	cmd    *exec.Cmd
	stderr bytes.Buffer
	client *ubus.Client
	fed    int // events
	bus    *errgroup.Group
	endBus context.CancelFunc
}

func startDaemon(ctx context.Context, pakon string, where rig.Where) (_ *daemon, err error) {
	d := &daemon{}
	if d.root, err = os.MkdirTemp("", "pakon-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	if err := os.MkdirAll(filepath.Join(d.root, "etc/config"), 0o755); err != nil {
		return nil, err
	}
	socket := filepath.Join(d.root, "ubus.sock")
	b, err := broker.Listen(socket, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	busCtx, endBus := context.WithCancel(context.Background())
	d.endBus, d.bus = endBus, new(errgroup.Group)
	d.bus.Go(func() error { return b.Run(busCtx) })
	d.cmd = exec.Command(pakon, "daemon", "--root", d.root, "--ubus-socket", socket, "--no-suricata")
	d.cmd.Stderr = &d.stderr
	if err := where(d.cmd.Start); err != nil {
		d.cmd = nil
		return nil, err
	}
	if d.client, err = ubus.Dial(ctx, socket); err != nil {
		return nil, err
	}
	appeared := make(chan struct{}, 1)
	defer d.client.Listen("ubus.object.add", func(string, ubus.Table) {
		select {
		case appeared <- struct{}{}:
		default:
		}
	})()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if objects, err := d.client.Lookup(ctx, "pakon"); err == nil && len(objects) > 0 {
			return d, nil
		}
		select {
		case <-appeared:
		case <-time.After(100 * time.Millisecond): // it may have come before we listened
		case <-ctx.Done():
			return nil, fmt.Errorf("the daemon does not appear on the bus: %w; it said:\n%s", ctx.Err(), d.stderr.String())
		}
	}
}

// stop ends everything. Only the first call does.
func (d *daemon) stop() error {
	var errs []error
	if d.client != nil {
		errs = append(errs, d.client.Close())
		d.client = nil
	}
	if d.cmd != nil {
		errs = append(errs, d.cmd.Process.Signal(syscall.SIGTERM))
		if err := d.cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("the daemon: %w; it said:\n%s", err, d.stderr.String()))
		}
		d.cmd = nil
	}
	if d.bus != nil {
		d.endBus()
		errs = append(errs, d.bus.Wait())
		d.bus = nil
	}
	if d.root != "" {
		errs = append(errs, os.RemoveAll(d.root))
		d.root = ""
	}
	return errors.Join(errs...)
}

// feed writes the lines to the socket of events, at most rate lines a second
// (0: as fast as they are taken).
func (d *daemon) feed(lines []byte, rate int) error {
	c, err := net.Dial("unix", filepath.Join(d.root, "var/run/pakon/eve.sock"))
	if err != nil {
		return err
	}
	defer c.Close()
	d.fed += bytes.Count(lines, []byte{'\n'})
	if rate == 0 {
		_, err = io.Copy(c, bytes.NewReader(lines))
		return err
	}
	const tick = 10 * time.Millisecond
	t := time.NewTicker(tick)
	defer t.Stop()
	perTick := rate * int(tick/time.Millisecond) / 1000
	for len(lines) > 0 {
		end := 0
		for range perTick {
			n := bytes.IndexByte(lines[end:], '\n')
			if n < 0 {
				break
			}
			end += n + 1
		}
		if _, err := c.Write(lines[:end]); err != nil {
			return err
		}
		lines = lines[end:]
		<-t.C
	}
	return nil
}

func (d *daemon) status(ctx context.Context) (ubus.Table, error) {
	return d.client.Call(ctx, "pakon", "status", nil)
}

// live is the number of flows that the daemon has stored.
func (d *daemon) live(ctx context.Context) (int64, error) {
	s, err := d.status(ctx)
	if err != nil {
		return 0, err
	}
	flows, _ := s.Table("flows")
	n, ok := flows.Int("live")
	if !ok {
		return 0, errors.New("status does not tell the flows")
	}
	return n, nil
}

// waitStored waits until the daemon has taken every event that was fed, and
// stored every flow that it made of them.
func (d *daemon) waitStored(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		s, err := d.status(ctx)
		if err != nil {
			return err
		}
		events, _ := s.Table("events")
		fates, _ := events.Table("fates")
		recorded, _ := fates.Int("recorded")
		flows, _ := s.Table("flows")
		live, _ := flows.Int("live")
		taken, _ := events.Int("dropped")
		for _, f := range fates {
			n, _ := fates.Int(f.Name)
			taken += n
		}
		if int(taken) == d.fed && live == recorded {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond): // a question costs what is being measured
		case <-ctx.Done():
			return fmt.Errorf("%d of %d events are taken, %d of %d flows stored: %w", taken, d.fed, live, recorded, ctx.Err())
		}
	}
}

func (d *daemon) dropped(ctx context.Context) (int, error) {
	s, err := d.status(ctx)
	if err != nil {
		return 0, err
	}
	e, _ := s.Table("events")
	n, ok := e.Int("dropped")
	if !ok {
		return 0, errors.New("status does not tell the dropped events")
	}
	return int(n), nil
}

// walk reads all flows page by page, and tells how long the first page and all
// of them took and how many flows there were.
func (d *daemon) walk(ctx context.Context) (first, all time.Duration, flows int, err error) {
	began := time.Now()
	args := ubus.Table{{Name: "filter", Value: false}}
	for {
		page, err := d.client.Call(ctx, "pakon", "query", args)
		if err != nil {
			return 0, 0, 0, err
		}
		if first == 0 {
			first = time.Since(began)
		}
		rows, _ := page.Array("flows")
		flows += len(rows)
		next, ok := page.String("next")
		if !ok || next == "" {
			return first, time.Since(began), flows, nil
		}
		args = ubus.Table{{Name: "filter", Value: false}, {Name: "cursor", Value: next}}
	}
}

// cpu is the CPU time that the daemon has used.
func (d *daemon) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field, in parentheses, may hold anything; utime and stime are
	// the 14th and 15th (proc(5)), in hundredths of a second.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err := strconv.Atoi(f[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(f[12])
	if err != nil {
		return 0, err
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// memory is a line of the daemon's /proc/PID/status, in MB.
func (d *daemon) memory(line string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, line+":"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("/proc has no line %s", line)
}

func (d *daemon) databaseBytes() (int64, error) {
	var sum int64
	for _, name := range []string{"pakon.db", "pakon.db-wal"} {
		fi, err := os.Stat(filepath.Join(d.root, "var/lib", name))
		if err != nil {
			return 0, err
		}
		sum += fi.Size()
	}
	return sum, nil
}
