package flow

// linkHeader is what Suricata counts of each packet beside what the kernel does.
const linkHeader = 14

// sort is what bytes were attributed to.
type sort uint8

const (
	recorded sort = iota // a flow that is recorded
	other                // a connection that is known but not recorded
)

// Coverage is what of an interface's traffic was attributed to connections in
// some time, in bytes.
type Coverage struct {
	Recorded uint64 // of flows
	Named    uint64 // of flows whose far end has got a name, see name.Source.Named; they may have moved earlier
	Other    uint64 // of connections that are not recorded: see Connections
	Turned   uint64 // of those that turned out to be recorded; they may have counted as Other earlier
	// Begun is when the oldest of the connections began whose bytes became known
	// at once, at its end, in Unix milliseconds; 0 if there was none.
	Begun int64
}

// coverage is that of each interface since it was last taken.
type coverage map[string]*Coverage

// add attributes bytes. begun is the start of a connection of which they are
// all, 0 if they moved since they were last asked for.
func (c *coverage) add(iface string, s sort, bytes uint64, named bool, begun int64) {
	if bytes == 0 || iface == "" {
		return
	}
	h := c.at(iface)
	switch {
	case s == other:
		h.Other += bytes
	case named:
		h.Recorded += bytes
		h.Named += bytes
	default:
		h.Recorded += bytes
	}
	if begun != 0 && (h.Begun == 0 || begun < h.Begun) {
		h.Begun = begun
	}
}

// name notes that bytes which were attributed without a name have got one.
func (c *coverage) name(iface string, bytes uint64) {
	if bytes != 0 && iface != "" {
		c.at(iface).Named += bytes
	}
}

// turn notes that bytes which were attributed to what is not recorded are recorded.
func (c *coverage) turn(iface string, bytes uint64) {
	if bytes != 0 && iface != "" {
		c.at(iface).Turned += bytes
	}
}

func (c *coverage) at(iface string) *Coverage {
	if *c == nil {
		*c = make(coverage)
	}
	h := (*c)[iface]
	if h == nil {
		h = new(Coverage)
		(*c)[iface] = h
	}
	return h
}

// TakeCoverage returns by interface what was attributed since it was last taken.
func (t *Table) TakeCoverage() map[string]Coverage {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]Coverage, len(t.coverage))
	for iface, c := range t.coverage {
		out[iface] = *c
	}
	clear(t.coverage)
	return out
}

// netBytes is what the kernel would count of what Suricata counted.
func netBytes(bytes, packets uint64) uint64 {
	return bytes - min(bytes, linkHeader*packets)
}
