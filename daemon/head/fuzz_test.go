package head

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// attributes are those of a message of netlink.
func attributes(tb testing.TB, all ...netlink.Attribute) []byte {
	tb.Helper()
	b, err := netlink.MarshalAttributes(all)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func text(typ uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: typ, Data: []byte(s + "\x00")}
}

func number(typ uint16, n uint32) netlink.Attribute {
	return netlink.Attribute{Type: typ, Data: binary.NativeEndian.AppendUint32(nil, n)}
}

// FuzzLink: whatever a link says of itself, it is one that rules can be made for.
func FuzzLink(f *testing.F) {
	header := func(index uint32) []byte { return linkHeader(index, unix.IFF_UP) }
	vlan := attributes(f, text(unix.IFLA_INFO_KIND, "vlan"))
	f.Add(append(header(7), attributes(f, text(unix.IFLA_IFNAME, "br-lan.1"), number(unix.IFLA_LINK, 3), text(unix.IFLA_IFALIAS, mirrorAlias+"br-lan"),
		netlink.Attribute{Type: unix.IFLA_ADDRESS, Data: []byte{2, 0, 0, 0, 0, 1}}, netlink.Attribute{Type: unix.IFLA_LINKINFO, Data: vlan})...))
	f.Add(append(header(8), attributes(f, text(unix.IFLA_IFNAME, "lan1"), number(unix.IFLA_MASTER, 3),
		netlink.Attribute{Type: unix.IFLA_ADDRESS, Data: make([]byte, 20)}, netlink.Attribute{Type: unix.IFLA_LINKINFO, Data: vlan[:5]})...))
	f.Add(append(header(9), attributes(f, netlink.Attribute{Type: unix.IFLA_MASTER, Data: []byte{3}})...))
	f.Add(header(0))
	f.Fuzz(func(t *testing.T, data []byte) {
		links, err := linksOf([]netlink.Message{
			{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: data},
			{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: append(linkHeader(3, 0), attributes(t, text(unix.IFLA_IFNAME, "br-lan"))...)},
		})
		if err != nil {
			return
		}
		for _, l := range links {
			if l.lower != 0 && l.kind != "vlan" {
				t.Errorf("%+v is on another", l)
			}
			found, mac := hooks(l.name, links, []Flowtable{{Devices: []string{"br-lan", "lan1", l.name}}})
			if len(found) == 0 && mac == "" || mac != "" && len(mac) != macLength {
				t.Errorf("%+v is hooked at %v, for %x", l, found, mac)
			}
		}
	})
}

// FuzzNFTables: whatever nftables answers and tells, flowtables have the names that
// their devices could have, and what is not about our tables does not concern us.
func FuzzNFTables(f *testing.F) {
	const nft = unix.NFNL_SUBSYS_NFTABLES << 8
	message := func(all ...netlink.Attribute) []byte {
		return append([]byte{unix.NFPROTO_INET, 0, 0, 0}, attributes(f, all...)...)
	}
	table := message(text(unix.NFTA_TABLE_NAME, "fw4"))
	with := func(device string) []byte {
		devices := attributes(f, text(nftables.NFTA_DEVICE_NAME, device), text(nftables.NFTA_DEVICE_NAME, "wan"))
		hook := attributes(f, netlink.Attribute{Type: nftables.NFTA_FLOWTABLE_HOOK_NUM, Data: []byte{0, 0, 0, 0}},
			netlink.Attribute{Type: nftables.NFTA_FLOWTABLE_DEVS, Data: devices})
		return message(text(nftables.NFTA_FLOWTABLE_TABLE, "fw4"), text(nftables.NFTA_FLOWTABLE_NAME, "ft"),
			netlink.Attribute{Type: nftables.NFTA_FLOWTABLE_HOOK, Data: hook},
			netlink.Attribute{Type: nftables.NFTA_FLOWTABLE_FLAGS, Data: []byte{0, 0, 0, 3}})
	}
	flowtable := with("lan1")
	f.Add(table, with("lan1\x00\x00\b"))
	f.Add(table, flowtable)
	f.Add(message(text(unix.NFTA_TABLE_NAME, tableName)), flowtable[:len(flowtable)-3])
	f.Add(message(), message(netlink.Attribute{Type: nftables.NFTA_FLOWTABLE_HOOK, Data: []byte{1}}))
	f.Fuzz(func(t *testing.T, table, flowtable []byte) {
		for _, b := range [][]byte{table, flowtable} {
			m := netlink.Message{Header: netlink.Header{Type: nft | unix.NFT_MSG_NEWTABLE}, Data: b}
			if concerns(m) && !bytes.Contains(b, []byte(tableName)) {
				t.Errorf("a message is taken for one of ours: %x", b)
			}
		}
		// The kernel puts this in front of all that it answers.
		if len(table) < nfgenmsgLength || len(flowtable) < nfgenmsgLength {
			return
		}
		c, err := nftables.New(nftables.WithTestDial(func(asked []netlink.Message) ([]netlink.Message, error) {
			if len(asked) == 0 {
				return nil, nil
			}
			answer := netlink.Message{Header: netlink.Header{Sequence: asked[0].Header.Sequence, PID: asked[0].Header.PID}}
			switch asked[0].Header.Type {
			case nft | unix.NFT_MSG_GETTABLE:
				answer.Header.Type, answer.Data = nft|unix.NFT_MSG_NEWTABLE, table
			case nft | nftables.NFT_MSG_GETFLOWTABLE:
				answer.Header.Type, answer.Data = nft|nftables.NFT_MSG_NEWFLOWTABLE, flowtable
			}
			return []netlink.Message{answer}, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		list, err := listFlowtables(c)
		if err != nil {
			return
		}
		for _, l := range list {
			if !slices.Contains([]string{"inet", "ip", "ip6"}, l.Family) {
				t.Errorf("%+v", l)
			}
			for _, d := range l.Devices {
				if strings.Contains(d, "\x00") {
					t.Errorf("a device is called %q", d)
				}
			}
		}
	})
}
