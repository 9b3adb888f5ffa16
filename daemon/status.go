package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pakon/daemon/api"
	"pakon/daemon/disk"
	"pakon/daemon/head"
	"pakon/suricata"
	"pakon/uci"
)

// status collects what the parts know of themselves.
func (d *daemon) status(ctx context.Context) api.Status {
	set := d.settings.Load()
	s := api.Status{
		Version:   version,
		Uptime:    time.Since(d.started),
		BytesFrom: "suricata",
		Conntrack: d.conntrackStatus(),
		Suricata:  d.suricataStatus(),
		Events:    d.eventStatus(),
		Flows:     api.FlowStatus{Running: d.table.Running(), Limit: set.config.Monitor.DatabaseLimit, Lost: d.writer.lost.Load()},
		Database:  api.DatabaseStatus{Path: d.paths.live},
		Config:    api.ConfigStatus{Loaded: set.loaded, Problems: set.said()},
	}
	used := d.method.Load()
	// Of the heads of connections nobody counts bytes.
	if heads := used != nil && used.way != head.None; s.Conntrack.Active && (heads || d.kernel.State().Any) {
		s.BytesFrom = "conntrack"
	}
	if set.config.Monitor.Enabled {
		s.Mode = "tap"
		if used != nil {
			s.Mode = used.mode()
			s.Capture = d.captureStatus(used)
		}
	}
	s.Lists.Domains, s.Lists.Services = set.lists.Len()
	if set.refused != nil {
		s.Config.Error = set.refused.Error()
	}
	if why := d.writer.failure.Load(); why != nil {
		s.Database.Error = *why
	}
	if st, err := d.store.Stats(ctx); err != nil {
		s.Database.Error = err.Error()
	} else {
		s.Flows.Live, s.Flows.Oldest, s.Flows.Newest = st.Flows, unixMilli(st.Oldest), unixMilli(st.Newest)
		s.Database.Bytes, s.Database.Names, s.Database.Clients = st.Bytes, st.Names, st.Clients
	}
	if out, err := d.store.LeftOutOfAll(ctx, time.Now().AddDate(0, 0, -30).UnixMilli()); err != nil {
		s.Database.Error = err.Error()
	} else {
		s.LeftOut = out
	}
	d.keeper.status(ctx, &s)
	watched := d.watched.Load()
	for _, name := range watched.devices {
		state := "missing"
		if i, ok := d.clients.Interface(name); ok {
			state = "down"
			if i.Up {
				state = "up"
			}
		}
		s.Interfaces = append(s.Interfaces, api.InterfaceStatus{Name: name, State: state, Coverage: coverage(d.carried.of(name), d.location())})
	}
	s.Warnings = warnings(&s, set, watched.notes)
	if w := d.keeper.devicesWarning(); w != "" {
		s.Warnings = append(s.Warnings, w)
	}
	return s
}

// coverage is what an interface carried, for status.
func coverage(hours []carriedHour, loc *time.Location) []api.CoverageStatus {
	var out []api.CoverageStatus
	for _, h := range hours {
		out = append(out, api.CoverageStatus{
			Hour: time.UnixMilli(h.hour).In(loc), Since: time.UnixMilli(h.since), Compared: !h.apart,
			Carried: h.bytes, Recorded: h.recorded, Named: h.named, Other: h.other,
		})
	}
	return out
}

func (d *daemon) captureStatus(used *method) api.CaptureStatus {
	s := api.CaptureStatus{Way: used.way.String(), Why: used.why, Offload: used.offload}
	if used.way == head.None {
		s.Way = "af-packet"
	}
	st := d.head.State()
	s.Restored = st.Restored
	if st.Err != nil {
		s.Error = st.Err.Error()
	}
	return s
}

func (d *daemon) conntrackStatus() api.ConntrackStatus {
	st := d.kernel.State()
	s := api.ConntrackStatus{
		Active: st.Active, Problem: st.Problem, Switched: st.Switched, Entries: st.Entries, Listing: st.DumpTime,
		Lost: st.Lost, Zeroed: d.table.Zeroed(), Unfollowed: d.table.Unfollowed(),
	}
	for _, f := range d.table.Connections() {
		s.Fates = append(s.Fates, api.Count{Name: f.Fate.String(), N: f.Events})
	}
	return s
}

func (d *daemon) suricataStatus() api.SuricataStatus {
	var s api.SuricataStatus
	if e := d.engine.Load(); e != nil {
		s.Packets, s.Drops = e.KernelPackets, e.KernelDrops
		s.NotNamed = e.SSNMemcapDrop + e.SegmentMemcapDrop + e.InsertDataNormalFail + e.FlowMemcap
	}
	m := d.monitor.Load()
	if m == nil {
		s.State = "external"
		if !d.noSuricata {
			s.State = string(suricata.Starting)
		}
		return s
	}
	st := m.State()
	if used := d.method.Load(); used != nil && used.way == head.NFLOG {
		// Suricata does not know how many packets the kernel had for it in a
		// netfilter log, nor what it dropped of them.
		s.Packets, s.Drops = 0, 0
		if e := d.engine.Load(); e != nil {
			s.Packets, s.Drops = d.logDrops(st.PID, e.DecoderPackets)
		}
	}
	s.State, s.Version, s.PID, s.Since = string(st.Condition), st.Version, st.PID, st.Since
	s.Outdated = st.Outdated
	s.Restarts, s.Error = st.Restarts, st.LastError
	if st.Reason != "" {
		s.Error = st.Reason
	}
	return s
}

func (d *daemon) eventStatus() api.EventStatus {
	c := d.events.Counters()
	s := api.EventStatus{
		Malformed: c.Malformed, TooLong: c.TooLong, Dropped: c.Dropped,
		NamesDropped: d.table.NamesDropped(), Connections: c.Connections,
	}
	for _, t := range slices.Sorted(maps.Keys(c.Received)) {
		s.Types = append(s.Types, api.Count{Name: t, N: c.Received[t]})
	}
	for _, f := range d.table.Counts() {
		s.Fates = append(s.Fates, api.Count{Name: f.Fate.String(), N: f.Events})
	}
	return s
}

// noSuricata are the conditions in which Suricata neither names nor counts.
var noSuricata = []suricata.Condition{suricata.Missing, suricata.Failing, suricata.Stopped}

// warnings are what the owner should know or do. notes are about the interfaces of the configuration.
func warnings(s *api.Status, set *settings, notes []string) []string {
	var w []string
	if s.Config.Error != "" {
		w = append(w, "A configuration file is refused; what it said before, or the default, is in force.")
	}
	w = append(w, archiveWarnings(s, set.config.Archive)...)
	monitor := set.config.Monitor
	if !monitor.Enabled {
		return append(w, "Monitoring is disabled: set pakon.monitor.enabled to 1.")
	}
	if monitor.Mode == "filter" && s.Capture.Why != "" {
		w = append(w, "Mode 'filter' can not be used, 'tap' is: "+s.Capture.Why)
	}
	if s.Capture.Offload != "" {
		w = append(w, s.Capture.Offload)
	}
	if s.Capture.Error != "" {
		w = append(w, "The rules that hand Suricata its packets are not as they should be: "+s.Capture.Error)
	}
	switch {
	case s.Conntrack.Problem == "":
	case s.Conntrack.Active:
		w = append(w, "Connection tracking is not set as it should be: "+s.Conntrack.Problem)
	case slices.Contains(noSuricata, suricata.Condition(s.Suricata.State)):
		w = append(w, "The kernel's connections are not followed: "+s.Conntrack.Problem)
	default:
		w = append(w, "Bytes are counted by Suricata, and seen at the end of a connection only: "+s.Conntrack.Problem)
	}
	if s.Conntrack.Zeroed > 0 {
		w = append(w, zeroedWarning(s.Conntrack.Zeroed, s.Mode == "tap"))
	}
	if s.Conntrack.Unfollowed > 0 {
		w = append(w, "There were more connections than can be followed: flows are lacking.")
	}
	w = append(w, coverageWarnings(s)...)
	w = append(w, notes...)
	for _, i := range s.Interfaces {
		if i.State == "down" {
			w = append(w, fmt.Sprintf("Interface %s is down; it is monitored once it is up.", i.Name))
		}
	}
	up := slices.ContainsFunc(s.Interfaces, func(i api.InterfaceStatus) bool { return i.State == "up" })
	if slices.Contains(noSuricata, suricata.Condition(s.Suricata.State)) {
		if up && s.BytesFrom == "conntrack" {
			w = append(w, "Flows are recorded, but names are not seen: "+s.Suricata.Error)
		} else {
			w = append(w, "Nothing is recorded: "+s.Suricata.Error)
		}
	}
	if s.Suricata.Drops > s.Suricata.Packets/100 {
		lacking := "names and bytes"
		if s.BytesFrom == "conntrack" {
			lacking = "names"
		}
		w = append(w, fmt.Sprintf("Suricata missed %d of %d packets: %s may be lacking.", s.Suricata.Drops, s.Suricata.Packets, lacking))
	}
	if s.Suricata.NotNamed > 0 {
		w = append(w, fmt.Sprintf("Suricata left out %d connections or pieces of data for want of memory: names may be lacking.", s.Suricata.NotNamed))
	}
	if s.Events.Dropped > 0 {
		w = append(w, fmt.Sprintf("%d events were dropped because the router was too busy: flows are lacking.", s.Events.Dropped))
	}
	if s.Database.Error != "" {
		w = append(w, "The database can not be written: "+s.Database.Error)
	}
	if f := &s.Flows; f.Limit > 0 && f.Live >= f.Limit {
		w = append(w, fmt.Sprintf("There are as many flows as pakon.monitor.database_limit allows (%d): each new one takes the place of the oldest, though the archive has not got it yet.", f.Limit))
	}
	return w
}

// archiveWarnings are about what is kept on the drive.
func archiveWarnings(s *api.Status, config uci.Archive) []string {
	var w []string
	if s.Archive.Error != "" {
		w = append(w, "Flows older than a day are not kept as they should be: "+s.Archive.Error)
	}
	if s.Backup.Error != "" && s.Backup.Error != s.Archive.Error {
		w = append(w, "The flows of the last day do not outlive a reboot: "+s.Backup.Error)
	}
	if !s.Clock.Plausible {
		w = append(w, "The clock can not be believed, so nothing is merged or deleted for its age: "+s.Clock.Why+".")
	}
	switch {
	case s.Location.Kind == disk.RAM.String():
		w = append(w, fmt.Sprintf("The archive is in RAM (%s): it does not outlive a reboot. Set pakon.archive.path to a file on a drive.", s.Location.Mount))
	case s.Backup.Interval > config.BackupInterval:
		w = append(w, fmt.Sprintf("The archive is on the router's own flash (%s): to spare it, the last day is backed up every %d hours only. Set pakon.archive.path to a file on a drive.",
			s.Location.Mount, int(s.Backup.Interval.Hours())))
	}
	if s.Archive.Lost > 0 {
		w = append(w, fmt.Sprintf("Parts of the archive were damaged: %d flows are lacking. The drive may be failing.", s.Archive.Lost))
	}
	if s.Backup.Damaged > 0 {
		w = append(w, fmt.Sprintf("%d files of the backup were damaged: flows of the day before the last start may be lacking.", s.Backup.Damaged))
	}
	unread := slices.DeleteFunc(slices.Clone(s.Aside), func(path string) bool {
		base := filepath.Base(path)
		return strings.Contains(base, ".original") || strings.Contains(base, ".imported")
	})
	if len(unread) > 0 {
		w = append(w, "Files that could not be read were set aside; delete them once they are of no use any more: "+strings.Join(unread, ", ")+".")
	}
	return w
}

// An hour in which an interface carried at least coverageBytes is looked at:
// less is mostly noise of the network itself.
const (
	coverageBytes = 20 << 20
	coverageLeast = 80 // percent
)

// coverageWarnings are about interfaces much of whose traffic is not accounted
// for, in the last two hours.
func coverageWarnings(s *api.Status) []string {
	var w []string
	for _, i := range s.Interfaces {
		for _, h := range i.Coverage[max(0, len(i.Coverage)-2):] {
			if !h.Compared || h.Carried < coverageBytes {
				continue
			}
			if known := 100 * (h.Recorded + h.Other) / h.Carried; known < coverageLeast {
				w = append(w, fmt.Sprintf("Of what %s carried in the hour from %s, only %d %% belongs to connections of TCP and UDP that the kernel tracks.",
					i.Name, h.Hour.Format("15:04"), known))
			}
		}
	}
	return w
}

func unixMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
