// Package name tells what the far end of a connection is called: it cleans
// the names that the network states, chooses among those of a certificate, knows
// which are covers for others, remembers the DNS answers that each client
// received, and knows some addresses and ports that tell a name by themselves.
// Which name a connection gets in the end is decided by its caller, as Source
// says; grouping and hiding of names is left to package lists.
package name

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"pakon/lists/hostname"
)

// MaxLen is the longest name that is kept, in bytes (RFC 1035, section 2.3.4).
const MaxLen = 255

// maxLabel is the longest label of a name (RFC 1035, section 2.3.4), in characters.
const maxLabel = 63

// Clean appends the form of a host's name that is stored to dst: lower case,
// letters of other scripts in Punycode, without a port, a final dot or what else
// belongs to a URL. raw may be a name as
// DNS, SNI or a certificate has it, the Host header of a request, several such
// headers in one ("a.example, b.example": the first counts), or a URL. It returns
// nil for what is no name of a host: an address, or text that holds anything but
// letters, digits, '-' and '_' between its dots. So what stands for a user or a
// password is never part of a name.
func Clean(dst, raw []byte) []byte {
	raw = trimPort(hostOf(bytes.TrimSpace(raw)))
	raw = bytes.TrimRight(raw, ".")
	if len(raw) == 0 || len(raw) > MaxLen {
		return nil
	}
	from := len(dst)
	label, letter := 0, false // characters of the label so far, and whether a letter is among them
	for i := 0; i < len(raw); {
		r, n := rune(raw[i]), 1
		if r >= utf8.RuneSelf {
			if r, n = utf8.DecodeRune(raw[i:]); r == utf8.RuneError && n == 1 {
				return nil
			}
		}
		i += n
		switch {
		case r == '.' || r == '。' || r == '．' || r == '｡': // a dot to IDNA (RFC 3490, section 3.1)
			if label == 0 || label > maxLabel {
				return nil
			}
			dst = append(dst, '.')
			label, letter = 0, false
			continue
		case 'A' <= r && r <= 'Z':
			r += 'a' - 'A'
			letter = true
		case 'a' <= r && r <= 'z':
			letter = true
		case '0' <= r && r <= '9', r == '-', r == '_':
		case r < utf8.RuneSelf:
			return nil
		case unicode.IsLetter(r):
			r = unicode.ToLower(r)
			letter = true
		case unicode.IsMark(r), unicode.IsDigit(r), r == zwnj, r == zwj, r == '·', r == '・':
		default:
			return nil
		}
		dst = utf8.AppendRune(dst, r)
		label++
	}
	// The last label of an address is a number (0x7f000001 is one, too); that of a
	// name never is.
	out := dst[from:]
	last := out[bytes.LastIndexByte(out, '.')+1:]
	if label == 0 || label > maxLabel || !letter || len(out) > MaxLen || isHex(last) {
		return nil
	}
	if bytes.ContainsFunc(out, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return ascii(dst[:from], out)
	}
	return dst
}

// ascii appends a name in other scripts as the DNS has it, which is what people's
// words are compared with; nil if the DNS can not have it.
func ascii(dst, name []byte) []byte {
	s := hostname.Normalise(string(name))
	for label := range strings.SplitSeq(s, ".") {
		if len(label) > maxLabel {
			return nil
		}
	}
	if len(s) > MaxLen {
		return nil
	}
	return append(dst, s...)
}

// zwnj and zwj join letters in some scripts, and are parts of names there as the
// middle dots are (RFC 5892, appendix A).
const zwnj, zwj = '\u200c', '\u200d'

// hostOf cuts the host, and its port, out of a URL or a list of hosts. What is
// neither it leaves as it is.
func hostOf(b []byte) []byte {
	rest := b
	i := bytes.Index(b, []byte("//"))
	url := i == 0 || i > 1 && b[i-1] == ':' && isScheme(b[:i-1])
	if url {
		rest = b[i+2:]
	}
	end := len(rest)
	if i := bytes.IndexByte(rest, ','); i >= 0 {
		end = i
	}
	if i := bytes.IndexAny(rest[:end], `/?#\`); url && i >= 0 {
		end = i
	}
	host := rest[:end]
	if bytes.IndexByte(rest[end:], '@') >= 0 {
		return nil // the end may be part of a password
	}
	return bytes.TrimSpace(host[bytes.LastIndexByte(host, '@')+1:])
}

func isScheme(b []byte) bool {
	for _, c := range b {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return false
		}
	}
	return true
}

// trimPort cuts ":8080" off. What else a colon is in is not taken for a name.
func trimPort(b []byte) []byte {
	i := bytes.IndexByte(b, ':')
	if i < 0 {
		return b
	}
	for _, c := range b[i+1:] {
		if c < '0' || c > '9' {
			return b
		}
	}
	return b[:i]
}

// isHex tells whether a label is a hexadecimal number.
func isHex(label []byte) bool {
	if len(label) < 2 || label[0] != '0' || label[1] != 'x' {
		return false
	}
	for _, c := range label[2:] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
