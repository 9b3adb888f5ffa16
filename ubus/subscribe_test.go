package ubus

import (
	"context"
	"errors"
	"testing"
)

// TestTargetReappears: the object that is subscribed to goes and comes back.
func TestTargetReappears(t *testing.T) {
	bus := newFakeBus(t)
	got := make(chan string, 10)
	var stop func()
	runClient(t, bus.path, func(c *Client) {
		stop = c.Subscribe("network", func(typ string, _ Table) { got <- typ })
	})
	p := bus.accept(1)
	p.add("", 0x1000)
	p.lookup("network", 0) // not there: listen for it, and look again
	p.add("", 0x1001)
	p.register(0x1001, "ubus.object.*")
	p.lookup("network", 0)

	event := func(id string, path string) {
		p.invoke(5, 0, 0x1001, id, Table{{"id", int32(-1)}, {"path", path}})
	}
	event("ubus.object.add", "other")
	p.wantStatus(5, 0, 0x1001, StatusOK)
	event("ubus.object.add", "network")
	// The answer to the event and the new look-up are independent.
	for range 2 {
		switch m := p.read(); m.Type {
		case MsgStatus:
		case MsgLookup:
			p.send(MsgData, m.Seq, 0, AppendUint32(AppendString(nil, AttrObjPath, "network"), AttrObjID, 0x77))
			p.status(m.Seq, 0, StatusOK)
		default:
			t.Fatalf("type %d", m.Type)
		}
	}
	p.subscribed(0x1000, 0x77)
	p.invoke(9, 0x99, 0x1000, "up", nil)
	p.wantStatus(9, 0x99, 0x1000, StatusOK)
	if typ := wait(t, "notification", got); typ != "up" {
		t.Error(typ)
	}
	// Gone, and already back when the client looks.
	p.send(MsgUnsubscribe, 0, 0, AppendUint32(AppendUint32(nil, AttrObjID, 0x1000), AttrTarget, 0x77))
	p.lookup("network", 0x78)
	p.subscribed(0x1000, 0x78)
	// Notifications that want no answer get none.
	b := AppendUint8(AppendUint32(nil, AttrObjID, 0x1000), AttrNoReply, 1)
	p.send(MsgInvoke, 3, 0x99, AppendNested(AppendString(b, AttrMethod, "quiet"), AttrData, nil))
	if typ := wait(t, "notification", got); typ != "quiet" {
		t.Error(typ)
	}
	stop()
	m, a := p.expect(MsgRemoveObject)
	if id, _ := a.Uint32(AttrObjID); id != 0x1000 {
		t.Errorf("removes %x", id)
	}
	p.status(m.Seq, 0, StatusOK)
	p.invoke(9, 0x99, 0x1000, "up", nil)
	p.wantStatus(9, 0x99, 0x1000, StatusNotFound)
	if len(got) != 0 {
		t.Error("called after stop")
	}
}

// TestSubscribeUnsubscribedAtOnce: the target may go between the broker's answer and the next look at it.
func TestSubscribeUnsubscribedAtOnce(t *testing.T) {
	bus := newFakeBus(t)
	runClient(t, bus.path, func(c *Client) { c.Subscribe("network", func(string, Table) {}) })
	p := bus.accept(1)
	p.add("", 0x1000)
	p.lookup("network", 0x77)
	m, _ := p.expect(MsgSubscribe)
	ok := (&Message{Type: MsgStatus, Seq: m.Seq, Body: AppendUint32(nil, AttrStatus, 0)}).Append(nil)
	gone := &Message{Type: MsgUnsubscribe, Body: AppendUint32(AppendUint32(nil, AttrObjID, 0x1000), AttrTarget, 0x77)}
	p.write(gone.Append(ok))
	p.lookup("network", 0x78)
	p.subscribed(0x1000, 0x78)
}

// TestSlowCallback: what a callback cannot take is dropped, and the rest still comes.
func TestSlowCallback(t *testing.T) {
	bus := newFakeBus(t)
	hold, got := make(chan struct{}), make(chan int64, 3*maxMail)
	_, logs := runClient(t, bus.path, func(c *Client) {
		c.Listen("*", func(_ string, data Table) {
			<-hold
			n, _ := data.Int("n")
			got <- n
			if n == 5 {
				panic("in a callback")
			}
		})
	})
	p := bus.accept(1)
	p.add("", 0x1000)
	p.register(0x1000, "*")
	go func() {
		for i := range 2 * maxMail {
			p.invoke(uint16(i), 0, 0x1000, "e", Table{{"n", int32(i)}})
		}
	}()
	for range 2 * maxMail {
		p.expect(MsgStatus)
	}
	close(hold)
	for i := range int64(maxMail) {
		if n := wait(t, "event", got); n != i {
			t.Fatalf("event %d, want %d", n, i)
		}
	}
	if logs.count("callback is behind") != 1 || logs.count("in a callback") != 1 {
		t.Error(logs.b.String())
	}
}

// TestCallbackCalls: handlers and callbacks may use the client.
func TestCallbackCalls(t *testing.T) {
	bus := newFakeBus(t)
	got := make(chan error, 1)
	runClient(t, bus.path, func(c *Client) {
		c.Listen("*", func(string, Table) {
			_, err := c.Call(context.Background(), "pakon", "status", nil)
			got <- err
		})
	})
	p := bus.accept(1)
	p.add("", 0x1000)
	p.register(0x1000, "*")
	b := AppendUint8(AppendUint32(nil, AttrObjID, 0x1000), AttrNoReply, 1)
	p.send(MsgInvoke, 1, 0, AppendString(b, AttrMethod, "e"))
	p.lookup("pakon", 0x77)
	m, _ := p.expect(MsgInvoke)
	p.status(m.Seq, 0x77, StatusPermissionDenied)
	if err := wait(t, "call", got); !errors.Is(err, StatusPermissionDenied) {
		t.Error(err)
	}
}

// TestListeningDenied: who may not listen finds what it waits for all the same.
func TestListeningDenied(t *testing.T) {
	bus := newFakeBus(t)
	_, logs := runClient(t, bus.path, func(c *Client) { c.Subscribe("network", func(string, Table) {}) })
	p := bus.accept(1)
	p.add("", 0x1000)
	p.lookup("network", 0)
	p.add("", 0x1001)
	m, _ := p.expect(MsgInvoke)
	p.status(m.Seq, m.Peer, StatusPermissionDenied)
	m, _ = p.expect(MsgRemoveObject)
	p.status(m.Seq, 0, StatusOK)
	p.lookup("network", 0)
	p.lookup("network", 0x77)
	p.subscribed(0x1000, 0x77)
	if logs.count("cannot listen for objects") != 1 {
		t.Error("not logged once")
	}
}
