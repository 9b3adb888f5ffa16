package name

import (
	"net/netip"
	"strings"
	"sync"
)

const tcp, udp = 6, 17

// WellKnown names a connection that a client opened to a port of the address
// remote by these alone: router says that the address is this machine's own.
// Most connections have no such name: then it returns "" and None.
func WellKnown(proto uint8, port uint16, remote netip.Addr, router bool) (string, Source) {
	switch {
	case proto != tcp && proto != udp:
		return "", None
	case router:
		return "router", Address
	case port == 443 || port == 853:
		if n := publicResolvers().name(remote); n != "" {
			return n, Address
		}
	}
	if n := byPort[service{proto, port}]; n != "" {
		return n, Port
	}
	return "", None
}

// service is what listens at a port.
type service struct {
	proto uint8
	port  uint16
}

// byPort holds ports that hardly anything else uses, of services whose clients
// often ask for no name or state none.
var byPort = map[service]string{
	{udp, 123}:   "ntp",
	{udp, 500}:   "ipsec",
	{tcp, 853}:   "dns-over-tls",
	{udp, 853}:   "dns-over-tls", // over QUIC
	{tcp, 1194}:  "openvpn",
	{udp, 1194}:  "openvpn",
	{udp, 1900}:  "ssdp",
	{tcp, 3478}:  "stun",
	{udp, 3478}:  "stun",
	{udp, 4500}:  "ipsec",
	{tcp, 5349}:  "stun",
	{udp, 5349}:  "stun",
	{udp, 5353}:  "mdns",
	{udp, 51820}: "wireguard",
}

// OfPort tells whether a name is one that WellKnown gives for a port alone.
func OfPort(name string) bool {
	if name == "" || strings.IndexByte(name, '.') >= 0 {
		return false
	}
	for _, n := range byPort {
		if n == name {
			return true
		}
	}
	return false
}

// resolvers are public resolvers that are reached by their address, which their
// operators publish for that: a name and its addresses or prefixes.
var resolvers = [...][2]string{
	{"dns.google", "8.8.8.8 8.8.4.4 2001:4860:4860::8888 2001:4860:4860::8844"},
	{"dns64.dns.google", "2001:4860:4860::64 2001:4860:4860::6464"},
	{"one.one.one.one", "1.1.1.1 1.0.0.1 2606:4700:4700::1111 2606:4700:4700::1001"},
	{"security.cloudflare-dns.com", "1.1.1.2 1.0.0.2 2606:4700:4700::1112 2606:4700:4700::1002"},
	{"family.cloudflare-dns.com", "1.1.1.3 1.0.0.3 2606:4700:4700::1113 2606:4700:4700::1003"},
	{"dns64.cloudflare-dns.com", "2606:4700:4700::64 2606:4700:4700::6400"},
	{"dns.quad9.net", "9.9.9.9 149.112.112.112 2620:fe::fe 2620:fe::9 2620:fe::fe:9"},
	{"dns10.quad9.net", "9.9.9.10 149.112.112.10 2620:fe::10 2620:fe::fe:10"},
	{"dns11.quad9.net", "9.9.9.11 149.112.112.11 2620:fe::11 2620:fe::fe:11"},
	{"dns12.quad9.net", "9.9.9.12 149.112.112.12 2620:fe::12 2620:fe::fe:12"},
	{"doh.opendns.com", "208.67.222.222 208.67.220.220 2620:119:35::35 2620:119:53::53"},
	{"doh.familyshield.opendns.com", "208.67.222.123 208.67.220.123 2620:119:35::123 2620:119:53::123"},
	{"dns.adguard-dns.com", "94.140.14.14 94.140.15.15 2a10:50c0::ad1:ff 2a10:50c0::ad2:ff"},
	{"family.adguard-dns.com", "94.140.14.15 94.140.15.16 2a10:50c0::bad1:ff 2a10:50c0::bad2:ff"},
	{"unfiltered.adguard-dns.com", "94.140.14.140 94.140.14.141 2a10:50c0::1:ff 2a10:50c0::2:ff"},
	{"odvr.nic.cz", "193.17.47.1 185.43.135.1 2001:148f:ffff::1 2001:148f:fffe::1"},
	{"protective.joindns4.eu", "86.54.11.1 86.54.11.201 2a13:1001::86:54:11:1 2a13:1001::86:54:11:201"},
	{"child-noads.joindns4.eu", "86.54.11.11 86.54.11.211 2a13:1001::86:54:11:11 2a13:1001::86:54:11:211"},
	{"child.joindns4.eu", "86.54.11.12 86.54.11.212 2a13:1001::86:54:11:12 2a13:1001::86:54:11:212"},
	{"noads.joindns4.eu", "86.54.11.13 86.54.11.213 2a13:1001::86:54:11:13 2a13:1001::86:54:11:213"},
	{"unfiltered.joindns4.eu", "86.54.11.100 86.54.11.200 2a13:1001::86:54:11:100 2a13:1001::86:54:11:200"},
	{"dns.mullvad.net", "194.242.2.2 2a07:e340::2"},
	{"adblock.dns.mullvad.net", "194.242.2.3 2a07:e340::3"},
	{"base.dns.mullvad.net", "194.242.2.4 2a07:e340::4"},
	{"extended.dns.mullvad.net", "194.242.2.5 2a07:e340::5"},
	{"family.dns.mullvad.net", "194.242.2.6 2a07:e340::6"},
	{"all.dns.mullvad.net", "194.242.2.9 2a07:e340::9"},
	{"dns.nextdns.io", "45.90.28.0/24 45.90.30.0/24 2a07:a8c0::/64 2a07:a8c1::/64"}, // an address for each customer
	{"freedns.controld.com", "76.76.2.0 76.76.10.0 2606:1a40:: 2606:1a40:1::"},
	{"doh.dns.sb", "185.222.222.222 45.11.45.11 2a09:: 2a11::"},
	{"dns.digitale-gesellschaft.ch", "185.95.218.42 185.95.218.43 2a05:fc84::42 2a05:fc84::43"},
	{"family-filter-dns.cleanbrowsing.org", "185.228.168.168 185.228.169.168"},
	{"security-filter-dns.cleanbrowsing.org", "185.228.168.9 185.228.169.9"},
	{"adult-filter-dns.cleanbrowsing.org", "185.228.168.10 185.228.169.11"},
	{"common.dot.dns.yandex.net", "77.88.8.8 77.88.8.1 2a02:6b8::feed:ff 2a02:6b8:0:1::feed:ff"},
	{"safe.dot.dns.yandex.net", "77.88.8.88 77.88.8.2 2a02:6b8::feed:bad 2a02:6b8:0:1::feed:bad"},
	{"family.dot.dns.yandex.net", "77.88.8.7 77.88.8.3 2a02:6b8::feed:a11 2a02:6b8:0:1::feed:a11"},
	{"dns.alidns.com", "223.5.5.5 223.6.6.6 2400:3200::1 2400:3200:baba::1"},
	{"dns.twnic.tw", "101.101.101.101 101.102.103.104 2001:de4::101 2001:de4::102"},
}

// byAddress is how resolvers are looked up.
type byAddress struct {
	addrs    map[netip.Addr]string
	prefixes []prefixed
}

type prefixed struct {
	netip.Prefix
	name string
}

var publicResolvers = sync.OnceValue(func() *byAddress {
	r := &byAddress{addrs: make(map[netip.Addr]string, 4*len(resolvers))}
	for _, row := range resolvers {
		for a := range strings.FieldsSeq(row[1]) {
			if strings.Contains(a, "/") {
				r.prefixes = append(r.prefixes, prefixed{netip.MustParsePrefix(a), row[0]})
			} else {
				r.addrs[netip.MustParseAddr(a)] = row[0]
			}
		}
	}
	return r
})

func (r *byAddress) name(a netip.Addr) string {
	if wellKnown64.Contains(a) {
		a, _ = embedded(a, wellKnown64.Bits())
	}
	if n := r.addrs[a]; n != "" {
		return n
	}
	for _, p := range r.prefixes {
		if p.Contains(a) {
			return p.name
		}
	}
	return ""
}
