package flow

import "sync/atomic"

// Fate is what became of an event.
type Fate uint8

// The fates. Every event has exactly one.
const (
	Recorded       Fate = iota // a flow was recorded
	Named                      // its name waits for the connection's end
	DNSAnswer                  // its addresses were remembered
	DNSQuery                   // a question only
	DNSNoAddress               // an answer without an address to remember
	NoName                     // tls, quic, http without a name
	BadName                    // a name that is none (see name.Clean)
	Unanswered                 // a connection with bytes in one direction only
	DNSFlow                    // DNS itself
	OtherProtocol              // neither TCP nor UDP
	RouterFlow                 // the router's own connection
	OtherInterface             // seen on an interface that is not monitored
	OtherNetwork               // of addresses that are on no monitored network: inside a tunnel
	ExcludedClient             // left out by exclude_client
	ExcludedName               // left out by exclude_hostname
	BadEvent                   // lacks what such an event must have
	OtherEvent                 // of a kind that is not used
	Disabled                   // monitoring is disabled
	Counted                    // the end of a connection that the kernel counts
	Earlier                    // the end of a connection that an earlier run has counted
	HeadOnly                   // the end of what was seen of a connection that the kernel does not count
	Forgotten                  // it began before it was to be forgotten
	Uncounted                  // of connections only: the kernel has no counters for it
	fates
)

var fateNames = [fates]string{
	"recorded", "named", "dns_answer", "dns_query", "dns_no_address", "no_name", "bad_name",
	"unanswered", "dns_flow", "other_protocol", "router", "other_interface", "other_network",
	"excluded_client", "excluded_hostname", "bad_event", "other_event", "disabled",
	"counted", "earlier", "head_only", "forgotten", "uncounted",
}

// String is the fate as status shows it.
func (f Fate) String() string { return fateNames[f] }

// Counters count events by fate.
type Counters struct {
	fate         [fates]atomic.Uint64
	conn         [fates]atomic.Uint64
	namesDropped atomic.Uint64
	zeroed       atomic.Uint64
	unfollowed   atomic.Uint64
}

func (c *Counters) add(f Fate) { c.fate[f].Add(1) }

// Count is how many events met one fate.
type Count struct {
	Fate   Fate
	Events uint64
}

// Counts returns the events by fate, in a fixed order, all fates.
func (t *Table) Counts() []Count {
	out := make([]Count, fates)
	for i := range out {
		out[i] = Count{Fate(i), t.counters.fate[i].Load()}
	}
	return out
}

// NamesDropped is how many names were forgotten before their connection ended
// because too many connections were open.
func (t *Table) NamesDropped() uint64 { return t.counters.namesDropped.Load() }

// Connections returns the kernel's connections that have ended by what became of
// them, those fates that connections can have.
func (t *Table) Connections() []Count {
	var out []Count
	for _, f := range []Fate{Recorded, Unanswered, DNSFlow, RouterFlow, ExcludedClient, ExcludedName, Uncounted} {
		out = append(out, Count{f, t.counters.conn[f].Load()})
	}
	return out
}

// Zeroed is how often a counter of the kernel was found to be less than before:
// somebody else zeroes them.
func (t *Table) Zeroed() uint64 { return t.counters.zeroed.Load() }

// Unfollowed is how many connections were not followed because there were too
// many.
func (t *Table) Unfollowed() uint64 { return t.counters.unfollowed.Load() }
