package broker

import (
	"path/filepath"
	"strings"
	"testing"

	"pakon/ubus"
)

// An event reaches an object once, whichever and however many of its patterns match, and none of its sender's.
func TestEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	listener := dial(t, path)
	object := listener.add("")
	for _, pattern := range []string{"house.*", "house.door", "*", "house.door", "cellar", "house.door.lock"} {
		listener.must(ubus.StatusOK, "registering "+pattern, listener.register(object, pattern))
	}
	exact := dial(t, path)
	exactObject := exact.add("")
	exact.must(ubus.StatusOK, "registering", exact.register(exactObject, "house.door"))

	send := func(p *peer, event string) {
		t.Helper()
		var args ubus.Builder
		args.String("id", event)
		args.Table("data")
		args.String("by", "test")
		args.Close()
		p.must(ubus.StatusOK, "sending "+event, p.invoke(ubus.ObjectEvents, "send", args.Bytes()))
	}
	hears := func(p *peer, object uint32, event string) {
		t.Helper()
		m := p.read(ubus.MsgInvoke)
		a := m.Attrs()
		id, _ := a.Uint32(ubus.AttrObjID)
		name, _ := a.String(ubus.AttrMethod)
		blob, _ := a.Nested(ubus.AttrData)
		data, err := ubus.Decode(blob)
		by, _ := data.String("by")
		if m.Peer != 0 || id != object || name != event || err != nil || by != "test" || a.Has(ubus.AttrUser) {
			t.Fatalf("heard %+v, want event %s for object %08x", m, event, object)
		}
	}
	sender := dial(t, path)
	send(sender, "house.door")
	send(sender, "house")
	hears(listener, object, "house.door")
	hears(listener, object, "house")
	send(listener, "house.door")
	send(sender, "house.door.lock")
	hears(listener, object, "house.door.lock")
	hears(exact, exactObject, "house.door")
	hears(exact, exactObject, "house.door")

	// An object that is gone hears nothing: the next thing that comes is the pong.
	s, _ := exact.ask(ubus.MsgRemoveObject, 0, ubus.AppendUint32(nil, ubus.AttrObjID, exactObject))
	exact.must(ubus.StatusOK, "removing the object", s)
	send(sender, "house.door")
	exact.write(ubus.Message{Type: ubus.MsgPing, Seq: 999})
	exact.read(ubus.MsgData)
}

// BenchmarkCall is a call from one client to another and back, with a reply of 100 bytes.
func BenchmarkCall(b *testing.B) {
	path := filepath.Join(b.TempDir(), "bus.sock")
	startBroker(b, path, nil)
	provider, caller := dial(b, path), dial(b, path)
	id := provider.add("thing")
	var reply ubus.Builder
	reply.String("text", strings.Repeat("x", 100))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range b.N {
			m := provider.read(ubus.MsgInvoke)
			data := ubus.AppendNested(ubus.AppendUint32(nil, ubus.AttrObjID, id), ubus.AttrData, reply.Bytes())
			provider.write(ubus.Message{Type: ubus.MsgData, Seq: m.Seq, Peer: m.Peer, Body: data})
			status := ubus.AppendUint32(nil, ubus.AttrStatus, 0)
			provider.write(ubus.Message{Type: ubus.MsgStatus, Seq: m.Seq, Peer: m.Peer, Body: ubus.AppendUint32(status, ubus.AttrObjID, id)})
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if s := caller.invoke(id, "method", nil); s != ubus.StatusOK {
			b.Fatal(s)
		}
	}
	<-done
}
