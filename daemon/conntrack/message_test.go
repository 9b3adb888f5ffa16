package conntrack

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// recorded are the messages of testdata, with where each came from.
func recorded(t testing.TB) (from []string, messages [][]byte) {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the recording is of a little-endian machine")
	}
	text, err := os.ReadFile("testdata/ctnetlink.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		source, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		from, messages = append(from, source), append(messages, b)
	}
	return from, messages
}

func shown(k Kind, e *Entry) string {
	kinds := [...]string{"new", "updated", "ended", "listed"}
	s := fmt.Sprintf("%s %d %v>%v %v>%v", kinds[k], e.Proto, e.Orig.Src, e.Orig.Dst, e.Reply.Src, e.Reply.Dst)
	if e.Counted {
		s += fmt.Sprintf(" %d/%d %d/%d", e.Sent.Packets, e.Sent.Bytes, e.Recvd.Packets, e.Recvd.Bytes)
	}
	if e.Answered() {
		s += " answered"
	}
	if e.Over() {
		s += " over"
	}
	return s
}

// TestRecorded reads what a kernel told of a few connections.
func TestRecorded(t *testing.T) {
	from, messages := recorded(t)
	var got []string
	for i, b := range messages {
		h, body, rest, err := nextMessage(b)
		if err != nil || len(rest) > 0 {
			t.Fatalf("message %d: %v, %d bytes are left", i, err, len(rest))
		}
		k, ok := h.kind()
		if !ok || (k == Listed) != (from[i] == "dump") {
			t.Errorf("message %d of type %#x, flags %#x is taken for %v", i, h.typ, h.flags, k)
		}
		var e Entry
		if err := e.decode(body); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
		if e.ID == 0 || (k == Ended || k == Listed) && e.Start == 0 || k == Ended && e.Stop < e.Start {
			t.Errorf("message %d: %+v", i, e)
		}
		if e.Orig.Src.Port() >= 32768 { // an ephemeral port says nothing
			s := shown(k, &e)
			s = strings.ReplaceAll(s, fmt.Sprint(e.Orig.Src.Port()), "P")
			got = append(got, strings.ReplaceAll(s, fmt.Sprint(e.Reply.Dst.Port()), "P"))
		}
	}
	for _, want := range []string{
		"new 6 192.168.1.10:P>203.0.113.80:443 203.0.113.80:443>203.0.113.1:P",
		"updated 6 192.168.1.10:P>203.0.113.80:443 203.0.113.80:443>203.0.113.1:P answered over",
		"listed 6 192.168.1.10:P>203.0.113.80:443 203.0.113.80:443>203.0.113.1:P 2/112 1/60 answered",
		"listed 6 192.168.1.10:P>203.0.113.80:443 203.0.113.80:443>203.0.113.1:P 4/204 3/5164 answered over",
		"ended 6 192.168.1.10:P>203.0.113.80:443 203.0.113.80:443>203.0.113.1:P 5/368 5/5268 answered over",
		"ended 6 [2001:db8:1::10]:P>[2001:db8:f::80]:443 [2001:db8:f::80]:443>[2001:db8:1::10]:P 5/468 5/5368 answered over",
		"ended 17 [2001:db8:1::10]:P>[2001:db8:f::80]:123 [2001:db8:f::80]:123>[2001:db8:1::10]:P 1/98 1/348 answered",
		"ended 17 192.168.1.10:P>203.0.113.80:9 203.0.113.80:9>203.0.113.1:P 1/29 0/0",
		"new 6 203.0.113.80:P>203.0.113.1:8080 192.168.1.10:80>203.0.113.80:P",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("missing: %s; got:\n%s", want, strings.Join(got, "\n"))
		}
	}
}

// TestZone: a zone is of a connection, or of the direction alone in which it began.
func TestZone(t *testing.T) {
	from, messages := recorded(t)
	h, body, _, err := nextMessage(messages[slices.Index(from, "dump")])
	if err != nil || h.typ != msgNew {
		t.Fatal(err, h)
	}
	zone := []byte{6, 0, ctaZone, 0, 0, 9, 0, 0}
	tuple := slices.Clone(body)
	n := int(binary.NativeEndian.Uint16(body[nfgenLen:])) // the tuple is the first attribute
	if a, _, ok := next(body[nfgenLen:]); !ok || a.typ != ctaTupleOrig {
		t.Fatalf("the message begins with %+v", a)
	}
	binary.NativeEndian.PutUint16(tuple[nfgenLen:], uint16(n+8))
	tuple = slices.Insert(tuple, nfgenLen+n, 6, 0, ctaTupleZone, 0, 1, 2, 0, 0)
	for want, body := range map[uint16][]byte{0: body, 9: slices.Concat(body, zone), 0x102: tuple} {
		var e Entry
		if err := e.decode(body); err != nil || e.Zone != want || e.ID == 0 || !e.Counted {
			t.Errorf("zone %d is read as %+v, %v", want, e, err)
		}
	}
}

func TestShortMessages(t *testing.T) {
	_, messages := recorded(t)
	for _, b := range messages {
		for n := range b {
			if _, _, _, err := nextMessage(b[:n]); err == nil {
				t.Fatalf("%d bytes of a message of %d are taken for one", n, len(b))
			}
		}
		for n := headerLen; n < len(b); n++ {
			var e Entry
			e.decode(b[headerLen:n]) // must not panic
		}
	}
}

func FuzzDecode(f *testing.F) {
	_, messages := recorded(f)
	for _, b := range messages {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Entry
		for len(b) > 0 {
			_, body, rest, err := nextMessage(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			if e.decode(body) == nil && (!e.Orig.Src.Addr().IsValid() || !e.Reply.Src.Addr().IsValid()) {
				t.Errorf("%+v names no addresses", e)
			}
			b = rest
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	_, messages := recorded(b)
	var e Entry
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, body, _, err := nextMessage(messages[i%len(messages)])
		if err != nil {
			b.Fatal(err)
		}
		if err := e.decode(body); err != nil {
			b.Fatal(err)
		}
	}
}
