package household

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"sort"
)

const (
	second         = 1_000_000 // the clock counts microseconds
	firstPort      = 32768
	ephemeralPorts = 28000
	torrentPort    = 51413
	dayParts       = 96 // a day is made of, for its profile
)

// life is a household while time passes.
type life struct {
	cfg   Config
	w     *world
	r     *rand.Rand
	out   *bufio.Writer // nil: rows only
	row   func(*Row)
	q     queue
	seq   uint64
	made  int // events put into the queue
	wrote int // events that came out
	rows  int
	free  [][]byte // lines to use again
	stamp stamp

	start   float64   // Unix seconds
	step    float64   // length of a slice of the profile, in seconds
	profile []float64 // cumulated activity
	pause   float64   // least mean time between sessions, so that time never stands still
}

func newLife(cfg Config, w io.Writer, row func(*Row)) *life {
	l := &life{cfg: cfg, w: newWorld(cfg), r: rand.New(rand.NewPCG(cfg.Seed, 2+cfg.Life)), row: row}
	if w != nil {
		l.out = bufio.NewWriterSize(w, 1<<18)
	}
	span := cfg.Days * 86400
	l.start = float64(cfg.End.UnixMicro())/second - span
	l.pause = span / float64(2*max(cfg.Events, 4*cfg.Rows))
	n := max(dayParts, int(cfg.Days*dayParts))
	l.step = span / float64(n)
	l.profile = make([]float64, n+1)
	for i := range n {
		l.profile[i+1] = l.profile[i] + activity(l.start+(float64(i)+.5)*l.step)
	}
	return l
}

// activity is how busy people are at a time of the day (UTC): most at eight in
// the evening, a seventh of that in the morning before they get up.
func activity(unix float64) float64 {
	hour := math.Mod(unix/3600, 24)
	return 0.15 + 0.85*math.Pow(0.5+0.5*math.Cos((hour-20)/24*2*math.Pi), 1.5)
}

// when is the time at which the given part of all events has happened.
func (l *life) when(done float64) float64 {
	n := len(l.profile) - 1
	p := l.profile[n] * min(1, done)
	i := min(max(sort.SearchFloat64s(l.profile, p)-1, 0), n-1)
	return l.start + (float64(i)+(p-l.profile[i])/(l.profile[i+1]-l.profile[i]))*l.step
}

func (l *life) done() float64 {
	d := 0.0
	if l.cfg.Events > 0 {
		d = float64(l.made) / float64(l.cfg.Events)
	}
	if l.cfg.Rows > 0 {
		d = max(d, float64(l.rows)/float64(l.cfg.Rows))
	}
	return d
}

func (l *life) full() bool {
	return l.cfg.Events > 0 && l.wrote >= l.cfg.Events || l.cfg.Rows > 0 && l.rows >= l.cfg.Rows
}

// run lets time pass until there are enough events or rows.
func (l *life) run() error {
	now := l.start
	for i := 0; !l.full(); i++ {
		now = max(now, l.when(l.done())) + l.r.ExpFloat64()*l.pause
		l.session(int64(now * second))
		if i%64 == 0 {
			if err := l.flush(int64(now * second)); err != nil {
				return err
			}
		}
		if i%8192 == 0 {
			l.forget(int64(now * second))
		}
	}
	if l.out == nil {
		return nil
	}
	if err := l.out.Flush(); err != nil {
		return fmt.Errorf("household: writing events: %w", err)
	}
	return nil
}

// flush lets happen what is due.
func (l *life) flush(now int64) error {
	for len(l.q) > 0 && l.q[0].at <= now && !l.full() {
		it := l.q.pop()
		switch it.what {
		case connecting:
			if h := it.dev.called(it.row.Remote, it.at); h != nil {
				it.row.Name, it.row.Source = h.name, "dns"
			}
			continue
		case answered:
			addrs := it.host.v4
			if it.v6 {
				addrs = it.host.v6
			}
			for _, a := range addrs {
				it.dev.learn(a, it.host, it.at)
			}
		}
		l.wrote++
		if l.out != nil {
			if _, err := l.out.Write(it.line); err != nil {
				return fmt.Errorf("household: writing events: %w", err)
			}
			l.free = append(l.free, it.line)
		}
		if it.row != nil {
			l.rows++
			if l.row != nil {
				l.row(it.row)
			}
		}
	}
	return nil
}

// forget keeps long lives from filling memory.
func (l *life) forget(now int64) {
	for _, d := range l.w.devices {
		for h, until := range d.expires {
			if until < now {
				delete(d.expires, h)
			}
		}
	}
}

// put queues an event.
func (l *life) put(it item) {
	l.seq++
	l.made++
	it.seq = l.seq
	l.q.push(it)
}

// ask queues the moment at which only DNS tells what a connection is called.
func (l *life) ask(at int64, d *device, row *Row) {
	l.seq++
	l.q.push(item{at: at, seq: l.seq, what: connecting, dev: d, row: row})
}

func (l *life) span(mean float64) int64 { return int64(l.r.ExpFloat64() * mean * second) }

func (l *life) lognormal(mu, sigma float64) float64 {
	return math.Exp(mu + sigma*l.r.NormFloat64())
}

func (l *life) chance(p float64) bool { return l.r.Float64() < p }

func (l *life) highPort() uint16 { return uint16(1024 + l.r.IntN(60000)) }

func (l *life) session(at int64) {
	x := l.r.Float64()
	switch {
	case x < l.cfg.P2P:
		l.torrent(at)
	case x < l.cfg.P2P+l.cfg.Noise:
		l.noise(at)
	case x < l.cfg.P2P+l.cfg.Noise+l.cfg.Inbound:
		l.inbound(at)
	default:
		d := l.w.randomDevice(l.r)
		for range 1 + int(l.r.ExpFloat64()/.7) {
			l.visit(d, l.choose(d), at)
			at += l.span(2)
		}
	}
}

// choose finds where a device goes: mostly where it always goes.
func (l *life) choose(d *device) *host {
	if l.chance(.6) {
		x := l.r.Float64()
		return d.favourites[int(float64(len(d.favourites))*x*x)]
	}
	return l.w.randomHost(l.r)
}

// visit resolves a name, unless the device still knows it, and opens
// connections.
func (l *life) visit(d *device, h *host, at int64) {
	if d.expires[h] <= at {
		over6 := len(d.v6) > 0 && l.chance(.3)
		ready := l.resolve(d, h, at, false, over6)
		if len(d.v6) > 0 {
			ready = max(ready, l.resolve(d, h, at+400, true, over6))
		}
		d.expires[h] = at + int64(max(h.ttl, 60))*second
		at = ready
	}
	addrs, src := h.v4, d.v4
	if len(d.v6) > 0 && len(h.v6) > 0 && l.chance(.8) {
		addrs, src = h.v6, d.v6[0]
		if l.chance(.8) {
			src = d.v6[len(d.v6)-1]
		}
	}
	n := 1
	if l.chance(.6) {
		n = min(1+int(l.r.ExpFloat64()/.9), 6)
	}
	for range n {
		at += 1 + l.span(1.0/6)
		d.port = firstPort + (d.port-firstPort+1+uint16(l.r.IntN(4)))%ephemeralPorts
		l.connect(d, h, at, netip.AddrPortFrom(src, d.port), pick(l.r, addrs))
	}
}

// connect makes one connection of a visit.
func (l *life) connect(d *device, h *host, at int64, src netip.AddrPort, to netip.Addr) {
	length := min(l.lognormal(1.5, 1.8), 14400)
	mu, sigma := 8.7, 1.6
	if h.bulk {
		mu, sigma = 13.5, 2.0
	}
	recvd := uint64(min(max(l.lognormal(mu, sigma), 180), 8<<30))
	sent := uint64(l.lognormal(7.4, 1.1)) + 200
	c := conn{
		net: d.net, id: l.flowID(), src: src, proto: TCP,
		srcMAC: d.MAC, dstMAC: d.net.routerMAC, start: at,
		toServer: sent, toClient: recvd,
	}
	row := &Row{Device: d.Name}
	row.MAC, row.Name = d.MAC, h.name
	switch {
	case h.plain:
		c.dst, c.app, c.length = netip.AddrPortFrom(to, 80), "http", int64(max(length, .4)*second)
		row.Source = "http"
		if l.chance(.02) { // a request of HTTP/1.0, without a Host
			l.http(&c, "", 0)
			row.Name, row.Source = "", ""
			l.ask(at, d, row)
			break
		}
		for i := range 1 + l.r.IntN(2) {
			l.http(&c, h.name, i)
		}
	case h.quic && l.chance(.7):
		c.dst, c.app, c.length = netip.AddrPortFrom(to, 443), "quic", int64(max(length, .1)*second)
		c.proto = UDP
		c.toServer, c.toClient = sent+1200, recvd+1200
		row.Source = "quic"
		l.quic(&c, h.name)
	default:
		c.dst, c.app, c.length = netip.AddrPortFrom(to, 443), "tls", int64(max(length, .2)*second)
		c.toServer, c.toClient = sent+700, recvd+3000
		row.Source = "tls"
		sni, v12 := h.name, l.chance(.2)
		if l.chance(.02) {
			sni = ""
			if row.Source = "dns"; !v12 { // a certificate would tell which of the answers it was
				row.Name, row.Source = "", ""
				l.ask(at, d, row)
			}
		}
		l.tls(&c, h.name, sni, v12)
	}
	l.end(&c, row)
}

// resolve asks for one kind of address and returns when the answer is there.
func (l *life) resolve(d *device, h *host, at int64, v6, over6 bool) int64 {
	src, server := d.v4, d.net.gateway4
	if over6 {
		src, server = d.v6[0], d.net.gateway6
	}
	answers := len(h.chain) + len(h.v4)
	if v6 {
		answers = len(h.chain) + len(h.v6)
	}
	c := conn{
		net: d.net, id: l.flowID(), proto: UDP, app: "dns",
		src: netip.AddrPortFrom(src, l.highPort()), dst: netip.AddrPortFrom(server, 53),
		srcMAC: d.MAC, dstMAC: d.net.routerMAC,
		start: at, length: int64(second/1000) + l.span(1.0/60),
		toServer: uint64(68 + len(h.name)), toClient: uint64(60 + len(h.name) + 28*answers),
	}
	if l.cfg.Queries {
		l.dnsQuery(&c, h, v6)
	}
	l.dnsAnswer(&c, d, h, v6)
	l.end(&c, nil)
	return c.start + c.length
}

// torrent is a burst of a peer-to-peer program: most peers are gone.
func (l *life) torrent(at int64) {
	d := l.w.torrent
	for range 4 + l.r.IntN(12) {
		at += 1 + l.span(.1)
		c := conn{
			net: d.net, id: l.flowID(), proto: UDP, app: "failed",
			src:    netip.AddrPortFrom(d.v4, torrentPort),
			dst:    netip.AddrPortFrom(outside4(l.r), uint16(1025+l.r.IntN(64000))),
			srcMAC: d.MAC, dstMAC: d.net.routerMAC, start: at, toServer: 145,
		}
		switch x := l.r.Float64(); {
		case x < .55: // no answer
		case x < .9:
			c.length, c.toClient = second/5, uint64(120+l.r.IntN(280))
			if l.chance(.5) {
				c.app = "bittorrent-dht"
			}
		default:
			c.proto, c.length = TCP, int64(min(l.lognormal(3, 1), 3600)*second)
			c.src = netip.AddrPortFrom(d.v4, l.highPort())
			c.toServer, c.toClient = 100+uint64(l.lognormal(10, 2)), 100+uint64(l.lognormal(11, 2))
		}
		l.end(&c, l.unnamed(d, &c))
	}
}

var (
	mdns = netip.MustParseAddrPort("224.0.0.251:5353")
	ssdp = netip.MustParseAddrPort("239.255.255.250:1900")
)

// noise is what a collector must look at and mostly not keep.
func (l *life) noise(at int64) {
	d := l.w.randomDevice(l.r)
	c := conn{
		net: d.net, id: l.flowID(), proto: UDP, app: "failed",
		src:    netip.AddrPortFrom(d.v4, l.highPort()),
		srcMAC: d.MAC, dstMAC: d.net.routerMAC, start: at,
	}
	switch x := l.r.Float64(); {
	case x < .3: // nobody there
		c.proto, c.app, c.length, c.toServer = TCP, "", 3*second, 180
		c.dst = netip.AddrPortFrom(outside4(l.r), pick(l.r, []uint16{443, 80, 5222, 8443}))
	case x < .5:
		c.src, c.dst = netip.AddrPortFrom(d.v4, mdns.Port()), mdns
		c.dstMAC, c.toServer = MAC{1, 0, 0x5e, 0, 0, 0xfb}, uint64(80+l.r.IntN(320))
	case x < .6:
		c.dst, c.dstMAC, c.toServer = ssdp, MAC{1, 0, 0x5e, 0x7f, 0xff, 0xfa}, 690
	case x < .85:
		c.src, c.dst = netip.AddrPortFrom(d.v4, 123), netip.AddrPortFrom(outside4(l.r), 123)
		c.app, c.length, c.toServer, c.toClient = "ntp", second/50, 90, 90
		l.end(&c, l.unnamed(d, &c))
		return
	case x < .93 && len(d.v6) > 0:
		c.proto, c.app, c.toServer = icmp6, "", 86
		c.src, c.dst = netip.AddrPortFrom(d.v6[0], 0), netip.AddrPortFrom(d.net.gateway6, 0)
	default:
		c.proto, c.app, c.length, c.toServer, c.toClient = icmp4, "", second, 98, 98
		c.src, c.dst = netip.AddrPortFrom(d.v4, 0), netip.AddrPortFrom(outside4(l.r), 0)
	}
	l.end(&c, nil)
}

// inbound is someone outside who knocks at a device; half are let in.
func (l *life) inbound(at int64) {
	d := pick(l.r, l.w.devices)
	src, dst := outside4(l.r), d.v4
	if len(d.v6) > 0 && l.chance(.5) {
		src, dst = outside6(l.r), d.v6[0]
	}
	c := conn{
		net: d.net, id: l.flowID(), proto: TCP,
		src:    netip.AddrPortFrom(src, l.highPort()),
		dst:    netip.AddrPortFrom(dst, pick(l.r, []uint16{22, 80, 443, torrentPort})),
		srcMAC: d.net.routerMAC, dstMAC: d.MAC,
		start: at, length: second, toServer: 120, toClient: uint64(60 * l.r.IntN(2)),
	}
	if c.toClient == 0 {
		l.end(&c, nil)
		return
	}
	row := &Row{Device: d.Name}
	row.MAC, row.Inbound = d.MAC, true
	l.end(&c, row)
}

// unnamed is the row of a connection that nothing names; nil if it was not
// answered.
func (l *life) unnamed(d *device, c *conn) *Row {
	if c.toClient == 0 {
		return nil
	}
	row := &Row{Device: d.Name}
	row.MAC = d.MAC
	// An address that happens to be a host's would be named after it.
	l.ask(c.start, d, row)
	return row
}

// end queues the flow's record, which Suricata writes some time after the last
// packet, and fills in the row.
func (l *life) end(c *conn, row *Row) {
	lag := 15.0
	switch {
	case c.proto == TCP && c.toClient > 0:
		lag = 10
	case c.toClient > 0 || c.proto == TCP:
		lag = 30
	}
	at := c.start + c.length + int64((lag+30*l.r.Float64())*second)
	if row != nil {
		row.Start, row.End = c.start/1000, (c.start+c.length)/1000
		row.Port, row.OpenerPort = c.dst.Port(), c.src.Port()
		row.Proto, row.Interface = c.proto, c.net.name
		if c.app != "failed" {
			row.App = c.app
		}
		row.Local, row.Remote, row.Sent, row.Recvd = c.src.Addr(), c.dst.Addr(), c.toServer, c.toClient
		if row.Inbound {
			row.Local, row.Remote, row.Sent, row.Recvd = c.dst.Addr(), c.src.Addr(), c.toClient, c.toServer
		}
	}
	it := item{at: at, what: flowEnded, row: row}
	if l.out != nil {
		it.line = l.flowEvent(c, at)
	}
	l.put(it)
}

func (l *life) flowID() uint64 { return l.r.Uint64()>>14 | 1<<50 }
