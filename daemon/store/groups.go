package store

import (
	"context"
	"hash/maphash"
)

// amounts is what a group is told by and has in sum, with numbers in texts instead
// of names and addresses.
type amounts struct {
	id          int64 // the least of the flows' ids
	of          int64 // port << 8 | protocol, or in a summary the start of the period
	seconds     int64 // durations
	sent, recvd uint64
	hash        uint32 // of the group
	flows       uint32
	// If it is by that, else differs: numbers in texts.endpoints, and in texts.names
	// or texts.remotes, see isAddress.
	client, shown uint32
}

// sum is a flow, or several put together, as a query holds it while it reads.
type sum struct {
	amounts
	end     int64  // of the flow that ends last, Unix ms
	unnamed uint64 // bytes to far ends of which only address and port are known; in a summary
	hidden  uint64 // bytes of flows that were left out for their names; likewise
	// What differs between the flows is differs. All are that in a summary.
	endpoint, name, app, remote uint32
	source, direction           uint8 // 0 if they differ
	running, large              bool  // at least one
}

// key is what a sum is sorted by.
func (s *sum) key(k Key) int64 {
	switch k {
	case BySent:
		return int64(s.sent)
	case ByRecvd:
		return int64(s.recvd)
	case ByTotal:
		return int64(s.sent + s.recvd)
	case ByDuration:
		return s.seconds
	}
	return s.id
}

// A table holds the sums of groups, in pieces: so that it grows without being
// copied. A lean one holds no more of them than their amounts.
type table struct {
	lean  bool
	leans [][]amounts
	sums  [][]sum
	n     int
	index []uint32 // open addressing; number of the sum + 1
}

const pieceSums = 1 << 10

func (t *table) at(n int) *amounts {
	if t.lean {
		return &t.leans[n/pieceSums][n%pieceSums]
	}
	return &t.sum(n).amounts
}

func (t *table) sum(n int) *sum { return &t.sums[n/pieceSums][n%pieceSums] }

// find is the number of a group, which is new if it had none.
func (t *table) find(hash uint32, client, shown uint32, of int64) (n int, isNew bool) {
	if 2*t.n >= len(t.index) {
		t.reindex(max(2*len(t.index), 2*pieceSums))
	}
	i := hash & uint32(len(t.index)-1)
	for ; t.index[i] != 0; i = (i + 1) & uint32(len(t.index)-1) {
		n := int(t.index[i] - 1)
		if s := t.at(n); s.hash == hash && s.client == client && s.shown == shown && s.of == of {
			return n, false
		}
	}
	n = t.n
	switch {
	case t.lean && n == len(t.leans)*pieceSums:
		t.leans = append(t.leans, make([]amounts, pieceSums))
	case !t.lean && n == len(t.sums)*pieceSums:
		t.sums = append(t.sums, make([]sum, pieceSums))
	}
	if !t.lean {
		*t.sum(n) = sum{}
	}
	*t.at(n) = amounts{hash: hash, client: client, shown: shown, of: of}
	t.n++
	t.index[i] = uint32(t.n)
	return n, true
}

// reindex makes the index anew, with n places; 0 means as many as there are.
func (t *table) reindex(n int) {
	if n > 0 {
		t.index = make([]uint32, n)
	} else {
		clear(t.index)
	}
	for k := range t.n {
		i := t.at(k).hash & uint32(len(t.index)-1)
		for t.index[i] != 0 {
			i = (i + 1) & uint32(len(t.index)-1)
		}
		t.index[i] = uint32(k + 1)
	}
}

// keep drops the sums that are not of a share.
func (t *table) keep(p share) {
	n := 0
	for k := range t.n {
		switch {
		case !p.has(t.at(k).hash):
			continue
		case t.lean:
			*t.at(n) = *t.at(k)
		default:
			*t.sum(n) = *t.sum(k)
		}
		n++
	}
	t.n = n
	t.reindex(0)
}

func (t *table) clear() {
	t.n = 0
	clear(t.index)
}

// share is the part of all groups whose hash begins with certain bits.
type share struct {
	bits  uint
	value uint32
}

func (p share) has(hash uint32) bool { return hash>>(31-p.bits)>>1 == p.value }

// halves are the two parts of a share.
func (p share) halves() (share, share) {
	return share{p.bits + 1, p.value << 1}, share{p.bits + 1, p.value<<1 | 1}
}

// The groups that a query holds at a time, at most: as many as take 6 MB.
const (
	maxGroups = 1 << 16
	maxLean   = 1 << 17
)

// gatherer reads flows and keeps the first sums in an order. Where it is to put
// flows together, it holds the groups that it has found so far. If these become
// too many, it goes on with a share of them, and reads all flows again for the
// rest: so that its memory is bounded whatever there is.
type gatherer struct {
	s       *Store
	filter  Filter
	batch   int64
	daily   func(span64) bool // see scan
	match   *matcher
	window  window
	texts   *texts
	reading reading
	front   front
	// take adds the flows of g.reading to table, or offers them to front.
	take func(*gatherer)
	// always tells of sums that are kept whether or not they are in front; nil of none.
	always func(*sum) bool
	kept   []sum
	all    all

	table     table
	maxGroups int
	share     share
	waiting   []share
	again     bool  // all flows have been read once
	hidden    Count // flows that were left out for their names; of a summary
	compacted int   // number of texts after compact
}

// all counts the sums that there are, whether or not they are kept.
type all struct {
	sums        int
	sent, recvd uint64
}

func (a *all) add(s *sum) {
	a.sums++
	a.sent += s.sent
	a.recvd += s.recvd
}

// newGatherer makes one for flows of f, as normal returns it, and of batches up
// to batch. The classes of names are needed if shown is set.
func (s *Store) newGatherer(f Filter, batch int64, shown bool, front front, take func(*gatherer)) (*gatherer, error) {
	match, err := s.newMatcher(f, shown)
	if err != nil {
		return nil, err
	}
	g := &gatherer{s: s, filter: f, batch: batch, match: match, window: f.window(), front: front, take: take, maxGroups: maxGroups}
	if s.maxGroups > 0 {
		g.maxGroups = s.maxGroups
	}
	g.texts = newTexts(maphash.MakeSeed())
	g.reading.texts = g.texts
	return g, nil
}

// gather reads the flows, as they are at one moment.
func (g *gatherer) gather(ctx context.Context) error {
	v, err := g.s.view(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	g.waiting = []share{{}}
	for len(g.waiting) > 0 {
		last := len(g.waiting) - 1
		g.share, g.waiting = g.waiting[last], g.waiting[:last]
		if err := v.scan(ctx, g.filter, g.batch, g.daily, g.block); err != nil {
			return err
		}
		g.finish()
		g.again = true
	}
	return nil
}

// finish offers the groups that it holds, and forgets them.
func (g *gatherer) finish() {
	for k := range g.table.n {
		if !g.table.lean {
			s := g.table.sum(k)
			g.all.add(s)
			if g.always != nil && g.always(s) {
				g.kept = append(g.kept, *s)
				continue
			}
			g.front.offer(s)
			continue
		}
		t := g.table.at(k)
		g.front.offer(&sum{amounts: *t, endpoint: differs, name: differs, app: differs, remote: differs})
	}
	g.table.clear()
	g.compact()
}

// block takes the flows of a block.
func (g *gatherer) block(b *scanned) error {
	g.match.read(b.Block)
	g.reading.of(b, g.match.classes)
	g.take(g)
	// Of flows that were in front for a while.
	if g.table.n == 0 && g.texts.len() > 2*g.compacted+blockFlows {
		g.compact()
	}
	return nil
}

// full goes on with half of the groups if there are too many.
func (g *gatherer) full() {
	for g.table.n > g.maxGroups && g.share.bits < 31 {
		var rest share
		g.share, rest = g.share.halves()
		g.waiting = append(g.waiting, rest)
		g.table.keep(g.share)
		g.compact()
	}
}

// compact forgets the texts to which no sum refers any more.
func (g *gatherer) compact() {
	old, t := g.texts, newTexts(g.texts.seed)
	for k := range g.table.n {
		if g.table.lean {
			t.moveAmounts(old, g.table.at(k))
		} else {
			t.move(old, g.table.sum(k))
		}
	}
	for k := range g.front.sums {
		t.move(old, &g.front.sums[k])
	}
	for k := range g.kept {
		t.move(old, &g.kept[k])
	}
	g.texts, g.reading.texts, g.compacted = t, t, t.len()
	g.reading.renumbered()
}

// move gives a sum numbers in t instead of those in old.
func (t *texts) move(old *texts, s *sum) {
	t.moveAmounts(old, &s.amounts)
	if s.endpoint != differs {
		s.endpoint = t.endpoints.number(old.endpoints.values[s.endpoint])
	}
	for _, n := range []*uint32{&s.name, &s.app} {
		if *n != differs {
			*n = t.names.number(old.names.values[*n])
		}
	}
	if s.remote != differs {
		s.remote = t.remotes.number(old.remotes.values[s.remote])
	}
}

func (t *texts) moveAmounts(old *texts, s *amounts) {
	if s.client != differs {
		s.client = t.endpoints.number(old.endpoints.values[s.client])
	}
	switch {
	case s.shown == differs:
	case s.shown&isAddress != 0:
		s.shown = t.remotes.number(old.remotes.values[s.shown&^isAddress]) | isAddress
	default:
		s.shown = t.names.number(old.names.values[s.shown])
	}
}
