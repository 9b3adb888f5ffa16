package suricata

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readLines(t testing.TB, path string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimRight(data, "\n"), []byte{'\n'})
}

func recorded(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/eve/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recorded events: %v", err)
	}
	return paths
}

func TestDecodeRecordedLikeOracle(t *testing.T) {
	paths := recorded(t)
	t.Run("captures", func(t *testing.T) {
		path := "../../shared/eve/suricata7-captures.json"
		if _, err := os.Stat(path); err != nil {
			t.Skipf("the events of public captures are not there: %v", err)
		}
		compareFile(t, path, 3688)
	})
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { compareFile(t, path, 0) })
	}
}

func compareFile(t *testing.T, path string, count int) {
	var d Decoder
	lines := readLines(t, path)
	if count > 0 && len(lines) != count {
		t.Errorf("%d events, want %d", len(lines), count)
	}
	for n, line := range lines {
		var ev Event
		if err := d.Decode(line, &ev); err != nil {
			t.Errorf("line %d: %v", n+1, err)
		}
		if diff := compare(&d, line); diff != "" {
			t.Errorf("line %d: %s", n+1, diff)
		}
	}
}

func find(t *testing.T, path string, match func(*Event) bool) plainEvent {
	t.Helper()
	var d Decoder
	var ev Event
	for _, line := range readLines(t, path) {
		if err := d.Decode(line, &ev); err != nil {
			t.Fatal(err)
		}
		if match(&ev) {
			return plain(&ev)
		}
	}
	t.Fatalf("%s: no such event", path)
	return plainEvent{}
}

func TestDecodeRecorded(t *testing.T) {
	client, router := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("192.168.1.1")
	clientMAC, routerMAC := [6]byte{2, 0xaa, 0, 0, 0, 0x10}, [6]byte{2, 0, 0, 0, 1, 1}
	answers := []plainRecord{
		{"www.alias.test", "CNAME", "web.example.net", 0},
		{"web.example.net", "A", "203.0.113.80", 0},
	}
	answered := func(ev *Event) bool { return ev.Kind == DNS && ev.DNS.Answer && len(ev.DNS.Answers) > 1 }

	got := find(t, "testdata/eve/router-7-afpacket.json", answered)
	want := plainEvent{Kind: DNS, Type: "dns", Time: 1795351297846, FlowID: 539858362607107, Interface: "br-lan",
		Src: netip.AddrPortFrom(client, 45411), Dst: netip.AddrPortFrom(router, 53), Proto: 17,
		SrcMAC: clientMAC, DstMAC: routerMAC,
		Version: 2, Answer: true, ID: 1663, Name: "www.alias.test", QType: "A", RCode: "NOERROR", Answers: answers}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("version 7:\n got %+v\nwant %+v", got, want)
	}

	got = find(t, "testdata/eve/router-8-afpacket.json", answered)
	want.Time, want.FlowID, want.Version, want.ID = 1795351305405, 333420649055481, 3, 3134
	want.Src, want.Dst = netip.AddrPortFrom(router, 53), netip.AddrPortFrom(client, 50573)
	want.SrcMAC, want.DstMAC = routerMAC, clientMAC
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("version 8:\n got %+v\nwant %+v", got, want)
	}

	got = find(t, "testdata/eve/router-8-afpacket.json", func(ev *Event) bool { return ev.Kind == Flow && ev.Src.Addr().Is6() })
	want = plainEvent{Kind: Flow, Type: "flow", Time: 1795351309049, FlowID: 309842473439627, Interface: "br-lan",
		Src: netip.MustParseAddrPort("[fd00:1::10]:53752"), Dst: netip.MustParseAddrPort("[2001:db8:f::80]:443"), Proto: 6,
		App: "tls", SrcMAC: clientMAC, DstMAC: routerMAC, Start: 1795351305334, End: 1795351305339,
		Bytes: [4]uint64{1943, 19151, 13, 20}, State: "closed", Reason: "shutdown"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("flow:\n got %+v\nwant %+v", got, want)
	}

	got = find(t, "testdata/eve/router-7-afpacket.json", func(ev *Event) bool { return ev.Kind == TLS })
	if got.ServerName != "tls13.example.test" || got.Subject != "CN=example.test" {
		t.Errorf("tls: SNI %q, subject %q", got.ServerName, got.Subject)
	}
	got = find(t, "testdata/eve/router-7-afpacket.json", func(ev *Event) bool { return ev.Kind == Stats })
	s := got.Stats
	if s.Uptime != 5 || s.KernelPackets != 1921 || s.DecoderBytes != 2241104 || s.FlowTotal != 16 ||
		s.FlowActive != 16 || s.TCPMemuse != 155648 || s.FlowMemuse != 512640 {
		t.Errorf("stats: %+v", s)
	}
	got = find(t, "testdata/eve/router-8-afpacket.json", func(ev *Event) bool { return ev.Kind == TLS })
	if fmt.Sprint(got.AltNames) != "[*.example.test example.test]" {
		t.Errorf("tls: subjectAltNames %q", got.AltNames)
	}
	got = find(t, "testdata/eve/hostile-names.json", func(ev *Event) bool { return ev.Kind == HTTP })
	if got.ServerName != "<svg onload=alert(2)>" {
		t.Errorf("the host that is HTML: %q", got.ServerName)
	}
}

// Suricata 7 and 8 saw the same traffic: what it means must come out the same.
func TestDecodeSameOfBothVersions(t *testing.T) {
	for _, capture := range []string{"afpacket", "nflog"} {
		seven := meaning(t, "testdata/eve/router-7-"+capture+".json")
		eight := meaning(t, "testdata/eve/router-8-"+capture+".json")
		if len(seven) < 15 {
			t.Errorf("%s: only %d different events", capture, len(seven))
		}
		for m := range seven {
			if !eight[m] {
				t.Errorf("%s: only in 7: %s", capture, m)
			}
		}
		for m := range eight {
			if !seven[m] {
				t.Errorf("%s: only in 8: %s", capture, m)
			}
		}
	}
}

func meaning(t *testing.T, path string) map[string]bool {
	var d Decoder
	var ev Event
	set := map[string]bool{}
	for _, line := range readLines(t, path) {
		if err := d.Decode(line, &ev); err != nil {
			t.Fatal(err)
		}
		p := plain(&ev)
		switch ev.Kind {
		case DNS:
			set[fmt.Sprint(ev.Client().Addr(), p.Answer, p.Name, p.QType, p.Answers)] = true
		case TLS, HTTP:
			set[fmt.Sprint(p.Kind, p.Src.Addr(), p.Dst, p.ServerName)] = true
		case QUIC:
			if p.ServerName != "" {
				set[fmt.Sprint(p.Kind, p.Src.Addr(), p.Dst, p.ServerName)] = true
			}
		case Flow:
			set[fmt.Sprint(p.Kind, p.Src.Addr(), p.Dst, p.Proto, p.App)] = true
		}
	}
	return set
}

const head = `"timestamp":"2025-05-31T00:00:01.713289+0000","src_ip":"192.0.2.1","src_port":1,"dest_ip":"2001:db8::1","proto":"TCP"`

func event(kind, body string) string {
	return fmt.Sprintf(`{%s,"event_type":%q,%q:%s}`, head, kind, kind, body)
}

// wellFormed are events that are right, in odd ways.
var wellFormed = map[string]string{
	"subjectaltname":          event("tls", `{"subject":"","subjectaltname":["*.a.example","","b\u002eexample",null,1,{"x":[]}],"sni":""}`),
	"many subjectaltnames":    event("tls", `{"subjectaltname":["x"`+strings.Repeat(`,"a.example"`, 1000)+`],"sni":"b.example"}`),
	"subjectaltname is null":  event("tls", `{"subjectaltname":null,"subject":"CN=a"}`),
	"subjectaltname is text":  event("tls", `{"subjectaltname":"a.example","subject":"CN=a"}`),
	"subjectaltname twice":    event("tls", `{"subjectaltname":["a","b"],"subjectaltname":["c"]}`),
	"names of another kind":   `{"event_type":"tls","tls":{"subjectaltname":["a"]},` + head + `,"event_type":"http","http":{}}`,
	"HTTP/2":                  event("http", `{"version":"2","request_headers":[{"table_size_update":0},{"name":":method","value":"GET"},{"name":":authority","value":"a.example"},{"name":"x","value":"b"}],"response_headers":[{"name":":authority","value":"c.example"}],"url":"/","http2":{"stream_id":1,"request":{},"response":{}}}`),
	"HTTP/2 with a host":      event("http", `{"request_headers":[{"value":"a.example","name":":authority"},{"name":"host","value":"b.example"}],"hostname":"b.example"}`),
	"HTTP/2 with a host only": event("http", `{"hostname":"b.example","request_headers":[{"name":":authority","value":""},{"name":"host","value":"b.example"}]}`),
	"HTTP/2, odd headers":     event("http", `{"request_headers":[1,null,{},[{"name":":authority","value":"a"}],{"name":1,"value":"a"},{"name":":authority","value":[]},{"error":"x"}]}`),
	"headers are no array":    event("http", `{"request_headers":{"name":":authority","value":"a"}}`),
	"body before type":        `{"tls":{"sni":"a.example"},` + head + `,"event_type":"tls"}`,
	"type twice":              `{"event_type":"dns","dns":{"type":"query"},` + head + `,"event_type":"tls","tls":{"sni":"a"}}`,
	"body twice":              `{"event_type":"tls","tls":{"sni":"a","subject":"CN=a"},` + head + `,"tls":{"subject":"CN=b"}}`,
	"key twice":               event("tls", `{"sni":"a","sni":"b"}`),
	"null over a value":       event("tls", `{"sni":"a","sni":null}`),
	"white space":             " {\t" + head + " , \"event_type\" :\r\n \"tls\" , \"tls\" : { \"sni\" : \"a\" } } \n",
	"escaped key":             `{` + head + `,"event\u005ftype":"tls","t\u006cs":{"\u0073ni":"a"}}`,
	"escapes":                 event("tls", `{"sni":"\"\\\/\b\f\n\r\t\u00e9\u20ac\ud83d\ude00"}`),
	"half surrogates":         event("tls", `{"sni":"\ud83d \ude00\ud83d\ud83d\ude00\ud83d\u0041"}`),
	"not UTF-8":               event("tls", "{\"sni\":\"a\xff\xc3b\"}"),
	"HTML":                    event("http", `{"hostname":"<script>alert(1)</script>"}`),
	"other kind":              `{"event_type":"alert","flow":{"start":5},"dns":"x","alert":[{"a":[{},[]]}]}`,
	"nulls":                   `{` + head + `,"flow_id":null,"in_iface":null,"app_proto":null,"ether":null,"event_type":"dns","dns":{"type":"query","version":null,"id":null,"answers":null,"grouped":null,"queries":null,"rrname":null}}`,
	"empty MAC lists":         `{"ether":{"src_macs":[],"dest_macs":[null,"x"]},` + head + `,"event_type":"tls","tls":{}}`,
	"MAC lists":               `{"ether":{"dest_macs":["02:00:5E:00:00:01","x"],"src_macs":["00:3c:88:75:00:02"]},` + head + `,"event_type":"tls","tls":{}}`,
	"zone +02:00":             strings.Replace(event("tls", `{}`), "+0000", "+02:00", 1),
	"zone Z":                  strings.Replace(event("tls", `{}`), "+0000", "Z", 1),
	"seven digits":            strings.Replace(event("tls", `{}`), ".713289", ".7132891", 1),
	"no fraction":             strings.Replace(event("tls", `{}`), ".713289", "", 1),
	"no clock yet":            strings.Replace(event("tls", `{}`), "2025-05-31T00:00:01.713289", "1970-01-01T00:00:00.000000", 1),
	"no clock, in the west":   strings.Replace(event("tls", `{}`), "2025-05-31T00:00:01.713289+0000", "1969-12-31T19:00:00.000001-0500", 1),
	"leap day":                strings.Replace(event("tls", `{}`), "2025-05-31", "2028-02-29", 1),
	"IPv4-mapped":             strings.Replace(event("tls", `{}`), "2001:db8::1", "0000:0000:0000:0000:0000:ffff:c000:0201", 1),
	"numbered protocol":       strings.Replace(event("tls", `{}`), "TCP", "089", 1),
	"failed":                  event("tls", `{}`)[:1] + `"app_proto":"failed",` + event("tls", `{}`)[1:],
	"largest numbers":         event("flow", `{"start":"1970-01-01T00:00:01Z","end":"2025-05-31T00:00:01Z","bytes_toserver":18446744073709551615}`),
	"format 1":                event("dns", `{"type":"answer","id":5,"rcode":"NOERROR","rrname":"a.example","rrtype":"A","ttl":60,"rdata":"192.0.2.7"}`),
	"format 2, grouped":       event("dns", `{"version":2,"grouped":{"A":["192.0.2.7","192.0.2.8"],"SRV":[{"port":1}],"X":null},"rrname":"a.example","type":"answer"}`),
	"format 2, both":          event("dns", `{"version":2,"grouped":{"A":["192.0.2.9"]},"answers":[{"rrname":"a","rdata":"192.0.2.7","ttl":4294967295}],"type":"answer"}`),
	"format 3":                event("dns", `{"version":3,"queries":[{"rrname":"a.example","rrtype":"A"},{"rrname":"b.example"}],"type":"response","answers":[{"rdata":{"x":[1]}}]}`),
	"data that are an object": event("dns", `{"version":2,"type":"answer","answers":[{"rrtype":"SRV","srv":{"name":"a"}}]}`),
	"many answers":            event("dns", `{"version":2,"type":"answer","answers":[`+strings.Repeat(`{"rdata":"192.0.2.1"},`, 300)+`{}]}`),
	"counters of any number":  event("stats", `{"uptime":-0,"capture":{"kernel_packets":1e3,"kernel_drops":-1.5,"errors":null},"decoder":{"pkts":18446744073709551616,"bytes":1.9,"invalid":1e999},"tcp":{"memuse":18446744073709551615,"reassembly_memuse":10000000000000000000,"reassembly_gap":1e-400,"segment_memcap_drop":-1e999},"flow":{"active":-1,"total":9223372036854775807,"memuse":0}}`),
	"every number":            `{"event_type":"x","x":[0,-0,1.5,-1e5,1E+5,0.1e-7,123456789012345678901234567890]}`,
}

// malformed are lines that must be refused, and why.
var malformed = map[string]struct {
	line string
	err  error
}{
	"empty":                {"", ErrValue},
	"no object":            {"[]", ErrValue},
	"null":                 {"null", ErrValue},
	"cut":                  {event("tls", `{}`)[:60], ErrSyntax},
	"no end":               {strings.TrimSuffix(event("tls", `{}`), "}"), ErrSyntax},
	"more behind":          {event("tls", `{}`) + "{}", ErrSyntax},
	"comma at the end":     {event("tls", `{"sni":"a",}`), ErrSyntax},
	"control character":    {event("tls", "{\"sni\":\"a\x01\"}"), ErrSyntax},
	"newline in a string":  {event("tls", "{\"x\":\"0123456789\n\"}"), ErrSyntax},
	"wrong escape":         {event("tls", `{"sni":"\x41"}`), ErrSyntax},
	"cut escape":           {event("tls", `{"sni":"\u00"}`), ErrSyntax},
	"bracket mismatch":     {event("tls", `{"x":[{"a":1]}}`), ErrSyntax},
	"leading zero":         {event("tls", `{"x":01}`), ErrSyntax},
	"leading zero of ours": {`{"flow_id":01}`, ErrSyntax},
	"bare word":            {event("tls", `{"x":nul}`), ErrSyntax},
	"point without digits": {event("tls", `{"x":1.}`), ErrSyntax},
	"depth":                {event("tls", `{"x":`+strings.Repeat("[", 65)+strings.Repeat("]", 65)+`}`), ErrDepth},
	"depth bomb":           {`{"x":` + strings.Repeat("[{\"a\":", 9000), ErrDepth},
	"too long":             {event("tls", `{"x":"`+strings.Repeat("a", MaxLine)+`"}`), ErrTooLong},
	"number too large":     {`{"flow_id":18446744073709551616}`, ErrValue},
	"far too large":        {`{"flow_id":99999999999999999999999999}`, ErrValue},
	"negative":             {`{"flow_id":-1}`, ErrValue},
	"fraction":             {`{"flow_id":1.5}`, ErrValue},
	"exponent":             {`{"flow_id":1e3}`, ErrValue},
	"string for a number":  {`{"flow_id":"1"}`, ErrValue},
	"number for a string":  {`{"in_iface":1}`, ErrValue},
	"port":                 {`{"src_port":65536}`, ErrValue},
	"address":              {`{"src_ip":"192.0.2.256"}`, ErrValue},
	"address with zone":    {`{"src_ip":"fe80::1%eth0"}`, ErrValue},
	"empty address":        {`{"src_ip":""}`, ErrValue},
	"time":                 {`{"timestamp":"2025-02-29T00:00:00Z"}`, ErrValue},
	"time without zone":    {`{"timestamp":"2025-05-31T00:00:01.713289"}`, ErrValue},
	"MAC":                  {`{"ether":{"src_mac":"02:00:5e:00:00"}}`, ErrValue},
	"body is no object":    {event("dns", `[]`), ErrValue},
	"DNS format of future": {event("dns", `{"version":4,"type":"response"}`), ErrValue},
	"DNS of no type":       {event("dns", `{"version":2}`), ErrValue},
	"answer is no object":  {event("dns", `{"version":2,"type":"answer","answers":[1]}`), ErrValue},
	"TTL":                  {event("dns", `{"type":"answer","answers":[{"ttl":4294967296}]}`), ErrValue},
	"counter is a word":    {event("stats", `{"flow":{"active":"-1"}}`), ErrValue},
	"counter is a list":    {event("stats", `{"flow":{"active":[-1]}}`), ErrValue},
	"counter from 0":       {event("stats", `{"flow":{"active":-01}}`), ErrSyntax},
	"counter of a sign":    {event("stats", `{"flow":{"active":-}}`), ErrSyntax},
	"no type":              {`{` + head + `}`, ErrIncomplete},
	"no body":              {`{` + head + `,"event_type":"tls","tls":null}`, ErrIncomplete},
	"no time":              {strings.Replace(event("tls", `{}`), "timestamp", "x", 1), ErrIncomplete},
	"no source":            {strings.Replace(event("tls", `{}`), "src_ip", "x", 1), ErrIncomplete},
	"no destination":       {strings.Replace(event("tls", `{}`), "dest_ip", "x", 1), ErrIncomplete},
	"flow without an end":  {event("flow", `{"start":"2025-05-31T00:00:01Z"}`), ErrIncomplete},
	"flow without a start": {event("flow", `{"end":"2025-05-31T00:00:01Z"}`), ErrIncomplete},
}

func TestDecodeWellFormed(t *testing.T) {
	for name, line := range wellFormed {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			var ev Event
			// Twice: the order of keys is known the second time.
			for range 2 {
				if err := d.Decode([]byte(line), &ev); err != nil {
					t.Fatal(err)
				}
				if diff := compare(&d, []byte(line)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestDecodeMalformed(t *testing.T) {
	for name, c := range malformed {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			var ev Event
			for range 2 {
				err := d.Decode([]byte(c.line), &ev)
				var de *DecodeError
				if !errors.Is(err, c.err) || !errors.As(err, &de) {
					t.Fatalf("error %v, want %v", err, c.err)
				}
				if de.Offset > len(c.line) {
					t.Errorf("offset %d of %d", de.Offset, len(c.line))
				}
			}
			if err := d.Decode([]byte(event("tls", `{"sni":"a"}`)), &ev); err != nil || string(ev.Name) != "a" {
				t.Errorf("the event after it: %q, %v", ev.Name, err)
			}
		})
	}
}

func TestDecodeErrorNamesTheField(t *testing.T) {
	for line, want := range map[string]string{
		event("flow", `{"bytes_toserver":-1}`):                          "bytes_toserver",
		event("dns", `{"type":"answer","answers":[{"ttl":"1"}]}`):       "ttl",
		event("stats", `{"uptime":1,"capture":{"kernel_packets":"x"}}`): "kernel_packets",
		`{` + head + `,"event_type":"quic"}`:                            "quic",
		`{"src_ip":"nowhere"}`:                                          "src_ip",
	} {
		var d Decoder
		var de *DecodeError
		if err := d.Decode([]byte(line), &Event{}); !errors.As(err, &de) || de.Field != want {
			t.Errorf("%s: error %v, want it in %s", line, err, want)
		}
	}
}

// Suricata 7 counts fewer than no flows on a quiet router: the rest of the event
// holds all the same.
func TestDecodeNegativeGauge(t *testing.T) {
	var d Decoder
	var ev Event
	line := event("stats", `{"uptime":7,"flow":{"total":3,"active":-1,"memuse":5},"capture":{"kernel_drops":2}}`)
	if err := d.Decode([]byte(line), &ev); err != nil {
		t.Fatal(err)
	}
	if want := (StatsCounters{Uptime: 7, FlowTotal: 3, FlowMemuse: 5, KernelDrops: 2}); ev.Stats != want {
		t.Errorf("got %+v, want %+v", ev.Stats, want)
	}
}

// An event must not show anything of the one before it.
func TestDecodeForgets(t *testing.T) {
	var d Decoder
	var ev, fresh Event
	for _, path := range recorded(t) {
		for _, line := range readLines(t, path) {
			if err := d.Decode(line, &ev); err != nil {
				t.Fatal(err)
			}
			fresh = Event{}
			if err := new(Decoder).Decode(line, &fresh); err != nil {
				t.Fatal(err)
			}
			if a, b := fmt.Sprint(plain(&ev)), fmt.Sprint(plain(&fresh)); a != b {
				t.Fatalf("after others: %s\nalone: %s", a, b)
			}
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	var d Decoder
	var ev Event
	lines := readLines(t, "testdata/eve/router-8-afpacket.json")
	lines = append(lines, []byte(wellFormed["escapes"]), []byte(wellFormed["many answers"]),
		[]byte(wellFormed["many subjectaltnames"]), []byte(wellFormed["HTTP/2"]))
	all := func() {
		for _, line := range lines {
			if err := d.Decode(line, &ev); err != nil {
				t.Fatal(err)
			}
		}
	}
	all()
	if n := testing.AllocsPerRun(20, all); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, line := range wellFormed {
		f.Add([]byte(line))
	}
	for _, c := range malformed {
		if len(c.line) < 1000 {
			f.Add([]byte(c.line))
		}
	}
	for _, path := range recorded(f) {
		for i, line := range readLines(f, path) {
			if i%5 == 0 && len(line) < 2000 {
				f.Add(line)
			}
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var d Decoder
		for range 2 {
			if diff := compare(&d, line); diff != "" {
				t.Error(diff)
			}
		}
	})
}
