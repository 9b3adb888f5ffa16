package flow

import (
	"math"
	"net/netip"

	"pakon/daemon/client"
	"pakon/daemon/name"
)

// maxForgotten bounds the forgettings that Suricata's count is held against.
const maxForgotten = 64

// forgetting is that something was to be forgotten, and when, in Unix ms.
type forgetting struct {
	match func(*Flow) bool
	at    int64
}

// cut notes that what a connection has moved until now is not to be recorded by a
// later run either; at is now in Unix ms.
func (t *Table) cut(c *tracked, at int64) {
	t.record(Flow{State: Cut, End: at, Track: Track{ID: c.id, RawSent: c.raw[0], RawRecvd: c.raw[1]}})
}

// Forget forgets what was counted until now, the time in Unix ms, of the
// connections whose flows match: their records are deleted, and those that go on
// begin anew, with the bytes that are still to come. What clients were answered
// when they asked for names is forgotten likewise; match then gets a flow of
// which only Start, Client, ClientAddr, Remote, Name and Source are set. It
// returns how many connections had a record.
//
// match is kept: flows that only Suricata counts, and that began before now, are
// known when they are over, and are left out then if they match.
func (t *Table) Forget(now int64, match func(*Flow) bool) (records int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settle(false)
	t.lingered(t.kernel.clock, true) // what is complete is not deleted here
	t.closeTails(math.MaxInt64)
	for _, c := range t.kernel.conns {
		if !c.open() {
			continue
		}
		f := t.flow(c)
		if !match(&f) {
			continue
		}
		if c.written {
			records++
			t.void(c, Recorded)
		}
		t.kernel.serial++
		c.serial = t.kernel.serial
		c.base = [2]uint64{-c.raw[0], -c.raw[1]} // so that the total is 0
		c.start, c.end = max(c.start, now), max(c.end, now)
		c.from = c.start
		if c.raw != [2]uint64{} {
			t.cut(c, now)
		}
		c.hour, c.before = t.Hour(c.start), [2]uint64{}
		c.seen, c.named, c.left = [2]uint64{}, 0, [2]uint64{}
	}
	for _, k := range t.ended.Keys() {
		p, _ := t.ended.Peek(k)
		f := Flow{Start: now, ClientAddr: k.client, Remote: k.remote, Name: p.name, Source: p.source}
		f.Client = t.macOf(client.MAC{}, "", k.client)
		if match(&f) {
			t.ended.Remove(k)
		}
	}
	type answer struct {
		name string
		addr netip.Addr
	}
	matched := make(map[answer]bool)
	t.memory.Forget(func(a name.Answered) bool {
		f := Flow{Start: a.Last, Remote: a.Addr, Name: a.Name, Source: name.DNS}
		f.Client, f.ClientAddr = clientOf(a.Client)
		if f.Client.IsZero() {
			f.Client = t.macOf(client.MAC{}, "", f.ClientAddr)
		}
		if !match(&f) {
			return false
		}
		matched[answer{a.Name, a.Addr}] = true
		return true
	})
	// All who use a MAC have the answers of each of them.
	t.memory.Forget(func(a name.Answered) bool {
		m, _ := clientOf(a.Client)
		return matched[answer{a.Name, a.Addr}] && t.clients.SharesMAC(m)
	})
	if len(t.forgotten) == maxForgotten {
		t.forgotten = t.forgotten[1:]
	}
	t.forgotten = append(t.forgotten, forgetting{match, now})
	t.tellLeftOut(true)
	t.flush()
	return records
}

// flow is a connection's record as it stands, but for what numbers it.
func (t *Table) flow(c *tracked) Flow {
	total := c.total()
	f := Flow{
		Start: c.start, End: c.end, Client: c.mac, ClientAddr: c.client.Addr(), Remote: c.remote.Addr(),
		Proto: c.proto, Direction: c.direction, App: c.app, Interface: c.iface,
		Sent: total[0], Recvd: total[1], State: Running, Name: c.name, Source: c.source, Port: c.remote.Port(),
	}
	if c.direction == In {
		f.Port = c.client.Port()
	}
	if f.Source == name.None {
		// One that is forwarded into the house has a far end behind this machine's
		// address.
		f.Name, f.Source = t.found(&f, &c.pending, c.far == "" && t.clients.RouterAddr(f.Remote))
	}
	return f
}

// wasForgotten tells whether a flow that has ended began before somebody wanted
// it to be forgotten.
func (t *Table) wasForgotten(f *Flow) bool {
	for _, g := range t.forgotten {
		if f.Start < g.at && g.match(f) {
			return true
		}
	}
	return false
}

// Learn takes what a client was told that an address is called, at a time in the
// past (Unix ms), for connections that began soon after.
func (t *Table) Learn(c client.MAC, addr netip.Addr, name string, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.IsZero() {
		t.memory.Learn(t.who(c, netip.Addr{}), addr, name, at)
	}
}
