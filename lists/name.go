package lists

import (
	"strings"
	"unicode/utf8"

	"pakon/lists/hostname"
)

// maxName is the longest name, in bytes (RFC 1035, section 2.3.4).
const maxName = 255

// separator is between labels in reverse. No name has it, and it is before all that
// a name has: so that in order of bytes what is below a domain follows it.
const separator = 0

// appendReversed appends a normalised name with its labels in reverse and
// separators between them. So the entries that match a name are prefixes of it. Of
// what is no name, or too long for one, nothing is left. dst is empty.
func appendReversed(dst []byte, name string) []byte {
	name = strings.TrimSuffix(name, ".")
	if len(name) > maxName {
		return dst
	}
	for end := len(name); ; {
		start := strings.LastIndexByte(name[:end], '.') + 1
		if start == end {
			return dst[:0]
		}
		for i := start; i < end; i++ {
			c := name[i]
			if c >= utf8.RuneSelf {
				return appendReversed(dst[:0], hostname.Normalise(name))
			}
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			if c <= ' ' || c == 0x7f {
				return dst[:0]
			}
			dst = append(dst, c)
		}
		if start == 0 {
			return dst
		}
		dst = append(dst, separator)
		end = start - 1
	}
}

// isHostName tells whether s, which is normalised, is what a person would call a
// host, or a part of one.
func isHostName(s string) bool {
	return isName(s) && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// isName tells whether s can be (a part of) a host name. Spaces and control
// characters can not; anything else may be in a name that someone made up.
func isName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}
