package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that was started and is waited for.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced at each line
}

// maxLines of a process' messages are kept.
const maxLines = 2000

// Where runs a function somewhere: router.Do, or Here.
type Where func(func() error) error

// Here runs a function on a thread of its own.
func Here(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

// Start runs a program, which gets SIGTERM if this process ends first. What it
// says, on whichever of its outputs, is kept, and written to echo unless that is
// nil.
func Start(where Where, echo io.Writer, program string, args ...string) (*Process, error) {
	p := &Process{name: program, cmd: exec.Command(program, args...), done: make(chan struct{}), more: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	p.cmd.Stdout = p.cmd.Stderr
	started := make(chan error, 1)
	// The kernel sends the death signal when the thread that forked ends: it
	// stays until the program has ended.
	go func() {
		err := where(func() error {
			if err := p.cmd.Start(); err != nil {
				return err
			}
			started <- nil
			p.collect(stderr, echo)
			p.err = p.cmd.Wait()
			close(p.done)
			return nil
		})
		if err != nil {
			started <- fmt.Errorf("starting %s: %w", program, err)
		}
	}()
	return p, <-started
}

func (p *Process) collect(stderr io.Reader, echo io.Writer) {
	s := bufio.NewScanner(stderr)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		p.mu.Lock()
		if len(p.lines) < maxLines {
			p.lines = append(p.lines, s.Text())
		}
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
		if echo != nil {
			fmt.Fprintln(echo, s.Text())
		}
	}
	if err := s.Err(); err != nil {
		p.mu.Lock()
		p.lines = append(p.lines, fmt.Sprintf("(what it said next is not here: %v)", err))
		p.mu.Unlock()
		// A line beyond the buffer ends the scanner; the program must not block.
		_, _ = io.Copy(io.Discard, stderr)
	}
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Said is what the program said so far.
func (p *Process) Said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// Await waits until the program has said a line that contains text.
func (p *Process) Await(ctx context.Context, text string) error {
	for {
		p.mu.Lock()
		said := slices.ContainsFunc(p.lines, func(l string) bool { return strings.Contains(l, text) })
		more := p.more
		p.mu.Unlock()
		if said {
			return nil
		}
		select {
		case <-more:
		case <-p.done:
			return fmt.Errorf("%s ended (%v) without saying %q; it said:\n%s", p.name, p.err, text, p.Said())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to say %q: %w; it said:\n%s", p.name, text, ctx.Err(), p.Said())
		}
	}
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the program ended; nil while it runs or if it ended well.
func (p *Process) Err() error {
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w; it said:\n%s", p.name, p.err, p.Said())
		}
	default:
	}
	return nil
}

// Stop asks the program to end and waits. One that takes longer than limit is
// killed, which is an error, and so is a bad exit status.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return p.Err()
	case <-time.After(limit):
		return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM; it said:\n%s", p.name, limit, p.Said()), p.Kill())
	}
}

// Kill ends the program as a crash would, and waits.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// Output runs a program to its end and returns what it printed. Its error
// holds what it complained about.
func Output(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return out, fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return out, nil
}
