package suricata

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a process watched through a descriptor, so that its number being used again cannot deceive.
type process struct {
	pid   int
	start uint64 // clock ticks after the machine's boot, /proc/PID/stat field 22
	fd    *os.File
	own   bool          // our child: to be reaped
	done  chan struct{} // closed when it ended, or is no longer watched
	wg    sync.WaitGroup

	// Valid when done is closed.
	exited bool
	exit   string // "exit status 1", "signal: killed"; "" for another's child
}

// openProcess watches the process; own tells that it is our child. Call close in the end.
func openProcess(pid int, own bool) (*process, error) {
	// Non-blocking, so that the runtime's poller waits and no thread does. Linux 5.10.
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching process %d: %w", pid, err)
	}
	p := &process{pid: pid, own: own, fd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	// After the descriptor: so this is the start of the process that it stands for, if that still runs.
	if p.start, err = startTicks(pid); err != nil && !own {
		_ = p.fd.Close()
		return nil, fmt.Errorf("watching process %d: %w", pid, err)
	}
	p.wg.Add(1)
	go p.watch()
	return p, nil
}

func (p *process) watch() {
	defer p.wg.Done()
	defer close(p.done)
	raw, err := p.fd.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n > 0
		})
	}
	if err != nil { // closed
		return
	}
	p.exited = true
	if p.own {
		p.exit = reap(p.pid)
	}
}

// reap collects a child that has ended.
func reap(pid int) string {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err.Error()
		}
		break
	}
	if ws.Signaled() {
		return "signal: " + ws.Signal().String()
	}
	return "exit status " + strconv.Itoa(ws.ExitStatus())
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends to the process; one that has ended is not an error.
func (p *process) signal(sig syscall.Signal) error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

// close ends the watching, not the process.
func (p *process) close() {
	_ = p.fd.Close()
	p.wg.Wait()
}

// startTicks is when the process began, in clock ticks after the boot.
func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name, field 2, is in parentheses and may hold anything; field 3 follows the last one.
	i := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[i+1:])
	if i < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: too few fields", pid)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// clockTick is one clock tick of /proc: USER_HZ is 100 on all of Linux' architectures that Go knows.
const clockTick = 10 * time.Millisecond

// startTime is the same on the wall's clock, as it goes now, exact to a tick.
func startTime(ticks uint64) time.Time {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}
	}
	age := time.Duration(up.Nano()) - time.Duration(ticks)*clockTick
	return time.Now().Add(-age)
}
