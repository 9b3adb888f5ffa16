package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/client/lease"
	"pakon/daemon/flow"
	"pakon/daemon/store"
	"pakon/tests/limits"
	"pakon/ubus"
)

// golden compares a reply, as JSON, with a file of testdata. UPDATE=1 writes it.
func golden(t testing.TB, name string, reply ubus.Table) {
	t.Helper()
	got := string(ubus.AppendJSON(nil, reply, true)) + "\n"
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s, want\n%s", name, got, want)
	}
}

func TestSummary(t *testing.T) {
	r := newRig(t, Config{Store: openStore(t,
		aFlow(40*24*time.Hour, nil),
		aFlow(26*time.Hour, nil),
		aFlow(25*time.Hour, func(f *flow.Flow) { f.Name = "x.fbcdn.net" }),
		aFlow(2*time.Hour, func(f *flow.Flow) { f.Client = client.MAC{} }),
		aFlow(time.Hour, func(f *flow.Flow) { f.Client, f.Name, f.Sent = phone, "", 1<<40 }),
	)})
	for name, args := range map[string]string{
		"summary-default.json":    `{}`,
		"summary-day.json":        `{"by":"day","start":"-7d"}`,
		"summary-hour-host.json":  `{"by":["hour","hostname"],"start":"-7d","mac":"laptop"}`,
		"summary-week-month.json": `{"by":"week,month"}`,
		"summary-limit.json":      `{"by":"hostname","limit":1}`,
		"summary-nobody.json":     `{"mac":"nobody"}`,
	} {
		reply, err := r.json(t, "summary", args)
		if err != nil {
			t.Errorf("%s: %v\n%s", args, err, r.log.take())
			continue
		}
		golden(t, name, reply)
	}
}

func TestClients(t *testing.T) {
	hosts := client.New(slog.New(slog.DiscardHandler))
	hosts.SetHosts([]client.Host{{Name: "zebra", MACs: []client.MAC{laptop}}, {Name: "Apple", MACs: []client.MAC{phone}}})
	seen := testNow.Add(-3 * time.Hour)
	tablet := client.MAC{0, 0, 0, 0, 0, 9}
	hosts.Seen(laptop, netip.MustParseAddr("192.168.1.10"), "br-lan", seen.UnixMilli())
	hosts.Seen(laptop, netip.MustParseAddr("2001:db8::10"), "br-lan", seen.Add(time.Hour).UnixMilli())
	hosts.Seen(tablet, netip.MustParseAddr("192.168.1.11"), "br-guest_turris", seen.UnixMilli())
	r := newRig(t, Config{Clients: hosts, Store: openStore(t,
		aFlow(30*time.Hour, nil), // too long ago
		aFlow(20*time.Hour, nil),
		aFlow(10*time.Hour, nil),
		aFlow(time.Hour, func(f *flow.Flow) { f.Client = phone }),
		aFlow(time.Hour, func(f *flow.Flow) { f.Client = client.MAC{} }),
		leftOut(time.Hour, tablet, flow.ExcludedName),
		leftOut(24*time.Hour, tablet, flow.ExcludedName),
		leftOut(24*time.Hour, tablet, flow.ExcludedClient),
		leftOut(9*24*time.Hour, tablet, flow.ExcludedName),        // too long ago
		leftOut(time.Hour, client.MAC{2, 3}, flow.ExcludedClient), // of whom nothing else is known
	)})
	reply, err := r.json(t, "clients", `{"ubus_rpc_session":"x"}`)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "clients.json", reply)
}

// TestClientsPages: every device is on one page, however many are made up; what is left
// out is told.
func TestClientsPages(t *testing.T) {
	devices := client.New(slog.New(slog.DiscardHandler))
	devices.SetHosts([]client.Host{{Name: "zebra", MACs: []client.MAC{laptop}}})
	madeUp := func(i int) client.MAC { return client.MAC{0, 0x50, 0xc2, 0, byte(i >> 8), byte(i)} }
	devices.Seen(laptop, netip.MustParseAddr("192.168.1.10"), "br-lan", nowMS)
	folded := client.MAC{2, 0, 0, 0, 0, 1}
	devices.Seen(folded, netip.Addr{}, "br-lan", time.Now().Add(-91*24*time.Hour).UnixMilli())
	const many = 5000
	flows := []flow.Flow{aFlow(time.Hour, func(f *flow.Flow) { f.Sent = 1; f.Recvd = 1 })}
	for i := range many {
		flows = append(flows, aFlow(time.Hour, func(f *flow.Flow) { f.Client = madeUp(i) }))
	}
	for i := range 3000 {
		devices.Seen(madeUp(i+many), netip.MustParseAddr("192.168.1.11"), "br-lan", nowMS)
	}
	r := newRig(t, Config{Clients: devices, Store: openStore(t, flows...)})
	for _, tt := range []struct {
		args  ubus.Table
		pages int // at least
		page  int // rows of the first; 0: any
	}{
		{nil, 8, 1000},
		{ubus.Table{{Name: "limit", Value: int32(9999)}}, 2, 0},
		{ubus.Table{{Name: "limit", Value: "2500"}, {Name: "folded", Value: true}}, 3, 0},
	} {
		seen := make(map[string]int)
		var first ubus.Table
		args, pages := tt.args, 0
		var last ubus.Table
		for next := ""; pages == 0 || next != ""; pages++ {
			if next != "" {
				args = append(tt.args[:len(tt.args):len(tt.args)], ubus.Field{Name: "cursor", Value: next})
			}
			reply, err := r.call(t, "clients", args)
			if err != nil {
				t.Fatal(err)
			}
			rows, _ := reply.Array("clients")
			if pages == 0 {
				first, _ = rows[0].(ubus.Table)
				if tt.page > 0 && len(rows) != tt.page {
					t.Errorf("%v: a page of %d rows", tt.args, len(rows))
				}
			}
			for _, row := range rows {
				mac, _ := row.(ubus.Table).String("mac")
				seen[mac]++
			}
			next, _ = reply.String("next")
			last = reply
		}
		if name, _ := first.String("name"); name != "zebra" {
			t.Errorf("%v: first comes %v", tt.args, first)
		}
		if sent, _ := first.Int("sent"); sent != 1 {
			t.Errorf("%v: a known device that moved little: %v", tt.args, first)
		}
		all, _ := tt.args.Bool("folded")
		want := 1 + 4096 + 3000
		if n, _ := last.Int("folded"); all {
			want++
		} else if n != 1 {
			t.Errorf("%v: %d are folded", tt.args, n)
		}
		for mac, n := range seen {
			if n != 1 {
				t.Errorf("%v: %s is there %d times", tt.args, mac, n)
			}
		}
		if len(seen) != want || pages < tt.pages {
			t.Errorf("%v: %d clients on %d pages, want %d", tt.args, len(seen), pages, want)
		}
		others, _ := last.Table("others")
		if n, _ := others.Int("clients"); n != many-4096 {
			t.Errorf("%v: left out are %v", tt.args, others)
		}
		if sent, _ := others.Int("sent"); sent != (many-4096)*35840 {
			t.Errorf("%v: left out are %v", tt.args, others)
		}
	}
	for _, args := range []string{`{"cursor":"x"}`, `{"cursor":7}`, `{"cursor":"enp8fGE"}`, `{"limit":0}`, `{"folded":"perhaps"}`, `{"cursor":"` + strings.Repeat("a", 5000) + `"}`} {
		_, err := r.json(t, "clients", args)
		if wantStatus(t, err, ubus.StatusInvalidArgument); t.Failed() {
			t.Fatal(args)
		}
	}
}

func TestStatus(t *testing.T) {
	full := Status{
		Version: "3.0.0", Uptime: 3*time.Hour + 1500*time.Millisecond, Mode: "filter", BytesFrom: "conntrack",
		Capture: CaptureStatus{Way: "mirror", Why: "no particular reason", Offload: "Flow offloading is on for br-lan.", Restored: 1, Error: "gone"},
		Conntrack: ConntrackStatus{Active: true, Problem: "net.netfilter.nf_conntrack_acct is 0", Switched: []string{"net.netfilter.nf_conntrack_timestamp"},
			Entries: 5000, Listing: 12345 * time.Microsecond, Lost: 1, Zeroed: 2, Unfollowed: 3, Fates: []Count{{"recorded", 4}, {"unanswered", 0}}},
		Interfaces: []InterfaceStatus{
			{Name: "br-lan", State: "up", Coverage: []CoverageStatus{
				{Hour: testNow.Truncate(time.Hour).Add(-time.Hour), Since: testNow.Truncate(time.Hour).Add(-10 * time.Minute), Carried: 1000, Recorded: 900, Named: 800, Other: 50},
				{Hour: testNow.Truncate(time.Hour), Since: testNow.Truncate(time.Hour), Compared: true, Carried: 5 << 30, Recorded: 4 << 30, Named: 3 << 30, Other: 1 << 29},
			}},
			{Name: "br-guest_turris", State: "missing"},
		},
		Suricata: SuricataStatus{State: "running", Version: "7.0.10", Outdated: "7.0.14", PID: 1234, Since: testNow.Add(-time.Hour), Restarts: 2,
			Error: "exit status 1", Packets: 1 << 40, Drops: 17, NotNamed: 18},
		Events: EventStatus{Types: []Count{{"dns", 3}, {"flow", 5_000_000_000}}, Fates: []Count{{"recorded", 2}},
			Malformed: 1, TooLong: 2, Dropped: 3, NamesDropped: 4, Connections: 5},
		Flows: FlowStatus{Running: 6, Live: 7, Limit: 3_000_000, Lost: 8, Oldest: testNow.Add(-20 * time.Hour), Newest: testNow},
		Archive: ArchiveStatus{Path: "/srv/pakon/pakon-archive.db", Bytes: 5 << 20, Flows: 123456, Oldest: testNow.AddDate(0, 0, -28), ReadOnly: true,
			LastRun: testNow.Add(-9 * time.Hour), Run: store.ArchiveRun{Moved: 1, Merged: 2, Dropped: 3, Expired: 4, Written: 5 << 10, Took: 6 * time.Second}, Error: "no drive"},
		Backup: BackupStatus{Last: testNow.Add(-time.Hour), Segments: 12, Bytes: 3 << 20, Damaged: 1, Interval: 2 * time.Hour, Error: "drive full"},
		// Midnight of the router's zone.
		LeftOut: []store.LeftOut{{Day: 1773010800000, Why: "excluded_client", Sent: 5 << 20, Recvd: 1}, {Day: 1773097200000, Why: "excluded_client", Sent: 1 << 20},
			{Day: 1773097200000, Why: "unanswered", Sent: 1 << 30}},
		Written:  []store.DayBytes{{Day: 1773010800000, Bytes: 7 << 20}, {Day: 1773097200000, Bytes: 2 << 20}},
		Location: LocationStatus{Mount: "/srv", Device: "/dev/sda1", Kind: "drive", Free: 10 << 30},
		Clock:    ClockStatus{Why: "it shows 2036-01-01"},
		Import:   &store.Progress{Done: 1000, Total: 2000}, Restore: &store.Progress{Done: 3, Total: 4}, Aside: []string{"/srv/pakon/pakon-archive.db.damaged"},
		Database: DatabaseStatus{Path: "/var/lib/pakon.db", Bytes: 4096, Names: 9, Clients: 10, Error: "disk full"},
		Lists:    ListStatus{Domains: 11, Services: 12},
		Config:   ConfigStatus{Loaded: testNow, Error: "line 3: bad", Problems: []string{"option mode: \"x\": want tap or filter"}},
		Warnings: []string{"flow offloading is on"},
	}
	status := full
	r := newRig(t, Config{Store: &recorder{}, Status: func(context.Context) Status { return status }})
	reply, err := r.json(t, "status", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "status.json", reply)

	status = Status{}
	if reply, err = r.json(t, "status", `{}`); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-empty.json", reply)

	status.Warnings = make([]string, 5000)
	for i := range status.Warnings {
		status.Warnings[i] = strings.Repeat("ž", 3000)
	}
	if reply, err = r.json(t, "status", `{}`); err != nil {
		t.Fatal(err)
	}
	warnings, _ := reply.Array("warnings")
	more, _ := reply.Int("warnings_left_off")
	if len(warnings) != maxLines || more != 5000-maxLines || len(warnings[0].(string)) > 1003 {
		t.Errorf("%d warnings, %d left off", len(warnings), more)
	}
}

func TestReload(t *testing.T) {
	var failure error
	calls := 0
	r := newRig(t, Config{Store: &recorder{}, Reload: func(context.Context) error {
		calls++
		return failure
	}})
	if _, err := r.json(t, "reload", `{}`); err != nil || calls != 1 {
		t.Errorf("reload: %v, %d calls", err, calls)
	}
	failure = errors.New("no such file")
	_, err := r.json(t, "reload", `{}`)
	wantStatus(t, err, ubus.StatusUnknownError)
	if log := r.log.take(); !strings.Contains(log, "no such file") {
		t.Errorf("log %q", log)
	}
}

// The object publishes what is there and nothing else.
func TestSignature(t *testing.T) {
	r := newRig(t, Config{Store: &recorder{}})
	objects, err := r.caller.Lookup(t.Context(), Path)
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	var got []string
	for _, m := range objects[0].Methods {
		var args []string
		for _, a := range m.Args {
			args = append(args, a.Name+":"+a.Type.String())
		}
		got = append(got, m.Name+"("+strings.Join(args, " ")+")")
	}
	const filters = "start:String end:String mac:Array hostname:Array filter:Boolean direction:String limit:Integer"
	want := "query(" + filters + " aggregate:Boolean sort:String cursor:String count:Boolean) summary(" + filters + " by:Array) clients(limit:Integer cursor:String folded:Boolean) status() " +
		"forget(mac:Array hostname:Array before:String all:Boolean) archive() backup() reload()"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("methods\n%s, want\n%s", s, want)
	}
}

func TestArchiveAndBackup(t *testing.T) {
	var failure error
	r := newRig(t, Config{
		Store: &recorder{},
		Archive: func(context.Context) (store.ArchiveRun, error) {
			return store.ArchiveRun{Moved: 1, Merged: 2, Dropped: 3, Expired: 4, Written: 5, Took: 6 * time.Millisecond}, failure
		},
		Backup: func(context.Context) (store.BackupRun, error) {
			return store.BackupRun{Flows: 7, Written: 8, Took: time.Second}, failure
		},
	})
	for method, want := range map[string]string{
		"archive": `{"moved":1,"merged":2,"dropped":3,"expired":4,"written":5,"took_ms":6}`,
		"backup":  `{"flows":7,"written":8,"took_ms":1000}`,
	} {
		failure = nil
		reply, err := r.json(t, method, `{}`)
		if got := string(ubus.AppendJSON(nil, reply, false)); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", method, got, err, want)
		}
		failure = errors.New("no such drive")
		r.later.Add(int64(complaintEvery))
		_, err = r.json(t, method, `{}`)
		wantStatus(t, err, ubus.StatusUnknownError)
		if log := r.log.take(); !strings.Contains(log, "no such drive") {
			t.Errorf("%s: log %q", method, log)
		}
	}
}

func TestForget(t *testing.T) {
	var got *store.Forgetting
	devices := client.New(slog.New(slog.DiscardHandler))
	devices.SetHosts([]client.Host{{Name: "Laptop", MACs: []client.MAC{laptop}}, {Name: "printer", MACs: []client.MAC{{0, 3}}}})
	devices.SetLeases([]lease.Lease{{MAC: client.MAC{0, 1}, Name: "KP115"}, {MAC: client.MAC{0, 2}, Name: "KP115"}, {MAC: client.MAC{0, 4}, Name: "Printer"}})
	r := newRig(t, Config{Store: &recorder{}, Clients: devices, Forget: func(_ context.Context, f store.Forgetting) (int64, error) {
		got = &f
		return 42, nil
	}})
	for _, tt := range []struct {
		args string
		want store.Forgetting
	}{
		{`{"mac":"laptop"}`, store.Forgetting{Clients: []client.ID{{MAC: laptop}}}},
		{`{"mac":["laptop","02-11-22-33-44-55"],"hostname":"","all":false,"ubus_rpc_session":"x"}`, store.Forgetting{Clients: []client.ID{{MAC: laptop}, {MAC: phone}}}},
		{`{"hostname":"Example.ORG."}`, store.Forgetting{Hostnames: []string{"example.org"}}},
		{`{"hostname":["a.test","2001:DB8::1"]}`, store.Forgetting{Hostnames: []string{"a.test", "2001:db8::1"}}},
		{`{"hostname":"https://www.Háčkyčárky.cz/x"}`, store.Forgetting{Hostnames: []string{"www.xn--hkyrky-ptac70bc.cz"}}},
		{`{"hostname":["Facebook"]}`, store.Forgetting{Hostnames: []string{"facebook", "facebook.com"}}},
		{`{"mac":["10.8.0.2","FD00:8::0:2"]}`, store.Forgetting{Clients: []client.ID{{Addr: netip.MustParseAddr("10.8.0.2")}, {Addr: netip.MustParseAddr("fd00:8::2")}}}},
		{`{"mac":"Printer"}`, store.Forgetting{Clients: []client.ID{{MAC: client.MAC{0, 3}}}}},
		{`{"mac":["printer 00:00"]}`, store.Forgetting{Clients: []client.ID{{MAC: client.MAC{0, 4}}}}},
		{`{"before":1567561062.75}`, store.Forgetting{Before: 1567561062000}},
		{`{"before":"-1d"}`, store.Forgetting{Before: nowMS - 86400_000}},
		{`{"before":1567561062}`, store.Forgetting{Before: 1567561062000}},
		{`{"all":true,"mac":[]}`, store.Forgetting{All: true}},
	} {
		got = nil
		reply, err := r.json(t, "forget", tt.args)
		if n, _ := reply.Int("deleted"); err != nil || n != 42 || got == nil || !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s: forgets %+v, reply %v, %v", tt.args, got, reply, err)
		}
	}
	got = nil
	for _, tt := range []struct{ args, log string }{
		{`{}`, "one of mac, hostname, before, all"},
		{`{"all":false}`, "one of mac, hostname, before, all"},
		{`{"mac":[]}`, "one of mac, hostname, before, all"},
		{`{"all":true,"mac":"laptop"}`, "given with mac"},
		{`{"mac":"laptop","hostname":"a.test"}`, "given with mac"},
		{`{"before":"now","hostname":"a.test"}`, "given with hostname"},
		{`{"mac":["laptop","nobody"]}`, "value=nobody"},
		{`{"mac":7}`, "argument=mac"},
		{`{"hostname":"."}`, "argument=hostname"},
		{`{"hostname":["a.test","foo bar"]}`, `value="foo bar"`},
		{`{"all":1.5}`, "argument=all"},
		{`{"before":"soon"}`, "argument=before"},
		{`{"all":"perhaps"}`, "argument=all"},
	} {
		r.later.Add(int64(complaintEvery))
		_, err := r.json(t, "forget", tt.args)
		wantStatus(t, err, ubus.StatusInvalidArgument)
		if log := r.log.take(); got != nil || strings.Count(log, "\n") != 1 || !strings.Contains(log, tt.log) {
			t.Errorf("%s: forgets %+v, log %q", tt.args, got, log)
		}
	}
}

// TestWhoIsMeant: whose flows a word of the owner's finds, and how they are told apart.
func TestWhoIsMeant(t *testing.T) {
	stranger, plug, other := client.MAC{0x50, 0xc7, 0xbf, 0, 0, 0x21}, client.MAC{0x50, 0xc7, 0xbf, 0, 0, 0x31}, client.MAC{0x50, 0xc7, 0xbf, 0, 0, 0x32}
	devices := client.New(slog.New(slog.DiscardHandler))
	devices.SetHosts([]client.Host{{Name: "printer", MACs: []client.MAC{laptop}}})
	devices.SetLeases([]lease.Lease{{MAC: stranger, Name: "Printer"}, {MAC: plug, Name: "KP115"}, {MAC: other, Name: "kp115"}})
	devices.Seen(laptop, netip.MustParseAddr("192.168.1.10"), "br-lan", nowMS)
	var flows []flow.Flow
	for i, id := range []client.ID{{MAC: laptop}, {MAC: stranger}, {MAC: plug}, {MAC: other},
		{Addr: netip.MustParseAddr("10.8.0.2")}, {Addr: netip.MustParseAddr("10.8.0.3")}, {Addr: netip.MustParseAddr("fd00:8::2")}} {
		flows = append(flows, aFlow(time.Hour, func(f *flow.Flow) {
			f.Client, f.Sent = id.MAC, uint64(i+1)
			if id.Addr.IsValid() {
				f.ClientAddr = id.Addr
			}
		}))
	}
	forgets := func(context.Context, store.Forgetting) (int64, error) { return 0, nil }
	r := newRig(t, Config{Clients: devices, Store: openStore(t, flows...), Forget: forgets})
	for args, want := range map[string]string{
		`{}`:                             "printer=1 Printer 00:21=2 KP115=3 kp115 00:32=4 10.8.0.2=5 10.8.0.3=6 fd00:8::2=7",
		`{"mac":"printer"}`:              "printer=1",
		`{"mac":["PRINTER 00:21"]}`:      "Printer 00:21=2",
		`{"mac":"kp115"}`:                "KP115=3",
		`{"mac":"50c7.bf00.0021"}`:       "Printer 00:21=2",
		`{"mac":"50C7BF000021"}`:         "Printer 00:21=2",
		`{"mac":["KP115 00:32"]}`:        "kp115 00:32=4",
		`{"mac":"10.8.0.2"}`:             "10.8.0.2=5",
		`{"mac":"::ffff:10.8.0.3"}`:      "10.8.0.3=6",
		`{"mac":["FD00:8:0::2","kp"]}`:   "fd00:8::2=7",
		`{"mac":"10.8.0.2 printer"}`:     "printer=1 10.8.0.2=5",
		`{"mac":"10.8.0.9"}`:             "",
		`{"mac":"192.168.1.10 printer"}`: "printer=1",
	} {
		reply, err := r.json(t, "query", args)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		var got []string
		rows, _ := reply.Array("flows")
		for _, v := range rows {
			name, _ := v.(ubus.Table).String("client")
			sent, _ := v.(ubus.Table).Int("sent")
			got = append(got, fmt.Sprintf("%s=%d", name, sent))
		}
		slices.SortFunc(got, func(a, b string) int { return strings.Compare(a[strings.Index(a, "="):], b[strings.Index(b, "="):]) })
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", args, s, want)
		}
		sums, err := r.json(t, "summary", args)
		if rows, _ := sums.Array("rows"); err != nil || len(rows) != len(got) {
			t.Errorf("%s: %d rows, want %d, %v", args, len(rows), len(got), err)
		}
	}
	// Who gives the address of a device finds nothing by it, and is told why.
	for _, method := range []string{"query", "summary", "forget"} {
		reply, err := r.json(t, method, `{"mac":"192.168.1.10"}`)
		wantStatus(t, err, ubus.StatusInvalidArgument)
		if said, _ := reply.String("error"); !strings.Contains(said, "an address of 00:01:02:03:04:05 (printer)") {
			t.Errorf("%s: the error is %q", method, said)
		}
	}
	if reply, err := r.json(t, "forget", `{"mac":"10.8.0.9"}`); err != nil {
		t.Errorf("nobody's address: %v, %v", reply, err)
	}
	reply, err := r.json(t, "clients", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	rows, _ := reply.Array("clients")
	for _, v := range rows {
		row := v.(ubus.Table)
		name, _ := row.String("name")
		mac, _ := row.String("mac")
		addresses, _ := row.Array("addresses")
		sent, _ := row.Int("sent")
		got = append(got, fmt.Sprint(name, "|", mac, "|", addresses, "|", sent))
	}
	want := []string{"KP115|50:c7:bf:00:00:31|[]|3", "kp115 00:32|50:c7:bf:00:00:32|[]|4", "printer|00:01:02:03:04:05|[192.168.1.10]|1",
		"Printer 00:21|50:c7:bf:00:00:21|[]|2", "10.8.0.2||[10.8.0.2]|5", "10.8.0.3||[10.8.0.3]|6", "fd00:8::2||[fd00:8::2]|7"}
	if !slices.Equal(got, want) {
		t.Errorf("clients\n%q, want\n%q", got, want)
	}
}

type note struct {
	typ  string
	data ubus.Table
}

// subscribe returns what the object tells, once it knows of the subscriber.
func (r *rig) subscribe(t *testing.T) <-chan note {
	t.Helper()
	notes := make(chan note, 100)
	t.Cleanup(r.caller.Subscribe(Path, func(typ string, data ubus.Table) { notes <- note{typ, data} }))
	// The bus tells the object of its first subscriber at some moment; a
	// notification that comes through shows that it has.
	for deadline := time.After(limits.For(20 * time.Second)); ; {
		if err := r.NotifySuricata("probe"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-notes:
			for len(notes) > 0 {
				<-notes
			}
			return notes
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("no subscriber")
		}
	}
}

func next(t *testing.T, notes <-chan note) note {
	t.Helper()
	for {
		select {
		case n := <-notes:
			if state, _ := n.data.String("state"); state == "probe" {
				continue
			}
			return n
		case <-time.After(limits.For(20 * time.Second)):
			t.Fatal("no notification")
		}
	}
}

func TestNotifications(t *testing.T) {
	r := newRig(t, Config{Store: &recorder{}})
	// Nobody listens: nothing happens.
	if err := r.Stored([]flow.Flow{aFlow(time.Hour, nil)}); err != nil {
		t.Fatal(err)
	}
	notes := r.subscribe(t)
	if err := r.NotifySuricata("running"); err != nil {
		t.Fatal(err)
	}
	if n := next(t, notes); n.typ != "suricata" || string(ubus.AppendJSON(nil, n.data, false)) != `{"state":"running"}` {
		t.Errorf("notification %v", n)
	}
	device := client.Device{MAC: phone, Name: "Apple", Vendor: "Apple", Interface: "br-lan",
		Addresses: []netip.Addr{netip.MustParseAddr("192.168.1.11"), netip.MustParseAddr("192.168.1.12")}}
	back := device
	back.Earlier = client.MAC{2, 0, 0, 0, 0, 0xa1}
	const wantClient = `{"mac":"02:11:22:33:44:55","name":"Apple","vendor":"Apple","address":"192.168.1.11","interface":"br-lan"`
	for _, tt := range []struct {
		device client.Device
		more   int
		want   string
	}{
		{device, 0, wantClient + "}"},
		{device, 4251, wantClient + `,"more":4251}`},
		{back, 0, wantClient + `,"earlier":"02:00:00:00:00:a1"}`},
	} {
		if err := r.NotifyClient(tt.device, tt.more); err != nil {
			t.Fatal(err)
		}
		if n := next(t, notes); n.typ != "client.new" || string(ubus.AppendJSON(nil, n.data, false)) != tt.want {
			t.Errorf("notification %v, want %s", n, tt.want)
		}
	}

	flows := []flow.Flow{
		aFlow(time.Hour, nil),
		aFlow(time.Hour, func(f *flow.Flow) { f.Name = "x.ads.example" }),
		aFlow(time.Hour, func(f *flow.Flow) { f.Name, f.Direction = "x.fbcdn.net", flow.In }),
		aFlow(time.Hour, func(f *flow.Flow) { f.Name = "" }),
	}
	if err := r.Stored(flows); err != nil {
		t.Fatal(err)
	}
	n := next(t, notes)
	if n.typ != "flows" {
		t.Fatalf("notification %v", n)
	}
	golden(t, "notify-flows.json", n.data)

	// One without a MAC can be asked for by its address, whatever it is called.
	if err := r.Stored([]flow.Flow{aFlow(time.Hour, func(f *flow.Flow) { f.Client = client.MAC{} })}); err != nil {
		t.Fatal(err)
	}
	rows, _ := next(t, notes).data.Array("flows")
	if alias, _ := rows[0].(ubus.Table).String("alias"); alias != "192.168.1.10" {
		t.Errorf("alias %q", alias)
	}

	// Many flows come in several notifications, each below the limit of the bus.
	many := make([]flow.Flow, 1000)
	for i := range many {
		many[i] = flows[0]
	}
	if err := r.Stored(many); err != nil {
		t.Fatal(err)
	}
	got := int64(0)
	for got < 1000 {
		n := next(t, notes)
		if before, _ := n.data.Int("before"); before != 6+got {
			t.Fatalf("before is %d, want %d", before, 6+got)
		}
		rows, _ := n.data.Array("flows")
		got += int64(len(rows))
	}
}
