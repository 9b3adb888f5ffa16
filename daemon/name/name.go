// Package name tells what the far end of a connection is called: it cleans
// the names that the network states, remembers the DNS answers that each client
// received, and knows some addresses and ports that tell a name by themselves.
// Which name a connection gets in the end is decided by its caller, as Source
// says; grouping and hiding of names is left to package lists.
package name

import (
	"bytes"
	"net/netip"
	"unicode"
	"unicode/utf8"
)

// MaxLen is the longest name that is kept, in bytes (RFC 1035, section 2.3.4).
const MaxLen = 255

// Clean appends the form of a name that is stored to dst: lower case, without
// a port or a final dot. It returns nil for what is no name: text that is
// empty, too long, not UTF-8, holds control or direction-changing characters,
// or is an address. Anything else may be in a name: whoever shows it escapes it.
func Clean(dst, raw []byte) []byte {
	raw = trimPort(raw)
	raw = bytes.TrimSuffix(raw, []byte("."))
	if len(raw) == 0 || len(raw) > MaxLen {
		return nil
	}
	from := len(dst)
	digits := true
	for i := 0; i < len(raw); {
		c := raw[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return nil
			}
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			if c != '.' && (c < '0' || c > '9') {
				digits = false
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || unicode.Is(unicode.Bidi_Control, r) {
			return nil
		}
		digits = false
		dst = utf8.AppendRune(dst, unicode.ToLower(r))
		i += n
	}
	out := dst[from:]
	if len(out) > MaxLen || digits || isIPv6(out) {
		return nil
	}
	return dst
}

// trimPort cuts ":8080" off a host of HTTP. An address in brackets keeps them
// and so is never taken for a name with a port.
func trimPort(b []byte) []byte {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 || bytes.IndexByte(b, ':') != i {
		return b
	}
	for _, c := range b[i+1:] {
		if c < '0' || c > '9' {
			return b
		}
	}
	return b[:i]
}

func isIPv6(b []byte) bool {
	if bytes.IndexByte(b, ':') < 0 {
		return false
	}
	b = bytes.TrimPrefix(b, []byte("["))
	if i := bytes.IndexByte(b, ']'); i >= 0 {
		b = b[:i]
	}
	_, err := netip.ParseAddr(string(b))
	return err == nil
}
