package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/router"
)

// usage is CPU time, from some moment on or between two.
type usage struct {
	wall, suricata, daemon time.Duration
	kernel                 time.Duration // for clients, internet, router and capture alike
	others                 time.Duration // outside of the kernel, for programs that have no part in this; at least
}

// meter reads the CPU time of a capturer's processes.
type meter struct{ suricata, daemon int }

func (m meter) read() (u usage, err error) {
	u.wall = time.Duration(time.Now().UnixNano())
	if u.suricata, err = processCPU(m.suricata); err != nil {
		return u, fmt.Errorf("read the CPU time of Suricata: %w", err)
	}
	if u.daemon, err = processCPU(m.daemon); err != nil {
		return u, fmt.Errorf("read the CPU time of the daemon: %w", err)
	}
	programs, kernel, err := machineCPU()
	if err != nil {
		return u, fmt.Errorf("read the CPU time of the machine: %w", err)
	}
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		return u, fmt.Errorf("read the CPU time of this process: %w", err)
	}
	u.kernel = kernel
	u.others = programs - time.Duration(own.Utime.Nano()) - u.suricata - u.daemon
	return u, nil
}

func (u usage) since(before usage) usage {
	return usage{
		u.wall - before.wall, u.suricata - before.suricata, u.daemon - before.daemon,
		u.kernel - before.kernel, u.others - before.others,
	}
}

// processCPU is the CPU time of a process and all threads that it has or had.
// It is what utime and stime of /proc/PID/stat add up to, in nanoseconds.
func processCPU(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	// The clock of a process: clock_getcpuclockid(3).
	const schedulerClock = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedulerClock), &t); err != nil {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// machineCPU is how long the machine's processors were busy with programs and
// with the kernel, as the first line of /proc/stat counts it: user and nice;
// system, irq and softirq.
func machineCPU() (programs, kernel time.Duration, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	var user, nice, system, idle, iowait, irq, softirq int64
	if _, err := fmt.Sscanf(string(line), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq); err != nil {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q: %w", line, err)
	}
	const tick = 10 * time.Millisecond
	return time.Duration(user+nice) * tick, time.Duration(system+irq+softirq) * tick, nil
}

// sample is what was measured of a mode in one round, by metric.
type sample map[string]float64

// afterwards is how long the costs of connections are waited for: events come
// when connections have ended.
const afterwards = 2 * time.Second

// peakRuns is how many downloads at full speed there are in a round.
const peakRuns = 4

// disturbance is the share of a processor that other programs may have.
const disturbance = 0.1

// measure starts a capturer, does the work, and stops it.
func measure(ctx context.Context, o options, n *network, mode string, last bool) (s sample, err error) {
	if watched(mode) && last {
		// What is left of the rounds before is not to be measured with idle connections.
		if err := n.router.ForgetConnections(); err != nil {
			return nil, err
		}
	}
	c, err := startCapturer(ctx, o, n, mode)
	if err != nil {
		return nil, err
	}
	s = sample{}
	defer func() {
		drops, stopErr := c.stop(ctx)
		if err = errors.Join(err, stopErr); err == nil && mode != modeNone {
			s[drop] = float64(drops)
		}
	}()
	var m meter
	if m.suricata, m.daemon, err = c.pids(ctx); err != nil {
		return nil, err
	}
	var before, used usage
	began := func() (err error) { before, err = m.read(); return err }
	var all, others time.Duration
	ended := func() error {
		now, err := m.read()
		used = now.since(before)
		all, others = all+used.wall, others+used.others
		return err
	}
	// The machine is shared: the fastest of a few downloads is what it can do.
	var spent usage
	for range peakRuns {
		if err := n.download(ctx, o.load.bulk, 0, began, ended); err != nil {
			return nil, fmt.Errorf("a download at full speed: %w", err)
		}
		s[peakRate] = max(s[peakRate], 8e-6*float64(o.load.bulk)/used.wall.Seconds())
		spent.suricata += used.suricata
		spent.kernel += used.kernel
	}
	gigabytes := peakRuns * float64(o.load.bulk) / 1e9
	s[peakSuricata], s[peakKernel] = spent.suricata.Seconds()/gigabytes, spent.kernel.Seconds()/gigabytes

	if err := n.download(ctx, o.load.paced, o.load.pace, began, ended); err != nil {
		return nil, fmt.Errorf("a download at a pace: %w", err)
	}
	gigabytes = float64(o.load.paced) / 1e9
	s[pacedRate] = 8e3 * gigabytes / used.wall.Seconds()
	s[pacedSuricata], s[pacedKernel] = used.suricata.Seconds()/gigabytes, used.kernel.Seconds()/gigabytes
	s[pacedDaemon] = used.daemon.Seconds() / gigabytes

	if watched(mode) && last {
		if err := n.idle(ctx, o.load, c, began, ended); err != nil {
			return nil, fmt.Errorf("idle connections: %w", err)
		}
		s[idleDaemon] = 100 * used.daemon.Seconds() / used.wall.Seconds()
		s[idleSuricata] = 100 * used.suricata.Seconds() / used.wall.Seconds()
	}
	made, err := n.shortConnections(ctx, o.load.connections, began, ended)
	if err != nil {
		return nil, fmt.Errorf("short connections: %w", err)
	}
	per := 2000 / float64(len(made))
	s[burstSuricata], s[burstDaemon], s[burstKernel] = used.suricata.Seconds()*per, used.daemon.Seconds()*per, used.kernel.Seconds()*per
	s[burstRate] = float64(len(made)) / (used.wall - afterwards).Seconds()
	if mode != modeNone {
		found, err := c.names(ctx, made)
		if err != nil {
			return nil, err
		}
		s[named] = 100 * float64(found) / float64(len(made))
	}
	if share := others.Seconds() / all.Seconds(); share > disturbance {
		fmt.Fprintf(os.Stderr, "capture: other programs used %.0f %% of a processor meanwhile: these figures say little\n", 100*share)
	}
	return s, nil
}

func (n *network) shortConnections(ctx context.Context, count int, began, ended func() error) ([]router.Connection, error) {
	if err := began(); err != nil {
		return nil, err
	}
	made, err := n.burst(ctx, count)
	if err == nil {
		err = wait(ctx, afterwards)
	}
	if err == nil {
		err = ended()
	}
	return made, err
}

// watched tells whether a daemon of ours captures in the mode.
func watched(mode string) bool { return mode == modeTap || mode == modeFilter }

// idle opens connections over which nothing goes, and looks at what they cost
// once all of them are recorded.
func (n *network) idle(ctx context.Context, l load, c capturer, began, ended func() error) (err error) {
	idle, err := n.clients[0].Idle(ctx, l.idle)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, idle.Close()) }()
	p, ok := c.(*pakon)
	if !ok {
		return errors.New("no daemon records them")
	}
	err = p.system.Until(ctx, time.Minute, func(ctx context.Context) (bool, error) {
		st, err := p.system.Status(ctx)
		return st.Flows.Live >= int64(l.idle), err
	})
	if err != nil {
		return err
	}
	if err := wait(ctx, afterwards); err != nil {
		return err
	}
	if err := began(); err != nil {
		return err
	}
	if err := wait(ctx, l.idleTime); err != nil {
		return err
	}
	return ended()
}
