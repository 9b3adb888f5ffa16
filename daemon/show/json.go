package show

import (
	"strconv"
	"unicode/utf16"

	"pakon/ubus"
)

// appendJSON appends a value of the bus as JSON in ASCII, which no terminal can
// take for a command, on one line with a space behind commas and colons.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendJSONString(b, v)
	case bool:
		return strconv.AppendBool(b, v)
	case float64:
		if v-v != 0 { // JSON has no word for infinities and NaN
			return append(b, "null"...)
		}
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	case ubus.Array:
		b = append(b, '[')
		for i, e := range v {
			b = appendJSON(comma(b, i), e)
		}
		return append(b, ']')
	case ubus.Table:
		b = append(b, '{')
		for i, f := range v {
			b = append(appendJSONString(comma(b, i), f.Name), ": "...)
			b = appendJSON(b, f.Value)
		}
		return append(b, '}')
	}
	if n, ok := ubus.AsInt(v); ok {
		return strconv.AppendInt(b, n, 10)
	}
	return append(b, "null"...)
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ", "...)
	}
	return b
}

// appendJSONString appends a quoted string; what is not ASCII is escaped.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r >= 0x20 && r < 0x7f:
			b = append(b, byte(r))
		case r < 0x10000:
			b = appendUnicode(b, r)
		default:
			high, low := utf16.EncodeRune(r)
			b = appendUnicode(appendUnicode(b, high), low)
		}
	}
	return append(b, '"')
}

func appendUnicode(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
