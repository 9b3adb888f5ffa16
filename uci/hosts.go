package uci

import (
	"net/netip"
	"slices"
	"strings"
)

// Host is a device that the administrator named: a `config host` of
// /etc/config/dhcp.
type Host struct {
	Name string   // UTF-8 without control characters, at most 255 bytes
	MACs []string // at least one, as aa:bb:cc:dd:ee:ff
	IP   string   // the address that it is given, empty if none is set
}

const hostsFile = "dhcp"

// ReadHosts reads the names of devices from the DHCP server's configuration,
// with what is staged for it. A section without a name or a MAC names nothing
// and is passed over; so is, with a Problem, a MAC or name that Pakon cannot
// use. Without a file there are no hosts. err is a file that could not be
// read, as a rule a [*ParseError].
func ReadHosts(in Folders) (hosts []Host, problems []Problem, err error) {
	s, err := open(in, hostsFile)
	if s == nil || err != nil {
		return nil, nil, err
	}
	for _, key := range s.keys("host") {
		if !s.has(key, "name") || !s.has(key, "mac") {
			continue
		}
		h := Host{MACs: s.readMACs(key)}
		one(s, key, "name", &h.Name, parseName, wantName)
		// What else may stand there ("ignore") is the DHCP server's business.
		if addr, err := netip.ParseAddr(s.text(key, "ip")); err == nil {
			h.IP = addr.String()
		}
		if h.Name != "" && len(h.MACs) > 0 {
			hosts = append(hosts, h)
		}
	}
	return hosts, s.problems, nil
}

// readMACs reads the MACs of a host. dnsmasq allows '*' for an octet; such a
// pattern is right there, but names no device.
func (s *settings) readMACs(key string) []string {
	var macs []string
	for _, entry := range s.entries(key, "mac", split) {
		mac, ok := parseMAC(entry)
		switch {
		case strings.Contains(entry, "*"):
			s.warn(key, "mac", entry, wantMAC+": a pattern names no device")
		case !ok:
			s.wrong(key, "mac", entry, wantMAC)
		case !slices.Contains(macs, mac):
			macs = append(macs, mac)
		}
	}
	return macs
}
