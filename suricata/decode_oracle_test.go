package suricata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The oracle decodes an event a second time, by way of encoding/json and the
// standard library's parsers, and in the plainest way there is.

// plainEvent is an Event in values that can be compared and printed.
type plainEvent struct {
	Kind           Kind
	Type           string
	Time           int64
	FlowID         uint64
	Interface      string
	Src, Dst       netip.AddrPort
	Proto          uint8
	App            string
	Unrecognised   bool
	SrcMAC, DstMAC [6]byte
	Version        int
	Answer         bool
	ID             uint16
	Name           string
	QType, RCode   string
	Answers        []plainRecord
	ServerName     string
	Subject        string
	AltNames       []string
	Start, End     int64
	Bytes          [4]uint64
	State, Reason  string
	Midstream      bool
	Stats          StatsCounters
}

type plainRecord struct {
	Name, Type, Data string
	TTL              uint32
}

// text is b as encoding/json has it: with U+FFFD for what is not UTF-8.
func text(b []byte) string { return string([]rune(string(b))) }

func plain(ev *Event) plainEvent {
	p := plainEvent{
		Kind: ev.Kind, Type: text(ev.Type), Time: ev.Time, FlowID: ev.FlowID, Interface: text(ev.Interface),
		Src: ev.Src, Dst: ev.Dst, Proto: ev.Proto, App: text(ev.App), Unrecognised: ev.Unrecognised, SrcMAC: ev.SrcMAC, DstMAC: ev.DstMAC,
		Version: ev.DNS.Version, Answer: ev.DNS.Answer, ID: ev.DNS.ID, Name: text(ev.DNS.Name),
		QType: text(ev.DNS.Type), RCode: text(ev.DNS.RCode),
		ServerName: text(ev.Name), Subject: text(ev.Subject), Start: ev.Flow.Start, End: ev.Flow.End,
		Bytes: [4]uint64{ev.Flow.BytesToServer, ev.Flow.BytesToClient, ev.Flow.PktsToServer, ev.Flow.PktsToClient},
		State: text(ev.Flow.State), Reason: text(ev.Flow.Reason), Midstream: ev.Midstream, Stats: ev.Stats,
	}
	for _, n := range ev.AltNames {
		p.AltNames = append(p.AltNames, text(n))
	}
	for _, r := range ev.DNS.Answers {
		p.Answers = append(p.Answers, plainRecord{text(r.Name), text(r.Type), text(r.Data), r.TTL})
	}
	return p
}

type object = map[string]any

// oracle reads fields and keeps the first error.
type oracle struct{ err error }

func (o *oracle) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf(format, args...)
	}
}

func (o *oracle) str(m object, key string) string {
	switch v := m[key].(type) {
	case nil:
	case string:
		return v
	default:
		o.fail("%s is no string", key)
	}
	return ""
}

func (o *oracle) num(m object, key string, bits int) uint64 {
	switch v := m[key].(type) {
	case nil:
	case json.Number:
		n, err := strconv.ParseUint(string(v), 10, bits)
		if err != nil {
			o.fail("%s: %w", key, err)
		}
		return n
	default:
		o.fail("%s is no number", key)
	}
	return 0
}

// quantity is a number of any kind, in the range of its place.
func (o *oracle) quantity(m object, key string) uint64 {
	v, ok := m[key].(json.Number)
	if !ok {
		if m[key] != nil {
			o.fail("%s is no number", key)
		}
		return 0
	}
	if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
		return n
	}
	switch f, _ := v.Float64(); {
	case f <= 0:
		return 0
	case f >= 1<<64:
		return 1<<64 - 1
	default:
		return uint64(f)
	}
}

func (o *oracle) obj(m object, key string) object {
	switch v := m[key].(type) {
	case nil:
	case object:
		return v
	default:
		o.fail("%s is no object", key)
	}
	return nil
}

func (o *oracle) list(m object, key string) []any {
	switch v := m[key].(type) {
	case nil:
	case []any:
		return v
	default:
		o.fail("%s is no array", key)
	}
	return nil
}

var timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):?[0-5]\d)$`)

func (o *oracle) time(m object, key string) int64 {
	s := o.str(m, key)
	if m[key] == nil {
		return 0
	}
	for _, layout := range []string{"2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil && timeForm.MatchString(s) && !strings.HasPrefix(s, "0000") {
			return t.Unix()*1000 + int64(t.Nanosecond())/1e6
		}
	}
	o.fail("%s %q is no time", key, s)
	return 0
}

func (o *oracle) addr(m object, key string) netip.Addr {
	s := o.str(m, key)
	if m[key] == nil {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		o.fail("%s %q is no address", key, s)
	}
	return a.Unmap()
}

func (o *oracle) mac(v any) (mac [6]byte) {
	s, ok := v.(string)
	if !ok {
		if v != nil {
			o.fail("MAC is no string")
		}
		return mac
	}
	parts := strings.Split(s, ":")
	if len(parts) != 6 {
		o.fail("%q is no MAC", s)
		return mac
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(p) != 2 {
			o.fail("%q is no MAC", s)
		}
		mac[i] = byte(n)
	}
	return mac
}

var protocols = map[string]uint8{"TCP": 6, "UDP": 17, "ICMP": 1, "IPv6-ICMP": 58, "IGMP": 2, "IP-ENCAP": 4,
	"IPv4": 4, "IPv6": 41, "GRE": 47, "ESP": 50, "AH": 51, "SCTP": 132, "UDPLite": 136}

// decodeByOracle is what Decode has to come to.
func decodeByOracle(line []byte) (p plainEvent, err error) {
	var m object
	if err := unmarshal(line, &m); err != nil {
		return p, err
	}
	if m == nil {
		return p, errors.New("no object")
	}
	o := &oracle{}
	p.Type = o.str(m, "event_type")
	for k := Other + 1; k < kinds; k++ {
		if k.String() == p.Type {
			p.Kind = k
		}
	}
	p.Time, p.FlowID, p.Interface = o.time(m, "timestamp"), o.num(m, "flow_id", 64), o.str(m, "in_iface")
	src, sport := o.addr(m, "src_ip"), o.num(m, "src_port", 16)
	dst, dport := o.addr(m, "dest_ip"), o.num(m, "dest_port", 16)
	if src.IsValid() {
		p.Src = netip.AddrPortFrom(src, uint16(sport))
	}
	if dst.IsValid() {
		p.Dst = netip.AddrPortFrom(dst, uint16(dport))
	}
	proto := o.str(m, "proto")
	p.Proto = protocols[proto]
	if n, err := strconv.ParseUint(proto, 10, 8); err == nil && len(proto) <= 3 {
		p.Proto = uint8(n)
	}
	p.App = o.str(m, "app_proto")
	if p.Unrecognised = p.App == "failed"; p.Unrecognised || p.App == "unknown" {
		p.App = ""
	}
	p.SrcMAC = o.ether(o.obj(m, "ether"), "src_mac")
	p.DstMAC = o.ether(o.obj(m, "ether"), "dest_mac")
	if p.Kind == Other {
		if p.Type == "" {
			o.fail("no event_type")
		}
		return p, o.err
	}
	body := o.obj(m, p.Type)
	if body == nil {
		o.fail("no %s", p.Type)
	}
	switch p.Kind {
	case DNS:
		o.dns(body, &p)
	case TLS:
		p.ServerName, p.Subject = o.str(body, "sni"), o.str(body, "subject")
		list, _ := body["subjectaltname"].([]any)
		for _, v := range list {
			if n, _ := v.(string); n != "" && len(p.AltNames) < MaxAltNames {
				p.AltNames = append(p.AltNames, n)
			}
		}
	case QUIC:
		p.ServerName = o.str(body, "sni")
	case HTTP:
		p.ServerName = o.str(body, "hostname")
		list, _ := body["request_headers"].([]any)
		for _, v := range list {
			h, _ := v.(object)
			if value, _ := h["value"].(string); h["name"] == ":authority" && value != "" {
				p.ServerName = value
			}
		}
	case Flow:
		p.Start, p.End = o.time(body, "start"), o.time(body, "end")
		for i, key := range []string{"bytes_toserver", "bytes_toclient", "pkts_toserver", "pkts_toclient"} {
			p.Bytes[i] = o.num(body, key, 64)
		}
		p.State, p.Reason = o.str(body, "state"), o.str(body, "reason")
		if tcp, ok := m["tcp"].(object); ok {
			p.Midstream = tcp["syn"] != true
		}
		if body["start"] == nil || body["end"] == nil {
			o.fail("no start or end")
		}
	case Stats:
		o.stats(body, &p.Stats)
		return p, o.err
	}
	if m["timestamp"] == nil || !src.IsValid() || !dst.IsValid() {
		o.fail("no time or address")
	}
	return p, o.err
}

func unmarshal(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err == nil || err.Error() != "EOF" {
		return errors.New("more behind the object")
	}
	return nil
}

func (o *oracle) ether(m object, key string) [6]byte {
	one := o.mac(m[key])
	first := [6]byte{}
	if list := o.list(m, key+"s"); len(list) > 0 {
		first = o.mac(list[0])
	}
	if one == first || one != [6]byte{} {
		return one
	}
	return first
}

func (o *oracle) record(v any) (r plainRecord, data bool) {
	m, ok := v.(object)
	if !ok {
		o.fail("record is no object")
	}
	r = plainRecord{Name: o.str(m, "rrname"), Type: o.str(m, "rrtype"), TTL: uint32(o.num(m, "ttl", 32))}
	r.Data, data = m["rdata"].(string)
	return r, data
}

func (o *oracle) dns(m object, p *plainEvent) {
	p.Version = max(1, int(o.num(m, "version", 64)))
	p.ID, p.RCode = uint16(o.num(m, "id", 16)), o.str(m, "rcode")
	top, _ := o.record(m)
	p.Name, p.QType = top.Name, top.Type
	var asked plainRecord
	for i, q := range o.list(m, "queries") {
		if r, _ := o.record(q); i == 0 {
			asked = r
		}
	}
	switch p.Version {
	case 1, 2:
	case 3:
		p.Name, p.QType = asked.Name, asked.Type
	default:
		o.fail("version %d", p.Version)
	}
	switch typ := o.str(m, "type"); typ {
	case "query", "request":
	case "answer", "response":
		p.Answer = true
	default:
		o.fail("type %q", typ)
	}
	_, has := m["answers"]
	for _, a := range o.list(m, "answers") {
		r, _ := o.record(a)
		p.Answers = append(p.Answers, r)
	}
	if p.Version == 1 && !has && top.Data != "" {
		p.Answers = []plainRecord{top}
	}
	if len(p.Answers) == 0 {
		// In an object decoded to a map the order is lost: see sameAnswers.
		for typ, list := range o.obj(m, "grouped") {
			list, _ := list.([]any)
			for _, data := range list {
				s, _ := data.(string)
				p.Answers = append(p.Answers, plainRecord{Name: p.Name, Type: typ, Data: s})
			}
		}
	}
}

func (o *oracle) stats(m object, s *StatsCounters) {
	s.Uptime = o.quantity(m, "uptime")
	get := func(group, key string) uint64 { return o.quantity(o.obj(m, group), key) }
	s.KernelPackets, s.KernelDrops = get("capture", "kernel_packets"), get("capture", "kernel_drops")
	s.CaptureErrors = get("capture", "errors")
	s.DecoderPackets, s.DecoderBytes = get("decoder", "pkts"), get("decoder", "bytes")
	s.DecoderInvalid = get("decoder", "invalid")
	s.SSNMemcapDrop, s.SegmentMemcapDrop = get("tcp", "ssn_memcap_drop"), get("tcp", "segment_memcap_drop")
	s.ReassemblyGap, s.InsertDataNormalFail = get("tcp", "reassembly_gap"), get("tcp", "insert_data_normal_fail")
	s.TCPMemuse, s.ReassemblyMemuse = get("tcp", "memuse"), get("tcp", "reassembly_memuse")
	s.FlowTotal, s.FlowActive = get("flow", "total"), get("flow", "active")
	s.FlowMemcap, s.FlowMemuse = get("flow", "memcap"), get("flow", "memuse")
	s.EmergencyMode = get("flow", "emerg_mode_entered")
}

// compare tells how Decode and the oracle differ on a line, "" if they do not.
func compare(d *Decoder, line []byte) string {
	var ev Event
	err := d.Decode(line, &ev)
	want, wantErr := decodeByOracle(line)
	var de *DecodeError
	switch {
	case err != nil && !errors.As(err, &de):
		return fmt.Sprintf("error is a %T", err)
	case err != nil && (errors.Is(err, ErrDepth) || errors.Is(err, ErrTooLong)):
		return ""
	case err != nil && wantErr == nil && !hasDuplicates(line):
		return fmt.Sprintf("refused: %v", err)
	case err == nil && wantErr != nil:
		return fmt.Sprintf("accepted, but: %v", wantErr)
	case err != nil:
		return ""
	}
	got := plain(&ev)
	if len(want.Answers) > MaxRecords {
		want.Answers = want.Answers[:MaxRecords]
	}
	if !sameAnswers(got.Answers, want.Answers, hasDuplicates(line)) {
		return fmt.Sprintf("answers\n got %+v\nwant %+v", got.Answers, want.Answers)
	}
	got.Answers, want.Answers = nil, nil
	if !reflect.DeepEqual(got, want) {
		return fmt.Sprintf("\n got %+v\nwant %+v", got, want)
	}
	return ""
}

// sameAnswers compares records; in any order, since the oracle loses the order
// of groups. Which groups count if keys are there twice is left open.
func sameAnswers(got, want []plainRecord, duplicates bool) bool {
	if reflect.DeepEqual(got, want) || duplicates || len(got) == MaxRecords {
		return true
	}
	n := map[plainRecord]int{}
	for _, r := range got {
		n[r]++
	}
	for _, r := range want {
		n[r]--
	}
	for _, c := range n {
		if c != 0 {
			return false
		}
	}
	return len(got) == len(want)
}

// hasDuplicates tells whether any object in the line has a key twice.
func hasDuplicates(line []byte) bool {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	type level struct {
		keys map[string]bool // nil: an array
		name bool            // a key comes next
	}
	var open []level
	for {
		t, err := d.Token()
		if err != nil {
			return false
		}
		if n := len(open); n > 0 && open[n-1].keys != nil {
			if key, ok := t.(string); ok && open[n-1].name {
				if open[n-1].keys[key] {
					return true
				}
				open[n-1].keys[key], open[n-1].name = true, false
				continue
			}
			open[n-1].name = true
		}
		switch t {
		case json.Delim('{'):
			open = append(open, level{keys: map[string]bool{}, name: true})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
	}
}
