package flow

import "pakon/daemon/client"

const (
	// unheard is how many bytes a connection may move before it is recorded though
	// nobody answers: less is an attempt.
	unheard = 1 << 20
	// leastUnheard is how many bytes of a client that were not recorded for want of an
	// answer are told of at once: less is noise, which waits until it is more.
	leastUnheard = 1 << 10
	// maxLeftOut bounds the clients for which bytes are counted before they are told.
	maxLeftOut = 256
)

// least is how many bytes of a client that are left out are told of at once.
func least(why Fate) uint64 {
	switch {
	case isExclusion(why):
		return 1
	case why == DNSFlow:
		return unheard // each has a little of it all day
	}
	return leastUnheard
}

// omission is whose bytes are not recorded, and why.
type omission struct {
	who client.ID
	why Fate
}

// omitted is how many these were.
type omitted struct {
	sent, recvd uint64
	at          int64 // Unix ms, when they last moved
}

// worth reports whether there is to be a record of what moved: both sides have
// spoken, or one at length.
func worth(answered bool, total [2]uint64) bool {
	return answered && total[0] > 0 && total[1] > 0 || total[0]+total[1] > unheard
}

// leaveOut counts for a client what of its bytes is not recorded. Sent, Recvd, End
// and whose it is are taken of f.
func (t *Table) leaveOut(f *Flow, why Fate) {
	if f.Sent+f.Recvd == 0 {
		return
	}
	if t.leftOut == nil {
		t.leftOut = make(map[omission]omitted)
	}
	k := omission{client.IDOf(f.Client, f.ClientAddr), why}
	n := t.leftOut[k]
	t.leftOut[k] = omitted{n.sent + f.Sent, n.recvd + f.Recvd, max(n.at, f.End)}
	if len(t.leftOut) == maxLeftOut {
		t.tellLeftOut(false)
		t.foldLeftOut()
	}
}

// omit counts what of a connection is left out that was not counted yet.
func (t *Table) omit(c *tracked, why Fate) {
	total := c.total()
	t.leaveOut(&Flow{Client: c.mac, ClientAddr: c.client.Addr(), Sent: total[0] - c.left[0], Recvd: total[1] - c.left[1], End: c.end}, why)
	c.left = total
}

// isExclusion reports whether the owner does not want what has this fate recorded.
func isExclusion(f Fate) bool { return f == ExcludedClient || f == ExcludedName }

// tellLeftOut hands on what was left out since the last time, unless that is little
// and not all is to be told.
func (t *Table) tellLeftOut(all bool) {
	for k, n := range t.leftOut {
		if all || n.sent+n.recvd >= least(k.why) {
			t.record(Flow{State: LeftOut, Fate: k.why, Client: k.who.MAC, ClientAddr: k.who.Addr, Start: n.at, End: n.at, Sent: n.sent, Recvd: n.recvd})
			delete(t.leftOut, k)
		}
	}
}

// foldLeftOut makes room if many have little: these become one without a client, as
// those for whom the store has no room are.
func (t *Table) foldLeftOut() {
	if len(t.leftOut) <= maxLeftOut/2 {
		return
	}
	folded := make(map[omission]omitted)
	for k, n := range t.leftOut {
		k.who = client.ID{}
		old := folded[k]
		folded[k] = omitted{old.sent + n.sent, old.recvd + n.recvd, max(old.at, n.at)}
	}
	t.leftOut = folded
}

// cutLeftOut notes what was left out of connections that go on, so that a later run
// does not count it again.
func (t *Table) cutLeftOut() {
	for _, c := range t.kernel.conns {
		if isExclusion(c.fate) && c.raw != [2]uint64{} {
			t.cut(c, max(c.end, t.kernel.clock.UnixMilli()))
		}
	}
}
