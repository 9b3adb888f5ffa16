package api

import (
	"context"
	"strings"
	"time"

	"pakon/daemon/store"
	"pakon/ubus"
)

// Status is what the method status shows. Counters count since the daemon's
// start; a zero time stands for "never".
type Status struct {
	Version string        // of the daemon
	Uptime  time.Duration // of the daemon, shown in seconds
	Mode    string        // how traffic is captured: "tap" or "filter"; "" if monitoring is disabled
	// BytesFrom tells what the flows' bytes are counted by: "suricata" (with link
	// headers) or "conntrack" (without).
	BytesFrom  string
	Capture    CaptureStatus
	Conntrack  ConntrackStatus
	Interfaces []InterfaceStatus // those configured, in that order
	Suricata   SuricataStatus
	Events     EventStatus
	Flows      FlowStatus
	LeftOut    []store.LeftOut // of all clients together, by day and why
	Database   DatabaseStatus
	Archive    ArchiveStatus
	Backup     BackupStatus
	Written    []store.DayBytes // to the drive by the archive and the backup, the newest day last
	Location   LocationStatus
	Clock      ClockStatus
	Import     *store.Progress // of the original's files; nil if it does not go on
	Restore    *store.Progress // of live from its backup; likewise
	Aside      []string        // files that could not be used and were set aside
	Lists      ListStatus
	Config     ConfigStatus
	Warnings   []string // what the user should know or do, each a sentence
}

// CaptureStatus is how Suricata gets its packets.
type CaptureStatus struct {
	Way     string // "af-packet", "nflog" or "mirror"; "" if nothing is captured
	Why     string // why it is not as the configuration wants it, "" if it is
	Offload string // what flow offloading means for it, "" if there is none
	// Restored is how often rules of ours in nftables had to be put back.
	Restored int
	Error    string // what is amiss with the rules, "" if nothing is
}

// ConntrackStatus is the state of the kernel's connection tracking as a source.
type ConntrackStatus struct {
	Active     bool
	Problem    string        // what is missing or wrong, "" if nothing is
	Switched   []string      // settings of the kernel that were switched on
	Entries    int           // connections of all networks in the last listing
	Listing    time.Duration // that it took
	Lost       uint64        // how often the kernel dropped events
	Zeroed     uint64        // counters that another program has zeroed
	Unfollowed uint64        // connections that were too many to be followed
	Fates      []Count       // connections that have ended, by what became of them
}

// InterfaceStatus is one monitored interface.
type InterfaceStatus struct {
	Name  string
	State string // "up", "down" or "missing"
	// Coverage are the latest hours, the newest last.
	Coverage []CoverageStatus
}

// CoverageStatus is what of an interface's traffic in an hour is known, in
// bytes without link headers.
type CoverageStatus struct {
	Hour     time.Time
	Since    time.Time // from when on in it both were counted
	Compared bool      // what is known is part of Carried: else one of them lacks what the other has
	Carried  uint64    // by the interface
	Recorded uint64    // of flows
	Named    uint64    // of flows with a name
	Other    uint64    // of connections that are not recorded
}

// SuricataStatus is the state of the events' source.
type SuricataStatus struct {
	State    string    // as suricata.Condition, or "external": not started by the daemon
	Version  string    // "" if unknown
	Outdated string    // the release that mended flaws of this version, "" if none is known
	PID      int       // 0 if it does not run
	Since    time.Time // when this process was started
	Restarts int       // starts after the first
	Error    string    // the last one, "" if none
	Packets  uint64    // received from the kernel by the process
	Drops    uint64    // packets that the kernel dropped before the process read them
	// NotNamed counts connections or data that Suricata left out for want of
	// memory or of earlier packets.
	NotNamed uint64
}

// EventStatus tells what came from Suricata and what became of it.
type EventStatus struct {
	Types []Count // events by type, as Suricata names the types
	Fates []Count // events by what became of them; each has one fate
	// Lines that are no events.
	Malformed, TooLong uint64
	Dropped            uint64 // events for which the queue had no room
	NamesDropped       uint64 // names forgotten because too many connections were open
	Connections        uint64 // of Suricata to the daemon
}

// Count is a named counter.
type Count struct {
	Name string
	N    uint64
}

// FlowStatus tells how many flows there are.
type FlowStatus struct {
	Running int64     // connections that are being followed
	Live    int64     // flows stored
	Limit   int64     // of Live, after which the oldest are removed; 0 if none
	Lost    uint64    // flows that could not be stored
	Oldest  time.Time // start of the oldest flow stored
	Newest  time.Time // start of the newest
}

// DatabaseStatus tells of the live database.
type DatabaseStatus struct {
	Path    string
	Bytes   int64  // size of its files
	Names   int64  // different names stored
	Clients int64  // different clients stored
	Error   string // the last one, "" if none
}

// ArchiveStatus tells of the archive and its last run.
type ArchiveStatus struct {
	Path     string
	Bytes    int64     // size of its files
	Flows    int64     // stored
	Oldest   time.Time // start of the oldest flow
	Lost     int64     // flows in parts of it that are damaged
	ReadOnly bool
	LastRun  time.Time // when it last ran to its end
	Run      store.ArchiveRun
	Error    string // why it is not there or does not run, "" if nothing is amiss
}

// BackupStatus tells of the backup of live.
type BackupStatus struct {
	Last     time.Time
	Segments int           // files
	Bytes    int64         // size of the files
	Damaged  int64         // files that could not be read as a whole, since the daemon's start
	Interval time.Duration // between backups
	Error    string        // why it is not made, "" if it is
}

// LocationStatus tells where the archive and the backup lie.
type LocationStatus struct {
	Mount  string // "" if it is not known
	Device string
	Kind   string // "drive", "internal" (the router's own flash) or "ram"
	Free   int64  // bytes
}

// ClockStatus tells whether the clock is believed.
type ClockStatus struct {
	Plausible bool
	Why       string // why it is not, "" if it is
}

// ListStatus tells of the lists in force.
type ListStatus struct {
	Domains  int // of which something is said
	Services int // that domains belong to
}

// ConfigStatus tells of the configuration in force.
type ConfigStatus struct {
	Loaded time.Time // when it was last read
	// Error is why the file as a whole was refused; the last good configuration
	// is in force then.
	Error    string
	Problems []string // wrong options and lines, each naming file, option, value and what would be right
}

// maxLines bounds the lists of sentences in the reply.
const maxLines = 100

func (a *API) status(ctx context.Context, _ ubus.Table, b *ubus.Builder) error {
	s := a.Status(ctx)
	b.String("version", s.Version)
	b.Int("uptime", int64(s.Uptime/time.Second))
	b.Int("time", a.now().Unix())
	b.String("mode", s.Mode)
	b.String("bytes_from", s.BytesFrom)
	s.Capture.append(b)
	b.Array("interfaces")
	for _, i := range s.Interfaces {
		i.append(b)
	}
	b.Close()
	s.Conntrack.append(b)
	s.Suricata.append(b)
	s.Events.append(b)
	s.Flows.append(b)
	a.appendLeftOut(b, s.LeftOut)
	s.Database.append(b)
	s.Archive.append(b)
	s.Backup.append(b)
	s.appendWritten(b, a.now().In(a.Location()))
	s.Location.append(b)
	b.Table("clock")
	b.Bool("plausible", s.Clock.Plausible)
	b.String("why", line(s.Clock.Why))
	b.Close()
	appendProgress(b, "import", s.Import)
	appendProgress(b, "restore", s.Restore)
	appendLines(b, "set_aside", s.Aside)
	b.Table("lists")
	b.Int("domains", int64(s.Lists.Domains))
	b.Int("services", int64(s.Lists.Services))
	b.Close()
	b.Table("config")
	appendTime(b, "loaded", s.Config.Loaded)
	b.String("error", line(s.Config.Error))
	appendLines(b, "problems", s.Config.Problems)
	b.Close()
	appendLines(b, "warnings", s.Warnings)
	return nil
}

func (s *CaptureStatus) append(b *ubus.Builder) {
	b.Table("capture")
	b.String("way", s.Way)
	b.String("why", line(s.Why))
	b.String("offload", line(s.Offload))
	b.Int("restored", int64(s.Restored))
	b.String("error", line(s.Error))
	b.Close()
}

func (s *InterfaceStatus) append(b *ubus.Builder) {
	b.Table("")
	b.String("name", s.Name)
	b.String("state", s.State)
	b.Array("coverage")
	for _, c := range s.Coverage {
		b.Table("")
		b.Int("hour", c.Hour.Unix())
		b.Int("since", c.Since.Unix())
		b.Bool("compared", c.Compared)
		b.Int("carried", count(c.Carried))
		b.Int("recorded", count(c.Recorded))
		b.Int("named", count(c.Named))
		b.Int("other", count(c.Other))
		b.Close()
	}
	b.Close()
	b.Close()
}

func (s *ConntrackStatus) append(b *ubus.Builder) {
	b.Table("conntrack")
	b.Bool("active", s.Active)
	b.String("problem", line(s.Problem))
	appendLines(b, "switched_on", s.Switched)
	b.Int("entries", int64(s.Entries))
	b.Int("listing_us", s.Listing.Microseconds())
	b.Int("lost", count(s.Lost))
	b.Int("zeroed", count(s.Zeroed))
	b.Int("unfollowed", count(s.Unfollowed))
	appendCounts(b, "fates", s.Fates)
	b.Close()
}

func (s *SuricataStatus) append(b *ubus.Builder) {
	b.Table("suricata")
	b.String("state", s.State)
	b.String("version", s.Version)
	b.String("outdated", s.Outdated)
	b.Int("pid", int64(s.PID))
	appendTime(b, "since", s.Since)
	b.Int("restarts", int64(s.Restarts))
	b.String("error", line(s.Error))
	b.Int("packets", count(s.Packets))
	b.Int("drops", count(s.Drops))
	b.Int("not_named", count(s.NotNamed))
	b.Close()
}

func (s *EventStatus) append(b *ubus.Builder) {
	b.Table("events")
	appendCounts(b, "types", s.Types)
	appendCounts(b, "fates", s.Fates)
	b.Int("malformed", count(s.Malformed))
	b.Int("too_long", count(s.TooLong))
	b.Int("dropped", count(s.Dropped))
	b.Int("names_dropped", count(s.NamesDropped))
	b.Int("connections", count(s.Connections))
	b.Close()
}

func (s *FlowStatus) append(b *ubus.Builder) {
	b.Table("flows")
	b.Int("running", s.Running)
	b.Int("live", s.Live)
	b.Int("limit", s.Limit)
	b.Int("lost", count(s.Lost))
	appendTime(b, "oldest", s.Oldest)
	appendTime(b, "newest", s.Newest)
	b.Close()
}

func (s *DatabaseStatus) append(b *ubus.Builder) {
	b.Table("database")
	b.String("path", s.Path)
	b.Int("bytes", s.Bytes)
	b.Int("names", s.Names)
	b.Int("clients", s.Clients)
	b.String("error", line(s.Error))
	b.Close()
}

func (s *ArchiveStatus) append(b *ubus.Builder) {
	b.Table("archive")
	b.String("path", s.Path)
	b.Int("bytes", s.Bytes)
	b.Int("flows", s.Flows)
	b.Int("lost", s.Lost)
	appendTime(b, "oldest", s.Oldest)
	b.Bool("read_only", s.ReadOnly)
	b.Table("last_run")
	appendTime(b, "time", s.LastRun)
	appendRun(b, s.Run)
	b.Close()
	b.String("error", line(s.Error))
	b.Close()
}

func appendRun(b *ubus.Builder, r store.ArchiveRun) {
	b.Int("moved", r.Moved)
	b.Int("merged", r.Merged)
	b.Int("dropped", r.Dropped)
	b.Int("expired", r.Expired)
	b.Int("written", r.Written)
	b.Int("took_ms", r.Took.Milliseconds())
}

func (s *BackupStatus) append(b *ubus.Builder) {
	b.Table("backup")
	appendTime(b, "last", s.Last)
	b.Int("segments", int64(s.Segments))
	b.Int("bytes", s.Bytes)
	b.Int("damaged", s.Damaged)
	b.Int("interval", int64(s.Interval/time.Second))
	b.String("error", line(s.Error))
	b.Close()
}

// appendWritten appends what was written, by day in the zone of now.
func (s *Status) appendWritten(b *ubus.Builder, now time.Time) {
	b.Table("written")
	today := int64(0)
	for _, d := range s.Written {
		if date(d.Day, now.Location()) == now.Format(time.DateOnly) {
			today += d.Bytes
		}
	}
	b.Int("today", today)
	b.Array("days")
	for _, d := range s.Written {
		b.Table("")
		b.String("day", date(d.Day, now.Location()))
		b.Int("bytes", d.Bytes)
		b.Close()
	}
	b.Close()
	b.Close()
}

// date is the day that begins at a time in Unix ms.
func date(ms int64, loc *time.Location) string {
	return time.UnixMilli(ms).In(loc).Format(time.DateOnly)
}

func (s *LocationStatus) append(b *ubus.Builder) {
	b.Table("location")
	b.String("mount", bounded(s.Mount))
	b.String("device", bounded(s.Device))
	b.String("kind", s.Kind)
	b.Int("free", s.Free)
	b.Close()
}

// appendProgress appends how far something is that goes on, and nothing else.
func appendProgress(b *ubus.Builder, name string, p *store.Progress) {
	if p == nil {
		return
	}
	b.Table(name)
	b.Int("done", p.Done)
	b.Int("total", p.Total)
	b.Close()
}

// appendTime appends Unix seconds, 0 for the zero time.
func appendTime(b *ubus.Builder, name string, t time.Time) {
	if t.IsZero() {
		b.Int(name, 0)
		return
	}
	b.Int(name, t.Unix())
}

func appendCounts(b *ubus.Builder, name string, counts []Count) {
	b.Table(name)
	for _, c := range counts {
		b.Int(bounded(c.Name), count(c.N))
	}
	b.Close()
}

// appendLines appends sentences; of very many the first, and how many more.
func appendLines(b *ubus.Builder, name string, lines []string) {
	b.Array(name)
	for _, s := range lines[:min(len(lines), maxLines)] {
		b.String("", line(s))
	}
	b.Close()
	if n := len(lines) - maxLines; n > 0 {
		b.Int(name+"_left_off", int64(n))
	}
}

// line bounds a sentence.
func line(s string) string {
	const limit = 1000
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}
