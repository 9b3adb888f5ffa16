// Package flow makes one record of each connection of a client: it joins what
// the kernel counts of a connection with what Suricata's events tell of it,
// decides whose it is and whether it is recorded at all, and hands the flows on
// in batches, those of long connections again and again while they run. Where
// the kernel does not know a connection, Suricata's own count stands for it.
// Clients are looked up through a small interface; storing is left to package
// store.
package flow

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"pakon/daemon/client"
	"pakon/daemon/conntrack"
	"pakon/daemon/name"
	"pakon/suricata"
)

const (
	batchSize    = 256   // flows handed on at once
	maxPending   = 16384 // connections with a name whose end has not been seen
	maxMemory    = 6144  // pairs of client and address with a DNS answer
	maxEnded     = 1024  // connections that may go on after Suricata forgot them
	maxInterned  = 4096  // names and other strings kept to share memory
	maxSubjectDN = 1024  // bytes of a certificate's subject that are read
)

// MaxMemory bounds what a Table holds when all that it keeps is as large as it can be:
// connections, names that wait for their connections, answers of DNS, each name of
// nearly 255 bytes.
const MaxMemory = 48 << 20

// Clients tells of the clients' addresses and of this machine's own.
type Clients interface {
	// ByAddr returns the MAC with which frames of the address come.
	ByAddr(iface string, a netip.Addr) (client.MAC, bool)
	// Owner returns the device with the address, of those that use the MAC.
	Owner(frames client.MAC, a netip.Addr) client.MAC
	// SharesMAC tells whether several devices use the MAC.
	SharesMAC(frames client.MAC) bool
	// Interface returns a link of this machine.
	Interface(name string) (client.Interface, bool)
	// RouterMAC and RouterAddr tell this machine's own addresses.
	RouterMAC(client.MAC) bool
	RouterAddr(netip.Addr) bool
	// Seen notes a sign of life, at in Unix milliseconds.
	Seen(m client.MAC, a netip.Addr, iface string, at int64)
}

// Policy is what of the traffic is recorded.
type Policy struct {
	Off          bool                   // nothing is recorded at all
	Interfaces   []string               // bridges whose clients are recorded
	Aliases      map[string]string      // other names under which packets of one are reported
	ExcludeMACs  map[client.MAC]bool    // clients that are never recorded
	ExcludePeers map[netip.Addr]bool    // clients without a MAC that are never recorded
	ExcludeNames func(name string) bool // names that are never recorded; may be nil
	ExcludeAddrs map[netip.Addr]bool    // far ends that are never recorded
	Resolvers    []netip.Addr           // to which the owner sends the clients; may be the router
	// HourOffset is how much after a full hour of UTC the hours of this place
	// begin, in milliseconds: some zones are half an hour off.
	HourOffset int64
}

// Capture says how Suricata gets its packets.
type Capture struct {
	// Heads: it gets only the head of each connection, so its bytes are not
	// those of the connection.
	Heads bool
	// Uncounted: the kernel does not count the bytes of connections that are
	// offloaded; Suricata sees all of them.
	Uncounted bool
	// Devices are those that stand for a monitored interface.
	Devices map[string]string
}

// Table joins events and the kernel's connections to flows. Its methods may be
// called from any goroutine.
type Table struct {
	clients  Clients
	emit     func([]Flow)
	policy   atomic.Pointer[Policy]
	capture  atomic.Pointer[Capture]
	counters Counters

	mu        sync.Mutex
	suspended bool
	kernel    kernel
	coverage  coverage
	pending   *simplelru.LRU[uint64, pending]
	ended     *simplelru.LRU[tuple, pending] // by name
	memory    *name.Memory
	intern    *name.Interner
	gateways  map[client.MAC]bool
	tails     *simplelru.LRU[key, *tailed] // flows that Suricata counted, to which something may be added
	forgotten []forgetting
	leftOut   map[omission]omitted // since it was last told
	set       clockSet
	batch     []Flow
	buf       []byte
	records   []name.Record
	cert      name.CertificateNames
}

// pending is what is known of a connection before its end.
type pending struct {
	name   string
	source name.Source
	// resort is a name for want of a better one: what the server's certificate says,
	// or a name that the client stated as a cover for others.
	resort   string
	resortBy name.Source
	app      string // application protocol; only of connections that the kernel tracks
}

// tuple tells connections apart, from the client's side.
type tuple struct {
	client, remote         netip.Addr
	clientPort, remotePort uint16
	proto                  uint8
}

// New returns an empty table. emit receives the finished flows in batches; it
// must not keep the slice.
func New(clients Clients, emit func([]Flow)) *Table {
	t := &Table{
		clients:  clients,
		emit:     emit,
		intern:   name.NewInterner(maxInterned),
		gateways: make(map[client.MAC]bool),
		batch:    make([]Flow, 0, batchSize),
	}
	t.memory = name.NewMemory(maxMemory, t.intern)
	var err error
	t.pending, err = simplelru.NewLRU[uint64, pending](maxPending, nil)
	if err != nil {
		panic(err) // maxPending is positive
	}
	if t.ended, err = simplelru.NewLRU[tuple, pending](maxEnded, nil); err != nil {
		panic(err)
	}
	if t.tails, err = simplelru.NewLRU[key, *tailed](maxTails, nil); err != nil {
		panic(err)
	}
	t.policy.Store(&Policy{})
	t.capture.Store(&Capture{})
	t.kernel.init()
	return t
}

// SetCapture says how Suricata gets its packets from now on.
func (t *Table) SetCapture(c Capture) { t.capture.Store(&c) }

// Event takes one event of Suricata.
func (t *Table) Event(ev *suricata.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.policy.Load().Off {
		t.counters.add(Disabled)
		return
	}
	switch {
	case ev.Kind == suricata.DNS:
		t.counters.add(t.dns(ev))
	case sourceOf(ev.Kind) != name.None:
		t.counters.add(t.named(ev))
	case ev.Kind == suricata.Flow:
		ev.Flow.Start, ev.Flow.End = t.set.moved(ev.Flow.Start), t.set.moved(ev.Flow.End)
		if fate := t.end(ev); fate != waiting {
			t.counters.add(fate)
		}
	default:
		t.counters.add(OtherEvent)
	}
}

// Flush hands on the flows that are waiting for their batch to fill.
func (t *Table) Flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tellLeftOut(false)
	t.flush()
}

func (t *Table) flush() {
	if len(t.batch) > 0 {
		t.emit(t.batch)
		clear(t.batch)
		t.batch = t.batch[:0]
	}
}

// dns remembers the addresses that a client was told.
func (t *Table) dns(ev *suricata.Event) Fate {
	if !ev.DNS.Answer {
		return DNSQuery
	}
	if !t.monitored(ev.Interface) {
		return OtherInterface
	}
	if t.tunnelled(ev) {
		return OtherNetwork
	}
	if string(ev.DNS.Type) == "PTR" {
		return DNSNoAddress // what an address is called is not what was asked for
	}
	addr, mac := ev.Client().Addr(), client.MAC(ev.SrcMAC)
	server, serverMAC := ev.Dst.Addr(), client.MAC(ev.DstMAC)
	if addr != ev.Src.Addr() {
		mac, server, serverMAC = serverMAC, ev.Src.Addr(), mac
	}
	if !addr.IsValid() {
		return BadEvent
	}
	frames := t.frames(mac, t.iface(ev.Interface), addr)
	mac = t.clients.Owner(frames, addr)
	n := t.answer(t.who(mac, addr), ev)
	if t.clients.SharesMAC(frames) {
		// Nobody may know whose other addresses with the MAC are.
		t.answer(ofMAC(frames), ev)
	}
	if n == 0 {
		return DNSNoAddress
	}
	t.resolver(mac, addr, server, serverMAC)
	return DNSAnswer
}

// answer remembers an answer for a client.
func (t *Table) answer(who name.Client, ev *suricata.Event) (n int) {
	if ev.DNS.Version == 1 {
		for i := range ev.DNS.Answers {
			n += t.memory.AnswerRecord(who, ev.Time, recordOf(&ev.DNS.Answers[i]))
		}
		return n
	}
	t.records = t.records[:0]
	for i := range ev.DNS.Answers {
		t.records = append(t.records, recordOf(&ev.DNS.Answers[i]))
	}
	return t.memory.Answer(who, ev.Time, ev.DNS.Name, t.records)
}

// resolver notes what an answer tells of who asks for whom: a server inside of the
// house does, to which the owner sends the clients does, and who is answered from
// outside may.
func (t *Table) resolver(mac client.MAC, addr, server netip.Addr, serverMAC client.MAC) {
	router, who := t.clients.RouterAddr(addr), t.who(mac, addr)
	for _, a := range t.policy.Load().Resolvers {
		if m := t.macOf(client.MAC{}, "", a); !router && (a == addr || m == mac && !m.IsZero()) {
			t.memory.Serves(who)
		}
	}
	if t.clients.RouterAddr(server) || server == addr || server.IsLinkLocalUnicast() || server.IsMulticast() {
		return
	}
	if iface := t.networkOf(server); iface != "" {
		t.memory.Serves(t.who(t.macOf(serverMAC, iface, server), server))
	} else if t.networkOf(addr) != "" && !router {
		t.memory.AskedOutside(who)
	}
}

// recordOf is what a record says of names and addresses. Of HTTPS records Suricata
// tells only that they are there, not the target nor the hints of addresses.
func recordOf(r *suricata.Record) name.Record {
	out := name.Record{Owner: r.Name, TTL: r.TTL}
	switch string(r.Type) {
	case "A", "AAAA":
		out.Addr, _ = suricata.ParseAddr(r.Data)
	case "CNAME":
		out.Alias = r.Data
	}
	return out
}

// named remembers the name that a connection states until its end is seen.
func (t *Table) named(ev *suricata.Event) Fate {
	switch {
	case ev.FlowID == 0:
		return BadEvent // it belongs to no connection
	case !t.monitored(ev.Interface):
		return OtherInterface
	}
	t.connects(ev.SrcMAC, t.iface(ev.Interface), ev.Src.Addr(), ev.Dst.Addr())
	id, whole := idOf(ev)
	at := t.set.moved(ev.Time)
	var c *tracked
	if whole {
		c = t.kernel.certain(id, ev.FlowID, at)
	}
	if c != nil && c.fate != Uncounted {
		t.claim(c, ev.FlowID, at)
		fate := t.state(&c.pending, ev)
		if c.app == "" {
			c.app = appOf(ev.Kind)
		}
		t.identify(c, ev)
		t.judge(c)
		t.touch(c)
		return fate
	}
	p, _ := t.pending.Get(ev.FlowID)
	fate := t.state(&p, ev)
	expected := t.kernel.active || t.capture.Load().Heads // the kernel's word
	if expected {
		p.app = appOf(ev.Kind)
	}
	if p == (pending{}) {
		return fate
	}
	if t.pending.Add(ev.FlowID, p) {
		t.counters.namesDropped.Add(1)
	}
	if expected && whole && c == nil {
		t.hold(id, ev, at)
	}
	return fate
}

// state takes the name that an event states into p.
func (t *Table) state(p *pending, ev *suricata.Event) Fate {
	stated, fate := t.clean(ev.Name)
	p.take(stated, sourceOf(ev.Kind))
	t.cert.Common, t.cert.Alt = t.cert.Common[:0], nil
	if ev.Kind == suricata.TLS && p.source == name.None {
		if len(ev.Subject) <= maxSubjectDN {
			t.cert.Common = suricata.CommonNames(t.cert.Common, ev.Subject)
		}
		t.cert.Alt = ev.AltNames
		t.buf = t.cert.Name(t.buf[:0])
		p.take(t.str(t.buf), name.Certificate)
	}
	if p.source == name.None && (ev.Kind == suricata.TLS || p.resort != "") {
		// The connection begins now; by its end the answer may be forgotten.
		if p.name = t.answered(ev); p.name != "" {
			p.source = name.DNS
		}
	}
	if stated == "" {
		return fate
	}
	return Named
}

// take takes a name, if it is better than what p has.
func (p *pending) take(n string, source name.Source) {
	switch {
	case n == "":
	case source == name.Certificate || source > name.DNS && name.IsCover(n):
		if source > p.resortBy {
			p.resort, p.resortBy = n, source
		}
	case source > p.source:
		p.name, p.source = n, source
	}
}

// answered is the name by which the client found the far end of a connection
// that begins.
func (t *Table) answered(ev *suricata.Event) string {
	addr := ev.Src.Addr()
	if !addr.IsValid() || !ev.Dst.Addr().IsValid() {
		return ""
	}
	mac := t.macOf(client.MAC(ev.SrcMAC), t.iface(ev.Interface), addr)
	return t.asked(mac, addr, ev.Dst.Addr(), ev.Time, t.cert.Covers)
}

// appOf is the application protocol that an event of the kind tells of.
func appOf(k suricata.Kind) string { return sourceOf(k).String() }

// sourceOf is what a name is told by in events of the kind; None if they tell none.
func sourceOf(k suricata.Kind) name.Source {
	switch k {
	case suricata.TLS:
		return name.TLS
	case suricata.QUIC:
		return name.QUIC
	case suricata.HTTP:
		return name.HTTP
	}
	return name.None
}

// end takes the end of a connection.
func (t *Table) end(ev *suricata.Event) Fate {
	if fate := t.counted(ev); fate != Recorded {
		return fate
	}
	return t.own(ev)
}

// own makes the flow of a connection that has ended and that Suricata counts.
func (t *Table) own(ev *suricata.Event) Fate {
	p, _ := t.pending.Peek(ev.FlowID)
	t.pending.Remove(ev.FlowID)
	k := &t.kernel
	switch {
	case ev.Proto != TCP && ev.Proto != UDP:
		return OtherProtocol
	case !ev.Src.Addr().IsValid() || !ev.Dst.Addr().IsValid():
		return BadEvent
	case t.capture.Load().Heads:
		return HeadOnly
	case k.active && (ev.Flow.End < k.since || ev.Flow.End <= k.lost):
		return Earlier
	case !t.monitored(ev.Interface):
		return OtherInterface
	case t.tail(ev):
		return Recorded
	}
	moved, packets := [2]uint64{ev.Flow.BytesToServer, ev.Flow.BytesToClient}, ev.Flow.PktsToServer+ev.Flow.PktsToClient
	if !worth(true, moved) {
		return Unanswered
	}
	inside, fate := t.inside(ev)
	if fate != Recorded {
		return fate
	}
	f := Flow{
		Start: ev.Flow.Start, End: max(ev.Flow.Start, ev.Flow.End),
		Client: client.MAC(ev.SrcMAC), ClientAddr: ev.Src.Addr(), Remote: ev.Dst.Addr(),
		Proto: ev.Proto, App: t.str(ev.App), Interface: t.iface(ev.Interface),
		Sent: ev.Flow.BytesToServer, Recvd: ev.Flow.BytesToClient,
	}
	here, there := ev.Src.Port(), ev.Dst.Port()
	if inside == destination {
		f.Client = client.MAC(ev.DstMAC)
		f.ClientAddr, f.Remote = f.Remote, f.ClientAddr
		f.Sent, f.Recvd = f.Recvd, f.Sent
		here, there = there, here
	}
	if a := f.ClientAddr; a.IsUnspecified() || a.IsMulticast() || a == broadcast {
		return Unanswered // nobody's address: whoever asks all for one of its own
	}
	f.Direction, f.Port = opened(ev, inside, here, there)
	f.Client = t.macOf(f.Client, f.Interface, f.ClientAddr)
	net := netBytes(f.Sent+f.Recvd, packets)
	if isDNS(f.App, f.Direction, here, there) && !ev.Unrecognised && !exceedsDNS(net, packets) {
		t.leaveOut(&f, DNSFlow)
		return DNSFlow
	}
	if f.Direction == Out {
		t.connects(f.Client, f.Interface, f.ClientAddr, f.Remote)
	}
	f.Name, f.Source = t.nameOf(p, &f, tuple{f.ClientAddr, f.Remote, here, there, f.Proto}, ev.Midstream || f.Proto == UDP, string(ev.Flow.State) == "closed")
	if fate := t.excluded(&f); fate != Recorded {
		t.leaveOut(&f, fate)
		return fate
	}
	if t.wasForgotten(&f) {
		return Forgotten
	}
	if !f.Client.IsZero() {
		t.clients.Seen(f.Client, f.ClientAddr, f.Interface, f.End)
	}
	t.coverage.add(f.Interface, recorded, net, f.Source.Named(), f.Start)
	t.expectTail(ev, &f)
	t.record(f)
	if t.kernel.timeouts != (conntrack.Timeouts{}) {
		t.kernel.told.Add(keyOf(ev.Src, ev.Dst, ev.Proto), f.End)
	}
	return Recorded
}

// record hands a flow on with its batch.
func (t *Table) record(f Flow) {
	if t.suspended {
		return
	}
	t.batch = append(t.batch, f)
	if len(t.batch) == cap(t.batch) {
		t.flush()
	}
}

// nameOf chooses the name of a flow that has ended, in the order of trust. A
// connection that Suricata forgot while it was idle goes on as another flow,
// which then has the name of the one before. resumed: it may be such a one;
// over: there can be none after it.
func (t *Table) nameOf(p pending, f *Flow, c tuple, resumed, over bool) (string, name.Source) {
	if p.source != name.None {
		if !over {
			t.ended.Add(c, p)
		}
		return p.name, p.source
	}
	if before, ok := t.ended.Get(c); ok && resumed {
		return before.name, before.source
	}
	return t.found(f, &p, t.clients.RouterAddr(f.Remote))
}

// connects notes that a client has opened a connection itself: who asks for others
// hardly does.
func (t *Table) connects(m client.MAC, iface string, addr, remote netip.Addr) {
	if t.memory.Resolvers() > 0 && addr.IsValid() && remote.IsValid() {
		t.memory.Connects(t.who(t.macOf(m, iface, addr), addr), remote)
	}
}

// found names a flow whose far end nobody has named: as the client was answered,
// else as the server's certificate says, else as its address or port tell, else by
// the cover that the client stated. Nothing of that is kept, as a better name may
// come while it runs. router: its far end is this machine.
func (t *Table) found(f *Flow, p *pending, router bool) (string, name.Source) {
	certified := p.resortBy == name.Certificate
	if f.Direction == Out {
		prefer := func(n string) bool { return certified && n == p.resort }
		if n := t.asked(f.Client, f.ClientAddr, f.Remote, f.Start, prefer); n != "" {
			return n, name.DNS
		}
		if !certified {
			if n, source := name.WellKnown(f.Proto, f.Port, f.Remote, router); p.resort == "" || source.Named() {
				return n, source
			}
		}
	}
	return p.resort, p.resortBy
}

// asked is the name under which a client found a far end: as it was answered, else
// as those were who ask for the house.
func (t *Table) asked(m client.MAC, addr, remote netip.Addr, at int64, prefer func(string) bool) string {
	told := false
	for _, who := range t.askers(m, addr) {
		if n := t.memory.Lookup(who, remote, at, prefer); n != "" {
			return n
		}
		told = told || t.memory.Told(who)
	}
	return t.memory.LookupHouse(remote, at, told, prefer)
}

// askers are those whose answers a client may have received.
func (t *Table) askers(m client.MAC, addr netip.Addr) [2]name.Client {
	who, alone := t.who(m, addr), t.who(client.MAC{}, addr)
	if who == alone && !m.IsZero() && !t.memory.Told(who) {
		return [...]name.Client{who, ofMAC(m)} // it asks with another address
	}
	// Where Suricata does not tell MACs, the answer may have come before the
	// client's was known.
	return [...]name.Client{who, alone}
}

func (t *Table) excluded(f *Flow) Fate { return t.policy.Load().excluded(f) }

// Excludes tells whether a flow is not to be recorded for its client or far end.
func (p *Policy) Excludes(f *Flow) bool { return p.excluded(f) != Recorded }

func (p *Policy) excluded(f *Flow) Fate {
	switch {
	case p.ExcludeMACs[f.Client], f.Client.IsZero() && p.ExcludePeers[client.IDOf(f.Client, f.ClientAddr).Addr]:
		return ExcludedClient
	case f.Name != "" && p.ExcludeNames != nil && p.ExcludeNames(f.Name), p.ExcludeAddrs[f.Remote]:
		return ExcludedName
	}
	return Recorded
}

// monitored tells whether events of the interface count. Ways of capture that
// do not tell the interface see only monitored ones.
func (t *Table) monitored(iface []byte) bool {
	if len(iface) == 0 {
		return true
	}
	if c := t.capture.Load(); c.Heads { // Suricata is handed nothing else
		return true
	}
	p := t.policy.Load()
	for _, i := range p.Interfaces {
		if i == string(iface) {
			return true
		}
	}
	_, ok := p.Aliases[string(iface)]
	return ok
}

// iface is the monitored interface that a captured one stands for.
func (t *Table) iface(captured []byte) string {
	if i, ok := t.capture.Load().Devices[string(captured)]; ok {
		return i
	}
	if i, ok := t.policy.Load().Aliases[string(captured)]; ok {
		return i
	}
	return t.str(captured)
}

// macOf returns the MAC of the client with an address: of whom its frames are.
func (t *Table) macOf(m client.MAC, iface string, a netip.Addr) client.MAC {
	return t.clients.Owner(t.frames(m, iface, a), a)
}

// frames returns the MAC of a client's frames: the event's if it tells one of a
// client, else the neighbour's with that address.
func (t *Table) frames(m client.MAC, iface string, a netip.Addr) client.MAC {
	if !m.IsZero() && !m.IsGroup() && !t.clients.RouterMAC(m) {
		return m
	}
	m, _ = t.clients.ByAddr(iface, a)
	return m
}

// who is the client as the memory of DNS answers tells clients apart: by its MAC, or
// by its address if it has none of its own.
func (t *Table) who(m client.MAC, a netip.Addr) name.Client {
	if m.IsZero() || a.IsValid() && t.clients.SharesMAC(m) {
		return a.As16()
	}
	return ofMAC(m)
}

// ofMAC stands in the memory of DNS answers for all who use a MAC.
func ofMAC(m client.MAC) name.Client {
	c := name.Client{0: 0xff, 1: 0xff} // no client's address begins so (multicast)
	copy(c[10:], m[:])
	return c
}

// clientOf is the reverse of who and ofMAC: the client's MAC, or else its address.
func clientOf(c name.Client) (m client.MAC, a netip.Addr) {
	if c[0] == 0xff && c[1] == 0xff {
		copy(m[:], c[10:])
		return m, a
	}
	return m, netip.AddrFrom16(c).Unmap()
}

func (t *Table) str(b []byte) string { return t.intern.String(b) }

// clean returns the stored form of a name, or why there is none.
func (t *Table) clean(raw []byte) (string, Fate) {
	if len(raw) == 0 {
		return "", NoName
	}
	t.buf = name.Clean(t.buf[:0], raw)
	if len(t.buf) == 0 {
		return "", BadName
	}
	return t.str(t.buf), Named
}
