package name

import (
	"net/netip"
	"strings"
	"testing"
)

// TestResolvers asks for each address of the table, which must be one that can
// be reached, and be of one name only.
func TestResolvers(t *testing.T) {
	seen := map[string]string{}
	for _, row := range resolvers {
		want, addrs := row[0], strings.Fields(row[1])
		if got := Clean(nil, []byte(want)); string(got) != want {
			t.Errorf("%q is stored as %q", want, got)
		}
		for _, text := range addrs {
			if other, ok := seen[text]; ok {
				t.Errorf("%s is both %q and %q", text, other, want)
			}
			seen[text] = want
			a, err := netip.ParseAddr(strings.Split(text, "/")[0])
			if err != nil {
				t.Fatal(err)
			}
			if !a.IsGlobalUnicast() || a.IsPrivate() || a.String() != strings.Split(text, "/")[0] {
				t.Errorf("%s is no address to reach a resolver at, or is not written as usual", text)
			}
			for _, s := range []service{{tcp, 443}, {udp, 443}, {tcp, 853}, {udp, 853}} {
				if n, source := WellKnown(s.proto, s.port, a, false); n != want || source != Address {
					t.Errorf("%d/%d of %v is %q by %q, want %q", s.port, s.proto, a, n, source, want)
				}
			}
			for _, s := range []service{{tcp, 80}, {udp, 4430}, {1, 443}} {
				if n, source := WellKnown(s.proto, s.port, a, false); n != "" || source != None {
					t.Errorf("%d/%d of %v is %q by %q", s.port, s.proto, a, n, source)
				}
			}
		}
	}
}

func TestWellKnown(t *testing.T) {
	const someone = "203.0.113.80"
	tests := []struct {
		proto  uint8
		port   uint16
		remote string
		router bool
		want   string
		source Source
	}{
		{tcp, 443, "8.8.8.8", false, "dns.google", Address},
		{udp, 853, "2606:4700:4700::1111", false, "one.one.one.one", Address},
		{tcp, 853, "193.17.47.1", false, "odvr.nic.cz", Address},
		{tcp, 443, "45.90.28.77", false, "dns.nextdns.io", Address},
		{tcp, 443, "45.90.29.77", false, "", None},
		{tcp, 443, "2a07:a8c1::12:3456", false, "dns.nextdns.io", Address},
		{udp, 123, "8.8.8.8", false, "ntp", Port},
		{tcp, 80, "192.168.1.1", true, "router", Address},
		{udp, 123, "192.168.1.1", true, "router", Address},
		{1, 0, "192.168.1.1", true, "", None},
		{tcp, 443, someone, false, "", None},
		{udp, 123, someone, false, "ntp", Port},
		{tcp, 123, someone, false, "", None},
		{udp, 500, someone, false, "ipsec", Port},
		{tcp, 500, someone, false, "", None},
		{udp, 4500, someone, false, "ipsec", Port},
		{tcp, 853, someone, false, "dns-over-tls", Port},
		{udp, 853, someone, false, "dns-over-tls", Port},
		{tcp, 1194, someone, false, "openvpn", Port},
		{udp, 1194, someone, false, "openvpn", Port},
		{udp, 1701, someone, false, "", None},
		{udp, 1900, "239.255.255.250", false, "ssdp", Port},
		{tcp, 1900, someone, false, "", None},
		{tcp, 3478, someone, false, "stun", Port},
		{udp, 3478, someone, false, "stun", Port},
		{tcp, 5349, someone, false, "stun", Port},
		{udp, 5349, someone, false, "stun", Port},
		{udp, 5353, "224.0.0.251", false, "mdns", Port},
		{tcp, 5353, someone, false, "", None},
		{udp, 51820, someone, false, "wireguard", Port},
		{tcp, 51820, someone, false, "", None},
		{udp, 123, "", false, "ntp", Port}, // no valid address
	}
	covered := map[service]bool{}
	for _, tt := range tests {
		a, _ := netip.ParseAddr(tt.remote)
		if got, source := WellKnown(tt.proto, tt.port, a, tt.router); got != tt.want || source != tt.source {
			t.Errorf("%d/%d of %q is %q by %q, want %q by %q", tt.port, tt.proto, tt.remote, got, source, tt.want, tt.source)
		}
		covered[service{tt.proto, tt.port}] = true
	}
	for s := range byPort {
		if !covered[s] {
			t.Errorf("%d/%d is not tested", s.port, s.proto)
		}
	}
}
