// Package client knows whose a connection is: the neighbours that the kernel
// has seen and this machine's own links and addresses, followed by netlink; what
// devices are called, by the owner, by themselves (DHCP) or for their vendor; and
// for good which devices there are, since when, and which of them are new. What a
// device does is left to package flow, when the registry of devices is written
// and who is told of a new one to whoever calls Records and News.
package client

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	Bridge   bool
	Master   int // the index of the bridge that it is a port of, 0 if of none
	Lower    int // the index of the link that it is a VLAN of, 0 if of none
}

// HasNetwork reports whether a network is behind the link, beside that of the
// link-local addresses, which each link may have.
func (i *Interface) HasNetwork() bool {
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() })
}

// Table holds what is known of clients. Its methods may be called from any
// goroutine; those that are called for each flow only take an uncontended lock.
type Table struct {
	log     *slog.Logger
	ready   chan struct{}
	changes chan struct{}

	news    chan struct{}
	renamed chan struct{}
	now     func() time.Time

	machine atomic.Pointer[machine]
	names   atomic.Pointer[names]

	mu         sync.Mutex
	neighbours *simplelru.LRU[neighbour, spot]
	former     map[string]int // the last indexes of monitored links
	owners     owners
	devices    *memory
	vendors    Vendors
	hosts      []Host
	leases     map[MAC]held // nil until they were read
	lapsed     map[MAC]held // those that were there the time before
	networks   []string     // that are monitored
	excluded   map[MAC]bool
	naming     naming
	registry   registry
	kinship    kinship
}

// machine is this machine's own links and addresses; replaced as a whole.
type machine struct {
	links map[string]Interface
	index map[int]string
	addrs map[netip.Addr]bool
	macs  map[MAC]bool

	uplinks map[string]bool // links with a default route
}

type neighbour struct {
	link int
	addr netip.Addr
}

// spot is where a neighbour was reached, and when the kernel last told of it.
type spot struct {
	mac   MAC
	heard time.Time
}

// New returns an empty table.
func New(log *slog.Logger) *Table {
	t := &Table{
		log: log, ready: make(chan struct{}), changes: make(chan struct{}, 1), news: make(chan struct{}, 1), now: time.Now,
		renamed: make(chan struct{}, 1), former: make(map[string]int), owners: newOwners(),
	}
	t.registry.waiting, t.registry.suspects = make(map[MAC]bool), make(map[MAC]bool)
	t.registry.forgotten = make(map[MAC]bool)
	t.kinship = kinship{make(map[string][]*device), make(map[string][]*device), make(map[MAC][]*device)}
	t.machine.Store(&machine{})
	t.names.Store(&names{})
	var err error
	if t.neighbours, err = simplelru.NewLRU[neighbour, spot](maxNeighbours, nil); err != nil {
		panic(err) // the size is positive
	}
	t.devices = newMemory(t.rank, t.dropped)
	return t
}

// Interface returns this machine's link of that name.
func (t *Table) Interface(name string) (Interface, bool) {
	i, ok := t.machine.Load().links[name]
	return i, ok
}

// Interfaces returns this machine's links by name. The map must not be changed.
func (t *Table) Interfaces() map[string]Interface { return t.machine.Load().links }

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

// ByAddr returns the MAC with which frames of the address come on the link; with
// no link given, on any. If there is no such neighbour, that is the MAC of whom the
// address was given to.
func (t *Table) ByAddr(iface string, a netip.Addr) (MAC, bool) {
	m := t.machine.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.reached(m.links[iface].Index, a)
	if index, had := t.former[iface]; had && !ok {
		// The link is gone, or was made anew: what went over it before is told late.
		s, ok = t.reached(index, a)
	}
	if iface == "" {
		for index := range m.index {
			if s, ok = t.reached(index, a); ok {
				break
			}
		}
		for _, index := range t.former {
			if !ok {
				s, ok = t.reached(index, a)
			}
		}
	}
	if !ok {
		s.mac = t.holder(a, MAC{})
		return s.mac, !s.mac.IsZero()
	}
	return s.mac, true
}

// reached is where a neighbour is.
func (t *Table) reached(link int, a netip.Addr) (spot, bool) {
	return t.neighbours.Get(neighbour{link, a})
}

// SetNetworks says which networks are monitored, by the names of their links, and
// which devices are not to be known at all.
func (t *Table) SetNetworks(links []string, excluded map[MAC]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	moved := !slices.Equal(links, t.networks)
	t.networks, t.excluded = links, excluded
	t.survey()
	if moved {
		t.rename() // the neighbours there may be whom the owner has named
	}
	t.wake(t.now())
}

// setMachine replaces this machine's links and tells if anything changed.
func (t *Table) setMachine(m *machine) {
	old := t.machine.Swap(m)
	same := maps.EqualFunc(old.links, m.links, func(a, b Interface) bool {
		return a.Index == b.Index && a.MAC == b.MAC && a.Up == b.Up && a.Bridge == b.Bridge && a.Master == b.Master &&
			a.Lower == b.Lower && slices.Equal(a.Prefixes, b.Prefixes)
	})
	if same && maps.Equal(old.uplinks, m.uplinks) {
		return
	}
	t.mu.Lock()
	for _, link := range t.networks {
		if was, had := old.links[link]; had && m.links[link].Index != was.Index {
			t.former[link] = was.Index
		}
	}
	t.survey()
	t.mu.Unlock()
	select {
	case t.changes <- struct{}{}:
	default: // one is waiting already
	}
}

// setNeighbour notes where a neighbour was last reached; alive if that was just
// now. An entry that the kernel gives up stays here until another takes the
// address: a flow's end is told after its device may have left.
func (t *Table) setNeighbour(n neighbour, m MAC, alive bool) {
	link := t.machine.Load().index[n.link]
	t.mu.Lock()
	defer t.mu.Unlock()
	before, had := t.neighbours.Peek(n)
	t.neighbours.Add(n, spot{m, t.now()})
	t.sighted(m, n.addr, t.now())
	if t.identifies(n.addr) && (!had || before.mac != m) {
		t.renameSoon()
	}
	owner := t.owner(m, n.addr)
	if !alive {
		t.noted(owner, n.addr, link)
		return
	}
	t.using(m, n.addr)
	if t.monitors(link) && t.wants(owner) {
		t.hear(owner, n.addr, link)
		if d, ok := t.devices.Peek(m); ok && m == owner {
			d.itself = t.now()
		}
	}
}

// moved tells whether an address is news as that of a neighbour.
func (t *Table) moved(n neighbour, m MAC) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, ok := t.neighbours.Peek(n)
	return !ok || before.mac != m
}
