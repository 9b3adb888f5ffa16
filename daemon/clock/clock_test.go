package clock

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

const (
	keep = 28 * 24 * time.Hour
	day  = 24 * time.Hour
)

func TestPlausible(t *testing.T) {
	for _, tt := range []struct {
		name         string
		now, newest  time.Time
		synchronised bool
		want         bool
		why          string
	}{
		{"never set", time.Unix(60, 0), time.Time{}, false, false, "1970-01-01"},
		{"never set, whatever the kernel says", time.Unix(60, 0), noon, true, false, "1970-01-01"},
		{"just before", Earliest.Add(-time.Second), time.Time{}, true, false, "2024-12-31"},
		{"just after", Earliest, time.Time{}, false, true, ""},
		{"no flows", noon, time.Time{}, false, true, ""},
		{"a flow just now", noon, noon.Add(-time.Second), false, true, ""},
		{"a day before the newest", noon.Add(-day), noon, false, true, ""},
		{"more than a day before", noon.Add(-day - time.Second), noon, false, false, "2026-03-09, but flows were recorded on 2026-03-10"},
		{"more than a day before, for sure", noon.Add(-day - time.Second), noon, true, true, ""},
		{"switched off for long", noon.Add(keep + 30*day), noon, false, true, ""},
		{"another age", noon.Add(keep + 30*day + time.Second), noon, false, false, "last flow was recorded on 2026-03-10"},
		{"another age, for sure", noon.Add(keep + 30*day + time.Second), noon, true, true, ""},
	} {
		j := Judge{Synchronised: func() bool { return tt.synchronised }}
		ok, why := j.Plausible(tt.now, tt.newest, keep)
		if ok != tt.want || !strings.Contains(why, tt.why) || (why == "") != ok {
			t.Errorf("%s: %v, %q", tt.name, ok, why)
		}
	}
}

// A clock that shows another age is believed after an hour, by time itself, and
// not because flows were recorded under it.
func TestDoubtEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := Judge{Synchronised: func() bool { return false }}
		if ok, why := j.Plausible(noon, noon, keep); !ok {
			t.Fatal(why)
		}
		far := noon.AddDate(10, 0, 0)
		for range 4 {
			if ok, _ := j.Plausible(far, far, keep); ok {
				t.Fatal("it is believed at once")
			}
			time.Sleep(10 * time.Minute)
		}
		// For a moment it is right again: the hour begins anew.
		if ok, why := j.Plausible(noon, far, keep); !ok {
			t.Error(why)
		}
		for range 6 {
			if ok, _ := j.Plausible(far, far, keep); ok {
				t.Fatal("it is believed before an hour has passed")
			}
			time.Sleep(10 * time.Minute)
		}
		if ok, why := j.Plausible(far, far, keep); !ok {
			t.Errorf("it is not believed after an hour: %s", why)
		}
	})
}

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
