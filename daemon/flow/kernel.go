package flow

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"pakon/daemon/client"
	"pakon/daemon/conntrack"
	"pakon/daemon/name"
	"pakon/suricata"
)

const (
	maxConns = 16384 // of the kernel's connections that are followed
	maxPast  = 4096  // connections that have ended, whose ends Suricata may yet tell
	maxTold  = 512   // connections that Suricata told all of before the kernel did
	// shownAfter is the age in ms from which a connection that runs is recorded:
	// most are over before, and are then recorded only once.
	shownAfter = 1500
	// slack is by how many ms the clocks of packets and of connections may differ.
	slack = 2000
	// old is by how many ms the word of a connection's beginning is late at most.
	old = 60_000
	// plausible is the Unix time in ms before which a clock is not set yet: 2025.
	plausible = 1735689600_000
	// jump is the change in ms of the clock against time itself that is no drift.
	jump = 2000
	hour = 3_600_000
)

// kernel is what is known of the connections that the kernel tracks.
type kernel struct {
	active   bool
	since    int64 // Unix ms: connections that ended later are known
	timeouts conntrack.Timeouts
	conns    map[key]*tracked
	changed  []*tracked // that have changed since they were recorded
	dumps    uint32     // counted
	began    time.Time  // of the latest dump
	clock    time.Time  // when something was last told
	serial   uint64
	past     *simplelru.LRU[key, past]
	lost     int64                       // Unix ms: ends of connections that past had no room for
	shed     int64                       // the same of those that the kernel may still know
	crowds   [ranks]crowd                // conns by what is lost with them
	turn     uint32                      // grows whenever all was told that had happened before
	ask      func()                      // for the next turn
	held     *simplelru.LRU[key, []held] // what Suricata told that may be of several; in the default zone
	zones    []uint16                    // of connection tracking that were seen, the default first
	late     map[key]*tracked            // that linger, the latest with these ends
	// lingering are those that the kernel has forgotten, the oldest first.
	lingering []*tracked
	told      *simplelru.LRU[key, int64] // ends of connections that Suricata's count was recorded of
	cuts      map[uint32]cut             // what an earlier run has forgotten, by the kernel's numbers
	zeroed    bool                       // counters of the latest dump were found zeroed
	networks  []network
}

// end is one end of a connection.
type end struct {
	addr [16]byte
	port uint16
}

// key tells connections apart as packets on a monitored interface show them,
// whichever way they go: the lesser end comes first.
type key struct {
	a, b  end
	proto uint16 // as wide as the zone: without a gap it is hashed at once
	zone  uint16 // of connection tracking
}

func keyOf(x, y netip.AddrPort, proto uint8) key {
	a, b := end{x.Addr().As16(), x.Port()}, end{y.Addr().As16(), y.Port()}
	for i := range a.addr {
		if a.addr[i] != b.addr[i] {
			if a.addr[i] > b.addr[i] {
				a, b = b, a
			}
			return key{a: a, b: b, proto: uint16(proto)}
		}
	}
	if a.port > b.port {
		a, b = b, a
	}
	return key{a: a, b: b, proto: uint16(proto)}
}

// past is a connection that is followed no more.
type past struct {
	id         uint32
	end, until int64 // Unix ms, see tracked
	// known: the kernel may still know it. A number tells nothing otherwise: the
	// next connection with the same ports often gets the same.
	known bool
}

// cut is that what a connection moved until then is forgotten.
type cut struct {
	at  int64     // Unix ms
	raw [2]uint64 // the kernel's counters then
}

// network is a monitored interface with its addresses.
type network struct {
	name     string
	prefixes []netip.Prefix
}

// tracked is one connection of the kernel.
type tracked struct {
	pending
	place          place
	key            key
	client, remote netip.AddrPort
	id             uint32
	proto          uint8
	direction      Direction
	fate           Fate // Recorded, or why it is not
	mac            client.MAC
	iface, far     string // where the client is, and the far end, if that is monitored, too
	start, end     int64  // Unix ms; end is that of the last bytes as long as it runs

	answered, assured bool
	notDNS            bool   // it has moved more than DNS does, or Suricata has said that it is none
	unannounced       bool   // that it has begun is still to be told
	over              bool   // TCP has ended it
	ended             bool   // it is followed no more
	written           bool   // there is a record of it
	dirty             bool   // the record is not of now
	dump              uint32 // the last one that it was in
	adopted           bool   // from an earlier run, and not seen in this one
	kernelStart       int64  // Unix ns, as the kernel tells it; 0 if it was not told
	began             int64  // the same in ms, by the clock as it is now
	after             int64  // Unix ms, it has begun later
	from              int64  // Unix ms, what it moved before was forgotten; 0 if nothing was

	serial        uint64
	base          [2]uint64 // bytes before the kernel's counters were zeroed, sent and received
	raw           [2]uint64 // the kernel's counters of bytes
	packets       uint64    // and of packets, both ways
	packetsBefore uint64    // packets before the kernel's counters were zeroed
	hour          int64     // in which bytes last moved
	before        [2]uint64 // bytes until the hour began
	named         uint64    // bytes that count as named
	left          [2]uint64 // bytes that were counted as left out, or may have been by an earlier run
	seen          [2]uint64 // bytes that Suricata counted
	suricata      uint64    // the number that Suricata has for it; 0 if not known
	first         int64     // Unix ms, of the first packet that it told of under that number
	closed        bool      // Suricata told its end
	doubtful      bool      // the kernel may have counted less than there was
	grewAtEnd     bool      // bytes moved after the last dump
	stop          int64     // Unix ms, when the kernel forgot it; 0 if that was not told
	exact         bool      // the kernel itself told stop
	gone          time.Time // since when it lingers
	older         *tracked  // another that lingers, with the same ends
}

func (k *kernel) init() {
	k.conns = make(map[key]*tracked)
	var err error
	if k.past, err = simplelru.NewLRU(maxPast, func(_ key, p past) {
		k.lost = max(k.lost, p.end)
		if p.known {
			k.shed = max(k.shed, p.end)
		}
	}); err != nil {
		panic(err) // the size is positive
	}
	for i := range k.crowds {
		k.crowds[i].shares = make(map[holder]*share)
	}
	k.ask = func() {}
	k.zones, k.late = []uint16{0}, make(map[key]*tracked)
	if k.held, err = simplelru.NewLRU[key, []held](maxHeld, nil); err != nil {
		panic(err)
	}
	if k.told, err = simplelru.NewLRU[key, int64](maxTold, nil); err != nil {
		panic(err)
	}
}

// total is what the connection moved, sent and received.
func (c *tracked) total() [2]uint64 { return [2]uint64{c.base[0] + c.raw[0], c.base[1] + c.raw[1]} }

// SetTimeouts tells how long the kernel remembers connections that are silent.
func (t *Table) SetTimeouts(o conntrack.Timeouts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kernel.timeouts = o
}

// SetPolicy replaces what is recorded from now on. Connections that are not to
// be recorded any more end here.
func (t *Table) SetPolicy(p Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.policy.Store(&p)
	t.kernel.networks = nil
	t.keepOut()
	t.flush()
}

// keepOut ends what is not monitored any more, and leaves out what is not to be
// recorded any more.
func (t *Table) keepOut() {
	p := t.policy.Load()
	t.lingered(t.kernel.clock, true)
	for _, c := range t.kernel.conns {
		if p.Off || !t.monitored([]byte(c.iface)) {
			t.finish(c)
			continue
		}
		if c.fate != Recorded {
			continue
		}
		f := t.flow(c)
		if fate := p.excluded(&f); fate != Recorded {
			t.void(c, fate)
		}
	}
}

// Connection takes what the kernel tells of a connection.
func (t *Table) Connection(k conntrack.Kind, e *conntrack.Entry, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Proto != TCP && e.Proto != UDP || t.policy.Load().Off {
		return
	}
	t.tick(at)
	c := t.kernel.find(e)
	if c != nil && c.id == e.ID && k == conntrack.New && c.unannounced {
		c.unannounced = false
		return // a dump had it already
	}
	if c != nil && (!c.is(e) || k == conntrack.New) {
		switch {
		case k == conntrack.Ended, k == conntrack.Updated && c.unannounced:
			return // of an older one
		case k == conntrack.Listed && t.kernel.dumps-c.dump < 2:
			return // the end of the one and the beginning of the other are still to be told
		}
		t.finish(c) // its end was lost
		c = nil
	}
	if (k == conntrack.Listed || k == conntrack.Ended) && !e.Counted {
		// It began while accounting was off: Suricata's count is all there is.
		if c != nil {
			t.uncounted(c)
		}
		return
	}
	if c == nil {
		if c = t.begin(k, e, at); c == nil {
			return
		}
	}
	if start := e.Start / 1e6; e.Start != 0 {
		if c.kernelStart != e.Start && start <= at.UnixMilli() && (start >= plausible || c.start < plausible) {
			c.began = start
		}
		c.kernelStart = e.Start
		id := c.key
		id.zone = 0
		if end, ok := t.kernel.told.Get(id); ok && start <= end && c.open() {
			t.leave(c) // Suricata's count was recorded before the kernel's word of it
		}
	}
	c.dump = t.kernel.dumps
	c.answered = c.answered || e.Answered()
	c.assured = c.assured || e.Status&conntrack.Assured != 0
	if e.Status&conntrack.Offloaded != 0 && c.open() && t.capture.Load().Uncounted {
		t.leave(c)
	}
	t.times(c, k, e, at)
	if e.Counted {
		t.count(c, k, e, at)
	}
	if k == conntrack.Ended {
		c.stop = at.UnixMilli()
		if stop := e.Stop / 1e6; stop >= c.start && stop <= c.stop {
			c.stop, c.exact = stop, true
		}
		t.finish(c)
		return
	}
	t.kernel.put(c)
}

// is tells whether an entry is of the connection. The number does not tell it
// from the next one with the same ports, the time of its beginning does.
func (c *tracked) is(e *conntrack.Entry) bool {
	switch {
	case c.id != e.ID:
		return false
	case e.Start == 0:
		return true
	case c.kernelStart == 0: // of an earlier run
		return !c.over || e.Start/1e6 <= c.end
	}
	return c.kernelStart == e.Start
}

// find returns the connection of an entry, whichever of its ends is translated.
func (k *kernel) find(e *conntrack.Entry) *tracked {
	if c := k.inZone(keyOf(e.Orig.Src, e.Orig.Dst, e.Proto), e); c != nil || e.Reply.Src == e.Orig.Dst {
		return c
	}
	return k.inZone(keyOf(e.Orig.Src, e.Reply.Src, e.Proto), e)
}

// inZone returns the connection with these ends in an entry's zone. Those of an
// earlier run are in some zone, until their numbers tell in which.
func (k *kernel) inZone(id key, e *conntrack.Entry) *tracked {
	id.zone = e.Zone
	c := k.conns[id]
	if c == nil || c.adopted && c.id != e.ID {
		other := id
		for _, other.zone = range k.zones {
			o := k.conns[other]
			if o == nil || !o.adopted || o.id != e.ID {
				continue
			}
			delete(k.conns, other)
			if c != nil {
				c.key, k.conns[other] = other, c
			}
			o.key, k.conns[id] = id, o
			c = o
			break
		}
	}
	if c != nil && c.id == e.ID {
		c.adopted = false
	}
	return c
}

// begin takes up a connection, if it is one of a monitored network.
func (t *Table) begin(kind conntrack.Kind, e *conntrack.Entry, at time.Time) *tracked {
	k := &t.kernel
	c := tracked{id: e.ID, proto: e.Proto, fate: Recorded, unannounced: kind == conntrack.Listed}
	switch iface := t.networkOf(e.Orig.Src.Addr()); {
	case iface != "":
		c.iface, c.client, c.remote = iface, e.Orig.Src, e.Orig.Dst
		if far := e.Reply.Src.Addr(); !t.clients.RouterAddr(far) {
			c.far = t.networkOf(far)
		}
	default:
		if c.iface = t.networkOf(e.Reply.Src.Addr()); c.iface == "" {
			return nil
		}
		c.direction, c.client, c.remote = In, e.Reply.Src, e.Orig.Src
	}
	if t.clients.RouterAddr(e.Orig.Src.Addr()) {
		c.fate = RouterFlow
	}
	c.key = keyOf(c.client, c.remote, c.proto)
	c.key.zone = e.Zone
	again := false
	p, ok := k.past.Get(c.key)
	ok = ok && p.known && p.id == c.id && (e.Start == 0 || e.Start/1e6 <= p.end)
	if kind != conntrack.New && (ok || k.wasShed(e, at)) {
		// It was followed, and then left out for a while: what it moved until now
		// is not to be recorded (again).
		if again = kind == conntrack.Listed && !e.Over(); !again {
			return nil
		}
	}
	c.mac = t.macOf(client.MAC{}, c.iface, c.client.Addr())
	if !t.makeRoom(&c, kind, e) {
		return nil
	}
	c.start = at.UnixMilli()
	if again {
		c.raw, c.packets = counters(&c, e)
		c.base = [2]uint64{-c.raw[0], -c.raw[1]} // so that the total is 0
	} else if start := e.Start / 1e6; e.Start > 0 && start <= c.start && (start >= plausible || c.start < plausible) {
		c.start = start
	}
	if kind == conntrack.Listed && k.since == 0 && !again {
		c.left, _ = counters(&c, e)
	}
	if f, ok := k.cuts[c.id]; ok && kind != conntrack.New && e.Start/1e6 <= f.at {
		c.raw, c.base, c.left = f.raw, [2]uint64{-f.raw[0], -f.raw[1]}, [2]uint64{}
		c.start = max(c.start, f.at)
		c.from = c.start
		delete(k.cuts, c.id)
	}
	c.end, c.after = c.start, max(k.before(c.key), c.start-old)
	c.hour = t.Hour(c.start)
	k.serial++
	c.serial = k.serial
	if len(k.zones) < maxZones && !slices.Contains(k.zones, e.Zone) {
		k.zones = append(k.zones, e.Zone)
	}
	if c.fate == Recorded && c.isDNS() {
		c.fate = DNSFlow
	}
	if c.fate == Recorded && t.policy.Load().ExcludeMACs[c.mac] {
		c.fate = ExcludedClient
	}
	c.dump = k.dumps
	k.conns[c.key] = &c
	if c.direction == Out {
		t.connects(c.mac, c.iface, c.client.Addr(), c.remote.Addr())
	}
	return &c
}

// wasShed reports whether an entry may be of a connection that was followed and is
// not even in past any more.
func (k *kernel) wasShed(e *conntrack.Entry, at time.Time) bool {
	start := e.Start / 1e6
	if start == 0 { // the kernel does not tell
		start = at.Add(-k.timeouts.TimeWait).UnixMilli()
	}
	return k.shed != 0 && start <= k.shed
}

// networkOf is the monitored interface on whose network an address is, "" if it
// is on none. The link-local addresses of IPv6 are on each: there the
// neighbours tell.
func (t *Table) networkOf(a netip.Addr) string {
	k := &t.kernel
	if k.networks == nil {
		for _, name := range t.policy.Load().Interfaces {
			if i, ok := t.clients.Interface(name); ok {
				k.networks = append(k.networks, network{name, i.Prefixes})
			}
		}
	}
	for i := range k.networks {
		if n := &k.networks[i]; contains(n.prefixes, a) {
			if a.Is6() && a.IsLinkLocalUnicast() {
				if _, ok := t.clients.ByAddr(n.name, a); !ok {
					continue
				}
			}
			return n.name
		}
	}
	return ""
}

// times takes what an entry tells of the beginning and the end.
func (t *Table) times(c *tracked, k conntrack.Kind, e *conntrack.Entry, at time.Time) {
	now := at.UnixMilli()
	if start := e.Start / 1e6; !c.written && e.Start > 0 && start < c.start && start >= max(c.after-near, c.from) {
		c.start = start
	}
	if c.over || !e.Over() {
		return
	}
	c.over = true
	// It may have ended before this is told: what is left of the time for which
	// the kernel remembers it tells when.
	if k == conntrack.Listed || k == conntrack.Ended {
		all := t.kernel.timeouts.Close
		if e.TCPState == conntrack.TimeWait {
			all = t.kernel.timeouts.TimeWait
		}
		if left := time.Duration(e.Timeout) * time.Second; k == conntrack.Ended || left < all {
			now -= max(0, all-left).Milliseconds()
		}
	}
	c.end = max(c.start, now)
	t.touch(c)
}

// count takes the counters of an entry.
func (t *Table) count(c *tracked, k conntrack.Kind, e *conntrack.Entry, at time.Time) {
	raw, packets := counters(c, e)
	old := c.total()
	if raw[0] < c.raw[0] || raw[1] < c.raw[1] || packets < c.packets {
		// Somebody has zeroed them, which is done to both directions at once.
		c.base = old
		c.packetsBefore += c.packets
		t.kernel.zeroed = true
		t.counters.zeroed.Add(1)
	}
	c.raw, c.packets = raw, packets
	if c.total() == old {
		return
	}
	if k == conntrack.Ended {
		c.grewAtEnd = true
	} else if !c.over {
		c.end = max(c.end, at.UnixMilli())
	}
	t.grown(c, old, at, 0)
	t.judge(c)
}

// counters are those of an entry, as seen from the client.
func counters(c *tracked, e *conntrack.Entry) (bytes [2]uint64, packets uint64) {
	bytes = [2]uint64{e.Sent.Bytes, e.Recvd.Bytes}
	if c.direction == In {
		bytes[0], bytes[1] = bytes[1], bytes[0]
	}
	return bytes, e.Sent.Packets + e.Recvd.Packets
}

// grown notes at what time the total became what it is. begun is as coverage
// wants it.
func (t *Table) grown(c *tracked, old [2]uint64, at time.Time, begun int64) {
	if h := t.Hour(at.UnixMilli()); h > c.hour && old != [2]uint64{} {
		c.hour, c.before = h, old
	}
	s := other
	if c.fate == Recorded {
		s = recorded
	}
	now := c.total()
	moved := now[0] + now[1] - old[0] - old[1]
	named := c.source != name.None
	if named {
		c.named += moved
	}
	if c.unannounced && old == [2]uint64{} {
		// What moved before this run is not what interfaces carried in it.
		c.named = now[0] + now[1]
	} else {
		for _, iface := range []string{c.iface, c.far} {
			t.coverage.add(iface, s, moved, named, begun)
		}
	}
	if isExclusion(c.fate) {
		t.omit(c, c.fate)
	}
	t.touch(c)
}

// touch notes that a connection is to be recorded anew.
func (t *Table) touch(c *tracked) {
	if !c.dirty && c.fate == Recorded {
		c.dirty = true
		if !c.ended {
			t.kernel.changed = append(t.kernel.changed, c)
		}
	}
}

// DumpBegins notes that the kernel's connections are told one after another.
func (t *Table) DumpBegins(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := &t.kernel
	t.tick(at)
	k.began = at
	k.dumps++
	k.turn++
	k.networks = nil
}

// tick notes the time. Where the wall clock was set, what it said before moves
// with it.
func (t *Table) tick(at time.Time) {
	if before := t.kernel.clock; !before.IsZero() {
		if by := at.Round(0).Sub(before.Round(0)) - at.Sub(before); by.Abs() > jump*time.Millisecond {
			t.shift(at.UnixMilli()-by.Milliseconds(), by.Milliseconds())
		}
	}
	t.kernel.clock = at
}

// ClockSet tells that the wall clock, which shows at, was set by so many ms. That
// is noticed without it, too, but not as long as the kernel tells nothing.
func (t *Table) ClockSet(at time.Time, by int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeTails(math.MaxInt64)
	if t.kernel.clock.IsZero() {
		t.set.note(at.UnixMilli()-by, by)
	} else {
		t.tick(at)
	}
	t.flush()
}

// clockSet is what Suricata's times are moved by that were told before the clock
// was set: it may tell a connection's beginning long after. Zero if it was not.
type clockSet struct {
	last, by int64 // the last time before, in Unix ms, and by how many ms it was set
}

// note notes that the clock was set by so many ms when it showed last. It returns
// false if times before that can not be told from those after.
func (s *clockSet) note(last, by int64) bool {
	if last >= plausible || last+by < plausible {
		return false
	}
	*s = clockSet{last, by}
	return true
}

// moved is what a time of Suricata's is by the present clock.
func (s *clockSet) moved(ms int64) int64 {
	if s.by != 0 && ms <= s.last+slack {
		return ms + s.by
	}
	return ms
}

// shift moves the times of all connections, after the clock was set from last.
func (t *Table) shift(last, by int64) {
	k := &t.kernel
	t.lingered(k.clock, true) // they are recorded with the times of before
	k.since += by
	if t.set.note(last, by) {
		for _, id := range k.held.Keys() {
			list, _ := k.held.Peek(id)
			for i := range list {
				h := &list[i]
				h.first = t.set.moved(h.first)
				if h.end != nil {
					h.end.Flow.Start, h.end.Flow.End = t.set.moved(h.end.Flow.Start), t.set.moved(h.end.Flow.End)
				}
			}
		}
		k.lost, k.shed = t.set.moved(k.lost), t.set.moved(k.shed)
		for _, id := range k.past.Keys() {
			p, _ := k.past.Peek(id)
			p.end, p.until = t.set.moved(p.end), t.set.moved(p.until)
			k.past.Add(id, p)
		}
		for _, id := range k.told.Keys() {
			end, _ := k.told.Peek(id)
			k.told.Add(id, t.set.moved(end))
		}
	}
	for _, c := range t.kernel.conns {
		if c.written {
			// A record's place is its start.
			t.void(c, c.fate)
			t.kernel.serial++
			c.serial = t.kernel.serial
		}
		c.start, c.end = c.start+by, c.end+by
		c.after += by
		if c.began != 0 {
			c.began += by
		}
		if c.from != 0 {
			c.from += by
		}
		c.hour, c.before = t.Hour(c.start), [2]uint64{}
		t.touch(c)
	}
}

// DumpEnds records what has changed. A connection that two dumps in a row did
// not have is gone: one may have missed it, or its end is still to be told.
func (t *Table) DumpEnds(at time.Time, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := &t.kernel
	if !k.active {
		k.active = true
		k.since = k.began.UnixMilli()
	}
	t.settle(false)
	if whole {
		for _, c := range k.conns {
			if k.dumps-c.dump >= 2 {
				t.finish(c)
			}
		}
	} else {
		for _, c := range k.conns {
			c.dump = max(c.dump, k.dumps-1) // as if it had been there
		}
	}
	if k.zeroed {
		// Some may have outgrown what they were since, which does not show.
		for _, c := range k.conns {
			c.doubtful = true
		}
		k.zeroed = false
	}
	left := k.changed[:0]
	for _, c := range k.changed {
		if c.ended || !c.dirty {
			continue
		}
		if !worth(c.answered, c.total()) || !c.over && k.began.UnixMilli()-c.start < shownAfter {
			left = append(left, c)
			continue
		}
		t.write(c, false)
	}
	clear(k.changed[len(left):])
	k.changed = left
	t.lingered(at, false)
	t.tellLeftOut(false)
	t.flush()
}

// Suspend records everything as it stands, for a run to come. Nothing is
// recorded after it.
func (t *Table) Suspend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settle(true)
	t.lingered(t.kernel.clock, true)
	t.closeTails(math.MaxInt64)
	for _, c := range t.kernel.changed {
		if c.dirty && !c.ended {
			t.write(c, false)
		}
	}
	t.tellLeftOut(true)
	t.cutLeftOut()
	t.flush()
	t.suspended = true
}

// Inactive notes that the kernel's connections are not told, for the moment or
// at all. Those that an earlier run has left end, if this one was never told of
// any: then it is not known what became of them.
func (t *Table) Inactive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := &t.kernel
	k.active = false
	t.settle(true)
	t.lingered(k.clock, true)
	if k.since == 0 {
		for _, c := range k.conns {
			t.finish(c)
		}
	}
	t.flush()
}

// write records a connection as it stands; final if nothing will change.
func (t *Table) write(c *tracked, final bool) {
	c.dirty = false
	total := c.total()
	if c.fate != Recorded || !worth(c.answered, total) {
		return
	}
	// Whose it is may have shown only since it began.
	c.mac = t.macOf(c.mac, c.iface, c.client.Addr())
	f := t.flow(c)
	if c.direction == Out {
		t.connects(c.mac, c.iface, f.ClientAddr, f.Remote)
	}
	t.call(c, &f)
	f.Track = Track{Key: c.serial, ID: c.id, OtherPort: c.client.Port(), RawSent: c.raw[0], RawRecvd: c.raw[1]}
	if c.direction == In {
		f.Track.OtherPort = c.remote.Port()
	}
	if c.hour > t.Hour(c.start) {
		f.Track.Hour, f.Track.HourSent, f.Track.HourRecvd = c.hour, total[0]-c.before[0], total[1]-c.before[1]
	}
	if fate := t.excluded(&f); fate != Recorded {
		t.void(c, fate)
		return
	}
	switch {
	case final && !c.written:
		f.State, f.Track = Whole, Track{Hour: f.Track.Hour, HourSent: f.Track.HourSent, HourRecvd: f.Track.HourRecvd}
	case c.over || final:
		f.State = Over
	}
	c.written = true
	if !c.mac.IsZero() {
		t.clients.Seen(c.mac, c.client.Addr(), c.iface, c.end)
	}
	t.record(f)
}

// call keeps what its record calls a connection.
func (t *Table) call(c *tracked, f *Flow) {
	if f.Source == name.DNS {
		c.name, c.source = f.Name, f.Source // the answer may be forgotten
	}
	if total := f.Sent + f.Recvd; f.Source.Named() && c.named < total {
		for _, iface := range []string{c.iface, c.far} {
			t.coverage.name(iface, total-c.named)
		}
		c.named = total
	}
}

// void leaves a connection out, and deletes what was recorded of it.
func (t *Table) void(c *tracked, fate Fate) {
	if c.written {
		t.record(Flow{State: Void, Track: Track{Key: c.serial}})
		c.written = false
	}
	c.fate = fate
	c.dirty = false
	if isExclusion(fate) {
		t.omit(c, fate)
	}
}

// leave leaves the counting of a connection to Suricata.
func (t *Table) leave(c *tracked) {
	t.void(c, Uncounted)
	if c.suricata != 0 && c.pending != (pending{}) {
		t.pending.Add(c.suricata, c.pending)
	}
}

// uncounted follows a connection no more that the kernel does not count. If
// Suricata has told its end already, that is the record of it.
func (t *Table) uncounted(c *tracked) {
	t.sort(c)
	t.counters.conn[Uncounted].Add(1)
	switch {
	case c.written:
		t.record(Flow{State: Done, Track: Track{Key: c.serial}})
	case c.fate == Recorded && worth(true, c.seen):
		f := t.flow(c)
		f.Sent, f.Recvd, f.State = c.seen[0], c.seen[1], Whole
		if fate := t.excluded(&f); fate == Recorded {
			t.record(f)
		} else {
			t.leaveOut(&f, fate)
		}
	case c.suricata != 0 && c.pending != (pending{}):
		t.pending.Add(c.suricata, c.pending)
	}
	t.drop(c)
}

// finish records the end of a connection and follows it no more.
func (t *Table) finish(c *tracked) {
	if c.ended {
		return
	}
	t.sort(c)
	t.believe(c)
	t.judge(c)
	if end := t.lastPacket(c); end != c.end {
		c.end = end
		t.touch(c)
	}
	if t.fateOf(c) == Recorded && (!c.written || !c.over) {
		c.over = true
		t.touch(c)
	}
	t.drop(c)
	if c.fate == Uncounted {
		t.counters.conn[Uncounted].Add(1)
		return // its end is still to be told by Suricata
	}
	t.kernel.past.Add(c.key, past{c.id, c.end, c.until(), c.stop == 0})
	if c.stop != 0 && t.mayBeTold(c) {
		t.linger(c)
		return
	}
	t.last(c)
}

// last makes the last record of a connection.
func (t *Table) last(c *tracked) {
	before := c.written
	if c.dirty && t.fateOf(c) == Recorded {
		t.write(c, true)
	}
	if before && c.written {
		t.record(Flow{State: Done, Track: Track{Key: c.serial}})
	}
	fate := t.fateOf(c)
	t.counters.conn[fate].Add(1)
	if fate == Unanswered || fate == DNSFlow {
		t.omit(c, fate)
	}
}

// fateOf is what becomes of a connection, as it stands.
func (t *Table) fateOf(c *tracked) Fate {
	if c.fate == Recorded && !worth(c.answered, c.total()) {
		return Unanswered
	}
	return c.fate
}

// drop follows a connection no more.
func (t *Table) drop(c *tracked) {
	k := &t.kernel
	if c.place.share != nil {
		k.crowds[c.place.rank].remove(c)
	}
	c.ended = true
	delete(k.conns, c.key)
}

// lastPacket is when a connection that the kernel has forgotten last moved
// bytes.
func (t *Table) lastPacket(c *tracked) int64 {
	switch {
	case c.over || c.stop == 0:
		return c.end
	case c.proto == UDP:
		// Silence ended it.
		silent := t.kernel.timeouts.UDP
		if c.assured {
			silent = t.kernel.timeouts.UDPStream
		}
		last := c.stop - silent.Milliseconds()
		if c.grewAtEnd {
			return max(last, c.end) // after the last dump
		}
		return max(c.start, min(last, c.end))
	case c.grewAtEnd:
		return c.stop
	}
	return c.end
}

// identify takes the client's MAC from an event.
func (t *Table) identify(c *tracked, ev *suricata.Event) {
	m := client.MAC(ev.SrcMAC)
	if ev.Src != c.client {
		m = client.MAC(ev.DstMAC)
	}
	if m.IsZero() || m.IsGroup() || t.clients.RouterMAC(m) || !c.open() {
		return
	}
	if m = t.clients.Owner(m, c.client.Addr()); m == c.mac {
		return
	}
	c.mac = m
	t.touch(c)
	if t.policy.Load().ExcludeMACs[m] {
		t.void(c, ExcludedClient)
	}
}

// counted takes the end of a connection that the kernel counts, or has counted,
// or may yet tell of: then it is held. It is Recorded if Suricata's count is to stand.
func (t *Table) counted(ev *suricata.Event) Fate {
	k := &t.kernel
	heads := t.capture.Load().Heads
	id, whole := idOf(ev)
	if !k.active && len(k.conns) == 0 && !heads || !whole || ev.Proto != TCP && ev.Proto != UDP {
		return Recorded
	}
	if c := k.numbered(id, ev.FlowID); c != nil && ev.Flow.Start < c.since() {
		t.giveBack(c) // only now it shows when it began
	}
	c := k.certain(id, ev.FlowID, ev.Flow.Start)
	if c == nil && !k.active && !heads { // nothing that is held would be decided
		var known bool
		if c, known = k.likely(id, &held{number: ev.FlowID, first: ev.Flow.Start, end: ev}); c == nil && known {
			t.pending.Remove(ev.FlowID)
			return Counted
		}
		if c == nil {
			return Recorded
		}
	}
	switch {
	case c == nil && k.wasCounted(id, ev.Flow.Start):
		t.pending.Remove(ev.FlowID)
		return Counted
	case c == nil:
		t.hold(id, ev, ev.Flow.Start)
		return waiting
	case c.fate == Uncounted:
		return Recorded
	}
	t.claim(c, ev.FlowID, ev.Flow.Start)
	t.told(c, ev, heads)
	return Counted
}

// told takes what Suricata tells at the end of a connection, or of a part of it.
func (t *Table) told(c *tracked, ev *suricata.Event, heads bool) {
	t.identify(c, ev)
	c.closed = true
	if !c.open() {
		return
	}
	if app := t.str(ev.App); app != "" && app != c.app {
		c.app = app
		t.touch(c)
	}
	c.notDNS = c.notDNS || ev.Unrecognised && c.app == ""
	t.judge(c)
	if heads || ev.Flow.Start < c.start-slack { // of what was forgotten meanwhile
		return
	}
	up := netBytes(ev.Flow.BytesToServer, ev.Flow.PktsToServer)
	down := netBytes(ev.Flow.BytesToClient, ev.Flow.PktsToClient)
	if ev.Src != c.client {
		up, down = down, up
	}
	c.seen[0] += up
	c.seen[1] += down
}

// believe takes Suricata's count at the end of a connection, if the kernel may
// have counted less: what moved between our last look and a zeroing, or past a
// flow table that does not count, is known to Suricata only.
func (t *Table) believe(c *tracked) {
	if !c.open() || !c.doubtful && !t.capture.Load().Uncounted {
		return
	}
	old := c.total()
	for i, total := range old {
		c.base[i] += max(c.seen[i], total) - total
	}
	if c.total() != old {
		t.grown(c, old, time.UnixMilli(max(c.end, c.start)), c.start)
	}
}

// Hour is the start of the hour of this place that a time is in, in Unix
// milliseconds.
func (t *Table) Hour(ms int64) int64 {
	offset := t.policy.Load().HourOffset
	n := ms - offset
	if n < 0 {
		n -= hour - 1
	}
	return n/hour*hour + offset
}

// Running is how many connections that are recorded go on.
func (t *Table) Running() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := int64(0)
	for _, c := range t.kernel.conns {
		if c.fate == Recorded && worth(c.answered, c.total()) && !c.over {
			n++
		}
	}
	return n
}

// Adopt takes up the connections whose records an earlier run has left, and what
// it has forgotten. It must be called before anything is told of connections.
func (t *Table) Adopt(flows []Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := &t.kernel
	for i := range flows {
		f := &flows[i]
		if f.State == Cut {
			if k.cuts == nil {
				k.cuts = make(map[uint32]cut)
			}
			k.cuts[f.Track.ID] = cut{f.End, [2]uint64{f.Track.RawSent, f.Track.RawRecvd}}
			continue
		}
		c := &tracked{
			id: f.Track.ID, proto: f.Proto, direction: f.Direction, mac: f.Client, iface: f.Interface,
			start: f.Start, end: f.End, answered: true, over: f.State == Over, written: true, adopted: true, after: f.Start - slack, serial: f.Track.Key,
			raw:  [2]uint64{f.Track.RawSent, f.Track.RawRecvd},
			base: [2]uint64{f.Sent - f.Track.RawSent, f.Recvd - f.Track.RawRecvd}, // may be less than 0: see begin
		}
		c.app, c.notDNS = f.App, true // or it would not have been recorded
		if f.Source < name.Address {  // what address and port tell, they tell again
			c.take(f.Name, f.Source)
		}
		here, there := f.Track.OtherPort, f.Port
		if f.Direction == In {
			here, there = there, here
		}
		c.client, c.remote = netip.AddrPortFrom(f.ClientAddr, here), netip.AddrPortFrom(f.Remote, there)
		c.key = keyOf(c.client, c.remote, c.proto)
		c.hour = t.Hour(c.start)
		if f.Track.Hour > 0 {
			c.hour = f.Track.Hour
			c.before = [2]uint64{f.Sent - min(f.Sent, f.Track.HourSent), f.Recvd - min(f.Recvd, f.Track.HourRecvd)}
		}
		if f.Source.Named() {
			c.named = f.Sent + f.Recvd
		}
		k.serial = max(k.serial, c.serial)
		// Two with the same ends are in two zones, which the kernel will tell.
		for old := k.conns[c.key]; old != nil; old = k.conns[c.key] {
			if old.id == c.id || len(k.zones) == maxZones {
				t.finish(old) // its end was not recorded
				break
			}
			c.key.zone--
			if !slices.Contains(k.zones, c.key.zone) {
				k.zones = append(k.zones, c.key.zone)
			}
		}
		k.conns[c.key] = c
		k.put(c)
	}
	t.keepOut()
	t.flush()
}
