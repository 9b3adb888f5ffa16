package store

import (
	"net/netip"
	"strings"
	"testing"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
)

// putTogether returns the flows of one client that come of some.
func putTogether(group func(string) (string, bool), flows ...flow.Flow) *block.Block {
	var b block.Block
	e := b.Endpoint(block.Endpoint{MAC: client.MAC{2}, Interface: "br-lan"})
	for i, f := range flows {
		b.Flows = append(b.Flows, block.Flow{
			ID: int64(i*1000) << idShift, Duration: 500, Sent: 1, Flows: 1, Endpoint: e, Proto: f.Proto, Port: f.Port,
			Name: b.Name(f.Name), Remote: b.Remote(f.Remote), Source: uint8(f.Source),
		})
	}
	m := newMerger(60_000, func(int64) int64 { return 0 }, group)
	m.addAll(&b)
	return m.take(nil)
}

// TestMergeByPort: what a port is called does not tell far ends apart, so their
// addresses do.
func TestMergeByPort(t *testing.T) {
	vpn := func(addr string) flow.Flow {
		return flow.Flow{Name: "wireguard", Source: name.Port, Remote: netip.MustParseAddr(addr), Proto: flow.UDP, Port: 51820}
	}
	b := putTogether(func(n string) (string, bool) { return n, false }, vpn("203.0.113.9"), vpn("203.0.113.10"), vpn("203.0.113.9"))
	if len(b.Flows) != 2 || b.Flows[0].Flows != 2 || b.Remotes[b.Flows[0].Remote].String() != "203.0.113.9" ||
		b.Remotes[b.Flows[1].Remote].String() != "203.0.113.10" || b.Flows[0].Source != uint8(name.Port) {
		t.Errorf("%+v", b.Flows)
	}
}

// TestMergeHidden: where the name that flows put together are known by is hidden by
// the lists, these go on to tell whether it is; else the flows are hidden for good.
func TestMergeHidden(t *testing.T) {
	seen := func(n string) flow.Flow { return flow.Flow{Name: n, Source: name.TLS, Proto: flow.TCP, Port: 443} }
	group := func(n string) (string, bool) {
		if strings.HasSuffix(n, "tracker.example") {
			return "tracker.example", true
		}
		return "service.example", n == "ads.service.example" || n == "log.service.example"
	}
	b := putTogether(group, seen("a.tracker.example"), seen("b.tracker.example"), seen("ads.service.example"), seen("log.service.example"))
	if len(b.Flows) != 2 || b.Names[b.Flows[0].Name] != "tracker.example" || b.Flows[0].Hidden ||
		b.Names[b.Flows[1].Name] != "service.example" || !b.Flows[1].Hidden {
		t.Errorf("%q: %+v", b.Names, b.Flows)
	}
}
