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
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"pakon/tests/household"
	"pakon/tests/rig"
	"pakon/ubus"
	"pakon/ubus/broker"
)

// root is the folder that a daemon takes for a router's file system. As on a
// router, what lies in var is in RAM, if this machine has a file system there.
type root struct {
	dir string
	ram string // where var is, "" if it is in dir
}

// shm is a file system in RAM.
const shm = "/dev/shm"

func newRoot() (_ root, err error) {
	var r root
	defer func() {
		if err != nil {
			err = errors.Join(err, r.remove())
		}
	}()
	if r.dir, err = os.MkdirTemp("", "pakon-bench-"); err != nil {
		return r, err
	}
	if inRAM(shm) {
		if r.ram, err = os.MkdirTemp(shm, "pakon-bench-"); err != nil {
			return r, err
		}
		if err := os.Symlink(r.ram, r.path("var")); err != nil {
			return r, err
		}
	}
	for _, d := range []string{"etc/config", "var/lib", "srv"} {
		if err := os.MkdirAll(r.path(d), 0o755); err != nil {
			return r, err
		}
	}
	return r, os.CopyFS(r.path(listsFolder), os.DirFS("files/"+listsFolder))
}

// inRAM tells whether a path lies in a file system that is in RAM.
func inRAM(path string) bool {
	const tmpfs = 0x01021994 // TMPFS_MAGIC of statfs(2)
	var s syscall.Statfs_t
	return syscall.Statfs(path, &s) == nil && s.Type == tmpfs
}

func (r root) path(p string) string { return filepath.Join(r.dir, p) }

// onDisk tells whether what the kernel writes for the daemon goes to archive and
// backup only.
func (r root) onDisk() bool { return r.ram != "" && !inRAM(r.dir) }

func (r root) remove() error {
	var errs []error
	for _, d := range []string{r.dir, r.ram} {
		if d != "" {
			errs = append(errs, os.RemoveAll(d))
		}
	}
	return errors.Join(errs...)
}

// daemon is a Pakon that takes events from its socket, with a bus of its own.
type daemon struct {
	root   root
	cmd    *exec.Cmd
	stderr bytes.Buffer
	client *ubus.Client
	fed    int   // events
	moved  int64 // flows, from live to the archive
	bus    *errgroup.Group
	endBus context.CancelFunc
}

// startDaemon starts one in an empty root.
func startDaemon(ctx context.Context, pakon string, where rig.Where) (*daemon, error) {
	r, err := newRoot()
	if err != nil {
		return nil, err
	}
	return startIn(ctx, pakon, where, r)
}

// startIn starts one in a root, which is its own from then on.
func startIn(ctx context.Context, pakon string, where rig.Where, r root) (_ *daemon, err error) {
	d := &daemon{root: r}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	socket := r.path("ubus.sock")
	b, err := broker.Listen(socket, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	busCtx, endBus := context.WithCancel(context.Background())
	d.endBus, d.bus = endBus, new(errgroup.Group)
	d.bus.Go(func() error { return b.Run(busCtx) })
	d.cmd = exec.Command(pakon, "daemon", "--root", r.dir, "--ubus-socket", socket, "--no-suricata")
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
			return nil, d.explain(fmt.Errorf("the daemon does not appear on the bus: %w", ctx.Err()))
		}
	}
}

// stop ends everything. Only the first call does.
func (d *daemon) stop() error {
	r := d.root
	d.root = root{}
	return errors.Join(d.leave(), r.remove())
}

// again is the daemon started anew in the same root.
func (d *daemon) again(ctx context.Context, pakon string, where rig.Where) (*daemon, error) {
	r := d.root
	d.root = root{}
	if err := d.leave(); err != nil {
		return nil, errors.Join(err, r.remove())
	}
	return startIn(ctx, pakon, where, r)
}

// leave ends the daemon and its bus, but leaves the root as it is.
func (d *daemon) leave() error {
	var errs []error
	if d.client != nil {
		errs = append(errs, d.client.Close())
		d.client = nil
	}
	errs = append(errs, d.end())
	if d.bus != nil {
		d.endBus()
		errs = append(errs, d.bus.Wait())
		d.bus = nil
	}
	return errors.Join(errs...)
}

// end ends the process.
func (d *daemon) end() error {
	if d.cmd == nil {
		return nil
	}
	cmd := d.cmd
	d.cmd = nil
	err := cmd.Process.Signal(syscall.SIGTERM)
	if e := cmd.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("the daemon: %w; it said:\n%s", e, d.stderr.String()))
	}
	return err
}

// explain adds to an error what the daemon has said, and ends it for that.
func (d *daemon) explain(err error) error {
	err = errors.Join(err, d.end())
	return fmt.Errorf("%w; it said:\n%s", err, strings.TrimSpace(d.stderr.String()))
}

// record has the daemon record what happens in a household, and returns how many
// flows a collector must end up with, of those that a device opened.
func (d *daemon) record(ctx context.Context, cfg household.Config) (flows int, err error) {
	lines, flows, err := generate(cfg)
	if err != nil {
		return 0, err
	}
	if err := d.feed(lines, 0); err != nil {
		return 0, err
	}
	if err := d.waitStored(ctx); err != nil {
		return 0, err
	}
	// The collector of this process is not to be measured.
	lines = nil
	runtime.GC()
	return flows, nil
}

// feed writes the lines to the socket of events, at most rate lines a second
// (0: as fast as they are taken).
func (d *daemon) feed(lines []byte, rate int) error {
	c, err := net.Dial("unix", d.root.path("var/run/pakon/eve.sock"))
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
		recorded, taken := number(s, "events", "fates", "recorded"), number(s, "events", "dropped")
		fates, _ := table(s, "events", "fates")
		for _, f := range fates {
			taken += number(fates, f.Name)
		}
		stored := number(s, "flows", "live") + d.moved
		if int(taken) == d.fed && stored == recorded {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond): // a question costs what is being measured
		case <-ctx.Done():
			return d.explain(fmt.Errorf("%d of %d events are taken, %d of %d flows stored: %w", taken, d.fed, stored, recorded, ctx.Err()))
		}
	}
}

// databaseBytes is the size of the live database.
func (d *daemon) databaseBytes() (int64, error) {
	var sum int64
	for _, name := range []string{"pakon.db", "pakon.db-wal"} {
		fi, err := os.Stat(filepath.Join(d.root.path("var/lib"), name))
		if err != nil {
			return 0, err
		}
		sum += fi.Size()
	}
	return sum, nil
}
