package suricata

// keySet is the set of keys that an object is known to have, whether they are
// wanted or not. Suricata writes them in an order that hardly varies, so the
// decoder remembers which key came last after which and compares the line with
// that one first; looking a key up is for when that fails.
type keySet struct {
	names  []string         // by number; 0 stands for all unknown keys
	quoted []string         // as they are in a line: "name":
	number map[string]uint8 // by name
}

// maxKeys is how many keys a set may have.
const maxKeys = 32

// followers has, for each key, the one that came after it last time; for 0, the
// one that came first.
type followers [maxKeys]uint8

func newKeySet(names ...string) *keySet {
	k := &keySet{number: make(map[string]uint8)}
	for i, name := range names {
		k.names = append(k.names, name)
		k.quoted = append(k.quoted, `"`+name+`":`)
		if name != "" {
			k.number[name] = uint8(i)
		}
	}
	return k
}

// member reads the key of a member and the colon behind it. last is the number
// of the key before it, 0 for the first; known remembers what follows what.
func (s *scanner) member(i int, keys *keySet, known *followers, last uint8) (key uint8, value int) {
	key = known[last%maxKeys]
	quoted := keys.quoted[key]
	if end := i + len(quoted); key != 0 && i >= 0 && end < len(s.b) && string(s.b[i:end]) == quoted {
		if s.b[end] <= ' ' {
			end = s.space(end)
		}
		return key, end
	}
	name, value := s.key(i)
	if value < 0 {
		return 0, -1
	}
	key = keys.number[string(name)]
	known[last%maxKeys] = key
	return key, value
}

// in records the key of the value that failed, unless one within it is known.
func (d *Decoder) in(keys *keySet, key uint8) int {
	if d.err.Field == "" && key != 0 {
		d.err.Field = keys.names[key]
	}
	return -1
}

// Keys of the event itself.
const (
	keyTimestamp = iota + 1
	keyFlowID
	keyInIface
	keyEventType
	keySrcIP
	keySrcPort
	keyDestIP
	keyDestPort
	keyProto
	keyAppProto
	keyEther
	keyDNS
	keyTLS
	keyHTTP
	keyQUIC
	keyFlow
	keyStats
	keyTCP
)

var eventKeys = newKeySet("", "timestamp", "flow_id", "in_iface", "event_type", "src_ip", "src_port",
	"dest_ip", "dest_port", "proto", "app_proto", "ether", "dns", "tls", "http", "quic", "flow", "stats",
	"tcp", "ip_v", "pkt_src", "tx_id", "vlan", "pcap_cnt", "icmp_type", "icmp_code", "app_proto_tc",
	"app_proto_ts", "response_icmp_type", "response_icmp_code", "parent_id")

// Keys of "flow".
const (
	keyPktsToServer = iota + 1
	keyPktsToClient
	keyBytesToServer
	keyBytesToClient
	keyStart
	keyEnd
	keyState
	keyReason
)

var flowKeys = newKeySet("", "pkts_toserver", "pkts_toclient", "bytes_toserver", "bytes_toclient",
	"start", "end", "state", "reason", "age", "alerted", "tx_cnt", "bypass", "bypassed")

// Keys of "tcp".
const keySYN = 1

var tcpKeys = newKeySet("", "syn", "tcp_flags", "tcp_flags_ts", "tcp_flags_tc", "fin", "rst", "psh", "ack",
	"urg", "ecn", "cwr", "state", "ts_max_regions", "tc_max_regions", "ts_gap", "tc_gap", "sensor_packets")

// Keys of "ether".
const (
	keySrcMAC = iota + 1
	keyDestMAC
	keySrcMACs
	keyDestMACs
)

var etherKeys = newKeySet("", "src_mac", "dest_mac", "src_macs", "dest_macs", "ether_type")

// Keys of "tls", "http" and "quic": the wanted ones have the same numbers.
const (
	keyName = iota + 1
	keySubject
	keyAltNames
	keyRequestHeaders
)

// Keys of a header of "http": those of HTTP/2 are told as they came.
const (
	keyHeaderName = iota + 1
	keyHeaderValue
)

var (
	tlsKeys = newKeySet("", "sni", "subject", "subjectaltname", "", "issuerdn", "serial", "fingerprint", "version",
		"notbefore", "notafter", "ja4", "client_alpns", "server_alpns", "session_resumed", "from_proto")
	httpKeys = newKeySet("", "hostname", "", "", "request_headers", "url", "http_user_agent", "http_content_type", "http_method", "protocol",
		"status", "length", "http_port", "http_refer", "redirect", "content_range",
		"version", "response_headers", "http2")
	headerKeys = newKeySet("", "name", "value", "table_size_update", "error")
	quicKeys   = newKeySet("", "sni", "", "", "", "version", "ua", "cyu", "ja3", "ja3s", "ja4", "extensions")
)

// Keys of "dns".
const (
	keyVersion = iota + 1
	keyType
	keyID
	keyRRName
	keyRRType
	keyRCode
	keyRData
	keyTTL
	keyQueries
	keyAnswers
	keyGrouped
)

var (
	dnsKeys = newKeySet("", "version", "type", "id", "rrname", "rrtype", "rcode", "rdata", "ttl", "queries", "answers", "grouped",
		"flags", "qr", "aa", "tc", "rd", "ra", "z", "opcode", "tx_id", "authorities", "additionals")
	recordKeys = newKeySet("", "", "", "", "rrname", "rrtype", "", "rdata", "ttl") // numbered like those of "dns"
)

// orders are the orders of keys seen last, of each object; of the event itself
// one for each Kind.
type orders struct {
	event                                          [kinds]followers
	flow, tcp, ether, tls, http, quic, dns, record followers
	header                                         followers
}
