package suricata

import (
	"bytes"
	"net/netip"
)

// Kind is the sort of an event, from its event_type.
type Kind uint8

// The kinds of events that are decoded; all others are Other.
const (
	Other Kind = iota
	DNS
	TLS
	HTTP
	QUIC
	Flow
	Stats

	kinds // how many there are
)

var kindNames = [kinds]string{"other", "dns", "tls", "http", "quic", "flow", "stats"}

// String is the event_type, or "other".
func (k Kind) String() string {
	if k >= kinds {
		return "other"
	}
	return kindNames[k]
}

func kindOf(eventType []byte) Kind {
	switch string(eventType) {
	case "flow":
		return Flow
	case "dns":
		return DNS
	case "tls":
		return TLS
	case "quic":
		return QUIC
	case "http":
		return HTTP
	case "stats":
		return Stats
	}
	return Other
}

// Event is one decoded event. It is reused from event to event: its byte slices
// point into the line, or into the decoder, and live until the next Decode.
// They are unescaped from JSON but otherwise as the network sent them: any
// length up to the line's, any bytes.
type Event struct {
	Kind      Kind
	Type      []byte         // event_type as written
	Time      int64          // Unix ms
	FlowID    uint64         // 0 if absent
	Interface []byte         // in_iface; empty where the capture does not tell it
	Src, Dst  netip.AddrPort // IPv4-mapped addresses are unmapped; port 0 if there is none
	Proto     uint8          // IP protocol number; 0 if unknown
	App       []byte         // app_proto; empty for "failed" and "unknown"
	// Unrecognised: app_proto is "failed", Suricata has looked and knows no such protocol.
	Unrecognised bool

	// The Ethernet addresses of the packet, or the first of those that a flow
	// had; zero if absent.
	SrcMAC, DstMAC [6]byte

	DNS     Message // Kind DNS
	Name    []byte  // TLS and QUIC: the SNI; HTTP: the Host, or :authority of HTTP/2; empty if absent
	Subject []byte  // TLS: subject of the server's certificate, see CommonNames
	// AltNames are the subjectAltNames of the server's certificate, the first
	// MaxAltNames of them. Kind TLS, from Suricata 8 on.
	AltNames [][]byte
	Flow     FlowEnd // Kind Flow
	// Midstream: a TCP connection whose first packet Suricata did not see, or
	// had forgotten. Which side opened it is then not known. Kind Flow.
	Midstream bool
	Stats     StatsCounters // Kind Stats
}

// MaxRecords is how many records of a DNS answer are kept, MaxAltNames how many
// names of a certificate.
const (
	MaxRecords  = 256
	MaxAltNames = 256
)

// Message is a DNS query or answer. Which side of the event is the client
// depends on the version, see Client.
type Message struct {
	Version int    // of EVE's DNS format: 1, 2 (Suricata 4.1 to 7) or 3 (Suricata 8)
	Answer  bool   // false: a query
	ID      uint16 // transaction
	Name    []byte // the name asked for; version 1: the name of the one record
	Type    []byte // the type asked for: "A", "AAAA", "HTTPS" ...
	RCode   []byte // "NOERROR", "NXDOMAIN" ...; empty if absent

	// Answers are the records of the answer section, the first MaxRecords of
	// them. Where the event has them in the grouped form only, their TTL is 0
	// and their Name the name asked for.
	Answers []Record
}

// Record is a DNS resource record.
type Record struct {
	Name []byte
	Type []byte
	Data []byte // an address, a name, text; empty for types whose data are an object (SRV, SOA ...)
	TTL  uint32 // seconds
}

// FlowEnd is what a flow event tells, at the end of a flow. The side that
// opened it is the event's Src. Bytes include link headers where the capture
// has them.
type FlowEnd struct {
	Start, End                   int64 // Unix ms of the first and the last packet; as Suricata wrote them, in any order
	BytesToServer, BytesToClient uint64
	PktsToServer, PktsToClient   uint64
	State                        []byte // "new", "established", "closed", "bypassed"
	Reason                       []byte // "timeout", "forced", "shutdown", "tcp_reuse" ...
}

// StatsCounters are the counters of a stats event that tell whether Suricata
// sees and keeps everything. All count from its start, but for the gauges
// FlowActive and the *Memuse.
type StatsCounters struct {
	Uptime                       uint64 // seconds
	KernelPackets, KernelDrops   uint64 // capture.kernel_*
	CaptureErrors                uint64 // capture.errors
	DecoderPackets, DecoderBytes uint64 // decoder.pkts, bytes
	DecoderInvalid               uint64 // decoder.invalid
	SSNMemcapDrop                uint64 // tcp.ssn_memcap_drop: connections
	SegmentMemcapDrop            uint64 // tcp.segment_memcap_drop: segments
	ReassemblyGap                uint64 // tcp.reassembly_gap
	InsertDataNormalFail         uint64 // tcp.insert_data_normal_fail: data lost to the reassembly memcap
	TCPMemuse, ReassemblyMemuse  uint64 // bytes
	FlowTotal, FlowActive        uint64 // flow.total, active
	FlowMemcap                   uint64 // flow.memcap: flows refused
	FlowMemuse                   uint64 // bytes
	EmergencyMode                uint64 // flow.emerg_mode_entered
}

// Client is the address of the side that asked: in format 3 an answer comes
// from the server, in formats 1 and 2 queries and answers both have the client
// as their source.
func (ev *Event) Client() netip.AddrPort {
	if ev.Kind == DNS && ev.DNS.Answer && ev.DNS.Version >= 3 {
		return ev.Dst
	}
	return ev.Src
}

// CommonNames appends the common names (CN) in a distinguished name such as
// "C=US, O=GitHub, Inc., CN=www.github.com" to dst.
func CommonNames(dst [][]byte, dn []byte) [][]byte {
	for rest := dn; len(rest) > 0; {
		n := attributeEnd(rest)
		if attr := rest[:n]; len(attr) > 3 && (attr[0]|0x20) == 'c' && (attr[1]|0x20) == 'n' && attr[2] == '=' {
			dst = append(dst, attr[3:])
		}
		rest = bytes.TrimLeft(rest[n:], ",+ ")
	}
	return dst
}

// attributeEnd is where the first attribute of dn ends: at the separator before
// the next "type=". A comma inside a value ("GitHub, Inc.") does not end it, nor
// does one that is escaped ("\\,").
func attributeEnd(dn []byte) int {
	for i := 0; i < len(dn); i++ {
		if dn[i] == '\\' {
			i++
			continue
		}
		if dn[i] != ',' && dn[i] != '+' {
			continue
		}
		next := bytes.TrimLeft(dn[i+1:], " ")
		t := 0
		for t < len(next) && isAttributeType(next[t]) {
			t++
		}
		if t > 0 && t < len(next) && next[t] == '=' {
			return len(bytes.TrimRight(dn[:i], " "))
		}
	}
	return len(dn)
}

func isAttributeType(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-'
}
