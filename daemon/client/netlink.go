package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// readBuffer holds the burst of messages of a network restart.
const readBuffer = 256 << 10

// String names the task.
func (t *Table) String() string { return "clients" }

// Ready is closed once the links and neighbours of this machine are known, or
// known to be out of reach.
func (t *Table) Ready() <-chan struct{} { return t.ready }

// Run follows links, addresses and neighbours until the context ends. Where
// netlink is refused it says so once, and the table knows no links.
func (t *Table) Run(ctx context.Context) error {
	first := true
	for {
		err := t.follow(ctx, func() {
			if first {
				close(t.ready)
				first = false
			}
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			continue // messages were lost; follow begins with a new dump
		case first:
			close(t.ready)
			t.log.Warn("links and neighbours can not be followed: clients are known from events only", "err", err)
			<-ctx.Done()
			return nil
		default:
			t.log.Warn("following links and neighbours again", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
	}
}

// follow subscribes, takes the present state, and applies changes to it. It
// returns the error that ended it.
func (t *Table) follow(ctx context.Context, ready func()) error {
	events, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: unix.RTMGRP_LINK | unix.RTMGRP_NEIGH | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
			unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE,
	})
	if err != nil {
		return fmt.Errorf("subscribe to links and neighbours: %w", err)
	}
	defer events.Close()
	if err := events.SetReadBuffer(readBuffer); err != nil {
		return fmt.Errorf("set the buffer for links and neighbours: %w", err)
	}
	dump, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer dump.Close()
	stop := context.AfterFunc(ctx, func() {
		events.SetReadDeadline(time.Unix(1, 0))
		dump.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()

	if err := t.dumpMachine(dump); err != nil {
		return err
	}
	if err := t.dumpNeighbours(dump); err != nil {
		return err
	}
	ready()
	for {
		messages, err := events.Receive()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return ctx.Err()
			}
			return fmt.Errorf("read changes of links and neighbours: %w", err)
		}
		stale := false
		for _, m := range messages {
			switch m.Header.Type {
			case unix.RTM_NEWNEIGH:
				var n rtnetlink.NeighMessage
				if n.UnmarshalBinary(m.Data) == nil {
					t.applyNeighbour(&n, true)
				}
			case unix.RTM_DELNEIGH:
			default:
				stale = true // links, addresses and routes change rarely: list them anew
			}
		}
		if stale {
			if err := t.dumpMachine(dump); err != nil {
				return err
			}
		}
	}
}

// Look takes the present links and addresses of this machine, for those who do
// not run the table.
func (t *Table) Look() (err error) {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return t.dumpMachine(c)
}

func (t *Table) dumpMachine(c *rtnetlink.Conn) error {
	links, err := c.Link.List()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	addrs, err := c.Address.List()
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	routes, err := c.Route.List()
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	t.setMachine(newMachine(links, addrs, routes))
	return nil
}

// newMachine makes of what the kernel lists what is known of this machine.
func newMachine(links []rtnetlink.LinkMessage, addrs []rtnetlink.AddressMessage, routes []rtnetlink.RouteMessage) *machine {
	m := &machine{
		links: make(map[string]Interface, len(links)),
		index: make(map[int]string, len(links)),
		addrs: make(map[netip.Addr]bool, len(addrs)),
		macs:  make(map[MAC]bool, len(links)),

		uplinks: make(map[string]bool),
	}
	for _, l := range links {
		if l.Attributes == nil {
			continue
		}
		i := Interface{Name: l.Attributes.Name, Index: int(l.Index), Up: l.Flags&unix.IFF_UP != 0}
		if len(l.Attributes.Address) == len(i.MAC) {
			i.MAC = MAC(l.Attributes.Address)
		}
		if !i.MAC.IsZero() {
			m.macs[i.MAC] = true
		}
		if l.Attributes.Master != nil {
			i.Master = int(*l.Attributes.Master)
		}
		if info := l.Attributes.Info; info != nil {
			i.Bridge = info.Kind == "bridge"
			if info.Kind == "vlan" {
				i.Lower = int(l.Attributes.Type)
			}
		}
		m.links[i.Name] = i
		m.index[i.Index] = i.Name
	}
	for _, a := range addrs {
		if a.Attributes == nil {
			continue
		}
		// Local differs from Address on point-to-point links only.
		addr, ok := addrOf(a.Attributes.Local)
		if !ok {
			addr, ok = addrOf(a.Attributes.Address)
		}
		if !ok || addr.IsLoopback() {
			continue
		}
		m.addrs[addr] = true
		name, ok := m.index[int(a.Index)]
		if !ok {
			continue // the link appeared between the two dumps; its message follows
		}
		prefix, err := addr.Prefix(int(a.PrefixLength))
		if err != nil {
			continue
		}
		m.reach(name, prefix)
	}
	for _, r := range routes {
		name, ok := m.index[int(r.Attributes.OutIface)]
		dst, valid := addrOf(r.Attributes.Dst)
		if ok && r.DstLength == 0 && r.Type == unix.RTN_UNICAST && r.Table == unix.RT_TABLE_MAIN {
			m.uplinks[name] = true
		}
		if !ok || !valid || r.DstLength == 0 || r.Type != unix.RTN_UNICAST || r.Table != unix.RT_TABLE_MAIN {
			continue
		}
		if prefix, err := dst.Prefix(int(r.DstLength)); err == nil {
			m.reach(name, prefix)
		}
	}
	for name, i := range m.links {
		slices.SortFunc(i.Prefixes, netip.Prefix.Compare)
		i.Prefixes = slices.Compact(i.Prefixes)
		m.links[name] = i
	}
	return m
}

// reach notes that a network is behind a link.
func (m *machine) reach(link string, network netip.Prefix) {
	i := m.links[link]
	i.Prefixes = append(i.Prefixes, network)
	m.links[link] = i
}

func (t *Table) dumpNeighbours(c *rtnetlink.Conn) error {
	list, err := c.Neigh.List()
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for i := range list {
		t.applyNeighbour(&list[i], false)
	}
	return nil
}

// applyNeighbour takes what the kernel says of a neighbour; news if it has just
// changed.
func (t *Table) applyNeighbour(n *rtnetlink.NeighMessage, news bool) {
	const reached = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	if n.Family != unix.AF_INET && n.Family != unix.AF_INET6 || n.Attributes == nil || n.State&reached == 0 {
		return
	}
	addr, ok := addrOf(n.Attributes.Address)
	if !ok || len(n.Attributes.LLAddress) != len(MAC{}) {
		return
	}
	if m := MAC(n.Attributes.LLAddress); !m.IsZero() && !m.IsGroup() {
		at := neighbour{int(n.Index), addr}
		// The other states are told long after the device was heard, but for the first.
		t.setNeighbour(at, m, news && (n.State&unix.NUD_REACHABLE != 0 || t.moved(at, m)))
		if !news && n.State&(unix.NUD_REACHABLE|unix.NUD_PERMANENT) != 0 {
			t.mu.Lock()
			t.using(m, addr)
			t.mu.Unlock()
		}
	}
}

func addrOf(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}
