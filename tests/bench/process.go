package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"pakon/tests/figures"
)

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

// resetPeak makes the process' VmHWM begin anew; it tells whether it may.
func (d *daemon) resetPeak() (bool, error) {
	// proc_pid_clear_refs(5)
	err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", d.cmd.Process.Pid), []byte("5"), 0)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// wrote is how many bytes the process has had the kernel write.
func (d *daemon) wrote() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, "write_bytes:"); ok {
			return strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return 0, errors.New("/proc has no line write_bytes")
}

// cost is what the daemon has used for something.
type cost struct {
	took, cpu time.Duration
	peak      float64 // MB; 0 if it is not known
	written   int64   // bytes, as it says
	kernel    int64   // bytes, as the kernel says; -1 if they are not those of archive and backup
}

// measure measures what f costs the daemon.
func (d *daemon) measure(ctx context.Context, f func() error) (c cost, err error) {
	before, err := d.used(ctx)
	if err != nil {
		return c, err
	}
	known, err := d.resetPeak()
	if err != nil {
		return c, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return c, err
	}
	c.took = time.Since(began)
	after, err := d.used(ctx)
	if err != nil {
		return c, err
	}
	c.cpu, c.written, c.kernel = after.cpu-before.cpu, after.written-before.written, -1
	if d.root.onDisk() {
		c.kernel = after.kernel - before.kernel
	}
	if known {
		c.peak = after.peak
	}
	return c, nil
}

// used is what the daemon has used since its start.
func (d *daemon) used(ctx context.Context) (c cost, err error) {
	if c.cpu, err = d.cpu(); err != nil {
		return c, err
	}
	if c.peak, err = d.memory("VmHWM"); err != nil {
		return c, err
	}
	if c.kernel, err = d.wrote(); err != nil {
		return c, err
	}
	if !d.root.onDisk() {
		c.kernel = -1
	}
	c.written, err = d.written(ctx)
	return c, err
}

// addWritten adds what was written, by the daemon's count and the kernel's.
func (c cost) addWritten(r *figures.Report, name string, goal figures.Goal) {
	r.Add(name+"_written_mb", mega(c.written), "MB", goal)
	if c.kernel >= 0 {
		r.Add(name+"_kernel_mb", mega(c.kernel), "MB", figures.None)
	}
}

// addPeak adds the most memory that was used, if it is known.
func (c cost) addPeak(r *figures.Report, name string, goal figures.Goal) {
	if c.peak > 0 {
		r.Add(name+"_peak_mb", c.peak, "MB", goal)
	}
}
