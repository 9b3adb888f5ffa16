package client

import (
	"cmp"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Whoever makes up MACs makes thousands. Of too many devices those go first of which
// least is known, and none for one of which less is known.
const (
	// minLasting and minSettled are for how long a device was seen, from the first
	// time to the last, for it to count as one of the house, or as one that stays a while.
	minLasting = 24 * time.Hour
	minSettled = time.Hour
	// minPassing is how many devices are always remembered of those that are none of
	// the house, so that a new one does not push out the one before it.
	minPassing = 256
)

// rank is how much is known of a device.
type rank int

const (
	madeUp  rank = iota // it was seen for minutes, and anybody may have made it up
	passing             // it was seen for minutes
	settled             // for an hour
	lasting             // for a day
	named               // the owner has named it
	ranks
)

// rank is how much is known of a device now. The caller holds t.mu.
func (t *Table) rank(d *device) rank {
	var seen time.Duration
	if first := cmp.Or(d.appeared, d.FirstSeen); first != 0 {
		seen = time.Duration(d.LastSeen-first) * time.Millisecond
	}
	switch {
	case t.ownersOwn(d.MAC):
		return named
	case seen >= minLasting:
		return lasting
	case seen >= minSettled:
		return settled
	case t.loose(d):
		return madeUp
	}
	return passing
}

// ownersOwn reports whether the owner has named a device.
func (t *Table) ownersOwn(m MAC) bool {
	_, source := t.Name(m)
	return source == Static
}

// memory holds at most maxDevices devices. Each is in the list of a rank that it had
// once, those that were seen last at its end; how much is known of it by now is asked
// when one has to go.
type memory struct {
	lists   [ranks]*simplelru.LRU[MAC, *device]
	rank    func(*device) rank
	dropped func(MAC, *device)
}

func newMemory(rank func(*device) rank, dropped func(MAC, *device)) *memory {
	m := &memory{rank: rank, dropped: dropped}
	for i := range m.lists {
		var err error
		if m.lists[i], err = simplelru.NewLRU[MAC, *device](maxDevices, nil); err != nil {
			panic(err) // the size is positive
		}
	}
	return m
}

func (m *memory) Len() (n int) {
	for _, l := range m.lists {
		n += l.Len()
	}
	return n
}

// Peek returns the device with a MAC.
func (m *memory) Peek(mac MAC) (*device, bool) {
	for _, l := range m.lists {
		if d, ok := l.Peek(mac); ok {
			return d, true
		}
	}
	return nil, false
}

// Get is Peek for a device that was just seen.
func (m *memory) Get(mac MAC) (*device, bool) {
	for _, l := range m.lists {
		if d, ok := l.Get(mac); ok {
			return d, true
		}
	}
	return nil, false
}

// Values returns all devices.
func (m *memory) Values() []*device {
	all := make([]*device, 0, m.Len())
	for _, l := range m.lists {
		all = append(all, l.Values()...)
	}
	return all
}

// Add remembers a device that is not remembered, and returns one that had to go for
// it, nil if none had to.
func (m *memory) Add(d *device) (gone *device) {
	if m.Len() >= maxDevices {
		gone = m.evict(madeUp)
	}
	m.lists[madeUp].Add(d.MAC, d)
	return gone
}

// evict forgets a device of a rank, or of the next if there is none.
func (m *memory) evict(from rank) *device {
	for r := from; r < ranks; r++ {
		for l := m.lists[r]; l.Len() > 0; {
			mac, d, _ := l.GetOldest()
			now := m.rank(d)
			if now <= r {
				m.Remove(mac)
				return d
			}
			l.Remove(mac)
			m.lists[now].Add(mac, d)
			if from < lasting && m.lists[lasting].Len()+m.lists[named].Len() > maxDevices-minPassing {
				return m.evict(lasting)
			}
		}
	}
	return nil // there are none
}

// Remove forgets a device.
func (m *memory) Remove(mac MAC) {
	for _, l := range m.lists {
		if d, ok := l.Peek(mac); ok {
			l.Remove(mac)
			m.dropped(mac, d)
			return
		}
	}
}

// Purge forgets all devices.
func (m *memory) Purge() {
	for _, d := range m.Values() {
		m.Remove(d.MAC)
	}
}
