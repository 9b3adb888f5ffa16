package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"pakon/ubus"
)

// field is an element of a list, named if name is not nil, with whatever value.
func field(typ ubus.Type, name []byte, value string) []byte {
	var body []byte
	if name != nil {
		body = append(binary.BigEndian.AppendUint16(nil, uint16(len(name))), name...)
		body = append(body, make([]byte, pad(len(body)+1)-len(body))...)
	}
	body = append(body, value...)
	head := uint32(typ)<<24 | uint32(headLen+len(body))
	if name != nil {
		head |= 1 << 31
	}
	b := append(binary.BigEndian.AppendUint32(nil, head), body...)
	return append(b, make([]byte, pad(len(b))-len(b))...)
}

func named(typ ubus.Type, name, value string) []byte { return field(typ, []byte(name), value) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// overrun is the head of an element that is longer than what holds it.
var overrun = []byte{0xff, 0xff, 0xff, 0xff}

// TestOddEvents sends and registers with arguments that are not as they should be; want is what ubusd does.
func TestOddEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	listener, sender := dial(t, path), dial(t, path)
	object := listener.add("")
	listener.must(ubus.StatusOK, "registering", listener.register(object, "*"))
	id, data := named(ubus.TypeString, "id", "one\x00"), named(ubus.TypeTable, "data", "")
	other := named(ubus.TypeString, "id", "two\x00")
	for _, tt := range []struct {
		name    string
		args    []byte
		want    ubus.Status
		heard   string // the event
		content string // what its data hold
	}{
		{"as it should be", join(id, data), ubus.StatusOK, "one", ""},
		{"NUL in the id", join(named(ubus.TypeString, "id", "on\x00e\x00"), data), ubus.StatusOK, "on", ""},
		{"NUL first in the id", join(named(ubus.TypeString, "id", "\x00one\x00"), data), ubus.StatusOK, "", ""},
		{"no NUL at the end of the id", join(named(ubus.TypeString, "id", "one"), data), ubus.StatusInvalidArgument, "", ""},
		{"reserved up to the NUL", join(named(ubus.TypeString, "id", "ubus.\x00\x00"), data), ubus.StatusPermissionDenied, "", ""},
		{"two ids", join(id, other, data), ubus.StatusOK, "one", ""},
		{"an id of another type first", join(named(ubus.TypeInt32, "id", "\x00\x00\x00\x01"), other, data), ubus.StatusOK, "two", ""},
		{"NUL in the name of the id", join(named(ubus.TypeString, "id\x00", "one\x00"), other, data), ubus.StatusOK, "two", ""},
		{"an element without a name", join(field(ubus.TypeString, nil, "abc\x00"), id, data), ubus.StatusOK, "one", ""},
		{"an overrun behind", join(id, data, overrun), ubus.StatusOK, "one", ""},
		{"an overrun between", join(id, overrun, data), ubus.StatusInvalidArgument, "", ""},
		{"a malformed element behind", join(id, data, named(99, "x", "")), ubus.StatusOK, "one", ""},
		{"a malformed element between", join(id, named(99, "x", ""), data), ubus.StatusInvalidArgument, "", ""},
		{"a number of three bytes between", join(id, named(ubus.TypeInt32, "x", "abc"), data), ubus.StatusInvalidArgument, "", ""},
		{"a number in floating point of 12 bytes between", join(id, named(ubus.TypeDouble, "x", "abcdefghijkl"), data), ubus.StatusOK, "one", ""},
		{"data that are no list", join(id, named(ubus.TypeTable, "data", "\xff\xff\xff\xffabcdef")), ubus.StatusOK, "one", "\xff\xff\xff\xffabcdef"},
		{"an array as data", join(id, named(ubus.TypeArray, "data", "")), ubus.StatusInvalidArgument, "", ""},
		{"nothing", nil, ubus.StatusInvalidArgument, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sender.t, listener.t = t, t
			sender.must(tt.want, "sending", sender.invoke(ubus.ObjectEvents, "send", tt.args))
			if tt.want != ubus.StatusOK {
				return // the next that is heard is the next test's
			}
			m := listener.read(ubus.MsgInvoke)
			a := m.Attrs()
			event, _ := a.String(ubus.AttrMethod)
			content, ok := a.Nested(ubus.AttrData)
			if event != tt.heard || string(content) != tt.content || !ok {
				t.Errorf("heard %q with %q, want %q with %q", event, content, tt.heard, tt.content)
			}
		})
	}
	sender.t, listener.t = t, t

	own := sender.add("")
	number := binary.BigEndian.AppendUint32(nil, own)
	pattern := join(named(ubus.TypeInt32, "object", string(number)), named(ubus.TypeString, "pattern", "ho\x00use*\x00"), overrun)
	sender.must(ubus.StatusOK, "registering", sender.invoke(ubus.ObjectEvents, "register", pattern))
	for _, event := range []string{"house", "ho"} {
		listener.must(ubus.StatusOK, "sending", listener.invoke(ubus.ObjectEvents, "send", join(named(ubus.TypeString, "id", event+"\x00"), data)))
	}
	m := sender.read(ubus.MsgInvoke)
	a := m.Attrs()
	if event, _ := a.String(ubus.AttrMethod); event != "ho" {
		t.Errorf("a pattern with a NUL hears %q", event)
	}
}

// TestOddSignatures adds objects with signatures that are not as they should be, and looks at what is shown of them.
func TestOddSignatures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	get := named(ubus.TypeTable, "get", "")
	odd := named(ubus.TypeTable, "get", "\xff\xfe\xfd\xfcabcd")
	for i, tt := range []struct {
		name      string
		signature []byte
		want      []byte // nil: the object has no type, and is not shown
	}{
		{"as it should be", get, get},
		{"none", nil, []byte{}},
		{"an overrun behind", join(get, overrun, get), get},
		{"an overrun alone", overrun, []byte{}},
		{"less than a head", []byte{1, 2}, []byte{}},
		{"an element without a length behind", join(get, []byte{0x82, 0, 0, 0}, get), get},
		{"an element shorter than its head behind", join(get, []byte{0x82, 0, 0, 2}, get), nil},
		{"arguments that are no list", odd, odd},
		{"methods that are no tables", join(named(ubus.TypeInt32, "a", "\x00\x00\x00\x01"), named(ubus.TypeNull, "b", "")), join(named(ubus.TypeInt32, "a", "\x00\x00\x00\x01"), named(ubus.TypeNull, "b", ""))},
		{"a number of three bytes", named(ubus.TypeInt32, "a", "abc"), nil},
		{"a number in floating point of 12 bytes", named(ubus.TypeDouble, "a", "abcdefghijkl"), named(ubus.TypeDouble, "a", "abcdefghijkl")},
		{"NUL in a name", named(ubus.TypeTable, "a\x00b", ""), named(ubus.TypeTable, "a", "")},
		{"NUL first in a name", named(ubus.TypeTable, "\x00b", ""), named(ubus.TypeTable, "", "")},
		{"an empty name", join(get, named(ubus.TypeTable, "", "")), nil},
		{"no name", join(get, field(ubus.TypeTable, nil, "")), nil},
		{"an unknown type", join(get, named(9, "a", "")), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := dial(t, path)
			name := fmt.Sprintf("object%d", i)
			s, a := p.ask(ubus.MsgAddObject, 0, ubus.AppendNested(ubus.AppendString(nil, ubus.AttrObjPath, name), ubus.AttrSignature, tt.signature))
			p.must(ubus.StatusOK, "adding", s)
			if a.Has(ubus.AttrObjType) != (tt.want != nil) {
				t.Errorf("it has a type: %v", a.Has(ubus.AttrObjType))
			}
			s, a = p.ask(ubus.MsgLookup, 0, ubus.AppendString(nil, ubus.AttrObjPath, name))
			p.must(ubus.StatusOK, "looking it up", s)
			if got, ok := a.Nested(ubus.AttrSignature); ok != (tt.want != nil) || !bytes.Equal(got, tt.want) {
				t.Errorf("shown is %q (%v), want %q", got, ok, tt.want)
			}
		})
	}
}

// TestUncheckedLengths: the bus takes TARGET and NO_REPLY whatever their lengths are.
func TestUncheckedLengths(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	provider, subscriber := dial(t, path), dial(t, path)
	target, own := provider.add("thing"), subscriber.add("")
	for _, tt := range []struct {
		name  string
		value []byte // of TARGET
		want  ubus.Status
	}{
		{"one byte", []byte{1}, ubus.StatusNotFound},
		{"more bytes", append(binary.BigEndian.AppendUint32(nil, target), "more"...), ubus.StatusOK},
	} {
		body := ubus.AppendNested(ubus.AppendUint32(nil, ubus.AttrObjID, own), ubus.AttrTarget, tt.value)
		s, _ := subscriber.ask(ubus.MsgSubscribe, 0, body)
		subscriber.must(tt.want, "TARGET of "+tt.name, s)
	}
	provider.read(ubus.MsgNotify)
	for _, tt := range []struct {
		name    string
		value   []byte // of NO_REPLY
		noReply bool
	}{
		{"one byte", []byte{1}, true},
		{"more bytes", []byte{1, 0, 0, 0}, true},
		{"more bytes, the first of which is 0", []byte{0, 1, 0, 0}, false},
		{"no byte", nil, true}, // what is behind it begins with 7
	} {
		body := ubus.AppendString(ubus.AppendUint32(nil, ubus.AttrObjID, target), ubus.AttrMethod, "changed")
		body = ubus.AppendNested(ubus.AppendNested(body, ubus.AttrNoReply, tt.value), ubus.AttrData, nil)
		provider.write(ubus.Message{Type: ubus.MsgNotify, Seq: 700, Peer: target, Body: body})
		provider.write(ubus.Message{Type: ubus.MsgPing, Seq: 701})
		if !tt.noReply {
			if m := provider.read(ubus.MsgStatus); m.Seq != 700 {
				t.Errorf("NO_REPLY of %s: %+v", tt.name, m)
			}
		}
		if m := provider.read(ubus.MsgData); m.Seq != 701 {
			t.Errorf("NO_REPLY of %s: %+v", tt.name, m)
		}
		provider.read(ubus.MsgStatus)
		m := subscriber.read(ubus.MsgInvoke)
		if a := m.Attrs(); a.Has(ubus.AttrNoReply) != tt.noReply {
			t.Errorf("NO_REPLY of %s is passed on: %v", tt.name, a.Has(ubus.AttrNoReply))
		}
	}
}

// TestRubbishBehindARequest: what a client asks before it sends what is no frame, in the same write, is answered before
// the connection ends, and so is what its end does to its own objects.
func TestRubbishBehindARequest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	hearer := dial(t, path)
	own := hearer.add("")
	ping := ubus.Message{Type: ubus.MsgPing, Seq: 5}
	lookup := ubus.Message{Type: ubus.MsgLookup, Seq: 6, Body: ubus.AppendString(nil, ubus.AttrObjPath, "thing")}
	for _, tt := range []struct {
		name    string
		rubbish []byte
	}{
		{"zeros", make([]byte, 12)},
		{"a frame over the limit", []byte{0, 3, 0, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff}},
		{"an end", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := dial(t, path)
			object := p.add("thing")
			hearer.t = t
			hearer.must(ubus.StatusOK, "subscribing", hearer.subscribe(own, object))
			p.read(ubus.MsgNotify)
			if _, err := p.conn.Write(append(lookup.Append(ping.Append(nil)), tt.rubbish...)); err != nil {
				t.Fatal(err)
			}
			if tt.rubbish == nil {
				if err := p.conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			var got []ubus.MessageType
			for {
				var m ubus.Message
				err := p.r.Read(&m)
				if err != nil {
					if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
						t.Error(err)
					}
					break
				}
				got = append(got, m.Type)
			}
			want := []ubus.MessageType{ubus.MsgData, ubus.MsgStatus, ubus.MsgData, ubus.MsgStatus, ubus.MsgNotify}
			if !slices.Equal(got, want) {
				t.Errorf("messages of types %v came, want %v", got, want)
			}
			hearer.read(ubus.MsgUnsubscribe)
		})
	}
}

// TestClientAmongOddOnes: the client of package ubus goes on whatever others put on the bus.
func TestClientAmongOddOnes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	client := ubus.New(path, slog.New(slog.DiscardHandler))
	heard := make(chan string, 10)
	client.Listen("house.*", func(event string, _ ubus.Table) { heard <- event })
	asked := make(chan struct{}, 10)
	if err := client.Publish(&ubus.Object{Path: "thing", Methods: []ubus.Method{{Name: "ask", Handler: func(context.Context, *ubus.Request) { asked <- struct{}{} }}}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- client.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ran })

	odd := dial(t, path)
	odd.add("odd")
	bad := ubus.AppendString(nil, ubus.AttrObjPath, "worse")
	odd.ask(ubus.MsgAddObject, 0, ubus.AppendNested(bad, ubus.AttrSignature, named(ubus.TypeTable, "get", "\xff\xfe\xfd\xfcabcd")))
	<-client.Ready()
	objects, err := client.Lookup(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, o := range objects {
		paths = append(paths, o.Path)
	}
	if want := []string{"odd", "thing", "worse"}; !slices.Equal(paths, want) {
		t.Errorf("shown are %q, want %q", paths, want)
	}
	thing := objects[1].ID
	send := func(id, data string) {
		t.Helper()
		odd.must(ubus.StatusOK, "sending", odd.invoke(ubus.ObjectEvents, "send", join(named(ubus.TypeString, "id", id+"\x00"), named(ubus.TypeTable, "data", data))))
	}
	odd.must(ubus.StatusInvalidArgument, "asking with arguments that are none", odd.invoke(thing, "ask", overrun))
	odd.must(ubus.StatusOK, "asking", odd.invoke(thing, "ask", nil))
	<-asked
	for deadline := time.Now().Add(patience); ; {
		send("house.odd", "\xff\xff\xff\xffabcdef")
		send("house.door", "")
		select {
		case event := <-heard:
			if event != "house.door" {
				t.Errorf("heard %s", event)
			}
			return
		case <-time.After(10 * time.Millisecond): // it may not listen yet
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was heard")
		}
	}
}
