// Package timespec reads times as users write them on the command line and in
// calls of the ubus object, and finds the time zone that they mean. It leaves
// what a time is used for to its callers.
package timespec

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Forms names every form that ParseTime reads, for error messages.
const Forms = "dd-mm-yyyyThh:mm:ss, dd-mm-yyyy, -NUM[s|m|h|d|w] (before now), @UNIXTIME or now"

// maxUnix is the last second of the year 9999, in Unix seconds.
const maxUnix = 253402300799

// maxLength bounds what is looked at; the longest valid form has 19 bytes.
const maxLength = 32

// ParseTime reads one of the forms below and returns Unix milliseconds, from 0
// to the end of the year 9999.
//
//	11-11-2017T11:11:11  day, month, year and time of day in loc
//	11-11-2017           the first moment of that day in loc
//	-604800, -604800s    seconds before now
//	-10080m -168h -7d -1w  minutes, hours, days of 24 hours, weeks before now
//	@1567561062          Unix seconds
//	now
//
// A relative time before 1970 is 0. A time of day that the clock skipped means
// the moment it would have been without the change; one that it showed twice
// means the first of the two.
func ParseTime(s string, now time.Time, loc *time.Location) (int64, error) {
	t := strings.TrimSpace(s)
	if len(t) > maxLength {
		return 0, fmt.Errorf("time of %d bytes: want %s", len(t), Forms)
	}
	var ms int64
	var ok bool
	switch {
	case strings.EqualFold(t, "now"):
		ms, ok = now.UnixMilli(), true
	case strings.HasPrefix(t, "-"):
		ms, ok = parseRelative(t[1:], now)
	case strings.HasPrefix(t, "@"):
		ms, ok = parseDigits(t[1:])
		ok = ok && ms <= maxUnix
		ms *= 1000
	default:
		ms, ok = parseDate(t, loc)
	}
	if !ok {
		return 0, fmt.Errorf("time %q: want %s", s, Forms)
	}
	return min(max(ms, 0), maxUnix*1000), nil
}

// parseRelative reads what follows the minus sign.
func parseRelative(s string, now time.Time) (ms int64, ok bool) {
	unit := int64(1)
	if n := len(s); n > 0 {
		switch s[n-1] {
		case 's', 'S':
			s = s[:n-1]
		case 'm', 'M':
			unit, s = 60, s[:n-1]
		case 'h', 'H':
			unit, s = 3600, s[:n-1]
		case 'd', 'D':
			unit, s = 86400, s[:n-1]
		case 'w', 'W':
			unit, s = 7*86400, s[:n-1]
		}
	}
	n, ok := parseDigits(s)
	if !ok {
		return 0, false
	}
	if n > maxUnix/unit { // longer ago than any clock shows, and no overflow below
		return 0, true
	}
	return now.UnixMilli() - n*unit*1000, true
}

// parseDigits reads a number without a sign of at most 15 digits, so that no
// later arithmetic on it overflows.
func parseDigits(s string) (int64, bool) {
	if s == "" || len(s) > 15 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// parseDate reads dd-mm-yyyy with or without Thh:mm:ss.
func parseDate(s string, loc *time.Location) (ms int64, ok bool) {
	date, clock, hasClock := strings.Cut(s, "T")
	day, rest, ok1 := strings.Cut(date, "-")
	month, year, ok2 := strings.Cut(rest, "-")
	if !ok1 || !ok2 || len(year) != 4 {
		return 0, false
	}
	hour, minute, second := "0", "0", "0"
	if hasClock {
		hour, rest, ok1 = strings.Cut(clock, ":")
		minute, second, ok2 = strings.Cut(rest, ":")
		if !ok1 || !ok2 {
			return 0, false
		}
	}
	var n [6]int
	for i, part := range []string{year, month, day, hour, minute, second} {
		v, ok := parseDigits(part)
		if !ok || len(part) > 2 && i > 0 {
			return 0, false
		}
		n[i] = int(v)
	}
	wall := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC)
	if wall.Year() != n[0] || wall.Month() != time.Month(n[1]) || wall.Day() != n[2] ||
		wall.Hour() != n[3] || wall.Minute() != n[4] || wall.Second() != n[5] || n[0] < 1970 {
		return 0, false // normalised: there is no such day or time of day
	}
	return onClock(wall, loc).UnixMilli(), true
}

// onClock is the moment at which a clock in loc shows what wall shows in UTC.
// time.Date promises nothing about clock changes, so the offsets in force
// before and after are tried one by one, the earlier moment first.
func onClock(wall time.Time, loc *time.Location) time.Time {
	_, before := wall.Add(-24 * time.Hour).In(loc).Zone()
	_, after := wall.Add(24 * time.Hour).In(loc).Zone()
	first := wall.Add(-time.Duration(max(before, after)) * time.Second)
	second := wall.Add(-time.Duration(min(before, after)) * time.Second)
	for _, t := range []time.Time{first, second} {
		if _, offset := t.In(loc).Zone(); t.Add(time.Duration(offset) * time.Second).Equal(wall) {
			return t
		}
	}
	return wall.Add(-time.Duration(before) * time.Second) // skipped
}
