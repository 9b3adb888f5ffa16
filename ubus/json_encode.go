package ubus

import (
	"math"
	"strconv"
)

// AppendJSON appends the table as the bus's own tools print it, which is not always JSON: doubles have six decimals,
// infinities and NaN are bare words, an empty name is left out with its colon, bytes that are not UTF-8 stay, and a
// one-byte value is true or false. With indent, lists are broken into lines and indented by tabs.
func AppendJSON(dst []byte, t Table, indent bool) []byte {
	p := printer{dst, indent, 0}
	p.table(t)
	return p.b
}

type printer struct {
	b      []byte
	indent bool
	level  int
}

func (p *printer) newline() {
	if !p.indent {
		return
	}
	p.b = append(p.b, '\n')
	for range p.level {
		p.b = append(p.b, '\t')
	}
}

func (p *printer) open(c byte) {
	p.b = append(p.b, c)
	p.level++
	p.newline()
}

func (p *printer) close(c byte) {
	p.level--
	p.newline()
	p.b = append(p.b, c)
}

func (p *printer) comma(i int) {
	if i > 0 {
		p.b = append(p.b, ',')
		p.newline()
	}
}

func (p *printer) table(t Table) {
	p.open('{')
	for i := range t {
		p.comma(i)
		if t[i].Name != "" {
			p.string(t[i].Name)
			p.b = append(p.b, ':')
			if p.indent {
				p.b = append(p.b, ' ')
			}
		}
		p.value(t[i].Value)
	}
	p.close('}')
}

func (p *printer) array(a Array) {
	p.open('[')
	for i := range a {
		p.comma(i)
		p.value(a[i])
	}
	p.close(']')
}

func (p *printer) value(v any) {
	switch v := v.(type) {
	case nil:
		p.b = append(p.b, "null"...)
	case Array:
		p.array(v)
	case Table:
		p.table(v)
	case string:
		p.string(v)
	case bool:
		p.b = strconv.AppendBool(p.b, v)
	case Int8:
		p.b = strconv.AppendBool(p.b, v != 0)
	case float64:
		p.b = appendDouble(p.b, v)
	default:
		n, _ := AsInt(v)
		p.b = strconv.AppendInt(p.b, n, 10)
	}
}

// appendDouble prints as C's %f does.
func appendDouble(b []byte, v float64) []byte {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		if math.Signbit(v) {
			b = append(b, '-')
		}
		if math.IsNaN(v) {
			return append(b, "nan"...)
		}
		return append(b, "inf"...)
	}
	return strconv.AppendFloat(b, v, 'f', 6, 64)
}

const hexDigits = "0123456789abcdef"

func (p *printer) string(s string) {
	p.b = append(p.b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		p.b = append(p.b, s[from:i]...)
		from = i + 1
		switch c {
		case '\b':
			p.b = append(p.b, `\b`...)
		case '\n':
			p.b = append(p.b, `\n`...)
		case '\t':
			p.b = append(p.b, `\t`...)
		case '\r':
			p.b = append(p.b, `\r`...)
		case '"', '\\':
			p.b = append(p.b, '\\', c)
		default:
			p.b = append(p.b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	p.b = append(append(p.b, s[from:]...), '"')
}
