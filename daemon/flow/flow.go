package flow

import (
	"fmt"
	"net/netip"

	"pakon/daemon/client"
	"pakon/daemon/name"
)

// Direction tells which side opened a connection.
type Direction uint8

// The directions.
const (
	Out Direction = iota // the client opened it
	In                   // someone outside opened it to the client
)

// String is the direction as users write it.
func (d Direction) String() string {
	switch d {
	case Out:
		return "out"
	case In:
		return "in"
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// The IP protocol numbers of the connections that are recorded.
const (
	TCP uint8 = 6
	UDP uint8 = 17
)

// State tells where a record stands.
type State uint8

// The states. Those after Whole but LeftOut belong to records that are made more than
// once, of a connection that Track tells apart; the last of them holds.
const (
	Whole   State = iota // the connection has ended, and this is all of it
	Running              // it goes on
	Over                 // it has ended; the kernel may still count what comes late
	LeftOut              // bytes of a client that are not recorded, and Fate says why; of no connection alone
	Done                 // nothing of the record will change; only Track.Key is given
	Void                 // it is not to be recorded: what was recorded is deleted; likewise
	Cut                  // what it moved until End is forgotten; only Track.ID and the counters are given
)

// Flow is the record of one connection of a client.
type Flow struct {
	Start, End  int64      // Unix time in milliseconds, first and last packet; End >= Start
	Client      client.MAC // whose it is; zero if unknown, then ClientAddr stands for it
	ClientAddr  netip.Addr // the client's address in this connection
	Remote      netip.Addr // the far end's address
	Port        uint16     // port of the side that was connected to
	Proto       uint8      // TCP or UDP
	Direction   Direction  // who opened it
	Name        string     // what the far end was called: valid UTF-8, lower case, at most 255 bytes; "" if unknown
	Source      name.Source
	App         string // application protocol as Suricata names it ("tls", "quic", ...); "" if unknown
	Interface   string // the bridge it was seen on
	Sent, Recvd uint64 // bytes, as seen from the client
	State       State
	Fate        Fate  // of LeftOut alone
	Track       Track // of Whole, only the hour
}

// Track is what ties the records of a connection together, in this process and
// after it.
type Track struct {
	Key       uint64 // tells the connection from the others of this process
	ID        uint32 // the kernel's number for it
	OtherPort uint16 // of the side that opened it
	// Raw are the kernel's counters as last read: they may have been zeroed since
	// the connection began.
	RawSent, RawRecvd uint64
	// Hour is the hour in which the connection last moved bytes, and how many it
	// moved in it; 0 while that is the hour in which it began. Unix milliseconds.
	Hour                int64
	HourSent, HourRecvd uint64
}
