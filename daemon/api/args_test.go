package api

import (
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pakon/daemon/client"
	"pakon/daemon/store"
	"pakon/ubus"
)

// What arguments mean, as callers of all kinds write them.
func TestQueryArguments(t *testing.T) {
	rec := &recorder{}
	r := newRig(t, Config{Store: rec})
	// def is the query without arguments, changed.
	def := func(change func(*store.Query)) *store.Query {
		q := &store.Query{Filter: store.Filter{Out: true}, Limit: chunkFlows}
		if change != nil {
			change(q)
		}
		return q
	}
	window := func(start, end int64) *store.Query {
		return def(func(q *store.Query) { q.Start, q.End = start, end })
	}
	macs := func(m ...client.MAC) *store.Query {
		return def(func(q *store.Query) {
			for _, m := range m {
				q.Clients = append(q.Clients, client.ID{MAC: m})
			}
		})
	}
	peer := func(a string) *store.Query {
		return def(func(q *store.Query) { q.Clients = []client.ID{{Addr: netip.MustParseAddr(a)}} })
	}
	hosts := func(h ...string) *store.Query {
		return def(func(q *store.Query) { q.Hostnames = h })
	}
	for _, tt := range []struct {
		args string
		want *store.Query // nil: the store is not asked, the reply is empty
	}{
		{`{}`, def(nil)},
		{`{"ubus_rpc_session":"0123","colour":7}`, def(nil)},
		{`{"start":null,"end":"","mac":"","hostname":null,"limit":null,"sort":"","cursor":"","filter":"","by":""}`, def(nil)},

		{`{"start":1567561062}`, window(1567561062000, 0)},
		{`{"start":"1567561062"}`, window(1567561062000, 0)},
		{`{"start":"@1567561062"}`, window(1567561062000, 0)},
		{`{"start":4102444800}`, window(4102444800000, 0)},
		{`{"end":253402300799}`, window(0, 253402300799000)},
		{`{"start":"11-11-2017T11:11:11","end":"11-11-2017T11:11:12"}`, window(1510395071000, 1510395072000)},
		{`{"start":"10-11-2017","end":"11-11-2017"}`, window(1510268400000, 1510354800000)},
		{`{"start":"-7d"}`, window(nowMS-7*86400_000, 0)},
		{`{"start":"-1w","end":"now"}`, window(nowMS-7*86400_000, nowMS)},
		{`{"start":-3600}`, window(nowMS-3600_000, 0)},
		{`{"start":"-3600"}`, window(nowMS-3600_000, 0)},
		{`{"start":0}`, window(1, 0)},
		{`{"end":0}`, window(0, 1)},
		{`{"start":200,"end":100}`, nil},
		{`{"start":100,"end":100}`, nil},

		{`{"mac":"00:01:02:03:04:05"}`, macs(laptop)},
		{`{"mac":"00-01-02-03-04-05"}`, macs(laptop)},
		{`{"mac":["00:01:02:03:04:05","02:11:22:33:44:55"]}`, macs(laptop, phone)},
		{`{"mac":"00:01:02:03:04:05 02:11:22:33:44:55"}`, macs(laptop, phone)},
		{`{"mac":["LAPTOP"," 00:01:02:03:04:05 "]}`, macs(laptop)},
		{`{"mac":"laptop"}`, macs(laptop)},
		{`{"mac":["nobody","laptop"]}`, macs(laptop)},
		{`{"mac":"10.8.0.2"}`, peer("10.8.0.2")},
		{`{"mac":["::ffff:10.8.0.2","10.8.0.2"]}`, peer("10.8.0.2")},
		{`{"mac":"FD00:8:0:0::2"}`, peer("fd00:8::2")},
		{`{"mac":[]}`, def(nil)},
		{`{"mac":"nobody"}`, nil},
		{`{"mac":["nobody"]}`, nil},

		{`{"hostname":"example.org"}`, hosts("example.org")},
		{`{"hostname":["example.org","203.0.113.7"]}`, hosts("example.org", "203.0.113.7")},
		{`{"hostname":"example.org example.net"}`, hosts("example.org", "example.net")},
		{`{"hostname":"EXAMPLE.org."}`, hosts("example.org")},
		{`{"hostname":["*.example.org","háčkyčárky.cz","*.ČESKO.cz."]}`, hosts("example.org", "xn--hkyrky-ptac70bc.cz", "xn--esko-fua.cz")},
		{`{"hostname":"https://anna:secret@shop.example:8443/x?y"}`, hosts("shop.example")},
		{`{"hostname":"https://shop.example/` + strings.Repeat("x", 2000) + `"}`, hosts("shop.example")},
		{`{"hostname":["2001:DB8::1","[2001:db8::2]:443"]}`, hosts("2001:db8::1", "2001:db8::2")},
		{`{"hostname":"FACEBOOK"}`, hosts("facebook", "facebook.com")},
		{`{"hostname":["Amazon Web Services"]}`, hosts("amazonaws.com")},

		{`{"start":1567561062.9}`, window(1567561062000, 0)},
		{`{"start":-3600.5,"end":4294967296.0}`, window(nowMS-3600_000, 4294967296000)},
		{`{"limit":7.9}`, def(func(q *store.Query) { q.Limit = 7 })},
		{`{"limit":1e12}`, def(nil)},
		{`{"filter":0.0}`, def(func(q *store.Query) { q.All = true })},
		{`{"filter":true}`, def(nil)},
		{`{"filter":1}`, def(nil)},
		{`{"filter":false}`, def(func(q *store.Query) { q.All = true })},
		{`{"filter":0}`, def(func(q *store.Query) { q.All = true })},
		{`{"filter":"0"}`, def(func(q *store.Query) { q.All = true })},
		{`{"filter":"false"}`, def(func(q *store.Query) { q.All = true })},
		{`{"aggregate":true}`, def(func(q *store.Query) { q.Aggregate = true })},
		{`{"aggregate":"1"}`, def(func(q *store.Query) { q.Aggregate = true })},
		{`{"direction":"in"}`, def(func(q *store.Query) { q.Out, q.In = false, true })},
		{`{"direction":"both"}`, def(func(q *store.Query) { q.In = true })},
		{`{"limit":7}`, def(func(q *store.Query) { q.Limit = 7 })},
		{`{"limit":"7"}`, def(func(q *store.Query) { q.Limit = 7 })},
		{`{"limit":99999999999}`, def(nil)},
		{`{"sort":"time"}`, def(nil)},
		{`{"sort":"-time"}`, def(func(q *store.Query) { q.Descending = true })},
		{`{"sort":"sent"}`, def(func(q *store.Query) { q.Sort = store.BySent })},
		{`{"sort":"recvd"}`, def(func(q *store.Query) { q.Sort = store.ByRecvd })},
		{`{"sort":"-total"}`, def(func(q *store.Query) { q.Sort, q.Descending = store.ByTotal, true })},
		{`{"sort":"-duration"}`, def(func(q *store.Query) { q.Sort, q.Descending = store.ByDuration, true })},
		{`{"cursor":"abc"}`, def(func(q *store.Query) { q.Cursor = "abc" })},
		{`{"start":"-1h","cursor":"5000:0:abc"}`, def(func(q *store.Query) { q.Start, q.Cursor = 5000, "abc" })},
		{`{"start":7,"end":"now","cursor":"5000:9000:abc"}`, def(func(q *store.Query) { q.Start, q.End, q.Cursor = 7000, 9000, "abc" })},
	} {
		rec.query = nil
		reply, err := r.json(t, "query", tt.args)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		if !reflect.DeepEqual(rec.query, tt.want) {
			t.Errorf("%s asks the store for\n%+v, want\n%+v", tt.args, rec.query, tt.want)
		}
		if flows, ok := reply.Array("flows"); !ok || len(flows) != 0 {
			t.Errorf("%s: reply %v, want an empty array of flows", tt.args, reply)
		}
	}
	if log := r.log.take(); log != "" {
		t.Errorf("right arguments were logged:\n%s", log)
	}
}

// A wrong argument costs status 2 and one line that names it, its value and
// what would be right.
func TestWrongArguments(t *testing.T) {
	r := newRig(t, Config{Store: &recorder{}})
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		method, args string
		log          []string
	}{
		{"query", `{"start":"yesterday"}`, []string{"argument=start", "value=yesterday", "dd-mm-yyyy"}},
		{"query", `{"start":true}`, []string{"argument=start", "value=true"}},
		{"query", `{"start":1e300}`, []string{"argument=start", "value=1e+300"}},
		{"query", `{"start":"1567561062.5"}`, []string{"argument=start", "value=1567561062.5"}},
		{"query", `{"end":9223372036854775808.0}`, []string{"argument=end"}},
		{"query", `{"limit":0.9}`, []string{"argument=limit", "1 to 10000"}},
		{"query", `{"limit":1e19}`, []string{"argument=limit", "value=1e+19"}},
		{"query", `{"filter":0.5}`, []string{"argument=filter", "value=0.5"}},
		{"query", `{"start":{"a":1}}`, []string{"argument=start"}},
		{"query", `{"end":"31-02-2020"}`, []string{"argument=end", "value=31-02-2020"}},
		{"query", `{"end":253402300800}`, []string{"argument=end", "value=253402300800"}},
		{"query", `{"mac":7}`, []string{"argument=mac", "value=7", "MAC addresses, names"}},
		{"query", `{"mac":[7]}`, []string{"argument=mac"}},
		{"query", `{"mac":[""]}`, []string{"argument=mac"}},
		{"query", `{"mac":" "}`, []string{"argument=mac"}},
		{"query", `{"mac":"` + long + `"}`, []string{"argument=mac", "xxx..."}},
		{"query", `{"mac":"` + strings.Repeat("x ", 257) + `"}`, []string{"argument=mac", "257", "at most 256"}},
		{"query", `{"mac":["laptop","10.8.0.300"]}`, []string{"argument=mac", "value=10.8.0.300", "addresses of those without a MAC"}},
		{"query", `{"mac":"00:01:02:03:04"}`, []string{"argument=mac", "value=00:01:02:03:04"}},
		{"summary", `{"mac":"10.8.0.0/24"}`, []string{"argument=mac", "value=10.8.0.0/24"}},
		{"query", `{"mac":"fe80::2%wg0"}`, []string{"argument=mac"}},
		{"query", `{"hostname":{"a":"b"}}`, []string{"argument=hostname"}},
		{"query", `{"hostname":"."}`, []string{"argument=hostname"}},
		{"query", `{"hostname":["example.org","foo bar"]}`, []string{"argument=hostname", `value="foo bar"`, "a host name such as example.org, or an IP address, or the name of a service"}},
		{"query", `{"hostname":"203.0.113.0/24"}`, []string{"argument=hostname", "value=203.0.113.0/24"}},
		{"query", `{"hostname":"user:pw@shop.example"}`, []string{"argument=hostname"}},
		{"query", `{"hostname":"https://shop.example/` + strings.Repeat("x", 5000) + `"}`, []string{"argument=hostname"}},
		{"summary", `{"hostname":"a..b"}`, []string{"argument=hostname", "value=a..b"}},
		{"query", `{"filter":"maybe"}`, []string{"argument=filter", "value=maybe", "true or false"}},
		{"query", `{"filter":2}`, []string{"argument=filter", "value=2"}},
		{"query", `{"aggregate":[]}`, []string{"argument=aggregate"}},
		{"query", `{"direction":"sideways"}`, []string{"argument=direction", "value=sideways", "out, in, both"}},
		{"query", `{"limit":0}`, []string{"argument=limit", "value=0", "1 to 10000"}},
		{"query", `{"limit":-5}`, []string{"argument=limit", "value=-5"}},
		{"query", `{"limit":"many"}`, []string{"argument=limit", "value=many"}},
		{"query", `{"limit":true}`, []string{"argument=limit", "value=true"}},
		{"query", `{"sort":"name"}`, []string{"argument=sort", "value=name", "time, sent"}},
		{"query", `{"sort":"--time"}`, []string{"argument=sort"}},
		{"query", `{"cursor":7}`, []string{"argument=cursor", "value=7"}},
		{"query", `{"cursor":"` + strings.Repeat("x", 1025) + `"}`, []string{"argument=cursor"}},
		{"query", `{"start":"-1h","cursor":"abc"}`, []string{"argument=cursor", "value=abc"}},
		{"query", `{"start":"-1h","cursor":"1:x:abc"}`, []string{"argument=cursor"}},
		{"query", `{"start":"-1h","cursor":"1:-2:abc"}`, []string{"argument=cursor"}},
		{"query", `{"start":"-1h","cursor":"1:2:"}`, []string{"argument=cursor"}},
		{"summary", `{"by":"colour"}`, []string{"argument=by", "value=colour", "client, hostname"}},
		{"summary", `{"by":["client","client"]}`, []string{"argument=by", "value=client,client"}},
		{"summary", `{"by":"client,hostname,day"}`, []string{"argument=by"}},
		{"summary", `{"by":7}`, []string{"argument=by", "value=7"}},
		{"summary", `{"limit":0}`, []string{"argument=limit", "method=pakon.summary"}},
	} {
		r.later.Add(int64(complaintEvery))
		_, err := r.json(t, tt.method, tt.args)
		wantStatus(t, err, ubus.StatusInvalidArgument)
		log := r.log.take()
		if strings.Count(log, "\n") != 1 || len(log) > 700 {
			t.Errorf("%.80s was logged in %d lines, %d bytes:\n%s", tt.args, strings.Count(log, "\n"), len(log), log)
		}
		for _, part := range tt.log {
			if !strings.Contains(log, part) {
				t.Errorf("%.80s: the log lacks %q:\n%s", tt.args, part, log)
			}
		}
	}
}

// Calls fill the log with nothing but a line a minute, whether they or the daemon are
// wrong; each caller is told.
func TestComplaintsAreBounded(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		args string
		want ubus.Status
	}{
		{"wrong arguments", nil, `{"limit":-1}`, ubus.StatusInvalidArgument},
		{"failures", errors.New("disk on fire"), `{}`, ubus.StatusUnknownError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Store: &recorder{err: tt.err}})
			for minute, want := range []string{"", "not_logged_before=19", "not_logged_before=19"} {
				for i := range 20 {
					reply, err := r.json(t, []string{"query", "summary"}[i%2], tt.args)
					wantStatus(t, err, tt.want)
					if said, _ := reply.String("error"); tt.err == nil && !strings.Contains(said, "argument limit: -1") {
						t.Fatalf("the caller is told %q", said)
					}
				}
				if log := r.log.take(); strings.Count(log, "\n") != 1 || !strings.Contains(log, want) {
					t.Errorf("minute %d: 20 calls have logged\n%s, want one line with %q", minute, log, want)
				}
				r.later.Add(int64(complaintEvery))
			}
		})
	}
}

// Integers come as the caller's language made them.
func TestIntegerTypes(t *testing.T) {
	rec := &recorder{}
	r := newRig(t, Config{Store: rec})
	for _, v := range []any{int16(7), int32(7), int64(7), ubus.Int8(7), 7.0, 7.999, "7"} {
		rec.query = nil
		if _, err := r.call(t, "query", ubus.Table{{Name: "limit", Value: v}, {Name: "start", Value: v}}); err != nil {
			t.Errorf("%T: %v", v, err)
		} else if rec.query.Limit != 7 || rec.query.Start != 7000 {
			t.Errorf("%T: %+v", v, rec.query)
		}
	}
	for _, v := range []any{math.NaN(), math.Inf(1), math.Inf(-1), float64(1 << 63), -1e19, 1e300} {
		for _, name := range []string{"limit", "start", "end"} {
			_, err := r.call(t, "query", ubus.Table{{Name: name, Value: v}})
			wantStatus(t, err, ubus.StatusInvalidArgument)
		}
		_, err := r.call(t, "forget", ubus.Table{{Name: "before", Value: v}})
		wantStatus(t, err, ubus.StatusInvalidArgument)
	}
}

// Whatever bytes a list has, it is refused or bounded.
func FuzzList(f *testing.F) {
	f.Add("a b", "c")
	f.Add("", "\x00\xff")
	f.Fuzz(func(t *testing.T, one, element string) {
		for _, v := range []any{one, ubus.Array{element, one}, ubus.Array{}} {
			got, err := list(ubus.Table{{Name: "mac", Value: v}}, "mac", "names", maxString)
			if err != nil {
				if !strings.Contains(err.Error(), "mac") {
					t.Errorf("error %q does not name the argument", err)
				}
				continue
			}
			if array, ok := v.(ubus.Array); got == nil && v != "" && !(ok && len(array) == 0) {
				t.Errorf("list(%q) is as good as absent", v)
			}
			for _, s := range got {
				if s == "" || len(s) > maxString {
					t.Errorf("list(%q) has %q", v, s)
				}
			}
		}
	})
}
