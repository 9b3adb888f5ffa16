package name

import (
	"iter"
	"net/netip"
)

// maxPrefixes bounds the prefixes that are learned.
const maxPrefixes = 8

// wellKnown64 is the prefix under which networks without IPv4 reach it (RFC 6052),
// localUse64 the one out of which such a network may choose its own (RFC 8215).
var (
	wellKnown64 = netip.MustParsePrefix("64:ff9b::/96")
	localUse64  = netip.MustParsePrefix("64:ff9b:1::/48")
)

// prefixes64 are the lengths that a prefix may have, the usual one first.
var prefixes64 = [...]int{96, 64, 56, 48, 40, 32}

// nat64 knows under which prefixes IPv4 is reached.
type nat64 struct {
	learned []netip.Prefix // the latest last
}

// ipv4only is a name that has these addresses of IPv4 alone: in an address of IPv6
// they show the network's prefix (RFC 7050).
const ipv4only = "ipv4only.arpa"

var ipv4onlyAddrs = [...]netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}

// learn takes an address of ipv4only.
func (n *nat64) learn(a netip.Addr) {
	for _, bits := range prefixes64 {
		if v4, ok := embedded(a, bits); ok && (v4 == ipv4onlyAddrs[0] || v4 == ipv4onlyAddrs[1]) {
			n.add(netip.PrefixFrom(a, bits).Masked())
			return
		}
	}
}

func (n *nat64) add(p netip.Prefix) {
	if p == wellKnown64 {
		return
	}
	for _, old := range n.learned {
		if old == p {
			return
		}
	}
	if len(n.learned) == maxPrefixes {
		n.learned = append(n.learned[:0], n.learned[1:]...)
	}
	n.learned = append(n.learned, p)
}

// inside yields what IPv4 address an address may stand for.
func (n *nat64) inside(a netip.Addr) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		if !a.Is6() || a.Is4In6() {
			return
		}
		for _, p := range n.learned {
			if p.Contains(a) && !yieldEmbedded(a, p.Bits(), yield) {
				return
			}
		}
		switch {
		case wellKnown64.Contains(a):
			yieldEmbedded(a, wellKnown64.Bits(), yield)
		case localUse64.Contains(a):
			for _, bits := range prefixes64 {
				if bits >= localUse64.Bits() && !yieldEmbedded(a, bits, yield) {
					return
				}
			}
		}
	}
}

func yieldEmbedded(a netip.Addr, bits int, yield func(netip.Addr) bool) bool {
	v4, ok := embedded(a, bits)
	return !ok || yield(v4)
}

// embedded is the address behind a prefix of so many bits: its bytes follow the
// prefix, but for bits 64 to 71, which are 0 (RFC 6052, section 2.2).
func embedded(a netip.Addr, bits int) (v4 netip.Addr, ok bool) {
	if !a.Is6() || a.Is4In6() {
		return v4, false
	}
	b, in := [4]byte{}, a.As16()
	i := bits / 8
	for n := range b {
		if i == 8 {
			if in[i] != 0 {
				return v4, false
			}
			i++
		}
		b[n] = in[i]
		i++
	}
	return netip.AddrFrom4(b), true
}
