package flow

import (
	"maps"
	"slices"
	"strings"
)

// coverageHours is for how long it is known what was attributed.
const coverageHours = 24

// linkHeader is what Suricata counts of each packet beside what the kernel does.
const linkHeader = 14

// sort is what bytes were attributed to.
type sort uint8

const (
	recorded sort = iota // a flow that is recorded
	other                // a connection that is known but not recorded
)

// Coverage is what of an interface's traffic in one hour was attributed to
// connections, in bytes.
type Coverage struct {
	Interface string
	Hour      int64  // Unix milliseconds
	Recorded  uint64 // of flows
	Named     uint64 // part of Recorded: of flows whose far end has a name, see name.Source.Named
	Other     uint64 // of connections that are not recorded: see Connections
}

// coverage holds the latest hours of each interface, the newest last.
type coverage map[string][]Coverage

func (c *coverage) add(iface string, hour int64, s sort, bytes uint64, named bool) {
	if bytes == 0 || iface == "" {
		return
	}
	if *c == nil {
		*c = make(coverage)
	}
	h := c.at(iface, hour)
	switch {
	case s == other:
		h.Other += bytes
	case named:
		h.Recorded += bytes
		h.Named += bytes
	default:
		h.Recorded += bytes
	}
}

// record moves bytes that were attributed to what is not recorded.
func (c *coverage) record(iface string, hour int64, bytes uint64) {
	if *c == nil || iface == "" {
		return
	}
	h := c.at(iface, hour)
	bytes = min(bytes, h.Other)
	h.Other -= bytes
	h.Recorded += bytes
}

// name moves bytes that were attributed without a name.
func (c *coverage) name(iface string, hour int64, bytes uint64) {
	if *c == nil || bytes == 0 || iface == "" {
		return
	}
	h := c.at(iface, hour)
	h.Named = min(h.Named+bytes, h.Recorded)
}

// at is the hour of an interface; of one that is past, the oldest kept.
func (c coverage) at(iface string, hour int64) *Coverage {
	list := c[iface]
	i, ok := slices.BinarySearchFunc(list, hour, func(h Coverage, hour int64) int { return int(min(max(h.Hour-hour, -1), 1)) })
	if !ok {
		list = slices.Insert(list, i, Coverage{Interface: iface, Hour: hour})
		if len(list) > coverageHours {
			list = slices.Delete(list, 0, 1)
			i = max(i-1, 0)
		}
		c[iface] = list
	}
	return &list[i]
}

// Coverage returns what was attributed, by interface and hour.
func (t *Table) Coverage() []Coverage {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Coverage
	for _, iface := range slices.SortedFunc(maps.Keys(t.coverage), strings.Compare) {
		out = append(out, t.coverage[iface]...)
	}
	return out
}

// netBytes is what the kernel would count of what Suricata counted.
func netBytes(bytes, packets uint64) uint64 {
	return bytes - min(bytes, linkHeader*packets)
}
