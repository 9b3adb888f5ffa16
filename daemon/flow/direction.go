package flow

import (
	"net/netip"
	"slices"

	"pakon/daemon/client"
	"pakon/suricata"
)

// maxGateways bounds the MACs that are learned to lead outside.
const maxGateways = 16

// side is one of the two ends of a connection.
type side uint8

const (
	source side = iota // that Suricata saw first
	destination
)

// opened tells who opened a connection whose client is at the side inside, and
// the port that was opened. Of a connection that Suricata had forgotten it only
// tells who spoke first since; then the lower port is taken for the server's.
func opened(ev *suricata.Event, inside side, here, there uint16) (Direction, uint16) {
	resumed := ev.Midstream || ev.Proto == UDP && inside == destination && there < 1024 && here >= 1024
	switch {
	case resumed && there <= here, !resumed && inside == source:
		return Out, there
	}
	return In, here
}

// inside tells at which side of a connection the client is. Where this machine
// has the network's addresses, they decide. Where it does not (a capture, a
// bridge that does not route), the side that leads outside is learned from the
// MACs: one that stands for an address of the internet is no client.
func (t *Table) inside(ev *suricata.Event) (side, Fate) {
	src, dst := ev.Src.Addr(), ev.Dst.Addr()
	switch {
	case t.clients.RouterAddr(src):
		return source, RouterFlow
	case t.tunnelled(ev):
		return source, OtherNetwork
	}
	srcMAC, dstMAC := client.MAC(ev.SrcMAC), client.MAC(ev.DstMAC)
	ifc, _ := t.clients.Interface(t.iface(ev.Interface))
	switch {
	case contains(ifc.Prefixes, src):
		return source, Recorded
	case contains(ifc.Prefixes, dst):
		return destination, Recorded
	case t.clients.RouterMAC(srcMAC):
		return destination, Recorded
	case t.clients.RouterMAC(dstMAC):
		return source, Recorded
	}
	if len(ifc.Prefixes) == 0 {
		t.learn(src, dst, srcMAC, dstMAC)
	}
	switch {
	case t.gateways[dstMAC]:
		return source, Recorded
	case t.gateways[srcMAC]:
		return destination, Recorded
	case !local(src) && local(dst):
		return destination, Recorded
	}
	return source, Recorded
}

// tunnelled reports whether an event is of what a client's tunnel carries, into
// which Suricata looks: none of its addresses is of a device here, and it has no
// MACs, which all else on an Ethernet has.
func (t *Table) tunnelled(ev *suricata.Event) bool {
	if ev.SrcMAC != [6]byte{} || ev.DstMAC != [6]byte{} {
		return false
	}
	name := t.iface(ev.Interface)
	ifc, _ := t.clients.Interface(name)
	if ifc.MAC.IsZero() || len(ifc.Prefixes) == 0 {
		return false
	}
	for _, end := range []netip.AddrPort{ev.Src, ev.Dst} {
		a := end.Addr()
		if _, ok := t.clients.ByAddr(name, a); ok || contains(ifc.Prefixes, a) || t.clients.RouterAddr(a) {
			return false
		}
	}
	return true
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
