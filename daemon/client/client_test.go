package client

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
)

func mac(t testing.TB, s string) MAC {
	t.Helper()
	m, err := ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestParseMAC(t *testing.T) {
	for _, s := range []string{"00:1b:44:11:3a:b7", "00-1B-44-11-3A-B7", "00:1B-44:11-3a:b7", "001b44113AB7", "001b.4411.3ab7", "001b44-113ab7", "00.1b.44.11.3a.b7"} {
		if m := mac(t, s); m.String() != "00:1b:44:11:3a:b7" {
			t.Errorf("%q is read as %v", s, m)
		}
	}
	for _, s := range []string{"", "00:1b:44:11:3a", "00:1b:44:11:3a:b7:00", "001b44113ab", "00:1b:44:11:3a:bg", "0:01b:44:11:3a:b7", "0:1b:44:11:3a:b7", "001b.4411.3ab7.", "001b..44113ab7", "001.b44.113.ab7", "001b4411:3ab7"} {
		if m, err := ParseMAC(s); err == nil {
			t.Errorf("%q is read as %v, want an error", s, m)
		}
	}
}

func TestParseID(t *testing.T) {
	for s, want := range map[string]ID{
		"00-1B-44-11-3A-B7": {MAC: mac(t, "00:1b:44:11:3a:b7")},
		"10.8.0.2":          {Addr: netip.MustParseAddr("10.8.0.2")},
		"::ffff:10.8.0.2":   {Addr: netip.MustParseAddr("10.8.0.2")},
		"FD00:8:0:0::2":     {Addr: netip.MustParseAddr("fd00:8::2")},
	} {
		if got, ok := ParseID(s); !ok || got != want {
			t.Errorf("%q is read as %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "printer", "10.8.0.300", "10.8.0", "fe80::2%wg0", "00:1b:44:11:3a"} {
		if got, ok := ParseID(s); ok {
			t.Errorf("%q is read as %v, want none", s, got)
		}
	}
}

func TestMACKinds(t *testing.T) {
	tests := []struct {
		mac                string
		zero, group, local bool
	}{
		{"00:00:00:00:00:00", true, false, false},
		{"00:1b:44:11:3a:b7", false, false, false},
		{"ff:ff:ff:ff:ff:ff", false, true, true},
		{"33:33:00:00:00:01", false, true, true},
		{"01:00:5e:00:00:fb", false, true, false},
		{"da:a1:19:00:00:01", false, false, true},
	}
	for _, tt := range tests {
		m := mac(t, tt.mac)
		if m.IsZero() != tt.zero || m.IsGroup() != tt.group || m.IsLocal() != tt.local {
			t.Errorf("%s: zero %v, group %v, local %v", tt.mac, m.IsZero(), m.IsGroup(), m.IsLocal())
		}
	}
}

func TestHosts(t *testing.T) {
	a, b, c := mac(t, "00:00:00:00:00:0a"), mac(t, "00:00:00:00:00:0b"), mac(t, "00:00:00:00:00:0c")
	tab := New(slog.New(slog.DiscardHandler))
	tab.SetHosts([]Host{{Name: "Laptop", MACs: []MAC{a, b}}, {Name: "laptop", MACs: []MAC{c}}, {Name: "other", MACs: []MAC{a}}})
	if n, src := tab.Name(a); n != "Laptop" || src != "static" {
		t.Errorf("the first name does not hold: %q, %q", n, src)
	}
	if got := fmt.Sprint(tab.ByName("LAPTOP")); got != fmt.Sprint([]MAC{a, b, c}) {
		t.Errorf("ByName: %v", got)
	}
	if got := tab.ByName("other"); len(got) != 0 {
		t.Errorf("a name that lost its MAC still has %v", got)
	}
	tab.SetHosts(nil)
	if n, src := tab.Name(a); n != "" || src != "" {
		t.Errorf("the name remains: %q, %q", n, src)
	}
}

func TestSeen(t *testing.T) {
	a := mac(t, "00:00:00:00:00:0a")
	tab := New(slog.New(slog.DiscardHandler))
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 1, byte(i)}) }
	for i := range 20 {
		tab.Seen(a, addr(i), "br-lan", int64(1000+i))
	}
	tab.Seen(a, addr(15), "br-lan", 2000)
	tab.Seen(a, addr(15), "br-guest", 500) // told late
	d := tab.Devices()
	if len(d) != 1 {
		t.Fatalf("%d devices, want 1", len(d))
	}
	if d[0].FirstSeen != 500 || d[0].LastSeen != 2000 || d[0].Interface != "br-lan" {
		t.Errorf("seen %d to %d on %s", d[0].FirstSeen, d[0].LastSeen, d[0].Interface)
	}
	want := []netip.Addr{addr(15), addr(19), addr(18), addr(17), addr(16), addr(14), addr(13), addr(12)}
	if fmt.Sprint(d[0].Addresses) != fmt.Sprint(want) {
		t.Errorf("addresses %v, want %v", d[0].Addresses, want)
	}
}

func TestTablesAreBounded(t *testing.T) {
	tab := New(slog.New(slog.DiscardHandler))
	for i := range 2 * maxDevices {
		m := MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		tab.Seen(m, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "br-lan", int64(i))
		tab.setNeighbour(neighbour{1, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, m, true)
	}
	if len(tab.Devices()) != maxDevices || tab.neighbours.Len() != maxNeighbours {
		t.Errorf("%d devices and %d neighbours are kept", len(tab.Devices()), tab.neighbours.Len())
	}
}

func TestNeighbours(t *testing.T) {
	a, b := mac(t, "00:00:00:00:00:0a"), mac(t, "00:00:00:00:00:0b")
	addr := netip.MustParseAddr("192.168.1.10")
	tab := New(slog.New(slog.DiscardHandler))
	tab.setMachine(&machine{
		links: map[string]Interface{"br-lan": {Name: "br-lan", Index: 3}, "br-guest": {Name: "br-guest", Index: 4}},
		index: map[int]string{3: "br-lan", 4: "br-guest"},
	})
	if _, ok := tab.ByAddr("br-lan", addr); ok {
		t.Error("an unknown neighbour is found")
	}
	tab.setNeighbour(neighbour{3, addr}, a, true)
	for _, iface := range []string{"br-lan", ""} {
		if m, ok := tab.ByAddr(iface, addr); !ok || m != a {
			t.Errorf("on %q: %v, %v", iface, m, ok)
		}
	}
	if m, ok := tab.ByAddr("br-guest", addr); ok {
		t.Errorf("another link's neighbour is %v", m)
	}
	tab.setNeighbour(neighbour{3, addr}, b, true) // the address has moved
	if m, _ := tab.ByAddr("br-lan", addr); m != b {
		t.Errorf("after a move: %v, want %v", m, b)
	}
}

func TestChanges(t *testing.T) {
	tab := New(slog.New(slog.DiscardHandler))
	changed := func() bool {
		select {
		case <-tab.Changes():
			return true
		default:
			return false
		}
	}
	lan := Interface{Name: "br-lan", Index: 3, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}}
	set := func(i Interface) { tab.setMachine(&machine{links: map[string]Interface{i.Name: i}}) }
	set(lan)
	if !changed() {
		t.Error("a new link is not told")
	}
	set(lan)
	if changed() {
		t.Error("a change is told where nothing changed")
	}
	lan.Up = false
	set(lan)
	set(lan)
	if !changed() || changed() {
		t.Error("a link that went down is to be told once")
	}
}

func TestForgetAndClockSet(t *testing.T) {
	tab := New(slog.New(slog.DiscardHandler))
	a := netip.MustParseAddr("192.168.1.10")
	const by = 1_700_000_000_000
	tab.Seen(MAC{1}, a, "br-lan", 5000)
	tab.Seen(MAC{2}, a, "br-lan", 6000)
	tab.Seen(MAC{2}, a, "br-lan", by+9000)
	tab.ClockSet(7000, by)
	tab.ClockSet(7000, by) // nothing is left to be moved
	if d := tab.Devices(); len(d) != 2 || d[0].FirstSeen != by+5000 || d[0].LastSeen != by+5000 || d[1].FirstSeen != by+6000 || d[1].LastSeen != by+9000 {
		t.Errorf("devices %+v", d)
	}
	tab.Forget(func(d *Device) bool { return d.LastSeen < by+9000 })
	if d := tab.Devices(); len(d) != 1 || d[0].MAC != (MAC{2}) {
		t.Errorf("devices %+v", d)
	}
}
