// Package hostname reads the names of hosts as people write them, and writes them as
// the DNS has them. What a name belongs to is the business of package lists.
package hostname

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Want is what Parse reads, in the words of an error.
const Want = "a host name such as example.org, or an IP address"

// The longest name and label, in bytes (RFC 1035, section 2.3.4).
const (
	maxName  = 253
	maxLabel = 63
)

// Parse returns the name or the address of the host that a person means, in the form
// in which names are compared: of a name, in letters of any language, with a dot at
// its end or with `*.` in front, which is meant in any case; or of a URL. ok is false
// if that can be neither name nor address.
func Parse(s string) (name string, ok bool) {
	s = strings.TrimSpace(s)
	if a, ok := parseAddr(s); ok {
		return a, true
	}
	if s, ok = host(s); !ok {
		return "", false
	}
	if a, ok := parseAddr(s); ok {
		return a, true
	}
	if !utf8.ValidString(s) {
		return "", false
	}
	if s = dots.Replace(s); strings.HasPrefix(s, "*.") {
		s = s[1:]
	}
	s = strings.TrimPrefix(s, ".")
	if strings.ContainsFunc(s, notInName) {
		return "", false
	}
	s = Normalise(s)
	if len(s) > maxName || strings.Trim(s, "0123456789.") == "" { // no top-level domain is a number
		return "", false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel {
			return "", false
		}
	}
	return s, true
}

func parseAddr(s string) (addr string, ok bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(s, "."))
	if err != nil || a.Zone() != "" {
		return "", false
	}
	return a.Unmap().String(), true
}

// host cuts the host out of a URL, of which the scheme may lack. It returns what is
// none as it is.
func host(s string) (h string, ok bool) {
	before, rest, isURL := strings.Cut(s, "//")
	if isURL && before != "" {
		scheme, colon := strings.CutSuffix(before, ":")
		isURL = colon && !strings.ContainsFunc(scheme, func(r rune) bool {
			return r >= utf8.RuneSelf || notInName(r) && r != '+' && r != '.'
		})
	}
	end := `/\`
	if isURL {
		s, end = rest, `/\?#`
	}
	if i := strings.IndexAny(s, end); i >= 0 {
		if _, ok := parseAddr(s[:i]); ok && !isURL { // with a prefix length it is no host
			return "", false
		}
		s = s[:i]
	}
	if isURL {
		s = s[strings.LastIndexByte(s, '@')+1:]
	}
	if in, bracket := strings.CutPrefix(s, "["); bracket {
		in, port, closed := strings.Cut(in, "]")
		_, isAddr := parseAddr(in)
		return in, closed && isAddr && isPort(port)
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		return s[:i], isPort(s[i:])
	}
	return s, true
}

// isPort tells whether s is what may stand behind a host: nothing, or ":443".
func isPort(s string) bool {
	digits, colon := strings.CutPrefix(s, ":")
	if !colon || digits == "" {
		return s == "" || colon
	}
	_, err := strconv.ParseUint(digits, 10, 16)
	return err == nil
}

// dots are what separates labels where people write in other scripts (RFC 3490,
// section 3.1).
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

// notInName tells a character that no name has. A mark such as U+0308 that stands
// behind its letter is among them: the DNS has both as one character (RFC 5891,
// section 4.2.1), and names with two would find nothing.
func notInName(r rune) bool {
	switch {
	case '\u0300' <= r && r <= '\u036f':
		return true
	case r < utf8.RuneSelf:
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.')
	case r == '\u00b7' || r == '\u30fb' || r == '\u200c' || r == '\u200d': // middle dots and joiners: RFC 5892, appendix A
		return false
	}
	return r == utf8.RuneError || !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.So, unicode.Sk)
}

// Normalise returns the form in which names are compared: lower case, without a
// final dot, labels in other scripts as the DNS has them (RFC 5891).
func Normalise(s string) string {
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
