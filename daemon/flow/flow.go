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
}
