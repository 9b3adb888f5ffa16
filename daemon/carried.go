package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"pakon/daemon/client"
	"pakon/daemon/flow"
)

const (
	// carriedEvery is how often the links' counters are read, which nobody tells
	// of, while no listing of the kernel's connections says when.
	carriedEvery = 10 * time.Second
	carriedHours = 24
	dip          = 64 << 10 // bytes by which counters that are not read at once may seem to shrink
	linkHeader   = 14       // bytes of Ethernet that a link counts of a packet, and connection tracking does not
)

// carried counts by the hour what the monitored interfaces carried and what of
// it is known. Both are looked at together, right after a listing of the kernel's
// connections: what has moved between two looks belongs to the hour of the later.
type carried struct {
	log   *slog.Logger
	hour  func(ms int64) int64            // the start of an hour of this place
	known func() map[string]flow.Coverage // since it was last asked for

	sampling sync.Mutex // one sample at a time

	mu      sync.Mutex
	last    map[string]linkCounter
	final   map[int]uint64           // what links had counted when they were deleted, by index
	pending map[string]flow.Coverage // known, and not yet compared
	hours   map[string][]carriedHour
	looked  time.Time // the last sample
}

type linkCounter struct {
	index int
	bytes uint64
	// waited: the link was found made anew, and its end was still to be told.
	waited bool
}

// carriedHour is what an interface carried in an hour, in bytes.
type carriedHour struct {
	hour, since            int64 // Unix ms: its start, and from when on it was counted
	bytes                  uint64
	recorded, named, other uint64 // of what is known
	// apart: what was carried and what is known can not be compared, as one of
	// them lacks what the other has.
	apart bool
}

func newCarried(log *slog.Logger, hour func(int64) int64, known func() map[string]flow.Coverage) *carried {
	return &carried{
		log: log, hour: hour, known: known,
		last: make(map[string]linkCounter), final: make(map[int]uint64),
		pending: make(map[string]flow.Coverage), hours: make(map[string][]carriedHour),
	}
}

// run notes what deleted links had counted, until ctx ends, and calls sample
// again and again.
func (c *carried) run(ctx context.Context, sample func() error) error {
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() {
		links, err := subscribeLinks()
		if err == nil {
			err = c.follow(ctx, links)
		}
		if err != nil {
			c.log.Debug("what deleted interfaces had carried is not known", "err", err) // their hours are not compared
		}
	})
	again := time.NewTicker(carriedEvery)
	defer again.Stop()
	told := ""
	for {
		err := sample()
		if text := fmt.Sprint(err); err != nil && text != told {
			c.log.Warn("what interfaces carry is not known", "err", err)
			told = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// subscribeLinks opens a socket that is told of changes of links.
func subscribeLinks() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_LINK})
	if err != nil {
		return nil, fmt.Errorf("subscribe to links: %w", err)
	}
	return conn, nil
}

// follow keeps the last counters of links that are deleted, of which it is told
// by conn, which it closes.
func (c *carried) follow(ctx context.Context, conn *netlink.Conn) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		messages, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			continue // a link whose end was lost is not compared
		case err != nil:
			return fmt.Errorf("read changes of links: %w", err)
		}
		for _, m := range messages {
			var l rtnetlink.LinkMessage
			// Of the family of bridges are ports that only leave one.
			if m.Header.Type == unix.RTM_DELLINK && l.UnmarshalBinary(m.Data) == nil && l.Family == unix.AF_UNSPEC {
				c.deleted(&l)
			}
		}
	}
}

// deleted notes what a link had counted at its end, if it is monitored.
func (c *carried) deleted(l *rtnetlink.LinkMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.Attributes == nil || l.Attributes.Stats64 == nil {
		return
	}
	if before, ok := c.last[l.Attributes.Name]; ok && before.index == int(l.Index) {
		c.final[before.index] = linkBytes(l)
	}
}

// sample reads the counters of the interfaces that are there once; what it knows
// of others than the monitored is forgotten. comparable says whether what became
// known since the last time can be compared with them.
func (c *carried) sample(monitored []string, interfaces []client.Interface, comparable bool) (err error) {
	c.sampling.Lock()
	defer c.sampling.Unlock()
	c.forget(monitored)
	conn, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// First: a link has carried what is known of it.
	known := c.known()
	now := time.Now()
	for _, name := range monitored {
		if !slices.ContainsFunc(interfaces, func(i client.Interface) bool { return i.Name == name }) {
			c.keep(name, known[name]) // it is away
		}
	}
	for _, i := range interfaces {
		l, err := conn.Link.Get(uint32(i.Index))
		if err != nil || l.Attributes == nil || l.Attributes.Stats64 == nil {
			c.keep(i.Name, known[i.Name]) // it has gone
			continue
		}
		c.note(i.Name, linkCounter{index: i.Index, bytes: linkBytes(&l)}, known[i.Name], now, comparable)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = now
	return nil
}

// forget forgets what is not monitored any more.
func (c *carried) forget(monitored []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, l := range c.last {
		if !slices.Contains(monitored, name) {
			delete(c.last, name)
			delete(c.final, l.index)
			delete(c.pending, name)
		}
	}
}

// linkBytes is what a link carried without link headers. Bridges and VLANs count
// them for what they send only.
func linkBytes(l *rtnetlink.LinkMessage) uint64 {
	s := l.Attributes.Stats64
	n := s.RXBytes + s.TXBytes
	if l.Type != unix.ARPHRD_ETHER {
		return n // a tunnel
	}
	headers := linkHeader * s.TXPackets
	if info := l.Attributes.Info; info == nil || info.Kind != "bridge" && info.Kind != "vlan" {
		headers += linkHeader * s.RXPackets
	}
	return n - min(n, headers)
}

// keep adds to what is known of an interface and is still to be compared.
func (c *carried) keep(name string, k flow.Coverage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(name, k)
}

func (c *carried) add(name string, k flow.Coverage) {
	p := c.pending[name]
	p.Recorded, p.Named, p.Other, p.Turned = p.Recorded+k.Recorded, p.Named+k.Named, p.Other+k.Other, p.Turned+k.Turned
	if k.Begun != 0 && (p.Begun == 0 || k.Begun < p.Begun) {
		p.Begun = k.Begun
	}
	c.pending[name] = p
}

// note adds what an interface carried since the last time, and what is known of
// that.
func (c *carried) note(name string, now linkCounter, known flow.Coverage, at time.Time, comparable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(name, known)
	before, seen := c.last[name]
	moved, apart := now.bytes-before.bytes, !comparable
	final, ended := c.final[before.index]
	switch {
	case !seen:
		// What it carried earlier is not asked for.
		c.last[name] = now
		delete(c.pending, name)
		return
	case before.index != now.index && ended:
		moved = final - min(final, before.bytes) + now.bytes
		delete(c.final, before.index)
	case before.index != now.index && !before.waited:
		before.waited = true
		c.last[name] = before
		return
	case before.index == now.index && now.bytes >= before.bytes:
	case before.index == now.index && before.bytes-now.bytes < dip:
		return
	default: // it counts anew, and what it had counted at the end is not known
		moved, apart = now.bytes, true
	}
	c.last[name] = now
	h := c.at(name, c.hour(at.UnixMilli()))
	k := c.pending[name]
	delete(c.pending, name)
	h.bytes += moved
	h.recorded += k.Recorded
	h.other += k.Other
	// Bytes of before belong to this hour no more than to the one in which they
	// moved.
	h.apart = h.apart || apart || k.Begun != 0 && k.Begun < h.since
	if !h.apart {
		// What a queue dropped once it was counted as a connection's did not leave
		// by the link.
		h.bytes = max(h.bytes, h.recorded+h.other)
	}
	c.turned(name, k.Turned)
	c.named(name, k.Named)
}

// at is the hour of an interface, which is the latest.
func (c *carried) at(name string, hour int64) *carriedHour {
	list := c.hours[name]
	if n := len(list); n == 0 || list[n-1].hour != hour {
		list = append(list, carriedHour{hour: hour, since: max(hour, c.looked.UnixMilli())})
		if len(list) > carriedHours {
			list = slices.Delete(list, 0, 1)
		}
		c.hours[name] = list
	}
	return &list[len(list)-1]
}

// turned takes bytes from what is not recorded, of the latest hours first.
func (c *carried) turned(name string, bytes uint64) {
	list := c.hours[name]
	for i := len(list) - 1; i >= 0 && bytes > 0; i-- {
		n := min(bytes, list[i].other)
		list[i].other -= n
		list[i].recorded += n
		bytes -= n
	}
}

// named gives names to bytes: a connection may get one long after it began, so
// to the latest that have none.
func (c *carried) named(name string, bytes uint64) {
	list := c.hours[name]
	for i := len(list) - 1; i >= 0 && bytes > 0; i-- {
		n := min(bytes, list[i].recorded-list[i].named)
		list[i].named += n
		bytes -= n
	}
}

// of is what an interface carried in the latest hours.
func (c *carried) of(name string) []carriedHour {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.hours[name])
}
