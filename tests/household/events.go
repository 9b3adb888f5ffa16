package household

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"
)

// IP protocol numbers beside those that are recorded.
const (
	icmp4 = 1
	icmp6 = 58
)

// conn is a connection as Suricata sees it, from the side that opened it.
type conn struct {
	net                *network
	id                 uint64
	src, dst           netip.AddrPort
	proto              uint8
	app                string
	srcMAC, dstMAC     MAC
	start, length      int64 // microseconds
	toServer, toClient uint64
}

// cosmetic makes values that only fill space out of the flow's number, so that
// the rest of the day does not depend on whether events are written.
func (c *conn) cosmetic(n uint64) uint64 {
	x := c.id + n*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// stamp writes times, the same second many times.
type stamp struct {
	sec  int64
	text [20]byte // "2006-01-02T15:04:05."
}

func (s *stamp) append(b []byte, at int64) []byte {
	if sec := at / second; sec != s.sec || s.text[0] == 0 {
		s.sec = sec
		time.Unix(sec, 0).UTC().AppendFormat(s.text[:0], "2006-01-02T15:04:05.")
	}
	b = append(b, s.text[:]...)
	us := at % second
	for div := int64(second / 10); div > 0; div /= 10 {
		b = append(b, byte('0'+us/div%10))
	}
	return append(b, "+0000"...)
}

func appendHex(b []byte, x uint64, digits int) []byte {
	for i := digits - 1; i >= 0; i-- {
		b = append(b, "0123456789abcdef"[x>>(4*i)&15])
	}
	return b
}

// appendAddr writes IPv6 in full, as Suricata does.
func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		return a.AppendTo(b)
	}
	raw := a.As16()
	for i := 0; i < 16; i += 2 {
		if i > 0 {
			b = append(b, ':')
		}
		b = appendHex(b, uint64(binary.BigEndian.Uint16(raw[i:])), 4)
	}
	return b
}

func appendMAC(b []byte, m MAC) []byte {
	for i, o := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = appendHex(b, uint64(o), 2)
	}
	return b
}

func appendUint(b []byte, key string, v uint64) []byte {
	return strconv.AppendUint(append(b, key...), v, 10)
}

func appendString(b []byte, key, v string) []byte {
	b = append(b, key...)
	b = append(b, '"')
	b = append(b, v...) // names of the generator need no escapes
	return append(b, '"')
}

func protoName(p uint8) string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case icmp6:
		return "IPv6-ICMP"
	}
	return "ICMP"
}

// line begins an event. back: of a packet from the server.
func (l *life) line(c *conn, at int64, typ string, back bool) []byte {
	var b []byte
	if n := len(l.free); n > 0 {
		b, l.free = l.free[n-1][:0], l.free[:n-1]
	} else {
		b = make([]byte, 0, 640)
	}
	src, dst := c.src, c.dst
	if back {
		src, dst = dst, src
	}
	b = append(b, `{"timestamp":"`...)
	b = l.stamp.append(b, at)
	b = appendUint(b, `","flow_id":`, c.id)
	b = appendString(b, `,"in_iface":`, c.net.name)
	b = appendString(b, `,"event_type":`, typ)
	b = append(b, `,"src_ip":"`...)
	b = append(appendAddr(b, src.Addr()), '"')
	if src.Port() != 0 {
		b = appendUint(b, `,"src_port":`, uint64(src.Port()))
	}
	b = append(b, `,"dest_ip":"`...)
	b = append(appendAddr(b, dst.Addr()), '"')
	if dst.Port() != 0 {
		b = appendUint(b, `,"dest_port":`, uint64(dst.Port()))
	}
	if l.cfg.Format == 8 {
		v := uint64(4)
		if src.Addr().Is6() {
			v = 6
		}
		b = appendUint(b, `,"ip_v":`, v)
	}
	return appendString(b, `,"proto":`, protoName(c.proto))
}

// ether writes the packet's addresses.
func (c *conn) ether(b []byte, back bool) []byte {
	src, dst := c.srcMAC, c.dstMAC
	if back {
		src, dst = dst, src
	}
	b = append(b, `,"pkt_src":"wire/pcap","ether":{"src_mac":"`...)
	b = appendMAC(b, src)
	b = append(b, `","dest_mac":"`...)
	return append(appendMAC(b, dst), `"}`...)
}

func (l *life) tls(c *conn, host, sni string, v12 bool) {
	at := c.start + 45_000
	it := item{at: at}
	if l.out != nil {
		b := c.ether(l.line(c, at, "tls", false), false)
		b = append(b, `,"tls":{`...)
		if v12 { // version 1.3 hides the certificate
			b = appendString(b, `"subject":`, "CN="+host)
			b = appendUint(b, `,"issuerdn":"C=US, O=Example CA, CN=E`, c.cosmetic(1)%9)
			b = append(b, `","serial":"`...)
			b = appendHex(b, c.cosmetic(2), 16)
			b = append(b, `","fingerprint":"`...)
			for i := range uint64(5) {
				b = appendHex(b, c.cosmetic(3+i), 8)
			}
			b = append(b, `",`...)
		}
		if sni != "" {
			b = append(appendString(b, `"sni":`, sni), ',')
		}
		version := "TLS 1.3"
		if v12 {
			version = "TLS 1.2"
		}
		it.line = append(appendString(b, `"version":`, version), "}}\n"...)
	}
	l.put(it)
}

func (l *life) quic(c *conn, host string) {
	first, reply := item{at: c.start + 1000}, item{at: c.start + 30_000}
	if l.out != nil {
		b := c.ether(l.line(c, first.at, "quic", false), false)
		b = appendString(b, `,"quic":{"version":"1","sni":`, host)
		b = append(b, `,"ja3":{"hash":"`...)
		b = appendHex(appendHex(b, c.cosmetic(1), 16), c.cosmetic(2), 16)
		first.line = append(b, `","string":"771,4865-4866-4867,0-5-10-13-16-27-35-43-45-51-57,29-23-24,"}}}`+"\n"...)
		b = c.ether(l.line(c, reply.at, "quic", true), true)
		reply.line = append(b, `,"quic":{"version":"1","ja3s":{"hash":"f4febc55ea12b31ae17cfb7e614afda8","string":"771,4865,43-51"}}}`+"\n"...)
	}
	l.put(first)
	l.put(reply)
}

func (l *life) http(c *conn, host string, tx int) {
	at := c.start + 40_000 + int64(tx)*300_000
	it := item{at: at}
	if l.out != nil {
		b := c.ether(l.line(c, at, "http", false), false)
		b = appendUint(b, `,"tx_id":`, uint64(tx))
		b = append(b, `,"http":{`...)
		if host != "" {
			b = append(appendString(b, `"hostname":`, host), ',')
		}
		b = append(b, `"url":"/`...)
		b = appendHex(b, c.cosmetic(uint64(tx)), 8)
		b = append(b, `/index.html","http_user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","http_content_type":"text/html","http_method":"GET","protocol":"HTTP/1.1","status":200`...)
		it.line = append(appendUint(b, `,"length":`, c.toClient), "}}\n"...)
	}
	l.put(it)
}

func rrtype(v6 bool) string {
	if v6 {
		return "AAAA"
	}
	return "A"
}

func (l *life) dnsQuery(c *conn, h *host, v6 bool) {
	it := item{at: c.start}
	if l.out != nil {
		b := c.ether(l.line(c, c.start, "dns", false), false)
		if l.cfg.Format == 8 {
			b = appendUint(b, `,"dns":{"version":3,"type":"request","tx_id":0,"id":`, c.cosmetic(0)&0xffff)
			b = appendString(b, `,"rd":true,"flags":"100","opcode":0,"rcode":"NOERROR","queries":[{"rrname":`, h.name)
			b = append(appendString(b, `,"rrtype":`, rrtype(v6)), "}]}}\n"...)
		} else {
			b = appendUint(b, `,"dns":{"version":2,"type":"query","id":`, c.cosmetic(0)&0xffff)
			b = appendString(b, `,"rrname":`, h.name)
			b = append(appendString(b, `,"rrtype":`, rrtype(v6)), `,"tx_id":0,"opcode":0}}`+"\n"...)
		}
		it.line = b
	}
	l.put(it)
}

// dnsAnswer writes an answer. Version 3 of the format has it from the resolver
// to the client, version 2 the other way round, as the query was.
func (l *life) dnsAnswer(c *conn, d *device, h *host, v6 bool) {
	at := c.start + c.length
	it := item{at: at, what: answered, dev: d, host: h, v6: v6}
	if l.out != nil {
		eight := l.cfg.Format == 8
		b := c.ether(l.line(c, at, "dns", eight), eight)
		if eight {
			b = appendUint(b, `,"dns":{"version":3,"type":"response","tx_id":1,"id":`, c.cosmetic(0)&0xffff)
			b = append(b, `,"flags":"8180","qr":true,"rd":true,"ra":true,"opcode":0,"rcode":"NOERROR","queries":[{"rrname":`...)
			b = appendString(b, "", h.name)
			b = append(appendString(b, `,"rrtype":`, rrtype(v6)), "}]"...)
		} else {
			b = appendUint(b, `,"dns":{"version":2,"type":"answer","id":`, c.cosmetic(0)&0xffff)
			b = appendString(b, `,"flags":"8180","qr":true,"rd":true,"ra":true,"opcode":0,"rrname":`, h.name)
			b = append(appendString(b, `,"rrtype":`, rrtype(v6)), `,"rcode":"NOERROR"`...)
		}
		it.line = append(appendAnswers(b, h, v6), "}}\n"...)
	}
	l.put(it)
}

func appendAnswers(b []byte, h *host, v6 bool) []byte {
	addrs := h.v4
	if v6 {
		addrs = h.v6
	}
	if len(h.chain)+len(addrs) == 0 {
		return b
	}
	sep, owner := `,"answers":[`, h.name
	record := func(typ string, ttl int) {
		b = appendString(append(b, sep...), `{"rrname":`, owner)
		b = appendString(b, `,"rrtype":`, typ)
		b = appendUint(b, `,"ttl":`, uint64(ttl))
		b = append(b, `,"rdata":"`...)
		sep = ","
	}
	for _, c := range h.chain {
		record("CNAME", 4*h.ttl)
		b = append(append(b, c...), `"}`...)
		owner = c
	}
	for _, a := range addrs {
		record(rrtype(v6), h.ttl)
		b = append(appendAddr(b, a), `"}`...)
	}
	return append(b, ']')
}

func (l *life) flowEvent(c *conn, at int64) []byte {
	answered := c.toClient > 0
	state, tcp := "new", `,"tcp":{"tcp_flags":"02","tcp_flags_ts":"02","tcp_flags_tc":"00","syn":true,"state":"syn_sent"}`
	if answered {
		state, tcp = "established", `,"tcp":{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"1b","syn":true,"fin":true,"psh":true,"ack":true,"state":"closed"}`
		if c.proto == TCP {
			state = "closed"
		}
	}
	b := l.line(c, at, "flow", false)
	if c.app != "" {
		b = appendString(b, `,"app_proto":`, c.app)
	}
	b = appendUint(b, `,"flow":{"pkts_toserver":`, 1+c.toServer/700)
	back := uint64(0)
	if answered {
		back = 1 + c.toClient/1100
	}
	b = appendUint(b, `,"pkts_toclient":`, back)
	b = appendUint(b, `,"bytes_toserver":`, c.toServer)
	b = appendUint(b, `,"bytes_toclient":`, c.toClient)
	b = append(b, `,"start":"`...)
	b = l.stamp.append(b, c.start)
	b = append(b, `","end":"`...)
	b = l.stamp.append(b, c.start+c.length)
	b = appendUint(b, `","age":`, uint64(c.length/second))
	b = appendString(b, `,"state":`, state)
	b = append(b, `,"reason":"timeout","alerted":false`...)
	if l.cfg.Format == 8 && c.app != "" {
		b = append(b, `,"tx_cnt":1`...)
	}
	b = append(b, `},"ether":{"dest_macs":["`...)
	b = appendMAC(b, c.dstMAC)
	b = append(b, `"],"src_macs":["`...)
	b = append(appendMAC(b, c.srcMAC), `"]}`...)
	if c.proto == TCP {
		b = append(b, tcp...)
	}
	return append(b, "}\n"...)
}
