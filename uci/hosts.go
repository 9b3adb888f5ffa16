package uci

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Host is what the administrator wrote of a device for the DHCP server. One
// without MACs and IDs is whichever device has its address.
type Host struct {
	Name  string       // UTF-8 without control characters, at most 255 bytes; empty if it has none
	MACs  []string     // as aa:bb:cc:dd:ee:ff
	IDs   []string     // DHCP client identifiers and DUIDs, as 01:aa:bb:...
	Addrs []netip.Addr // that it is given
}

const hostsFile = "dhcp"

// ReadHosts reads the devices of the DHCP server's configuration, with what is
// staged for it: each `config host`, then the names that its resolver has for
// addresses (`config domain` and `config hostrecord`). A section that names no
// device, or has nothing for the device that it names, is passed over; so is, with a
// Problem, a MAC or name that Pakon cannot use. Without a file there are no hosts.
// err is a file that could not be read, as a rule a [*ParseError].
func ReadHosts(in Folders) (hosts []Host, problems []Problem, err error) {
	s, err := open(in, hostsFile)
	if s == nil || err != nil {
		return nil, nil, err
	}
	for _, key := range s.keys("host") {
		if h := s.readHost(key); h.useful() {
			hosts = append(hosts, h)
		}
	}
	for _, typ := range []string{"domain", "hostrecord"} {
		for _, key := range s.keys(typ) {
			hosts = append(hosts, s.readDomain(key)...)
		}
	}
	return hosts, s.problems, nil
}

// useful tells whether anything is known of a device, and which it is.
func (h *Host) useful() bool {
	if h.Name == "" {
		return len(h.MACs) > 0 && len(h.Addrs) > 0
	}
	return len(h.MACs)+len(h.IDs)+len(h.Addrs) > 0
}

// readHost reads a `config host`, of which only the device and its address are
// Pakon's business. The file tells its hosts apart by the words of dnsmasq
// (dhcp_host_add in /etc/init.d/dnsmasq).
func (s *settings) readHost(key string) (h Host) {
	enabled := true
	if v, ok := s.tree.GetBool(s.pkg.Name, key, "enable"); ok {
		enabled = v
	}
	if !enabled {
		return h
	}
	named := s.has(key, "name")
	one(s, key, "name", &h.Name, parseName, wantName)
	if named && h.Name == "" {
		return Host{}
	}
	for _, entry := range s.entries(key, "mac", split) {
		for word := range strings.SplitSeq(entry, ",") {
			switch what := h.word(word); {
			case what == pattern && named:
				s.warn(key, "mac", word, wantMAC+": a pattern names no device")
			case what == hostName || what == wrongWord:
				s.wrong(key, "mac", word, wantMAC)
			}
		}
	}
	for _, entry := range s.entries(key, "duid", split) {
		// odhcpd takes DUID%IAID.
		duid, _, _ := strings.Cut(entry, "%")
		if id := octetsOf(duid); id != nil {
			h.addID(id)
		}
	}
	// What else may stand there ("ignore") is the DHCP server's business.
	for _, entry := range s.entries(key, "ip", split) {
		h.addAddr(entry)
	}
	return h
}

// readDomain reads the names of addresses: the first of a section is the name of
// the device that has the address.
func (s *settings) readDomain(key string) (hosts []Host) {
	names := s.entries(key, "name", split)
	if len(names) == 0 {
		return nil
	}
	name, ok := parseName(names[0])
	if !ok {
		s.wrong(key, "name", names[0], wantName)
		return nil
	}
	h := Host{Name: name}
	for _, entry := range s.entries(key, "ip", split) {
		h.addAddr(entry)
	}
	if len(h.Addrs) == 0 {
		return nil
	}
	return []Host{h}
}

// ParseHost reads a host as the option dhcp-host of dnsmasq describes it: words with
// commas between them, MACs, client identifiers, addresses, a name, tags and a
// lease time, in any order. It returns false for what dnsmasq refuses.
func ParseHost(line string) (h Host, ok bool) {
	for word := range strings.SplitSeq(line, ",") {
		word = strings.TrimSpace(word)
		switch h.word(word) {
		case wrongWord:
			return h, false
		case hostName:
			name, ok := parseName(word)
			if !ok || h.Name != "" || strings.ContainsFunc(name, isBlank) {
				return h, false
			}
			h.Name = name
		}
	}
	return h, true
}

func isBlank(r rune) bool { return r == ' ' || r == '\t' }

// ParseEthers reads a line of /etc/ethers: a MAC and the name or address of its
// device. ok is false for a wrong line; an empty one and a comment have no device.
func ParseEthers(line string) (h Host, ok bool) {
	fields := strings.Fields(line)
	if len(fields) == 0 || fields[0][0] == '#' || fields[0][0] == '+' {
		return h, true
	}
	if len(fields) < 2 || h.mac(fields[0]) != device {
		return Host{}, false
	}
	if _, err := netip.ParseAddr(fields[1]); err == nil {
		h.addAddr(fields[1])
	} else if h.Name, ok = parseName(fields[1]); !ok {
		return Host{}, false
	}
	return h, true
}

// A wordKind is what a word of a host is to dnsmasq.
type wordKind uint8

const (
	nothing   wordKind = iota // that tells of the device: a tag, a lease time
	device                    // a MAC, client identifier or address, which is taken
	pattern                   // a MAC with '*' for octets: right, but of no single device
	hostName                  // the word may be a name
	wrongWord                 // dnsmasq refuses it
)

// word takes a word of a host, as dnsmasq tells them apart (dhcp-host in its
// src/option.c).
func (h *Host) word(w string) wordKind {
	lower := strings.ToLower(w)
	switch {
	case w == "":
		return nothing
	case strings.HasPrefix(lower, "id:"):
		if w = w[len("id:"):]; w == "" || w[0] == '*' {
			return nothing
		}
		id := []byte(w)
		if strings.Contains(w, ":") {
			if id = octetsOf(w); id == nil {
				return wrongWord
			}
		}
		h.addID(id)
		return device
	case strings.HasPrefix(w, "net:"), strings.HasPrefix(w, "set:"), strings.HasPrefix(w, "tag:"):
		return nothing
	case w[0] == '[' && strings.HasSuffix(w, "]"):
		// A suffix of addresses and a network tell of no address.
		h.addAddr(w[1 : len(w)-1])
		return nothing
	case strings.Contains(w, ":"):
		return h.mac(w)
	}
	if _, ok := parseMAC(w); ok { // with dashes, as Windows shows them
		return h.mac(w)
	}
	if h.addAddr(w) {
		return device
	}
	if isTime(w) || w == "infinite" || w == "ignore" {
		return nothing
	}
	return hostName
}

// isTime tells whether a word is a lease time: a number, perhaps with a unit.
func isTime(w string) bool {
	if n := len(w) - 1; n > 0 && strings.ContainsRune("smhdwSMHDW", rune(w[n])) {
		w = w[:n]
	}
	return strings.Trim(w, "0123456789 ") == ""
}

// Types of hardware, of https://www.iana.org/assignments/arp-parameters
const (
	ethernet = 1
	ieee802  = 6
)

// mac takes a MAC as dnsmasq does: octets of one or two digits with ':' or '-'
// between them, each of which may be '*', and perhaps the type of its hardware and
// '-' in front. One of other hardware is right, and none of a device here.
func (h *Host) mac(w string) wordKind {
	if mac, ok := parseMAC(w); ok {
		h.addMAC(mac)
		return device
	}
	typed := false
	if hardware, rest, found := strings.Cut(w, "-"); found && strings.Contains(rest, ":") {
		n, err := strconv.ParseUint(hardware, 16, 16)
		if err != nil {
			return wrongWord
		}
		if n != ethernet && n != ieee802 {
			return nothing
		}
		w, typed = rest, true
	}
	if strings.Contains(w, "*") {
		for octet := range strings.FieldsFuncSeq(w, isSeparator) {
			if _, err := strconv.ParseUint(octet, 16, 8); err != nil && octet != "*" {
				return wrongWord
			}
		}
		return pattern
	}
	octets := octetsOf(w)
	if len(octets) != 6 {
		if typed && octets != nil {
			return nothing
		}
		return wrongWord
	}
	mac, ok := parseMAC(formatOctets(octets))
	if !ok {
		return wrongWord
	}
	h.addMAC(mac)
	return device
}

func isSeparator(r rune) bool { return r == ':' || r == '-' }

// maxID bounds a client identifier and a DUID, in octets.
const maxID = 255

// octetsOf reads hexadecimal octets, of one or two digits with ':' or '-' between
// them, or of two without; nil for what is none.
func octetsOf(s string) []byte {
	if !strings.ContainsFunc(s, isSeparator) {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) == 0 || len(b) > maxID {
			return nil
		}
		return b
	}
	var octets []byte
	for octet := range strings.FieldsFuncSeq(s, isSeparator) {
		n, err := strconv.ParseUint(octet, 16, 8)
		if err != nil || len(octet) > 2 || len(octets) == maxID {
			return nil
		}
		octets = append(octets, byte(n))
	}
	return octets
}

func formatOctets(b []byte) string {
	var s strings.Builder
	for i, o := range b {
		if i > 0 {
			s.WriteByte(':')
		}
		s.WriteString(hex.EncodeToString([]byte{o}))
	}
	return s.String()
}

func (h *Host) addMAC(mac string) {
	if !slices.Contains(h.MACs, mac) {
		h.MACs = append(h.MACs, mac)
	}
}

func (h *Host) addID(id []byte) {
	if s := formatOctets(id); len(id) <= maxID && !slices.Contains(h.IDs, s) {
		h.IDs = append(h.IDs, s)
	}
}

// addAddr takes an address that a device can have.
func (h *Host) addAddr(s string) bool {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return false
	}
	// Dnsmasq takes an address whose network is all zeros for a suffix.
	if a := addr.As16(); addr.Is6() && !addr.Is4In6() && [8]byte(a[:8]) == [8]byte{} || addr.IsMulticast() || addr.IsUnspecified() {
		return true
	}
	if addr = addr.Unmap(); !slices.Contains(h.Addrs, addr) {
		h.Addrs = append(h.Addrs, addr)
	}
	return true
}
