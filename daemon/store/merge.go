package store

import (
	"cmp"
	"net/netip"
	"slices"

	"pakon/daemon/client"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
)

// A merger puts flows together that belong together: those of one client to one
// far end and one port that overlap or are less than a window apart. The far end
// is known by what it is shown as: the group of its name, else the name, else
// its address. Those that are never hidden (see large) are not put together with
// others: what these are called may be hidden, now or by lists to come.
//
// It takes flows in order of their start and holds what comes of them, not
// them.
type merger struct {
	window int64 // ms; negative: nothing is put together
	// A summing one puts all flows of the same client, far end, port, protocol and
	// direction together, however far apart; of their hours, those before sumUntil
	// (Unix ms) are not kept apart.
	summing  bool
	sumUntil int64
	// hour is the start of the hour that a time lies in, both Unix ms.
	hour  func(int64) int64
	group func(name string) (group string, hidden bool)

	out   block.Block
	hours [][]block.Hour // of the flows in out; Flow.FirstHour is the index here
	open  map[chain]int32

	from                           *block.Block // whose numbers these are, plus one
	endpoints, names, apps, remote []uint32
	clients                        []uint32 // by number of the endpoint in out, plus one
	clientOf                       map[owner]uint32
	shown                          []shownAs // by number of the name in out
}

// chain is what flows have in common that are put together.
type chain struct {
	client        uint32
	shown, remote uint32
	port          uint16
	direction     uint8
	proto         uint8 // when summing
	hidden, large bool
}

// owner tells clients apart.
type owner struct {
	mac     client.MAC
	address netip.Addr
}

// shownAs is what flows with a name are shown as: a name, or an address.
type shownAs struct {
	known, hidden bool
	name, remote  uint32
}

func newMerger(window int64, hour func(int64) int64, group func(string) (string, bool)) *merger {
	return &merger{window: window, hour: hour, group: group, open: make(map[chain]int32), clientOf: make(map[owner]uint32)}
}

// newSummer makes a merger for the sums of a day that ends at until.
func newSummer(until int64, hour func(int64) int64, group func(string) (string, bool)) *merger {
	m := newMerger(0, hour, group)
	m.summing, m.sumUntil = true, until
	return m
}

// renumber is the number in out of what has the number n in the current block.
func renumber(to *[]uint32, n uint32, intern func() uint32) uint32 {
	if int(n) >= len(*to) {
		*to = append(*to, make([]uint32, int(n)+1-len(*to))...)
	}
	if (*to)[n] == 0 {
		(*to)[n] = intern() + 1
	}
	return (*to)[n] - 1
}

// add takes a flow of b. Blocks come one after the other.
func (m *merger) add(b *block.Block, f *block.Flow) {
	m.use(b)
	g := *f
	d := &m.out.Dictionary
	g.Endpoint = renumber(&m.endpoints, f.Endpoint, func() uint32 { return d.Endpoint(b.Endpoints[f.Endpoint]) })
	g.Name = renumber(&m.names, f.Name, func() uint32 { return d.Name(b.Names[f.Name]) })
	g.App = renumber(&m.apps, f.App, func() uint32 { return d.App(b.Apps[f.App]) })
	g.Remote = renumber(&m.remote, f.Remote, func() uint32 { return d.Remote(b.Remotes[f.Remote]) })
	hours := b.HoursOf(f)
	if m.summing {
		for len(hours) > 0 && hours[0].Start < m.sumUntil {
			hours = hours[1:]
		}
	}
	if m.window >= 0 || m.summing {
		key := m.chain(&g)
		if i, ok := m.open[key]; ok {
			into := &m.out.Flows[i]
			if m.summing || g.Start()-into.End() < max(m.window, 1) {
				m.join(into, &g, hours)
				return
			}
		}
		m.open[key] = int32(len(m.out.Flows))
	}
	g.FirstHour, g.HourCount = 0, 0
	m.keepHours(&g, hours)
	m.out.Flows = append(m.out.Flows, g)
}

// use forgets the numbers of the block before. One that is filled anew must be
// announced by used.
func (m *merger) use(b *block.Block) {
	if m.from == b {
		return
	}
	m.from = b
	m.endpoints, m.names, m.apps, m.remote = m.endpoints[:0], m.names[:0], m.apps[:0], m.remote[:0]
}

// addAll takes all flows of a block.
func (m *merger) addAll(b *block.Block) {
	m.used()
	for i := range b.Flows {
		m.add(b, &b.Flows[i])
	}
}

// used says that the block last given will hold others.
func (m *merger) used() { m.from = nil }

func (m *merger) chain(f *block.Flow) chain {
	d := &m.out.Dictionary
	who := renumber(&m.clients, f.Endpoint, func() uint32 {
		e := d.Endpoints[f.Endpoint]
		o := owner{mac: e.MAC}
		if e.MAC.IsZero() {
			o.address = e.Address
		}
		n, ok := m.clientOf[o]
		if !ok {
			n = uint32(len(m.clientOf))
			m.clientOf[o] = n
		}
		return n
	})
	s := m.shownAs(f.Name)
	c := chain{client: who, shown: s.name, remote: s.remote, port: f.Port, direction: f.Direction, hidden: s.hidden || f.Hidden, large: large(f)}
	// What a port is called is not whom it was with.
	if s.name == 0 && s.remote == 0 || name.Source(f.Source) == name.Port {
		c.remote = f.Remote
	}
	if m.summing {
		c.proto = f.Proto
	}
	return c
}

func (m *merger) shownAs(name uint32) shownAs {
	if int(name) >= len(m.shown) {
		m.shown = append(m.shown, make([]shownAs, int(name)+1-len(m.shown))...)
	}
	s := m.shown[name]
	if s.known {
		return s
	}
	d := &m.out.Dictionary
	s = shownAs{known: true, name: name}
	if n := d.Names[name]; n != "" {
		group, hidden := m.group(n)
		s.hidden = hidden
		if group != "" {
			s.name = d.Name(group)
		} else if a, err := netip.ParseAddr(n); err == nil {
			s.name, s.remote = 0, d.Remote(a)
		}
	}
	m.shown[name] = s
	return s
}

// join adds f, which began later, to into.
func (m *merger) join(into, f *block.Flow, hours []block.Hour) {
	if !m.summing {
		// What f moved at first belongs to the hour in which it began.
		first := block.Hour{Start: m.hour(f.Start()), Sent: f.Sent, Recvd: f.Recvd}
		for _, h := range hours {
			first.Sent -= min(h.Sent, first.Sent)
			first.Recvd -= min(h.Recvd, first.Recvd)
		}
		if first.Start > m.hour(into.Start()) {
			m.addHour(into, first)
		}
	}
	for _, h := range hours {
		m.addHour(into, h)
	}
	d := &m.out.Dictionary
	if into.Endpoint != f.Endpoint {
		into.Endpoint = d.Endpoint(commonEndpoint(d.Endpoints[into.Endpoint], d.Endpoints[f.Endpoint]))
	}
	if into.Name != f.Name {
		// It may be hidden for what it was called, and its group not be. Where the group
		// is as well, the lists go on to tell.
		into.Name = m.commonName(f)
		into.Hidden = (m.shownAs(f.Name).hidden || f.Hidden) && !m.shownAs(into.Name).hidden
	}
	if into.App != f.App {
		into.App = 0
	}
	if into.Remote != f.Remote {
		into.Remote = 0
	}
	if into.Proto != f.Proto {
		into.Proto = 0
	}
	if into.Source != f.Source {
		into.Source = 0
	}
	into.Sent += f.Sent
	into.Recvd += f.Recvd
	into.Seconds = uint32(min(secondsOf(into)+secondsOf(f), 1<<32-1))
	into.Flows = uint32(min(uint64(into.Flows)+uint64(f.Flows), 1<<32-1))
	into.Duration = max(into.End(), f.End()) - into.Start()
}

// secondsOf is the duration of a flow as it is told, or the sum of those that it was
// merged of.
func secondsOf(f *block.Flow) uint64 {
	if f.Flows > 1 {
		return uint64(f.Seconds)
	}
	return uint64(f.End()/1000 - f.Start()/1000)
}

// commonName is what flows are called that are shown as the same, but have
// different names: as they are shown.
func (m *merger) commonName(f *block.Flow) uint32 {
	d := &m.out.Dictionary
	switch s := m.shownAs(f.Name); {
	case s.name != 0:
		return s.name
	case s.remote != 0:
		return d.Name(d.Remotes[s.remote].String())
	default:
		return d.Name(d.Remotes[f.Remote].String())
	}
}

// commonEndpoint is what two endpoints of one client have in common.
func commonEndpoint(a, b block.Endpoint) block.Endpoint {
	if a.Address != b.Address {
		a.Address = netip.Addr{}
	}
	if a.Interface != b.Interface {
		a.Interface = ""
	}
	return a
}

// keepHours gives a flow that is new in out its hours.
func (m *merger) keepHours(f *block.Flow, hours []block.Hour) {
	for _, h := range hours {
		m.addHour(f, h)
	}
}

// addHour adds what a flow in out moved in an hour.
func (m *merger) addHour(f *block.Flow, h block.Hour) {
	if f.HourCount == 0 {
		f.FirstHour = uint32(len(m.hours))
		m.hours = append(m.hours, nil)
	}
	list := m.hours[f.FirstHour]
	i, found := slices.BinarySearchFunc(list, h.Start, func(a block.Hour, start int64) int { return cmp.Compare(a.Start, start) })
	switch {
	case found:
		list[i].Sent += h.Sent
		list[i].Recvd += h.Recvd
	case len(list) < 1<<16-1:
		list = slices.Insert(list, i, h)
	}
	m.hours[f.FirstHour] = list
	f.HourCount = uint16(len(list))
}

// len is the number of flows that it holds.
func (m *merger) len() int { return len(m.out.Flows) }

// take returns what has come of the flows given so far, in order of their ids
// and without those that keep does not want, and begins anew. The block is good
// until the next call of add.
func (m *merger) take(keep func(*block.Flow) bool) *block.Block {
	out := &m.out
	if keep != nil {
		out.Flows = slices.DeleteFunc(out.Flows, func(f block.Flow) bool { return !keep(&f) })
	}
	slices.SortStableFunc(out.Flows, func(a, b block.Flow) int { return cmp.Compare(a.ID, b.ID) })
	out.Hours = out.Hours[:0]
	for i := range out.Flows {
		f := &out.Flows[i]
		if i > 0 && f.ID <= out.Flows[i-1].ID {
			f.ID = out.Flows[i-1].ID + 1 // live gives numbers anew after 1<<idShift flows
		}
		list := []block.Hour(nil)
		if f.HourCount > 0 {
			list = m.hours[f.FirstHour]
		}
		f.FirstHour = uint32(len(out.Hours))
		out.Hours = append(out.Hours, list...)
	}
	return out
}

// reset forgets everything.
func (m *merger) reset() {
	m.out.Reset()
	m.hours = m.hours[:0]
	clear(m.open)
	clear(m.clientOf)
	m.clients, m.shown = m.clients[:0], m.shown[:0]
	m.from = nil
}
