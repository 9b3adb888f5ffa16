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
	ExcludedClient             // left out by exclude_client
	ExcludedName               // left out by exclude_hostname
	BadEvent                   // lacks what such an event must have
	OtherEvent                 // of a kind that is not used
	Disabled                   // monitoring is disabled
	fates
)

var fateNames = [fates]string{
	"recorded", "named", "dns_answer", "dns_query", "dns_no_address", "no_name", "bad_name",
	"unanswered", "dns_flow", "other_protocol", "router", "other_interface",
	"excluded_client", "excluded_hostname", "bad_event", "other_event", "disabled",
}

// String is the fate as status shows it.
func (f Fate) String() string { return fateNames[f] }

// Counters count events by fate.
type Counters struct {
	fate         [fates]atomic.Uint64
	namesDropped atomic.Uint64
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
