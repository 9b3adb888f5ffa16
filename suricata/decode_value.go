package suricata

import "net/netip"

// addr reads an address; null is the zero Addr.
func (s *scanner) addr(i int) (a netip.Addr, next int) {
	text, next := s.text(i)
	if next < 0 || text == nil {
		return a, next
	}
	a, ok := ParseAddr(text)
	if !ok {
		return a, s.fail(ErrValue, i)
	}
	return a, next
}

// ParseAddr reads an IPv4 or IPv6 address without a zone, in any form that
// netip.ParseAddr takes, without allocating. IPv4-mapped addresses are
// unmapped.
func ParseAddr(b []byte) (a netip.Addr, ok bool) {
	for i, c := range b {
		switch c {
		case '.':
			v4, ok := parseIPv4(b)
			return netip.AddrFrom4(v4), ok
		case ':':
			v6, ok := parseIPv6(b)
			return netip.AddrFrom16(v6).Unmap(), ok
		}
		if i == 4 {
			break
		}
	}
	return a, false
}

func parseIPv4(b []byte) (a [4]byte, ok bool) {
	part, digits, v := 0, 0, 0
	for _, c := range b {
		if c == '.' {
			if digits == 0 || part == 3 {
				return a, false
			}
			a[part] = byte(v)
			part, digits, v = part+1, 0, 0
			continue
		}
		if c -= '0'; c > 9 || digits > 0 && v == 0 {
			return a, false
		}
		v = v*10 + int(c)
		digits++
		if v > 255 {
			return a, false
		}
	}
	a[3] = byte(v)
	return a, part == 3 && digits > 0
}

// fullIPv6 is the length of an address as Suricata writes it: eight groups of
// four digits.
const fullIPv6 = 39

func parseIPv6(b []byte) (a [16]byte, ok bool) {
	if len(b) == fullIPv6 {
		if a, ok = parseFullIPv6(b); ok {
			return a, true
		}
	}
	gap := -1 // where in a the "::" is
	n := 0    // bytes of a that are set
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
	}
	for len(b) > 0 {
		v, digits := 0, 0
		for digits < len(b) && digits < 5 && hexDigit[b[digits]] >= 0 {
			v = v<<4 | int(hexDigit[b[digits]])
			digits++
		}
		if digits < len(b) && b[digits] == '.' {
			v4, ok := parseIPv4(b)
			if !ok || n > 12 || n < 12 && gap < 0 {
				return a, false
			}
			n += copy(a[n:], v4[:])
			b = nil
			break
		}
		if digits == 0 || digits > 4 || n == len(a) {
			return a, false
		}
		a[n], a[n+1] = byte(v>>8), byte(v)
		n += 2
		if b = b[digits:]; len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return a, false
		}
		if b = b[1:]; b[0] == ':' {
			if gap >= 0 {
				return a, false
			}
			gap, b = n, b[1:]
		}
	}
	if gap < 0 {
		return a, n == len(a)
	}
	if n == len(a) {
		return a, false
	}
	tail := copy(a[len(a)-(n-gap):], a[gap:n])
	clear(a[gap : len(a)-tail])
	return a, true
}

func parseFullIPv6(b []byte) (a [16]byte, ok bool) {
	b = b[:fullIPv6]
	bad := int8(0)
	for g := range 8 {
		h := b[5*g : 5*g+4]
		h0, h1, h2, h3 := hexDigit[h[0]], hexDigit[h[1]], hexDigit[h[2]], hexDigit[h[3]]
		bad |= h0 | h1 | h2 | h3
		a[2*g], a[2*g+1] = byte(h0<<4|h1), byte(h2<<4|h3)
		if g < 7 && b[5*g+4] != ':' {
			return a, false
		}
	}
	return a, bad >= 0
}

// mac reads an Ethernet address; null is the zero one.
func (s *scanner) mac(i int) (a [6]byte, next int) {
	text, next := s.text(i)
	if next < 0 || text == nil {
		return a, next
	}
	if len(text) != 17 {
		return a, s.fail(ErrValue, i)
	}
	bad := int8(0)
	for n := range a {
		h, l := hexDigit[text[3*n]], hexDigit[text[3*n+1]]
		bad |= h | l
		a[n] = byte(h<<4 | l)
		if n < 5 && text[3*n+2] != ':' {
			bad = -1
		}
	}
	if bad < 0 {
		return a, s.fail(ErrValue, i)
	}
	return a, next
}

// proto reads the name of an IP protocol, as Suricata has it from
// /etc/protocols, or its number in digits.
func (s *scanner) proto(i int) (p uint8, next int) {
	text, next := s.text(i)
	switch string(text) {
	case "TCP":
		return 6, next
	case "UDP":
		return 17, next
	case "ICMP":
		return 1, next
	case "IPv6-ICMP":
		return 58, next
	case "IGMP":
		return 2, next
	case "IP-ENCAP", "IPv4":
		return 4, next
	case "IPv6":
		return 41, next
	case "GRE":
		return 47, next
	case "ESP":
		return 50, next
	case "AH":
		return 51, next
	case "SCTP":
		return 132, next
	case "UDPLite":
		return 136, next
	}
	if len(text) > 3 {
		return 0, next
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, next
		}
		n = n*10 + int(c-'0')
	}
	if n > 255 {
		return 0, next
	}
	return uint8(n), next
}

// time reads a time such as "2025-05-31T00:00:01.713289+0000" in ms of Unix
// time, fractions cut off; given is false for null.
func (s *scanner) time(i int) (ms int64, given bool, next int) {
	text, next := s.text(i)
	if next < 0 || text == nil {
		return 0, false, next
	}
	ms, ok := parseTime(text)
	if !ok {
		return 0, false, s.fail(ErrValue, i)
	}
	return ms, true, next
}

// parseTime reads ISO 8601 with a fraction of any number of digits, or none,
// and the zone as Z, +hhmm or +hh:mm.
func parseTime(b []byte) (ms int64, ok bool) {
	if len(b) < len("2025-05-31T00:00:01Z") ||
		b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	century, year, month, day := two(b), two(b[2:]), two(b[5:]), two(b[8:])
	hour, minute, second := two(b[11:]), two(b[14:]), two(b[17:])
	if century|year|month|day|hour|minute|second < 0 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	days, ok := unixDay(century*100+year, month, day)
	if !ok {
		return 0, false
	}
	fraction, n, ok := parseFraction(b[19:])
	if !ok {
		return 0, false
	}
	offset, ok := parseZone(b[19+n:])
	if !ok {
		return 0, false
	}
	minutes := (int64(days)*24+int64(hour))*60 + int64(minute) - int64(offset)
	return (minutes*60+int64(second))*1000 + int64(fraction), true
}

// two is the value of the two decimal digits that b begins with, negative if
// they are not.
func two(b []byte) int {
	h, l := b[0]-'0', b[1]-'0'
	if h > 9 || l > 9 {
		return -1
	}
	return int(h)*10 + int(l)
}

// unixDay counts days since 1970-01-01; the year is at least 1.
func unixDay(year, month, day int) (days int, ok bool) {
	if year < 1 || month < 1 || month > 12 || day < 1 {
		return 0, false
	}
	leap := year%4 == 0 && (year%100 != 0 || year%400 == 0)
	last := int(monthDays[month-1])
	if leap && month == 2 {
		last = 29
	}
	if day > last {
		return 0, false
	}
	before := year - 1
	days = year*365 + before/4 - before/100 + before/400 - epochDays
	days += int(monthStart[month-1]) + day - 1
	if leap && month > 2 {
		days++
	}
	return days, true
}

const epochDays = 1970*365 + 1969/4 - 1969/100 + 1969/400

var (
	monthDays  = [12]uint8{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	monthStart = [12]uint16{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334}
)

// parseFraction reads ".713289", if b begins with such, and its length.
func parseFraction(b []byte) (ms, n int, ok bool) {
	if len(b) == 0 || b[0] != '.' {
		return 0, 0, true
	}
	for scale := 100; 1+n < len(b) && b[1+n]-'0' <= 9; n++ {
		ms += int(b[1+n]-'0') * scale
		scale /= 10
	}
	return ms, n + 1, n > 0
}

// parseZone reads a zone in minutes east of Greenwich.
func parseZone(b []byte) (minutes int, ok bool) {
	if len(b) == 1 && b[0] == 'Z' {
		return 0, true
	}
	switch {
	case len(b) == 6 && b[3] == ':':
	case len(b) == 5:
	default:
		return 0, false
	}
	h, m := two(b[1:]), two(b[len(b)-2:])
	if h|m < 0 || h > 23 || m > 59 {
		return 0, false
	}
	switch b[0] {
	case '+':
		return h*60 + m, true
	case '-':
		return -(h*60 + m), true
	}
	return 0, false
}
