package name

import "fmt"

// Source is what told a name. Up to TLS, higher values are trusted more: a client
// states the name it wants in SNI and Host, while a DNS answer only tells what it
// asked for before, and a certificate may serve many names. Address and Port are
// the least: they name only what no other source does. The values are stored, in
// three bits.
type Source uint8

// The sources.
const (
	None        Source = iota // no name is known
	Certificate               // the subject of the server's certificate
	DNS                       // an answer that the client received for this address
	HTTP                      // the Host header of a request
	QUIC                      // SNI in a QUIC Initial
	TLS                       // SNI in a TLS ClientHello
	Address                   // the far end's address, which is known to be that
	Port                      // the port, which says what the connection is for, not with whom

	// Sources is how many there are.
	Sources
)

var sources = [Sources]string{"", "cert", "dns", "http", "quic", "tls", "address", "port"}

// Named tells whether the source names the far end, and not only what a
// connection is for.
func (s Source) Named() bool { return s != None && s != Port }

// String is the source as users see it in the field "source"; "" for None.
func (s Source) String() string {
	if int(s) < len(sources) {
		return sources[s]
	}
	return fmt.Sprintf("source(%d)", uint8(s))
}
