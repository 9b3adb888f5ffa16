package clock

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

// TestWatch sets the clock by a microsecond, twice.
func TestWatch(t *testing.T) {
	set := func(by int64) error {
		_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: timeval(by)})
		return err
	}
	if err := set(0); errors.Is(err, unix.EPERM) {
		t.Skip("may not set the clock")
	} else if err != nil {
		t.Fatal(err)
	}
	before := Offset()
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() { ended <- Watch(ctx, func() { told <- struct{}{} }) }()
	await := func(what string) {
		t.Helper()
		select {
		case <-told:
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(limits.For(20 * time.Second)):
			t.Fatalf("%s is not told", what)
		}
	}
	await("the beginning")
	for _, by := range []int64{1000, -1000} {
		if err := set(by); err != nil {
			t.Fatal(err)
		}
		await("that the clock was set")
	}
	if by := Offset() - before; by < -100 || by > 100 {
		t.Errorf("the offset changed by %d ms", by)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(limits.For(20 * time.Second)):
		t.Error("it does not end")
	}
}

func timeval(ns int64) unix.Timeval {
	tv := unix.NsecToTimeval(0)
	if ns < 0 {
		// What is less than a second must not be negative.
		tv.Sec, ns = -1, ns+1e9
	}
	tv.Usec = like(tv.Usec, ns)
	return tv
}

func like[T int32 | int64](_ T, n int64) T { return T(n) }

func TestOffset(t *testing.T) {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		t.Fatal(err)
	}
	if diff := time.Now().UnixMilli() - boot.Nano()/1e6 - Offset(); diff < -1000 || diff > 1000 {
		t.Errorf("it is off by %d ms", diff)
	}
}
