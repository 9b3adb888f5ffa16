package ubus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// An attribute's head: bit 31 says that a name header follows, bits 30 to 24 are its id (in blobmsg: the type), bits
// 23 to 0 its length with the head and without the padding behind it.
const (
	attrExtended = 1 << 31
	attrLenMask  = 1<<24 - 1
	attrHead     = 4
)

// maxDepth bounds how deep tables and arrays may nest in what is decoded and encoded.
const maxDepth = 64

const maxName = math.MaxUint16

var (
	errTruncated = errors.New("element overruns what holds it")
	errDepth     = fmt.Errorf("nested more than %d deep", maxDepth)
	errTooBig    = errors.New("value of 16 MiB or more")
	errName      = fmt.Errorf("name of more than %d bytes", maxName)
)

func pad(n int) int { return (n + 3) &^ 3 }

func attrID(head uint32) uint8 { return uint8(head>>24) & 0x7f }

// cutNUL shortens s to what a C program would see of it.
func cutNUL(s string) string {
	if i := strings.IndexByte(s, 0); i >= 0 {
		return s[:i]
	}
	return s
}

// Decode reads the content of a DATA or SIGNATURE attribute: a list of named elements. The strings of the result share
// one copy of b: clone what outlives the table for long.
func Decode(b []byte) (Table, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) > attrLenMask {
		return nil, fmt.Errorf("blobmsg: %w", errTooBig)
	}
	t, err := decodeTable(string(b), 0)
	if err != nil {
		return nil, fmt.Errorf("blobmsg: %w", err)
	}
	return t, nil
}

// element is one element of a blobmsg list before its value is looked at.
type element struct {
	typ   Type
	name  string
	value string
}

// nextElement splits the first element off a list. An element's padding may be missing at the very end only of
// hand-made lists; libubus ends its walk there and so it is an error here.
func nextElement(b string) (e element, rest string, err error) {
	if len(b) < attrHead {
		return e, "", errTruncated
	}
	head := be32(b)
	n := int(head & attrLenMask)
	if n < attrHead || pad(n) > len(b) {
		return e, "", errTruncated
	}
	if head&attrExtended == 0 {
		return e, "", errors.New("element without a name header")
	}
	e.typ = Type(attrID(head))
	body := b[attrHead:n]
	if len(body) < 2 {
		return e, "", errTruncated
	}
	nameLen := int(body[0])<<8 | int(body[1])
	end := pad(2 + nameLen + 1)
	if end > len(body) || body[2+nameLen] != 0 {
		return e, "", errors.New("name overruns its element or does not end in NUL")
	}
	e.name = cutNUL(body[2 : 2+nameLen])
	e.value = body[end:]
	return e, b[pad(n):], nil
}

// lastString returns the last string of a name in a list, up to where the list is malformed; "" if there is none.
func lastString(list []byte, name string) (value string) {
	rest := string(list)
	for len(rest) > 0 {
		var e element
		var err error
		if e, rest, err = nextElement(rest); err != nil {
			break
		}
		if e.name == name && e.typ == TypeString {
			value = cutNUL(e.value)
		}
	}
	return strings.Clone(value)
}

func be32(b string) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// countElements is how many elements the list has if it is well formed, to make room for them in one step.
func countElements(b string) int {
	n := 0
	for len(b) >= attrHead {
		l := pad(int(be32(b) & attrLenMask))
		if l < attrHead || l > len(b) {
			break
		}
		b = b[l:]
		n++
	}
	return n
}

func decodeTable(b string, depth int) (Table, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	t := make(Table, 0, countElements(b))
	for len(b) > 0 {
		e, rest, err := nextElement(b)
		if err != nil {
			return nil, err
		}
		v, err := decodeValue(e.typ, e.value, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", e.name, err)
		}
		t = append(t, Field{e.name, v})
		b = rest
	}
	return t, nil
}

func decodeArray(b string, depth int) (Array, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	a := make(Array, 0, countElements(b))
	for len(b) > 0 {
		e, rest, err := nextElement(b)
		if err != nil {
			return nil, err
		}
		v, err := decodeValue(e.typ, e.value, depth+1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
		b = rest
	}
	return a, nil
}

// scalarLen is the number of bytes of a value of each type; 0: not fixed.
var scalarLen = [...]int{TypeInt64: 8, TypeInt32: 4, TypeInt16: 2, TypeBool: 1, TypeDouble: 8}

func decodeValue(typ Type, b string, depth int) (any, error) {
	if int(typ) >= len(scalarLen) {
		return nil, fmt.Errorf("unknown type %d", uint8(typ))
	}
	if n := scalarLen[typ]; n != 0 && n != len(b) {
		return nil, fmt.Errorf("type %d with a value of %d bytes, want %d", uint8(typ), len(b), n)
	}
	switch typ {
	case TypeArray:
		return decodeArray(b, depth)
	case TypeTable:
		return decodeTable(b, depth)
	case TypeString:
		if len(b) == 0 || b[len(b)-1] != 0 {
			return nil, errors.New("string that does not end in NUL")
		}
		return cutNUL(b), nil
	case TypeInt64:
		return int64(be32(b))<<32 | int64(be32(b[4:])), nil
	case TypeInt32:
		return int32(be32(b)), nil
	case TypeInt16:
		return int16(b[0])<<8 | int16(b[1]), nil
	case TypeBool:
		if b[0] > 1 {
			return Int8(b[0]), nil
		}
		return b[0] == 1, nil
	case TypeDouble:
		return math.Float64frombits(uint64(be32(b))<<32 | uint64(be32(b[4:]))), nil
	}
	return nil, nil
}

// Append appends the table as the content of a DATA attribute. It fails on values that are none of those that Table
// names, on names over 65535 bytes and on nesting deeper than 64. Strings and names end at their first NUL.
func (t Table) Append(b []byte) ([]byte, error) {
	start := len(b)
	b, err := appendTable(b, t, 0)
	if err != nil {
		return b[:start], fmt.Errorf("blobmsg: %w", err)
	}
	return b, nil
}

func appendTable(b []byte, t Table, depth int) ([]byte, error) {
	if depth > maxDepth {
		return b, errDepth
	}
	var err error
	for i := range t {
		if b, err = appendElement(b, t[i].Name, t[i].Value, depth+1); err != nil {
			return b, fmt.Errorf("%q: %w", t[i].Name, err)
		}
	}
	return b, nil
}

// appendElement appends one element with its padding; depth is that of a list inside it.
func appendElement(b []byte, name string, v any, depth int) ([]byte, error) {
	typ, ok := TypeOf(v)
	if !ok {
		return b, fmt.Errorf("cannot send a %T", v)
	}
	start := len(b)
	b, err := openElement(b, typ, name)
	if err != nil {
		return b, err
	}
	switch v := v.(type) {
	case Array:
		if depth > maxDepth {
			return b, errDepth
		}
		for i := range v {
			if b, err = appendElement(b, "", v[i], depth+1); err != nil {
				return b, err
			}
		}
	case Table:
		b, err = appendTable(b, v, depth)
	case string:
		b = append(append(b, cutNUL(v)...), 0)
	case int64:
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	case int32:
		b = binary.BigEndian.AppendUint32(b, uint32(v))
	case int16:
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	case bool:
		b = append(b, boolByte(v))
	case Int8:
		b = append(b, byte(v))
	case float64:
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	}
	if err != nil {
		return b, err
	}
	return closeElement(b, start)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// openElement appends an element's heads; closeElement, given where it began, sets its length once its value is there.
func openElement(b []byte, typ Type, name string) ([]byte, error) {
	name = cutNUL(name)
	if len(name) > maxName {
		return b, errName
	}
	b = append(b, 0x80|byte(typ), 0, 0, 0, byte(len(name)>>8), byte(len(name)))
	b = append(b, name...)
	return append(b, zeros[:pad(2+len(name)+1)-2-len(name)]...), nil
}

var zeros [4]byte

func closeElement(b []byte, start int) ([]byte, error) {
	n := len(b) - start
	if n > attrLenMask {
		return b, errTooBig
	}
	b[start+1], b[start+2], b[start+3] = byte(n>>16), byte(n>>8), byte(n)
	return append(b, zeros[:pad(n)-n]...), nil
}
