package client

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ID tells a client from others: its MAC, or, of one that has none (a peer of
// WireGuard) or whose MAC is not known, its address. Neither stands for all that have
// no MAC.
type ID struct {
	MAC  MAC
	Addr netip.Addr // without a zone; invalid if there is a MAC
}

// IDOf is the ID of the client that has a MAC, which may be zero, and an address.
func IDOf(m MAC, a netip.Addr) ID {
	if m.IsZero() {
		return ID{Addr: a.Unmap().WithZone("")}
	}
	return ID{MAC: m}
}

// ParseID reads a MAC or an address.
func ParseID(s string) (id ID, ok bool) {
	if m, err := ParseMAC(s); err == nil {
		return ID{MAC: m}, true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return ID{}, false
	}
	return IDOf(MAC{}, a), true
}

// MAC is an Ethernet address (EUI-48). The zero MAC means "unknown".
type MAC [6]byte

// ParseMAC reads six hexadecimal octets, in either case, as programs and labels have
// them: separated by ':' or '-' (00:11:22:33:44:55), in groups of two or three octets
// (0011.2233.4455, 001122-334455), or not at all.
func ParseMAC(s string) (m MAC, err error) {
	groups := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '-' || r == '.' })
	octets := strings.Join(groups, "")
	uneven := slices.ContainsFunc(groups, func(g string) bool { return len(g)%2 != 0 || len(g)*len(groups) != len(octets) })
	if len(octets) != 2*len(m) || len(s) != len(octets)+len(groups)-1 || uneven {
		return MAC{}, fmt.Errorf("MAC address %q: want six octets like 00:11:22:33:44:55", s)
	}
	if _, err := hex.Decode(m[:], []byte(octets)); err != nil {
		return MAC{}, fmt.Errorf("MAC address %q: %w", s, err)
	}
	return m, nil
}

// String is the address in lower case with colons, or "" for the unknown address.
func (m MAC) String() string {
	if m.IsZero() {
		return ""
	}
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for i, o := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[o>>4], digits[o&15])
	}
	return string(b)
}

// IsZero tells whether the address is unknown.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsGroup tells whether the address is multicast or broadcast.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// IsLocal tells whether the address is locally administered, as the random
// addresses of phones are.
func (m MAC) IsLocal() bool { return m[0]&2 != 0 }
