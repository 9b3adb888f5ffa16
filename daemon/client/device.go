package client

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"time"

	"pakon/daemon/clock"
)

// Device is a device that was seen.
type Device struct {
	MAC              MAC
	Name, NameSource string // "" if it has no name
	Vendor           string // "" if that is not known
	Random           bool   // the MAC was made up by the device
	// Earlier is the random MAC that it had before, zero if none is known. If what it
	// told the DHCP server shows it, FirstSeen is of the earliest. If its name alone
	// does, which any other may take, they share neither name nor times.
	Earlier             MAC
	Folded              bool         // its MAC was made up, and has not been seen for long
	Addresses           []netip.Addr // latest first
	Interface           string       // where it was seen last
	FirstSeen, LastSeen int64        // Unix milliseconds; 0 if not known
}

// Address is the address to show of a device: the latest of IPv4 if it has one.
func (d *Device) Address() (a netip.Addr) {
	if len(d.Addresses) > 0 {
		a = d.Addresses[0]
	}
	for _, b := range d.Addresses {
		if b.Is4() {
			return b
		}
	}
	return a
}

// device is what is remembered of one. Its name is put in when it is asked for.
type device struct {
	Device
	lease, clientID string // what it has told the DHCP server last
	id, alias       string // what of that tells it from others; see tell
	told            bool   // it is not new any more
	holds           bool   // it had the name before others that tell the same
	hearsay         bool   // it was not heard itself yet: the kernel or the DHCP server knows it
	// heard is when it last answered the kernel or asked the DHCP server, by the
	// monotonic clock, and there since when it has done so without a long pause: what
	// is sent to it says nothing, and its flows are told of late.
	heard, there time.Time
	// itself is when its frames last came with its own MAC, by the monotonic clock.
	itself time.Time
	// Of one that is new, or was: its number among those, when it was noted, by the
	// monotonic clock, and when it appeared with this MAC, in Unix ms.
	number   uint64
	noted    time.Time
	appeared int64
	// The times are of this run's clock, not of an earlier run's.
	ourFirst, ourLast, ourAppeared bool

	root  MAC  // the first that it is known to have had; zero if that is MAC
	alone bool // it was told from the one that it was taken for
}

// identity is the first MAC that the device is known to have had.
func (d *device) identity() MAC { return cmp.Or(d.root, d.MAC) }

// believed tells whether a time, in Unix ms, is of a clock that was set.
func believed(ms int64) bool { return ms >= clock.Earliest.UnixMilli() }

// earlier is the earlier of two times that a device may have been seen for the
// first time. 0 is none, and a clock that was not set does not move a good one.
func earlier(a, b int64) int64 {
	switch {
	case a == 0:
		return b
	case b != 0 && b < a && (believed(b) || !believed(a)):
		return b
	}
	return a
}

// Seen notes a sign of life of a device, at in Unix milliseconds.
func (t *Table) Seen(m MAC, a netip.Addr, iface string, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen(m, a, iface, at)
}

// seen is Seen for one who holds t.mu.
func (t *Table) seen(m MAC, a netip.Addr, iface string, at int64) {
	d, ok := t.devices.Get(m)
	if !ok {
		d = t.add(m)
	}
	d.hearsay = false
	// The clock may be weeks behind: what earlier runs knew holds.
	if d.FirstSeen == 0 || d.ourFirst {
		d.FirstSeen, d.ourFirst = earlier(d.FirstSeen, at), true
	}
	if at >= d.LastSeen {
		d.LastSeen, d.ourLast, d.Interface = at, true, iface
	}
	if d.reachedBy(a) && t.naming.addrs[a] {
		t.renameSoon()
	}
	if !ok {
		t.isNew(d, at)
	}
}

// hear notes a sign of life that a device gives just now. The caller holds t.mu.
func (t *Table) hear(m MAC, a netip.Addr, iface string) {
	now := t.now()
	t.seen(m, a, iface, now.UnixMilli())
	if d, ok := t.devices.Peek(m); ok {
		if d.heard.IsZero() || now.Sub(d.heard) > leftAfter {
			d.there = now
		}
		d.heard = now
		t.part(d)
	}
	if t.registry.suspects[m] {
		t.wake(now)
	}
}

// noted notes a device of which another has told. Once it is known which devices
// there are, that does not make a new one: it may have left long ago. The caller
// holds t.mu.
func (t *Table) noted(m MAC, a netip.Addr, link string) {
	if _, known := t.devices.Peek(m); known || t.registry.known || !t.monitors(link) || !t.wants(m) || t.forgot(m) {
		return
	}
	t.seen(m, a, link, t.now().UnixMilli())
	if d, ok := t.devices.Peek(m); ok {
		d.hearsay = true
	}
}

// reachedBy notes the latest address of a device. It returns false if that was the
// latest already.
func (d *device) reachedBy(a netip.Addr) bool {
	if !a.IsValid() || a.IsLinkLocalUnicast() || len(d.Addresses) > 0 && d.Addresses[0] == a {
		return false
	}
	i := slices.Index(d.Addresses, a)
	switch {
	case i >= 0:
	case len(d.Addresses) < maxAddresses:
		d.Addresses = append(d.Addresses, a)
		i = len(d.Addresses) - 1
	default:
		i = maxAddresses - 1
	}
	copy(d.Addresses[1:i+1], d.Addresses[:i])
	d.Addresses[0] = a
	return true
}

// add makes room for a device that is not remembered. The caller holds t.mu.
func (t *Table) add(m MAC) *device {
	d := &device{Device: Device{MAC: m, Random: m.IsLocal() && !m.IsGroup(), Vendor: t.vendor(m)}}
	h := t.leases[m]
	d.says(h.name, h.clientID)
	t.insert(d)
	if d.Vendor != "" {
		t.renameSoon()
	}
	return d
}

// insert remembers a device, and forgets another if there are too many. The caller
// holds t.mu.
func (t *Table) insert(d *device) {
	r := &t.registry
	untold := len(r.waiting)
	if gone := t.devices.Add(d); gone != nil {
		r.passed += untold - len(r.waiting)
		if !r.full {
			r.full = true
			t.log.Warn("there are too many devices: those that were seen for the shortest time are forgotten", "limit", maxDevices)
		}
	}
	t.kinship.add(d)
}

// loose tells whether anybody may have made up a device.
func (t *Table) loose(d *device) bool {
	if _, source := t.nameOf(d); source == Static || source == Lease {
		return false
	}
	return d.Random || d.Vendor == "" && t.vendors != nil
}

// monitors tells whether a link is of a network that is monitored.
func (t *Table) monitors(link string) bool { return slices.Contains(t.networks, link) }

// wants tells whether a device of a monitored network is to be known.
func (t *Table) wants(m MAC) bool {
	return !m.IsZero() && !m.IsGroup() && !t.excluded[m] && !t.RouterMAC(m)
}

// networkOf is the link of the monitored network that an address belongs to, "" if
// there is none.
func (t *Table) networkOf(a netip.Addr) string {
	links := t.machine.Load().links
	for _, name := range t.networks {
		for _, p := range links[name].Prefixes {
			if p.Contains(a) {
				return name
			}
		}
	}
	return ""
}

// survey notes the neighbours and those with a lease in monitored networks that
// are not known yet. The caller holds t.mu.
func (t *Table) survey() {
	if t.registry.known {
		return
	}
	index := t.machine.Load().index
	for _, n := range t.neighbours.Keys() {
		if s, ok := t.neighbours.Peek(n); ok {
			t.noted(t.owner(s.mac, n.addr), n.addr, index[n.link])
		}
	}
	for m, h := range t.leases {
		if h.addr.IsValid() {
			t.noted(m, h.addr, t.networkOf(h.addr))
		}
	}
}

// Forget forgets the devices that match, until they are seen again.
func (t *Table) Forget(match func(*Device) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.registry
	if len(r.forgotten) > maxDevices {
		clear(r.forgotten)
	}
	lately := t.now().Add(-goneAfter).UnixMilli()
	gone := make(map[MAC]bool)
	for _, d := range t.devices.Values() {
		if match(&d.Device) {
			gone[d.MAC] = true
			r.forgotten[d.MAC] = d.LastSeen >= lately
			t.devices.Remove(d.MAC)
		}
	}
	for _, d := range t.devices.Values() {
		if gone[d.Earlier] {
			d.Earlier = MAC{}
		}
	}
	t.relate()
	r.unsaved = true
	t.rename()
}

const (
	// foldAfter is after how long without a sign of life a MAC that was made up is not
	// listed among the others, and leaves its name to who has it, too.
	foldAfter = 90 * 24 * time.Hour
	// dropAfter is after how long it is not remembered any more.
	dropAfter = 365 * 24 * time.Hour
)

// Age drops the MACs that were made up and have not been seen for a year. It is
// called while the clock can be believed.
func (t *Table) Age() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.registry.aged = t.now().UnixMilli()
	for _, d := range t.devices.Values() {
		if t.unseen(d, t.registry.aged, dropAfter) {
			t.devices.Remove(d.MAC)
			t.registry.unsaved = true
		}
	}
	t.rename()
}

// unseen reports whether a device whose MAC was made up had not been seen for so long
// at a time, in Unix ms, and the owner has not named it.
func (t *Table) unseen(d *device, at int64, long time.Duration) bool {
	if !d.Random || d.LastSeen == 0 || at-d.LastSeen < long.Milliseconds() {
		return false
	}
	_, leased := t.leases[d.MAC]
	return !leased && !t.ownersOwn(d.MAC)
}

// forgot tells whether a device was forgotten and not seen since.
func (t *Table) forgot(m MAC) bool {
	_, ok := t.registry.forgotten[m]
	return ok
}

// ClockSet tells that the wall clock was set by so many ms when it showed last,
// in Unix ms: what this run has seen until then was seen at other times. What is not
// in the future after a clock was set back was seen by the clock as it is now.
func (t *Table) ClockSet(last, by int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.devices.Values() {
		for _, seen := range []struct {
			at   *int64
			ours bool
		}{{&d.FirstSeen, d.ourFirst}, {&d.LastSeen, d.ourLast}, {&d.appeared, d.ourAppeared}} {
			if seen.ours && *seen.at <= last && *seen.at != 0 && (by > 0 || *seen.at > t.now().UnixMilli()) {
				*seen.at += by
			}
		}
	}
}

// ClockRight tells that the wall clock is right now: what was seen at a later time
// was seen by a clock that was ahead.
func (t *Table) ClockRight() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now().UnixMilli()
	for _, d := range t.devices.Values() {
		d.FirstSeen, d.LastSeen, d.appeared = min(d.FirstSeen, now), min(d.LastSeen, now), min(d.appeared, now)
	}
}

// Devices returns the devices that were seen, ordered by MAC.
func (t *Table) Devices() []Device {
	t.mu.Lock()
	out := make([]Device, 0, t.devices.Len())
	for _, d := range t.devices.Values() {
		if d.LastSeen != 0 {
			out = append(out, t.show(d))
		}
	}
	t.mu.Unlock()
	slices.SortFunc(out, func(a, b Device) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
	return out
}

// show is a copy of a device for others. The caller holds t.mu.
func (t *Table) show(d *device) Device {
	c := d.Device
	c.Addresses = slices.Clone(d.Addresses)
	c.Name, c.NameSource = t.nameOf(d)
	c.Folded = t.unseen(d, t.now().UnixMilli(), foldAfter)
	return c
}
