package store

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
)

// household makes a day of n flows of 20 devices, in the order in which they
// end: mostly TLS and QUIC to a few thousand names, a tenth of the flows
// peer-to-peer without a name, some NTP. Addresses, durations and byte counts
// are spread as in such a network.
func household(n int) []flow.Flow {
	const day, end = 86_400_000, 1_748_736_000_000
	r := rand.New(rand.NewPCG(1, 2))
	logNormal := func(mu, sigma float64) float64 { return math.Exp(mu + sigma*r.NormFloat64()) }
	v4 := func() netip.Addr {
		return netip.AddrFrom4([4]byte{byte(24 + r.IntN(190)), byte(r.IntN(256)), byte(r.IntN(256)), byte(1 + r.IntN(254))})
	}
	v6 := func(prefix uint32) netip.Addr {
		var a [16]byte
		a[0], a[1], a[2], a[3] = byte(prefix>>24), byte(prefix>>16), byte(prefix>>8), byte(prefix)
		for i := 4; i < 16; i++ {
			a[i] = byte(r.IntN(256))
		}
		return netip.AddrFrom16(a)
	}
	type host struct {
		name string
		v4   []netip.Addr
		v6   []netip.Addr
	}
	words := []string{"www", "api", "cdn", "img", "static", "login", "edge", "telemetry", "push", "video"}
	hosts := make([]host, 3000)
	for i := range hosts {
		h := &hosts[i]
		h.name = fmt.Sprintf("%s%d.%s%d.com", words[r.IntN(len(words))], r.IntN(30), "example", r.IntN(1300))
		for range 1 + r.IntN(3) {
			h.v4 = append(h.v4, v4())
		}
		for range r.IntN(3) {
			h.v6 = append(h.v6, v6(0x2a001450))
		}
	}
	type device struct {
		mac client.MAC
		v4  netip.Addr
		v6  []netip.Addr
	}
	devices := make([]device, 20)
	for i := range devices {
		devices[i] = device{client.MAC{0, 0x1b, 0xc4, 0x42, 0, byte(i)}, netip.AddrFrom4([4]byte{192, 168, 1, byte(12 + i)}),
			[]netip.Addr{v6(0x20010db8), v6(0x20010db8)}}
	}
	flows := make([]flow.Flow, n)
	for i := range flows {
		f := &flows[i]
		d := &devices[int(float64(len(devices))*math.Pow(r.Float64(), 1.5))]
		f.Start = end - day + int64(float64(day)*(float64(i)+r.Float64())/float64(n))
		f.Client, f.ClientAddr, f.Interface = d.mac, d.v4, "br-lan"
		duration := min(logNormal(1.5, 1.8), 14_400)
		switch x := r.Float64(); {
		case x < 0.15: // peer to peer
			f.Remote, f.Port, f.Proto, f.App = v4(), uint16(1025+r.IntN(64_000)), flow.UDP, "bittorrent-dht"
			f.Sent, f.Recvd, duration = 145, uint64(120+r.IntN(280)), 0.2
			if r.IntN(4) == 0 {
				f.Proto, f.App = flow.TCP, ""
				f.Sent, f.Recvd, duration = uint64(logNormal(10, 2)), uint64(logNormal(11, 2)), logNormal(3, 1)
			}
		case x < 0.16:
			f.Remote, f.Port, f.Proto, f.App = v4(), 123, flow.UDP, "ntp"
			f.Sent, f.Recvd, duration = 90, 90, 0.02
		default:
			h := &hosts[int(float64(len(hosts))*math.Pow(r.Float64(), 4))]
			f.Remote = h.v4[r.IntN(len(h.v4))]
			if len(h.v6) > 0 && r.IntN(4) > 0 {
				f.Remote, f.ClientAddr = h.v6[r.IntN(len(h.v6))], d.v6[r.IntN(2)]
			}
			f.Name, f.Source, f.Port, f.Proto, f.App = h.name, name.TLS, 443, flow.TCP, "tls"
			if r.IntN(4) == 0 {
				f.Source, f.Proto, f.App = name.QUIC, flow.UDP, "quic"
			}
			f.Sent, f.Recvd = uint64(logNormal(7.4, 1.1))+900, uint64(logNormal(8.7, 1.6))+3000
		}
		f.End = f.Start + int64(duration*1000)
	}
	slices.SortFunc(flows, func(a, b flow.Flow) int { return cmp.Compare(a.End, b.End) })
	return flows
}
