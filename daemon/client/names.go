package client

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pakon/daemon/client/lease"
)

// Host is a device that the owner has named.
type Host struct {
	Name string
	MACs []MAC
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

// names are what devices are called; replaced as a whole.
type names struct {
	byMAC  map[MAC]called
	byName map[string][]MAC // by lower-case name
}

type called struct{ name, source string }

// renameAfter is how often names are put together anew for devices that appear:
// whoever makes up MACs makes many.
const renameAfter = time.Second

// naming is when names were put together last.
type naming struct {
	at  time.Time
	due bool // will be again, in a moment
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
	t.rename()
	t.wake(t.now())
}

// renewal is by how many seconds a lease is longer, at least, that was renewed:
// odhcpd adds two clocks, so that others change by one, too.
const renewal = 5

// SetLeases replaces the leases of the DHCP server.
func (t *Table) SetLeases(leases []lease.Lease) {
	now := make(map[MAC]held)
	for i := range leases {
		l := &leases[i]
		m := MAC(l.MAC)
		if m.IsZero() || m.IsGroup() {
			continue
		}
		h := now[m]
		if l.Addr.Unmap().Is4() && h.addr.IsValid() && l.Expires < h.expires {
			h.name = cmp.Or(h.name, l.Name) // an older one, in another network
		} else if l.Addr.Unmap().Is4() {
			h = held{cmp.Or(l.Name, h.name), l.ClientID, l.Addr.Unmap(), l.Expires}
		} else if h.name == "" {
			// The MAC in a lease of IPv6 may be of another card of the device: it
			// names one that is there, but shows none.
			h.name = l.Name
		}
		now[m] = h
	}
	t.mu.Lock()
	defer t.mu.Unlock()
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
	n := &names{byMAC: make(map[MAC]called), byName: make(map[string][]MAC)}
	add := func(m MAC, name, source string) {
		if _, ok := n.byMAC[m]; ok || name == "" {
			return
		}
		n.byMAC[m] = called{name, source}
		key := strings.ToLower(name)
		n.byName[key] = append(n.byName[key], m)
	}
	for _, h := range t.hosts {
		for _, m := range h.MACs {
			add(m, h.Name, Static)
		}
	}
	for m, h := range t.leases {
		add(m, h.name, Lease)
	}
	for _, d := range t.devices.Values() {
		add(d.MAC, d.lease, Lease)
		add(d.MAC, vendorName(d), Vendor)
	}
	t.names.Store(n)
	t.naming = naming{at: t.now()}
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
	return d.Vendor + " " + d.MAC.String()[len("00:11:22:33:"):]
}

// nameOf is what the device is called, also if it has just appeared. The caller
// holds t.mu.
func (t *Table) nameOf(d *device) (name, source string) {
	switch n := t.names.Load().byMAC[d.MAC]; {
	case n.source == Static:
		return n.name, n.source
	case t.leases[d.MAC].name != "":
		return t.leases[d.MAC].name, Lease
	case d.lease != "":
		return d.lease, Lease
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

// ByName returns the MACs of the devices with that name, in any case.
func (t *Table) ByName(name string) []MAC {
	macs := slices.Clone(t.names.Load().byName[strings.ToLower(name)])
	slices.SortFunc(macs, func(a, b MAC) int { return bytes.Compare(a[:], b[:]) })
	return macs
}
