package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pakon/daemon/api"
	"pakon/daemon/conntrack"
	"pakon/daemon/head"
	"pakon/suricata"
)

func TestChoose(t *testing.T) {
	all := machine{build: &suricata.Build{NFLOG: true, AFPacket: true}}
	with := func(f func(*machine)) machine { m := all; f(&m); return m }
	offloaded := func(tables ...head.Flowtable) machine {
		return with(func(m *machine) { m.ability.Flowtables = tables })
	}
	fw4 := head.Flowtable{Devices: []string{"br-lan", "wan"}, Counter: true}
	missing := errors.New("the kernel lacks it (kmod-something)")
	tests := []struct {
		name    string
		mode    string
		machine machine
		want    head.Way
		why     string // part of it
		offload string // part of it
	}{
		{"tap", "tap", all, head.None, "", ""},
		{"filter", "filter", all, head.NFLOG, "", ""},
		{"auto", "auto", all, head.NFLOG, "", ""},
		{"no connection tracking", "auto", with(func(m *machine) { m.counted = missing }), head.None, "kmod-something", ""},
		{"an access point", "auto", with(func(m *machine) { m.bridges = "br-lan" }), head.None, "br-lan", ""},
		{"no nftables", "auto", with(func(m *machine) { m.probe = missing }), head.None, "kmod-something", ""},
		{"kernel without NFLOG", "auto", with(func(m *machine) { m.ability.NFLOG = missing }), head.Mirror, "", ""},
		{"Suricata without NFLOG", "auto", with(func(m *machine) { m.build = &suricata.Build{AFPacket: true} }), head.Mirror, "", ""},
		{"no Suricata", "auto", with(func(m *machine) { m.build = nil }), head.NFLOG, "", ""},
		{"no Suricata, kernel without NFLOG", "auto", with(func(m *machine) { m.build, m.ability.NFLOG = nil, missing }), head.Mirror, "", ""},
		{"neither", "auto", with(func(m *machine) { m.build, m.ability.Mirror = &suricata.Build{AFPacket: true}, missing }), head.None, "kmod-something", ""},
		{"offloading", "auto", offloaded(fw4), head.Mirror, "", "br-lan, wan"},
		{"offloading, no mirror", "auto", with(func(m *machine) { m.ability = head.Ability{Mirror: missing, Flowtables: []head.Flowtable{fw4}} }), head.None, "offloading", "Names and bytes"},
		{"offloading, tap", "tap", offloaded(fw4), head.None, "", "Names and bytes"},
		{"not counted", "filter", offloaded(head.Flowtable{Devices: []string{"br-lan"}}), head.None, "'counter'", "'counter'"},
		{"hardware", "filter", offloaded(head.Flowtable{Devices: []string{"lan1"}, Counter: true, Hardware: true}), head.Mirror, "", "Hardware offloading hides"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := choose(tt.mode, tt.machine)
			if got.way != tt.want || (got.why == "") != (tt.why == "") || !strings.Contains(got.why, tt.why) {
				t.Errorf("chose %v because %q; want %v because of %q", got.way, got.why, tt.want, tt.why)
			}
			if (got.offload == "") != (tt.offload == "") || !strings.Contains(got.offload, tt.offload) {
				t.Errorf("of offloading it says %q, want %q", got.offload, tt.offload)
			}
		})
	}
}

func TestCoverageWarnings(t *testing.T) {
	const mb = 1 << 20
	tests := []struct {
		name  string
		hour  api.CoverageStatus
		warns bool
	}{
		{"all is known", api.CoverageStatus{Compared: true, Carried: 1000 * mb, Recorded: 900 * mb, Other: 50 * mb}, false},
		{"much is not", api.CoverageStatus{Compared: true, Carried: 1000 * mb, Recorded: 500 * mb, Other: 50 * mb}, true},
		{"too little to tell", api.CoverageStatus{Compared: true, Carried: 10 * mb}, false},
		{"told at the end only", api.CoverageStatus{Carried: 1000 * mb}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := api.Status{Interfaces: []api.InterfaceStatus{{Name: "br-lan", Coverage: []api.CoverageStatus{tt.hour}}}}
			if got := coverageWarnings(&s); (len(got) > 0) != tt.warns {
				t.Errorf("warnings %q", got)
			}
		})
	}
}

func TestNetlinkDrops(t *testing.T) {
	// As /proc/net/netlink shows it.
	const table = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
000000006c5d10ee 0   0          00000000 0        0        0     2        0        4
00000000bcd56921 12  4711       00000000 0        0        0     2        23       501
0000000044163bc5 12  99         00000000 0        0        0     2        7        503
00000000a69fb9b2 0   4711       00000000 0        0        0     2        5        502
`
	if n := netlinkDrops([]byte(table), map[string]bool{"501": true, "502": true}); n != 23 {
		t.Errorf("%d are dropped", n)
	}
	if n := netlinkDrops([]byte("nonsense\n12 12"), nil); n != 0 {
		t.Errorf("%d of nonsense", n)
	}
}

func TestZoneOffset(t *testing.T) {
	for seconds, want := range map[int]int64{0: 0, 3600: 0, -7200: 0, 19800: 30 * 60_000, 20700: 15 * 60_000, -12600: 30 * 60_000} {
		loc := time.FixedZone("", seconds)
		got := zoneOffset(loc)
		if got != want {
			t.Errorf("%d seconds east: %d ms, want %d", seconds, got, want)
		}
		if at := time.UnixMilli(got).In(loc); at.Minute() != 0 {
			t.Errorf("%d seconds east: an hour begins at %v", seconds, at)
		}
	}
}

func TestKernelProblemIsTold(t *testing.T) {
	s := &api.Status{Conntrack: api.ConntrackStatus{Problem: "kmod-nf-conntrack-netlink is missing"}}
	set := &settings{}
	set.config.Monitor.Enabled = true
	for _, w := range warnings(s, set, nil) {
		if strings.Contains(w, "kmod-nf-conntrack-netlink") {
			return
		}
	}
	t.Error("no warning names what is missing")
}

var _ conntrack.Receiver = receiver{}
