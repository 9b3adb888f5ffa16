// Package clock tells when the wall clock is set and whether it can be believed:
// a router without a battery starts in the past, and an hour of a wrong year must
// not make old of all that is kept.
package clock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Earliest is a time that has passed: a clock that shows an earlier one was
// never set. 2025-01-01.
var Earliest = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	// ahead is by how much more than what is kept the clock may go ahead of the
	// newest flow: a router may have been switched off for so long.
	ahead = 30 * 24 * time.Hour
	// behind is by how much it may be before the newest flow.
	behind = 24 * time.Hour
	// settled is for how long a clock must have shown what is hard to believe
	// before it is believed.
	settled = time.Hour
)

// Offset is how far the wall clock is from the time since boot, in milliseconds.
// It changes by what the clock is set by.
func Offset() int64 {
	var real, boot unix.Timespec
	// Neither can fail: the clocks are there in every kernel that runs Go.
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &real)
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	return (real.Nano() - boot.Nano()) / 1e6
}

// Synchronised tells whether the kernel has been told that its clock follows
// another one.
func Synchronised() bool {
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	return err == nil && t.Status&unix.STA_UNSYNC == 0
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

// Judge says whether the clock can be believed. Its methods may be called from
// any goroutine.
type Judge struct {
	// Synchronised is what the kernel says; nil stands for the function of this
	// package.
	Synchronised func() bool

	mu       sync.Mutex
	believed time.Time // when it last was, by itself
	doubted  time.Time // monotonic: since when it is not; zero if it is
}

// Plausible tells whether the clock can be believed when it shows now, and why
// not. newest is the start of the newest flow recorded, zero if there is none,
// keep for how long flows are kept. What is recorded under a wrong clock makes it
// no more plausible.
//
// A clock before Earliest is wrong. One that is far from the newest flow is
// believed if the kernel says it is synchronised, or after an hour.
func (j *Judge) Plausible(now, newest time.Time, keep time.Duration) (ok bool, why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	mono := time.Now()
	now = now.Round(0)
	if now.Before(Earliest) {
		j.doubted = time.Time{} // it will be set yet
		return false, fmt.Sprintf("it shows %s, so it was not set since the router was started", now.UTC().Format(time.DateOnly))
	}
	base := j.believed
	if base.IsZero() {
		base = newest
	}
	why = ""
	switch {
	case base.IsZero():
	case now.Before(base.Add(-behind)):
		why = fmt.Sprintf("it shows %s, but flows were recorded on %s", now.UTC().Format(time.DateOnly), base.UTC().Format(time.DateOnly))
	case now.After(base.Add(keep + ahead)):
		why = fmt.Sprintf("it shows %s, but the last flow was recorded on %s", now.UTC().Format(time.DateOnly), base.UTC().Format(time.DateOnly))
	}
	if why != "" {
		if j.doubted.IsZero() {
			j.doubted = mono
		}
		synchronised := j.Synchronised
		if synchronised == nil {
			synchronised = Synchronised
		}
		if mono.Sub(j.doubted) < settled && !synchronised() {
			return false, why
		}
	}
	j.believed, j.doubted = now, time.Time{}
	return true, ""
}
