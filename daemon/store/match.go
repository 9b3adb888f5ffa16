package store

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
)

// class is what Options.Classify says of a name, and the address that it spells,
// if it does and has no group: the name is then shown as that address would be.
type class struct {
	group  string
	addr   netip.Addr
	hidden bool
}

// maxClasses bounds one generation of the classes that are remembered.
const maxClasses = 1 << 14

// classes remember the classes of the names used last, in two generations: when
// the newer is full, the older is forgotten.
type classes struct {
	mu           sync.Mutex
	newer, older map[string]class
}

// forget is called after names have changed their classes.
func (c *classes) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newer, c.older = nil, nil
}

// of appends the classes of names to the list. While it asks for a class, forget
// waits: so that it forgets those of the old lists.
func (c *classes) of(names []string, classify func(string) (string, bool), list []class) []class {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range names {
		k, ok := c.newer[n]
		if !ok && n != "" {
			k = c.add(n, classify)
		}
		list = append(list, k)
	}
	return list
}

func (c *classes) add(n string, classify func(string) (string, bool)) class {
	k, ok := c.older[n]
	n = strings.Clone(n) // its group may be a part of it, and it a part of a block
	if !ok {
		k.group, k.hidden = classify(n)
		if k.group == "" {
			if a, err := netip.ParseAddr(n); err == nil {
				k.addr = a.WithZone("")
			}
		}
	}
	if c.newer == nil || len(c.newer) >= maxClasses {
		c.older, c.newer = c.newer, make(map[string]class)
	}
	c.newer[n] = k
	return k
}

// matcher tells which flows of a block a filter wants. What depends on a name or
// an address alone is found out once for each of the block.
type matcher struct {
	start, end int64 // flows begin before end, and end at start or later; Unix ms
	all        bool
	direction  int     // -1: both
	clients    clients // nil: all
	hosts      *hosts  // nil: all
	classify   func(names []string, list []class) []class
	classed    bool // whether the classes of names are needed

	classes   []class // of the block's names
	endpoints []bool
	visible   []bool // the block's names that are not hidden, or not to be
	// If there are hosts, which of the block's names and addresses are meant.
	names, remotes []bool
}

// newMatcher makes one for a filter as normal returns it. With shown, it finds out
// the classes of names also where it does not need them.
func (s *Store) newMatcher(f Filter, shown bool) (*matcher, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	m := &matcher{start: f.Start, end: f.End, all: f.All, direction: -1}
	switch {
	case f.End == 0:
		m.end = math.MaxInt64
	case f.End <= f.Start:
		m.end = 0 // nothing begins before that
	}
	if f.Out != f.In {
		m.direction = int(flow.Out)
		if f.In {
			m.direction = int(flow.In)
		}
	}
	if len(f.Clients) > 0 {
		m.clients = newClients(f.Clients)
	}
	if len(f.Hostnames) > 0 {
		m.hosts = newHosts(f.Hostnames)
	}
	m.classed = shown || !f.All || m.hosts != nil
	m.classify = func(names []string, list []class) []class {
		return s.known.classes.of(names, s.classify, list)
	}
	return m, nil
}

// check tells what is wrong with a filter.
func (f Filter) check() error {
	if len(f.Clients) > MaxTerms || len(f.Hostnames) > MaxTerms {
		return fmt.Errorf("a filter takes at most %d clients and %d hostnames", MaxTerms, MaxTerms)
	}
	for _, h := range f.Hostnames {
		if h == "" {
			return errors.New("a hostname in a filter is empty")
		}
	}
	return nil
}

// read prepares for the flows of a block.
func (m *matcher) read(b *block.Block) {
	m.classes = m.classes[:0]
	if m.classed {
		m.classes = m.classify(b.Names, m.classes)
	}
	m.endpoints = m.endpoints[:0]
	for i := range b.Endpoints {
		m.endpoints = append(m.endpoints, m.clients == nil || m.clients.has(b.Endpoints[i].MAC, b.Endpoints[i].Address))
	}
	m.visible, m.names, m.remotes = m.visible[:0], m.names[:0], m.remotes[:0]
	for i := range b.Names {
		m.visible = append(m.visible, m.all || !m.classes[i].hidden)
	}
	if m.hosts == nil {
		return
	}
	for i, n := range b.Names {
		m.names = append(m.names, n != "" && m.hosts.named(n, m.classes[i].group))
	}
	for _, a := range b.Remotes {
		m.remotes = append(m.remotes, m.hosts.addrs[a])
	}
}

// clients are those that are meant.
type clients map[client.ID]bool

func newClients(ids []client.ID) clients {
	c := make(clients)
	for _, id := range ids {
		c[id] = true
	}
	return c
}

// has tells whether the client with a MAC, which may be zero, and an address is meant.
func (c clients) has(m client.MAC, a netip.Addr) bool {
	return c[client.IDOf(m, a)] || m.IsZero() && c[client.ID{}]
}

// hosts are far ends that are meant: by name, by group, or by address.
type hosts struct {
	names map[string]bool
	addrs map[netip.Addr]bool // of those that spell one
}

// newHosts makes hosts of names as Filter.normal returns them.
func newHosts(names []string) *hosts {
	h := &hosts{make(map[string]bool), make(map[netip.Addr]bool)}
	for _, n := range names {
		h.names[n] = true
		if a, err := netip.ParseAddr(n); err == nil {
			h.addrs[a.Unmap().WithZone("")] = true
		}
	}
	return h
}

// named tells whether a name or its group is one of the hosts, or the name a
// subdomain of one.
func (h *hosts) named(n, group string) bool {
	if h.names[n] || h.names[group] {
		return true
	}
	if len(h.addrs) > 0 {
		if a, err := netip.ParseAddr(n); err == nil && h.addrs[a.Unmap().WithZone("")] {
			return true
		}
	}
	for {
		_, parent, ok := strings.Cut(n, ".")
		if !ok {
			return false
		}
		if h.names[parent] {
			return true
		}
		n = parent
	}
}

// byAddress tells whether a far end is known by its address: it has no name, or its
// port gave it one.
func byAddress(unnamed bool, s name.Source) bool { return unnamed || s == name.Port }

// largeFlow is the number of bytes above which a flow is never hidden: the sender
// chooses the name, and one that hides must not hide everything.
const largeFlow = 8 << 20

// Large reports whether a flow has moved so many bytes that it is never hidden.
func Large(f *flow.Flow) bool { return f.Sent+f.Recvd > largeFlow }

// large reports whether a flow of a block is never hidden. A merger puts large flows
// together with large ones only, so that the mean of a merged flow tells which it is of.
func large(f *block.Flow) bool { return f.Sent+f.Recvd > largeFlow*uint64(f.Flows) }

// wants tells whether a flow of the block is one that the filter wants.
func (m *matcher) wants(f *block.Flow) bool { return m.means(f) && !m.hides(f) }

// hides tells whether a flow of the block is left out for its name.
func (m *matcher) hides(f *block.Flow) bool {
	return (f.Hidden && !m.all || !m.visible[f.Name]) && !large(f)
}

// means tells whether a flow of the block is one that the filter wants unless it is
// hidden.
func (m *matcher) means(f *block.Flow) bool {
	start := f.Start()
	switch {
	case start >= m.end || start+f.Duration < m.start || !m.endpoints[f.Endpoint]:
		return false
	case m.direction >= 0 && m.direction != int(f.Direction):
		return false
	case m.hosts == nil || m.names[f.Name]:
		return true
	}
	return byAddress(f.Name == 0, name.Source(f.Source)) && m.remotes[f.Remote]
}

// window is a window of time, [start, end), Unix ms.
type window struct{ start, end int64 }

// window is the filter's; that without an end ends never.
func (f Filter) window() window {
	w := window{f.Start, f.End}
	if w.end == 0 {
		w.end = math.MaxInt64
	}
	return w
}

const hourLong = 3_600_000 // ms

// inside is how many bytes of a flow are known to lie inside the window: those of
// the hours that overlap it, or all if its hours are not known.
func (w window) inside(f *block.Flow, hours []block.Hour) (sent, recvd uint64) {
	if len(hours) == 0 || f.Start() >= w.start && hours[len(hours)-1].Start < w.end {
		return f.Sent, f.Recvd
	}
	sent, recvd = w.base(f, hours)
	for i := range hours {
		if w.has(&hours[i]) {
			sent += hours[i].Sent
			recvd += hours[i].Recvd
		}
	}
	return sent, recvd
}

// has tells whether an hour overlaps the window.
func (w window) has(h *block.Hour) bool {
	return h.Start < w.end && h.Start+hourLong > w.start
}

// base is what a flow, which overlaps the window, moved in the hour in which it
// began, if that lies inside.
func (w window) base(f *block.Flow, hours []block.Hour) (sent, recvd uint64) {
	if len(hours) == 0 {
		return f.Sent, f.Recvd
	}
	// Its hour ends a whole number of hours before those that are known begin.
	start := f.Start()
	end := start + hourLong
	if to := (hours[0].Start - start) % hourLong; to > 0 {
		end = start + to
	}
	if start >= w.end || min(end, f.End()) <= w.start {
		return 0, 0
	}
	sent, recvd = f.Sent, f.Recvd
	for i := range hours {
		sent -= min(hours[i].Sent, sent)
		recvd -= min(hours[i].Recvd, recvd)
	}
	return sent, recvd
}
