package client

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pakon/daemon/client/lease"
)

// Host is a device as the owner has written of it. One without MACs and IDs is
// whichever has its address.
type Host struct {
	Name  string // "" if it has none
	MACs  []MAC
	IDs   []string     // DHCP client identifiers and DUIDs, as 01:aa:bb:..., in lower case
	Addrs []netip.Addr // that it is given
}

// Where a name is from.
const (
	Static = "static" // the owner has given it
	Lease  = "lease"  // the device has told it to the DHCP server
	Vendor = "vendor" // it is made of the vendor and the address
)

// Vendors knows who makes devices.
type Vendors interface {
	// Lookup returns the vendor, "" for an address that the IEEE gave to none.
	Lookup(mac [6]byte) string
}

// held is a lease of a device.
type held struct {
	name, clientID string
	addr           netip.Addr // of IPv4; invalid if there is only one of IPv6
	expires        int64
}

// names are what devices are called; replaced as a whole. No two devices are called
// the same but by the owner. What the owner has named answers to that name alone. Of
// several that give themselves one name, the one keeps it that had it first.
type names struct {
	byMAC  map[MAC]called
	byName map[string][]MAC // who is meant by a name, in lower case
	named  map[string][]MAC // to whom the owner gave a name, also behind another; in lower case
	// byAddr are what devices are called that their MAC does not tell from others.
	byAddr map[place]called
}

type called struct{ name, source string }

// place is an address of a MAC; zero where there is none.
type place struct {
	mac  MAC
	addr netip.Addr
}

// renameAfter is how often names are put together anew for devices that appear:
// whoever makes up MACs makes many.
const renameAfter = time.Second

// naming is when names were put together last.
type naming struct {
	at    time.Time
	due   bool                // will be again, in a moment
	addrs map[netip.Addr]bool // addresses whose devices the owner has named
	byID  bool                // he has named some by what they tell the DHCP server
	found map[finding]bool    // devices whose MACs the owner did not write, by each of his names
}

// finding is that a device is one that the owner has named without its MAC.
type finding struct {
	mac  MAC
	name string
}

// SetVendors says who knows the vendors of devices.
func (t *Table) SetVendors(v Vendors) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.vendors = v
	for _, d := range t.devices.Values() {
		d.Vendor = t.vendor(d.MAC)
	}
	t.rename()
}

// SetHosts replaces the owner's names for devices. The first name of a MAC
// holds, as in dnsmasq.
func (t *Table) SetHosts(hosts []Host) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hosts = hosts
	t.naming.addrs = make(map[netip.Addr]bool)
	t.naming.byID = slices.ContainsFunc(hosts, func(h Host) bool { return len(h.IDs) > 0 })
	for _, h := range hosts {
		if h.Name != "" && len(h.MACs) == 0 {
			for _, a := range h.Addrs {
				t.naming.addrs[a] = true
			}
		}
	}
	t.reserve(hosts)
	t.resight()
	t.rename()
	t.wake(t.now())
}

// renewal is by how many seconds a lease is longer, at least, that was renewed:
// odhcpd adds two clocks, so that others change by one, too.
const renewal = 5

// SetLeases replaces the leases of the DHCP server.
func (t *Table) SetLeases(leases []lease.Lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := make(map[MAC]held)
	for i, m := range t.setGrants(leases) {
		l := &leases[i]
		if m.IsZero() || m.IsGroup() {
			continue
		}
		name := l.Name
		if d, ok := t.devices.Peek(m); ok && m != l.MAC && l.Addr.Is4() {
			name = cmp.Or(d.lease, name) // nobody gives another a name
		}
		h := now[m]
		if l.Addr.Unmap().Is4() && h.addr.IsValid() && l.Expires < h.expires {
			h.name = cmp.Or(h.name, name) // an older one, in another network
		} else if l.Addr.Unmap().Is4() {
			h = held{cmp.Or(name, h.name), l.ClientID, l.Addr.Unmap(), l.Expires}
		} else if h.name == "" {
			// The MAC in a lease of IPv6 may be of another card of the device: it
			// names one that is there, but shows none.
			h.name = l.Name
		}
		now[m] = h
	}
	before := t.leases
	t.leases = now
	lapsed := t.lapsed
	t.lapsed = make(map[MAC]held)
	for m, h := range before {
		if _, has := now[m]; !has {
			t.lapsed[m] = h
		}
	}
	for m, h := range now {
		old, had := before[m]
		if !had { // the file may have been read while it was written
			old, had = lapsed[m]
		}
		// What else changes need not come from it: dnsmasq takes a name from one device
		// when another comes with it.
		spoke := before != nil && (!had || old.addr != h.addr || old.expires+renewal < h.expires)
		if d, ok := t.devices.Peek(m); ok {
			t.take(d, h)
		}
		if spoke && h.addr.IsValid() {
			if link := t.networkOf(h.addr); link != "" && t.wants(m) {
				t.hear(m, h.addr, link)
			}
		}
	}
	t.resight()
	t.survey()
	t.rename()
	t.wake(t.now())
}

// take notes what a device has told the DHCP server. The caller holds t.mu.
func (t *Table) take(d *device, h held) {
	name, id := cmp.Or(h.name, d.lease), cmp.Or(h.clientID, d.clientID)
	if name != d.lease || id != d.clientID {
		t.kinship.remove(d)
		d.says(name, id)
		t.kinship.add(d)
	}
	t.match(d)
}

// vendor is the vendor of a device, "" for an address that was made up.
func (t *Table) vendor(m MAC) string {
	if t.vendors == nil || m.IsLocal() || m.IsGroup() || m.IsZero() {
		return ""
	}
	return t.vendors.Lookup(m)
}

// rename puts the names together. The caller holds t.mu.
func (t *Table) rename() {
	n := &names{byMAC: make(map[MAC]called), byName: make(map[string][]MAC), named: make(map[string][]MAC), byAddr: make(map[place]called)}
	owned := make(map[string]bool)
	found := make(map[finding]bool)
	var ids map[string][]MAC
	if t.naming.byID {
		ids = t.identified()
	}
	several := t.severalBehind()
	for _, h := range t.hosts {
		if h.Name == "" {
			continue
		}
		key := strings.ToLower(h.Name)
		owned[key] = true
		for _, m := range h.MACs {
			n.named[key] = append(n.named[key], m)
			if !n.has(m) {
				n.add(m, called{name: h.Name, source: Static})
			}
		}
		for _, m := range t.devicesOf(&h, ids) {
			n.named[key] = append(n.named[key], m)
			found[finding{m, key}] = true
			if !n.has(m) && !t.masked(&h, m, several) {
				n.add(m, called{name: h.Name, source: Static})
			}
		}
	}
	given := make(map[MAC]string) // by devices to themselves
	vendors := make(map[MAC]string)
	for m, h := range t.leases {
		given[m] = h.name
	}
	for _, d := range t.devices.Values() {
		given[d.MAC] = cmp.Or(given[d.MAC], d.lease)
		vendors[d.MAC] = d.Vendor
	}
	maps.DeleteFunc(given, func(m MAC, name string) bool { return n.has(m) || name == "" })
	maps.DeleteFunc(vendors, func(m MAC, vendor string) bool { return n.has(m) || given[m] != "" || vendor == "" })
	holders := make(map[string][]MAC)
	for _, m := range sortedMACs(given) {
		key := strings.ToLower(given[m])
		holders[key] = append(holders[key], m)
	}
	for key, macs := range holders {
		if owned[key] {
			continue
		}
		for _, m := range t.keepers(macs) {
			n.add(m, called{name: given[m], source: Lease})
		}
	}
	maps.DeleteFunc(given, func(m MAC, _ string) bool { return n.has(m) })
	t.addDistinct(n, given, Lease)
	t.addDistinct(n, vendors, Vendor)
	t.nameAddrs(n, owned, several)
	t.names.Store(n)
	t.naming.at, t.naming.due = t.now(), false
	if !maps.Equal(found, t.naming.found) {
		t.naming.found = found
		select {
		case t.renamed <- struct{}{}:
		default: // one is waiting already
		}
	}
}

// devicesOf are those that the owner has named by what is not a MAC. The caller holds
// t.mu.
func (t *Table) devicesOf(h *Host, ids map[string][]MAC) (macs []MAC) {
	if len(h.MACs) > 0 {
		return nil
	}
	for _, id := range h.IDs {
		macs = append(macs, ids[id]...)
		if m := MAC(lease.MACOfID(id)); !m.IsZero() {
			macs = append(macs, m)
		}
	}
	if len(h.IDs) > 0 {
		return macs
	}
	for _, a := range h.Addrs {
		if m, ok := t.neighbourWith(a); ok {
			macs = append(macs, m)
		} else if m := t.holder(a, MAC{}); !m.IsZero() {
			macs = append(macs, m)
		} else if m := t.latestAt(a); !m.IsZero() {
			macs = append(macs, m)
		}
	}
	return macs
}

// latestAt is the device that used an address last and no other since, as far as flows
// tell: those of a network that this machine does not route have no neighbours. It is
// zero if there is none. The caller holds t.mu.
func (t *Table) latestAt(a netip.Addr) (m MAC) {
	var last int64
	for _, d := range t.devices.Values() {
		i := slices.Index(d.Addresses, a)
		if i < 0 || a.Is4() && slices.ContainsFunc(d.Addresses[:i], netip.Addr.Is4) {
			continue // a device has many of IPv6
		}
		if m.IsZero() || d.LastSeen > last {
			m, last = d.MAC, d.LastSeen
		}
	}
	return m
}

// masked tells whether a MAC with which the host comes is of others, too: the DHCP server
// knows several by it, or it is an extender's, and an address is all that is known of
// the host. The caller holds t.mu.
func (t *Table) masked(h *Host, m MAC, several map[MAC]bool) bool {
	return several[m] || t.owners.extenders[m] && len(h.IDs) == 0 &&
		!slices.ContainsFunc(h.Addrs, func(a netip.Addr) bool { return t.holder(a, m) == m })
}

// identifies tells whether who has an address shows whom the owner has named. The
// caller holds t.mu.
func (t *Table) identifies(a netip.Addr) bool {
	return t.naming.addrs[a] || t.naming.byID && a.Is6() && t.owners.granted[a].id != ""
}

// neighbourWith is the device that was last heard with an address in a monitored
// network. The caller holds t.mu.
func (t *Table) neighbourWith(a netip.Addr) (MAC, bool) {
	links := t.machine.Load().links
	for _, name := range t.networks {
		if s, ok := t.neighbours.Peek(neighbour{links[name].Index, a}); ok {
			return t.owner(s.mac, a), true
		}
	}
	return MAC{}, false
}

// formsOf are the forms in which the owner may write what a device told the DHCP server:
// a client identifier, of text also without the 0 that some put in front, or the DUID
// in it.
func formsOf(told string) []string {
	forms := []string{told}
	if text, ok := strings.CutPrefix(told, "00:"); ok {
		forms = append(forms, text)
	}
	if duid := duidOfID(told); duid != "" {
		forms = append(forms, duid)
	}
	return forms
}

// identified are the devices by what they told the DHCP server, in all its forms. The
// caller holds t.mu.
func (t *Table) identified() map[string][]MAC {
	ids := make(map[string][]MAC)
	add := func(told string, m MAC) {
		if told == "" || m.IsZero() {
			return
		}
		for _, id := range formsOf(told) {
			ids[id] = append(ids[id], m)
		}
	}
	for a, g := range t.owners.granted {
		m := g.mac
		if !a.Is4() {
			// The neighbour tells which of its cards the device uses.
			if n, ok := t.neighbourWith(a); ok {
				m = n
			}
		}
		add(g.id, m)
	}
	for _, d := range t.devices.Values() {
		add(d.clientID, d.MAC)
	}
	return ids
}

// nameAddrs names those whom their MAC does not tell from others: clients without
// one, and devices behind an extender to which the DHCP server gave leases. A name of
// the owner's (owned, in lower case) is that device's alone. The caller holds t.mu.
func (t *Table) nameAddrs(n *names, owned map[string]bool, several map[MAC]bool) {
	static := func(h *Host, at place) {
		if n.byAddr[at] == (called{}) {
			n.byAddr[at] = called{name: h.Name, source: Static}
		}
	}
	for _, h := range t.hosts {
		if h.Name == "" {
			continue
		}
		for _, a := range h.Addrs {
			static(&h, place{addr: a})
			if len(h.MACs)+len(h.IDs) > 0 {
				continue
			}
			for _, m := range t.devicesOf(&Host{Addrs: []netip.Addr{a}}, nil) {
				if t.masked(&h, m, several) {
					static(&h, place{m, a})
				}
			}
		}
		if len(h.MACs) > 0 || len(h.IDs) == 0 || len(several) == 0 {
			continue
		}
		for a, g := range t.owners.granted {
			if several[g.mac] && g.id != "" && slices.ContainsFunc(formsOf(g.id), func(id string) bool { return slices.Contains(h.IDs, id) }) {
				static(&h, place{g.mac, a})
			}
		}
	}
	// A device that is no other's than the one at the place has its name.
	type claimant struct {
		place
		id string
	}
	claims := make(map[place]claimant)
	first := make(map[string]claimant) // by the name, in lower case
	disputed := make(map[string]bool)  // names that another has, too
	for a, g := range t.owners.granted {
		at, key := place{g.mac, a}, strings.ToLower(g.name)
		if g.name == "" || owned[key] || n.byAddr[at] != (called{}) || n.byMAC[g.mac].source == Static ||
			!g.mac.IsZero() && !(a.Is4() && several[g.mac]) {
			continue
		}
		c := claimant{place: at}
		if g.mac.IsZero() && g.id != "" {
			c = claimant{id: g.id} // has many addresses of IPv6
		}
		claims[at] = c
		if other, ok := first[key]; ok && other != c {
			disputed[key] = true
		}
		first[key] = c
		if slices.ContainsFunc(n.byName[key], func(m MAC) bool { return m != g.mac }) {
			disputed[key] = true
		}
	}
	for at := range claims {
		name := t.owners.granted[at.addr].name
		if disputed[strings.ToLower(name)] {
			name += " " + at.addr.String()
		}
		n.byAddr[at] = called{name: name, source: Lease}
	}
}

// severalBehind are the MACs with which several devices ask the DHCP server: it gave
// them addresses under different names. The caller holds t.mu.
func (t *Table) severalBehind() map[MAC]bool {
	callsItself := make(map[MAC]string)
	several := make(map[MAC]bool)
	for a, g := range t.owners.granted {
		if a.Is4() && g.name != "" {
			if other, ok := callsItself[g.mac]; ok && other != g.name {
				several[g.mac] = true
			}
			callsItself[g.mac] = g.name
		}
	}
	return several
}

func (n *names) has(m MAC) bool {
	_, ok := n.byMAC[m]
	return ok
}

func (n *names) add(m MAC, c called) {
	n.byMAC[m] = c
	key := strings.ToLower(c.name)
	n.byName[key] = append(n.byName[key], m)
}

// distinct makes a name that nobody has of one that others have, or may: with the
// tail of the MAC, or all of it.
func (n *names) distinct(name string, m MAC) string {
	if s := name + " " + tail(m); len(n.byName[strings.ToLower(s)]) == 0 {
		return s
	}
	return name + " " + m.String()
}

// addDistinct adds names that others have, or may. Of two MACs with the same tail, which
// anybody can make up, the one that was there first keeps the name with that. The caller
// holds t.mu.
func (t *Table) addDistinct(n *names, of map[MAC]string, source string) {
	key := func(m MAC) string { return strings.ToLower(of[m]) + tail(m) }
	first := make(map[string]MAC, len(of))
	for m := range of {
		if other, ok := first[key(m)]; !ok || t.hadBefore(m, other) {
			first[key(m)] = m
		}
	}
	macs := sortedMACs(of)
	for _, isFirst := range []bool{true, false} {
		for _, m := range macs {
			if isFirst == (first[key(m)] == m) {
				n.add(m, called{name: n.distinct(of[m], m), source: source})
			}
		}
	}
}

func tail(m MAC) string { return m.String()[len("00:11:22:33:"):] }

// keepers are those of several MACs that keep the name that all have given themselves:
// the MACs of the device that had it first. That is remembered as long as the device
// is, so that none is called otherwise because it was away, or another has renewed its
// lease. The caller holds t.mu.
func (t *Table) keepers(macs []MAC) (keep []MAC) {
	first := macs[0]
	for _, m := range macs[1:] {
		if t.hadBefore(m, first) {
			first = m
		}
	}
	firsts := make(map[MAC]MAC)
	for _, m := range macs {
		keeps := m == first || t.firstMAC(firsts, m) == t.firstMAC(firsts, first)
		if keeps {
			keep = append(keep, m)
		}
		if d, ok := t.devices.Peek(m); ok && t.registry.known {
			d.holds = keeps
		}
	}
	return keep
}

// hadBefore reports whether of two MACs that have given themselves one name a had it
// before b. The caller holds t.mu.
func (t *Table) hadBefore(a, b MAC) bool {
	order := func(m MAC) (folded, holds int, since int64) {
		d, ok := t.devices.Peek(m)
		if !ok {
			return 0, 1, math.MaxInt64 // nobody has seen it yet
		}
		if t.unseen(d, t.registry.aged, foldAfter) {
			folded = 1
		}
		if !d.holds {
			holds = 1
		}
		if since = cmp.Or(d.appeared, d.FirstSeen); !believed(since) {
			since = math.MaxInt64 - 1
		}
		return folded, holds, since
	}
	aFolded, aHolds, aSince := order(a)
	bFolded, bHolds, bSince := order(b)
	return cmp.Or(cmp.Compare(aFolded, bFolded), cmp.Compare(aHolds, bHolds), cmp.Compare(aSince, bSince), bytes.Compare(a[:], b[:])) < 0
}

// firstMAC is the first MAC that a device had, by what no other can tell the DHCP
// server; found are those that it has found. The caller holds t.mu.
func (t *Table) firstMAC(found map[MAC]MAC, m MAC) MAC {
	if first, ok := found[m]; ok {
		return first
	}
	first := m
	if d, ok := t.devices.Peek(m); ok && !d.Earlier.IsZero() && !t.byNameAlone(d) {
		first = t.firstMAC(found, d.Earlier)
	}
	found[m] = first
	return first
}

func sortedMACs(of map[MAC]string) []MAC {
	return slices.SortedFunc(maps.Keys(of), func(a, b MAC) int { return bytes.Compare(a[:], b[:]) })
}

// renameSoon puts the names together at once, but not too often. The caller holds
// t.mu.
func (t *Table) renameSoon() {
	wait := renameAfter - t.now().Sub(t.naming.at)
	if wait <= 0 || wait > renameAfter {
		t.rename()
	} else if !t.naming.due {
		t.naming.due = true
		time.AfterFunc(wait, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.rename()
		})
	}
}

// vendorName is what a device is called that nobody has named.
func vendorName(d *device) string {
	if d.Vendor == "" {
		return ""
	}
	return d.Vendor + " " + tail(d.MAC)
}

// nameOf is what the device is called, also if it has just appeared. The caller
// holds t.mu.
func (t *Table) nameOf(d *device) (name, source string) {
	switch n, ok := t.names.Load().byMAC[d.MAC]; {
	case ok && n.source != Vendor:
		return n.name, n.source
	case t.leases[d.MAC].name != "":
		return t.leases[d.MAC].name, Lease
	case d.lease != "":
		return d.lease, Lease
	case ok:
		return n.name, n.source
	case d.Vendor != "":
		return vendorName(d), Vendor
	}
	return "", ""
}

// Name returns the device's name and where it is from, or "".
func (t *Table) Name(m MAC) (name, source string) {
	n := t.names.Load().byMAC[m]
	return n.name, n.source
}

// NameAt returns the name of the device with the address, and where that is from, or
// "". It differs from that of its MAC if several devices have that, or none.
func (t *Table) NameAt(m MAC, a netip.Addr) (name, source string) {
	if n, ok := t.names.Load().byAddr[place{m, a}]; ok {
		return n.name, n.source
	}
	return t.Name(m)
}

// Renamed tells that other devices than before have a name that the owner gave to a
// device without its MAC.
func (t *Table) Renamed() <-chan struct{} { return t.renamed }

// Named returns the MACs of the devices to which the owner gave the name, in any case;
// also where they are called by another name of his, and that of an extender if one of
// the devices behind it is not told apart otherwise.
func (t *Table) Named(name string) []MAC {
	return inOrder(t.names.Load().named[strings.ToLower(name)])
}

// ByName returns the MACs of the devices that are meant by a name, in any case: of
// those that the owner has given it, or else of the one that keeps it of those that
// have given it to themselves.
func (t *Table) ByName(name string) []MAC {
	return inOrder(t.names.Load().byName[strings.ToLower(name)])
}

// inOrder is a copy of MACs in order, each once.
func inOrder(macs []MAC) []MAC {
	macs = slices.Clone(macs)
	slices.SortFunc(macs, func(a, b MAC) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(macs)
}

// Meant returns the clients that are meant by a name, in any case: its devices, as
// ByName does, and the addresses to which the owner has given it, for clients whose
// MAC is not known.
func (t *Table) Meant(name string) (ids []ID) {
	for _, m := range t.ByName(name) {
		ids = append(ids, ID{MAC: m})
	}
	devices := len(ids)
	for at, c := range t.names.Load().byAddr {
		if at.mac.IsZero() && c.source == Static && strings.EqualFold(c.name, name) {
			ids = append(ids, ID{Addr: at.addr})
		}
	}
	slices.SortFunc(ids[devices:], func(a, b ID) int { return a.Addr.Compare(b.Addr) })
	return ids
}
