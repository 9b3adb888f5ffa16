package show

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"pakon/daemon/api/timespec"
	"pakon/ubus"
)

// pageFlows is how many flows are asked for at once.
const pageFlows = 1000

// showOptions are those of `pakon show`.
type showOptions struct {
	start, end  string // as given, "" if not
	macs, hosts ubus.Array
	noFilter    bool
	detail      bool
	aggregate   bool
	csv         bool
	follow      bool
	by          string
	direction   string
	sort        string
	limit       int64 // 0: all
}

const timeForms = `Times (for -s and -e) are absolute:
  dd-mm-yyyyThh:mm:ss   such as 11-11-2017T11:11:11
  dd-mm-yyyy            such as 11-11-2017, the start of that day
  @UNIXTIME             such as @1510394400
or relative to now:
  -NUM                  seconds ago, such as -604800
  -NUMm, -NUMh          minutes, hours ago, such as -10080m, -168h
  -NUMd, -NUMw          days, weeks ago, such as -7d, -1w
  now
`

// show is the command `pakon show`.
func (c *command) show(ctx context.Context, args []string) error {
	var o showOptions
	options := c.showOptions(&o)
	if err := parse(args, options); err != nil {
		return err
	}
	if c.help {
		return printHelp(c.out, "pakon-show [option...], pakon show [option...]",
			"Shows which device talked to what, when and how much.", options, timeForms)
	}
	if err := o.check(c.json); err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	switch {
	case o.follow:
		return c.follow(ctx, &o)
	case o.by != "":
		return c.summary(ctx, &o)
	}
	return c.walk(ctx, &o)
}

func (c *command) showOptions(o *showOptions) []option {
	return append([]option{
		{'s', "start", "TIME", "flows that were running then or later", c.timeOption(&o.start)},
		{'e', "end", "TIME", "flows that began before", c.timeOption(&o.end)},
		{'m', "mac", "MAC", "flows of the device with this MAC address or name, or of\nthe one without a MAC that has this address;\nmay be repeated", listOption("mac", &o.macs)},
		{'H', "hostname", "NAME", "flows to this host, its subdomains or its group\n(by key or label); may be repeated", listOption("hostname", &o.hosts)},
		flag(0, "no-filter", "show trackers, advertisements and other clutter too", &o.noFilter),
		flag(0, "detail", "show names as they were seen, not what they belong to", &o.detail),
		flag('A', "aggregate", "one row for each device, host and port", &o.aggregate),
		flag('j', "json", "print JSON: an array with an array for each row", &c.json),
		flag(0, "csv", "print CSV, sizes in bytes and durations in seconds", &o.csv),
		flag(0, "follow", "print new flows as they begin and as they end (those that\nlast a while twice), until interrupted;\nwith -j one JSON array a line", &o.follow),
		{0, "by", "KEY[,KEY]", "sums by one or two of client, hostname, hour, day, week\nand month; may be repeated", func(s string) error {
			if o.by != "" {
				s = o.by + "," + s
			}
			o.by = s
			return checkBy(s)
		}},
		{0, "direction", "DIR", "out, in or both: who opened the connection: the device\n(the default), someone outside, or either", func(s string) error {
			if s != "out" && s != "in" && s != "both" {
				return usagef("option --direction: %q: want out, in or both", s)
			}
			o.direction = s
			return nil
		}},
		{0, "sort", "KEY", "time, sent, recvd, total or duration; with - in\nfront of it for descending order", func(s string) error {
			switch strings.TrimPrefix(s, "-") {
			case "time", "sent", "recvd", "total", "duration":
				o.sort = s
				return nil
			}
			return usagef("option --sort: %q: want time, sent, recvd, total or duration, with - in front for descending order", s)
		}},
		{0, "limit", "NUM", "at most so many rows", func(s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < 1 {
				return usagef("option --limit: %q: want a number from 1", s)
			}
			o.limit = n
			return nil
		}},
	}, c.common()...)
}

// timeOption checks a time; which moment it means is known with the time zone,
// once all options are read.
func (c *command) timeOption(to *string) func(string) error {
	return func(s string) error {
		if _, err := timespec.ParseTime(s, c.now, time.UTC); err != nil {
			return usagef("%v", err)
		}
		*to = s
		return nil
	}
}

func listOption(name string, to *ubus.Array) func(string) error {
	return func(s string) error {
		if strings.TrimSpace(s) == "" {
			return usagef("option --%s: want a name", name)
		}
		*to = append(*to, s)
		return nil
	}
}

func checkBy(s string) error {
	seen := make(map[string]bool)
	for _, key := range strings.Split(s, ",") {
		switch key {
		case "client", "hostname", "hour", "day", "week", "month":
		default:
			return usagef("option --by: %q: want one or two of client, hostname, hour, day, week, month", s)
		}
		if seen[key] {
			return usagef("option --by: %q: %s twice", s, key)
		}
		seen[key] = true
	}
	if len(seen) > 2 {
		return usagef("option --by: %q: want at most two keys", s)
	}
	return nil
}

// check finds options that contradict each other.
func (o *showOptions) check(json bool) error {
	for _, pair := range []struct {
		both bool
		text string
	}{
		{json && o.csv, "--json and --csv"},
		{o.by != "" && o.aggregate, "--by and --aggregate"},
		{o.by != "" && o.sort != "", "--by and --sort"},
		{o.follow && o.by != "", "--follow and --by"},
		{o.follow && o.aggregate, "--follow and --aggregate"},
		{o.follow && o.sort != "", "--follow and --sort"},
		{o.follow && (o.start != "" || o.end != ""), "--follow, which shows new flows, and --start or --end"},
	} {
		if pair.both {
			return usagef("%s exclude each other", pair.text)
		}
	}
	return nil
}

// arguments are those of the method query or summary. Relative times become
// absolute here, so that all pages are of the same window.
func (c *command) arguments(o *showOptions) (ubus.Table, error) {
	var t ubus.Table
	add := func(name string, v any) { t = append(t, ubus.Field{Name: name, Value: v}) }
	for _, w := range []struct{ name, value string }{{"start", o.start}, {"end", o.end}} {
		if w.value == "" {
			continue
		}
		ms, err := timespec.ParseTime(w.value, c.now, c.loc)
		if err != nil {
			return nil, err
		}
		add(w.name, ms/1000)
	}
	if o.macs != nil {
		add("mac", o.macs)
	}
	if o.hosts != nil {
		add("hostname", o.hosts)
	}
	if o.noFilter {
		add("filter", false)
	}
	if o.direction != "" {
		add("direction", o.direction)
	}
	return t, nil
}

// order is how flows are sorted: by time, and sums by their size, so that the
// largest stand above the prompt.
func (o *showOptions) order() string {
	switch {
	case o.sort != "":
		return o.sort
	case o.aggregate:
		return "total"
	}
	return "time"
}

// walk asks for page after page and writes the flows.
func (c *command) walk(ctx context.Context, o *showOptions) error {
	base, err := c.arguments(o)
	if err != nil {
		return err
	}
	w := c.flowWriter(o)
	base = append(base, ubus.Field{Name: "aggregate", Value: o.aggregate}, ubus.Field{Name: "sort", Value: o.order()})
	left, cursor := o.limit, ""
	var hidden hiddenFlows
	for {
		page := int64(pageFlows)
		if o.limit > 0 {
			page = min(page, left)
		}
		args := append(base[:len(base):len(base)], ubus.Field{Name: "limit", Value: int32(page)})
		if cursor != "" {
			args = append(args, ubus.Field{Name: "cursor", Value: cursor})
		} else if !o.noFilter {
			args = append(args, ubus.Field{Name: "count", Value: true})
		}
		reply, err := c.call(ctx, "query", args)
		if err != nil {
			return err
		}
		flows, ok := reply.Array("flows")
		if !ok {
			return errors.New("the daemon's answer has no flows: is it of the same version?")
		}
		for _, v := range flows {
			t, _ := v.(ubus.Table)
			w.add(readFlow(t, o.detail))
		}
		if err := w.flush(); err != nil {
			return err
		}
		if cursor == "" {
			hidden = readHidden(reply)
		}
		left -= int64(len(flows))
		next, _ := reply.String("next")
		if next == "" || o.limit > 0 && left <= 0 {
			return errors.Join(w.end(), c.tellHidden(o, hidden))
		}
		if next == cursor || len(flows) == 0 {
			return errors.New("the daemon's answer does not go on where the one before ended")
		}
		cursor = next
	}
}

// hiddenFlows is how much the lists have left out.
type hiddenFlows struct{ flows, bytes int64 }

// readHidden reads it of a reply.
func readHidden(reply ubus.Table) (h hiddenFlows) {
	t, _ := reply.Table("hidden")
	h.flows, _ = t.Int("flows")
	h.bytes, _ = t.Int("bytes")
	return h
}

// tellHidden says how much the lists have left out: below a table for people, on
// stderr where programs read the output.
func (c *command) tellHidden(o *showOptions, h hiddenFlows) error {
	if h.flows == 0 {
		return nil
	}
	flows := "flows"
	if h.flows == 1 {
		flows = "flow"
	}
	text := fmt.Sprintf("hidden by the lists: %d %s, %s (--no-filter shows them)\n", h.flows, flows, plainSize(h.bytes))
	var err error
	if c.json || o.csv {
		_, err = fmt.Fprintf(c.errOut, "%s: %s", c.name, text)
	} else {
		_, err = c.out.WriteString(text)
	}
	return err
}

// flowRow is a flow as the daemon's replies have it.
type flowRow struct {
	start, duration, port, sent, recvd int64
	client, host, proto, app           string
	in, running                        bool
}

// byPort is the source of a name that is what the port says, and not the far end's.
const byPort = "port"

// readFlow reads one flow of a reply. The host is called by its group, else by
// its name, else by its address; in detail by its name or else its address, if it
// has one of these.
func readFlow(t ubus.Table, detail bool) flowRow {
	var f flowRow
	f.start, _ = t.Int("start")
	f.duration, _ = t.Int("duration")
	f.port, _ = t.Int("port")
	f.sent, _ = t.Int("sent")
	f.recvd, _ = t.Int("recvd")
	f.client, _ = t.String("client")
	f.proto, _ = t.String("proto")
	if f.app, _ = t.String("app_proto"); f.app == "" {
		f.app = "?"
	}
	keys := []string{"group", "hostname", "address"}
	if source, _ := t.String("source"); detail && source == byPort {
		keys = []string{"address", "hostname", "group"}
	} else if detail {
		keys = []string{"hostname", "address", "group"}
	}
	for _, key := range keys {
		if f.host, _ = t.String(key); f.host != "" {
			break
		}
	}
	direction, _ := t.String("direction")
	f.in = direction == "in"
	f.running, _ = t.Bool("running")
	return f
}
