package timespec

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestLocation(t *testing.T) {
	summer := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	winter := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name           string
		env            string // "-" for none
		file           string // content of /etc/TZ
		summer, winter string
	}{
		{"nothing", "-", "", "12:00 UTC", "12:00 UTC"},
		{"as OpenWrt writes it", "-", "CET-1CEST,M3.5.0,M10.5.0/3\n", "14:00 CEST", "13:00 CET"},
		{"no summer time", "-", "<+0530>-5:30\n", "17:30 +0530", "17:30 +0530"},
		{"west", "-", "PST8PDT,M3.2.0,M11.1.0\n", "05:00 PDT", "04:00 PST"},
		{"UTC", "-", "UTC\n", "12:00 UTC", "12:00 UTC"},
		{"GMT0", "-", "GMT0\n", "12:00 GMT", "12:00 GMT"},
		{"wrong rule", "-", "nonsense,9\n", "12:00 UTC", "12:00 UTC"},
		{"environment first", "EST5", "CET-1CEST,M3.5.0,M10.5.0/3\n", "07:00 EST", "07:00 EST"},
		{"environment empty", "", "CET-1CEST,M3.5.0,M10.5.0/3\n", "12:00 UTC", "12:00 UTC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TZ", tt.env)
			if tt.env == "-" {
				os.Unsetenv("TZ")
			}
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			if tt.file != "" {
				if err := os.WriteFile(filepath.Join(root, "etc/TZ"), []byte(tt.file), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			loc := Location(root)
			if got := summer.In(loc).Format("15:04 MST"); got != tt.summer {
				t.Errorf("summer noon: %s, want %s", got, tt.summer)
			}
			if got := winter.In(loc).Format("15:04 MST"); got != tt.winter {
				t.Errorf("winter noon: %s, want %s", got, tt.winter)
			}
		})
	}
}

// FuzzZone: whatever rule is set, it is a zone in which the hours of each year can be
// told, or none.
func FuzzZone(f *testing.F) {
	for _, rule := range []string{"CET-1CEST,M3.5.0,M10.5.0/3", "<+0530>-5:30", "PST8PDT,J60,300/-26", "EST5EDT,0/0,J365/25", "UTC", "nonsense,9", "A-24:59:59"} {
		f.Add(rule)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		loc, err := posixZone(rule)
		if err != nil {
			return
		}
		for year := 1970; year < 2200; year += 7 {
			at := time.Date(year, 3, 31, 1, 59, 59, 0, time.UTC)
			there := at.In(loc)
			if _, offset := there.Zone(); !there.Equal(at) || offset < -8*86400 || offset > 8*86400 {
				t.Fatalf("%q: %v is %v", rule, at, there)
			}
			if begins, ends := there.ZoneBounds(); !begins.IsZero() && begins.After(there) || !ends.IsZero() && !ends.After(there) {
				t.Fatalf("%q: %v lies outside of %v to %v", rule, there, begins, ends)
			}
		}
	})
}
