package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRuleZone(t *testing.T) {
	tests := []struct {
		rule, at, want string
	}{
		{"CET-1CEST,M3.5.0,M10.5.0/3", "2026-01-15T12:00:00Z", "2026-01-15 13:00:00 CET"},
		{"CET-1CEST,M3.5.0,M10.5.0/3", "2026-07-15T12:00:00Z", "2026-07-15 14:00:00 CEST"},
		{"CET-1CEST,M3.5.0,M10.5.0/3", "2026-10-25T00:59:59Z", "2026-10-25 02:59:59 CEST"},
		{"CET-1CEST,M3.5.0,M10.5.0/3", "2026-10-25T01:00:00Z", "2026-10-25 02:00:00 CET"},
		{"EST5EDT,M3.2.0,M11.1.0", "2026-07-01T12:00:00Z", "2026-07-01 08:00:00 EDT"},
		{"<+0530>-5:30", "2026-07-01T12:00:00Z", "2026-07-01 17:30:00 +0530"},
		{"<-03>3", "2026-07-01T12:00:00Z", "2026-07-01 09:00:00 -03"},
		{"UTC0", "2026-07-01T12:00:00Z", "2026-07-01 12:00:00 UTC"},
		{"GMT0", "1970-01-01T00:00:00Z", "1970-01-01 00:00:00 GMT"},
	}
	for _, tt := range tests {
		loc, err := ruleZone(tt.rule)
		if err != nil {
			t.Errorf("%s: %v", tt.rule, err)
			continue
		}
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := at.In(loc).Format("2006-01-02 15:04:05 MST"); got != tt.want {
			t.Errorf("%s: %s is %s, want %s", tt.rule, tt.at, got, tt.want)
		}
	}
}

func TestRuleZoneWrong(t *testing.T) {
	for _, rule := range []string{"", "X", "CET", "CET-", "<CET-1", "CET-9999", "CET-99", "CE\nT-1", "Europe/Nowhere"} {
		if loc, err := ruleZone(rule); err == nil {
			t.Errorf("%q is read as %v, want an error", rule, loc)
		}
	}
}

func TestRouterZone(t *testing.T) {
	t.Setenv("TZ", "")
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	set := func(s string) {
		if err := os.WriteFile(filepath.Join(root, "etc/TZ"), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set("CET-1CEST,M3.5.0,M10.5.0/3\n")
	loc, err := routerZone(root)
	if err != nil || time.Unix(0, 0).In(loc).Hour() != 1 {
		t.Errorf("zone %v, %v", loc, err)
	}
	set("nonsense\n")
	if loc, err := routerZone(root); err == nil || loc != time.UTC {
		t.Errorf("a wrong rule gives %v, %v; want UTC and an error", loc, err)
	}
}

func FuzzRuleZone(f *testing.F) {
	for _, s := range []string{"CET-1CEST,M3.5.0,M10.5.0/3", "<+0530>-5:30", "UTC0", "EST5EDT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		if loc, err := ruleZone(rule); err == nil {
			time.Unix(1_800_000_000, 0).In(loc).Hour()
		}
	})
}
