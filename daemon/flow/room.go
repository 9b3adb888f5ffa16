package flow

import (
	"pakon/daemon/client"
	"pakon/daemon/conntrack"
)

// rank is what is lost if a connection is followed no more, the least first.
type rank uint8

const (
	// idle connections have no record. If one gets a record later, the kernel
	// tells all that is in it: at the next listing, or at the end.
	idle rank = iota
	// finished ones have one that is complete.
	finished
	// active ones go on. What such a one moves afterwards is not recorded.
	active
	ranks
)

// rank is that of a connection as it stands.
func (c *tracked) rank() rank {
	switch {
	case c.over:
		return finished
	case c.written || c.base != [2]uint64{} || c.from != 0 || c.pending != (pending{}):
		return active // of this the kernel knows nothing
	case c.fate == Recorded && !worth(c.answered, c.total()), c.fate == RouterFlow,
		c.fate == DNSFlow && isDNS("", c.direction, c.client.Port(), c.remote.Port()):
		return idle
	}
	return active
}

// holder is whose a connection is where each is to have its share of the table. Who
// has no MAC shares with all such of a network: an address is made up easily.
type holder struct {
	mac   client.MAC
	iface string // if there is no MAC
}

func (c *tracked) holder() holder {
	if c.mac.IsZero() {
		return holder{iface: c.iface}
	}
	return holder{mac: c.mac}
}

// share is what a holder has of the connections of one rank.
type share struct {
	holder
	n           int
	first, last *tracked // the oldest of this rank, and the latest
	prev, next  *share   // with as many
}

// place is where a connection is in its share.
type place struct {
	share      *share
	rank       rank
	prev, next *tracked
}

// crowd is the connections of one rank by their holders. All it does takes a time
// that does not depend on how many there are: it is for floods.
type crowd struct {
	shares map[holder]*share
	// byCount has the shares by how many connections they have; the last are those
	// with the most.
	byCount []*share
}

// most returns the share with the most connections, nil if there are none.
func (w *crowd) most() *share {
	if len(w.byCount) == 0 {
		return nil
	}
	return w.byCount[len(w.byCount)-1]
}

// add adds a connection as the latest of its holder.
func (w *crowd) add(c *tracked, r rank) {
	h := c.holder()
	s := w.shares[h]
	if s == nil {
		s = &share{holder: h}
		w.shares[h] = s
	}
	c.place = place{share: s, rank: r, prev: s.last}
	if s.last != nil {
		s.last.place.next = c
	} else {
		s.first = c
	}
	s.last = c
	w.resize(s, s.n+1)
}

// remove takes a connection out.
func (w *crowd) remove(c *tracked) {
	p := c.place
	if p.prev != nil {
		p.prev.place.next = p.next
	} else {
		p.share.first = p.next
	}
	if p.next != nil {
		p.next.place.prev = p.prev
	} else {
		p.share.last = p.prev
	}
	c.place = place{}
	w.resize(p.share, p.share.n-1)
}

// resize moves a share to those with n connections.
func (w *crowd) resize(s *share, n int) {
	if s.n > 0 {
		if s.prev != nil {
			s.prev.next = s.next
		} else {
			w.byCount[s.n] = s.next
		}
		if s.next != nil {
			s.next.prev = s.prev
		}
	}
	s.n, s.prev, s.next = n, nil, nil
	if n == 0 {
		delete(w.shares, s.holder)
	} else {
		for len(w.byCount) <= n {
			w.byCount = append(w.byCount, nil)
		}
		if s.next = w.byCount[n]; s.next != nil {
			s.next.prev = s
		}
		w.byCount[n] = s
	}
	for len(w.byCount) > 0 && w.byCount[len(w.byCount)-1] == nil {
		w.byCount = w.byCount[:len(w.byCount)-1]
	}
}

// put puts a connection where it belongs by what is known of it now.
func (k *kernel) put(c *tracked) {
	if c.ended {
		return
	}
	r := c.rank()
	if s := c.place.share; s != nil {
		if c.place.rank == r && s.holder == c.holder() {
			return
		}
		k.crowds[c.place.rank].remove(c)
	}
	k.crowds[r].add(c, r)
}

// makeRoom makes room in a full table for a connection of which an entry tells, and
// reports whether it is to be followed. The client with the most connections of the
// least rank loses the oldest of these.
func (t *Table) makeRoom(c *tracked, kind conntrack.Kind, e *conntrack.Entry) bool {
	k := &t.kernel
	if len(k.conns) < maxConns || kind == conntrack.Ended { // which it leaves at once
		return true
	}
	moved, _ := counters(c, e)
	if kind == conntrack.Listed && !worth(e.Answered(), moved) {
		return false // it would take the place of another like it, at each listing
	}
	for r := idle; r < active; {
		s := k.crowds[r].most()
		if s == nil {
			r++
			continue
		}
		oldest := s.first
		k.put(oldest) // Suricata may have told of it meanwhile
		switch {
		case oldest.place.rank != r:
		case r == idle:
			t.drop(oldest)
			return true
		default:
			t.finish(oldest)
			return true
		}
	}
	if kind == conntrack.New {
		return false // if it is answered, the next listing tells
	}
	s, own := k.crowds[active].most(), 0
	if o := k.crowds[active].shares[c.holder()]; o != nil {
		own = o.n
	}
	// Nobody hides what moves much behind others of his own that move little.
	total := s.first.total()
	if size := moved[0] + moved[1]; s.n <= own+1 && (size <= unheard || size <= total[0]+total[1]) {
		return false
	}
	t.counters.unfollowed.Add(1)
	t.finish(s.first)
	return true
}
