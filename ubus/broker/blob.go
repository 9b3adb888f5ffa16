package broker

import (
	"bytes"
	"encoding/binary"

	"pakon/ubus"
)

// element is one element of a list (the content of DATA or SIGNATURE), its value as it came.
type element struct {
	typ   ubus.Type
	named bool   // it has a header for a name, which may be empty
	name  []byte // as long as the header says, with any NUL in it
	value []byte
}

// walk calls f for the elements of a list up to the first that overruns it: what is behind that is ignored, as libubox
// does. It returns false at the first that is malformed, or that has no name though all must. What arrays and tables
// hold is not looked at.
func walk(list []byte, allNamed bool, f func(element)) bool {
	for len(list) >= headLen {
		n := int(binary.BigEndian.Uint32(list) & (1<<24 - 1))
		padded := pad(n)
		if padded == 0 || padded > len(list) {
			return true
		}
		e, ok := parse(list[:n], allNamed)
		if !ok {
			return false
		}
		f(e)
		list = list[padded:]
	}
	return true
}

// headLen is the length of the head of an element or attribute.
const headLen = 4

func pad(n int) int { return (n + 3) &^ 3 }

func parse(b []byte, mustBeNamed bool) (e element, ok bool) {
	if len(b) < headLen {
		return e, false
	}
	e.typ, e.named, e.value = ubus.Type(b[0]&0x7f), b[0]&0x80 != 0, b[headLen:]
	switch {
	case e.named:
		if len(e.value) < 2 {
			return e, false
		}
		n := int(binary.BigEndian.Uint16(e.value))
		end := pad(2 + n + 1)
		if n == 0 && mustBeNamed || end > len(e.value) || e.value[2+n] != 0 {
			return e, false
		}
		e.name, e.value = e.value[2:2+n], e.value[end:]
	case mustBeNamed:
		return e, false
	}
	n := len(e.value)
	switch e.typ {
	case ubus.TypeNull, ubus.TypeArray, ubus.TypeTable:
		return e, true
	case ubus.TypeString:
		return e, n > 0 && e.value[n-1] == 0
	case ubus.TypeInt64:
		return e, n == 8
	case ubus.TypeInt32:
		return e, n == 4
	case ubus.TypeInt16:
		return e, n == 2
	case ubus.TypeBool:
		return e, n == 1
	case ubus.TypeDouble:
		return e, n >= 8
	}
	return e, false
}

// argument returns the value of the first element that has the name and the type. What comes before a malformed element
// counts.
func argument(list []byte, name string, typ ubus.Type) (value []byte, ok bool) {
	walk(list, false, func(e element) {
		if !ok && e.named && e.typ == typ && string(e.name) == name {
			value, ok = e.value, true
		}
	})
	return value, ok
}

// text is a string's value up to its first NUL.
func text(value []byte) string {
	before, _, _ := bytes.Cut(value, []byte{0})
	return string(before)
}

// signature returns a list of methods as it is shown to those who ask: each with its name up to the first NUL. False: it
// is malformed.
func signature(list []byte) ([]byte, bool) {
	var out []byte
	ok := walk(list, true, func(e element) {
		name := text(e.name)
		head := pad(2 + len(name) + 1)
		n := headLen + head + len(e.value)
		out = binary.BigEndian.AppendUint32(out, 1<<31|uint32(e.typ)<<24|uint32(n))
		out = binary.BigEndian.AppendUint16(out, uint16(len(name)))
		out = append(append(out, name...), make([]byte, head-2-len(name))...)
		out = append(append(out, e.value...), make([]byte, pad(n)-n)...)
	})
	return out, ok
}

// untyped returns the beginning of the last attribute of the id as a number of n bytes. The bus does not look at the length
// of some attributes: it reads on in the message.
func untyped(m *ubus.Message, id ubus.AttrID, n int) (number uint32, ok bool) {
	ubus.WalkAttrs(m.Body, func(i ubus.AttrID, v []byte) {
		if i != id {
			return
		}
		var b [4]byte
		copy(b[4-n:], m.Body[cap(m.Body)-cap(v):])
		number, ok = binary.BigEndian.Uint32(b[:]), true
	})
	return number, ok
}
