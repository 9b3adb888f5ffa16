package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"pakon/daemon/api"
	"pakon/suricata"
)

// status collects what the parts know of themselves.
func (d *daemon) status(ctx context.Context) api.Status {
	set := d.settings.Load()
	s := api.Status{
		Version:   version,
		Uptime:    time.Since(d.started),
		BytesFrom: "suricata",
		Suricata:  d.suricataStatus(),
		Events:    d.eventStatus(),
		Flows:     api.FlowStatus{Limit: set.config.Monitor.DatabaseLimit, Lost: d.writer.lost.Load()},
		Database:  api.DatabaseStatus{Path: d.paths.live},
		Config:    api.ConfigStatus{Loaded: set.loaded, Problems: set.problems},
	}
	if set.config.Monitor.Enabled {
		s.Mode = "tap"
	}
	s.Lists.Groups, s.Lists.Ignored = set.lists.Len()
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
	for _, name := range set.config.Monitor.Interfaces {
		state := "missing"
		if i, ok := d.clients.Interface(name); ok {
			state = "down"
			if i.Up {
				state = "up"
			}
		}
		s.Interfaces = append(s.Interfaces, api.InterfaceStatus{Name: name, State: state})
	}
	s.Warnings = warnings(&s, set)
	return s
}

func (d *daemon) suricataStatus() api.SuricataStatus {
	var s api.SuricataStatus
	if e := d.engine.Load(); e != nil {
		s.Packets, s.Drops = e.KernelPackets, e.KernelDrops
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
	s.State, s.Version, s.PID, s.Since = string(st.Condition), st.Version, st.PID, st.Since
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

// warnings are what the owner should know or do.
func warnings(s *api.Status, set *settings) []string {
	var w []string
	if s.Config.Error != "" {
		w = append(w, "A configuration file is refused; what it said before, or the default, is in force.")
	}
	monitor := set.config.Monitor
	if !monitor.Enabled {
		return append(w, "Monitoring is disabled: set pakon.monitor.enabled to 1.")
	}
	if monitor.Mode == "filter" {
		w = append(w, "This version has no mode 'filter'; 'tap' is used.")
	}
	for _, i := range s.Interfaces {
		switch i.State {
		case "missing":
			w = append(w, fmt.Sprintf("Interface %s does not exist; it is monitored once it appears.", i.Name))
		case "down":
			w = append(w, fmt.Sprintf("Interface %s is down; it is monitored once it is up.", i.Name))
		}
	}
	switch suricata.Condition(s.Suricata.State) {
	case suricata.Missing, suricata.Failing, suricata.Stopped:
		w = append(w, "Nothing is recorded: "+s.Suricata.Error)
	}
	if s.Suricata.Drops > s.Suricata.Packets/100 {
		w = append(w, fmt.Sprintf("Suricata missed %d of %d packets: names and bytes may be lacking.", s.Suricata.Drops, s.Suricata.Packets))
	}
	if s.Events.Dropped > 0 {
		w = append(w, fmt.Sprintf("%d events were dropped because the router was too busy: flows are lacking.", s.Events.Dropped))
	}
	if s.Database.Error != "" {
		w = append(w, "The database can not be written: "+s.Database.Error)
	}
	return w
}

func unixMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
