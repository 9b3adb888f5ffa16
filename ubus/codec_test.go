package ubus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// reencode takes a frame apart down to the last value and builds it again. In odd are the parts that are no blobmsg or
// no attribute, kept as they are.
func reencode(m *Message) (frame []byte, odd []string) {
	b := BeginFrame(nil, m.Type, m.Seq, m.Peer)
	b[0], b[8] = m.Version, m.Outer
	kinds := attrKinds
	if m.Type == MsgMonitor {
		kinds = [attrLast + 1]attrKind{
			MonitorClient: kindUint32, MonitorPeer: kindUint32, MonitorSend: kindUint8, MonitorSeq: kindUint32,
			MonitorType: kindUint32, MonitorData: kindNested,
		}
	}
	walked := 0
	WalkAttrs(m.Body, func(id AttrID, v []byte) {
		walked += pad(attrHead + len(v))
		if id > attrLast || !validAttr(kinds[id], v) {
			odd = append(odd, fmt.Sprintf("attribute %d of %d bytes", id, len(v)))
			b = AppendNested(b, id, v)
			return
		}
		one := Attrs{present: 1 << id}
		one.values[id] = v
		switch kinds[id] {
		case kindUint32:
			b = AppendUint32(b, id, be32(string(v)))
		case kindUint8:
			b = AppendUint8(b, id, v[0])
		case kindString:
			s, _ := one.String(id)
			b = AppendString(b, id, s)
		default:
			if m.Type == MsgMonitor || id == AttrSubscribers {
				b = AppendNested(b, id, v)
				return
			}
			t, err := Decode(v)
			content, err2 := t.Append(nil)
			if err := errors.Join(err, err2); err != nil {
				odd = append(odd, err.Error())
				content = v
			}
			b = AppendNested(b, id, content)
		}
	})
	if walked != len(m.Body) {
		odd = append(odd, "the list of attributes ends early")
		b = append(b, m.Body[walked:]...)
	}
	if err := EndFrame(b); err != nil {
		outer := len(b) - HeaderLen + attrHead // forwarded over the limit
		b[9], b[10], b[11] = byte(outer>>16), byte(outer>>8), byte(outer)
	}
	return b, odd
}

// TestRecordedFrames decodes and encodes every recorded frame: all to the same bytes, and all cleanly except those
// that testdata/README.md lists as odd.
func TestRecordedFrames(t *testing.T) {
	wantOdd := map[string]int{"g_monitor": 2, "m_acl_none": 1, "m_acl_some": 1, "i_big": 2, "r_raw": 11}
	total := 0
	for _, name := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			odd := 0
			for _, rec := range recording(t, name) {
				if len(rec.frame) == 0 {
					continue
				}
				total++
				var m Message
				err := NewReader(bytes.NewReader(rec.frame), MaxForwarded).Read(&m)
				if announced := rec.frame[8:12]; be32(string(announced))&attrLenMask < attrHead {
					if !errors.Is(err, ErrFrame) {
						t.Errorf("t=%d: %v, want a malformed frame", rec.T, err)
					}
					continue
				}
				if err != nil {
					if name == "i_over" && errors.Is(err, ErrTooLong) || rec.Partial {
						continue
					}
					t.Errorf("t=%d: %v", rec.T, err)
					continue
				}
				if got := m.Append(nil); !bytes.Equal(got, rec.frame) {
					t.Errorf("t=%d: frame comes out as\n%x, went in as\n%x", rec.T, got, rec.frame)
				}
				got, oddities := reencode(&m)
				if !bytes.Equal(got, rec.frame) {
					t.Errorf("t=%d: content comes out as\n%.300x, went in as\n%.300x", rec.T, got, rec.frame)
				}
				if len(oddities) > 0 || m.Version != 0 || m.Outer != 0 {
					odd++
					t.Logf("t=%d %s: %q", rec.T, rec.Dir, oddities)
				}
			}
			if odd != wantOdd[name] {
				t.Errorf("%d odd frames, want %d", odd, wantOdd[name])
			}
		})
	}
	t.Logf("%d frames", total)
}

// TestReaderSplitAndMerged: frames arrive in any pieces.
func TestReaderSplitAndMerged(t *testing.T) {
	var stream []byte
	n := 0
	for _, rec := range recording(t, "c_provider") {
		if !rec.fromClient() && len(rec.frame) > 0 {
			stream = append(stream, rec.frame...)
			n++
		}
	}
	for name, r := range map[string]io.Reader{
		"merged": bytes.NewReader(stream),
		"bytes":  iotest.OneByteReader(bytes.NewReader(stream)),
		"halves": iotest.HalfReader(bytes.NewReader(stream)),
	} {
		var got []byte
		fr := NewReader(r, MaxForwarded)
		for i := range n {
			var m Message
			if err := fr.Read(&m); err != nil {
				t.Fatalf("%s: frame %d: %v", name, i, err)
			}
			got = m.Append(got)
		}
		if !bytes.Equal(got, stream) {
			t.Errorf("%s: other bytes", name)
		}
		if err := fr.Read(new(Message)); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

func TestReaderLimits(t *testing.T) {
	frame := func(outer int, have int) []byte {
		b := BeginFrame(nil, MsgPing, 1, 2)
		b[9], b[10], b[11] = byte(outer>>16), byte(outer>>8), byte(outer)
		return append(b, make([]byte, have)...)
	}
	for _, c := range []struct {
		name string
		b    []byte
		max  int
		want error
	}{
		{"largest", frame(MaxMessage, MaxMessage-4), MaxMessage, nil},
		{"one above", frame(MaxMessage+1, MaxMessage-3), MaxMessage, ErrTooLong},
		{"padded above", frame(MaxMessage-3+4, MaxMessage), MaxMessage, ErrTooLong},
		{"forwarded", frame(MaxMessage+24, MaxMessage+20), MaxForwarded, nil},
		{"over the slack", frame(MaxForwarded+4, MaxForwarded), MaxForwarded, ErrTooLong},
		{"16 MiB announced", frame(1<<24-1, 0), MaxForwarded, ErrTooLong},
		{"outer 3", frame(3, 0), MaxMessage, ErrFrame},
		{"outer 0", frame(0, 0), MaxMessage, ErrFrame},
		{"outer 5", frame(5, 1), MaxMessage, nil},
		{"cut", frame(100, 50), MaxMessage, io.ErrUnexpectedEOF},
		{"cut head", frame(4, 0)[:7], MaxMessage, io.ErrUnexpectedEOF},
		{"cut after head", frame(100, 0), MaxMessage, io.ErrUnexpectedEOF},
		{"empty", nil, MaxMessage, io.EOF},
	} {
		var m Message
		if err := NewReader(bytes.NewReader(c.b), c.max).Read(&m); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		} else if err == nil && len(m.Body) != len(c.b)-HeaderLen {
			t.Errorf("%s: body of %d bytes", c.name, len(m.Body))
		}
	}
}

// TestReaderAnnouncement: a header alone does not make the reader take a whole message's memory.
func TestReaderAnnouncement(t *testing.T) {
	b := BeginFrame(nil, MsgPing, 1, 2)
	b[9] = 0x10
	bytesPer := testing.Benchmark(func(bb *testing.B) {
		bb.ReportAllocs()
		for range bb.N {
			NewReader(bytes.NewReader(b), MaxMessage).Read(new(Message))
		}
	}).AllocedBytesPerOp()
	if bytesPer > firstRead+4096 {
		t.Errorf("%d bytes for a header without a body", bytesPer)
	}
}

func TestEndFrame(t *testing.T) {
	for _, c := range []struct {
		data int
		want error
	}{{0, nil}, {MaxReply, nil}, {MaxReply + 1, ErrTooLong}, {MaxReply + 4, ErrTooLong}, {1 << 25, ErrTooLong}} {
		b := AppendUint32(BeginFrame(nil, MsgData, 1, 2), AttrObjID, 5)
		b = AppendNested(b, AttrData, make([]byte, c.data))
		if err := EndFrame(b); !errors.Is(err, c.want) {
			t.Errorf("DATA of %d bytes: %v, want %v", c.data, err, c.want)
		}
	}
}

func TestAttrRules(t *testing.T) {
	u32 := func(v uint32) []byte { return AppendUint32(nil, AttrObjID, v) }
	str := func(s string) []byte { return AppendString(nil, AttrMethod, s) }
	raw := func(id AttrID, v string) []byte { return AppendNested(nil, id, []byte(v)) }
	cat := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	for _, c := range []struct {
		name   string
		body   []byte
		id     uint32
		hasID  bool
		method string
		hasM   bool
	}{
		{"both", cat(u32(7), str("x")), 7, true, "x", true},
		{"other order", cat(str("x"), u32(7)), 7, true, "x", true},
		{"last wins", cat(u32(7), u32(8), str("x"), str("y")), 8, true, "y", true},
		{"short integer is absent", raw(AttrObjID, "abc"), 0, false, "", false},
		{"long integer is absent", raw(AttrObjID, "abcde"), 0, false, "", false},
		{"a wrong one does not replace a right one", cat(u32(7), raw(AttrObjID, "abc")), 7, true, "", false},
		{"string without NUL is absent", raw(AttrMethod, "abc"), 0, false, "", false},
		{"empty string attribute is absent", raw(AttrMethod, ""), 0, false, "", false},
		{"string of NUL is there", raw(AttrMethod, "\x00"), 0, false, "", true},
		{"string ends at the first NUL", raw(AttrMethod, "ab\x00cd\x00"), 0, false, "ab", true},
		{"unknown are skipped", cat(raw(14, "abcd"), raw(0, "abcd"), raw(127, ""), u32(7)), 7, true, "", false},
		{"overrun ends", cat(u32(7), []byte{4, 0, 0, 200, 'x', 0, 0, 0}, str("y")), 7, true, "", false},
		{"padding overruns", cat(u32(7), []byte{4, 0, 0, 6, 'x', 0}), 7, true, "", false},
		{"shorter than its head is passed over", cat(u32(7), []byte{4, 0, 0, 3}, str("y")), 7, true, "y", true},
		{"without a length ends", cat(u32(7), []byte{4, 0, 0, 0}, str("y")), 7, true, "", false},
		{"three bytes left", cat(u32(7), []byte{4, 0, 0}), 7, true, "", false},
		{"nothing", nil, 0, false, "", false},
	} {
		a := ParseAttrs(c.body)
		id, hasID := a.Uint32(AttrObjID)
		m, hasM := a.String(AttrMethod)
		if id != c.id || hasID != c.hasID || m != c.method || hasM != c.hasM {
			t.Errorf("%s: id %d %v, method %q %v", c.name, id, hasID, m, hasM)
		}
	}
	a := ParseAttrs(cat(AppendUint8(nil, AttrNoReply, 1), raw(AttrActive, "ab")))
	if v, ok := a.Uint8(AttrNoReply); v != 1 || !ok {
		t.Error("NO_REPLY not found")
	}
	if _, ok := a.Uint8(AttrActive); ok {
		t.Error("ACTIVE of two bytes found")
	}
}

// TestDecodeRefuses: nothing is taken from a blob whose lengths do not fit.
func TestDecodeRefuses(t *testing.T) {
	deep := func(n int) []byte {
		var b Builder
		for range n {
			b.Table("t")
		}
		for range n {
			b.Close()
		}
		return b.Bytes()
	}
	ok := Table{{"a", int32(1)}}
	good, _ := ok.Append(nil)
	for name, b := range map[string][]byte{
		"cut":                    good[:len(good)-1],
		"no name header":         {5, 0, 0, 8, 0, 0, 0, 1},
		"extended, no room":      {0x85, 0, 0, 4},
		"name overruns":          {0x85, 0, 0, 12, 0, 9, 'a', 0, 0, 0, 0, 1},
		"name without NUL":       {0x85, 0, 0, 12, 0, 1, 'a', 'b', 0, 0, 0, 1},
		"int32 of 8":             {0x85, 0, 0, 16, 0, 1, 'a', 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"int32 of 0":             {0x85, 0, 0, 8, 0, 1, 'a', 0},
		"int64 of 4":             {0x84, 0, 0, 12, 0, 1, 'a', 0, 0, 0, 0, 1},
		"bool of 4":              {0x87, 0, 0, 12, 0, 1, 'a', 0, 0, 0, 0, 1},
		"empty string value":     {0x83, 0, 0, 8, 0, 1, 'a', 0},
		"string without NUL":     {0x83, 0, 0, 9, 0, 1, 'a', 0, 'x', 0, 0, 0},
		"type 9":                 {0x89, 0, 0, 8, 0, 1, 'a', 0},
		"table with a broken on": {0x82, 0, 0, 12, 0, 1, 'a', 0, 0x85, 0, 0, 99},
		"too deep":               nest(maxDepth + 1),
	} {
		if v, err := Decode(b); err == nil {
			t.Errorf("%s: taken as %v", name, v)
		}
	}
	if _, err := Decode(nest(maxDepth)); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
	if _, err := Decode(deep(maxDepth)); err != nil {
		t.Errorf("%d levels built: %v", maxDepth, err)
	}
}

// nest is a blob of n tables, one inside the other, made by hand.
func nest(n int) []byte {
	var b []byte
	for range n {
		b = append([]byte{0x82, 0, byte((len(b) + 8) >> 8), byte(len(b) + 8), 0, 1, 'a', 0}, b...)
	}
	return b
}

func TestTableValues(t *testing.T) {
	in := Table{
		{"s", "text"}, {"n", nil}, {"i64", int64(5)}, {"i32", int32(-5)}, {"i16", int16(-300)}, {"yes", true},
		{"no", false}, {"i8", Int8(100)}, {"neg8", Int8(-1)}, {"d", 0.5}, {"a", Array{"x", Table{{"y", int32(1)}}, Array{}}},
		{"t", Table{}}, {"", "no name"}, {"s", "again"},
	}
	b, err := in.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%#v", out), fmt.Sprintf("%#v", in); got != want {
		t.Errorf("came back as\n%s, want\n%s", got, want)
	}
	var build Builder
	for _, f := range in {
		if err := build.Value(f.Name, f.Value); err != nil {
			t.Error(err)
		}
	}
	if !bytes.Equal(build.Bytes(), b) || build.Err() != nil {
		t.Errorf("Builder: %x (%v), want %x", build.Bytes(), build.Err(), b)
	}
	for _, bad := range []Table{{{"x", 5}}, {{"x", Array{uint8(1)}}}, {{strings.Repeat("n", maxName+1), nil}}, {{"x", tower(maxDepth)}}} {
		if b, err := bad.Append([]byte("before")); err == nil || string(b) != "before" {
			t.Errorf("%.60v: %v, %q", bad, err, b)
		}
	}
	if b, err := (Table{{strings.Repeat("n", maxName), "long name"}}).Append(nil); err != nil {
		t.Error(err)
	} else if out, err := Decode(b); err != nil || len(out[0].Name) != maxName {
		t.Error("a name of 65535 bytes does not come back", err)
	}
	cut := Table{{"na\x00me", "va\x00lue"}}
	if b, _ := cut.Append(nil); !bytes.Contains(b, []byte("va\x00")) || bytes.Contains(b, []byte("lue")) {
		t.Errorf("NUL inside a string: %q", b)
	}
}

func tower(n int) any {
	v := any(Table{})
	for range n {
		v = Table{{"a", v}}
	}
	return v
}

func TestGetters(t *testing.T) {
	tab := Table{
		{"a", "1"}, {"a", int32(2)}, {"b", int64(1 << 40)}, {"c", true}, {"d", Int8(3)}, {"e", int16(4)}, {"f", 1.5},
		{"g", Array{"x"}}, {"h", Table{}}, {"z", int32(0)},
	}
	if v, ok := tab.Int("a"); v != 2 || !ok {
		t.Error("Int does not pass over a string of the same name")
	}
	if v, ok := tab.String("a"); v != "1" || !ok {
		t.Error("String")
	}
	for name, want := range map[string]int64{"b": 1 << 40, "d": 3, "e": 4} {
		if v, ok := tab.Int(name); v != want || !ok {
			t.Errorf("Int(%s) = %d %v", name, v, ok)
		}
	}
	for _, name := range []string{"c", "f", "g", "nosuch"} {
		if _, ok := tab.Int(name); ok {
			t.Errorf("Int(%s) found", name)
		}
	}
	for name, want := range map[string]bool{"c": true, "d": true, "z": false} {
		if v, ok := tab.Bool(name); v != want || !ok {
			t.Errorf("Bool(%s) = %v %v", name, v, ok)
		}
	}
	if _, ok := tab.Bool("g"); ok {
		t.Error("an array is a bool")
	}
	if v, ok := tab.Double("f"); v != 1.5 || !ok {
		t.Error("Double")
	}
	if v, ok := tab.Array("g"); len(v) != 1 || !ok {
		t.Error("Array")
	}
	if v, ok := tab.Table("h"); len(v) != 0 || !ok {
		t.Error("Table")
	}
	if v, ok := tab.Get("a"); v != "1" || !ok {
		t.Error("Get")
	}
	if _, ok := tab.Get("nosuch"); ok {
		t.Error("Get(nosuch)")
	}
}

func TestBuilder(t *testing.T) {
	want := Table{
		{"s", "x"}, {"small", int32(-1)}, {"big", int64(1 << 31)}, {"forced", int64(1)}, {"b", true}, {"d", 2.5}, {"n", nil},
		{"list", Array{int32(1), Table{{"in", "y"}}, Array{}, "z"}}, {"t", Table{}},
	}
	var b Builder
	for range 2 {
		b.Reset()
		b.String("s", "x")
		b.Int("small", -1)
		b.Int("big", 1<<31)
		b.Int64("forced", 1)
		b.Bool("b", true)
		b.Double("d", 2.5)
		b.Null("n")
		b.Array("list")
		b.Int("ignored name", 1)
		b.Table("ignored too")
		b.String("in", "y")
		b.Close()
		b.Array("")
		b.Close()
		if err := b.Value("ignored", "z"); err != nil {
			t.Error(err)
		}
		b.Close()
		b.Table("t")
		mark := b.Mark()
		b.Table("taken back")
		b.String("x", "y")
		b.Cut(mark)
		b.Close()
	}
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	wantBytes, _ := want.Append(nil)
	if !bytes.Equal(b.Bytes(), wantBytes) || b.Len() != len(wantBytes) {
		t.Errorf("built\n%x, want\n%x", b.Bytes(), wantBytes)
	}
	for name, f := range map[string]func(*Builder){
		"left open":     func(b *Builder) { b.Table("x") },
		"close too far": func(b *Builder) { b.Close(); b.Table("x"); b.Close() },
		"long name":     func(b *Builder) { b.String(strings.Repeat("n", maxName+1), "x"); b.Int("y", 1) },
		"too deep": func(b *Builder) {
			for range maxDepth + 1 {
				b.Array("")
			}
		},
		"16 MiB": func(b *Builder) { b.String("x", strings.Repeat("x", 1<<24)) },
	} {
		var b Builder
		f(&b)
		if b.Err() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := b.Value("x", struct{}{}); err == nil || b.Err() != nil || !bytes.Equal(b.Bytes(), wantBytes) {
		t.Error("a refused Value leaves a trace", err, b.Err())
	}
}

func TestStatusText(t *testing.T) {
	for s, want := range map[Status]string{
		StatusNotFound: "Not found", StatusSystemError: "System error", 14: "Unknown error (status 14)",
		0xffffffff: "Unknown error (status -1)",
	} {
		if s.Error() != want {
			t.Errorf("%d: %q", uint32(s), s.Error())
		}
	}
	if StatusOK.Err() != nil || !errors.Is(StatusTimeout.Err(), StatusTimeout) {
		t.Error("Err")
	}
}

func TestTypeNames(t *testing.T) {
	for typ, want := range map[Type]string{
		TypeBool: "Boolean", TypeInt32: "Integer", TypeString: "String", TypeArray: "Array", TypeTable: "Table",
		TypeInt64: "(unknown)", TypeAnyInt: "(unknown)", TypeNull: "(unknown)",
	} {
		if typ.String() != want {
			t.Errorf("%d: %s", uint8(typ), typ)
		}
	}
}
