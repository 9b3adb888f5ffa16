// Package clock tells when the wall clock is set, and how much time has passed
// for certain: a router without a battery starts in the past, anybody on the line
// may forge the time, and a wrong date must not make old of all that is kept.
// What is done with data that has aged is left to its callers.
package clock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Earliest is a time that has passed: a clock that shows an earlier one was
// never set. 2025-01-01.
var Earliest = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// Offset is how far the wall clock is from the time since boot, in milliseconds.
// It changes by what the clock is set by.
func Offset() int64 {
	var real, boot unix.Timespec
	// Neither can fail: the clocks are there in every kernel that runs Go.
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &real)
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	return (real.Nano() - boot.Nano()) / 1e6
}

// BootID returns what tells this boot of the machine from others; "" if that is
// not known (random(4)).
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// rearm is after how long the timer is set anew: as far as 32 bits reach.
const rearm = 365 * 24 * time.Hour

// Watch calls set once it watches, and then each time the wall clock was set,
// until ctx ends. It returns nil then.
func Watch(ctx context.Context, set func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch the clock: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd") // whose Read waits by the runtime's poller
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	timer, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch the clock: %w", err)
	}
	// A timer for a time of the wall clock is told when that is set.
	arm := func() error {
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(time.Now().Add(rearm).UnixNano())}
		var failed error
		err := timer.Control(func(fd uintptr) {
			failed = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &at, nil)
		})
		if err == nil && !errors.Is(failed, unix.ECANCELED) {
			err = failed
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch the clock: set the timer: %w", err)
		}
		return nil
	}
	if err := arm(); err != nil {
		return err
	}
	set()
	var expired [8]byte
	for {
		_, err := f.Read(expired[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ECANCELED):
			set()
		case err != nil:
			return fmt.Errorf("watch the clock: %w", err)
		default:
			if err := arm(); err != nil {
				return err
			}
		}
	}
}
