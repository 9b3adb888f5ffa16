package ubus

import "encoding/binary"

// AttrID is the id of an attribute of a message.
type AttrID uint8

const (
	AttrStatus      AttrID = 1  // uint32
	AttrObjPath     AttrID = 2  // string
	AttrObjID       AttrID = 3  // uint32
	AttrMethod      AttrID = 4  // string
	AttrObjType     AttrID = 5  // uint32
	AttrSignature   AttrID = 6  // nested
	AttrData        AttrID = 7  // nested
	AttrTarget      AttrID = 8  // uint32
	AttrActive      AttrID = 9  // uint8
	AttrNoReply     AttrID = 10 // uint8
	AttrSubscribers AttrID = 11 // nested: unnamed uint32 of id 0
	AttrUser        AttrID = 12 // string
	AttrGroup       AttrID = 13 // string
	attrLast               = AttrGroup
)

// Attributes of a MONITOR message; they have ids of their own.
const (
	MonitorClient AttrID = 0 // uint32
	MonitorPeer   AttrID = 1 // uint32
	MonitorSend   AttrID = 2 // uint8
	MonitorSeq    AttrID = 3 // uint32
	MonitorType   AttrID = 4 // uint32
	MonitorData   AttrID = 5 // nested: the body of the message
)

type attrKind uint8

const (
	kindNested attrKind = iota
	kindUint32
	kindUint8
	kindString
)

var attrKinds = [attrLast + 1]attrKind{
	AttrStatus: kindUint32, AttrObjPath: kindString, AttrObjID: kindUint32, AttrMethod: kindString,
	AttrObjType: kindUint32, AttrTarget: kindUint32, AttrActive: kindUint8, AttrNoReply: kindUint8,
	AttrUser: kindString, AttrGroup: kindString,
}

// Attrs are the attributes of a message by id. Those of a wrong length or form are absent, the last of a repeated one
// counts, unknown ones are skipped, and a child that overruns its parent ends the list.
type Attrs struct {
	values  [attrLast + 1][]byte
	present uint16
}

// ParseAttrs finds the attributes in a message's body, which they share.
func ParseAttrs(body []byte) Attrs {
	var a Attrs
	WalkAttrs(body, func(id AttrID, v []byte) {
		if id == 0 || id > attrLast || !validAttr(attrKinds[id], v) {
			return
		}
		a.values[id] = v
		a.present |= 1 << id
	})
	return a
}

func validAttr(k attrKind, v []byte) bool {
	switch k {
	case kindUint32:
		return len(v) == 4
	case kindUint8:
		return len(v) == 1
	case kindString:
		return len(v) > 0 && v[len(v)-1] == 0
	}
	return true
}

// WalkAttrs calls f for each attribute of a body, in order, up to the first that overruns it. One that is shorter than
// its head is passed over.
func WalkAttrs(body []byte, f func(id AttrID, value []byte)) {
	for len(body) >= attrHead {
		head := binary.BigEndian.Uint32(body)
		n := int(head & attrLenMask)
		if n == 0 || pad(n) > len(body) {
			return
		}
		if n >= attrHead {
			f(AttrID(attrID(head)), body[attrHead:n])
		}
		body = body[pad(n):]
	}
}

// Has says whether the attribute is there.
func (a *Attrs) Has(id AttrID) bool { return a.present&(1<<id) != 0 }

// Uint32 returns a number of 4 bytes (STATUS, OBJID, OBJTYPE, TARGET).
func (a *Attrs) Uint32(id AttrID) (uint32, bool) {
	if !a.Has(id) || attrKinds[id] != kindUint32 {
		return 0, false
	}
	return binary.BigEndian.Uint32(a.values[id]), true
}

// Uint8 returns a number of 1 byte (ACTIVE, NO_REPLY).
func (a *Attrs) Uint8(id AttrID) (uint8, bool) {
	if !a.Has(id) || attrKinds[id] != kindUint8 {
		return 0, false
	}
	return a.values[id][0], true
}

// String returns a string (OBJPATH, METHOD, USER, GROUP) up to its first NUL.
func (a *Attrs) String(id AttrID) (string, bool) {
	if !a.Has(id) || attrKinds[id] != kindString {
		return "", false
	}
	return cutNUL(string(a.values[id])), true
}

// Nested returns the content of a nested attribute (SIGNATURE, DATA, SUBSCRIBERS).
func (a *Attrs) Nested(id AttrID) ([]byte, bool) {
	if !a.Has(id) || attrKinds[id] != kindNested {
		return nil, false
	}
	return a.values[id], true
}

// AppendUint32 appends an attribute of 4 bytes.
func AppendUint32(b []byte, id AttrID, v uint32) []byte {
	b = append(b, byte(id), 0, 0, attrHead+4)
	return binary.BigEndian.AppendUint32(b, v)
}

// AppendUint8 appends an attribute of 1 byte.
func AppendUint8(b []byte, id AttrID, v uint8) []byte {
	return append(b, byte(id), 0, 0, attrHead+1, v, 0, 0, 0)
}

// AppendString appends a string, which ends at its first NUL. It must be shorter than 16 MiB.
func AppendString(b []byte, id AttrID, v string) []byte {
	v = cutNUL(v)
	b = appendAttrHead(b, id, len(v)+1)
	b = append(append(b, v...), 0)
	return append(b, zeros[:pad(len(v)+1)-len(v)-1]...)
}

// AppendNested appends an attribute with that content, which must be shorter than 16 MiB.
func AppendNested(b []byte, id AttrID, content []byte) []byte {
	b = appendAttrHead(b, id, len(content))
	b = append(b, content...)
	return append(b, zeros[:pad(len(content))-len(content)]...)
}

func appendAttrHead(b []byte, id AttrID, n int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(id)<<24|uint32(n+attrHead)&attrLenMask)
}
