// Package client knows whose a connection is: the neighbours that the kernel
// has seen and this machine's own links and addresses, followed by netlink;
// the names that the owner gave to devices; and when each device was last
// seen. What a device does is left to package flow.
package client

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	maxNeighbours = 4096 // pairs of link and address whose MAC is remembered
	maxDevices    = 4096 // devices that are remembered
	maxAddresses  = 8    // latest addresses of a device that are remembered
)

// Interface is a link of this machine.
type Interface struct {
	Name     string
	Index    int
	MAC      MAC
	Up       bool           // administratively up
	Prefixes []netip.Prefix // of the networks behind it: those of its addresses and routes
}

// Host is a device that the owner has named.
type Host struct {
	Name string
	MACs []MAC
}

// Device is a device that was seen.
type Device struct {
	MAC                 MAC
	Name, NameSource    string       // "" if it has no name
	Addresses           []netip.Addr // latest first
	Interface           string       // where it was seen last
	FirstSeen, LastSeen int64        // Unix milliseconds
}

// Table holds what is known of clients. Its methods may be called from any
// goroutine; those that are called for each flow only take an uncontended lock.
type Table struct {
	log     *slog.Logger
	ready   chan struct{}
	changes chan struct{}

	machine atomic.Pointer[machine]
	names   atomic.Pointer[names]

	mu         sync.Mutex
	neighbours *simplelru.LRU[neighbour, MAC]
	devices    *simplelru.LRU[MAC, *Device]
}

// machine is this machine's own links and addresses; replaced as a whole.
type machine struct {
	links map[string]Interface
	index map[int]string
	addrs map[netip.Addr]bool
	macs  map[MAC]bool

	uplinks map[string]bool // links with a default route
}

// names are the owner's names for devices; replaced as a whole.
type names struct {
	byMAC  map[MAC]string
	byName map[string][]MAC // by lower-case name
}

type neighbour struct {
	link int
	addr netip.Addr
}

// New returns an empty table.
func New(log *slog.Logger) *Table {
	t := &Table{log: log, ready: make(chan struct{}), changes: make(chan struct{}, 1)}
	t.machine.Store(&machine{})
	t.names.Store(&names{})
	var err error
	if t.neighbours, err = simplelru.NewLRU[neighbour, MAC](maxNeighbours, nil); err != nil {
		panic(err) // the size is positive
	}
	if t.devices, err = simplelru.NewLRU[MAC, *Device](maxDevices, nil); err != nil {
		panic(err)
	}
	return t
}

// Interface returns this machine's link of that name.
func (t *Table) Interface(name string) (Interface, bool) {
	i, ok := t.machine.Load().links[name]
	return i, ok
}

// Uplink tells whether this machine itself reaches the internet by the link:
// then it does not route for those behind it, but bridges.
func (t *Table) Uplink(link string) bool { return t.machine.Load().uplinks[link] }

// RouterMAC tells whether the MAC is one of this machine's own.
func (t *Table) RouterMAC(m MAC) bool { return t.machine.Load().macs[m] }

// RouterAddr tells whether the address is one of this machine's own. Loopback
// addresses are not, as they are on no network.
func (t *Table) RouterAddr(a netip.Addr) bool { return t.machine.Load().addrs[a] }

// Changes tells that links or addresses of this machine have changed.
func (t *Table) Changes() <-chan struct{} { return t.changes }

// ByAddr returns the MAC of the neighbour with the address on the link; with
// no link given, on any.
func (t *Table) ByAddr(iface string, a netip.Addr) (MAC, bool) {
	m := t.machine.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	if link, ok := m.links[iface]; ok {
		return t.neighbours.Get(neighbour{link.Index, a})
	}
	if iface == "" {
		for index := range m.index {
			if mac, ok := t.neighbours.Get(neighbour{index, a}); ok {
				return mac, true
			}
		}
	}
	return MAC{}, false
}

// SetHosts replaces the owner's names for devices. The first name of a MAC
// holds, as in dnsmasq.
func (t *Table) SetHosts(hosts []Host) {
	n := &names{byMAC: make(map[MAC]string), byName: make(map[string][]MAC)}
	for _, h := range hosts {
		key := strings.ToLower(h.Name)
		for _, m := range h.MACs {
			if _, ok := n.byMAC[m]; !ok {
				n.byMAC[m] = h.Name
				n.byName[key] = append(n.byName[key], m)
			}
		}
	}
	t.names.Store(n)
}

// Name returns the device's name and where it is from ("static"), or "".
func (t *Table) Name(m MAC) (name, source string) {
	if n, ok := t.names.Load().byMAC[m]; ok {
		return n, "static"
	}
	return "", ""
}

// ByName returns the MACs of the devices with that name, in any case.
func (t *Table) ByName(name string) []MAC {
	return slices.Clone(t.names.Load().byName[strings.ToLower(name)])
}

// Seen notes a sign of life of a device, at in Unix milliseconds.
func (t *Table) Seen(m MAC, a netip.Addr, iface string, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.devices.Get(m)
	if !ok {
		d = &Device{MAC: m, FirstSeen: at, LastSeen: at, Interface: iface}
		t.devices.Add(m, d)
	}
	d.FirstSeen = min(d.FirstSeen, at)
	if at >= d.LastSeen {
		d.LastSeen, d.Interface = at, iface
	}
	if len(d.Addresses) > 0 && d.Addresses[0] == a {
		return
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
}

// Forget forgets the devices that match, until they are seen again.
func (t *Table) Forget(match func(*Device) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.devices.Keys() {
		if d, ok := t.devices.Peek(m); ok && match(d) {
			t.devices.Remove(m)
		}
	}
}

// ClockSet tells that the wall clock was set by so many ms when it showed last,
// in Unix ms: what was seen until then was seen at other times.
func (t *Table) ClockSet(last, by int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.devices.Values() {
		for _, seen := range []*int64{&d.FirstSeen, &d.LastSeen} {
			if *seen <= last {
				*seen += by
			}
		}
	}
}

// Devices returns the devices that were seen, ordered by MAC.
func (t *Table) Devices() []Device {
	t.mu.Lock()
	out := make([]Device, 0, t.devices.Len())
	for _, d := range t.devices.Values() {
		c := *d
		c.Addresses = slices.Clone(d.Addresses)
		out = append(out, c)
	}
	t.mu.Unlock()
	for i := range out {
		out[i].Name, out[i].NameSource = t.Name(out[i].MAC)
	}
	slices.SortFunc(out, func(a, b Device) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
	return out
}

// setMachine replaces this machine's links and tells if anything changed.
func (t *Table) setMachine(m *machine) {
	old := t.machine.Swap(m)
	same := maps.EqualFunc(old.links, m.links, func(a, b Interface) bool {
		return a.Index == b.Index && a.MAC == b.MAC && a.Up == b.Up && slices.Equal(a.Prefixes, b.Prefixes)
	})
	if same && maps.Equal(old.uplinks, m.uplinks) {
		return
	}
	select {
	case t.changes <- struct{}{}:
	default: // one is waiting already
	}
}

// setNeighbour notes where a neighbour was last reached. An entry that the
// kernel gives up stays here until another takes the address: a flow's end is
// told after its device may have left.
func (t *Table) setNeighbour(n neighbour, m MAC) {
	t.mu.Lock()
	t.neighbours.Add(n, m)
	t.mu.Unlock()
}
