package lists

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest name, in bytes (RFC 1035, section 2.3.4).
const maxName = 255

// normalise returns the form in which names are compared: lower case, without a
// final dot, labels in other scripts as the DNS has them (RFC 5891).
func normalise(s string) string {
	s = strings.TrimSuffix(s, ".")
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return toASCII(s)
		}
	}
	return strings.ToLower(s)
}

// toASCII writes the labels in other scripts in Punycode. (What
// golang.org/x/net/idna does beyond that is not worth the quarter of a megabyte
// of its tables: the names that are compared come from the DNS, where that has
// been done.)
func toASCII(s string) string {
	var b strings.Builder
	for i, label := range strings.Split(s, ".") {
		if i > 0 {
			b.WriteByte('.')
		}
		label = strings.Map(unicode.ToLower, label)
		if strings.IndexFunc(label, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
			b.WriteString(label)
			continue
		}
		b.WriteString("xn--")
		b.WriteString(punycode([]rune(label)))
	}
	return b.String()
}

// Parameters of Punycode: RFC 3492, section 5.
const (
	base        = 36
	tMin, tMax  = 1, 26
	skew, damp  = 38, 700
	initialBias = 72
	initialN    = 128
)

// punycode encodes a label: RFC 3492, section 6.3. Its time is bounded by
// the square of its length; that of a label in a name of 255 bytes is small.
func punycode(label []rune) string {
	out := make([]byte, 0, 2*len(label))
	for _, r := range label {
		if r < initialN {
			out = append(out, byte(r))
		}
	}
	basic := len(out)
	if basic > 0 {
		out = append(out, '-')
	}
	n, delta, bias := rune(initialN), 0, initialBias
	for done := basic; done < len(label); n++ {
		next := rune(unicode.MaxRune)
		for _, r := range label {
			if r >= n && r < next {
				next = r
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, r := range label {
			if r < n {
				delta++
			}
			if r != n {
				continue
			}
			q := delta
			for k := base; ; k += base {
				t := min(max(k-bias, tMin), tMax)
				if q < t {
					break
				}
				out = append(out, digit(t+(q-t)%(base-t)))
				q = (q - t) / (base - t)
			}
			out = append(out, digit(q))
			done++
			bias = adapt(delta, done, done == basic+1)
			delta = 0
		}
		delta++
	}
	return string(out)
}

func digit(d int) byte {
	if d < 26 {
		return byte('a' + d)
	}
	return byte('0' + d - 26)
}

func adapt(delta, done int, first bool) int {
	if first {
		delta /= damp
	} else {
		delta /= 2
	}
	delta += delta / done
	k := 0
	for ; delta > (base-tMin)*tMax/2; k += base {
		delta /= base - tMin
	}
	return k + (base-tMin+1)*delta/(delta+skew)
}

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
				return appendReversed(dst[:0], toASCII(name))
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
