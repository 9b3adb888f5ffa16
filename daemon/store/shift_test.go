package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// sameHours compares the bytes sent by the hour.
func sameHours(t testing.TB, what string, s *Store, want map[int64]uint64) {
	t.Helper()
	rows, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{"hour"}})
	failOn(t, err)
	got := make(map[int64]uint64)
	for _, r := range rows {
		if r.Sent > 0 {
			got[r.Hour] = r.Sent
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: sent %v by the hour, want %v", what, got, want)
	}
}

// TestShiftedHours moves a flow whose bytes are known by the hour by a time that
// is not a whole number of hours.
func TestShiftedHours(t *testing.T) {
	const start, hour = 3_500_000, 3_600_000
	noon := theNow.Truncate(24*time.Hour).UnixMilli() - dayMS/2
	for name, tt := range map[string]struct {
		to   int64 // where it begins then
		want map[int64]uint64
	}{
		"its hour begins after it":  {noon - 50_000, map[int64]uint64{noon - hourLong: 900, noon: 100}},
		"its hour begins before it": {noon + 123_457, map[int64]uint64{noon: 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ramDir(t)
			s := openDisk(t, dir, Options{})
			f := testFlow(start)
			f.End = hour + 100_000
			f.Sent, f.Track.Hour, f.Track.HourSent = 1000, hour, 100
			add(t, s, f)
			failOn(t, s.Shift(t.Context(), 0, 4_000_000, tt.to-start))
			sameHours(t, "shifted", s, tt.want)
			backUp(t, s)
			closeStore(t, s)
			reboot(t, dir)
			s = openDisk(t, dir, Options{})
			sameHours(t, "restored", s, tt.want)
			runArchive(t, s, theNow.Add(24*time.Hour))
			sameHours(t, "archived", s, tt.want)
		})
	}
}

// TestHoursOfAnotherClock backs up and archives a flow with an hour that is none of
// those after it began: its bytes count where it began.
func TestHoursOfAnotherClock(t *testing.T) {
	for name, hour := range map[string]string{
		"before it": "11:15:00", "at no quarter": "11:22:30",
	} {
		t.Run(name, func(t *testing.T) {
			s := openArchived(t, Options{}, ArchiveConfig{Rules: withoutThresholds(testRules)})
			f := testFlow(at("11:20:00"))
			f.End = at("11:30:00")
			f.Track.Hour, f.Track.HourSent = at(hour), 10
			add(t, s, f)
			backUp(t, s)
			if run := runArchive(t, s, time.UnixMilli(f.End).Add(48*time.Hour)); run.Moved != 1 {
				t.Errorf("%+v", run)
			}
			sameHours(t, "archived", s, map[int64]uint64{at("11:00:00"): f.Sent})
		})
	}
}

// TestFlowsOf1970Wait: flows of a clock that is not set are not too old, they wait
// until it is known when they were.
func TestFlowsOf1970Wait(t *testing.T) {
	s := openArchived(t, Options{}, ArchiveConfig{Rules: withoutThresholds(testRules), Keep: 28 * 24 * time.Hour})
	add(t, s, namedFlow(60_000, "early.example"), namedFlow(theNow.UnixMilli()-3*dayMS, "a.example"))
	if run := runArchive(t, s, theNow); run.Moved != 1 || run.Expired != 0 {
		t.Errorf("%+v, want one moved", run)
	}
	sameNames(t, "before the clock is set", s, "a.example", "early.example")
	failOn(t, s.Shift(t.Context(), 0, dayMS, theNow.UnixMilli()-2*dayMS))
	if run := runArchive(t, s, theNow); run.Moved != 1 || run.Expired != 0 {
		t.Errorf("%+v, want the other moved", run)
	}
	sameNames(t, "then", s, "a.example", "early.example")
}

// TestShiftBack moves what was recorded while the clock was ahead, and nothing else,
// also where both spans overlap; a backup and the archive follow.
func TestShiftBack(t *testing.T) {
	for _, ahead := range []int64{27 * dayMS, 2 * hourLong, 30 * 60_000} {
		dir := ramDir(t)
		s := openDisk(t, dir, Options{})
		now := theNow.UnixMilli()
		var want []string
		for minute := range int64(6 * 60) {
			start, name := now-12*hourLong+minute*60_000, fmt.Sprintf("m%03d.example", minute)
			if minute >= 4*60 {
				start += ahead
			}
			add(t, s, namedFlow(start, name))
			want = append(want, name)
		}
		backUp(t, s)
		from := now - 8*hourLong + ahead
		failOn(t, s.Shift(t.Context(), from, from+2*hourLong, -ahead))
		rows := walk(t, s, Query{Filter: Filter{All: true, Out: true, In: true}})
		if len(rows) != len(want) {
			t.Fatalf("%d flows", len(rows))
		}
		for _, r := range rows {
			if i := slices.Index(want, r.Name); r.Start != now-12*hourLong+int64(i)*60_000 {
				t.Errorf("%s at %d, %d ms ago", r.Name, r.Start, now-r.Start)
			}
		}
		backUp(t, s)
		closeStore(t, s)
		reboot(t, dir)
		s = openDisk(t, dir, Options{})
		sameNames(t, "restored", s, want...)
		runArchive(t, s, theNow.Add(24*time.Hour))
	}
}
