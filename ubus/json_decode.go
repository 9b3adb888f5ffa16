package ubus

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth is how deep json-c nests: the object itself and 31 more.
const maxJSONDepth = 32

// FromJSON reads an object as the bus's own tools do (they use json-c, not in its strict mode): integers become int32
// if they fit, else int64, clamped to its range; anything with a point or exponent is a double; single quotes,
// comments, a comma before a closing bracket, leading zeros, raw control characters, True and NULL, NaN and Infinity
// are taken; what follows the object is ignored; of equal names the last value counts; a string ends at \u0000.
// Every error wraps StatusParseError.
func FromJSON(b []byte) (Table, error) {
	p := parser{s: string(b)}
	t, err := p.object()
	if err != nil {
		return nil, fmt.Errorf("%w: %s at byte %d", StatusParseError, err, p.i)
	}
	return t, nil
}

type parser struct {
	s string
	i int
}

type jsonError string

const errSlash = jsonError("'/' that begins no comment")

func (e jsonError) Error() string { return string(e) }

// object reads the outermost value, which must be an object.
func (p *parser) object() (Table, error) {
	if err := p.space(); err != nil {
		return nil, err
	}
	if p.peek() != '{' {
		return nil, jsonError("expected an object")
	}
	t, err := p.table(1)
	if err != nil {
		return nil, err
	}
	// What follows does not matter, except that json-c still looks for comments there.
	if err := p.space(); err == errSlash {
		return nil, err
	}
	return t, nil
}

// peek is the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

// space skips white space and comments.
func (p *parser) space() error {
	for {
		switch p.peek() {
		case ' ', '\t', '\n', '\r':
			p.i++
			continue
		case '/':
		default:
			return nil
		}
		rest := p.s[p.i:]
		switch {
		case strings.HasPrefix(rest, "/*"):
			n := commentLen(rest)
			if n == 0 {
				return jsonError("comment without end")
			}
			p.i += n
		case strings.HasPrefix(rest, "//"):
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				return jsonError("unexpected end")
			}
			p.i += end + 1
		default:
			return errSlash
		}
	}
}

// commentLen is the length of the comment that s begins with, 0 if it does not end. As in json-c the byte behind a '*'
// is looked at once, as a '/' that ends the comment: "/***/" goes on.
func commentLen(s string) int {
	for i := 2; i+1 < len(s); i++ {
		if s[i] != '*' {
			continue
		}
		if i++; s[i] == '/' {
			return i + 1
		}
	}
	return 0
}

// table reads an object whose values are depth levels below the outermost value.
func (p *parser) table(depth int) (Table, error) {
	t := Table{}
	var index map[string]int // of names, once there are too many to search
	err := p.list('}', func() error {
		if c := p.peek(); c != '"' && c != '\'' {
			return jsonError("expected a quoted name")
		}
		name, err := p.string()
		if err != nil {
			return err
		}
		if err := p.space(); err != nil {
			return err
		}
		if p.peek() != ':' {
			return jsonError("expected ':'")
		}
		p.i++
		if err := p.space(); err != nil {
			return err
		}
		v, err := p.value(depth)
		if err != nil {
			return err
		}
		t, index = setField(t, index, name, v)
		return nil
	})
	return t, err
}

// setField sets the value of that name, where it first occurred.
func setField(t Table, index map[string]int, name string, v any) (Table, map[string]int) {
	const few = 16
	at, found := 0, false
	if index != nil {
		at, found = index[name]
	} else {
		for i := range t {
			if t[i].Name == name {
				at, found = i, true
				break
			}
		}
	}
	if found {
		t[at].Value = v
		return t, index
	}
	t = append(t, Field{name, v})
	switch {
	case index != nil:
		index[name] = len(t) - 1
	case len(t) == few:
		index = make(map[string]int, 2*few)
		for i := range t {
			index[t[i].Name] = i
		}
	}
	return t, index
}

func (p *parser) array(depth int) (Array, error) {
	a := Array{}
	err := p.list(']', func() error {
		v, err := p.value(depth)
		a = append(a, v)
		return err
	})
	return a, err
}

// list reads the elements between an opening bracket, at which p stands, and the closing one.
func (p *parser) list(closing byte, element func() error) error {
	p.i++
	for {
		if err := p.space(); err != nil {
			return err
		}
		if p.peek() == closing {
			p.i++
			return nil
		}
		if err := element(); err != nil {
			return err
		}
		if err := p.space(); err != nil {
			return err
		}
		switch c := p.peek(); c {
		case ',':
			p.i++
		case closing:
		default:
			return jsonError("expected ',' or '" + string(rune(closing)) + "'")
		}
	}
}

// value reads any value; depth is that of the value, 0 for the outermost.
func (p *parser) value(depth int) (any, error) {
	if depth >= maxJSONDepth {
		return nil, jsonError("nested too deep")
	}
	switch c := p.peek(); {
	case c == '{':
		return p.table(depth + 1)
	case c == '[':
		return p.array(depth + 1)
	case c == '"' || c == '\'':
		return p.string()
	case c == '-' && p.word(p.i+1, "infinity"):
		p.i += len("-infinity")
		return math.Inf(-1), nil
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case p.word(p.i, "null"):
		p.i += len("null")
		return nil, nil
	case p.word(p.i, "nan"):
		p.i += len("nan")
		return math.Float64frombits(0x7ff8 << 48), nil // the bits of C's NAN
	case p.word(p.i, "infinity"):
		p.i += len("infinity")
		return math.Inf(1), nil
	case p.word(p.i, "true"):
		p.i += len("true")
		return true, nil
	case p.word(p.i, "false"):
		p.i += len("false")
		return false, nil
	}
	return nil, jsonError("expected a value")
}

// word says whether w, which is in small letters, stands at i in small or large ones.
func (p *parser) word(i int, w string) bool {
	return len(p.s)-i >= len(w) && strings.EqualFold(p.s[i:i+len(w)], w)
}

func (p *parser) number() (any, error) {
	start := p.i
	double, exponent := false, false
	if p.peek() == '-' {
		p.i++
	}
scan:
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c >= '0' && c <= '9':
		case c == '.' && !double:
			double = true
		case (c == 'e' || c == 'E') && !exponent:
			double, exponent = true, true
		case (c == '-' || c == '+') && (p.s[p.i-1] == 'e' || p.s[p.i-1] == 'E'):
		default:
			break scan
		}
	}
	text := p.s[start:p.i]
	if double {
		// json-c, too, takes an exponent without digits for none.
		text = strings.TrimRight(text, "eE+-")
		v, err := strconv.ParseFloat(text, 64)
		if err != nil && !math.IsInf(v, 0) {
			return nil, jsonError("malformed number")
		}
		return v, nil
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil && v == 0 { // out of range: v is the nearest
		return nil, jsonError("malformed number")
	}
	if v == int64(int32(v)) {
		return int32(v), nil
	}
	return v, nil
}

// string reads a quoted string, up to its first NUL as C would see it.
func (p *parser) string() (string, error) {
	quote := p.s[p.i]
	p.i++
	start := p.i
	for ; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case quote:
			s := p.s[start:p.i]
			p.i++
			return cutNUL(s), nil
		case '\\':
			return p.escaped(quote, []byte(p.s[start:p.i]))
		}
	}
	return "", jsonError("string without end")
}

// escaped reads the rest of a string that has escapes; b is what came before the first.
func (p *parser) escaped(quote byte, b []byte) (string, error) {
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch c {
		case quote:
			return cutNUL(string(b)), nil
		case '\\':
			var err error
			if b, err = p.escape(b); err != nil {
				return "", err
			}
		default:
			b = append(b, c)
		}
	}
	return "", jsonError("string without end")
}

// escape reads what follows a backslash.
func (p *parser) escape(b []byte) ([]byte, error) {
	c := p.peek()
	p.i++
	switch c {
	case '"', '\\', '/':
		return append(b, c), nil
	case 'b':
		return append(b, '\b'), nil
	case 'f':
		return append(b, '\f'), nil
	case 'n':
		return append(b, '\n'), nil
	case 'r':
		return append(b, '\r'), nil
	case 't':
		return append(b, '\t'), nil
	case 'u':
	default:
		return nil, jsonError("unknown escape")
	}
	r, ok := p.hex4()
	if !ok {
		return nil, jsonError("malformed \\u escape")
	}
	if utf16.IsSurrogate(r) {
		r = p.surrogate(r)
	}
	return utf8.AppendRune(b, r), nil
}

// surrogate joins a high surrogate to the low one behind it; one that stands alone is U+FFFD.
func (p *parser) surrogate(high rune) rune {
	at := p.i
	if strings.HasPrefix(p.s[p.i:], `\u`) {
		p.i += 2
		if low, ok := p.hex4(); ok {
			if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
				return r
			}
		}
	}
	p.i = at
	return utf8.RuneError
}

func (p *parser) hex4() (rune, bool) {
	if len(p.s)-p.i < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(p.s[p.i:p.i+4], 16, 16)
	if err != nil {
		return 0, false
	}
	p.i += 4
	return rune(n), true
}
