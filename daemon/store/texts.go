package store

import (
	"hash/maphash"
	"math/bits"
	"net/netip"
	"strings"

	"pakon/daemon/store/block"
)

// interner numbers different values from 0 on. Other than a map it keeps them
// once.
type interner[K comparable] struct {
	values []K
	index  []uint32 // open addressing; number + 1
	hash   func(K) uint64
	clone  func(K) K // if values may be part of something larger
}

// find is the number of v, if it has one; hash is its hash.
func (t *interner[K]) find(v K, hash uint64) (uint32, bool) {
	if len(t.index) == 0 {
		return 0, false
	}
	for i := hash & uint64(len(t.index)-1); ; i = (i + 1) & uint64(len(t.index)-1) {
		n := t.index[i]
		if n == 0 {
			return 0, false
		}
		if t.values[n-1] == v {
			return n - 1, true
		}
	}
}

// add gives v, which has none, a number.
func (t *interner[K]) add(v K, hash uint64) uint32 {
	if 2*len(t.values) >= len(t.index) {
		t.index = make([]uint32, max(2*len(t.index), 64))
		for n := range t.values {
			t.enter(uint32(n), t.hash(t.values[n]))
		}
	}
	if t.clone != nil {
		v = t.clone(v)
	}
	t.values = append(t.values, v)
	n := uint32(len(t.values) - 1)
	t.enter(n, hash)
	return n
}

// number is the number of v, which gets one if it has none.
func (t *interner[K]) number(v K) uint32 {
	h := t.hash(v)
	if n, ok := t.find(v, h); ok {
		return n
	}
	return t.add(v, h)
}

func (t *interner[K]) enter(n uint32, hash uint64) {
	i := hash & uint64(len(t.index)-1)
	for t.index[i] != 0 {
		i = (i + 1) & uint64(len(t.index)-1)
	}
	t.index[i] = n + 1
}

// texts number what sums refer to: the empty name and the zero address are 0.
type texts struct {
	seed      maphash.Seed
	endpoints interner[block.Endpoint] // and clients: without what does not belong to one
	names     interner[string]         // and groups, and application protocols
	remotes   interner[netip.Addr]
}

func newTexts(seed maphash.Seed) *texts {
	t := &texts{seed: seed}
	t.endpoints.hash, t.names.hash, t.remotes.hash = t.ofEndpoint, t.ofName, t.ofAddr
	t.names.clone = strings.Clone
	t.endpoints.clone = func(e block.Endpoint) block.Endpoint {
		e.Interface = strings.Clone(e.Interface)
		return e
	}
	t.names.number("")
	t.remotes.number(netip.Addr{})
	return t
}

// len is how many there are.
func (t *texts) len() int {
	return len(t.endpoints.values) + len(t.names.values) + len(t.remotes.values)
}

// mix makes one hash of two.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd1b54a32d192ed03)
	return hi ^ lo
}

func (t *texts) ofName(n string) uint64 { return maphash.String(t.seed, n) }

func (t *texts) ofAddr(a netip.Addr) uint64 {
	b := a.As16()
	h := maphash.Bytes(t.seed, b[:])
	if a.Is4() {
		h = ^h
	}
	return h
}

func (t *texts) ofEndpoint(e block.Endpoint) uint64 {
	h := mix(maphash.Bytes(t.seed, e.MAC[:]), t.ofAddr(e.Address))
	if e.Interface != "" {
		h = mix(h, t.ofName(e.Interface))
	}
	return h
}

// What a flow's far end is shown as is the number of a name or, with this bit, of
// an address.
const isAddress = 1 << 31

// shown is the text of what a far end is shown as.
func (t *texts) shown(n uint32) string {
	if n&isAddress == 0 {
		return t.names.values[n]
	}
	if a := t.remotes.values[n&^isAddress]; a.IsValid() {
		return a.String()
	}
	return ""
}

// Numbers of a reading or a sum that stand for no text.
const (
	differs = 1<<32 - 1 // between the flows of a sum
	unknown = 1<<32 - 2 // has no number
)

// clientOf is an endpoint as far as it tells the client.
func clientOf(e block.Endpoint) block.Endpoint {
	e.Interface = ""
	if !e.MAC.IsZero() {
		e.Address = netip.Addr{}
	}
	return e
}

// numbered is a number in texts, and a hash that depends on the text alone.
type numbered struct {
	hash   uint64
	number uint32 // unknown if it was not asked for yet
	hashed bool
}

// reading is a block with the numbers in texts of what is in its dictionary, as
// far as they were asked for.
type reading struct {
	*scanned
	classes []class // of the block's names
	texts   *texts

	clients                         []numbered // by number of the endpoint
	shownNames, shownRemotes        []numbered // by number of name and remote address
	endpoints, names, apps, remotes []uint32
}

// of begins with another block.
func (r *reading) of(b *scanned, classes []class) {
	r.scanned, r.classes = b, classes
	resize(&r.clients, len(b.Endpoints))
	resize(&r.shownNames, len(b.Names))
	resize(&r.shownRemotes, len(b.Remotes))
	resize(&r.endpoints, len(b.Endpoints))
	resize(&r.names, len(b.Names))
	resize(&r.apps, len(b.Apps))
	resize(&r.remotes, len(b.Remotes))
	r.renumbered()
}

// renumbered forgets the numbers, after texts have got others.
func (r *reading) renumbered() {
	for _, list := range [][]numbered{r.clients, r.shownNames, r.shownRemotes} {
		for i := range list {
			list[i].number = unknown
		}
	}
	for _, list := range [][]uint32{r.endpoints, r.names, r.apps, r.remotes} {
		for i := range list {
			list[i] = unknown
		}
	}
}

// resize makes a list one of n zeros, in its memory if it is enough.
func resize[T any](list *[]T, n int) {
	if cap(*list) < n {
		*list = make([]T, n, n+n/4)
		return
	}
	*list = (*list)[:n]
	clear(*list)
}

func (r *reading) owner(f *block.Flow) block.Endpoint {
	return clientOf(r.Endpoints[f.Endpoint])
}

// hashClient is the hash of a flow's client.
func (r *reading) hashClient(f *block.Flow) uint64 {
	n := &r.clients[f.Endpoint]
	if !n.hashed {
		n.hash, n.hashed = r.texts.ofEndpoint(r.owner(f)), true
	}
	return n.hash
}

// client is the number of a flow's client, which gets one if it has none.
func (r *reading) client(f *block.Flow) uint32 {
	n := &r.clients[f.Endpoint]
	if n.number == unknown {
		n.number = r.texts.endpoints.number(r.owner(f))
	}
	return n.number
}

// hashShown is the hash of what a flow's far end is shown as.
func (r *reading) hashShown(f *block.Flow) uint64 {
	if f.Name == 0 {
		n := &r.shownRemotes[f.Remote]
		if !n.hashed {
			n.hash, n.hashed = r.texts.ofAddr(r.Remotes[f.Remote]), true
		}
		return n.hash
	}
	n := &r.shownNames[f.Name]
	if !n.hashed {
		n.hashed = true
		switch c := &r.classes[f.Name]; {
		case c.group != "":
			n.hash = r.texts.ofName(c.group)
		case c.addr.IsValid():
			n.hash = r.texts.ofAddr(c.addr)
		default:
			n.hash = r.texts.ofName(r.Names[f.Name])
		}
	}
	return n.hash
}

// shown is the number of what a flow's far end is shown as, which gets one if it
// has none.
func (r *reading) shown(f *block.Flow) uint32 {
	if f.Name == 0 {
		n := &r.shownRemotes[f.Remote]
		if n.number == unknown {
			n.number = r.texts.remotes.number(r.Remotes[f.Remote]) | isAddress
		}
		return n.number
	}
	n := &r.shownNames[f.Name]
	if n.number == unknown {
		switch c := &r.classes[f.Name]; {
		case c.group != "":
			n.number = r.texts.names.number(c.group)
		case c.addr.IsValid():
			n.number = r.texts.remotes.number(c.addr) | isAddress
		default:
			n.number = r.texts.names.number(r.Names[f.Name])
		}
	}
	return n.number
}

// enter puts what a flow refers to into a new sum.
func (r *reading) enter(f *block.Flow, s *sum) {
	t := r.texts
	s.endpoint = number(r.endpoints, f.Endpoint, &t.endpoints, r.Endpoints, true)
	s.name = number(r.names, f.Name, &t.names, r.Names, true)
	s.app = number(r.apps, f.App, &t.names, r.Apps, true)
	s.remote = number(r.remotes, f.Remote, &t.remotes, r.Remotes, true)
}

// compare notes in a sum what differs in a flow that is added to it. What has no
// number is in no sum, and does not get one.
func (r *reading) compare(f *block.Flow, s *sum) {
	t := r.texts
	if s.endpoint != differs && s.endpoint != number(r.endpoints, f.Endpoint, &t.endpoints, r.Endpoints, false) {
		s.endpoint = differs
	}
	if s.name != differs && s.name != number(r.names, f.Name, &t.names, r.Names, false) {
		s.name = differs
	}
	if s.app != differs && s.app != number(r.apps, f.App, &t.names, r.Apps, false) {
		s.app = differs
	}
	if s.remote != differs && s.remote != number(r.remotes, f.Remote, &t.remotes, r.Remotes, false) {
		s.remote = differs
	}
}

// number is the number in t of the nth of values, which known holds for the next
// time; unknown if it has none, and is not given one either.
func number[K comparable](known []uint32, n uint32, t *interner[K], values []K, give bool) uint32 {
	if known[n] == unknown {
		v := values[n]
		h := t.hash(v)
		if i, ok := t.find(v, h); ok {
			known[n] = i
		} else if give {
			known[n] = t.add(v, h)
		}
	}
	return known[n]
}
