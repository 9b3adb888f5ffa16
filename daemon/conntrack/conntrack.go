// Package conntrack follows the kernel's connection tracking: which connections
// begin and end, and how many bytes each has moved so far. It speaks ctnetlink
// (linux/netfilter/nfnetlink_conntrack.h): events tell of beginnings, of the
// states of TCP and of ends, dumps tell the counters while a connection runs and
// make good what events were lost. Messages are read in a stream into one Entry
// that is used again, as a router has tens of thousands of them.
//
// Whose a connection is and what becomes of it is left to the Receiver.
package conntrack

import (
	"net/netip"
	"time"
)

// Kind is what a message says of a connection.
type Kind uint8

// The kinds.
const (
	New     Kind = iota // it has begun
	Updated             // its state has changed
	Ended               // the kernel has forgotten it; the counters are the last
	Listed              // it was there when the kernel was asked
)

// Tuple is one direction of a connection as packets show it.
type Tuple struct {
	Src, Dst netip.AddrPort
}

// Counter counts what went in one direction; bytes from the IP header on.
type Counter struct {
	Packets, Bytes uint64
}

// The bits of Entry.Status that are of use here (enum ip_conntrack_status).
const (
	SeenReply = 1 << 1
	Assured   = 1 << 2
	Offloaded = 1 << 14 // by a flowtable
)

// States of TCP after its end (enum tcp_conntrack).
const (
	TimeWait = 7 // ended in order
	Close    = 8 // reset
)

// Entry is one connection. Reply is the way back: with address translation its
// ends differ from those of Orig.
type Entry struct {
	ID    uint32
	Proto uint8 // IP protocol number
	// Zone, with Proto and Orig, tells connections apart: networks that use the
	// same addresses are kept apart by zones. 0 is the default.
	Zone        uint16
	Orig, Reply Tuple
	Status      uint32
	TCPState    uint8 // 0 where the message does not tell, or it is not TCP
	// Counted tells whether the counters are in the message: those of events
	// have none but the last, and connections that began while accounting was
	// off never have any.
	Counted bool
	Sent    Counter // in the direction of Orig
	Recvd   Counter // in that of Reply
	// Start and Stop are Unix nanoseconds, 0 where the kernel does not tell.
	Start, Stop int64
	Timeout     uint32 // seconds until the kernel forgets it, if nothing happens
}

// Answered tells whether packets went both ways.
func (e *Entry) Answered() bool { return e.Status&SeenReply != 0 }

// Over tells whether TCP has ended the connection, which the kernel remembers
// for a while.
func (e *Entry) Over() bool { return e.TCPState == TimeWait || e.TCPState == Close }

// Receiver takes what the kernel tells. Its methods are called from one
// goroutine.
type Receiver interface {
	// Connection tells of one; e is used again after the call.
	Connection(k Kind, e *Entry, at time.Time)
	// DumpBegins and DumpEnds enclose the entries of kind Listed. All events
	// that were told before had happened when the dump began. whole tells
	// whether the dump can have missed none.
	DumpBegins(at time.Time)
	DumpEnds(at time.Time, whole bool)
	// Idle tells that all that has happened was told.
	Idle()
}

// Timeouts are how long the kernel remembers connections that are silent.
type Timeouts struct {
	UDP, UDPStream, TimeWait, Close time.Duration
}

// State is what is known of the source.
type State struct {
	Active   bool          // connections are followed
	Problem  string        // why they are not, or not rightly; "" if they are
	Switched []string      // settings of the kernel that were switched on
	Entries  int           // in the last dump
	Any      bool          // there was ever one
	DumpTime time.Duration // that the last one took
	Lost     uint64        // how often events were lost
}
