// Package lease reads what the router's DHCP servers say of their leases, the
// files of dnsmasq and of odhcpd, and what the owner wrote for them of devices
// outside of UCI. Which device a lease means, and for how long its name is
// remembered, is left to package client.
package lease

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"pakon/uci/regular"
)

// What is read at most. A house has a few dozen leases, and a line of a lease
// with a name and a client-id of 255 octets has about 1100 bytes.
const (
	maxLeases = 4096
	maxLine   = 4096    // bytes
	maxFile   = 4 << 20 // bytes
	maxName   = 255     // bytes
	maxID     = 255     // octets
)

// Lease is an address that a device was given.
type Lease struct {
	MAC      [6]byte    // zero if the server did not say; of IPv6, as the device's DUID has it, which may be the MAC of another of its interfaces
	Addr     netip.Addr // always valid, without a zone
	Name     string     // as the device calls itself: UTF-8 without blanks, control and invisible characters, at most 255 bytes; "" if it has none
	ClientID string     // as 01:aa:bb:..., in lower case; of IPv6 the DUID; "" if there is none
	Expires  int64      // Unix seconds; 0: never, or not known. Where odhcpd only renewed a lease, it may be that of before
}

// Read reads the leases of all files, in their order. A file that is not there
// has none. skipped is how many lines could not be used, for their form or
// because there was too much. err tells which files could not be read; what the
// others have is returned all the same.
func Read(paths []string) (leases []Lease, skipped int, err error) {
	for _, path := range paths {
		f := reading{leases: &leases}
		n, fileErr := readLines(path, f.line)
		skipped += n + f.finish()
		if fileErr != nil && !errors.Is(fileErr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("read leases: %w", fileErr))
		}
	}
	return leases, skipped, err
}

// readLines reads a file, and returns how many of its lines parse does not take, or
// are too long or too many for it to get them.
func readLines(path string, parse func(line string) bool) (skipped int, err error) {
	f, err := regular.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return eachLine(f, parse)
}

func eachLine(r io.Reader, parse func(line string) bool) (skipped int, err error) {
	limited := &io.LimitedReader{R: r, N: maxFile + 1}
	lines := bufio.NewReaderSize(limited, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return skipped, err
		}
		cut := limited.N == 0 && err == io.EOF // in the middle of a line, as a rule
		if tooLong || cut || !parse(string(bytes.TrimSpace(line))) {
			skipped++
		}
		if err == io.EOF {
			return skipped, nil
		}
	}
}

// broken is what odhcpd puts in front of what is no host name. Until 2026 it wrote the
// rest of that as the device had sent it, with its newlines.
const broken = `broken\x20`

// reading is a file of leases as far as it was read. What stands behind a name that
// may have newlines may be a part of that: made up by a device, as the line of another.
type reading struct {
	leases   *[]Lease
	name     int       // bytes behind the last line that may be of such a name
	torn     bool      // one of the lines that may be of it is none of a lease
	from     int       // where those behind it begin in doubtful
	doubtful [][]Lease // lines that may be of such names
}

// maxDoubtful bounds the lines that are looked at for what others say.
const maxDoubtful = 64

func (r *reading) line(line string) bool {
	doubtful := r.name > 0
	if !doubtful {
		r.end()
	}
	var said []Lease
	to := r.leases
	if doubtful {
		to = &said
	}
	ok := parseLine(line, to)
	if len(said) > 0 {
		r.doubtful = append(r.doubtful, said)
	}
	r.name -= len(line) + 1
	if fields := strings.Fields(line); len(fields) > 4 && fields[0] == "#" && strings.HasPrefix(fields[4], broken) {
		const end = 16 // bytes, for the newline may be the last of the name
		r.name = max(r.name, maxName+end+strings.Index(line, broken)-len(line))
		doubtful = true
	}
	r.torn = r.torn || doubtful && !ok
	return ok
}

// end empties the lines behind a name that is known to have had newlines.
func (r *reading) end() {
	if r.torn {
		clear(r.doubtful[r.from:])
	}
	r.torn, r.from = false, len(r.doubtful)
}

// finish takes the doubtful lines that no other contradicts, and returns how many it
// does not take.
func (r *reading) finish() (skipped int) {
	r.end()
	sure := slices.Clone(*r.leases)
	for i, line := range r.doubtful {
		against := func(o Lease) bool {
			return slices.ContainsFunc(line, func(l Lease) bool { return l != o && l.contradicts(&o) })
		}
		if line == nil || i >= maxDoubtful || len(*r.leases)+len(line) > maxLeases || slices.ContainsFunc(sure, against) ||
			slices.ContainsFunc(r.doubtful, func(other []Lease) bool { return slices.ContainsFunc(other, against) }) {
			skipped++
			continue
		}
		*r.leases = append(*r.leases, line...)
	}
	return skipped
}

// contradicts reports whether two leases can not both be right: of one device of
// which they say something else, or of one address that two devices have.
func (l *Lease) contradicts(o *Lease) bool {
	if l.MAC == o.MAC && l.MAC != [6]byte{} || l.ClientID == o.ClientID && l.ClientID != "" {
		return l.Name != o.Name && l.Name != "" && o.Name != "" || l.Addr.Is4() && o.Addr.Is4() && l.Addr != o.Addr
	}
	return l.Addr == o.Addr
}

// parseLine adds the leases of a line. Each line tells by itself whose it is.
// It returns false for a line that is not as either server writes it, or that
// is one too many.
func parseLine(line string, leases *[]Lease) bool {
	if line == "" {
		return true
	}
	fields := strings.Fields(line)
	before := len(*leases)
	ok := false
	if fields[0] == "#" {
		ok = parseOdhcpd(fields[1:], leases)
	} else {
		ok = parseDnsmasq(fields, leases)
	}
	if !ok {
		*leases = (*leases)[:before]
	}
	if len(*leases) > maxLeases {
		*leases = (*leases)[:maxLeases]
		ok = false
	}
	return ok
}

// parseDnsmasq takes a line of dnsmasq's lease file (lease_update_file in its
// src/lease.c):
//
//	EXPIRES MAC IPV4 NAME CLIENTID
//	EXPIRES IAID IPV6 NAME DUID
//
// '*' is none, NN- in front of a MAC its type of hardware, T in front of an IAID
// a temporary address. Other lines begin with a word.
func parseDnsmasq(fields []string, leases *[]Lease) bool {
	switch fields[0] {
	case "duid", "vendorclass", "agent-info": // the server's own, and what it knows besides
		return true
	}
	if addr, err := netip.ParseAddr(fields[0]); err == nil {
		// Until late 2025, odhcpd wrote lines of /etc/hosts into its lease file, each
		// in front of the line that has the same and the MAC.
		return addr.Zone() == "" && len(fields) > 1
	}
	if len(fields) != 5 {
		return false
	}
	expires, err := strconv.ParseInt(fields[0], 10, 64)
	addr, addrErr := netip.ParseAddr(fields[2])
	if err != nil || expires < 0 || addrErr != nil || addr.Zone() != "" {
		return false
	}
	// A dnsmasq that is built for routers without a clock writes for how long the
	// lease was given.
	const longestLease = 1e9
	if expires < longestLease {
		expires = 0
	}
	l := Lease{Addr: addr.Unmap(), Name: cleanName(fields[3]), Expires: expires}
	id, _ := parseOctets(fields[4], maxID)
	l.ClientID = formatOctets(id)
	if l.Addr.Is4() {
		var ok bool
		if l.MAC, ok = parseMAC(fields[1]); !ok {
			return false
		}
	} else {
		l.MAC = macOfDUID(id)
	}
	*leases = append(*leases, l)
	return true
}

// parseOdhcpd takes a line of odhcpd's lease file, without the '#' in front
// (statefiles_write_state in its src/statefiles.c, before in src/dhcpv6-ia.c):
//
//	INTERFACE MAC ipv4 NAME EXPIRES HEXADDR 32 ADDR/32
//	INTERFACE DUID IAID NAME EXPIRES HEXASSIGNED LENGTH ADDR/128...
//
// The MAC had no colons until late 2025, and one digit for an octet with some C
// libraries. A name is '-' for none and begins with broken\x20 where it is no
// host name; it may then have blanks, as odhcpd escapes them only since 2026.
func parseOdhcpd(fields []string, leases *[]Lease) bool {
	const before, after = 3, 3 // columns before and after the name, without the addresses
	end := len(fields)
	for end > 0 && strings.Contains(fields[end-1], "/") {
		end--
	}
	if end < before+1+after {
		return false
	}
	expires, err := strconv.ParseInt(fields[end-after], 10, 64)
	length, lengthErr := strconv.ParseUint(fields[end-1], 10, 8)
	if err != nil || expires < -1 || lengthErr != nil {
		return false
	}
	switch expires {
	case 0:
		return true // it has expired
	case -1:
		expires = 0
	}
	l := Lease{Expires: expires}
	if end == before+1+after {
		l.Name = cleanName(fields[before])
	}
	bits := uint64(128)
	if fields[2] == "ipv4" {
		var ok bool
		if l.MAC, ok = parseMAC(fields[1]); !ok {
			return false
		}
		bits = 32
	} else {
		duid, ok := parseOctets(fields[1], maxID)
		if !ok {
			return false
		}
		l.ClientID, l.MAC = formatOctets(duid), macOfDUID(duid)
	}
	if length != bits {
		return length < bits // a network that was delegated, not an address
	}
	for _, field := range fields[end:] {
		prefix, err := netip.ParsePrefix(field)
		if err != nil || !prefix.IsSingleIP() || prefix.Bits() != int(bits) {
			return false
		}
		l.Addr = prefix.Addr().Unmap()
		*leases = append(*leases, l)
	}
	return true
}

// cleanName returns a name as it is kept, or "" for none and for what can not be
// shown as the name of a device, or would be taken for the address of one.
func cleanName(s string) string {
	s = strings.TrimSuffix(s, ".")
	if s == "*" || s == "-" || len(s) > maxName || !utf8.ValidString(s) || strings.HasPrefix(s, broken) || strings.Contains(s, ":") {
		return ""
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) {
			return ""
		}
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return ""
	}
	for _, separator := range []string{":", ""} {
		if b, ok := parseOctets(strings.NewReplacer("-", separator, ".", separator).Replace(s), 6); ok && len(b) == 6 {
			return ""
		}
	}
	return strings.Clone(s) // not with the line that it is part of
}

// parseMAC takes a MAC. It is zero, but right, for none, for an address of other
// hardware and for one that no device has.
func parseMAC(s string) (mac [6]byte, ok bool) {
	if hardware, rest, found := strings.Cut(s, "-"); found {
		n, err := strconv.ParseUint(hardware, 16, 16)
		if err != nil {
			return mac, false
		}
		if n != ethernet && n != ieee802 || rest == "" {
			return mac, true
		}
		s = rest
	}
	b, ok := parseOctets(s, 255)
	if !ok {
		return mac, false
	}
	return toMAC(b), true
}

// Types of hardware, of https://www.iana.org/assignments/arp-parameters
const (
	ethernet = 1
	ieee802  = 6
)

// toMAC is the zero MAC for what is not the address of one device.
func toMAC(b []byte) (mac [6]byte) {
	if len(b) == len(mac) && b[0]&1 == 0 {
		copy(mac[:], b)
	}
	return mac
}

// MACOfID returns the MAC that a DUID or a client identifier, as a lease has it, is
// made of; zero if it is made of none.
func MACOfID(id string) (mac [6]byte) {
	const ofEthernet = 1
	b, ok := parseOctets(id, maxID)
	if !ok {
		return mac
	}
	if len(b) == 1+len(mac) && b[0] == ofEthernet {
		return toMAC(b[1:])
	}
	return macOfDUID(b)
}

// macOfDUID returns the MAC that a DUID is made of (RFC 8415, section 11): of
// the types with a link-layer address those two that have one.
func macOfDUID(duid []byte) (mac [6]byte) {
	const ofLinkAndTime, ofLink = 1, 3
	if len(duid) < 4 || duid[0] != 0 || duid[2] != 0 || duid[3] != ethernet {
		return mac
	}
	switch duid[1] {
	case ofLinkAndTime:
		if len(duid) > 8 {
			return toMAC(duid[8:])
		}
	case ofLink:
		return toMAC(duid[4:])
	}
	return mac
}

// parseOctets takes hexadecimal octets, with ':' between all of them (then also of
// one digit) or between none; at least one and at most longest.
func parseOctets(s string, longest int) ([]byte, bool) {
	if !strings.Contains(s, ":") {
		if len(s) > 2*longest {
			return nil, false
		}
		b, err := hex.DecodeString(s)
		return b, err == nil && len(b) > 0
	}
	var b []byte
	for octet := range strings.SplitSeq(s, ":") {
		n, err := strconv.ParseUint(octet, 16, 8)
		if err != nil || len(octet) > 2 || len(b) == longest {
			return nil, false
		}
		b = append(b, byte(n))
	}
	return b, true
}

func formatOctets(b []byte) string {
	const digits = "0123456789abcdef"
	s := make([]byte, 0, 3*len(b))
	for i, o := range b {
		if i > 0 {
			s = append(s, ':')
		}
		s = append(s, digits[o>>4], digits[o&15])
	}
	return string(s)
}
