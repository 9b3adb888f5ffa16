package name

import "net/netip"

// resolver is a client that may ask for others, which then are told nothing that
// could be seen.
type resolver struct {
	serves     bool   // it does: it was seen to answer, or the owner has set it up so
	told, used uint32 // answers from outside the house, and connections of its own that followed from them
}

const (
	// usesFew is of how many answers one who asks for others follows at most one
	// itself. Others connect to about each second address that they ask for.
	usesFew = 8
	// maxTold is where the counts of answers are halved, so that what a client does
	// now outweighs what it did long ago.
	maxTold = 1024
	// justTold is for how many seconds an answer goes before older ones.
	justTold = 10
)

// asksForOthers tells whether others' connections may have the names that it was
// told. sure: it is known to answer them.
func (r *resolver) asksForOthers(sure bool) bool {
	return r.serves || !sure && r.told > 0 && r.used*usesFew <= r.told
}

func (m *Memory) resolver(client Client) *resolver {
	r, ok := m.resolvers.Get(client)
	if !ok {
		if m.resolvers.Len() == maxResolvers {
			m.dropResolver()
		}
		r = new(resolver)
		m.resolvers.Add(client, r)
	}
	return r
}

// dropResolver forgets the client that was longest not answered, if possible one that
// only may ask for others.
func (m *Memory) dropResolver() {
	for _, client := range m.resolvers.Keys() {
		if r, _ := m.resolvers.Peek(client); !r.serves {
			m.resolvers.Remove(client)
			return
		}
	}
	m.resolvers.RemoveOldest()
}

// Resolvers is how many clients may ask for others.
func (m *Memory) Resolvers() int { return m.resolvers.Len() }

// Serves notes that a client answers the questions of others.
func (m *Memory) Serves(client Client) { m.resolver(client).serves = true }

// AskedOutside notes that a client was answered by a server outside of the house,
// as those who ask for the house are.
func (m *Memory) AskedOutside(client Client) {
	r := m.resolver(client)
	if r.told++; r.told >= maxTold {
		r.told, r.used = r.told/2, r.used/2
	}
}

// Connects notes that a client connects to an address itself.
func (m *Memory) Connects(client Client, addr netip.Addr) {
	r, ok := m.resolvers.Get(client)
	if !ok {
		return
	}
	a, ok := m.clients.Get(client)
	if !ok {
		return
	}
	for c := range m.known(a, addr) {
		if !c[0].used {
			c[0].used = true
			r.used++
		}
		return
	}
}

// Told tells whether a client was told any name.
func (m *Memory) Told(client Client) bool { return m.clients.Contains(client) }

// LookupHouse returns the name that addr had for those who ask for the house when
// a connection of another client began, or "". It is for clients that were not
// told of the address themselves; told says that they were told of others, so
// only those who are known to answer them count. In doubt there is no name: the
// answer must be good at that time, and name the address alone, or alone in the
// last few seconds. prefer is as for Lookup.
func (m *Memory) LookupHouse(addr netip.Addr, at int64, told bool, prefer func(name string) bool) string {
	began, name := second(at), ""
	for _, client := range m.resolvers.Keys() {
		if r, _ := m.resolvers.Peek(client); !r.asksForOthers(told) {
			continue
		}
		a, ok := m.clients.Peek(client)
		if !ok {
			continue
		}
		for known := range m.known(a, addr) {
			n, only := known.only(began, prefer)
			if !only || n != "" && name != "" && n != name {
				return ""
			}
			if n != "" {
				name = n
			}
		}
	}
	return name
}

// only is the one name that an address had when a connection began, "" if it had
// none. It is false if there were several.
func (c *candidates) only(began uint32, prefer func(name string) bool) (name string, ok bool) {
	valid, late, latest := 0, 0, ""
	for i := range c {
		e := &c[i]
		if e.name == "" {
			break
		}
		if e.first > began+slack || began > e.expires+slack {
			continue
		}
		if prefer != nil && prefer(e.name) {
			return e.name, true
		}
		valid++
		name = e.name
		if e.last <= began+slack && began <= e.last+justTold {
			late++
			latest = e.name
		}
	}
	switch {
	case valid <= 1:
		return name, true
	case late == 1:
		return latest, true
	}
	return "", false
}
