package client

import (
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// rtMessage is a message of rtnetlink, but for its header.
type rtMessage interface{ MarshalBinary() ([]byte, error) }

// rtMessages puts messages one behind the other, as the kernel sends them.
func rtMessages(tb testing.TB, messages ...rtMessage) (b []byte) {
	tb.Helper()
	for _, m := range messages {
		data, err := m.MarshalBinary()
		if err != nil {
			tb.Fatal(err)
		}
		var typ uint16
		switch m.(type) {
		case *rtnetlink.LinkMessage:
			typ = unix.RTM_NEWLINK
		case *rtnetlink.AddressMessage:
			typ = unix.RTM_NEWADDR
		case *rtnetlink.RouteMessage:
			typ = unix.RTM_NEWROUTE
		case *rtnetlink.NeighMessage:
			typ = unix.RTM_NEWNEIGH
		}
		b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(data)))
		b = binary.NativeEndian.AppendUint16(b, typ)
		b = append(b, make([]byte, unix.NLMSG_HDRLEN-6)...)
		b = append(b, data...)
		b = append(b, make([]byte, -len(b)&(unix.NLMSG_ALIGNTO-1))...)
	}
	return b
}

// FuzzNetlink: whatever messages rtnetlink has, a neighbour has the MAC of one
// device, and the addresses and networks of links are such.
func FuzzNetlink(f *testing.F) {
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{0, 0x11, 0x22, 0x33, 0x44, last} }
	bridge, port := uint32(2), uint32(3)
	whole := rtMessages(f,
		&rtnetlink.LinkMessage{Index: bridge, Flags: unix.IFF_UP, Attributes: &rtnetlink.LinkAttributes{
			Name: "br-lan", Address: mac(1), Info: &rtnetlink.LinkInfo{Kind: "bridge"},
		}},
		&rtnetlink.LinkMessage{Index: port, Attributes: &rtnetlink.LinkAttributes{Name: "lan1", Address: mac(2), Master: &bridge}},
		&rtnetlink.LinkMessage{Index: 4, Attributes: &rtnetlink.LinkAttributes{Name: "br-lan.7", Type: bridge, Info: &rtnetlink.LinkInfo{Kind: "vlan"}}},
		&rtnetlink.AddressMessage{Family: unix.AF_INET, PrefixLength: 24, Index: bridge, Attributes: &rtnetlink.AddressAttributes{
			Address: net.IPv4(192, 168, 1, 1).To4(), Local: net.IPv4(192, 168, 1, 1).To4(),
		}},
		&rtnetlink.AddressMessage{Family: unix.AF_INET6, PrefixLength: 64, Index: bridge, Attributes: &rtnetlink.AddressAttributes{
			Address: net.ParseIP("fd00::1"),
		}},
		&rtnetlink.RouteMessage{Family: unix.AF_INET, DstLength: 24, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
			Attributes: rtnetlink.RouteAttributes{Dst: net.IPv4(192, 168, 7, 0).To4(), OutIface: bridge}},
		&rtnetlink.RouteMessage{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
			Attributes: rtnetlink.RouteAttributes{Gateway: net.IPv4(10, 0, 0, 1).To4(), OutIface: port}},
		&rtnetlink.NeighMessage{Family: unix.AF_INET, Index: bridge, State: unix.NUD_REACHABLE, Attributes: &rtnetlink.NeighAttributes{
			Address: net.IPv4(192, 168, 1, 10).To4(), LLAddress: mac(3),
		}},
	)
	f.Add(whole, true)
	f.Add(whole[:len(whole)-8], false)
	// What no device has: a group's MAC, a link-layer address of another length, a
	// network longer than its address, an address of neither family.
	f.Add(rtMessages(f,
		&rtnetlink.LinkMessage{Index: bridge, Attributes: &rtnetlink.LinkAttributes{Name: "ib0", Address: make(net.HardwareAddr, 20)}},
		&rtnetlink.AddressMessage{Family: unix.AF_INET, PrefixLength: 255, Index: bridge, Attributes: &rtnetlink.AddressAttributes{
			Address: net.IPv4(192, 168, 1, 1).To4(),
		}},
		&rtnetlink.RouteMessage{Family: unix.AF_INET, DstLength: 255, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
			Attributes: rtnetlink.RouteAttributes{Dst: net.IPv4(192, 168, 7, 0).To4(), OutIface: bridge}},
		&rtnetlink.NeighMessage{Family: unix.AF_INET, Index: bridge, State: unix.NUD_STALE, Attributes: &rtnetlink.NeighAttributes{
			Address: net.IPv4(192, 168, 1, 10).To4(), LLAddress: net.HardwareAddr{1, 0, 0x5e, 0, 0, 1},
		}},
	), true)
	f.Fuzz(func(t *testing.T, b []byte, news bool) {
		messages, err := syscall.ParseNetlinkMessage(b)
		if err != nil {
			return
		}
		tab := New(slog.New(slog.DiscardHandler))
		tab.SetNetworks([]string{"br-lan"}, nil)
		var links []rtnetlink.LinkMessage
		var addrs []rtnetlink.AddressMessage
		var routes []rtnetlink.RouteMessage
		var neighbours []rtnetlink.NeighMessage
		for _, m := range messages {
			switch m.Header.Type {
			case unix.RTM_NEWLINK:
				take(m.Data, &links)
			case unix.RTM_NEWADDR:
				take(m.Data, &addrs)
			case unix.RTM_NEWROUTE:
				take(m.Data, &routes)
			case unix.RTM_NEWNEIGH:
				take(m.Data, &neighbours)
			}
		}
		tab.setMachine(newMachine(links, addrs, routes))
		for i := range neighbours {
			tab.applyNeighbour(&neighbours[i], news)
		}
		for name, link := range tab.Interfaces() {
			if link.Name != name {
				t.Errorf("%q is in the place of %q", link.Name, name)
			}
			for _, p := range link.Prefixes {
				if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
					t.Errorf("%q is said to lead to %v", name, p)
				}
			}
		}
		if tab.RouterMAC(MAC{}) || tab.RouterAddr(netip.Addr{}) {
			t.Error("no MAC and no address are said to be the router's")
		}
		for _, n := range neighbours {
			if n.Attributes == nil {
				continue
			}
			a, _ := addrOf(n.Attributes.Address)
			if mac, ok := tab.ByAddr("", a); ok && (!a.IsValid() || mac.IsZero() || mac.IsGroup()) {
				t.Errorf("%v is %v", a, mac)
			}
		}
		for _, d := range tab.Devices() {
			if d.MAC.IsZero() || d.MAC.IsGroup() {
				t.Errorf("a device %+v", d)
			}
		}
	})
}

// take adds what a message says, unless it is none of its type.
func take[M any, P interface {
	*M
	UnmarshalBinary([]byte) error
}](b []byte, to *[]M) {
	var m M
	if P(&m).UnmarshalBinary(b) == nil {
		*to = append(*to, m)
	}
}
