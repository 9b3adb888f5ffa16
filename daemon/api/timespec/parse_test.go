package timespec

import (
	"strings"
	"testing"
	"time"
)

// now of the tests: 2026-03-10 12:00:00.250 UTC.
var testNow = time.Date(2026, 3, 10, 12, 0, 0, 250e6, time.UTC)

// zone makes a zone of a POSIX rule, so that the tests need no zone database.
func zone(t testing.TB, rule string) *time.Location {
	t.Helper()
	loc, err := posixZone(rule)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

const (
	prague = "CET-1CEST,M3.5.0,M10.5.0/3"
	// The clock goes from 24:00 of the first Saturday of September to 01:00.
	santiago = "<-04>4<-03>,M9.1.6/24,M4.1.6/24"
)

func TestParseTime(t *testing.T) {
	for _, tt := range []struct {
		in, rule string
		want     string // RFC 3339 with milliseconds
	}{
		{"now", prague, "2026-03-10T12:00:00.250Z"},
		{"Now", prague, "2026-03-10T12:00:00.250Z"},
		{" -604800", prague, "2026-03-03T12:00:00.250Z"},
		{"-604800s", prague, "2026-03-03T12:00:00.250Z"},
		{"-10080m", prague, "2026-03-03T12:00:00.250Z"},
		{"-168h", prague, "2026-03-03T12:00:00.250Z"},
		{"-7d", prague, "2026-03-03T12:00:00.250Z"},
		{"-7D", prague, "2026-03-03T12:00:00.250Z"},
		{"-1w", prague, "2026-03-03T12:00:00.250Z"},
		{"-0", prague, "2026-03-10T12:00:00.250Z"},
		{"-999999999999999w", prague, "1970-01-01T00:00:00.000Z"},
		{"-3000w", prague, "1970-01-01T00:00:00.000Z"},
		{"@1567561062", prague, "2019-09-04T01:37:42.000Z"},
		{"@0", prague, "1970-01-01T00:00:00.000Z"},
		{"@253402300799", prague, "9999-12-31T23:59:59.000Z"},
		{"11-11-2017T11:11:11", prague, "2017-11-11T10:11:11.000Z"},
		{"11-11-2017", prague, "2017-11-10T23:00:00.000Z"},
		{"1-7-2017", prague, "2017-06-30T22:00:00.000Z"},
		{"1-7-2017T1:2:3", prague, "2017-06-30T23:02:03.000Z"},
		{"29-02-2024", "UTC0", "2024-02-29T00:00:00.000Z"},
		{"31-12-9999", "<+14>-14", "9999-12-30T10:00:00.000Z"},
		{"31-12-9999T23:59:59", "<-12>12", "9999-12-31T23:59:59.000Z"}, // bounded
		{"01-01-1970", prague, "1970-01-01T00:00:00.000Z"},             // bounded
		// The night the clock goes forward: days of 23 hours, a time that is skipped.
		{"29-03-2026", prague, "2026-03-28T23:00:00.000Z"},
		{"29-03-2026T01:59:59", prague, "2026-03-29T00:59:59.000Z"},
		{"29-03-2026T02:30:00", prague, "2026-03-29T01:30:00.000Z"},
		{"29-03-2026T03:00:00", prague, "2026-03-29T01:00:00.000Z"},
		{"30-03-2026", prague, "2026-03-29T22:00:00.000Z"},
		// The night it goes back: a time that is shown twice.
		{"25-10-2026T01:59:59", prague, "2026-10-24T23:59:59.000Z"},
		{"25-10-2026T02:30:00", prague, "2026-10-25T00:30:00.000Z"},
		{"25-10-2026T03:00:00", prague, "2026-10-25T02:00:00.000Z"},
		{"26-10-2026", prague, "2026-10-25T23:00:00.000Z"},
		// A day without midnight begins when the clock has changed.
		{"06-09-2026", santiago, "2026-09-06T04:00:00.000Z"},
	} {
		ms, err := ParseTime(tt.in, testNow, zone(t, tt.rule))
		if err != nil {
			t.Errorf("ParseTime(%q): %v", tt.in, err)
			continue
		}
		if got := time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"); got != tt.want {
			t.Errorf("ParseTime(%q) in %s = %s, want %s", tt.in, tt.rule, got, tt.want)
		}
	}
}

func TestParseTimeRefuses(t *testing.T) {
	for _, in := range []string{
		"", "-", "@", "yesterday", "604800", "+7d", "--7d", "-7y", "-7dd", "-d", "- 7d", "-7.5d", "-1e3",
		"@-1", "@1.5", "@253402300800", "@0x10", "2017-11-11", "11/11/2017", "11-11-17", "32-01-2017",
		"31-02-2017", "29-02-2023", "00-01-2017", "01-00-2017", "01-13-2017", "31-12-1969", "11-11-2017T",
		"11-11-2017T24:00:00", "11-11-2017T11:60:00", "11-11-2017T11:11:60", "11-11-2017T11:11",
		"11-11-2017T11:11:11.5", "11-11-2017T11:11:11Z", "11-11-2017t11:11:11", "11-11-2017 11:11:11",
		"111-11-2017", "-9999999999999999", "１１-11-2017", strings.Repeat("1", 1<<20), "11-11-2017\x00",
	} {
		if ms, err := ParseTime(in, testNow, time.UTC); err == nil {
			t.Errorf("ParseTime(%.40q) = %d, want an error", in, ms)
		} else if len(err.Error()) > 400 {
			t.Errorf("ParseTime(%.40q): error of %d bytes", in, len(err.Error()))
		}
	}
}

// Whatever a user types, the time is within bounds, and what a date names is
// what the clock shows then, unless the clock skipped it.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"now", "-7d", "-1w", "-10080m", "@1567561062", "11-11-2017", "11-11-2017T11:11:11",
		"29-03-2026T02:30:00", "25-10-2026T02:30:00", "06-09-2026", "31-12-9999T23:59:59", "-999999999999999w"} {
		f.Add(s)
	}
	locs := []*time.Location{zone(f, prague), zone(f, santiago), time.UTC}
	f.Fuzz(func(t *testing.T, s string) {
		for _, loc := range locs {
			ms, err := ParseTime(s, testNow, loc)
			if err != nil {
				continue
			}
			if ms < 0 || ms > maxUnix*1000 {
				t.Fatalf("ParseTime(%q) = %d: out of bounds", s, ms)
			}
			shown := time.UnixMilli(ms).In(loc)
			again, err := ParseTime(shown.Format("02-01-2006T15:04:05"), testNow, loc)
			if err != nil {
				if y := shown.Year(); y >= 1970 && y <= 9999 {
					t.Fatalf("ParseTime(%q) is shown as %s: %v", s, shown, err)
				}
				continue
			}
			// A time shown twice means the first: at most the change earlier.
			if d := ms - ms%1000 - again; (d < 0 || d > 3*3600*1000) && ms > 86400e3 && ms < (maxUnix-86400)*1000 {
				t.Fatalf("ParseTime(%q) = %d, but %s is %d", s, ms, shown, again)
			}
		}
	})
}
