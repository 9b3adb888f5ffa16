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

	"pakon/daemon/client"
)

const (
	// carriedEvery is how often the links' counters are read, which nobody tells of.
	carriedEvery = 10 * time.Second
	carriedHours = 24
	dip          = 64 << 10 // bytes by which counters that are not read at once may seem to shrink
	linkHeader   = 14       // bytes of Ethernet that a link counts of a packet, and connection tracking does not
)

// carried counts what the monitored interfaces carried, by the hour.
type carried struct {
	log  *slog.Logger
	hour func(ms int64) int64 // the start of an hour of this place

	mu    sync.Mutex
	last  map[string]linkCounter
	hours map[string][]carriedHour
}

type linkCounter struct {
	index int
	bytes uint64
}

type carriedHour struct {
	hour  int64 // Unix ms
	bytes uint64
}

func newCarried(log *slog.Logger, hour func(int64) int64) *carried {
	return &carried{log: log, hour: hour, last: make(map[string]linkCounter), hours: make(map[string][]carriedHour)}
}

// run reads the counters of the interfaces again and again until ctx ends.
func (c *carried) run(ctx context.Context, interfaces func() []client.Interface) error {
	again := time.NewTicker(carriedEvery)
	defer again.Stop()
	told := ""
	for {
		err := c.sample(interfaces())
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

// sample reads the counters once.
func (c *carried) sample(interfaces []client.Interface) (err error) {
	if len(interfaces) == 0 {
		return nil
	}
	conn, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, i := range interfaces {
		l, err := conn.Link.Get(uint32(i.Index))
		if err != nil || l.Attributes == nil || l.Attributes.Stats64 == nil {
			continue // it has gone
		}
		c.note(i.Name, linkCounter{i.Index, linkBytes(l.Attributes)}, time.Now())
	}
	return nil
}

// linkBytes is what a link carried without link headers. A bridge counts them
// for what it sends only.
func linkBytes(a *rtnetlink.LinkAttributes) uint64 {
	s := a.Stats64
	headers := linkHeader * s.TXPackets
	if a.Info == nil || a.Info.Kind != "bridge" {
		headers += linkHeader * s.RXPackets
	}
	n := s.RXBytes + s.TXBytes
	return n - min(n, headers)
}

// note adds what an interface carried since the last time.
func (c *carried) note(name string, now linkCounter, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.last[name]
	if known && before.index == now.index && now.bytes < before.bytes && before.bytes-now.bytes < dip {
		return
	}
	c.last[name] = now
	if !known {
		return // what it carried earlier is not asked for
	}
	if before.index != now.index || now.bytes < before.bytes {
		before.bytes = 0 // made anew
	}
	hour := c.hour(at.UnixMilli())
	list := c.hours[name]
	if n := len(list); n == 0 || list[n-1].hour != hour {
		list = append(list, carriedHour{hour: hour})
		if len(list) > carriedHours {
			list = slices.Delete(list, 0, 1)
		}
	}
	list[len(list)-1].bytes += now.bytes - before.bytes
	c.hours[name] = list
}

// of is what an interface carried in the latest hours.
func (c *carried) of(name string) []carriedHour {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.hours[name])
}
