package household

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func config(events, format int) Config {
	c := Default()
	c.Events, c.Format = events, format
	return c
}

func generate(t testing.TB, c Config) (events []byte, rows []Row) {
	t.Helper()
	var b bytes.Buffer
	if err := Generate(c, &b, func(r *Row) { rows = append(rows, *r) }); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), rows
}

func TestSameSeedSameHousehold(t *testing.T) {
	sum := func(seed uint64, format int) string {
		c := config(5000, format)
		c.Seed = seed
		events, rows := generate(t, c)
		h := sha256.New()
		h.Write(events)
		fmt.Fprint(h, rows)
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	if first, again := sum(1, 7), sum(1, 7); first != again {
		t.Error("the same configuration made different households")
	}
	if sum(1, 7) == sum(2, 7) {
		t.Error("two seeds made the same household")
	}
	if sum(1, 7) == sum(1, 8) {
		t.Error("both formats are the same")
	}
}

func TestAnotherLifeOfTheSameHousehold(t *testing.T) {
	one, other := config(5000, 7), config(5000, 7)
	other.Life = 1
	devices, err := Devices(one)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Devices(other); err != nil || fmt.Sprint(again) != fmt.Sprint(devices) {
		t.Errorf("the devices are %v, %v: want %v", again, err, devices)
	}
	events, rows := generate(t, one)
	otherEvents, otherRows := generate(t, other)
	if bytes.Equal(events, otherEvents) {
		t.Error("the same happens")
	}
	names := make(map[string]bool)
	for _, r := range rows {
		names[r.Name] = true
	}
	if !slices.ContainsFunc(otherRows, func(r Row) bool { return r.Name != "" && names[r.Name] }) {
		t.Error("no name is met again")
	}
}

func TestRowsDoNotDependOnFormatOrWriter(t *testing.T) {
	_, seven := generate(t, config(5000, 7))
	_, eight := generate(t, config(5000, 8))
	var alone []Row
	if err := Generate(config(5000, 7), nil, func(r *Row) { alone = append(alone, *r) }); err != nil {
		t.Fatal(err)
	}
	if len(seven) == 0 || fmt.Sprint(seven) != fmt.Sprint(eight) || fmt.Sprint(seven) != fmt.Sprint(alone) {
		t.Errorf("%d rows with format 7, %d with 8, %d without events: want the same", len(seven), len(eight), len(alone))
	}
}

func TestNumberOfRows(t *testing.T) {
	c := config(0, 7)
	c.Rows = 1234
	n := 0
	if err := Generate(c, nil, func(*Row) { n++ }); err != nil {
		t.Fatal(err)
	}
	if n != c.Rows {
		t.Errorf("%d rows, want %d", n, c.Rows)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"bad: no limit":       func(c *Config) { c.Events = 0 },
		"bad: days":           func(c *Config) { c.Days = 0 },
		"bad: devices":        func(c *Config) { c.Devices = maxDevices + 1 },
		"bad: hosts":          func(c *Config) { c.Hosts = 0 },
		"bad: format":         func(c *Config) { c.Format = 6 },
		"bad: fractions":      func(c *Config) { c.P2P, c.Noise = .6, .6 },
		"bad: rows of noise":  func(c *Config) { c.Rows, c.P2P, c.Noise, c.Inbound = 5, 0, 1, 0 },
		"bad: no end of time": func(c *Config) { c.End = time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			c := config(10, 7)
			change(&c)
			if err := Generate(c, io.Discard, nil); err == nil {
				t.Error("no error")
			}
		})
	}
}

// event is what the tests look at of an event of either format.
type event struct {
	Timestamp string `json:"timestamp"`
	FlowID    uint64 `json:"flow_id"`
	Interface string `json:"in_iface"`
	Type      string `json:"event_type"`
	SrcIP     string `json:"src_ip"`
	SrcPort   uint16 `json:"src_port"`
	DestIP    string `json:"dest_ip"`
	DestPort  uint16 `json:"dest_port"`
	Proto     string `json:"proto"`
	App       string `json:"app_proto"`
	DNS       *struct {
		Version int    `json:"version"`
		Type    string `json:"type"`
		RRName  string `json:"rrname"`
		Queries []struct {
			RRName string `json:"rrname"`
		} `json:"queries"`
		Answers []struct {
			RRName string `json:"rrname"`
			RRType string `json:"rrtype"`
			TTL    int    `json:"ttl"`
			RData  string `json:"rdata"`
		} `json:"answers"`
	} `json:"dns"`
	TLS *struct {
		SNI     string `json:"sni"`
		Subject string `json:"subject"`
	} `json:"tls"`
	QUIC *struct {
		SNI string `json:"sni"`
	} `json:"quic"`
	HTTP *struct {
		Hostname string `json:"hostname"`
	} `json:"http"`
	Flow *struct {
		ToServer uint64 `json:"bytes_toserver"`
		ToClient uint64 `json:"bytes_toclient"`
		Start    string `json:"start"`
		End      string `json:"end"`
	} `json:"flow"`
	Ether struct {
		SrcMAC   string   `json:"src_mac"`
		DestMAC  string   `json:"dest_mac"`
		SrcMACs  []string `json:"src_macs"`
		DestMACs []string `json:"dest_macs"`
	} `json:"ether"`
}

const layout = "2006-01-02T15:04:05.000000-0700"

func parseTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(layout, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestEventsGiveTheRows reads the events as a plain collector would and must
// end up with exactly the rows: another implementation of the same truth.
func TestEventsGiveTheRows(t *testing.T) {
	for _, format := range []int{7, 8} {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			c := config(30000, format)
			c.Queries = true
			events, rows := generate(t, c)
			got := collect(t, events, c)
			if len(got) != len(rows) {
				t.Fatalf("%d flows from the events, %d rows", len(got), len(rows))
			}
			sources := map[string]int{}
			inbound, guests := 0, 0
			for i, want := range rows {
				sources[want.Source]++
				if want.Inbound {
					inbound++
				}
				if want.Interface == networks[1].name {
					guests++
				}
				want.Device = ""
				if got[i] != want {
					t.Fatalf("row %d:\n%+v, from the events:\n%+v", i, want, got[i])
				}
			}
			for _, s := range []string{"tls", "quic", "http", "dns", ""} {
				if sources[s] == 0 {
					t.Errorf("no row was named by %q: %v", s, sources)
				}
			}
			if inbound == 0 || guests == 0 {
				t.Errorf("%d inbound rows, %d of guests: want some", inbound, guests)
			}
		})
	}
}

type answer struct {
	at, expires time.Time
	name        string
}

// guess is the name of a connection that did not state one: what the
// certificate says if it was asked for, else the latest answer before that was
// still valid, else the latest.
func guess(answers []answer, start time.Time, certificate string) (name string) {
	valid, latest, known := map[string]answer{}, "", false
	for _, a := range answers {
		if a.at.After(start) {
			continue
		}
		known = known || a.name == certificate
		valid[a.name], latest = a, a.name
	}
	if known {
		return certificate
	}
	var best answer
	for _, a := range valid {
		if !a.expires.Before(start) && a.at.After(best.at) {
			best = a
		}
	}
	if best.name != "" {
		return best.name
	}
	return latest
}

// collect is a collector without limits: it knows all DNS answers and finds the
// one before a connection's start.
func collect(t *testing.T, events []byte, c Config) []Row {
	t.Helper()
	devices, err := Devices(c)
	if err != nil {
		t.Fatal(err)
	}
	owner := map[netip.Addr]string{}
	for _, d := range devices {
		for _, a := range d.Addrs {
			if other, taken := owner[a]; taken {
				t.Fatalf("%v belongs to %v and %v", a, other, d.MAC)
			}
			owner[a] = d.MAC.String()
		}
	}
	dns := map[string][]answer{}        // by MAC and address
	certificates := map[uint64]string{} // by flow number
	names := map[uint64]Row{}           // by flow number
	var rows []Row
	last := ""
	lines := bufio.NewScanner(bytes.NewReader(events))
	n := 0
	for ; lines.Scan(); n++ {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("line %d: %v: %s", n+1, err, lines.Bytes())
		}
		if e.Timestamp < last {
			t.Fatalf("line %d is before its predecessor: %s", n+1, lines.Bytes())
		}
		last = e.Timestamp
		named := func(name, source string) {
			if name != "" {
				names[e.FlowID] = Row{Name: name, Source: source}
			}
		}
		switch e.Type {
		case "dns":
			client, mac, name := e.SrcIP, e.Ether.SrcMAC, e.DNS.RRName
			if e.DNS.Version == 3 {
				name = e.DNS.Queries[0].RRName
				if e.DNS.Type == "response" {
					client, mac = e.DestIP, e.Ether.DestMAC
				}
			}
			if owner[netip.MustParseAddr(client)] != mac {
				t.Fatalf("line %d: client %s is not %s's", n+1, client, mac)
			}
			for _, a := range e.DNS.Answers {
				if a.RRType != "CNAME" {
					key := mac + netip.MustParseAddr(a.RData).String()
					at := parseTime(t, e.Timestamp)
					dns[key] = append(dns[key], answer{at, at.Add(time.Duration(a.TTL) * time.Second), name})
				}
			}
		case "tls":
			named(e.TLS.SNI, "tls")
			certificates[e.FlowID] = strings.TrimPrefix(e.TLS.Subject, "CN=")
		case "quic":
			named(e.QUIC.SNI, "quic")
		case "http":
			named(e.HTTP.Hostname, "http")
		case "flow":
			if e.Proto != "TCP" && e.Proto != "UDP" || e.App == "dns" || e.Flow.ToClient == 0 {
				continue
			}
			r := names[e.FlowID]
			start, end := parseTime(t, e.Flow.Start), parseTime(t, e.Flow.End)
			r.Start, r.End, r.Interface = start.UnixMilli(), end.UnixMilli(), e.Interface
			r.OpenerPort, r.Port, r.Proto = e.SrcPort, e.DestPort, TCP
			if e.Proto == "UDP" {
				r.Proto = UDP
			}
			if r.App = e.App; r.App == "failed" {
				r.App = ""
			}
			src, dst := netip.MustParseAddr(e.SrcIP), netip.MustParseAddr(e.DestIP)
			mac := e.Ether.SrcMACs[0]
			r.Local, r.Remote, r.Sent, r.Recvd = src, dst, e.Flow.ToServer, e.Flow.ToClient
			if _, ours := owner[src]; !ours {
				r.Inbound, mac = true, e.Ether.DestMACs[0]
				r.Local, r.Remote, r.Sent, r.Recvd = dst, src, e.Flow.ToClient, e.Flow.ToServer
			}
			if owner[r.Local] != mac {
				t.Fatalf("line %d: %s is not %s's", n+1, r.Local, mac)
			}
			for i, o := range strings.Split(mac, ":") {
				fmt.Sscanf(o, "%02x", &r.MAC[i])
			}
			if r.Name == "" && !r.Inbound {
				if r.Name = guess(dns[mac+r.Remote.String()], start, certificates[e.FlowID]); r.Name != "" {
					r.Source = "dns"
				}
			}
			rows = append(rows, r)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if n != c.Events {
		t.Fatalf("%d events, want %d", n, c.Events)
	}
	return rows
}

// TestCalled: what events tell goes before what a port tells, and nothing names
// whoever connects from outside.
func TestCalled(t *testing.T) {
	outside := netip.MustParseAddr("203.0.113.1")
	for _, tt := range []struct {
		row          Row
		name, source string
	}{
		{Row{Proto: UDP, Port: 123}, "ntp", "port"},
		{Row{Proto: UDP, Port: 123, Name: "time.example.org", Source: "dns"}, "time.example.org", "dns"},
		{Row{Proto: UDP, Port: 123, Inbound: true}, "", ""},
		{Row{Proto: TCP, Port: 123}, "", ""},
		{Row{Proto: TCP, Port: 51820}, "", ""},
		{Row{Proto: UDP, Port: 51413}, "", ""},
	} {
		tt.row.Remote = outside
		if n, source := tt.row.Called(); n != tt.name || source != tt.source {
			t.Errorf("%+v is called %q by %q, want %q by %q", tt.row, n, source, tt.name, tt.source)
		}
	}
	_, rows := generate(t, config(20000, 7))
	times := 0
	for _, r := range rows {
		if n, source := r.Called(); r.App == "ntp" && n == "ntp" && source == "port" {
			times++
		}
	}
	if times == 0 {
		t.Error("no device of the household asked for the time")
	}
}

func TestRows(t *testing.T) {
	c := config(50000, 7)
	_, rows := generate(t, c)
	from := c.End.Add(-time.Duration(c.Days * 24 * float64(time.Hour)))
	for _, r := range rows {
		switch {
		case r.End < r.Start, r.Sent == 0, r.Recvd == 0, r.Port == 0, r.OpenerPort == 0:
			t.Fatalf("impossible row %+v", r)
		case r.Start < from.UnixMilli(), r.Start > c.End.Add(time.Hour).UnixMilli():
			t.Fatalf("row outside of the time span: %+v", r)
		case r.MAC == MAC{}, r.Device == "", !r.Local.IsPrivate() && !r.Local.Is6(), r.Remote.IsMulticast():
			t.Fatalf("row of nobody: %+v", r)
		case r.Inbound && r.Name != "", (r.Name == "") != (r.Source == ""):
			t.Fatalf("row with a wrong name: %+v", r)
		}
	}
	if last := rows[len(rows)-1].End; last < c.End.Add(-time.Hour).UnixMilli() {
		t.Errorf("the rows end at %v, the time span at %v", time.UnixMilli(last).UTC(), c.End)
	}
}

func BenchmarkGenerate(b *testing.B) {
	for b.Loop() {
		if err := Generate(config(100000, 7), io.Discard, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100000, "ns/event")
}
