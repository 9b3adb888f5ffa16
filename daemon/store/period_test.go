package store

import (
	"testing"
	"time"
)

// TestPeriods goes through periods around what clocks do in some places: each
// begins where the one before ends, and lasts as long as it should.
func TestPeriods(t *testing.T) {
	h := time.Hour
	tests := []struct {
		name, zone, at string
		unit           unit
		want           []time.Duration
	}{
		{"hours", "Europe/Prague", "2024-03-31T00:30", hour, []time.Duration{h, h, h}},
		{"hours in autumn", "Europe/Prague", "2024-10-27T01:10", hour, []time.Duration{h, h, h, h}},
		{"hours of India", "Asia/Kolkata", "2024-10-27T01:10", hour, []time.Duration{h, h}},
		{"hours where half an hour comes twice", "Australia/Lord_Howe", "2024-04-07T00:10", hour, []time.Duration{h, h, h / 2, h}},
		{"day of 23 hours", "Europe/Prague", "2024-03-30T12:00", day, []time.Duration{24 * h, 23 * h, 24 * h}},
		{"day of 25 hours", "Europe/Prague", "2024-10-26T12:00", day, []time.Duration{24 * h, 25 * h, 24 * h}},
		{"midnight is skipped", "America/Santiago", "2024-09-07T12:00", day, []time.Duration{24 * h, 23 * h, 24 * h}},
		{"the hour before midnight comes twice", "America/Santiago", "2024-04-06T12:00", day, []time.Duration{25 * h, 24 * h}},
		{"midnight comes twice", "America/Havana", "2024-11-02T12:00", day, []time.Duration{24 * h, 25 * h, 24 * h}},
		{"a day is skipped", "Pacific/Apia", "2011-12-29T12:00", day, []time.Duration{24 * h, 24 * h, 24 * h}},
		{"weeks", "Europe/Prague", "2024-10-27T23:59", week, []time.Duration{7*24*h + h, 7 * 24 * h}},
		{"months", "Europe/Prague", "2024-01-31T10:00", month, []time.Duration{31 * 24 * h, 29 * 24 * h, 31*24*h - h}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			loc, err := time.LoadLocation(tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.ParseInLocation("2006-01-02T15:04", tt.at, loc)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range tt.want {
				from, to := tt.unit.period(at)
				if got := to.Sub(from); got != want {
					t.Errorf("period %d, %v to %v: lasts %v, want %v", i, from, to, got, want)
				}
				if from.After(at) || !to.After(at) {
					t.Fatalf("%v is not from %v to %v", at, from, to)
				}
				// Its first and its last moment lie in it.
				for _, in := range []time.Time{from, to.Add(-1)} {
					if f, e := tt.unit.period(in); !f.Equal(from) || !e.Equal(to) {
						t.Errorf("%v is from %v to %v, want %v to %v", in, f, e, from, to)
					}
				}
				at = to
			}
		})
	}
}
