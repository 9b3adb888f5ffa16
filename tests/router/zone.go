package router

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Site is a name in the internet behind the router.
type Site struct {
	Name  string
	Chain []string // CNAMEs on the way to the addresses
	V4    netip.Addr
	V6    netip.Addr // zero: none
}

// Sites are all names that resolve. Two of them share the addresses of a
// content network, behind different chains.
var Sites = []Site{
	site("www.example.org", 10),
	site("video.example.org", 20, "video.example.org.cdn.example.net", "edge7.cdn.example.net"),
	site("shop.example.com", 20, "edge7.cdn.example.net"),
	site("mail.example.com", 30),
	site("play.example.org", 40, "play-example-org.cdn.example.net"),
	site("weather.test", 50),
	site("photos.test", 60, "photos.test.storage.example.net"),
	{Name: "updates.test", V4: netip.MustParseAddr("203.0.113.70")},
}

func site(name string, host int, chain ...string) Site {
	return Site{
		Name: name, Chain: chain,
		V4: netip.MustParseAddr(fmt.Sprintf("203.0.113.%d", host)),
		V6: netip.MustParseAddr(fmt.Sprintf("2001:db8:f::%d", host)),
	}
}

func findSite(name string) (Site, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, s := range Sites {
		if s.Name == name {
			return s, true
		}
	}
	return Site{}, false
}

// siteAddrs are the addresses of all sites, each once.
func siteAddrs() []netip.Addr {
	var addrs []netip.Addr
	seen := map[netip.Addr]bool{{}: true}
	for _, s := range Sites {
		for _, a := range []netip.Addr{s.V4, s.V6} {
			if !seen[a] {
				seen[a] = true
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// serveNames runs the router's resolver on its addresses on the bridges.
func (r *Router) serveNames() error {
	var servers []*dns.Server
	var running errgroup.Group
	r.closers = append(r.closers, func() error {
		var errs []error
		for _, s := range servers {
			errs = append(errs, s.Shutdown())
		}
		return errors.Join(append(errs, running.Wait())...)
	})
	return r.router.do(func() error {
		for _, n := range Networks {
			for _, p := range []netip.Prefix{n.V4, n.V6} {
				at := netip.AddrPortFrom(p.Addr(), 53)
				udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
				if err != nil {
					return fmt.Errorf("starting the resolver: %w", err)
				}
				tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
				if err != nil {
					return errors.Join(fmt.Errorf("starting the resolver: %w", err), udp.Close())
				}
				for _, s := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
					s.Handler = dns.HandlerFunc(answer)
					started := make(chan struct{})
					s.NotifyStartedFunc = func() { close(started) }
					servers = append(servers, s)
					failed := make(chan error, 1)
					running.Go(func() error {
						err := s.ActivateAndServe()
						failed <- err
						return err
					})
					select {
					case <-started:
					case err := <-failed:
						return fmt.Errorf("starting the resolver on %v: %w", at, err)
					}
				}
			}
		}
		return nil
	})
}

// answer is what the zone has for a question.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
	} else if s, ok := findSite(q.Question[0].Name); !ok {
		m.Rcode = dns.RcodeNameError
	} else {
		m.Answer = records(s, q.Question[0])
	}
	// A client that is gone is no error of the resolver.
	_ = w.WriteMsg(m)
}

func records(s Site, q dns.Question) []dns.RR {
	head := func(owner string, typ uint16) dns.RR_Header {
		return dns.RR_Header{Name: owner, Rrtype: typ, Class: dns.ClassINET, Ttl: 60}
	}
	var rrs []dns.RR
	owner := q.Name
	for _, c := range s.Chain {
		rrs = append(rrs, &dns.CNAME{Hdr: head(owner, dns.TypeCNAME), Target: dns.Fqdn(c)})
		owner = dns.Fqdn(c)
	}
	switch {
	case q.Qtype == dns.TypeA:
		rrs = append(rrs, &dns.A{Hdr: head(owner, dns.TypeA), A: s.V4.AsSlice()})
	case q.Qtype == dns.TypeAAAA && s.V6.IsValid():
		rrs = append(rrs, &dns.AAAA{Hdr: head(owner, dns.TypeAAAA), AAAA: s.V6.AsSlice()})
	}
	return rrs
}
