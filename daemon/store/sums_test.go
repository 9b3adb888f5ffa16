package store

import (
	"testing"
	"time"
)

// TestSumsOfAnotherZone asks for days, weeks and months of another zone than that
// in which the archive has summed up its days.
func TestSumsOfAnotherZone(t *testing.T) {
	s := openArchived(t, Options{}, ArchiveConfig{Rules: withoutThresholds(testRules)})
	// 3:00 is the evening before in New York, of a Sunday and of May.
	midnight := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, hour := range []int{3, 12} {
		add(t, s, testFlow(midnight.Add(time.Duration(hour)*time.Hour).UnixMilli()))
	}
	runArchive(t, s, midnight.Add(72*time.Hour))
	sent := testFlow(0).Sent
	for _, by := range []string{"day", "week", "month"} {
		for zone, want := range map[*time.Location][]uint64{
			time.UTC: {2 * sent}, time.FixedZone("EST", -5*3600): {sent, sent},
		} {
			rows, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{by}, Location: zone})
			failOn(t, err)
			if len(rows) != len(want) || rows[0].Sent != want[0] {
				t.Errorf("by %s in %v: %+v, want %d", by, zone, rows, want)
			}
		}
	}
}

// TestNamesInSums asks for one of the names that the sums of a day have put
// together to their group.
func TestNamesInSums(t *testing.T) {
	s := openArchived(t, Options{Classify: testClassify}, ArchiveConfig{Rules: withoutThresholds(testRules)})
	day := time.Date(2026, 5, 10, 0, 0, 0, 0, time.UTC)
	for i, name := range []string{"x.cdn.example", "y.cdn.example"} {
		add(t, s, namedFlow(day.Add(time.Duration(3+5*i)*time.Hour).UnixMilli(), name))
	}
	runArchive(t, s, day.Add(72*time.Hour))
	for host, want := range map[string]uint64{"x.cdn.example": 1, "cdn.example": 2, "a.example": 2, "example": 2, "z.cdn.example": 0} {
		f := Filter{Hostnames: []string{host}}
		want *= testFlow(0).Sent
		var flows, together, sums uint64
		for _, r := range walk(t, s, Query{Filter: f}) {
			flows += r.Sent
		}
		for _, r := range walk(t, s, Query{Filter: f, Aggregate: true}) {
			together += r.Sent
		}
		rows, _, err := s.Summary(t.Context(), SummaryQuery{Filter: f, By: []string{"client"}})
		failOn(t, err)
		for _, r := range rows {
			sums += r.Sent
		}
		if flows != want || together != want || sums != want {
			t.Errorf("%s: sent %d in flows, %d put together, %d summed up, want %d", host, flows, together, sums, want)
		}
	}
}
