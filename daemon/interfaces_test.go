package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pakon/daemon/client"
	"pakon/ubus"
)

// links of a router, most with a network.
type linksOf map[string]client.Interface

func (l linksOf) link(name, network string, more func(*client.Interface)) linksOf {
	i := client.Interface{Name: name, Index: len(l) + 1, Up: true}
	i.Prefixes = []netip.Prefix{netip.MustParsePrefix("fe80::/64")}
	if network != "" {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(network))
	}
	if more != nil {
		more(&i)
	}
	l[name] = i
	return l
}

func isBridge(i *client.Interface) { i.Bridge = true }

// TestWatch: what carries the network is monitored for what the configuration
// names, and a note says what would be right.
func TestWatch(t *testing.T) {
	plain := func() linksOf {
		return linksOf{}.link("br-lan", "192.168.1.0/24", isBridge).link("wan", "203.0.113.0/24", nil).
			link("lan1", "", func(i *client.Interface) { i.Master = 1 })
	}
	vlans := func() linksOf {
		return linksOf{}.link("br-lan", "", isBridge).link("wan", "203.0.113.0/24", nil).link("br-lan.1", "192.168.1.0/24", nil).
			link("lan1", "", func(i *client.Interface) { i.Master = 1 })
	}
	more := func(l linksOf) linksOf {
		return l.link("br-lan.2", "192.168.2.0/24", nil).link("iot", "192.168.3.0/24", func(i *client.Interface) { i.Lower = 1 }).
			link("br-lan.x", "192.168.4.0/24", nil).link("br-lan.9", "", nil)
	}
	lan := func(device string) network { return network{name: "lan", device: device, lower: device} }
	guest := network{name: "guest", device: "br-lan.2", lower: "br-lan.2"}
	uplink := network{name: "wan", device: "wan", lower: "wan", outside: true}
	pppoe := network{name: "wan", device: "pppoe-wan", lower: "wan", outside: true}
	before := watch([]string{"br-lan"}, surroundings{links: vlans(), uplink: func(string) bool { return false }}, nil)
	both := watch([]string{"wan", "br-lan"}, surroundings{links: plain(), uplink: func(link string) bool { return link == "wan" }}, nil)
	tunnelled := watch([]string{"wan", "br-lan"}, surroundings{links: plain().link("pppoe-wan", "203.0.113.0/24", nil), networks: []network{pppoe}, uplink: func(link string) bool { return link == "pppoe-wan" }}, nil)
	wanVLAN := watch([]string{"br-lan"}, surroundings{links: vlans().link("br-lan.2", "203.0.113.0/24", nil), uplink: func(link string) bool { return link == "br-lan.2" }}, nil)
	for _, tt := range []struct {
		name     string
		names    string
		links    linksOf
		uplinks  string
		networks []network
		last     *watched
		tap      bool
		want     string
		aliases  string // name>name
		note     string // parts of the one note, "" if there is none
	}{
		{name: "as it is", names: "br-lan", links: plain(), uplinks: "wan", want: "br-lan"},
		{name: "a bridge without a network", names: "br-lan", links: linksOf{}.link("br-lan", "", isBridge), want: "br-lan"},
		{name: "VLAN filtering", names: "br-lan", links: vlans(), uplinks: "wan", want: "br-lan.1", aliases: "br-lan>br-lan.1",
			note: "Interface br-lan has no network of its own|br-lan.1 is monitored in its place.|In pakon.monitor.interface, write br-lan.1 instead of br-lan."},
		{name: "VLAN filtering, every packet is read", names: "br-lan", links: vlans(), uplinks: "wan", tap: true, want: "br-lan",
			note: "Interface br-lan has no network of its own|mode 'tap' reads all its VLANs|In pakon.monitor.interface, write br-lan.1 instead of br-lan."},
		{name: "a port, every packet is read", names: "lan1", links: plain(), uplinks: "wan", tap: true, want: "br-lan", aliases: "lan1>br-lan br-lan>br-lan", note: "lan1 is a port of the bridge br-lan"},
		{name: "VLAN filtering, named rightly", names: "br-lan.1", links: vlans(), uplinks: "wan", want: "br-lan.1"},
		{name: "both named", names: "br-lan br-lan.1", links: vlans(), uplinks: "wan", want: "br-lan.1", aliases: "br-lan>br-lan.1", note: "Interface br-lan has no network"},
		{name: "several VLANs", names: "br-lan", links: more(vlans()), uplinks: "wan", want: "br-lan.1 br-lan.2 iot", aliases: "br-lan>br-lan",
			note: "br-lan.1, br-lan.2 and iot are monitored|In pakon.monitor.interface, write br-lan.1 br-lan.2 iot instead of br-lan."},
		{name: "several VLANs, one of which has the name", names: "br-lan", links: more(vlans()), uplinks: "wan",
			networks: []network{guest, lan("br-lan.1")}, want: "br-lan.1", aliases: "br-lan>br-lan.1", note: "br-lan.1 is monitored|Not monitored: br-lan.2 (guest), iot."},
		{name: "a VLAN leads to the internet", names: "br-lan", links: more(vlans()), uplinks: "br-lan.2 iot", want: "br-lan.1", aliases: "br-lan>br-lan.1", note: "br-lan.1 is monitored"},
		{name: "an access point with VLANs", names: "br-lan", links: vlans(), uplinks: "br-lan.1", want: "br-lan.1", aliases: "br-lan>br-lan.1", note: "br-lan.1 is monitored"},
		{name: "a bridge with a network, and VLANs", names: "br-lan", links: plain().link("br-lan.2", "192.168.2.0/24", nil), uplinks: "wan", want: "br-lan"},
		{name: "a port", names: "lan1", links: plain(), uplinks: "wan", want: "br-lan", aliases: "lan1>br-lan br-lan>br-lan",
			note: "lan1 is a port of the bridge br-lan: br-lan is monitored|In pakon.monitor.interface, write br-lan instead of lan1."},
		{name: "a port, VLAN filtering", names: "lan1", links: vlans(), uplinks: "wan", want: "br-lan.1", aliases: "lan1>br-lan.1 br-lan>br-lan.1", note: "port of the bridge br-lan: br-lan.1 is"},
		{name: "a port of a bridge that has no network", names: "lan1", links: linksOf{}.link("br-lan", "", isBridge).link("lan1", "", func(i *client.Interface) { i.Master = 1 }), want: "lan1"},

		{name: "the name of a network", names: "lan", links: plain(), uplinks: "wan", networks: []network{uplink, lan("br-lan")}, want: "br-lan",
			note: "Interface lan is the name of a network: its device br-lan is monitored.|write br-lan instead of lan."},
		{name: "an alias of a network", names: "@lan", links: vlans(), uplinks: "wan", networks: []network{lan("br-lan.1")}, want: "br-lan.1", note: "device br-lan.1 is monitored"},
		{name: "the name of a network, unknown", names: "lan", links: plain(), uplinks: "wan", want: "lan", note: "Interface lan does not exist|Names of devices are expected|have a network: br-lan."},
		{name: "named and missing", names: "br-lann br-lan", links: plain(), uplinks: "wan", want: "br-lann br-lan", note: "Interface br-lann does not exist; it is monitored once it appears."},
		{name: "a bridge that became a VLAN", names: "br-guest", links: more(vlans()), uplinks: "wan", networks: []network{guest}, want: "br-lan.2", note: "br-guest does not exist: br-lan.2 is monitored, which has the network guest."},
		{name: "the installed configuration", names: "br-lan br-guest_turris", links: plain(), uplinks: "wan", want: "br-lan br-guest_turris",
			note: "Interface br-guest_turris does not exist; it is monitored once it appears."},
		{name: "one of two", names: "br-lan iot", links: vlans().link("iot", "192.168.3.0/24", nil), uplinks: "wan", want: "br-lan.1 iot", aliases: "br-lan>br-lan.1",
			note: "In pakon.monitor.interface, write br-lan.1 instead of br-lan."},

		{name: "the internet's side, too", names: "wan br-lan", links: plain(), uplinks: "wan", want: "br-lan", note: "Interface wan leads to the internet, and is not monitored"},
		{name: "the internet's side alone", names: "wan", links: plain(), uplinks: "wan", want: "wan", note: "Interface wan leads to the internet|have a network: br-lan."},
		{name: "below the internet's side", names: "br-lan wan", links: linksOf{}.link("br-lan", "192.168.1.0/24", isBridge).link("wan", "", nil).link("pppoe-wan", "203.0.113.0/24", nil),
			uplinks: "pppoe-wan", networks: []network{lan("br-lan"), pppoe}, want: "br-lan", note: "Interface wan leads to the internet"},
		{name: "the network of the internet's side", names: "br-lan wan", links: linksOf{}.link("br-lan", "192.168.1.0/24", isBridge).link("eth1", "203.0.113.0/24", nil),
			uplinks: "eth1", networks: []network{{name: "wan", device: "eth1", lower: "eth1", outside: true}}, want: "br-lan", note: "Interface wan leads to the internet"},
		{name: "the internet's side while it is down", names: "wan br-lan", links: plain(), last: both, want: "br-lan", note: "Interface wan leads to the internet, and is not monitored"},
		{name: "the VLAN of the internet's side while it is down", names: "br-lan", links: vlans().link("br-lan.2", "203.0.113.0/24", nil), last: wanVLAN, want: "br-lan.1", aliases: "br-lan>br-lan.1", note: "br-lan.1 is monitored"},
		{name: "the internet's side, made by a tunnel, while it is down", names: "wan br-lan", links: plain(), last: tunnelled, want: "br-lan", note: "Interface wan leads to the internet"},
		{name: "the internet's side while the house is away", names: "wan br-lan", links: linksOf{}.link("br-lan", "", isBridge).link("wan", "203.0.113.0/24", nil),
			uplinks: "wan", last: both, want: "br-lan", note: "Interface wan leads to the internet, and is not monitored"},
		{name: "the internet's side no more", names: "wan br-lan", links: plain().link("eth9", "198.51.100.0/24", nil), uplinks: "eth9", last: both, want: "wan br-lan"},
		{name: "an access point", names: "br-lan", links: linksOf{}.link("br-lan", "192.168.1.0/24", isBridge).link("eth1", "10.0.0.0/8", nil), uplinks: "br-lan", want: "br-lan"},
		{name: "one arm", names: "eth0", links: linksOf{}.link("eth0", "192.168.1.0/24", nil), uplinks: "eth0", want: "eth0"},

		{name: "away for a moment", names: "br-lan", links: linksOf{}.link("wan", "203.0.113.0/24", nil), uplinks: "wan", last: before, want: "br-lan.1", aliases: "br-lan>br-lan.1", note: "Interface br-lan has no network at the moment; br-lan.1 is monitored once it is back."},
		{name: "coming back", names: "br-lan", links: linksOf{}.link("br-lan", "", isBridge), last: before, want: "br-lan.1", aliases: "br-lan>br-lan.1", note: "once it is back"},
		{name: "back with a network of its own", names: "br-lan", links: plain(), uplinks: "wan", last: before, want: "br-lan"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := surroundings{links: tt.links, networks: tt.networks, uplink: func(link string) bool { return slices.Contains(strings.Fields(tt.uplinks), link) }, tap: tt.tap}
			got := watch(strings.Fields(tt.names), s, tt.last)
			if devices := strings.Join(got.devices, " "); devices != tt.want {
				t.Errorf("monitored %s, want %s", devices, tt.want)
			}
			if n := len(strings.Fields(tt.aliases)); n != len(got.aliases) {
				t.Errorf("aliases %v, want %s", got.aliases, tt.aliases)
			}
			for _, alias := range strings.Fields(tt.aliases) {
				name, device, _ := strings.Cut(alias, ">")
				if got.aliases[name] != device {
					t.Errorf("%s stands for %q, want %s", name, got.aliases[name], device)
				}
			}
			if want := min(1, len(tt.note)); len(got.notes) != want {
				t.Fatalf("notes %q, want %d", got.notes, want)
			}
			for part := range strings.SplitSeq(tt.note, "|") {
				if tt.note != "" && !strings.Contains(got.notes[0], part) {
					t.Errorf("note %q, want %q in it", got.notes[0], part)
				}
			}
		})
	}
}

// TestMuteByTheNameInTheConfiguration: a network is muted by what the
// configuration calls it, whatever carries it.
func TestMuteByTheNameInTheConfiguration(t *testing.T) {
	n := client.Device{Interface: "br-lan.2"}
	w := &watched{of: map[string][]string{"br-lan": {"br-lan.1"}, "br-guest": {"br-lan.2"}}}
	networks := append(w.named(n.Interface), n.Interface)
	for mute, want := range map[string]bool{"br-guest": true, "guest": true, "br-lan.2": true, "br-lan": false, "br-lan.1": false} {
		if muted(&n, []string{mute}, networks) != want {
			t.Errorf("muted by %s: %v", mute, !want)
		}
	}
}

// netifd answers as it does.
type netifd struct {
	reply ubus.Table
	err   error
}

func (n netifd) Call(_ context.Context, path, method string, _ ubus.Table) (ubus.Table, error) {
	if path != "network.interface" || method != "dump" {
		return nil, ubus.StatusMethodNotFound
	}
	return n.reply, n.err
}

func TestAskNetifd(t *testing.T) {
	// As netifd tells it, without what is of no use here.
	reply, err := ubus.FromJSON([]byte(`{"interface": [
		{"interface": "guest", "up": false, "pending": true, "proto": "static", "data": {}},
		{"interface": "lan", "up": true, "l3_device": "br-lan.1", "proto": "static", "device": "br-lan.1", "route": []},
		{"interface": "loopback", "up": true, "l3_device": "lo", "proto": "static", "device": "lo", "route": []},
		{"interface": "wan", "up": true, "l3_device": "pppoe-wan", "proto": "pppoe", "device": "wan",
			"route": [{"target": "203.0.113.1", "mask": 32, "nexthop": "0.0.0.0"}, {"target": "0.0.0.0", "mask": 0, "nexthop": "203.0.113.1"}]},
		{"up": true}, 7]}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := askNetifd(t.Context(), netifd{reply: reply})
	want := []network{
		{name: "guest"}, {name: "lan", device: "br-lan.1", lower: "br-lan.1"}, {name: "loopback", device: "lo", lower: "lo"},
		{name: "wan", device: "pppoe-wan", lower: "wan", outside: true},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("networks %+v, %v, want %+v", got, err, want)
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no netifd":        {fmt.Errorf("call network.interface dump: %w", ubus.StatusNotFound), "list the networks: "},
		"a bus that hangs": {fmt.Errorf("call network.interface dump: %w: %w", ubus.StatusTimeout, context.DeadlineExceeded), "list the networks: the bus does not answer within 3s"},
	} {
		got, err := askNetifd(t.Context(), netifd{err: c.err})
		if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
