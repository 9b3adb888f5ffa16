package name

import (
	"bytes"
	"iter"
	"math"
	"net/netip"
	"slices"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	maxChain      = 16        // CNAMEs followed in one answer
	maxCandidates = 3         // names remembered for one address of one client
	maxClients    = 512       // remembered, see makePlace
	latecomers    = 128       // of the clients that came last, one goes first
	settleTime    = 3600      // seconds from its first answer after which a client that asks is no newcomer
	maxAliases    = 1024      // CNAMEs remembered between the events of one answer
	maxResolvers  = 32        // clients that may ask for others
	minTTL        = 60        // seconds; programs keep an address at least this long
	maxTTL        = 24 * 3600 // seconds
	slack         = 2         // seconds by which a connection may seem to begin before its answer
)

// Record is one resource record of an answer.
type Record struct {
	Owner []byte
	Addr  netip.Addr // of A and AAAA records; else not valid
	Alias []byte     // target of CNAME records; else nil
	TTL   uint32     // seconds
}

// Memory holds the DNS answers that the clients received: per client and
// address the names that were asked for. It is bounded: when it is full, the
// client with the most addresses loses those that it has not used longest, so
// that none can make it forget what it knows of the others. Nor can many that are
// made up: who has asked for less than an hour is a newcomer, and newcomers have at
// most half of it if others need the rest, of which the latest go first. It is not
// safe for concurrent use.
type Memory struct {
	size      int // most pairs of client and address
	pairs     int
	clients   *simplelru.LRU[Client, *asker]
	newcomers []*asker // in the order in which they came
	newPairs  int      // of newcomers
	aliases   *simplelru.LRU[alias, string]
	resolvers *simplelru.LRU[Client, *resolver]
	nat64     nat64
	intern    *Interner
	buf       []byte
	chain     [][]byte
}

// Client is a client as Memory tells clients apart: whatever 16 bytes stand
// for it.
type Client [16]byte

// addresses are the names of one client's addresses.
type addresses = simplelru.LRU[[16]byte, *candidates]

// asker is a client with what it was told.
type asker struct {
	*addresses
	client      Client
	first, last uint32 // answers, in Unix seconds
	newcomer    bool
}

type alias struct {
	client Client
	target string
}

// candidate is a name that an address may have for a client.
type candidate struct {
	name        string
	first, last uint32 // Unix time of the first and the latest answer, in seconds to save memory
	expires     uint32
	used        bool // the client has connected to the address since the latest answer
}

// second is the Unix second of a time in ms.
func second(ms int64) uint32 { return uint32(min(max(ms/1000, 0), math.MaxUint32-maxTTL-slack)) }

type candidates [maxCandidates]candidate // latest answer first; "" ends it

// NewMemory returns a Memory of at most size pairs of client and address.
func NewMemory(size int, intern *Interner) *Memory {
	m := &Memory{size: size, intern: intern}
	var err error
	if m.clients, err = simplelru.NewLRU[Client, *asker](maxClients, nil); err != nil {
		panic(err) // maxClients is positive
	}
	if m.aliases, err = simplelru.NewLRU[alias, string](maxAliases, nil); err != nil {
		panic(err)
	}
	if m.resolvers, err = simplelru.NewLRU[Client, *resolver](maxResolvers, nil); err != nil {
		panic(err)
	}
	return m
}

// Len is the number of pairs of client and address that are remembered.
func (m *Memory) Len() int { return m.pairs }

// Answer remembers the addresses that client received at the time at (Unix ms)
// when it asked for the name asked. Only records on the chain of CNAMEs that
// begins at asked count, so that an answer can not name addresses of others.
// It returns how many addresses it took.
func (m *Memory) Answer(client Client, at int64, asked []byte, records []Record) int {
	name := m.clean(asked)
	if name == "" {
		return 0
	}
	m.follow(asked, records)
	n := 0
	for _, r := range records {
		if r.Addr.IsValid() && m.onChain(r.Owner) {
			m.add(client, r.Addr, name, at, r.TTL)
			n++
		}
	}
	return n
}

// AnswerRecord does the same for a record that arrives in an event of its own,
// as in version 1 of Suricata's DNS events: the chain of CNAMEs is then spread
// over events in the order of the answer.
func (m *Memory) AnswerRecord(client Client, at int64, r Record) int {
	name := m.clean(r.Owner)
	if name == "" {
		return 0
	}
	if root, ok := m.aliases.Get(alias{client, name}); ok {
		name = root
	}
	if r.Alias != nil {
		// What is kept is the name at the beginning of the chain, so a loop
		// of CNAMEs ends at once.
		if target := m.clean(r.Alias); target != "" && target != name {
			m.aliases.Add(alias{client, target}, name)
		}
		return 0
	}
	if !r.Addr.IsValid() {
		return 0
	}
	m.add(client, r.Addr, name, at, r.TTL)
	return 1
}

// Lookup returns the name that addr most likely had for client when a
// connection began at the time at (Unix ms), or "". Where several names share
// the address, the one that is preferred counts, as by the server's certificate;
// else the latest answer that was valid then. prefer may be nil. An address that
// stands for one of IPv4 has the name of that, unless it has one of its own.
func (m *Memory) Lookup(client Client, addr netip.Addr, at int64, prefer func(name string) bool) string {
	a, ok := m.clients.Get(client)
	if !ok {
		return ""
	}
	began := second(at)
	for known := range m.known(a, addr) {
		if n := known.best(began, prefer); n != "" {
			return n
		}
	}
	return ""
}

// known yields the names of an address, then those of the address inside of it.
func (m *Memory) known(a *asker, addr netip.Addr) iter.Seq[*candidates] {
	return func(yield func(*candidates) bool) {
		if c, ok := a.Get(addr.As16()); ok && !yield(c) {
			return
		}
		for v4 := range m.nat64.inside(addr) {
			if c, ok := a.Get(v4.As16()); ok && !yield(c) {
				return
			}
		}
	}
}

// best is the name for a connection that began at a time, in Unix seconds.
func (c *candidates) best(began uint32, prefer func(name string) bool) string {
	best, bestRank := "", [2]int64{-1, 0}
	for i := range c {
		e := &c[i]
		if e.name == "" {
			break
		}
		if e.first > began+slack {
			continue // asked for after the connection began
		}
		if prefer != nil && prefer(e.name) {
			return e.name
		}
		rank := [2]int64{0, int64(e.first)}
		if began <= e.expires {
			rank[0] = 1
		}
		if e.last <= began+slack {
			rank[1] = int64(e.last)
		}
		if rank[0] > bestRank[0] || rank[0] == bestRank[0] && rank[1] > bestRank[1] {
			best, bestRank = e.name, rank
		}
	}
	return best
}

// learnedTTL is for how many seconds a name is good whose answer's time to live
// is not known.
const learnedTTL = 3600

// Learn remembers what a client was told that an address is called, by an answer
// of which no more is known than when it was good.
func (m *Memory) Learn(client Client, addr netip.Addr, name string, at int64) {
	if n := m.clean([]byte(name)); n != "" && addr.IsValid() {
		m.add(client, addr, n, at, learnedTTL)
	}
}

// Answered is that an address has a name for a client.
type Answered struct {
	Client Client
	Addr   netip.Addr
	Name   string
	Last   int64 // when it was last told, in Unix ms to the second
}

// Forget forgets the answers that match.
func (m *Memory) Forget(match func(Answered) bool) {
	for _, client := range m.clients.Keys() {
		a, _ := m.clients.Peek(client)
		for _, addr := range a.Keys() {
			c, _ := a.Peek(addr)
			left := candidates{}
			n := 0
			for i := range c {
				e := c[i]
				if e.name != "" && !match(Answered{client, netip.AddrFrom16(addr).Unmap(), e.name, int64(e.last) * 1000}) {
					left[n] = e
					n++
				}
			}
			if *c = left; n == 0 {
				a.Remove(addr)
				m.count(a, -1)
			}
		}
		if a.Len() == 0 {
			m.drop(a)
		}
	}
	m.aliases.Purge() // of answers that are still being told: the next ones are whole
	clear(m.intern.m)
}

func (m *Memory) clean(raw []byte) string {
	m.buf = Clean(m.buf[:0], raw)
	return m.intern.String(m.buf)
}

// follow lists the names from asked to the end of its chain of CNAMEs. Each
// step takes one record, so a loop ends with the bound on steps.
func (m *Memory) follow(asked []byte, records []Record) {
	m.chain = append(m.chain[:0], asked)
	for len(m.chain) <= maxChain {
		next := target(m.chain[len(m.chain)-1], records)
		if next == nil || m.onChain(next) {
			return
		}
		m.chain = append(m.chain, next)
	}
}

func target(owner []byte, records []Record) []byte {
	for _, r := range records {
		if r.Alias != nil && equalName(r.Owner, owner) {
			return r.Alias
		}
	}
	return nil
}

func (m *Memory) onChain(owner []byte) bool {
	for _, n := range m.chain {
		if equalName(n, owner) {
			return true
		}
	}
	return false
}

func equalName(a, b []byte) bool {
	return bytes.EqualFold(bytes.TrimSuffix(a, []byte(".")), bytes.TrimSuffix(b, []byte(".")))
}

func (m *Memory) add(client Client, to netip.Addr, name string, at int64, ttl uint32) {
	if name == ipv4only {
		m.nat64.learn(to)
	}
	addr := to.As16()
	now := second(at)
	expires := now + min(max(ttl, minTTL), maxTTL)
	a := m.asker(client, now)
	c, ok := a.Get(addr)
	if !ok {
		if m.pairs == m.size {
			m.makeRoom()
		}
		a.Add(addr, &candidates{{name: name, first: now, last: now, expires: expires}})
		m.count(a, 1)
		return
	}
	i := 0
	for i < maxCandidates-1 && c[i].name != "" && c[i].name != name {
		i++
	}
	e := candidate{name: name, first: now, last: now, expires: expires}
	if c[i].name == name {
		e.first = c[i].first
	}
	copy(c[1:i+1], c[:i])
	c[0] = e
}

// asker returns a client that is answered now.
func (m *Memory) asker(client Client, now uint32) *asker {
	a, ok := m.clients.Get(client)
	if !ok {
		if m.clients.Len() == maxClients {
			m.makePlace(now)
		}
		of, err := simplelru.NewLRU[[16]byte, *candidates](m.size, nil)
		if err != nil {
			panic(err) // size is not positive: a programmer's error
		}
		a = &asker{addresses: of, client: client, first: now, newcomer: true}
		m.clients.Add(client, a)
		m.newcomers = append(m.newcomers, a)
	}
	if a.last = max(a.last, now); a.newcomer && now >= a.first+settleTime {
		m.settle(a)
	}
	return a
}

// settle notes that a newcomer is none any more.
func (m *Memory) settle(a *asker) {
	i := slices.Index(m.newcomers, a)
	m.newcomers = slices.Delete(m.newcomers, i, i+1)
	m.newPairs -= a.Len()
	a.newcomer = false
}

// count notes that a client has so many addresses more.
func (m *Memory) count(a *asker, n int) {
	m.pairs += n
	if a.newcomer {
		m.newPairs += n
	}
}

// drop forgets a client.
func (m *Memory) drop(a *asker) {
	if a.newcomer {
		m.settle(a)
	}
	m.count(a, -a.Len())
	m.clients.Remove(a.client)
}

// makePlace forgets a client for another: a newcomer if they are more than half, and
// else the one longest without a question. Of newcomers that is one of the latest, so
// that those who were there before a flood stay: one that has asked for nothing for
// long, or else the one with the fewest addresses.
func (m *Memory) makePlace(now uint32) {
	_, gone, _ := m.clients.GetOldest()
	if n := len(m.newcomers); n > maxClients/2 {
		gone = m.newcomers[n-1]
		for _, a := range slices.Backward(m.newcomers[max(0, n-latecomers):]) {
			if a.last+settleTime < now {
				gone = a
				break
			}
			if a.Len() < gone.Len() {
				gone = a
			}
		}
	}
	m.drop(gone)
}

// makeRoom takes a few addresses from the client that has the most, a newcomer if
// those have more than half of them.
func (m *Memory) makeRoom() {
	var most *asker
	for _, a := range m.clients.Values() {
		if (most == nil || a.Len() > most.Len()) && (a.newcomer || m.newPairs <= m.size/2) {
			most = a
		}
	}
	n := min(most.Len(), 1+m.size/100)
	for range n {
		most.RemoveOldest()
	}
	m.count(most, -n)
}
