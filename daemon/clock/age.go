package clock

import "time"

const (
	// steadyFor is for how long a clock must not have been set before it is
	// believed to have counted the time in which the router was off.
	steadyFor = 24 * time.Hour
	// drift is by how much a steady clock may be set in that time: time servers
	// correct it by little.
	drift = 10 * time.Minute
)

// Age is up to when recorded data may be taken for old, and how far the uptime
// that it follows has been counted. The zero Age says that nothing is known.
type Age struct {
	Until  int64  // Unix ms
	Boot   string // the boot of the machine in which it was counted, see BootID
	Uptime int64  // of that boot, counted so far, ms
}

// Steady notes since when the wall clock has not been set. It is not safe for
// concurrent use.
type Steady struct {
	Offset int64 // see Offset, when it was last set, ms
	Since  int64 // uptime then, ms
}

// Note takes the present Offset, and the uptime in milliseconds.
func (s *Steady) Note(offset, uptime int64) {
	if by := offset - s.Offset; by > drift.Milliseconds() || by < -drift.Milliseconds() {
		*s = Steady{offset, uptime}
	}
}

// Believed reports whether the clock has been steady for a day of uptime (ms).
func (s *Steady) Believed(uptime int64) bool {
	return uptime-s.Since >= steadyFor.Milliseconds()
}

// Advance returns the age that data may have when the wall clock shows now (Unix
// ms) in a boot with so much uptime (ms). The uptime since a was counted has
// passed; time in which the router was off has done so only by a clock that is
// believed. The age is never ahead of the clock.
func (a Age) Advance(now int64, boot string, uptime int64, believed bool) Age {
	passed := uptime
	switch boot {
	case "": // it may be the same or another
		passed = 0
	case a.Boot:
		passed = max(uptime-a.Uptime, 0)
	}
	until := min(now, a.Until+passed)
	if believed {
		until = now
	}
	return Age{until, boot, uptime}
}
