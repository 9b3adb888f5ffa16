package store

import (
	"fmt"
	"testing"

	"pakon/daemon/store/block"
)

func TestBytesInsideAWindow(t *testing.T) {
	hours := []block.Hour{{Start: at("12:00:00"), Sent: 20, Recvd: 200}, {Start: at("14:00:00"), Sent: 40, Recvd: 400}}
	shifted := []block.Hour{{Start: at("12:30:00"), Sent: 20, Recvd: 200}}
	tests := []struct {
		name       string
		from, to   string // the flow
		hours      []block.Hour
		start, end string // the window
		want       uint64 // sent of 10 in the first hour, and those of hours
	}{
		{"without a window", "10:59:00", "14:10:00", hours, "", "", 70},
		{"all inside", "10:59:00", "14:10:00", hours, "10:00:00", "15:00:00", 70},
		{"the first hour", "10:59:00", "14:10:00", hours, "10:00:00", "11:30:00", 10},
		{"a part of the first hour", "10:59:00", "14:10:00", hours, "10:59:30", "11:00:00", 10},
		{"after the first hour", "10:59:00", "14:10:00", hours, "11:00:00", "13:00:00", 20},
		{"the end of an hour", "10:59:00", "14:10:00", hours, "12:59:59", "13:30:00", 20},
		{"the begin of an hour", "10:59:00", "14:10:00", hours, "13:00:00", "14:00:01", 40},
		{"between the hours", "10:59:00", "14:10:00", hours, "13:00:00", "14:00:00", 0},
		{"from the last on", "10:59:00", "14:10:00", hours, "14:05:00", "", 40},
		{"it began on the hour", "11:00:00", "14:10:00", hours, "11:59:59", "12:00:00", 10},
		{"hours that begin at half past", "11:20:00", "12:50:00", shifted, "11:29:59", "11:30:00", 10},
		{"after the first of those", "11:20:00", "12:50:00", shifted, "11:30:00", "12:30:00", 0},
		{"nothing is known", "10:59:00", "14:10:00", nil, "12:00:00", "12:00:01", 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f Filter
			if tt.start != "" {
				f.Start = at(tt.start)
			}
			if tt.end != "" {
				f.End = at(tt.end)
			}
			g := block.Flow{ID: at(tt.from) << idShift, Duration: at(tt.to) - at(tt.from), Sent: 10, Recvd: 100}
			for _, h := range tt.hours {
				g.Sent, g.Recvd = g.Sent+h.Sent, g.Recvd+h.Recvd
			}
			if sent, recvd := f.window().inside(&g, tt.hours); sent != tt.want || recvd != 10*tt.want {
				t.Errorf("got %d and %d, want %d and %d", sent, recvd, tt.want, 10*tt.want)
			}
		})
	}
}

// TestBytesOfDamagedHours: hours may say more than the flow has.
func TestBytesOfDamagedHours(t *testing.T) {
	f := block.Flow{ID: at("10:00:00") << idShift, Duration: 2 * hourLong, Sent: 1}
	hours := []block.Hour{{Start: at("08:00:00"), Sent: 5, Recvd: 5}, {Start: at("11:00:00"), Sent: 7}}
	if sent, recvd := (window{at("10:00:00"), at("10:30:00")}).inside(&f, hours); sent != 0 || recvd != 0 {
		t.Errorf("got %d and %d", sent, recvd)
	}
}

// TestReclassifiedNames: new lists hold for sums and sorted flows, too.
func TestReclassifiedNames(t *testing.T) {
	group, hidden := "first.example", false
	s := open(t, Options{Classify: func(string) (string, bool) { return group, hidden }})
	add(t, s, testFlow(1_700_000_000_000))
	ask := func() string {
		t.Helper()
		sums, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{"hostname"}})
		if err != nil {
			t.Fatal(err)
		}
		shown := ""
		for _, r := range sums {
			shown += r.Hostname
		}
		for _, q := range []Query{{Sort: BySent}, {Aggregate: true}} {
			for _, r := range walk(t, s, q) {
				shown += " " + r.Group
			}
		}
		return shown
	}
	if got := ask(); got != "first.example first.example first.example" {
		t.Errorf("at first: got %q", got)
	}
	for _, l := range []struct {
		group  string
		hidden bool
		want   string
	}{
		{"second.example", false, "second.example second.example second.example"},
		{"", true, ""},
		{"", false, "www.example.org  "},
	} {
		group, hidden = l.group, l.hidden
		if err := s.Reclassify(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := ask(); got != l.want {
			t.Errorf("got %q, want %q", got, l.want)
		}
	}
}

// TestClassesAreBounded: names that are used again stay.
func TestClassesAreBounded(t *testing.T) {
	var c classes
	asked := make(map[string]int)
	classify := func(n string) (string, bool) {
		asked[n]++
		return "", false
	}
	for i := range 5 * maxClasses {
		c.of([]string{"", "often.example", fmt.Sprintf("n%d.example", i)}, classify, nil)
	}
	if asked["often.example"] != 1 || asked[""] != 0 || asked["n7.example"] != 1 {
		t.Errorf("asked %d times for a name that is used, %d times for none", asked["often.example"], asked[""])
	}
	if n := len(c.newer) + len(c.older); n > 2*maxClasses {
		t.Errorf("%d are remembered", n)
	}
}
