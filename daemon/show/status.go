package show

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pakon/ubus"
)

// status is the command `pakon status`.
func (c *command) status(ctx context.Context, args []string) error {
	options := append([]option{
		flag('j', "json", "print the daemon's answer as JSON", &c.json),
	}, c.common()...)
	if err := parse(args, options); err != nil {
		return err
	}
	if c.help {
		return printHelp(c.out, "pakon status [option...]",
			"Tells how monitoring goes and what needs attention.", options, "")
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	reply, err := c.call(ctx, "status", nil)
	if err != nil {
		return err
	}
	if c.json {
		_, err := c.out.Write(append(appendJSON(nil, reply), '\n'))
		return err
	}
	s := statusText{loc: c.loc}
	s.write(reply)
	_, err = c.out.WriteString(s.b.String())
	return err
}

// statusText writes the reply of the method status (see api.Status) for people.
// What a reply does not have is left out.
type statusText struct {
	b   strings.Builder
	loc *time.Location
}

func (s *statusText) line(label, format string, args ...any) {
	if label != "" {
		label += ":"
	}
	fmt.Fprintf(&s.b, "%-15s %s\n", label, clean(strings.TrimSpace(fmt.Sprintf(format, args...))))
}

func (s *statusText) write(t ubus.Table) {
	version, _ := t.String("version")
	uptime, _ := t.Int("uptime")
	s.line("Pakon", "%s, running for %s", version, span(time.Duration(uptime)*time.Second))
	s.capture(t)
	if how, ok := t.Table("capture"); ok {
		s.how(how)
	}
	if connections, ok := t.Table("conntrack"); ok {
		s.conntrack(connections)
	}
	if suricata, ok := t.Table("suricata"); ok {
		s.suricata(suricata)
	}
	if events, ok := t.Table("events"); ok {
		s.events(events)
	}
	if flows, ok := t.Table("flows"); ok {
		s.flows(flows)
	}
	s.leftOut(t)
	if database, ok := t.Table("database"); ok {
		s.database(database)
	}
	s.kept(t)
	if lists, ok := t.Table("lists"); ok {
		domains, _ := lists.Int("domains")
		services, _ := lists.Int("services")
		s.line("Lists", "%d domains, %d services", domains, services)
	}
	config, _ := t.Table("config")
	s.config(config)
	s.list("Warnings", t, "warnings")
}

func (s *statusText) capture(t ubus.Table) {
	mode, _ := t.String("mode")
	from, _ := t.String("bytes_from")
	switch {
	case mode == "":
		s.line("Mode", "monitoring is disabled")
	case from == "":
		s.line("Mode", "%s", mode)
	default:
		s.line("Mode", "%s, bytes are counted by %s", mode, from)
	}
	list, _ := t.Array("interfaces")
	var interfaces []string
	for _, v := range list {
		i, _ := v.(ubus.Table)
		name, _ := i.String("name")
		state, _ := i.String("state")
		interfaces = append(interfaces, name+" "+state)
	}
	if interfaces == nil {
		interfaces = []string{"none"}
	}
	s.line("Interfaces", "%s", strings.Join(interfaces, ", "))
	for _, v := range list {
		i, _ := v.(ubus.Table)
		s.coverage(i)
	}
}

// how tells how packets come.
func (s *statusText) how(t ubus.Table) {
	if way, _ := t.String("way"); way != "" {
		s.line("Capture", "%s", way)
	}
	if why, _ := t.String("why"); why != "" {
		s.line("", "because %s", why)
	}
	if offload, _ := t.String("offload"); offload != "" {
		s.line("", "%s", offload)
	}
	if n, _ := t.Int("restored"); n > 0 {
		s.line("", "its rules were put back %s", times(n))
	}
	s.problem(t)
}

// coverage tells what of the present hour is known.
func (s *statusText) coverage(i ubus.Table) {
	hours, _ := i.Array("coverage")
	if len(hours) == 0 {
		return
	}
	name, _ := i.String("name")
	h, _ := hours[len(hours)-1].(ubus.Table)
	since, _ := h.Int("since")
	compared, _ := h.Bool("compared")
	carried, _ := h.Int("carried")
	recorded, _ := h.Int("recorded")
	named, _ := h.Int("named")
	other, _ := h.Int("other")
	from := time.Unix(since, 0).In(s.loc).Format("15:04")
	if !compared {
		s.line("", "%s since %s: carried %s, recorded %s; %.0f %% of the recorded has a name", name,
			from, plainSize(carried), plainSize(recorded), percent(named, recorded))
		return
	}
	s.line("", "%s since %s: carried %s, %.0f %% of it recorded, %.0f %% not to be recorded; %.0f %% of the recorded has a name", name,
		from, plainSize(carried), percent(recorded, carried), percent(other, carried), percent(named, recorded))
}

func (s *statusText) conntrack(t ubus.Table) {
	if active, _ := t.Bool("active"); !active {
		if problem, _ := t.String("problem"); problem != "" {
			s.line("Connections", "not followed: %s", problem)
		}
		return
	}
	entries, _ := t.Int("entries")
	listing, _ := t.Int("listing_us")
	s.line("Connections", "%d known to the kernel, listed in %.1f ms", entries, float64(listing)/1000)
	fates, _ := t.Table("fates")
	if c := counts(fates); c != "none" {
		s.line("", "ended: %s", c)
	}
	for _, l := range []struct{ key, text string }{
		{"lost", "events were lost %s and made good by listing all"},
		{"zeroed", "counters were zeroed by another program %s"},
		{"unfollowed", "there were too many connections to follow one more %s"},
	} {
		if n, _ := t.Int(l.key); n > 0 {
			s.line("", l.text, times(n))
		}
	}
	if switched, _ := t.Array("switched_on"); len(switched) > 0 {
		s.line("", "switched on: %s", strings.Trim(fmt.Sprint([]any(switched)), "[]"))
	}
	if problem, _ := t.String("problem"); problem != "" {
		s.line("", "%s", problem)
	}
}

func (s *statusText) suricata(t ubus.Table) {
	state, _ := t.String("state")
	parts := []string{state}
	if v, _ := t.String("version"); v != "" {
		parts = append(parts, "version "+v)
	}
	if pid, _ := t.Int("pid"); pid != 0 {
		parts = append(parts, fmt.Sprintf("pid %d", pid))
	}
	if since, _ := t.Int("since"); since != 0 {
		parts = append(parts, "since "+dateTime(since, s.loc))
	}
	if n, _ := t.Int("restarts"); n > 0 {
		parts = append(parts, "restarted "+times(n))
	}
	s.line("Suricata", "%s", strings.Join(parts, ", "))
	if o, _ := t.String("outdated"); o != "" {
		s.line("", "%s mended flaws of this version that a packet can reach", o)
	}
	packets, _ := t.Int("packets")
	drops, _ := t.Int("drops")
	if packets > 0 || drops > 0 {
		s.line("", "%d packets, %d dropped (%.2f %%)", packets, drops, percent(drops, packets))
	}
	if e, _ := t.String("error"); e != "" && state == "running" {
		s.line("", "last error: %s", e)
		return
	}
	s.problem(t)
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// percent is a share, of which the whole may be unknown.
func percent(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

func (s *statusText) problem(t ubus.Table) {
	if e, _ := t.String("error"); e != "" {
		s.line("", "error: %s", e)
	}
}

func (s *statusText) events(t ubus.Table) {
	types, _ := t.Table("types")
	fates, _ := t.Table("fates")
	s.line("Events", "%s", counts(types))
	if c := counts(fates); c != "none" {
		s.line("", "became: %s", c)
	}
	var lost ubus.Table
	for _, name := range []string{"malformed", "too_long", "dropped", "names_dropped"} {
		if n, _ := t.Int(name); n > 0 {
			lost = append(lost, ubus.Field{Name: name, Value: n})
		}
	}
	if lost != nil {
		s.line("", "lost: %s", counts(lost))
	}
}

// counts lists the counters that are not 0.
func counts(t ubus.Table) string {
	var parts []string
	for _, f := range t {
		if n, ok := ubus.AsInt(f.Value); ok && n != 0 {
			parts = append(parts, strings.ReplaceAll(f.Name, "_", " ")+" "+strconv.FormatInt(n, 10))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (s *statusText) flows(t ubus.Table) {
	live, _ := t.Int("live")
	parts := []string{fmt.Sprintf("%d stored", live)}
	if limit, _ := t.Int("limit"); limit > 0 {
		parts[0] += fmt.Sprintf(" of at most %d", limit)
	}
	if running, _ := t.Int("running"); running > 0 {
		parts = append(parts, fmt.Sprintf("%d running", running))
	}
	if lost, _ := t.Int("lost"); lost > 0 {
		parts = append(parts, fmt.Sprintf("%d lost", lost))
	}
	if oldest, _ := t.Int("oldest"); oldest != 0 {
		newest, _ := t.Int("newest")
		parts = append(parts, "from "+dateTime(oldest, s.loc)+" to "+dateTime(newest, s.loc))
	}
	s.line("Flows", "%s", strings.Join(parts, ", "))
}

// leftOut tells how much was not recorded, by reason.
func (s *statusText) leftOut(t ubus.Table) {
	now, _ := t.Int("time")
	today := time.Unix(now, 0).In(s.loc).Format(time.DateOnly)
	label := "Left out"
	for _, l := range []struct{ why, text string }{
		{"excluded_client", "of excluded devices"},
		{"excluded_hostname", "to excluded names"},
		{"unanswered", "that nobody answered"},
		{"dns_flow", "of DNS"},
	} {
		all := leftOut(t, func(_, why string) bool { return why == l.why })
		if all == 0 {
			continue
		}
		of := leftOut(t, func(day, why string) bool { return why == l.why && day == today })
		s.line(label, "%s %s today, %s in a month", plainSize(of), l.text, plainSize(all))
		label = ""
	}
}

func (s *statusText) database(t ubus.Table) {
	path, _ := t.String("path")
	bytes, _ := t.Int("bytes")
	names, _ := t.Int("names")
	clients, _ := t.Int("clients")
	s.line("Database", "%s, %s, %d names, %d devices", path, plainSize(bytes), names, clients)
	s.problem(t)
}

// kept tells of what is on the drive.
func (s *statusText) kept(t ubus.Table) {
	if archive, ok := t.Table("archive"); ok {
		s.archive(archive)
	}
	if backup, ok := t.Table("backup"); ok {
		s.backup(backup)
	}
	location, _ := t.Table("location")
	if mount, _ := location.String("mount"); mount != "" {
		device, _ := location.String("device")
		kind, _ := location.String("kind")
		free, _ := location.Int("free")
		what := map[string]string{"drive": "a drive", "internal": "the router's own flash", "ram": "RAM, gone with a reboot"}[kind]
		s.line("Kept on", "%s (%s): %s, %s free", mount, device, cmp.Or(what, kind), plainSize(free))
	}
	written, _ := t.Table("written")
	if days, _ := written.Array("days"); len(days) > 0 {
		today, _ := written.Int("today")
		most := int64(0)
		for _, v := range days {
			d, _ := v.(ubus.Table)
			n, _ := d.Int("bytes")
			most = max(most, n)
		}
		s.line("", "written: %s today, at most %s on a day (of %d)", plainSize(today), plainSize(most), len(days))
	}
	clock, _ := t.Table("clock")
	if why, _ := clock.String("why"); why != "" {
		s.line("Clock", "can not be believed: %s", why)
	}
	for _, p := range []struct{ key, label, what string }{
		{"restore", "Restoring", "parts of the backup"}, {"import", "Importing", "rows of the original Pakon"},
	} {
		if progress, ok := t.Table(p.key); ok {
			done, _ := progress.Int("done")
			total, _ := progress.Int("total")
			s.line(p.label, "%d of %d %s", done, total, p.what)
		}
	}
	s.list("Set aside", t, "set_aside")
}

func (s *statusText) archive(t ubus.Table) {
	path, _ := t.String("path")
	if path == "" {
		return
	}
	flows, _ := t.Int("flows")
	bytes, _ := t.Int("bytes")
	parts := []string{path, plainSize(bytes), fmt.Sprintf("%d flows", flows)}
	if oldest, _ := t.Int("oldest"); oldest != 0 {
		parts[2] += " since " + dateTime(oldest, s.loc)
	}
	if only, _ := t.Bool("read_only"); only {
		parts = append(parts, "can only be read")
	}
	s.line("Archive", "%s", strings.Join(parts, ", "))
	run, _ := t.Table("last_run")
	if at, _ := run.Int("time"); at != 0 {
		took, _ := run.Int("took_ms")
		text := "last run " + dateTime(at, s.loc)
		if took > 0 { // it was of this process
			bytes, _ := run.Int("written")
			text += fmt.Sprintf(": %s; %s written in %.1f s", counts(slices.DeleteFunc(slices.Clone(run), func(f ubus.Field) bool {
				return f.Name == "time" || f.Name == "took_ms" || f.Name == "written"
			})), plainSize(bytes), float64(took)/1000)
		}
		s.line("", "%s", text)
	}
	s.problem(t)
}

func (s *statusText) backup(t ubus.Table) {
	interval, _ := t.Int("interval")
	if interval == 0 {
		return
	}
	parts := []string{"every " + span(time.Duration(interval)*time.Second)}
	if last, _ := t.Int("last"); last != 0 {
		segments, _ := t.Int("segments")
		bytes, _ := t.Int("bytes")
		parts = append(parts, "last "+dateTime(last, s.loc), fmt.Sprintf("%d files of %s", segments, plainSize(bytes)))
	}
	if damaged, _ := t.Int("damaged"); damaged > 0 {
		parts = append(parts, fmt.Sprintf("%d damaged", damaged))
	}
	s.line("Backup", "%s", strings.Join(parts, ", "))
	s.problem(t)
}

func (s *statusText) config(t ubus.Table) {
	if loaded, _ := t.Int("loaded"); loaded != 0 {
		s.line("Configuration", "read %s", dateTime(loaded, s.loc))
	}
	s.problem(t)
	s.list("Wrong in files", t, "problems")
}

// list writes an array of sentences, if there are any.
func (s *statusText) list(label string, t ubus.Table, name string) {
	lines, _ := t.Array(name)
	for _, v := range lines {
		if text, ok := v.(string); ok {
			s.line(label, "%s", text)
			label = ""
		}
	}
	if n, _ := t.Int(name + "_left_off"); n > 0 {
		s.line("", "and %d more", n)
	}
}
