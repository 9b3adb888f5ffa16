package client

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"pakon/daemon/client/lease"
)

// The MAC of its frames tells whose an address is, but behind an extender that
// puts its own MAC on the frames of all its devices. An extender shows by several
// addresses with its MAC that the DHCP server or the owner gave to other devices.
// Those are told apart by whom the address was given to.

const (
	// meanwhile is within how long addresses of one MAC are heard for them to be in
	// use together: one that is in use is heard each minute or so.
	meanwhile = 10 * time.Minute
	// apartAfter is for how long a MAC counts as shared when just one of its addresses
	// is in use: as long as most answers of DNS are good.
	apartAfter = time.Hour
	// readAfter is after how long, at most, a lease that was given is read.
	readAfter = 10 * time.Second
	// maxExtenders bounds the extenders, and the MACs that may be some.
	maxExtenders = 256
)

// owners is whom addresses belong to.
type owners struct {
	granted   map[netip.Addr]grant // by the DHCP server; nil until the leases were read
	reserved  map[netip.Addr][]MAC // by the owner of the network
	extenders map[MAC]bool         // as long as this runs
	suspects  *simplelru.LRU[MAC, sighting]
	used      *simplelru.LRU[MAC, uses]
}

// grant is the lease of an address.
type grant struct {
	mac      MAC // zero if the lease does not tell
	asked    MAC // with which it was asked for
	id, name string
	expires  int64     // Unix seconds, 0: never, or not known
	since    time.Time // when it was read, if another had the address before; zero if none had
}

// sighting is that frames of a MAC had the address of another device.
type sighting struct {
	of MAC
	at time.Time
}

// uses are the IPv4 addresses of a MAC that were heard last, the latest first, and when
// two were last in use together; zero if they never were.
type uses struct {
	latest   [2]use
	together time.Time
}

// use is when an address was heard.
type use struct {
	addr netip.Addr
	at   time.Time
}

func newOwners() owners {
	o := owners{reserved: make(map[netip.Addr][]MAC), extenders: make(map[MAC]bool)}
	var err error
	if o.suspects, err = simplelru.NewLRU[MAC, sighting](maxExtenders, nil); err != nil {
		panic(err) // the size is positive
	}
	if o.used, err = simplelru.NewLRU[MAC, uses](maxNeighbours, nil); err != nil {
		panic(err)
	}
	return o
}

// holder is the device that an address was given to, zero if that is not known. Where
// it is reserved for one of several MACs, frames tells which.
func (t *Table) holder(a netip.Addr, frames MAC) MAC {
	if g, ok := t.owners.granted[a]; ok && !g.mac.IsZero() && (g.expires == 0 || g.expires > t.now().Unix()) {
		return g.mac
	}
	switch macs := t.owners.reserved[a]; {
	case slices.Contains(macs, frames):
		return frames
	case len(macs) > 0:
		return macs[0]
	}
	return MAC{}
}

// Owner returns the device that has an address with which frames come from a MAC.
func (t *Table) Owner(frames MAC, a netip.Addr) MAC {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.owner(frames, a)
}

// owner is Owner for one who holds t.mu.
func (t *Table) owner(frames MAC, a netip.Addr) MAC {
	if !t.owners.extenders[frames] {
		return frames
	}
	if m := t.holder(a, frames); !m.IsZero() {
		if m != frames && t.owners.granted[a].asked == frames && t.isThere(m) {
			return frames // which has told the DHCP server that it was another
		}
		return m
	}
	if m := macOfAddr(a); t.leases[m].addr.IsValid() {
		return m
	}
	return frames
}

// isThere reports whether a device is in use with its own MAC, so that it is not
// behind an extender. The caller holds t.mu.
func (t *Table) isThere(m MAC) bool {
	d, ok := t.devices.Peek(m)
	return ok && !d.itself.IsZero() && t.now().Sub(d.itself) < meanwhile
}

// macOfAddr is the MAC that an address of IPv6 is made of (RFC 4291, appendix A);
// zero if it is made of none.
func macOfAddr(a netip.Addr) (m MAC) {
	b := a.As16()
	if a.Is4() || b[11] != 0xff || b[12] != 0xfe {
		return m
	}
	return MAC{b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]}
}

// SharesMAC tells whether several devices use a MAC, as far as that shows: then it does
// not tell them apart.
func (t *Table) SharesMAC(frames MAC) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owners.extenders[frames] {
		return true
	}
	u, _ := t.owners.used.Peek(frames)
	return !u.together.IsZero() && t.now().Sub(u.together) < apartAfter
}

// using notes that frames of a MAC with an address were heard now. The caller holds
// t.mu.
func (t *Table) using(frames MAC, a netip.Addr) {
	if !a.Is4() || a.IsLinkLocalUnicast() {
		return // a device has many of IPv6
	}
	u, _ := t.owners.used.Get(frames)
	now := t.now()
	if u.latest[0].addr != a {
		u.latest[1] = u.latest[0]
	}
	u.latest[0] = use{a, now}
	if u.latest[1].addr.IsValid() && now.Sub(u.latest[1].at) < meanwhile {
		u.together = now
	}
	t.owners.used.Add(frames, u)
}

// sighted looks whether a MAC is that of an extender, by a neighbour that was heard at
// a time. The caller holds t.mu.
func (t *Table) sighted(frames MAC, a netip.Addr, at time.Time) {
	o := &t.owners
	if !a.Is4() || frames.IsZero() || o.extenders[frames] {
		return // the MAC in a lease of IPv6 may be of another card of the device
	}
	m := t.holder(a, frames)
	if m.IsZero() || m == frames || at.Before(o.granted[a].since.Add(-readAfter)) {
		return
	}
	before, ok := o.suspects.Get(frames)
	if ok && before.of != m && at.Sub(before.at).Abs() < meanwhile {
		t.extends(frames)
		return
	}
	if !ok || !at.Before(before.at) {
		o.suspects.Add(frames, sighting{m, at})
	}
}

// extends notes that a MAC is an extender's. The caller holds t.mu.
func (t *Table) extends(frames MAC) {
	o := &t.owners
	if o.extenders[frames] || len(o.extenders) == maxExtenders {
		return
	}
	o.extenders[frames] = true
	o.suspects.Remove(frames)
	t.log.Info("several devices are behind one MAC: they are told apart by whom their addresses were given to", "mac", frames)
	if d, ok := t.devices.Peek(frames); ok {
		d.Addresses = slices.DeleteFunc(d.Addresses, func(a netip.Addr) bool { return t.owner(frames, a) != frames })
	}
	t.renameSoon()
}

// resight looks for extenders anew, after addresses were given to others. The caller
// holds t.mu.
func (t *Table) resight() {
	for _, n := range t.neighbours.Keys() {
		if s, ok := t.neighbours.Peek(n); ok {
			t.sighted(s.mac, n.addr, s.heard)
		}
	}
}

// setGrants takes the leases, and returns their devices. The caller holds t.mu.
func (t *Table) setGrants(leases []lease.Lease) (devices []MAC) {
	now := t.now()
	devices = make([]MAC, len(leases))
	several := make(map[MAC]int) // leases of IPv4
	asks := make(map[MAC]bool)   // whether a MAC has asked for one itself
	var masking []MAC
	byDUID := make(map[string]MAC)
	hasV4 := make(map[MAC]bool)
	for i := range leases {
		if l := &leases[i]; l.Addr.Is4() && (l.Expires == 0 || l.Expires > now.Unix()) {
			several[l.MAC]++
			asks[l.MAC] = true
		}
	}
	for i := range leases {
		l := &leases[i]
		m := MAC(l.MAC)
		if l.Addr.Is4() {
			// An extender may put its MAC into what its devices ask the DHCP server, but
			// leave their identifiers alone. Anybody may tell that of another, which then
			// is elsewhere.
			if other := macOfID(l.ClientID); several[m] > 1 && !other.IsZero() && other != m && !asks[other] && !t.isThere(other) {
				masking = append(masking, m)
				m = other
			}
			hasV4[m] = true
			if duid := duidOfID(l.ClientID); duid != "" {
				byDUID[duid] = m
			}
		}
		devices[i] = m
	}
	granted := make(map[netip.Addr]grant, len(leases))
	for i := range leases {
		l := &leases[i]
		if m, ok := byDUID[l.ClientID]; ok && !l.Addr.Is4() && !hasV4[devices[i]] {
			devices[i] = m
		}
		g := grant{mac: devices[i], asked: l.MAC, id: l.ClientID, name: l.Name, expires: l.Expires}
		if old, had := t.owners.granted[l.Addr]; had && old.mac == g.mac {
			g.since = old.since
		} else if t.owners.granted != nil {
			g.since = now
		}
		granted[l.Addr] = g
	}
	t.owners.granted = granted
	for _, m := range masking {
		t.extends(m)
	}
	return devices
}

// macOfID is the MAC that a client identifier is, zero if it is none. In a DUID it may
// be that of another card of the device.
func macOfID(id string) (m MAC) {
	if strings.HasPrefix(id, "01:") {
		m = lease.MACOfID(id)
	}
	return m
}

// duidOfID is the DUID in a client identifier (RFC 4361), "" if there is none.
func duidOfID(id string) string {
	const before = len("ff:01:02:03:04:")
	if strings.HasPrefix(id, "ff:") && len(id) > before {
		return id[before:]
	}
	return ""
}

// reserve takes the addresses that the owner of the network gave to devices. The
// caller holds t.mu.
func (t *Table) reserve(hosts []Host) {
	clear(t.owners.reserved)
	for _, h := range hosts {
		for _, a := range h.Addrs {
			if _, ok := t.owners.reserved[a]; !ok && len(h.MACs) > 0 {
				t.owners.reserved[a] = h.MACs
			}
		}
	}
}
