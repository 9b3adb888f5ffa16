package name

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func TestInside(t *testing.T) {
	// The examples of RFC 6052, section 2.4, for 192.0.2.33.
	of := map[int]string{
		32: "2001:db8:c000:221::", 40: "2001:db8:1c0:2:21::", 48: "2001:db8:122:c000:2:2100::",
		56: "2001:db8:122:3c0:0:221::", 64: "2001:db8:122:344:c0:2:2100::", 96: "2001:db8:122:344::192.0.2.33",
	}
	v4 := netip.MustParseAddr("192.0.2.33")
	for bits, a := range of {
		if got, ok := embedded(netip.MustParseAddr(a), bits); !ok || got != v4 {
			t.Errorf("%d: %v", bits, got)
		}
	}
	if _, ok := embedded(netip.MustParseAddr("2001:db8:122:344:1c0:2:2100::"), 64); ok {
		t.Error("bits 64 to 71 may be anything")
	}
	inside := func(n *nat64, a string) []netip.Addr { return slices.Collect(n.inside(netip.MustParseAddr(a))) }
	var n nat64
	for a, want := range map[string]string{
		"64:ff9b::c000:221":            "[192.0.2.33]",
		"64:ff9b:1::c000:221":          "[192.0.2.33 0.0.0.192 0.0.0.0 0.0.0.0]",
		"64:ff9b:1:1:c0:2:2100:0":      "[33.0.0.0 192.0.2.33 1.192.0.2 0.1.192.0]",
		"64:ff9b:0:1::c000:221":        "[]",
		"2001:db8:122:344::c000:221":   "[]",
		"192.0.2.33":                   "[]",
		"::ffff:192.0.2.33":            "[]",
		"64:ff9c::c000:221":            "[]",
		"2001:db8:122:344:c0:2:2100::": "[]",
	} {
		if got := fmt.Sprint(inside(&n, a)); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
	// Prefixes are learned from the name that has only addresses of IPv4.
	for bits := range of {
		for _, last := range []byte{170, 171} {
			var n nat64
			b := netip.MustParseAddr("2001:db8:122:344::").As16()
			for i, at := 0, bits/8; i < 4; i, at = i+1, at+1 {
				if at == 8 {
					at++
				}
				b[at] = [4]byte{192, 0, 0, last}[i]
			}
			if bits < 96 {
				b[8] = 0
			}
			a := netip.AddrFrom16(b)
			n.learn(a)
			if want := netip.PrefixFrom(a, bits).Masked(); len(n.learned) != 1 || n.learned[0] != want {
				t.Errorf("%v: learned %v, want %v", a, n.learned, want)
			}
		}
	}
	n.learn(netip.MustParseAddr("64:ff9b::192.0.0.170"))
	n.learn(netip.MustParseAddr("192.0.0.170"))
	n.learn(netip.MustParseAddr("2001:db8::1"))
	if len(n.learned) != 0 {
		t.Errorf("learned %v", n.learned)
	}
	for i := range 100 {
		n.learn(netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::192.0.0.170", i+1)))
		n.learn(netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::192.0.0.171", i+1)))
	}
	if len(n.learned) != maxPrefixes || n.learned[maxPrefixes-1] != netip.MustParsePrefix("2001:db8:64::/96") {
		t.Errorf("learned %v", n.learned)
	}
}

func TestLookupInside(t *testing.T) {
	m := memory(10)
	lookup := func(a string) string { return m.Lookup(phone, netip.MustParseAddr(a), 0, nil) }
	m.Answer(phone, 0, []byte("a.test"), []Record{rec("a.test", "A", "192.0.2.33", 60)})
	const own = "2001:db8:1:2::192.0.2.33"
	if got := lookup("64:ff9b::192.0.2.33"); got != "a.test" {
		t.Errorf("well-known prefix: %q", got)
	}
	if got := lookup(own); got != "" {
		t.Errorf("a prefix that nobody told: %q", got)
	}
	m.Answer(laptop, 0, []byte("IPv4only.arpa."), []Record{rec("ipv4only.arpa", "AAAA", "2001:db8:1:2::192.0.0.170", 60)})
	if got := lookup(own); got != "a.test" {
		t.Errorf("a prefix that was learned: %q", got)
	}
	m.Answer(phone, 0, []byte("b.test"), []Record{rec("b.test", "AAAA", own, 60)})
	if got := lookup(own); got != "b.test" {
		t.Errorf("an address that has a name itself: %q", got)
	}
	if got := m.Lookup(laptop, netip.MustParseAddr("64:ff9b::192.0.2.33"), 0, nil); got != "" {
		t.Errorf("another client's: %q", got)
	}
}
