package flow

import (
	"slices"
	"time"

	"pakon/daemon/name"
	"pakon/suricata"
)

// Suricata and the kernel tell of the same connections, each with a delay of its
// own: Suricata may have told all of one before the kernel's first word of it is
// read, or begin when the kernel has forgotten it, and the next connection may have
// the same addresses and ports. What Suricata tells is therefore held until it is
// certain whose it is: when the kernel tells the end of a connection, or when all that
// had happened until then was read, which is asked for. In the other direction, a
// connection that the kernel has forgotten lingers for a while.

const (
	maxHeld     = 1024 // pairs of ends of which something is held
	maxHeldEach = 8    // of Suricata's numbers with the same ends
	maxLinger   = 2048 // connections that linger
	// lingers is for how long Suricata may tell of a connection after the kernel
	// has forgotten it: silence of UDP ends it for the kernel after 30 s, for Suricata
	// after 60 s, and Suricata 7 takes some time to find out about silence.
	lingers = time.Minute
	// near is by how many ms the times of a packet in Suricata and in the kernel
	// differ, where both tell them exactly.
	near = 50
	// maxZones bounds the zones of connection tracking in which names are looked
	// for a connection.
	maxZones = 16
)

// waiting is the fate of an event that is not decided yet, and counted later.
const waiting = fates

// held is what Suricata told of a connection under one of its numbers. The name is
// in Table.pending.
type held struct {
	number uint64
	first  int64           // Unix ms, of the first packet of which it told
	turn   uint32          // kernel.turn then
	end    *suricata.Event // nil if it goes on
}

// idOf is the key of an event's connection, in the default zone.
func idOf(ev *suricata.Event) (id key, ok bool) {
	if !ev.Src.Addr().IsValid() || !ev.Dst.Addr().IsValid() {
		return id, false
	}
	return keyOf(ev.Src, ev.Dst, ev.Proto), true
}

// since is the time in Unix ms from which packets can be the connection's.
func (c *tracked) since() int64 {
	if c.began != 0 {
		return c.began - near
	}
	return c.after // the word of its beginning may be late
}

// until is the time in Unix ms from which packets are those of the next connection,
// of one that has ended.
func (c *tracked) until() int64 {
	switch {
	case c.stop == 0:
		return c.end + 1
	case c.exact: // the first packet of the next may have made the kernel forget it
		return c.stop - min(near, (c.stop-c.start)/2)
	}
	return max(c.end+1, c.stop-slack)
}

// numbered returns the connection of which Suricata has told under a number.
func (k *kernel) numbered(id key, number uint64) *tracked {
	if number == 0 {
		return nil
	}
	for _, id.zone = range k.zones {
		if c := k.conns[id]; c != nil && c.suricata == number {
			return c
		}
		for c := k.late[id]; c != nil; c = c.older {
			if c.suricata == number {
				return c
			}
		}
	}
	return nil
}

// certain returns the connection that can alone be the one of which Suricata tells
// under a number, of a packet at a time; nil if there may be another.
func (k *kernel) certain(id key, number uint64, at int64) *tracked {
	if c := k.numbered(id, number); c != nil {
		return c
	}
	for _, id.zone = range k.zones {
		for c := k.late[id]; c != nil; c = c.older {
			if c.suricata == 0 && at >= c.since() && at < c.until() {
				return c
			}
		}
		if c := k.conns[id]; c != nil && c.suricata == 0 && at >= c.since() && (!c.over || at <= c.end) {
			return c
		}
	}
	return nil
}

// likely returns the connection of which something is that was held, once the
// kernel has told of all there were; nil with known set if it is not followed any
// more.
func (k *kernel) likely(id key, h *held) (c *tracked, known bool) {
	if c := k.certain(id, h.number, h.first); c != nil {
		return c, true
	}
	for _, id.zone = range k.zones {
		for c := k.late[id]; c != nil; c = c.older {
			if h.first >= c.since() && h.first < c.until() {
				return c, true
			}
		}
		if c := k.conns[id]; c != nil && h.first >= c.since() {
			return c, true // the next one would have been told
		}
		late := k.late[id]
		if late != nil && (h.first <= late.end+slack || h.end == nil && h.first <= late.stop+slack) {
			return late, true
		}
		if p, ok := k.past.Peek(id); ok && h.first <= p.end+slack {
			return nil, true
		}
	}
	return nil, false
}

// wasCounted reports whether the connection that had a packet at a time is followed
// no more, and does not even linger.
func (k *kernel) wasCounted(id key, at int64) bool {
	for _, id.zone = range k.zones {
		if p, ok := k.past.Peek(id); ok && at < p.until && k.late[id] == nil {
			return true
		}
	}
	return false
}

// before is the time in Unix ms until which packets were those of an earlier
// connection with the same ends; 0 if none is known.
func (k *kernel) before(id key) int64 {
	if c := k.late[id]; c != nil {
		return c.until()
	}
	if p, ok := k.past.Peek(id); ok {
		return p.until
	}
	return 0
}

// hold keeps what an event tells of a packet at a time, until it is certain whose
// it is.
func (t *Table) hold(id key, ev *suricata.Event, first int64) {
	k := &t.kernel
	list, there := k.held.Get(id)
	i := slices.IndexFunc(list, func(h held) bool { return h.number == ev.FlowID && h.end == nil })
	if i < 0 {
		if !there && k.held.Len() == maxHeld {
			_, oldest, _ := k.held.RemoveOldest()
			for _, h := range oldest {
				t.stands(&h)
			}
		}
		if len(list) == maxHeldEach {
			t.stands(&list[0])
			list = slices.Delete(list, 0, 1)
		}
		i = len(list)
		list = append(list, held{number: ev.FlowID, first: first})
	}
	h := &list[i]
	h.first, h.turn = min(h.first, first), k.turn
	if ev.Kind == suricata.Flow {
		h.end = kept(ev)
		k.ask()
	}
	k.held.Add(id, list)
}

// kept is a copy of the end of a connection that outlives the line it was read from.
func kept(ev *suricata.Event) *suricata.Event {
	c := *ev
	c.Type, c.Name, c.Subject, c.AltNames, c.DNS = nil, nil, nil, nil, suricata.Message{}
	for _, b := range []*[]byte{&c.Interface, &c.App, &c.Flow.State, &c.Flow.Reason} {
		*b = slices.Clone(*b)
	}
	return &c
}

// stands lets the word of Suricata stand, as the kernel has none.
func (t *Table) stands(h *held) {
	if h.end != nil {
		t.counters.add(t.own(h.end))
	}
}

// claim gives a connection what Suricata told under a number.
func (t *Table) claim(c *tracked, number uint64, first int64) {
	if c.suricata == number {
		c.first = min(c.first, first)
		return
	}
	k := &t.kernel
	t.give(c, number, first)
	id := c.key
	id.zone = 0
	if list, ok := k.held.Peek(id); ok {
		list = slices.DeleteFunc(list, func(h held) bool { return h.number == number && h.end == nil })
		if len(list) == 0 {
			k.held.Remove(id)
		} else {
			k.held.Add(id, list)
		}
	}
}

// give gives a connection the name that waits under a number.
func (t *Table) give(c *tracked, number uint64, first int64) {
	if c.suricata == 0 {
		c.suricata, c.first = number, first
	}
	p, ok := t.pending.Peek(number)
	if !ok {
		return
	}
	t.pending.Remove(number)
	c.pending.take(p.name, p.source)
	c.pending.take(p.resort, p.resortBy)
	if c.app == "" {
		c.app = p.app
	}
	t.judge(c)
	t.touch(c)
}

// AskKernel sets what makes the kernel's connections be told soon, and then Idle.
func (t *Table) AskKernel(ask func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kernel.ask = ask
}

// Idle notes that the kernel has told of all that had happened a moment ago, and
// hands on the flows that are waiting for their batch to fill.
func (t *Table) Idle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := &t.kernel
	t.settle(false)
	k.turn++
	for _, list := range k.held.Values() {
		if slices.ContainsFunc(list, func(h held) bool { return h.end != nil }) {
			k.ask()
			break
		}
	}
	t.flush()
}

// settle gives what is held to the connections that it is of. What was told a turn
// ago and is of none of the kernel's is Suricata's alone, and so is everything if no
// more is to be told by the kernel.
func (t *Table) settle(all bool) {
	k := &t.kernel
	if k.held.Len() == 0 {
		return
	}
	heads := t.capture.Load().Heads
	for _, id := range k.held.Keys() {
		list, _ := k.held.Peek(id)
		var left []held
		for i := range list {
			h := &list[i]
			c, known := k.certain(id, h.number, h.first), false
			ripe := all || h.turn != k.turn
			if c == nil && ripe {
				c, known = k.likely(id, h)
			}
			switch {
			case c != nil && c.fate != Uncounted:
				t.give(c, h.number, h.first)
				if h.end != nil {
					t.told(c, h.end, heads)
					t.counters.add(Counted)
				}
			case known && c == nil && h.end != nil:
				t.pending.Remove(h.number)
				t.counters.add(Counted)
			case h.end != nil && (ripe || c != nil):
				t.stands(h)
			default:
				left = append(left, *h)
			}
		}
		if len(left) == 0 {
			k.held.Remove(id)
		} else if len(left) < len(list) {
			k.held.Add(id, left)
		}
	}
}

// giveBack takes from a connection what Suricata told under its number: it is of
// another.
func (t *Table) giveBack(c *tracked) {
	if c.pending != (pending{}) {
		t.pending.Add(c.suricata, c.pending)
	}
	c.pending, c.suricata, c.first, c.closed, c.seen = pending{}, 0, 0, false, [2]uint64{}
	t.touch(c)
}

// sort gives a connection that has ended what is held for it, and takes from it
// what is of the next one with the same ends: only now it shows. What the kernel
// does not count is left to Suricata.
func (t *Table) sort(c *tracked) {
	k := &t.kernel
	id := c.key
	id.zone = 0
	if c.stop != 0 && c.suricata != 0 && c.first >= c.until() {
		h := held{number: c.suricata, first: c.first, turn: k.turn}
		t.giveBack(c)
		if list, there := k.held.Get(id); there || k.held.Len() < maxHeld {
			k.held.Add(id, append(list, h))
		}
	}
	list, ok := k.held.Peek(id)
	if !ok {
		return
	}
	left := list[:0]
	for i := range list {
		h := &list[i]
		if h.number != c.suricata && (h.first < c.since() || h.first >= c.until()) {
			left = append(left, *h)
			continue
		}
		if c.fate == Uncounted { // its name waits for its end
			t.stands(h)
			continue
		}
		t.give(c, h.number, h.first)
		if h.end != nil {
			t.told(c, h.end, t.capture.Load().Heads)
			t.counters.add(Counted)
		}
	}
	clear(list[len(left):])
	if len(left) == 0 {
		k.held.Remove(id)
	} else {
		k.held.Add(id, left)
	}
}

// mayBeTold reports whether Suricata can still tell what is not known of a
// connection.
func (t *Table) mayBeTold(c *tracked) bool {
	switch t.fateOf(c) {
	case Recorded:
	case DNSFlow: // by its port alone
		return c.app == "" && c.answered && !c.closed
	default:
		return false
	}
	return !c.closed || c.source < name.HTTP || c.app == "" || c.doubtful || t.capture.Load().Uncounted
}

// linger keeps a connection that the kernel has forgotten for what Suricata may
// still tell of it.
func (t *Table) linger(c *tracked) {
	k := &t.kernel
	if len(k.lingering) == maxLinger {
		t.close(k.lingering[0])
		k.lingering = slices.Delete(k.lingering, 0, 1)
	}
	c.gone = k.clock
	c.older, k.late[c.key] = k.late[c.key], c
	k.lingering = append(k.lingering, c)
}

// lingered records what was told of connections that linger, and the ends of those
// that have lingered long enough, or of all.
func (t *Table) lingered(at time.Time, all bool) {
	k := &t.kernel
	n := 0
	for _, c := range k.lingering {
		if all || at.Sub(c.gone) >= lingers {
			t.close(c)
			n++
		} else if c.dirty {
			t.write(c, false)
		}
	}
	k.lingering = slices.Delete(k.lingering, 0, n)
}

// close records the end of a connection that lingers, the oldest that does.
func (t *Table) close(c *tracked) {
	k := &t.kernel
	if p := k.late[c.key]; p == c {
		delete(k.late, c.key)
	} else {
		for p.older != c {
			p = p.older
		}
		p.older = nil
	}
	t.believe(c)
	t.last(c)
}

// maxTails bounds the connections that Suricata has counted and may count more of.
const (
	maxTails = 512
	// tailTime is for how long, in ms, Suricata waits for more of a connection that
	// nobody opened, and a little more.
	tailTime = 90_000
)

// tailed is a flow to which something may be added.
type tailed struct {
	Flow
	closed int64 // Unix ms, when both sides had closed the connection
}

// tail adds what is the end of a connection to its flow. Suricata 8 may forget a
// connection as soon as both sides have closed it, and then takes the last packets
// for another, which nobody opened.
func (t *Table) tail(ev *suricata.Event) bool {
	if !ev.Midstream || ev.Proto != TCP || len(ev.App) > 0 {
		return false
	}
	id := keyOf(ev.Src, ev.Dst, ev.Proto)
	f, ok := t.tails.Peek(id)
	if !ok || ev.Flow.Start < f.closed-near || ev.Flow.Start > f.closed+slack {
		return false
	}
	up, down := ev.Flow.BytesToServer, ev.Flow.BytesToClient
	if ev.Src.Addr() != f.ClientAddr {
		up, down = down, up
	}
	f.Sent, f.Recvd, f.End = f.Sent+up, f.Recvd+down, max(f.End, ev.Flow.End)
	t.coverage.add(f.Interface, recorded, netBytes(up+down, ev.Flow.PktsToServer+ev.Flow.PktsToClient), f.Source.Named(), ev.Flow.Start)
	t.record(f.Flow)
	return true
}

// expectTail makes a flow one that may have a tail, if Suricata told its end at once.
func (t *Table) expectTail(ev *suricata.Event, f *Flow) {
	if ev.Proto != TCP || string(ev.Flow.State) != "closed" || t.set.moved(ev.Time)-ev.Flow.End > slack {
		return
	}
	id := keyOf(ev.Src, ev.Dst, ev.Proto)
	if old, ok := t.tails.Peek(id); ok {
		t.tails.Remove(id)
		t.record(Flow{State: Done, Track: Track{Key: old.Track.Key}})
	}
	t.closeTails(ev.Flow.End - tailTime)
	t.kernel.serial++
	f.State, f.Track = Over, Track{Key: t.kernel.serial, OtherPort: ev.Src.Port()}
	if f.Direction == In || ev.Src.Addr() != f.ClientAddr {
		f.Track.OtherPort = ev.Dst.Port()
	}
	t.tails.Add(id, &tailed{*f, f.End})
}

// closeTails records that nothing is added any more to flows that ended before a
// time, the oldest first.
func (t *Table) closeTails(before int64) {
	for {
		_, f, ok := t.tails.GetOldest()
		if !ok || f.closed >= before && t.tails.Len() < maxTails {
			return
		}
		t.tails.RemoveOldest()
		t.record(Flow{State: Done, Track: Track{Key: f.Track.Key}})
	}
}
