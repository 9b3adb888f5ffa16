package name

import (
	"bytes"
	"strings"
)

// CertificateNames are what a server's certificate calls the server, as the network
// sent it.
type CertificateNames struct {
	Common [][]byte // the common names of its subject, the most specific one last
	Alt    [][]byte // its subjectAltNames
}

// Name appends the name of the certificate to dst: of the common name, else of the
// subjectAltNames the first that is the name of a host. One with a dot goes before
// those without. It returns nil if there is none.
func (c *CertificateNames) Name(dst []byte) []byte {
	for _, dotted := range [...]bool{true, false} {
		for i := len(c.Common) - 1; i >= 0; i-- {
			if n := certified(dst, c.Common[i], dotted); n != nil {
				return n
			}
		}
		for _, raw := range c.Alt {
			if n := certified(dst, raw, dotted); n != nil {
				return n
			}
		}
	}
	return nil
}

// certified appends one name of a certificate; "*.example.org" is example.org.
// Mail addresses and URLs, which stand among the subjectAltNames, are no names of
// hosts.
func certified(dst, raw []byte, dotted bool) []byte {
	if bytes.ContainsAny(raw, "@/") {
		return nil
	}
	n := Clean(dst, bytes.TrimPrefix(raw, []byte("*.")))
	if n == nil {
		return nil
	}
	if own := n[len(dst):]; bytes.IndexByte(own, '.') >= 0 != dotted || isPlaceholder(string(own)) {
		return nil
	}
	return n
}

// isPlaceholder tells whether a name says nothing of the server that has it in its
// certificate (RFC 6761, sections 6.3 and 6.4).
func isPlaceholder(n string) bool {
	last := n[strings.LastIndexByte(n, '.')+1:]
	return last == "localhost" || last == "localdomain" || last == "invalid"
}

// Covers tells whether the certificate is good for a name.
func (c *CertificateNames) Covers(n string) bool {
	name := []byte(n)
	_, above, _ := bytes.Cut(name, []byte("."))
	for _, list := range [...][][]byte{c.Common, c.Alt} {
		for _, raw := range list {
			if wild, ok := bytes.CutPrefix(raw, []byte("*.")); ok && len(above) > 0 && equalName(wild, above) || equalName(raw, name) {
				return true
			}
		}
	}
	return false
}
