package household

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// Device is one of the household's machines.
type Device struct {
	Name      string
	MAC       MAC
	Interface string       // the bridge it is attached to
	Addrs     []netip.Addr // IPv4 first
}

// Devices are the machines of the household that cfg describes.
func Devices(cfg Config) ([]Device, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	w := newWorld(cfg)
	list := make([]Device, len(w.devices))
	for i, d := range w.devices {
		list[i] = d.Device
	}
	return list, nil
}

const maxDevices = 400

// network is one of the router's bridges.
type network struct {
	name             string
	gateway4         netip.Addr
	gateway6         netip.Addr
	routerMAC        MAC
	prefix4, prefix6 []byte
}

var networks = [2]network{
	{
		name: "br-lan", gateway4: netip.MustParseAddr("192.168.1.1"), gateway6: netip.MustParseAddr("2001:db8:42:1::1"),
		routerMAC: MAC{2, 0, 0x5e, 0, 0, 1}, prefix4: []byte{192, 168, 1}, prefix6: []byte{0x20, 1, 0x0d, 0xb8, 0, 0x42, 0, 1},
	}, {
		name: "br-guest_turris", gateway4: netip.MustParseAddr("192.168.2.1"), gateway6: netip.MustParseAddr("2001:db8:42:2::1"),
		routerMAC: MAC{2, 0, 0x5e, 0, 0, 2}, prefix4: []byte{192, 168, 2}, prefix6: []byte{0x20, 1, 0x0d, 0xb8, 0, 0x42, 0, 2},
	},
}

// kind is a sort of machine: how busy it is and how many IPv6 addresses it
// uses (phones and computers have a stable and a temporary one).
type kind struct {
	name   string
	weight float64
	v6     int
}

var kinds = []kind{
	{"phone", 3, 2}, {"laptop", 4, 2}, {"tv", 3, 2}, {"tablet", 1.5, 2}, {"desktop", 3.5, 2},
	{"speaker", .5, 2}, {"camera", .6, 1}, {"console", 1.2, 2}, {"bulb", .1, 0}, {"nas", .7, 1},
}

const torrentKind = 4 // the desktop

type device struct {
	Device
	net        *network
	v4         netip.Addr
	v6         []netip.Addr
	favourites []*host
	expires    map[*host]int64       // until when the device need not ask again
	answers    map[netip.Addr][]told // what it asked for when it was given the address
	port       uint16                // last ephemeral port
}

// told is a DNS answer as it is remembered: a name once, with its latest answer.
type told struct {
	host        *host
	at, expires int64 // microseconds
}

// learn remembers that the device was given an address for a host.
func (d *device) learn(a netip.Addr, h *host, at int64) {
	list := d.answers[a]
	t := told{h, at, at + int64(h.ttl)*second}
	if i := slices.IndexFunc(list, func(t told) bool { return t.host == h }); i >= 0 {
		list[i] = t
		return
	}
	d.answers[a] = append(list, t)
}

// called is what the device most likely means by an address: what the latest
// answer said that is still valid, else the latest of all.
func (d *device) called(a netip.Addr, at int64) *host {
	var best told
	for _, t := range d.answers[a] {
		valid, bestValid := at <= t.expires, at <= best.expires
		if best.host == nil || valid && !bestValid || valid == bestValid && t.at > best.at {
			best = t
		}
	}
	return best.host
}

// host is a name in the internet.
type host struct {
	name   string
	chain  []string // CNAMEs on the way to the addresses
	v4, v6 []netip.Addr
	quic   bool
	plain  bool // HTTP without TLS
	bulk   bool // video, updates
	ttl    int
}

// world is all that does not change while time passes.
type world struct {
	devices []*device
	busy    []float64 // cumulated weights of the devices
	torrent *device
	hosts   []*host
	popular []float64 // cumulated weights of the hosts
}

var (
	syllables  = strings.Fields("ka lo mi ne ru ta vo zi sha pre on ex da bit me flo gra net play tube")
	topLevel   = strings.Fields("com com com com com com com com com com net net net org org cz cz cz io tv de eu")
	subdomains = strings.Fields("www api cdn img static login edge m telemetry push video a1 b2 ads")
	cdns       = strings.Fields("cloudedge.net akaedge.net fastedge.net edgesuite-x.com cfront.net")
	lifetimes  = []int{30, 60, 120, 300, 300, 600, 1800, 3600}
	vendors    = []byte{0x1b, 0x50, 0xd8, 0x3c}
	blocks4    = []byte{23, 34, 52, 99, 104, 142, 151, 172, 185, 216}
	blocks6    = []string{"2a00:1450:4014::", "2600:9000:21f3::", "2606:4700:10::", "2a03:2880:f107::"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func newWorld(cfg Config) *world {
	r := rand.New(rand.NewPCG(cfg.Seed, 1))
	w := &world{}
	w.makeHosts(r, cfg.Hosts)
	w.makeDevices(r, cfg.Devices)
	return w
}

func (w *world) makeDevices(r *rand.Rand, n int) {
	sum := 0.0
	for i := range n {
		k := kinds[i%len(kinds)]
		d := &device{expires: map[*host]int64{}, answers: map[netip.Addr][]told{}}
		d.Name = fmt.Sprintf("%s-%d", k.name, i)
		d.MAC = MAC{0, pick(r, vendors), byte(r.IntN(256)), byte(r.IntN(256)), byte(i >> 8), byte(i)}
		// Every seventh is a guest. The rest share the first network, 200 to a /24.
		d.net = &networks[0]
		third := byte(1)
		if i%7 == 6 {
			d.net, third = &networks[1], 2
		} else if i >= 200 {
			third = 3
		}
		d.Interface = d.net.name
		d.v4 = netip.AddrFrom4([4]byte{192, 168, third, byte(20 + i%200)})
		for range k.v6 {
			var a [16]byte
			copy(a[:], d.net.prefix6)
			binary.BigEndian.PutUint64(a[8:], r.Uint64())
			d.v6 = append(d.v6, netip.AddrFrom16(a))
		}
		d.Addrs = append([]netip.Addr{d.v4}, d.v6...)
		d.port = uint16(firstPort + r.IntN(ephemeralPorts))
		for range 40 {
			d.favourites = append(d.favourites, w.randomHost(r))
		}
		sum += k.weight * (0.6 + 0.8*r.Float64())
		w.devices = append(w.devices, d)
		w.busy = append(w.busy, sum)
		if w.torrent == nil || i == torrentKind {
			w.torrent = d
		}
	}
}

func (w *world) makeHosts(r *rand.Rand, n int) {
	type pool struct{ v4, v6 []netip.Addr }
	pools := make([]pool, len(cdns))
	for i := range pools {
		for range 40 {
			pools[i].v4 = append(pools[i].v4, outside4(r))
			pools[i].v6 = append(pools[i].v6, outside6(r))
		}
	}
	var bases []string
	taken := map[string]bool{}
	sum := 0.0
	for i := 0; len(w.hosts) < n; i++ {
		var base string
		if len(bases) > 0 && r.Float64() < .55 {
			base = pick(r, bases)
		} else {
			for range 2 + r.IntN(3) {
				base += pick(r, syllables)
			}
			base += "." + pick(r, topLevel)
			bases = append(bases, base)
		}
		sub := pick(r, subdomains)
		if r.Float64() < .3 || i > 4*n {
			sub += fmt.Sprint(r.IntN(30 + i))
		}
		h := &host{name: sub + "." + base}
		if taken[h.name] {
			continue
		}
		taken[h.name] = true
		if r.Float64() < .45 { // behind a content network: CNAMEs, and addresses that others have too
			c := r.IntN(len(cdns))
			if r.Float64() < .6 {
				h.chain = []string{strings.ReplaceAll(h.name, ".", "-") + "." + cdns[c]}
			} else {
				h.chain = []string{base + ".cust." + cdns[c], fmt.Sprintf("e%d.%s", r.IntN(9999), cdns[c])}
			}
			h.v4 = sample(r, pools[c].v4, 1+r.IntN(3))
			if r.Float64() < .8 {
				h.v6 = sample(r, pools[c].v6, 1+r.IntN(2))
			}
		} else {
			for range 1 + r.IntN(3) {
				h.v4 = append(h.v4, outside4(r))
			}
			if r.Float64() < .45 {
				for range 1 + r.IntN(2) {
					h.v6 = append(h.v6, outside6(r))
				}
			}
		}
		h.quic, h.plain, h.bulk = r.Float64() < .35, r.Float64() < .05, r.Float64() < .06
		h.ttl = pick(r, lifetimes)
		sum += math.Pow(float64(len(w.hosts))+2.7, -1.05) // Zipf, flattened at the top
		w.hosts = append(w.hosts, h)
		w.popular = append(w.popular, sum)
	}
}

// sample takes n different ones, in random order.
func sample(r *rand.Rand, from []netip.Addr, n int) []netip.Addr {
	out := make([]netip.Addr, n)
	for i, j := range r.Perm(len(from))[:n] {
		out[i] = from[j]
	}
	return out
}

// weighted finds an index with a probability as its weight.
func weighted(r *rand.Rand, cumulated []float64) int {
	x := r.Float64() * cumulated[len(cumulated)-1]
	return min(sort.SearchFloat64s(cumulated, x), len(cumulated)-1)
}

func (w *world) randomHost(r *rand.Rand) *host     { return w.hosts[weighted(r, w.popular)] }
func (w *world) randomDevice(r *rand.Rand) *device { return w.devices[weighted(r, w.busy)] }

func outside4(r *rand.Rand) netip.Addr {
	first := pick(r, blocks4)
	if r.Float64() >= .8 {
		first = byte(24 + r.IntN(80)) // below 127 and apart from 192.168
	}
	return netip.AddrFrom4([4]byte{first, byte(32 + r.IntN(120)), byte(r.IntN(256)), byte(1 + r.IntN(254))})
}

func outside6(r *rand.Rand) netip.Addr {
	a := netip.MustParseAddr(pick(r, blocks6)).As16()
	binary.BigEndian.PutUint16(a[6:], uint16(r.IntN(1<<16)))
	binary.BigEndian.PutUint16(a[14:], uint16(r.IntN(1<<16))|1)
	return netip.AddrFrom16(a)
}
