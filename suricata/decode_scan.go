package suricata

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner walks one line of JSON (RFC 8259). Its methods take the position of
// what they read and return the position behind it, or -1 once the line is
// found to be wrong: why is in err then.
type scanner struct {
	b       []byte // the line
	scratch []byte // strings that had escapes
	err     DecodeError
}

// maxDepth bounds how deep arrays and objects that are skipped may nest.
const maxDepth = 64

// fail records the first thing that is wrong.
func (s *scanner) fail(why error, at int) int {
	if s.err.Err == nil {
		s.err.Err, s.err.Offset = why, min(at, len(s.b))
	}
	return -1
}

// at is the byte at i; 0, which nothing outside a string may be, at the end.
func (s *scanner) at(i int) byte {
	if uint(i) < uint(len(s.b)) {
		return s.b[i]
	}
	return 0
}

// space returns the position of the first byte at or after i that is not white
// space.
func (s *scanner) space(i int) int {
	for {
		switch s.at(i) {
		case ' ', '\t', '\r', '\n':
			i++
		default:
			return i
		}
	}
}

// isNull tells whether the literal null begins at i.
func (s *scanner) isNull(i int) bool {
	return len(s.b)-i >= 4 && s.b[i] == 'n' && string(s.b[i:i+4]) == "null"
}

// open enters the object or array that begins at i. more is false if it is
// empty; then the position is behind it.
func (s *scanner) open(i int, opening, closing byte) (next int, more bool) {
	if s.at(i) != opening {
		return s.fail(ErrValue, i), false
	}
	i = s.space(i + 1)
	if s.at(i) == closing {
		return i + 1, false
	}
	return i, true
}

// more goes on behind a value in an object or array: more is false, and the
// position behind it, if that was its last.
func (s *scanner) more(i int, closing byte) (next int, more bool) {
	c := s.at(i)
	if c <= ' ' {
		i = s.space(i)
		c = s.at(i)
	}
	switch c {
	case ',':
		i++
		if s.at(i) <= ' ' {
			i = s.space(i)
		}
		return i, true
	case closing:
		return i + 1, false
	}
	return s.fail(ErrSyntax, i), false
}

// key reads a member's name and the colon behind it.
func (s *scanner) key(i int) (key []byte, value int) {
	if s.at(i) != '"' {
		return nil, s.fail(ErrSyntax, i)
	}
	end, escaped := stringEnd(s.b, i+1)
	if end < 0 {
		return nil, s.fail(ErrSyntax, i)
	}
	key = s.b[i+1 : end]
	if escaped {
		key = s.unescape(key)
	}
	i = end + 1
	if s.at(i) <= ' ' {
		i = s.space(i)
	}
	if s.at(i) != ':' {
		return nil, s.fail(ErrSyntax, i)
	}
	i++
	if s.at(i) <= ' ' {
		i = s.space(i)
	}
	return key, i
}

// text reads a string; null is the empty string.
func (s *scanner) text(i int) (v []byte, next int) {
	if s.at(i) != '"' {
		if s.isNull(i) {
			return nil, i + 4
		}
		return nil, s.fail(ErrValue, i)
	}
	end, escaped := stringEnd(s.b, i+1)
	if end < 0 {
		return nil, s.fail(ErrSyntax, i)
	}
	v = s.b[i+1 : end : end]
	if escaped {
		v = s.unescape(v)
	}
	return v, end + 1
}

// number reads an integer from 0 to limit; null is 0.
func (s *scanner) number(i int, limit uint64) (v uint64, next int) {
	start := i
	for {
		c := s.at(i) - '0'
		if c > 9 {
			break
		}
		if v > (1<<64-1-uint64(c))/10 {
			return 0, s.fail(ErrValue, start)
		}
		v = v*10 + uint64(c)
		i++
	}
	if i == start {
		if s.isNull(i) {
			return 0, i + 4
		}
		return 0, s.fail(ErrValue, i)
	}
	if c := s.at(i); c == '.' || c|0x20 == 'e' || v > limit {
		return 0, s.fail(ErrValue, start)
	}
	if s.b[start] == '0' && i > start+1 {
		return 0, s.fail(ErrSyntax, start)
	}
	return v, i
}

// quantity reads how much there is of something, for which any number stands: what
// is below 0 (a gauge of which more was taken away than added) is 0, what is too
// large the largest, and fractions are cut off. null is 0.
func (s *scanner) quantity(i int) (v uint64, next int) {
	start := i
	for {
		c := s.at(i) - '0'
		if c > 9 || i == start+19 { // 19 digits fit
			break
		}
		v = v*10 + uint64(c)
		i++
	}
	if c := s.at(i); i > start && c-'0' > 9 && c != '.' && c|0x20 != 'e' && (s.b[start] != '0' || i == start+1) {
		return v, i
	}
	if s.isNull(start) {
		return 0, start + 4
	}
	if c := s.at(start); c != '-' && c-'0' > 9 {
		return 0, s.fail(ErrValue, start)
	}
	if next = s.skipNumber(start); next < 0 {
		return 0, -1
	}
	text := string(s.b[start:next])
	if v, err := strconv.ParseUint(text, 10, 64); err == nil {
		return v, next
	}
	f, _ := strconv.ParseFloat(text, 64) // infinite if it is out of range
	switch {
	case f >= 1<<64:
		return 1<<64 - 1, next
	case f > 0:
		return uint64(f), next
	}
	return 0, next
}

// skip checks and passes over any value.
func (s *scanner) skip(i int) int {
	switch s.at(i) {
	case '"':
		end, _ := stringEnd(s.b, i+1)
		if end < 0 {
			return s.fail(ErrSyntax, i)
		}
		return end + 1
	case '{', '[':
		return s.skipNested(i)
	}
	return s.skipScalar(i)
}

func (s *scanner) skipScalar(i int) int {
	word := ""
	switch s.at(i) {
	case 't':
		word = "true"
	case 'f':
		word = "false"
	case 'n':
		word = "null"
	default:
		return s.skipNumber(i)
	}
	if len(s.b)-i < len(word) || string(s.b[i:i+len(word)]) != word {
		return s.fail(ErrSyntax, i)
	}
	return i + len(word)
}

func (s *scanner) skipNumber(i int) int {
	start := i
	if s.at(i) == '-' {
		i++
	}
	digits := i
	if i = s.digits(i); i == digits || s.b[digits] == '0' && i > digits+1 {
		return s.fail(ErrSyntax, start)
	}
	if s.at(i) == '.' {
		digits = i + 1
		if i = s.digits(digits); i == digits {
			return s.fail(ErrSyntax, start)
		}
	}
	if s.at(i)|0x20 == 'e' {
		digits = i + 1
		if c := s.at(digits); c == '+' || c == '-' {
			digits++
		}
		if i = s.digits(digits); i == digits {
			return s.fail(ErrSyntax, start)
		}
	}
	return i
}

func (s *scanner) digits(i int) int {
	for s.at(i)-'0' <= 9 {
		i++
	}
	return i
}

// skipNested passes over an object or array without recursion: objects has a
// bit for each level that is open, the innermost lowest, set for an object.
func (s *scanner) skipNested(i int) int {
	var objects uint64
	depth := 0
	for {
		// i is at a value.
		switch c := s.at(i); c {
		case '{', '[':
			if depth == maxDepth {
				return s.fail(ErrDepth, i)
			}
			depth++
			objects <<= 1
			var inside bool
			if c == '{' {
				objects |= 1
				i, inside = s.open(i, '{', '}')
			} else {
				i, inside = s.open(i, '[', ']')
			}
			if inside {
				if objects&1 != 0 {
					if _, i = s.key(i); i < 0 {
						return -1
					}
				}
				continue
			}
			depth--
			objects >>= 1
		case '"':
			end, _ := stringEnd(s.b, i+1)
			if end < 0 {
				return s.fail(ErrSyntax, i)
			}
			i = end + 1
		default:
			if i = s.skipScalar(i); i < 0 {
				return -1
			}
		}
		// i is behind a value: leave what ends here.
		for {
			if depth == 0 {
				return i
			}
			closing := byte(']')
			if objects&1 != 0 {
				closing = '}'
			}
			var more bool
			if i, more = s.more(i, closing); i < 0 {
				return -1
			}
			if more {
				break
			}
			depth--
			objects >>= 1
		}
		if objects&1 != 0 {
			if _, i = s.key(i); i < 0 {
				return -1
			}
		}
	}
}

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// stringEnd returns the position of the quote that ends the string whose first
// byte is at i, and whether there are escapes in it; -1 if it does not end or
// holds an invalid escape or a control character.
func stringEnd(b []byte, i int) (end int, escaped bool) {
	for {
		// Eight bytes at a time where the processor loads them at once: the
		// lowest high bit set in special is that of the first byte that is a
		// quote, a backslash or a control character.
		for bits.UintSize == 64 && i >= 0 && i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i : i+8])
			quote, slash := w^(lows*'"'), w^(lows*'\\')
			special := ((quote-lows)&^quote | (slash-lows)&^slash | (w-lows*' ')&^w) & highs
			if special != 0 {
				i += bits.TrailingZeros64(special) >> 3
				if b[i] == '"' {
					return i, escaped
				}
				break
			}
			i += 8
		}
		for uint(i) < uint(len(b)) && ordinaryByte[b[i]] {
			i++
		}
		if uint(i) >= uint(len(b)) {
			return -1, false
		}
		if b[i] == '"' {
			return i, escaped
		}
		n := escapeLen(b[i:])
		if n == 0 {
			return -1, false
		}
		i += n
		escaped = true
	}
}

// ordinaryByte tells which bytes stand for themselves in a string.
var ordinaryByte = func() (p [256]bool) {
	for c := ' '; c <= 0xff; c++ {
		p[c] = c != '"' && c != '\\'
	}
	return p
}()

// escapeLen is the length of the escape sequence that b begins with, 0 if it is
// none.
func escapeLen(b []byte) int {
	if len(b) < 2 || b[0] != '\\' {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if hex4(b[2:]) >= 0 {
			return 6
		}
	}
	return 0
}

// hex4 is the value of the four hexadecimal digits that b begins with, -1 if
// they are not.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	v := rune(0)
	for _, c := range b[:4] {
		d := hexDigit[c]
		if d < 0 {
			return -1
		}
		v = v<<4 | rune(d)
	}
	return v
}

// hexDigit is the value of a hexadecimal digit, -1 for any other byte.
var hexDigit = func() (t [256]int8) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9':
			t[c] = int8(c - '0')
		case c >= 'a' && c <= 'f':
			t[c] = int8(c - 'a' + 10)
		case c >= 'A' && c <= 'F':
			t[c] = int8(c - 'A' + 10)
		default:
			t[c] = -1
		}
	}
	return t
}()

// unescape returns the text of a string whose escapes stringEnd has checked.
// Half a surrogate pair becomes U+FFFD, as encoding/json has it.
func (s *scanner) unescape(b []byte) []byte {
	start := len(s.scratch)
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			s.scratch = append(s.scratch, b[i])
			i++
			continue
		}
		c := b[i+1]
		if c != 'u' {
			s.scratch = append(s.scratch, shortEscape(c))
			i += 2
			continue
		}
		r := hex4(b[i+2:])
		i += 6
		if utf16.IsSurrogate(r) {
			low := rune(-1)
			if i+1 < len(b) && b[i] == '\\' && b[i+1] == 'u' {
				low = hex4(b[i+2:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 6
			}
		}
		s.scratch = utf8.AppendRune(s.scratch, r)
	}
	return s.scratch[start:len(s.scratch):len(s.scratch)]
}

func shortEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
