package ubus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Builder writes a table as the content of a DATA attribute, element by element, without boxing the values: for big
// replies. Its zero value is an empty table. Inside an array names are left out, whatever is passed.
//
// A mistake (a name over 65535 bytes, nesting deeper than 64, a Close too many) is kept and reported by Err; what
// comes after it is ignored.
type Builder struct {
	buf  []byte
	open []int // where the open tables and arrays begin
	err  error
}

// begin opens an element; false if nothing may be written any more.
func (b *Builder) begin(typ Type, name string) (start int, ok bool) {
	if b.err != nil {
		return 0, false
	}
	if n := len(b.open); n > 0 && b.buf[b.open[n-1]] == 0x80|byte(TypeArray) {
		name = ""
	}
	start = len(b.buf)
	b.buf, b.err = openElement(b.buf, typ, name)
	return start, b.err == nil
}

func (b *Builder) end(start int) {
	b.buf, b.err = closeElement(b.buf, start)
}

// String appends a string, which ends at its first NUL.
func (b *Builder) String(name, v string) {
	if start, ok := b.begin(TypeString, name); ok {
		b.buf = append(append(b.buf, cutNUL(v)...), 0)
		b.end(start)
	}
}

// Int appends an int32 if v fits, else an int64, as callers that come from JSON do.
func (b *Builder) Int(name string, v int64) {
	if v != int64(int32(v)) {
		b.Int64(name, v)
		return
	}
	if start, ok := b.begin(TypeInt32, name); ok {
		b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(v))
		b.end(start)
	}
}

// Int64 appends an int64.
func (b *Builder) Int64(name string, v int64) {
	if start, ok := b.begin(TypeInt64, name); ok {
		b.buf = binary.BigEndian.AppendUint64(b.buf, uint64(v))
		b.end(start)
	}
}

// Bool appends a bool.
func (b *Builder) Bool(name string, v bool) {
	if start, ok := b.begin(TypeBool, name); ok {
		b.buf = append(b.buf, boolByte(v))
		b.end(start)
	}
}

// Double appends a double.
func (b *Builder) Double(name string, v float64) {
	if start, ok := b.begin(TypeDouble, name); ok {
		b.buf = binary.BigEndian.AppendUint64(b.buf, math.Float64bits(v))
		b.end(start)
	}
}

// Null appends a null.
func (b *Builder) Null(name string) {
	if start, ok := b.begin(TypeNull, name); ok {
		b.end(start)
	}
}

// Value appends v, which is one of the values that Table names; anything else is an error and appends nothing.
func (b *Builder) Value(name string, v any) error {
	if b.err != nil {
		return b.err
	}
	if n := len(b.open); n > 0 && b.buf[b.open[n-1]] == 0x80|byte(TypeArray) {
		name = ""
	}
	start := len(b.buf)
	buf, err := appendElement(b.buf, name, v, len(b.open)+1)
	if err != nil {
		b.buf = buf[:start]
		return fmt.Errorf("blobmsg: %q: %w", name, err)
	}
	b.buf = buf
	return nil
}

// Table opens a table: what follows, up to its Close, is in it.
func (b *Builder) Table(name string) { b.nest(TypeTable, name) }

// Array opens an array: what follows, up to its Close, is in it.
func (b *Builder) Array(name string) { b.nest(TypeArray, name) }

func (b *Builder) nest(typ Type, name string) {
	start, ok := b.begin(typ, name)
	if !ok {
		return
	}
	if len(b.open) >= maxDepth {
		b.err = errDepth
		return
	}
	b.open = append(b.open, start)
}

// Close closes the innermost table or array.
func (b *Builder) Close() {
	if b.err != nil {
		return
	}
	n := len(b.open)
	if n == 0 {
		b.err = errors.New("nothing open to close")
		return
	}
	b.end(b.open[n-1])
	b.open = b.open[:n-1]
}

// Len is the number of bytes so far; a reply's must stay below MaxMessage by the few bytes of its frame (MaxReply).
func (b *Builder) Len() int { return len(b.buf) }

// Err is the first mistake made, if any; tables and arrays left open are one.
func (b *Builder) Err() error {
	if b.err != nil {
		return fmt.Errorf("blobmsg: %w", b.err)
	}
	if len(b.open) > 0 {
		return errors.New("blobmsg: table or array left open")
	}
	return nil
}

// Bytes is the content, valid until the next change. It makes sense only while Err is nil.
func (b *Builder) Bytes() []byte { return b.buf }

// Mark and Cut take back what was appended since: b.Cut(b.Mark()) changes nothing. Tables opened since are gone,
// those closed since must not be.
func (b *Builder) Mark() int { return len(b.buf) }

// Cut takes back everything after mark; see Mark.
func (b *Builder) Cut(mark int) {
	b.buf = b.buf[:mark]
	for n := len(b.open); n > 0 && b.open[n-1] >= mark; n-- {
		b.open = b.open[:n-1]
	}
}

// Reset empties the builder and keeps its memory.
func (b *Builder) Reset() { b.buf, b.open, b.err = b.buf[:0], b.open[:0], nil }
