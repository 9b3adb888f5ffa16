package suricata

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Child is the Service for machines without procd: a child process in a group of its own. It survives the end of this
// program; a later Child with the same record file finds it, by number and start time. It does not start its program
// again by itself.
type Child struct {
	record  string
	log     *slog.Logger
	changes chan struct{}

	mu       sync.Mutex
	looked   bool // for a process of an earlier one
	proc     *process
	identity string
	grace    time.Duration
	stopping bool
	state    ServiceState
	wg       sync.WaitGroup
}

// NewChild returns a Child that notes its process in the file record.
func NewChild(record string, log *slog.Logger) *Child {
	return &Child{record: record, log: log, changes: make(chan struct{}, 1), grace: defaultGrace}
}

// defaultGrace is the TermTimeout for a process whose Spec is not known.
const defaultGrace = 10 * time.Second

// Kind implements Service.
func (c *Child) Kind() string { return "child process" }

// Changes implements Service.
func (c *Child) Changes() <-chan struct{} { return c.changes }

// State implements Service.
func (c *Child) State() ServiceState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Run implements Service.
func (c *Child) Run(ctx context.Context) error {
	<-ctx.Done()
	c.mu.Lock()
	p := c.proc
	c.mu.Unlock()
	if p != nil {
		p.close()
	}
	c.wg.Wait()
	return nil
}

// Start implements Service.
func (c *Child) Start(ctx context.Context, spec Spec) (started bool, err error) {
	identity, err := spec.identity()
	if err != nil {
		return false, fmt.Errorf("starting %s: %w", spec.Command[0], err)
	}
	c.find()
	if p := c.current(); p != nil {
		c.mu.Lock()
		same := c.identity == identity
		c.mu.Unlock()
		if same {
			c.setGrace(spec.TermTimeout)
			return false, nil
		}
		if err := c.Stop(ctx); err != nil {
			return false, err
		}
	}
	c.setGrace(spec.TermTimeout)
	if err := c.launch(spec, identity); err != nil {
		return false, fmt.Errorf("starting %s: %w", spec.Command[0], err)
	}
	return true, nil
}

func (c *Child) setGrace(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grace = d
}

// current returns the running process, or nil.
func (c *Child) current() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil && c.proc.running() {
		return c.proc
	}
	return nil
}

func (c *Child) launch(spec Spec, identity string) error {
	out, err := os.OpenFile(spec.Output, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own
	cmd := exec.Command(spec.Command[0], spec.Command[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own: an interrupt typed at the terminal is for us, and we decide what becomes of it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	p, err := openProcess(pid, true)
	if err != nil { // cannot be watched: without, it cannot be supervised
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	_ = cmd.Process.Release() // from here on p is the process
	if spec.Nice != 0 {
		// The group, for that means each thread.
		if err := unix.Setpriority(unix.PRIO_PGRP, pid, spec.Nice); err != nil && !errors.Is(err, unix.ESRCH) {
			c.log.Warn("suricata runs without its nice value", "nice", spec.Nice, "error", err)
		}
	}
	c.adopt(p, identity)
	if err := writeRecord(c.record, processRecord{PID: pid, Start: p.start, Boot: bootID(), Identity: identity}); err != nil {
		c.log.Warn("suricata will not be found again after a restart", "error", err)
	}
	return nil
}

// adopt makes p the process and follows it to its end.
func (c *Child) adopt(p *process, identity string) {
	c.mu.Lock()
	c.proc, c.identity, c.stopping = p, identity, false
	c.state.Running, c.state.PID, c.state.Since = true, p.pid, startTime(p.start)
	c.mu.Unlock()
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		<-p.done
		c.ended(p)
	}()
	notify(c.changes)
}

func (c *Child) ended(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !p.exited || c.proc != p { // closed by us, and running on
		return
	}
	c.state.Running, c.state.PID, c.state.Since = false, 0, time.Time{}
	if !c.stopping {
		c.state.Exits++
		c.state.Exit = p.exit
		if p.exit == "" {
			c.state.Exit = "ended"
		}
	}
	_ = p.fd.Close() // nothing was written to it
	if err := os.Remove(c.record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("a note of a process that has ended remains", "error", err)
	}
	notify(c.changes)
}

// Stop implements Service: SIGTERM, and SIGKILL once the TermTimeout has passed.
func (c *Child) Stop(ctx context.Context) error {
	c.find()
	p := c.current()
	if p == nil {
		return nil
	}
	c.mu.Lock()
	c.stopping = true
	grace := c.grace
	c.mu.Unlock()
	if err := p.signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping process %d: %w", p.pid, err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("stopping process %d: %w", p.pid, context.Cause(ctx))
	case <-timer.C:
		c.log.Warn("suricata did not end when asked, killing it", "pid", p.pid, "after", grace)
		if err := p.signal(syscall.SIGKILL); err != nil {
			return fmt.Errorf("killing process %d: %w", p.pid, err)
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("killing process %d: %w", p.pid, context.Cause(ctx))
		}
	}
	c.ended(p)
	return nil
}

// find looks once for the process that an earlier Child left.
func (c *Child) find() {
	c.mu.Lock()
	looked := c.looked
	c.looked = true
	c.mu.Unlock()
	if looked {
		return
	}
	rec, err := readRecord(c.record)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		c.log.Warn("the note of a running suricata is of no use", "error", err)
		return
	}
	if rec.Boot != bootID() {
		return
	}
	p, err := openProcess(rec.PID, false)
	if err != nil { // gone
		return
	}
	if p.start != rec.Start { // its number belongs to another now
		p.close()
		return
	}
	c.adopt(p, rec.Identity)
}
