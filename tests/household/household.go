// Package household makes the events that Suricata would write about a
// family's network, together with the flows that an ideal collector would
// keep of them. The same configuration gives the same bytes, so a test can
// compare exactly and two benchmarks see the same day.
//
// It knows what such a network looks like: phones that resolve and then open
// several connections, hosts behind content networks that share addresses,
// QUIC beside TLS, a machine that does peer-to-peer, and the noise that no
// collector should keep. What is done with the events is left to the caller.
package household

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"pakon/daemon/name"
)

// Config says what household to make, and how much of its life.
type Config struct {
	Seed    uint64
	Life    uint64    // what happens: the same seed and another life is the same household at another time
	Events  int       // stop after so many events; 0: no limit
	Rows    int       // stop after so many rows; 0: no limit. One of the two must be given
	Days    float64   // the time that the events are spread over, at most 366
	Devices int       // 1 to 400
	Hosts   int       // names in the internet, at least 1
	P2P     float64   // fraction of the sessions that are peer-to-peer
	Noise   float64   // fraction: unanswered, multicast, time, ICMP
	Inbound float64   // fraction: from outside to a device
	Format  int       // of the events: Suricata 7 or 8
	Queries bool      // also DNS queries, not only answers
	End     time.Time // end of the time span
}

// Default is a household of 20 devices during one day, without a limit.
func Default() Config {
	return Config{
		Seed: 1, Days: 1, Devices: 20, Hosts: 3000,
		P2P: 0.10, Noise: 0.10, Inbound: 0.01, Format: 7,
		End: time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC),
	}
}

func (c Config) validate() error {
	switch {
	case c.Events < 0 || c.Rows < 0 || c.Events == 0 && c.Rows == 0:
		return errors.New("household: want a number of events or of rows")
	case !(c.Days > 0 && c.Days <= 366):
		return fmt.Errorf("household: %v days: want more than 0, at most 366", c.Days)
	case c.Devices < 1 || c.Devices > maxDevices:
		return fmt.Errorf("household: %d devices: want 1 to %d", c.Devices, maxDevices)
	case c.Hosts < 1:
		return fmt.Errorf("household: %d hosts: want at least 1", c.Hosts)
	case c.Format != 7 && c.Format != 8:
		return fmt.Errorf("household: format %d: want 7 or 8", c.Format)
	case c.P2P < 0 || c.Noise < 0 || c.Inbound < 0 || c.P2P+c.Noise+c.Inbound > 1:
		return fmt.Errorf("household: fractions %v, %v, %v: want none negative and a sum of at most 1", c.P2P, c.Noise, c.Inbound)
	case c.Rows > 0 && c.Noise+c.Inbound >= 1:
		return errors.New("household: a number of rows from noise alone")
	case c.End.IsZero():
		return errors.New("household: want the end of the time span")
	}
	return nil
}

// MAC is an Ethernet address.
type MAC [6]byte

// String is the address in lower case with colons.
func (m MAC) String() string { return string(appendMAC(nil, m)) }

// The IP protocol numbers of the rows.
const (
	TCP uint8 = 6
	UDP uint8 = 17
)

// Row is a flow that an ideal collector ends up with: a connection of a device
// over TCP or UDP that was answered, and is not DNS itself.
type Row struct {
	Start, End  int64 // Unix time in milliseconds
	Device      string
	MAC         MAC
	Interface   string     // the bridge
	Local       netip.Addr // the device's address
	Remote      netip.Addr
	OpenerPort  uint16 // of the side that opened the connection
	Port        uint16 // of the side that was connected to
	Proto       uint8
	Inbound     bool   // opened from outside
	App         string // application protocol as Suricata names it, "" if unknown
	Name        string // what the far end was called, "" if no event tells; see Called
	Source      string // what told: "tls", "quic", "http", "dns" or ""
	Sent, Recvd uint64 // bytes, as seen from the device
}

// Called is what Pakon calls the far end, and by what: where no event tells, its
// port or its address may.
func (r *Row) Called() (string, string) {
	if r.Name != "" || r.Inbound {
		return r.Name, r.Source
	}
	n, source := name.WellKnown(r.Proto, r.Port, r.Remote, false)
	return n, source.String()
}

// Generate writes the events, one JSON object a line, in order of time. row,
// which may be nil, is called for each flow right after its flow event was
// written: flows that are still running when the events end have no row. The
// Row is the callee's to keep. With a nil w no event is made, but the rows
// are the same.
func Generate(cfg Config, w io.Writer, row func(*Row)) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	return newLife(cfg, w, row).run()
}
