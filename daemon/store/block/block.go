// Package block is the compact form of many flows that archive and backup keep:
// columns, compressed together. A block stands for itself: names and addresses
// are in it once each, and flows refer to them by number.
//
// Where blocks are kept, which flows belong together and what becomes of them
// is the business of package store.
package block

import (
	"net/netip"

	"pakon/daemon/client"
)

// Flow is a flow, or several that were merged. Endpoint, Name, App and Remote
// are numbers in the block's Dictionary. It holds no pointers, so that very many
// cost the garbage collector nothing.
type Flow struct {
	ID       int64 // start in Unix ms << IDShift | a number that tells flows of one ms apart
	Duration int64 // ms, from start to end
	// Bytes in all, as seen from the client; those in Hours are among them.
	Sent, Recvd uint64
	Endpoint    uint32
	Name        uint32 // 0 is the empty name
	App         uint32 // 0 if unknown, or if it differs between merged flows
	Remote      uint32 // 0 likewise
	Flows       uint32 // how many connections it stands for, at least 1
	// Seconds is the sum of their durations, if there are several; else it means
	// nothing, and is not kept.
	Seconds   uint32
	FirstHour uint32 // index of its first entry in Block.Hours
	HourCount uint16 // how many entries there are, in order of time
	Port      uint16
	Proto     uint8 // 0 if it differs
	Source    uint8 // name.Source; 0 likewise
	Direction uint8 // flow.Direction
	Hidden    bool  // it was merged of flows with names that are hidden
}

// IDShift is how many low bits of an id tell flows of one millisecond apart.
const IDShift = 12

// Start is the start in Unix ms.
func (f *Flow) Start() int64 { return f.ID >> IDShift }

// End is the end in Unix ms.
func (f *Flow) End() int64 { return f.ID>>IDShift + f.Duration }

// Hour is what a flow moved in an hour after the one in which it began. The rest
// of its bytes belongs to the hour in which it began.
type Hour struct {
	// Start is that of the hour, Unix ms: any quarter of an hour, as there are
	// zones with such offsets.
	Start       int64
	Sent, Recvd uint64
}

// Endpoint is where a client was seen.
type Endpoint struct {
	MAC       client.MAC // zero if not known: then Address stands for the client
	Address   netip.Addr // zero if it differs between merged flows
	Interface string
}

// Dictionary holds what flows refer to by number. The first entry of Names, Apps
// and Remotes is the empty one.
type Dictionary struct {
	Endpoints []Endpoint
	Names     []string
	Apps      []string
	Remotes   []netip.Addr

	endpoints map[Endpoint]uint32
	names     map[string]uint32
	apps      map[string]uint32
	remotes   map[netip.Addr]uint32
}

// Block is flows with all they refer to.
type Block struct {
	Dictionary
	Flows []Flow // in order of ID
	Hours []Hour
}
