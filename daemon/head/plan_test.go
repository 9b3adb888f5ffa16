package head

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func TestWay(t *testing.T) {
	t.Parallel()
	for w, want := range map[Way]string{None: "", NFLOG: "nflog", Mirror: "mirror", 7: "way 7"} {
		if got := w.String(); got != want {
			t.Errorf("%d: %q", w, got)
		}
	}
}

func TestInterfaces(t *testing.T) {
	t.Parallel()
	got := Settings{Interfaces: []string{"br-lan", "", "a/b", "br-guest_turris", "0123456789abcdef", "br-lan", "x*"}}.interfaces()
	if want := []string{"br-guest_turris", "br-lan", "x*"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	const address = "\x02\x00\x00\x00\x00\x01"
	links := []link{
		{device: device{"br-lan", 3}, mac: address},
		{device: device{"lan2", 5}, master: 3},
		{device: device{"lan1", 4}, master: 3},
		{device: device{"wan", 6}, mac: address},
		{device: device{"br-guest", 7}, mac: address},
		{device: device{"wlan1", 8}, master: 7},
		{device: device{"tun0", 9}},
		{device: device{"br-lan.1", 10}, mac: address, lower: 3},
		{device: device{"wan.7", 11}, mac: address, lower: 6},
	}
	table := func(devices ...string) []Flowtable {
		return []Flowtable{{Devices: []string{"wan"}}, {Devices: devices}}
	}
	ports := []device{{"lan1", 4}, {"lan2", 5}}
	for name, c := range map[string]struct {
		iface  string
		tables []Flowtable
		want   []device
		mac    string
	}{
		"no flowtable":         {"br-lan", nil, []device{{"br-lan", 3}}, ""},
		"bridge in it":         {"br-lan", table("br-lan", "wan"), []device{{"br-lan", 3}}, ""},
		"a port in it":         {"br-lan", table("lan2"), ports, address},
		"bridge and port":      {"br-lan", table("br-lan", "lan1"), ports, address},
		"another bridge's":     {"br-guest", table("lan1", "lan2"), []device{{"br-guest", 7}}, ""},
		"no bridge":            {"wan", table("wan"), []device{{"wan", 6}}, ""},
		"no Ethernet":          {"tun0", table("tun0"), []device{{"tun0", 9}}, ""},
		"a VLAN":               {"br-lan.1", table("wan"), []device{{"br-lan.1", 10}}, ""},
		"a VLAN in it":         {"br-lan.1", table("br-lan.1"), []device{{"br-lan.1", 10}}, ""},
		"a VLAN's bridge":      {"br-lan.1", table("br-lan"), []device{{"br-lan", 3}}, address},
		"a VLAN's port":        {"br-lan.1", table("lan1"), ports, address},
		"a VLAN's device":      {"wan.7", table("wan"), []device{{"wan", 6}}, address},
		"an absent interface":  {"br-iot", table("lan1"), nil, ""},
		"a port, not a bridge": {"lan1", table("lan1"), []device{{"lan1", 4}}, ""},
	} {
		got, mac := hooks(c.iface, links, c.tables)
		if !slices.Equal(got, c.want) || mac != c.mac {
			t.Errorf("%s: %v, %q, want %v, %q", name, got, mac, c.want, c.mac)
		}
	}
}

func TestNoPacketIsCopiedTwice(t *testing.T) {
	t.Parallel()
	port, bridge := device{"lan1", 4}, device{"br-lan", 3}
	networks := []network{{name: "br-lan.1", hooks: []device{port, bridge}, mac: "a"}, {name: "br-lan.2", hooks: []device{port, bridge}, mac: "a"}, {name: "br-lan.3", hooks: []device{port}, mac: "b"}}
	once(networks)
	if len(networks[0].hooks) != 2 || len(networks[1].hooks) != 0 || len(networks[2].hooks) != 1 {
		t.Errorf("%+v", networks)
	}
}

// twoNetworks has an interface, one with ports, and one that is not there.
func twoNetworks(w Way) plan {
	return plan{w, []network{
		{"br-guest", device{"pakon1", 11}, []device{{"lan1", 1}, {"lan2", 2}}, "\x02\x00\x00\x00\x00\x01"},
		{"br-iot", device{"pakon2", 12}, nil, ""},
		{"br-lan", device{"pakon0", 10}, []device{{"br-lan", 3}}, ""},
	}}
}

// Whatever the rules find, the packet goes its way.
func TestRulesOnlyLook(t *testing.T) {
	t.Parallel()
	for _, w := range []Way{NFLOG, Mirror} {
		for _, r := range twoNetworks(w).rules() {
			if r.table.Name != "pakon" || !slices.Contains(families, r.table.Family) {
				t.Errorf("%v: table %v", w, r.table)
			}
			for _, c := range r.chains {
				base := c.Hooknum != nil
				if base && *c.Policy != nftables.ChainPolicyAccept {
					t.Errorf("%v: chain %s does not accept", w, c.Name)
				}
				for i, rule := range c.rules {
					acts := 0
					for j, e := range rule.exprs {
						switch e := e.(type) {
						case *expr.Verdict:
							if e.Kind != expr.VerdictReturn && e.Kind != expr.VerdictGoto || base && e.Kind != expr.VerdictGoto {
								t.Errorf("%v: chain %s, rule %d: verdict %v", w, c.Name, i, e.Kind)
							}
							if j != len(rule.exprs)-1 {
								t.Errorf("%v: chain %s, rule %d goes on after its verdict", w, c.Name, i)
							}
						case *expr.Log, *expr.Dup:
							acts++
						}
					}
					if acts > 1 || acts > 0 && base {
						t.Errorf("%v: chain %s, rule %d sees a packet more than once", w, c.Name, i)
					}
				}
			}
		}
	}
	if plan := (plan{}).rules(); plan != nil {
		t.Errorf("no way makes rules: %v", plan)
	}
}

// TestRulesCompareWholeNames: what means something to nft, a shell or a path in the
// name of an interface means nothing in a rule.
func TestRulesCompareWholeNames(t *testing.T) {
	t.Parallel()
	want := []string{`"; drop; "`, "$(id)", "%s", "*", "-f", "..", "a'b", "br*", "br-lan", "{ a, b }", "\\x41", "háčky"}
	p := plan{way: NFLOG}
	for _, name := range (Settings{Interfaces: append([]string{"../br-lan", "a\x00b"}, want...)}).interfaces() {
		p.networks = append(p.networks, network{name: name})
	}
	var got []string
	for _, c := range p.logRules().chains {
		for _, rule := range c.rules {
			for i, e := range rule.exprs {
				meta, ok := e.(*expr.Meta)
				if !ok || meta.Key != expr.MetaKeyIIFNAME && meta.Key != expr.MetaKeyOIFNAME {
					continue
				}
				cmp, ok := rule.exprs[i+1].(*expr.Cmp)
				if !ok || cmp.Op != expr.CmpOpEq || len(cmp.Data) != unix.IFNAMSIZ {
					t.Fatalf("chain %s: %#v", c.Name, rule.exprs[i+1])
				}
				got = append(got, strings.TrimRight(string(cmp.Data), "\x00"))
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("rules for %q, want %q", got, want)
	}
}

func TestMirrorRulesNameTheirDevices(t *testing.T) {
	t.Parallel()
	p := twoNetworks(Mirror)
	r := p.mirrorRules()
	var hooked []string
	for _, c := range r.chains {
		if c.Device != "" {
			hooked = append(hooked, c.Name+" "+c.Device)
		}
	}
	want := []string{"in0_0 lan1", "out0_0 lan1", "in0_1 lan2", "out0_1 lan2", "in2_0 br-lan", "out2_0 br-lan"}
	if !slices.Equal(hooked, want) {
		t.Errorf("hooks %q, want %q", hooked, want)
	}
	if got, want := p.mirrors(), map[string]string{"pakon0": "br-lan", "pakon1": "br-guest", "pakon2": "br-iot"}; !reflect.DeepEqual(got, want) {
		t.Errorf("mirrors %v, want %v", got, want)
	}
	if got := twoNetworks(NFLOG).mirrors(); got != nil {
		t.Errorf("NFLOG has mirrors %v", got)
	}
	ids := map[uint32]bool{}
	for _, s := range r.sets {
		ids[s.ID] = true
	}
	for _, c := range r.chains {
		for _, rule := range c.rules {
			if rule.set != nil {
				if ids[rule.set.ID] {
					t.Errorf("two sets have the number %d", rule.set.ID)
				}
				ids[rule.set.ID] = true
			}
		}
	}
}

func TestOurs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, kind string
		want       bool
	}{
		{"pakon0", "dummy", true}, {"pakon12", "ifb", true}, {"pakon0", "veth", false}, {"pakon", "dummy", false},
		{"pakon-1", "dummy", false}, {"pakonx", "dummy", false}, {"br-lan", "bridge", false}, {"ifb0", "ifb", false},
	} {
		if got := (link{device: device{name: c.name}, kind: c.kind}).ours(); got != c.want {
			t.Errorf("%s %s: %v", c.kind, c.name, got)
		}
	}
}

func TestConcerns(t *testing.T) {
	t.Parallel()
	message := func(kind netlink.HeaderType, table string) netlink.Message {
		data, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: []byte(table + "\x00")}})
		if err != nil {
			t.Fatal(err)
		}
		return netlink.Message{Header: netlink.Header{Type: kind}, Data: append([]byte{unix.NFPROTO_INET, 0, 0, 0}, data...)}
	}
	const nft = unix.NFNL_SUBSYS_NFTABLES << 8
	for _, c := range []struct {
		name string
		m    netlink.Message
		want bool
	}{
		{"our table", message(nft|unix.NFT_MSG_DELTABLE, "pakon"), true},
		{"our chain", message(nft|unix.NFT_MSG_DELCHAIN, "pakon"), true},
		{"our rule", message(nft|unix.NFT_MSG_NEWRULE, "pakon"), true},
		{"another table", message(nft|unix.NFT_MSG_DELTABLE, "fw4"), false},
		{"another's longer name", message(nft|unix.NFT_MSG_DELTABLE, "pakon2"), false},
		{"an element", message(nft|unix.NFT_MSG_NEWSETELEM, "pakon"), false},
		{"the end of a transaction", message(nft|unix.NFT_MSG_NEWGEN, "pakon"), false},
		{"connection tracking", message(unix.NFNL_SUBSYS_CTNETLINK<<8, "pakon"), false},
		{"nothing in it", netlink.Message{Header: netlink.Header{Type: nft}}, false},
		{"cut off", netlink.Message{Header: netlink.Header{Type: nft | unix.NFT_MSG_DELTABLE}, Data: []byte{1, 0, 0, 0, 200, 0}}, false},
	} {
		if got := concerns(c.m); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	const nft = unix.NFNL_SUBSYS_NFTABLES << 8
	for kind, want := range map[netlink.HeaderType]bool{
		nft | nftables.NFT_MSG_NEWFLOWTABLE: true, nft | nftables.NFT_MSG_DELFLOWTABLE: true,
		nft | unix.NFT_MSG_NEWTABLE: false, unix.NFNL_SUBSYS_CTNETLINK<<8 | nftables.NFT_MSG_NEWFLOWTABLE: false,
	} {
		if got := ofFlowtable(netlink.Message{Header: netlink.Header{Type: kind}}); got != want {
			t.Errorf("%x: %v", uint16(kind), got)
		}
	}
	h := New(nil)
	h.tellChange()
	h.tellChange() // waits for nobody
	<-h.Changes()
	select {
	case <-h.Changes():
		t.Error("a change is told twice")
	default:
	}
}

func TestLacking(t *testing.T) {
	t.Parallel()
	if lacking(unix.EPERM) || !lacking(unix.EPROTONOSUPPORT) {
		t.Error("a refusal is no lack")
	}
}
