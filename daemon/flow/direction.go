package flow

import (
	"net/netip"
	"slices"

	"pakon/daemon/client"
	"pakon/suricata"
)

// maxGateways bounds the MACs that are learned to lead outside.
const maxGateways = 16

// direction tells which side of a connection is the client. Where this machine
// has the network's addresses, they decide. Where it does not (a capture, a
// bridge that does not route), the side that leads outside is learned from the
// MACs: one that stands for an address of the internet is no client.
func (t *Table) direction(ev *suricata.Event) (Direction, Fate) {
	src, dst := ev.Src.Addr(), ev.Dst.Addr()
	if t.clients.RouterAddr(src) {
		return Out, RouterFlow
	}
	srcMAC, dstMAC := client.MAC(ev.SrcMAC), client.MAC(ev.DstMAC)
	ifc, _ := t.clients.Interface(t.str(ev.Interface))
	switch {
	case contains(ifc.Prefixes, src):
		return Out, Recorded
	case contains(ifc.Prefixes, dst):
		return In, Recorded
	case t.clients.RouterMAC(srcMAC):
		return In, Recorded
	case t.clients.RouterMAC(dstMAC):
		return Out, Recorded
	}
	if len(ifc.Prefixes) == 0 {
		t.learn(src, dst, srcMAC, dstMAC)
	}
	switch {
	case t.gateways[dstMAC]:
		return Out, Recorded
	case t.gateways[srcMAC]:
		return In, Recorded
	case !local(src) && local(dst):
		return In, Recorded
	}
	return Out, Recorded
}

func (t *Table) learn(src, dst netip.Addr, srcMAC, dstMAC client.MAC) {
	if !src.Is4() || len(t.gateways) >= maxGateways {
		return
	}
	switch {
	case local(src) && !local(dst) && !dstMAC.IsZero() && !dstMAC.IsGroup():
		t.gateways[dstMAC] = true
	case !local(src) && local(dst) && !srcMAC.IsZero():
		t.gateways[srcMAC] = true
	}
}

// local tells addresses that are never those of the internet.
func local(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a == broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
