package show

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"pakon/daemon/api/timespec"
	"pakon/ubus"
)

func answerFlows(t *testing.T) func(string, ubus.Table) (ubus.Table, ubus.Status) {
	reply := fromJSON(t, flowsReply)
	return func(string, ubus.Table) (ubus.Table, ubus.Status) { return reply, ubus.StatusOK }
}

func TestFormats(t *testing.T) {
	r := newRig(t, answerFlows(t))
	for _, tt := range []struct {
		golden string
		args   []string
	}{
		{"table.txt", nil},
		{"aggregate.txt", []string{"-A"}},
		{"both.txt", []string{"--direction", "both"}},
		{"rows.json", []string{"-j"}},
		{"aggregate.json", []string{"-Aj"}},
		{"both.json", []string{"--json", "--direction=both"}},
		{"rows.csv", []string{"--csv"}},
		{"aggregate.csv", []string{"--csv", "--aggregate"}},
	} {
		status, out, errOut := r.run(t, append([]string{"show"}, tt.args...)...)
		if status != 0 || errOut != "" {
			t.Errorf("%v: status %d, stderr %q", tt.args, status, errOut)
		}
		golden(t, tt.golden, out)
		for _, c := range out {
			if c != '\n' && c != '\r' && !unicode.IsPrint(c) {
				t.Errorf("%v: output has %q", tt.args, c)
			}
		}
	}
}

// What scripts read of -j.
func TestJSONIsAsBefore(t *testing.T) {
	r := newRig(t, answerFlows(t))
	_, out, _ := r.run(t, "show", "-j")
	const first = `[["2019-09-04 03:37:42", 81, "00:01:02:03:04:05", "google.com", "443/udp", "?", 35840, 429056], [`
	if !strings.HasPrefix(out, first) || strings.Count(out, "\n") != 1 {
		t.Errorf("-j prints\n%s, want one line that begins\n%s", out, first)
	}
	var rows [][]any
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 5 || len(rows[4]) != 8 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if rows[4][3] != "evil\x1b[31m\u009b\u202ename\a" || rows[3][7] != float64(1<<50) {
		t.Errorf("rows\n%q", rows)
	}
}

func TestCSV(t *testing.T) {
	r := newRig(t, answerFlows(t))
	_, out, _ := r.run(t, "show", "--csv")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 6 || len(rows[0]) != 8 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if rows[5][2] != `'=cmd()\x7ca` || rows[5][5] != "'+x" || rows[1][7] != "429056" || rows[1][1] != "81" {
		t.Errorf("rows %q", rows)
	}
}

// TestCSVFormulas: no spreadsheet takes what a device or a server calls itself for a
// formula, at whatever it divides lines.
func TestCSVFormulas(t *testing.T) {
	const separators = ",;\t|"
	for _, tt := range []struct{ name, want string }{
		{"x;=1+1;", `x\x3b=1+1\x3b`},
		{"x;\"=1+1\";", `x\x3b"=1+1"\x3b`},
		{"x|@SUM(1)", `x\x7c@SUM(1)`},
		{"x\t=1+1", `x\x09=1+1`},
		{"x\r=1+1", `x\x0d=1+1`},
		{"x\n+1", `x\x0a+1`},
		{"=1+1", "'=1+1"},
		{"+1", "'+1"},
		{"-1", "'-1"},
		{"@SUM(1)", "'@SUM(1)"},
		{" =1+1", "' =1+1"},
		{"  -1", "'  -1"},
		{"\t=1+1", `\x09=1+1`},
		{"\r@x", `\x0d@x`},
		{"\u00a0=1", `\u00a0=1`},
		{"\ufeff=1", `\ufeff=1`},
		{"\"=1+1", `'"=1+1`},
		{"'=1+1", "''=1+1"},
		{" \" '=1+1", `' " '=1+1`},
		{"＝1", "'＝1"},
		{"＋1", "'＋1"},
		{"－1", "'－1"},
		{"＠x", "'＠x"},
		{"a,=1", "a,=1"}, // quoted
		{"Anna's \"phone\" - old", "Anna's \"phone\" - old"},
		{"a-b.example", "a-b.example"},
		{"", ""},
	} {
		flows := ubus.Array{ubus.Table{{Name: "start", Value: int32(1)}, {Name: "client", Value: tt.name}, {Name: "hostname", Value: tt.name}, {Name: "app_proto", Value: tt.name}}}
		rows := ubus.Array{ubus.Table{{Name: "client", Value: tt.name}, {Name: "hostname", Value: tt.name}}}
		r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) {
			return ubus.Table{{Name: "flows", Value: flows}, {Name: "rows", Value: rows}}, ubus.StatusOK
		})
		for _, args := range [][]string{{"show", "--csv"}, {"show", "--csv", "-A"}, {"show", "--csv", "--by", "client,hostname"}} {
			_, out, _ := r.run(t, args...)
			read, err := csv.NewReader(strings.NewReader(out)).ReadAll()
			if err != nil || len(read) != 2 || !slices.Contains(read[1], cmp.Or(tt.want, "?")) {
				t.Errorf("%q: %v prints %q, want the cell %q, %v", tt.name, args, out, tt.want, err)
			}
			// Whatever divides a line but the comma, which quotes keep.
			for _, s := range separators[1:] {
				line := strings.Split(out, "\r\n")[1]
				if cells := strings.Split(line, string(s)); len(cells) != 1 {
					t.Errorf("%q: %v prints %q, which %q divides", tt.name, args, line, s)
				}
			}
		}
	}
}

func TestNoFlows(t *testing.T) {
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) {
		return ubus.Table{{Name: "flows", Value: ubus.Array{}}}, ubus.StatusOK
	})
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"show"}, "no records to show\n"},
		{[]string{"show", "-j"}, "[]\n"},
		{[]string{"show", "--csv"}, "datetime,dur,src MAC,hostname,dst port,proto,sent,recvd\r\n"},
	} {
		if status, out, errOut := r.run(t, tt.args...); status != 0 || out != tt.want || errOut != "" {
			t.Errorf("%v: status %d, %q, stderr %q; want %q", tt.args, status, out, errOut, tt.want)
		}
	}
}

// What the daemon is asked for each way to write an option.
func TestQueries(t *testing.T) {
	r := newRig(t, func(method string, _ ubus.Table) (ubus.Table, ubus.Status) {
		return ubus.Table{{Name: "flows", Value: ubus.Array{}}, {Name: "rows", Value: ubus.Array{}}}, ubus.StatusOK
	})
	// Arguments always sent.
	const tail = `"aggregate":false,"sort":"time","limit":1000,"count":true}`
	for _, tt := range []struct{ args, want string }{
		{"", `{` + tail},
		{"-s @1567561062", `{"start":1567561062,` + tail},
		{"-s@1567561062", `{"start":1567561062,` + tail},
		{"--start @1567561062 --end=@1567561063", `{"start":1567561062,"end":1567561063,` + tail},
		{"-s 11-11-2017 -e 11-11-2017T11:11:11", `{"start":1510354800,"end":1510395071,` + tail},
		{"--sta=11-11-2017", `{"start":1510354800,` + tail},
		{"-m 00:01:02:03:04:05 -m Laptop", `{"mac":["00:01:02:03:04:05","Laptop"],` + tail},
		{"--mac=Laptop", `{"mac":["Laptop"],` + tail},
		{"-H example.org --hostname example.net -Hexample.com", `{"hostname":["example.org","example.net","example.com"],` + tail},
		{"--no-filter", `{"filter":false,"aggregate":false,"sort":"time","limit":1000}`},
		{"--direction in", `{"direction":"in",` + tail},
		{"--sort -sent", `{"aggregate":false,"sort":"-sent","limit":1000,"count":true}`},
		{"-A", `{"aggregate":true,"sort":"total","limit":1000,"count":true}`},
		{"-A --sort time", `{"aggregate":true,"sort":"time","limit":1000,"count":true}`},
		{"-jAs@5 -mx", `{"start":5,"mac":["x"],"aggregate":true,"sort":"total","limit":1000,"count":true}`},
		{"--limit 5", `{"aggregate":false,"sort":"time","limit":5,"count":true}`},
		{"--limit 5000", `{` + tail},
		{"--by client", `{"by":["client"],"limit":10000}`},
		{"--by client --by hostname", `{"by":["client","hostname"],"limit":10000}`},
		{"--by day,hostname --limit 7 -m x", `{"mac":["x"],"by":["day","hostname"],"limit":7}`},
	} {
		status, _, errOut := r.run(t, append([]string{"show"}, strings.Fields(tt.args)...)...)
		calls := r.take()
		if status != 0 || errOut != "" || len(calls) != 1 {
			t.Errorf("%s: status %d, stderr %q, %d calls", tt.args, status, errOut, len(calls))
			continue
		}
		if calls[0].args != tt.want {
			t.Errorf("%s asks %s\nwant %s", tt.args, calls[0].args, tt.want)
		}
	}
}

func TestRelativeTimes(t *testing.T) {
	r := newRig(t, answerFlows(t))
	for _, args := range [][]string{{"-s", "-7d"}, {"-s-7d"}, {"--start=-7d"}, {"--start", "-7d"}, {"-s", "-604800"}, {"-s", "-1w"}, {"-As-168h"}} {
		before := time.Now().Unix()
		status, _, errOut := r.run(t, append([]string{"show"}, args...)...)
		after := time.Now().Unix()
		calls := r.take()
		if status != 0 || len(calls) != 1 {
			t.Errorf("%v: status %d, stderr %q", args, status, errOut)
			continue
		}
		start, _ := fromJSON(t, calls[0].args).Int("start")
		if start < before-7*86400 || start > after-7*86400 {
			t.Errorf("%v asks for start %d", args, start)
		}
	}
}

// Pages are asked for until there are no more, or enough.
func TestPages(t *testing.T) {
	const n = 2500
	answer := func(_ string, args ubus.Table) (ubus.Table, ubus.Status) {
		from := 0
		if c, ok := args.String("cursor"); ok {
			fmt.Sscan(c, &from)
		}
		limit, _ := args.Int("limit")
		var flows ubus.Array
		for i := from; i < min(from+int(limit), n); i++ {
			flows = append(flows, ubus.Table{{Name: "start", Value: int64(1567561062 + i)}, {Name: "client", Value: strings.Repeat("x", 1+i/1000)}})
		}
		reply := ubus.Table{{Name: "flows", Value: flows}}
		if from+len(flows) < n {
			reply = append(reply, ubus.Field{Name: "next", Value: fmt.Sprint(from + len(flows))})
		}
		return reply, ubus.StatusOK
	}
	r := newRig(t, answer)
	for _, tt := range []struct {
		args  []string
		want  int
		calls int
	}{{nil, n, 3}, {[]string{"--limit", "1200"}, 1200, 2}, {[]string{"--limit", "1000"}, 1000, 1}, {[]string{"--limit", "99999"}, n, 3}} {
		status, out, errOut := r.run(t, append([]string{"show", "-j"}, tt.args...)...)
		var rows [][]any
		if err := json.Unmarshal([]byte(out), &rows); err != nil || status != 0 {
			t.Fatalf("%v: status %d, %v, stderr %q", tt.args, status, err, errOut)
		}
		if calls := r.take(); len(rows) != tt.want || len(calls) != tt.calls {
			t.Errorf("%v: %d rows in %d calls, want %d in %d", tt.args, len(rows), len(calls), tt.want, tt.calls)
		}
	}
	// Columns only ever get wider.
	_, out, _ := r.run(t, "show")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != n+2 {
		t.Fatalf("%d lines", len(lines))
	}
	for i := 1; i < len(lines); i++ {
		if len(lines[i]) < len(lines[i-1]) || strings.Count(lines[i], "|") != 9 {
			t.Fatalf("line %d: %q after %q", i, lines[i], lines[i-1])
		}
	}
}

func TestWrongUsage(t *testing.T) {
	r := newRig(t, answerFlows(t))
	for _, tt := range []struct {
		args string
		want string
	}{
		{"show -s", "option -s needs a value"},
		{"show --start", "option --start needs a value"},
		{"show -s yesterday", `"yesterday"`},
		{"show -s 31-02-2020", `"31-02-2020"`},
		{"show -s 604800", `"604800"`},
		{"show -7d", `"-7d"`},
		{"show extra", `unexpected argument "extra"`},
		{"show -- extra", `unexpected argument "extra"`},
		{"show -x", `unknown option "-x"`},
		{"show --colour", `unknown option "--colour"`},
		{"show --", ""},
		{"show --json=yes", "option --json takes no value"},
		{"show --ha", "unknown option"},
		{"show --h", "ambiguous"},
		{"show --by colour", "want one or two of client"},
		{"show --by client,client", "client twice"},
		{"show --by client,hostname,day", "at most two"},
		{"show --by client --by hostname --by day", "at most two"},
		{"show --by client --by client", "client twice"},
		{"show --by client -A", "--by and --aggregate exclude each other"},
		{"show --csv -j", "--json and --csv exclude each other"},
		{"show --follow -s -1h", "--follow"},
		{"show --follow -A", "--follow and --aggregate"},
		{"show --direction up", "want out, in or both"},
		{"show --sort name", "want time, sent"},
		{"show --limit 0", "want a number from 1"},
		{"show --limit x", "want a number from 1"},
		{"show -m", "option -m needs a value"},
		{"show --mac=", "option --mac: want a name"},
		{"status --csv", "unknown option"},
		{"clients extra", "unexpected argument"},
		{"dance", `unknown command "dance"`},
		{"forget", "want one of --mac, --hostname, --before and --all"},
		{"forget -y", "want one of --mac"},
		{"forget --all -m laptop -y", "want one of --mac"},
		{"forget -m laptop -H example.org -y", "want one of --mac"},
		{"forget --before soon -y", `"soon"`},
		{"forget -m laptop", "no terminal to ask on: want --yes"},
	} {
		args := strings.Fields(tt.args)
		status, out, errOut := r.run(t, args...)
		if tt.want == "" {
			if status != 0 {
				t.Errorf("%s: status %d, stderr %q", tt.args, status, errOut)
			}
			continue
		}
		if status != 2 || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, tt.want) {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want 2 and %q", tt.args, status, out, errOut, tt.want)
		}
	}
	var errOut bytes.Buffer
	if status := Run(t.Context(), nil, io.Discard, &errOut); status != 2 || strings.Count(errOut.String(), "\n") != 1 {
		t.Errorf("no command: status %d, stderr %q", status, errOut.String())
	}
}

func TestHelp(t *testing.T) {
	for _, cmd := range []string{"show", "status", "clients", "forget"} {
		for _, flag := range []string{"-h", "--help"} {
			var out, errOut bytes.Buffer
			if status := Run(t.Context(), []string{cmd, flag}, &out, &errOut); status != 0 || errOut.Len() > 0 {
				t.Errorf("%s %s: status %d, stderr %q", cmd, flag, status, errOut.String())
			}
			golden(t, "help-"+cmd+".txt", out.String())
		}
	}
}

// An error is one line that says what to do, and status 1.
func TestErrors(t *testing.T) {
	noBus := &rig{socket: filepath.Join(t.TempDir(), "none.sock")}
	noObject := newRig(t, nil)
	failing := func(s ubus.Status) *rig {
		return newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return nil, s })
	}
	other := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return ubus.Table{}, ubus.StatusOK })
	for _, tt := range []struct {
		r    *rig
		args []string
		want string
	}{
		{noBus, []string{"show"}, "/etc/init.d/pakon start"},
		{noBus, []string{"status", "--json"}, "/etc/init.d/pakon start"},
		{noObject, []string{"show", "-j"}, "/etc/init.d/pakon start"},
		{noObject, []string{"show", "--follow"}, "/etc/init.d/pakon start"},
		{noObject, []string{"show", "--by", "client"}, "/etc/init.d/pakon start"},
		{noObject, []string{"status"}, "/etc/init.d/pakon start"},
		{noObject, []string{"clients"}, "/etc/init.d/pakon start"},
		{failing(ubus.StatusInvalidArgument), []string{"show"}, "logread"},
		{failing(ubus.StatusUnknownError), []string{"show"}, "logread"},
		{failing(ubus.StatusPermissionDenied), []string{"show"}, "root"},
		{failing(ubus.StatusMethodNotFound), []string{"show"}, "/etc/init.d/pakon restart"},
		{failing(99), []string{"show"}, "status 99"},
		{other, []string{"show"}, "same version"},
		{other, []string{"clients"}, "same version"},
		{other, []string{"show", "--by", "day"}, "same version"},
		{other, []string{"forget", "--all", "-y"}, "same version"},
		{noObject, []string{"forget", "--all", "-y"}, "/etc/init.d/pakon start"},
		{failing(ubus.StatusInvalidArgument), []string{"forget", "-m", "nobody", "-y"}, "logread"},
	} {
		status, out, errOut := tt.r.run(t, tt.args...)
		if status != 1 || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, tt.want) {
			t.Errorf("%v: status %d, stdout %q, stderr %q; want 1 and %q", tt.args, status, out, errOut, tt.want)
		}
	}
}

// The bus may be at either of its two places below the root.
func TestSocketPlaces(t *testing.T) {
	for _, place := range sockets {
		root := t.TempDir()
		r := newRig(t, answerFlows(t))
		link := filepath.Join(root, place)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(r.socket, link); err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		if status := Run(t.Context(), []string{"show", "-j", "--root", root}, &out, &errOut); status != 0 {
			t.Errorf("%s: status %d, stderr %q", place, status, errOut.String())
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestOutputFails(t *testing.T) {
	r := newRig(t, answerFlows(t))
	for _, cmd := range []string{"show", "status"} {
		var errOut bytes.Buffer
		status := Run(t.Context(), []string{cmd, "--ubus-socket", r.socket}, brokenWriter{}, &errOut)
		if status != 1 || !strings.Contains(errOut.String(), "disk full") {
			t.Errorf("%s: status %d, stderr %q", cmd, status, errOut.String())
		}
	}
}

func TestSummaryFormats(t *testing.T) {
	reply := fromJSON(t, `{"rows":[
		{"day":"2026-03-09","start":1773010800,"hostname":"a-very-long-name-of-a-host.cdn.some-provider.example.org","sent":71680,"recvd":858112,"flows":2,"duration":162},
		{"day":"2026-03-10","start":1773097200,"hostname":"","sent":1,"recvd":0,"flows":1,"duration":0}],"truncated":true}`)
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return reply, ubus.StatusOK })
	for name, args := range map[string][]string{"by.txt": nil, "by.json": {"-j"}, "by.csv": {"--csv"}} {
		status, out, errOut := r.run(t, append([]string{"show", "--by", "day,hostname"}, args...)...)
		if status != 0 || !strings.Contains(errOut, "not all") {
			t.Errorf("%v: status %d, stderr %q", args, status, errOut)
		}
		golden(t, name, out)
	}
}

func TestClientsFormats(t *testing.T) {
	reply := fromJSON(t, `{"clients":[
		{"mac":"00:01:02:03:04:05","name":"laptop\u001b[2J","name_source":"static","vendor":"Dell","random":false,"earlier":"","addresses":["192.168.1.10","2001:db8::10"],"interface":"br-lan","first_seen":1773072000,"last_seen":1773136800,"sent":71680,"recvd":858112},
		{"mac":"3c:22:fb:00:3a:b7","name":"Apple 3a:b7","name_source":"vendor","vendor":"Apple","random":false,"earlier":"","addresses":[],"interface":"br-lan","first_seen":1773072000,"last_seen":1773136800,"sent":0,"recvd":0},
		{"mac":"02:01:02:03:04:05","name":"","name_source":"","vendor":"","random":true,"earlier":"","addresses":[],"interface":"br-lan","first_seen":1773072000,"last_seen":1773136800,"sent":0,"recvd":0},
		{"mac":"02:01:02:03:04:06","name":"Annas-phone","name_source":"lease","vendor":"","random":true,"earlier":"02:01:02:03:04:05","addresses":["2001:db8::11","192.168.1.11","192.168.1.12"],"interface":"br-lan","first_seen":1773072000,"last_seen":1773136800,"sent":0,"recvd":0},
		{"mac":"","name":"","addresses":["10.8.0.2"],"interface":"wg0","first_seen":0,"last_seen":0,"sent":1,"recvd":2},
		{"mac":"","name":"","addresses":[],"interface":"","first_seen":0,"last_seen":0,"sent":0,"recvd":0}]}`)
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return reply, ubus.StatusOK })
	for name, args := range map[string][]string{"clients.txt": nil, "clients.json": {"--json"}} {
		status, out, errOut := r.run(t, append([]string{"clients"}, args...)...)
		if status != 0 || errOut != "" {
			t.Errorf("%v: status %d, stderr %q", args, status, errOut)
		}
		golden(t, name, out)
	}
}

// What is not recorded of devices has a column, where there is something.
func TestClientsLeftOut(t *testing.T) {
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) {
		today := time.Now().In(timespec.Location("")).Format(time.DateOnly)
		return fromJSON(t, `{"clients":[
			{"mac":"00:01:02:03:04:05","name":"laptop","sent":1,"recvd":2,"left_out":[{"day":"2020-01-01","why":"unanswered","sent":7,"recvd":0},
				{"day":"`+today+`","why":"excluded_client","sent":1048576,"recvd":1048576},{"day":"`+today+`","why":"unanswered","sent":1048576,"recvd":0}]},
			{"mac":"00:01:02:03:04:06","name":"tv","sent":3,"recvd":4}]}`), ubus.StatusOK
	})
	_, out, _ := r.run(t, "clients")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, want := range map[int]string{0: "| left out|", 2: "|   3MiB  |", 3: "|   0B    |", 4: "left out: bytes of today that are not recorded (pakon status says why)"} {
		if i >= len(lines) || !strings.HasSuffix(lines[i], want) {
			t.Errorf("clients prints\n%s\nwant %q at the end of line %d", out, want, i+1)
		}
	}
}

// Of a time today it is shown when that was, of others on which day.
func TestLately(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	c := &command{now: time.Date(2026, 3, 10, 0, 30, 0, 0, zone), loc: zone}
	for ago, want := range map[time.Duration]string{0: "00:30", 29 * time.Minute: "00:01", 31 * time.Minute: "2026-03-09", -24 * time.Hour: "2026-03-11"} {
		if got := c.lately(c.now.Add(-ago).Unix()); got != want {
			t.Errorf("%s ago: %q, want %q", ago, got, want)
		}
	}
	if got := c.lately(0); got != "" {
		t.Errorf("never: %q", got)
	}
}

func TestStatusFormats(t *testing.T) {
	for _, in := range []string{"status", "status-empty"} {
		// The daemon's own replies, as its tests have them.
		b, err := os.ReadFile(filepath.Join("../api/testdata", in+".json"))
		if err != nil {
			t.Fatal(err)
		}
		reply := fromJSON(t, string(b))
		r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return reply, ubus.StatusOK })
		status, out, errOut := r.run(t, "status")
		if status != 0 || errOut != "" {
			t.Errorf("%s: status %d, stderr %q", in, status, errOut)
		}
		golden(t, in+".txt", out)
		_, out, _ = r.run(t, "status", "--json")
		var got, want any
		if err := errors.Join(json.Unmarshal([]byte(out), &got), json.Unmarshal(b, &want)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s --json prints\n%s (%v)", in, out, err)
		}
	}
}

// The zone of the table is the router's, also where only a rule is known.
func TestZone(t *testing.T) {
	r := newRig(t, answerFlows(t))
	os.Unsetenv("TZ") // set back when the test ends
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/TZ"), []byte("PST8PDT,M3.2.0,M11.1.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if name, _ := time.Unix(1567561062, 0).In(timespec.Location(root)).Zone(); name != "PDT" {
		t.Fatalf("zone %s", name)
	}
	_, out, errOut := r.run(t, "show", "-j", "--root", root, "-s", "11-11-2017")
	if !strings.HasPrefix(out, `[["2019-09-03 18:37:42"`) {
		t.Errorf("prints %.40s, stderr %q", out, errOut)
	}
	calls := r.take()
	if start, _ := fromJSON(t, calls[0].args).Int("start"); start != 1510387200 {
		t.Errorf("asks for start %d", start)
	}
}
