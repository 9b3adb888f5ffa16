package store

import "time"

// unit is a unit of local time.
type unit uint8

const (
	hour unit = iota
	day
	week // from Monday
	month
)

var unitNames = map[string]unit{"hour": hour, "day": day, "week": week, "month": month}

// label sets the time fields of a row for a flow that began at ms, and tells
// where (Unix ms) the first of these periods ends.
func label(ms int64, units []unit, loc *time.Location) (r SummaryRow, end int64) {
	end = 1<<63 - 1
	t := time.UnixMilli(ms).In(loc)
	for _, u := range units {
		from, to := u.period(t)
		end = min(end, to.UnixMilli())
		switch u {
		case hour:
			r.Hour = from.UnixMilli()
		case day:
			r.Day = from.UnixMilli()
		case week:
			r.Week = from.UnixMilli()
		case month:
			r.Month = from.UnixMilli()
		}
	}
	return r, end
}

// period is the one that t lies in, in the location of t. Days last 23 to 25
// hours where clocks change; an hour that a change cuts short ends there.
func (u unit) period(t time.Time) (from, to time.Time) {
	y, m, d := t.Date()
	switch u {
	case hour:
		into := time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
		from, to = t.Add(-into), t.Add(time.Hour-into)
		change, next := t.ZoneBounds()
		if !change.IsZero() && from.Before(change) {
			from = change
		}
		if !next.IsZero() && to.After(next) {
			to = next
		}
		return from, to
	case week:
		monday := d - (int(t.Weekday())+6)%7
		from, to = midnight(y, m, monday, t.Location()), midnight(y, m, monday+7, t.Location())
	case month:
		from, to = midnight(y, m, 1, t.Location()), midnight(y, m+1, 1, t.Location())
	default:
		from, to = midnight(y, m, d, t.Location()), midnight(y, m, d+1, t.Location())
	}
	if !to.After(t) { // the next day was skipped altogether
		_, to = t.ZoneBounds()
	}
	return from, to
}

// midnight is the first instant of a day. Clocks may change at midnight: then
// the day begins with the change, or has two midnights.
func midnight(y int, m time.Month, d int, loc *time.Location) time.Time {
	t := time.Date(y, m, d, 0, 0, 0, 0, loc)
	noon := time.Date(y, m, d, 12, 0, 0, 0, loc)
	if t.Day() != noon.Day() { // midnight was skipped, and t is before it
		_, change := t.ZoneBounds()
		return change.In(loc)
	}
	change, _ := t.ZoneBounds()
	if change.IsZero() {
		return t
	}
	if h := t.Hour() + t.Minute(); h != 0 { // skipped, and t is after it
		return change.In(loc)
	}
	_, now := t.Zone()
	_, before := change.Add(-time.Second).In(loc).Zone()
	if first := t.Add(time.Duration(now-before) * time.Second); first.Before(change) && first.Before(t) {
		return first
	}
	return t
}
