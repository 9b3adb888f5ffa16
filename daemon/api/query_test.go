package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/client/lease"
	"pakon/daemon/flow"
	"pakon/ubus"
)

func TestQueryReply(t *testing.T) {
	r := newRig(t, Config{Store: openStore(t,
		aFlow(4*time.Hour, nil),
		aFlow(3*time.Hour, func(f *flow.Flow) {
			f.Client, f.Name, f.Source, f.App, f.Proto, f.Port = phone, "", 0, "", flow.UDP, 5000
			f.End, f.Sent = f.Start+700, 5<<30
		}),
		aFlow(2*time.Hour, func(f *flow.Flow) {
			f.Client, f.Name, f.Source = client.MAC{}, "scontent.fprg2-1.fna.fbcdn.net", 2
			f.ClientAddr = netip.MustParseAddr("2001:db8::10")
		}),
		aFlow(90*time.Minute, func(f *flow.Flow) { f.Name = "x.ads.example" }),
		aFlow(time.Hour, func(f *flow.Flow) { f.Direction, f.Port, f.Name, f.Source = flow.In, 22, "", 0 }),
	)})
	second := testNow.Add(-4 * time.Hour).Unix()
	first := ubus.Table{
		{Name: "start", Value: int32(second)}, {Name: "duration", Value: int32(81)},
		{Name: "client", Value: "Laptop"}, {Name: "mac", Value: "00:01:02:03:04:05"},
		{Name: "hostname", Value: "example.org"}, {Name: "address", Value: "203.0.113.7"},
		{Name: "group", Value: ""}, {Name: "source", Value: "tls"},
		{Name: "port", Value: int32(443)}, {Name: "proto", Value: "tcp"}, {Name: "app_proto", Value: "tls"},
		{Name: "sent", Value: int32(35840)}, {Name: "recvd", Value: int32(429056)}, {Name: "running", Value: false},
	}
	reply, err := r.json(t, "query", `{"direction":"both"}`)
	if err != nil {
		t.Fatal(err)
	}
	flows, _ := reply.Array("flows")
	if len(flows) != 4 {
		t.Fatalf("%d flows, want 4 (one is hidden): %v", len(flows), flows)
	}
	if got := flows[0].(ubus.Table); fmt.Sprint(got) != fmt.Sprint(first) {
		t.Errorf("first flow\n%v, want\n%v", got, first)
	}
	for i, want := range []map[string]any{
		1: {"client": "02:11:22:33:44:55", "hostname": "", "group": "", "source": "", "app_proto": "", "proto": "udp",
			"port": int32(5000), "duration": int32(0), "sent": int64(5 << 30), "direction": nil},
		2: {"client": "2001:db8::10", "mac": "", "hostname": "scontent.fprg2-1.fna.fbcdn.net", "group": "facebook.com", "source": "dns"},
		3: {"direction": "in", "port": int32(22), "address": "203.0.113.7"},
	} {
		for name, v := range want {
			if got, _ := flows[i].(ubus.Table).Get(name); got != v {
				t.Errorf("flow %d: %s is %v (%T), want %v (%T)", i, name, got, got, v, v)
			}
		}
	}
	if _, ok := reply.Get("next"); ok {
		t.Error("the last page has a cursor")
	}
	groups, _ := reply.Table("groups")
	if got := string(ubus.AppendJSON(nil, groups, false)); got != `{"facebook.com":{"label":"Facebook","category":"social"}}` {
		t.Errorf("groups: %s", got)
	}
	all, err := r.json(t, "query", `{"filter":false}`)
	if err != nil {
		t.Fatal(err)
	}
	hidden := make(map[string]any)
	shown, _ := all.Array("flows")
	for _, v := range shown {
		if category, ok := v.(ubus.Table).Get("hidden"); ok {
			name, _ := v.(ubus.Table).String("hostname")
			hidden[name] = category
		}
	}
	if len(hidden) != 1 || hidden["x.ads.example"] != "advertising" {
		t.Errorf("hidden: %v", hidden)
	}

	for args, want := range map[string]int{
		`{}`:                                      3,
		`{"filter":false}`:                        4,
		`{"direction":"in"}`:                      1,
		`{"hostname":"fbcdn.net"}`:                1,
		`{"hostname":"facebook.com"}`:             1,
		`{"hostname":"FACEBOOK.com."}`:            1,
		`{"hostname":"book.com"}`:                 0,
		`{"hostname":"203.0.113.7"}`:              1,
		`{"mac":"laptop"}`:                        1,
		`{"mac":"nobody"}`:                        0,
		`{"mac":"laptop","hostname":"org"}`:       1,
		`{"start":"-2h","end":"-1h"}`:             1,
		`{"start":"-3h","end":"-7199"}`:           2,
		`{"start":"-7120"}`:                       1,
		`{"start":"-7110"}`:                       0,
		`{"start":"10-03-2026"}`:                  3,
		`{"start":"11-03-2026"}`:                  0,
		`{"end":"10-03-2026T11:00:00"}`:           2,
		`{"aggregate":true,"direction":"both"}`:   4,
		`{"aggregate":true,"filter":"0"}`:         4,
		`{"start":"10-03-2026","end":"-7199"}`:    3,
		`{"start":"09-03-2026T23:00:00"}`:         3,
		`{"start":1773129600,"end":"1773130000"}`: 1,
	} {
		reply, err := r.json(t, "query", args)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		if flows, _ := reply.Array("flows"); len(flows) != want {
			t.Errorf("%s: %d flows, want %d: %v", args, len(flows), want, flows)
		}
	}
	if log := r.log.take(); log != "" {
		t.Errorf("log:\n%s", log)
	}
}

// TestNamesOfAddresses: a client without a MAC, and one of those that an extender's MAC
// does not tell apart, is called as its address is, and asked for so.
func TestNamesOfAddresses(t *testing.T) {
	clients := client.New(slog.New(slog.DiscardHandler))
	clients.SetHosts([]client.Host{{Name: "Peer", Addrs: []netip.Addr{netip.MustParseAddr("10.8.0.2")}}})
	clients.SetLeases([]lease.Lease{
		{MAC: phone, Addr: netip.MustParseAddr("192.168.1.31"), Name: "camera", ClientID: "00:31"},
		{MAC: phone, Addr: netip.MustParseAddr("192.168.1.32"), Name: "radio", ClientID: "00:32"},
	})
	of := func(ago time.Duration, m client.MAC, addr string) flow.Flow {
		return aFlow(ago, func(f *flow.Flow) { f.Client, f.ClientAddr = m, netip.MustParseAddr(addr) })
	}
	r := newRig(t, Config{Clients: clients, Store: openStore(t,
		of(4*time.Hour, client.MAC{}, "10.8.0.2"), of(3*time.Hour, phone, "192.168.1.31"), of(2*time.Hour, phone, "192.168.1.32"), of(time.Hour, client.MAC{}, "10.8.0.3"))})
	for _, method := range []struct {
		name, rows string
		want       []string
	}{
		{"query", "flows", []string{"Peer", "camera", "radio", "10.8.0.3"}},
		{"summary", "rows", []string{"Peer", "10.8.0.3"}},
		{"clients", "clients", []string{"Peer"}},
	} {
		reply, err := r.json(t, method.name, `{"start":"-1d"}`)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		rows, _ := reply.Array(method.rows)
		for _, row := range rows {
			name, ok := row.(ubus.Table).String("client")
			if !ok {
				name, _ = row.(ubus.Table).String("name")
			}
			got = append(got, name)
		}
		for _, want := range method.want {
			if !slices.Contains(got, want) {
				t.Errorf("%s: clients %q, want %q among them", method.name, got, want)
			}
		}
	}
	reply, err := r.json(t, "query", `{"mac":["peer"]}`)
	if err != nil {
		t.Fatal(err)
	}
	if rows, _ := reply.Array("flows"); len(rows) != 1 {
		t.Errorf("%d flows of peer", len(rows))
	}
}

// Pages add up to all flows, each once and in order, even while the window
// moves with the clock; and a cursor serves the query that it came from only.
func TestQueryPages(t *testing.T) {
	const n = 2500
	var flows []flow.Flow
	for i := range n {
		flows = append(flows, aFlow(23*time.Hour-time.Duration(i)*time.Second, func(f *flow.Flow) {
			f.Name, f.Sent = fmt.Sprintf("host%d.example.org", i), uint64(i*7919%n)
		}))
	}
	r := newRig(t, Config{Store: openStore(t, flows...)})
	for _, base := range []string{
		`"limit":1000`,
		`"limit":301`,
		`"limit":10000`,
		`"limit":999,"start":"-1d"`,
		`"limit":999,"start":"-1d","end":"now"`,
		`"limit":700,"sort":"-sent"`,
		`"limit":700,"sort":"total","aggregate":true,"start":-86400`,
	} {
		now := testNow
		r.now = func() time.Time { return now }
		seen := make(map[string]bool)
		var sent []int64
		cursor := ""
		for page := 0; page == 0 || cursor != ""; page++ {
			reply, err := r.json(t, "query", `{`+base+`,"cursor":"`+cursor+`"}`)
			if err != nil {
				t.Fatalf("%s, page %d: %v\n%s", base, page, err, r.log.take())
			}
			rows, _ := reply.Array("flows")
			for _, v := range rows {
				name, _ := v.(ubus.Table).String("hostname")
				if seen[name] {
					t.Fatalf("%s: %s twice", base, name)
				}
				seen[name] = true
				bytes, _ := v.(ubus.Table).Int("sent")
				sent = append(sent, bytes)
			}
			cursor, _ = reply.String("next")
			now = now.Add(2 * time.Second)
		}
		if len(seen) != n {
			t.Errorf("%s: %d flows, want %d", base, len(seen), n)
		}
		if strings.Contains(base, "-sent") && !slices.IsSortedFunc(sent, func(a, b int64) int { return int(b - a) }) {
			t.Errorf("%s: not in order", base)
		}
	}
	reply, err := r.json(t, "query", `{"limit":5}`)
	if err != nil {
		t.Fatal(err)
	}
	cursor, _ := reply.String("next")
	r.now = func() time.Time { return testNow.Add(time.Duration(r.later.Load())) }
	for _, args := range []string{
		`{"sort":"sent","cursor":"` + cursor + `"}`,
		`{"mac":"laptop","cursor":"` + cursor + `"}`,
		`{"start":5,"cursor":"` + cursor + `"}`,
		`{"cursor":"` + cursor + `x"}`,
		`{"cursor":"AAAA"}`,
	} {
		r.later.Add(int64(complaintEvery))
		_, err := r.json(t, "query", args)
		wantStatus(t, err, ubus.StatusInvalidArgument)
		if log := r.log.take(); !strings.Contains(log, "argument=cursor") {
			t.Errorf("%s: log %q", args, log)
		}
	}
}

// Replies stay far below the limit of the bus, however long the names are.
func TestQueryReplySize(t *testing.T) {
	const n = 3000
	var flows []flow.Flow
	for i := range n {
		flows = append(flows, aFlow(time.Hour, func(f *flow.Flow) {
			f.Name = fmt.Sprintf("%0*d.fbcdn.net", 245, i)
			f.App = strings.Repeat("a", 200)
		}))
	}
	r := newRig(t, Config{Store: openStore(t, flows...)})
	total, cursor := 0, ""
	for page := 0; page == 0 || cursor != ""; page++ {
		reply, err := r.json(t, "query", `{"limit":10000,"cursor":"`+cursor+`"}`)
		if err != nil {
			t.Fatal(err, r.log.take())
		}
		rows, _ := reply.Array("flows")
		total += len(rows)
		blob, err := reply.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(blob) > 1_000_000 {
			t.Errorf("page %d has %d bytes", page, len(blob))
		}
		cursor, _ = reply.String("next")
		if cursor != "" && len(blob) < replyBytes {
			t.Errorf("page %d ends at %d bytes", page, len(blob))
		}
	}
	if total != n {
		t.Errorf("%d flows, want %d", total, n)
	}
}

func TestStoreFails(t *testing.T) {
	rec := &recorder{err: errors.New("disk on fire")}
	r := newRig(t, Config{Store: rec})
	for _, method := range []string{"query", "summary", "clients"} {
		r.later.Add(int64(complaintEvery))
		_, err := r.json(t, method, `{}`)
		wantStatus(t, err, ubus.StatusUnknownError)
		if log := r.log.take(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "disk on fire") || !strings.Contains(log, "pakon."+method) {
			t.Errorf("%s: log %q", method, log)
		}
	}
}
