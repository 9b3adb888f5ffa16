package router

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// Tracked is a TCP or UDP connection as the kernel's connection tracking on the
// router has it, seen from the networks: what a client sent counts as sent,
// whoever opened the connection.
type Tracked struct {
	ID            uint32
	Proto         uint8
	Local, Remote netip.AddrPort // before masquerading, after a port forward
	Inbound       bool           // opened from outside to a client
	Sent, Recvd   Counter
}

// Counter is what went one way, without link headers.
type Counter struct{ Packets, Bytes uint64 }

// Is tells whether the entry is the kernel's of a connection.
func (t Tracked) Is(c Connection) bool {
	return t.Proto == c.Proto && t.Local == c.Local && t.Remote == c.Remote
}

// Conntrack is what the kernel tracks on the router at the moment.
func (r *Router) Conntrack() ([]Tracked, error) { return r.tracked(nil) }

// ZeroCounters reads the counters and makes them zero, as nlbwmon does. It
// returns what the other reader has got thus, and nobody else gets any more.
func (r *Router) ZeroCounters() ([]Tracked, error) {
	return r.tracked(&conntrack.DumpOptions{ZeroCounters: true})
}

func (r *Router) tracked(how *conntrack.DumpOptions) ([]Tracked, error) {
	var flows []conntrack.Flow
	err := r.router.do(func() error {
		c, err := conntrack.Dial(nil)
		if err != nil {
			return err
		}
		flows, err = c.Dump(how)
		return errors.Join(err, c.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("reading the connections that the router's kernel tracks: %w", err)
	}
	var all []Tracked
	for _, f := range flows {
		if p := f.TupleOrig.Proto.Protocol; p == unix.IPPROTO_TCP || p == unix.IPPROTO_UDP {
			all = append(all, seenFromInside(f))
		}
	}
	return all, nil
}

func seenFromInside(f conntrack.Flow) Tracked {
	opener, answerer := f.TupleOrig, f.TupleReply
	t := Tracked{
		ID: f.ID, Proto: opener.Proto.Protocol, Local: source(opener), Remote: destination(opener),
		Sent: counter(f.CountersOrig), Recvd: counter(f.CountersReply),
	}
	if !inside(t.Local.Addr()) && inside(source(answerer).Addr()) {
		t.Inbound = true
		t.Local, t.Remote = source(answerer), source(opener)
		t.Sent, t.Recvd = t.Recvd, t.Sent
	}
	return t
}

func source(t conntrack.Tuple) netip.AddrPort {
	return netip.AddrPortFrom(t.IP.SourceAddress, t.Proto.SourcePort)
}

func destination(t conntrack.Tuple) netip.AddrPort {
	return netip.AddrPortFrom(t.IP.DestinationAddress, t.Proto.DestinationPort)
}

func counter(c conntrack.Counter) Counter { return Counter{Packets: c.Packets, Bytes: c.Bytes} }

// inside tells whether an address is of one of the router's networks.
func inside(a netip.Addr) bool {
	for _, n := range Networks {
		if n.V4.Contains(a) || n.V6.Contains(a) {
			return true
		}
	}
	return false
}

// ForgetConnections makes the router's kernel forget all connections; those that
// go on are new to it.
func (r *Router) ForgetConnections() error {
	err := r.router.do(func() error {
		c, err := conntrack.Dial(nil)
		if err != nil {
			return err
		}
		return errors.Join(c.Flush(), c.Close())
	})
	if err != nil {
		return fmt.Errorf("making the router's kernel forget its connections: %w", err)
	}
	return nil
}
