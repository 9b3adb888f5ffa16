package main

import (
	"strings"
	"testing"
	"time"

	"pakon/daemon/api"
	"pakon/daemon/disk"
)

// TestWarningsAreSo: what is said of Suricata and of what is recorded is so.
func TestWarningsAreSo(t *testing.T) {
	up := []api.InterfaceStatus{{Name: "br-lan", State: "up"}}
	const missing = "suricata is not installed"
	for _, tt := range []struct {
		name   string
		status api.Status
		want   string // part of the only warning, "" if there is none
	}{
		{"all is well", api.Status{Interfaces: up, BytesFrom: "conntrack", Suricata: api.SuricataStatus{State: "running"}}, ""},
		{"only names lack", api.Status{Interfaces: up, BytesFrom: "conntrack", Suricata: api.SuricataStatus{State: "missing", Error: missing}},
			"Flows are recorded, but names are not seen: " + missing},
		{"nothing counts", api.Status{Interfaces: up, BytesFrom: "suricata", Suricata: api.SuricataStatus{State: "missing", Error: missing}},
			"Nothing is recorded: " + missing},
		{"nothing to be monitored", api.Status{BytesFrom: "conntrack", Suricata: api.SuricataStatus{State: "stopped", Error: "there are no interfaces to be monitored"}},
			"Nothing is recorded: there are no interfaces to be monitored"},
		{"Suricata counts", api.Status{Interfaces: up, BytesFrom: "suricata", Suricata: api.SuricataStatus{State: "running"}, Conntrack: api.ConntrackStatus{Problem: "no module"}},
			"Bytes are counted by Suricata, and seen at the end of a connection only: no module"},
		{"drops where the kernel counts", api.Status{Interfaces: up, BytesFrom: "conntrack", Suricata: api.SuricataStatus{State: "running", Packets: 100, Drops: 50}},
			"Suricata missed 50 of 100 packets: names may be lacking."},
		{"drops where Suricata counts", api.Status{Interfaces: up, BytesFrom: "suricata", Suricata: api.SuricataStatus{State: "running", Packets: 100, Drops: 50}},
			"Suricata missed 50 of 100 packets: names and bytes may be lacking."},
		{"a share of an interface", api.Status{Interfaces: []api.InterfaceStatus{{Name: "br-lan", State: "up", Coverage: []api.CoverageStatus{{Compared: true, Hour: time.Unix(0, 0).UTC(), Carried: 100 << 20, Recorded: 10 << 20}}}},
			BytesFrom: "conntrack", Suricata: api.SuricataStatus{State: "running"}},
			"Of what br-lan carried in the hour from 00:00, only 10 % belongs to connections of TCP and UDP that the kernel tracks."},
		{"nearly as many flows as may be", api.Status{Interfaces: up, BytesFrom: "conntrack", Suricata: api.SuricataStatus{State: "running"}, Flows: api.FlowStatus{Live: 999, Limit: 1000}}, ""},
		{"no limit", api.Status{Interfaces: up, BytesFrom: "conntrack", Suricata: api.SuricataStatus{State: "running"}, Flows: api.FlowStatus{Live: 999}}, ""},
		{"a client makes so many flows that all others' go", api.Status{Interfaces: up, BytesFrom: "conntrack", Suricata: api.SuricataStatus{State: "running"},
			Flows: api.FlowStatus{Live: 1000, Limit: 1000}},
			"database_limit allows (1000): each new one takes the place of the oldest, though the archive has not got it yet."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := &settings{}
			set.config.Monitor.Enabled = true
			s := tt.status
			s.Clock.Plausible = true
			got := warnings(&s, set, nil)
			if len(got) != min(1, len(tt.want)) || len(got) == 1 && !strings.Contains(got[0], tt.want) {
				t.Errorf("warnings %q, want %q", got, tt.want)
			}
		})
	}
}

// TestNobodyCounts: that Suricata counts is not said of one that is not there.
func TestNobodyCounts(t *testing.T) {
	set := &settings{}
	set.config.Monitor.Enabled = true
	s := &api.Status{BytesFrom: "suricata", Suricata: api.SuricataStatus{State: "missing"}, Conntrack: api.ConntrackStatus{Problem: "no module"}}
	for _, w := range warnings(s, set, nil) {
		if strings.Contains(w, "counted by Suricata") {
			t.Error(w)
		}
	}
}

func TestBackupInterval(t *testing.T) {
	for _, tt := range []struct {
		configured time.Duration
		where      lies
		want       time.Duration
	}{
		{2 * time.Hour, lies{mount: "/srv", kind: disk.Drive}, 2 * time.Hour},
		{2 * time.Hour, lies{mount: "/", kind: disk.Internal}, 12 * time.Hour},
		{24 * time.Hour, lies{mount: "/", kind: disk.Internal}, 24 * time.Hour},
		{2 * time.Hour, lies{}, 2 * time.Hour},
	} {
		if got := backupInterval(tt.configured, tt.where); got != tt.want {
			t.Errorf("%v on %+v: %v, want %v", tt.configured, tt.where, got, tt.want)
		}
	}
}

// TestCheckSaysWhatHolds: pakon check tells the time between backups that holds,
// and what is amiss with interfaces.
func TestCheckSaysWhatHolds(t *testing.T) {
	root := router(t, map[string]string{"etc/config/pakon": "config monitor 'monitor'\n\tlist interface 'no-such-thing'\n"})
	var stdout, stderr strings.Builder
	if status := run([]string{"pakon", "check", "--root", root}, &stdout, &stderr); status != 0 {
		t.Errorf("status %d: %s", status, stderr.String())
	}
	holds := backupInterval(2*time.Hour, lookAt(root))
	for _, want := range []string{"backup every " + period(holds) + "\n", "Interface no-such-thing does not exist"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
	if told := strings.Contains(stdout.String(), "not every 2h as configured"); told != (holds != 2*time.Hour) {
		t.Errorf("%v holds; it says\n%s", holds, stdout.String())
	}
}
