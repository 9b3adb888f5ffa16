package api

import (
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/ubus"
)

// TestHidden: replies say what the lists have left out, and leave out nothing large.
func TestHidden(t *testing.T) {
	const ads = "x.ads.example"
	flows := []flow.Flow{
		aFlow(time.Hour, nil),
		aFlow(2*time.Hour, func(f *flow.Flow) { f.Name, f.Sent, f.Recvd = ads, 1, 8<<20 }),
		aFlow(3*time.Hour, func(f *flow.Flow) { f.Name, f.Sent, f.Recvd = ads, 8<<20, 0 }),
		aFlow(4*time.Hour, func(f *flow.Flow) { f.Name, f.Client, f.Sent, f.Recvd = ads, phone, 100, 200 }),
		aFlow(5*time.Hour, func(f *flow.Flow) { f.Name, f.Direction, f.Sent, f.Recvd = ads, flow.In, 1, 1 }),
	}
	r := newRig(t, Config{Store: openStore(t, flows...)})
	part := func(reply ubus.Table, name string) string {
		sub, ok := reply.Table(name)
		if !ok {
			return ""
		}
		return string(ubus.AppendJSON(nil, sub, false))
	}
	for _, tt := range []struct {
		method, args  string
		rows          int
		hidden, total string
	}{
		{"query", `{}`, 2, `{"flows":2,"bytes":8388908}`, ""},
		{"query", `{"direction":"both"}`, 2, `{"flows":3,"bytes":8388910}`, ""},
		{"query", `{"mac":"laptop"}`, 2, `{"flows":1,"bytes":8388608}`, ""},
		{"query", `{"hostname":"ads.example"}`, 1, `{"flows":2,"bytes":8388908}`, ""},
		{"query", `{"hostname":"example.org"}`, 1, `{"flows":0,"bytes":0}`, ""},
		{"query", `{"start":"-210m"}`, 2, `{"flows":1,"bytes":8388608}`, ""},
		{"query", `{"aggregate":true}`, 2, `{"flows":2,"bytes":8388908}`, ""},
		{"query", `{"sort":"-total"}`, 2, `{"flows":2,"bytes":8388908}`, ""},
		{"query", `{"filter":false}`, 4, "", ""},
		{"query", `{"filter":false,"count":true}`, 4, "", `{"flows":4,"sent":8424549,"recvd":8817864}`},
		{"query", `{"count":true}`, 2, `{"flows":2,"bytes":8388908}`, `{"flows":2,"sent":35841,"recvd":8817664}`},
		// Of one of several pages it is to be asked for.
		{"query", `{"limit":1}`, 1, "", ""},
		{"query", `{"limit":1,"count":true}`, 1, `{"flows":2,"bytes":8388908}`, `{"flows":2,"sent":35841,"recvd":8817664}`},
		{"query", `{"mac":"nobody","count":true}`, 0, `{"flows":0,"bytes":0}`, `{"flows":0,"sent":0,"recvd":0}`},
		{"summary", `{}`, 2, `{"flows":2,"bytes":8388908}`, ""},
		{"summary", `{"by":"hostname"}`, 2, `{"flows":2,"bytes":8388908}`, ""},
		{"summary", `{"by":"hostname","limit":1}`, 1, `{"flows":2,"bytes":8388908}`, ""},
		{"summary", `{"by":"hostname","filter":false}`, 2, "", ""},
		{"summary", `{"mac":"nobody"}`, 0, `{"flows":0,"bytes":0}`, ""},
	} {
		reply, err := r.json(t, tt.method, tt.args)
		if err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.args, err)
			continue
		}
		rows, _ := reply.Array(map[string]string{"query": "flows", "summary": "rows"}[tt.method])
		if hidden, total := part(reply, "hidden"), part(reply, "total"); len(rows) != tt.rows || hidden != tt.hidden || total != tt.total {
			t.Errorf("%s %s: %d rows, hidden %s, total %s, want %d, %s, %s", tt.method, tt.args, len(rows), hidden, total, tt.rows, tt.hidden, tt.total)
		}
	}
	// What would be hidden is marked, and no other.
	reply, err := r.json(t, "query", `{"filter":false}`)
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := reply.Array("flows")
	for _, v := range rows {
		row := v.(ubus.Table)
		name, _ := row.String("hostname")
		sent, _ := row.Int("sent")
		recvd, _ := row.Int("recvd")
		if category, marked := row.String("hidden"); marked != (name == ads && sent+recvd <= 8<<20) {
			t.Errorf("%s of %d bytes is marked %q", name, sent+recvd, category)
		}
	}
	// A client of which all is hidden has a row.
	reply, err = r.json(t, "summary", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	rows, _ = reply.Array("rows")
	row, _ := rows[1].(ubus.Table)
	mac, _ := row.String("mac")
	hidden, _ := row.Int("hidden")
	n, _ := row.Int("flows")
	if mac != phone.String() || hidden != 300 || n != 0 {
		t.Errorf("the client of which all is hidden has the row %v", row)
	}
}

// TestToldOnceLarge: who follows is told of a hidden connection that goes on as soon
// as it is too large to be hidden, once.
func TestToldOnceLarge(t *testing.T) {
	r := newRig(t, Config{Store: &recorder{}})
	notes := r.subscribe(t)
	state := func(id uint64, name string, bytes uint64, s flow.State) flow.Flow {
		return aFlow(time.Minute, func(f *flow.Flow) {
			f.Name, f.Sent, f.State, f.Track.Key, f.Client = name, bytes, s, id, client.MAC{}
		})
	}
	for _, tt := range []struct {
		name string
		want []string // "hidden" or "" of each that is told
	}{
		{"x.ads.example", []string{"advertising", "", ""}},
		{"www.example.org", []string{"", ""}},
	} {
		var told []string
		for _, bytes := range []uint64{1 << 20, 2 << 20, 9 << 20, 10 << 20} {
			if err := r.Stored([]flow.Flow{state(1, tt.name, bytes, flow.Running)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Stored([]flow.Flow{state(1, tt.name, 11<<20, flow.Over), {State: flow.Done, Track: flow.Track{Key: 1}}}); err != nil {
			t.Fatal(err)
		}
		for range tt.want {
			rows, _ := next(t, notes).data.Array("flows")
			for _, v := range rows {
				category, _ := v.(ubus.Table).String("hidden")
				told = append(told, category)
			}
		}
		if strings.Join(told, ",") != strings.Join(tt.want, ",") || len(notes) > 0 {
			t.Errorf("%s: told as hidden %q, want %q, and %d more", tt.name, told, tt.want, len(notes))
		}
	}
}
