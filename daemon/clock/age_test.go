package clock

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC).UnixMilli()

const (
	minute = int64(60_000)
	day    = 24 * 60 * minute
)

// TestAdvance counts the time between two runs of the archive, the first of which
// was at noon, after 3 days of uptime.
func TestAdvance(t *testing.T) {
	before := Age{Until: noon, Boot: "one", Uptime: 3 * day}
	for _, tt := range []struct {
		name     string
		now      int64
		boot     string
		uptime   int64
		believed bool
		want     int64 // since noon
	}{
		{"a day later", noon + day, "one", 4 * day, true, day},
		{"a day later, after a small step", noon + day, "one", 4 * day, false, day},
		{"set ahead at once", noon + 27*day, "one", 3 * day, false, 0},
		{"set ahead ten minutes ago", noon + 27*day + 10*minute, "one", 3*day + 10*minute, false, 10 * minute},
		{"set ahead ten years a day ago", noon + 3653*day, "one", 4 * day, true, 3653 * day},
		{"switched off for weeks", noon + 21*day, "two", 10 * minute, false, 10 * minute},
		{"switched off for weeks, a day ago", noon + 21*day, "two", day, true, 21 * day},
		{"set back", noon - day, "one", 3*day + minute, false, -day},
		{"set back, a day ago", noon - 5*day, "one", 4 * day, true, -5 * day},
		{"slow, but never ahead of the clock", noon + minute, "one", 4 * day, false, minute},
		{"a boot that is not known", noon + 10*day, "", 10 * minute, false, 0},
	} {
		got := before.Advance(tt.now, tt.boot, tt.uptime, tt.believed)
		if want := (Age{noon + tt.want, tt.boot, tt.uptime}); got != want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, want)
		}
	}
	if got := (Age{}).Advance(noon, "one", minute, false); got.Until != minute {
		t.Errorf("where nothing has aged: %+v", got)
	}
	if got := (Age{Until: noon, Uptime: day}).Advance(noon+30*day, "", 2*day, false); got.Until != noon {
		t.Errorf("twice a boot that is not known: %+v", got)
	}
}

// A clock is believed a day after it was set by more than drift, in one step or
// in many small ones.
func TestSteady(t *testing.T) {
	s := Steady{Offset: noon}
	offset, uptime := noon, int64(0)
	after := func(d, by int64, want bool) {
		t.Helper()
		uptime, offset = uptime+d, offset+by
		s.Note(offset, uptime)
		if got := s.Believed(uptime); got != want {
			t.Errorf("after %d minutes: %v", uptime/minute, got)
		}
	}
	after(day-1, 0, false)
	after(1, 0, true)
	after(minute, minute, true)
	after(minute, 27*day, false)
	after(day-1, 0, false)
	after(1, 0, true)
	for range 10 {
		after(minute, minute, true)
	}
	after(minute, minute, false)
	after(day, -minute, true)
	after(minute, -27*day, false)
}
