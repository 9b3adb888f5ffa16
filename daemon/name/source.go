package name

import "fmt"

// Source is what told a name. Higher values are trusted more: a client states
// the name it wants in SNI and Host, while a DNS answer only tells what it
// asked for before, and a certificate may serve many names.
type Source uint8

// The sources, in ascending order of trust.
const (
	None        Source = iota // no name is known
	Certificate               // the subject of the server's certificate
	DNS                       // an answer that the client received for this address
	HTTP                      // the Host header of a request
	QUIC                      // SNI in a QUIC Initial
	TLS                       // SNI in a TLS ClientHello
)

var sources = [...]string{"", "cert", "dns", "http", "quic", "tls"}

// String is the source as users see it in the field "source"; "" for None.
func (s Source) String() string {
	if int(s) < len(sources) {
		return sources[s]
	}
	return fmt.Sprintf("source(%d)", uint8(s))
}
