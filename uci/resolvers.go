package uci

import (
	"net/netip"
	"slices"
	"strings"
)

// maxResolvers bounds the addresses that ReadResolvers returns.
const maxResolvers = 16

// ReadResolvers returns the addresses of the resolvers to which the DHCP servers'
// configuration sends the devices, with what is staged for it: option 6 of
// dnsmasq's dhcp_option, of IPv6 its option 23, and odhcpd's dns. Without any,
// devices ask the router. What is no address is passed over. err is a file that
// could not be read.
func ReadResolvers(f Folders) (addrs []netip.Addr, err error) {
	s, err := open(f, hostsFile)
	if s == nil || err != nil {
		return nil, err
	}
	add := func(texts []string) {
		for _, text := range texts {
			a, err := netip.ParseAddr(strings.Trim(text, "[]"))
			if err != nil || a.IsUnspecified() { // dnsmasq's word for itself
				continue
			}
			if a = a.Unmap(); !slices.Contains(addrs, a) && len(addrs) < maxResolvers {
				addrs = append(addrs, a)
			}
		}
	}
	for _, typ := range []string{"dhcp", "dnsmasq", "tag", "host"} {
		for _, key := range s.keys(typ) {
			for _, option := range []string{"dhcp_option", "dhcp_option_force"} {
				for _, entry := range s.entries(key, option, split) {
					add(resolversOf(entry))
				}
			}
			add(s.entries(key, "dns", split))
		}
	}
	return addrs, nil
}

// resolversOf are the values of a DHCP option that names resolvers; tags may stand
// in front of it.
func resolversOf(option string) []string {
	parts := strings.Split(option, ",")
	for i, part := range parts {
		switch part {
		case "6", "option:6", "option:dns-server", "option6:23", "option6:dns-server":
			return parts[i+1:]
		}
		if !strings.HasPrefix(part, "tag:") {
			break
		}
	}
	return nil
}
