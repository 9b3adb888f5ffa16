package ubus

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// object is one with the methods that the tests below need.
func object(handlers map[string]func(context.Context, *Request)) *Object {
	o := &Object{Path: "pakon"}
	for name, h := range handlers {
		o.Methods = append(o.Methods, Method{Name: name, Handler: h})
	}
	return o
}

// provide runs a client with that object and returns the broker's end.
func provide(t *testing.T, o *Object) (*Client, *fakePeer, *logBuffer) {
	t.Helper()
	bus := newFakeBus(t)
	c, logs := runClient(t, bus.path, func(c *Client) {
		if err := c.Publish(o); err != nil {
			t.Fatal(err)
		}
	})
	p := bus.accept(0xc1)
	p.add(o.Path, 0x1000)
	wait(t, "ready", c.Ready())
	return c, p, logs
}

// dial returns a client that was dialled and the broker's end.
func dial(t *testing.T) (*Client, *fakePeer) {
	t.Helper()
	noLeaks(t)
	bus := newFakeBus(t)
	type result struct {
		c   *Client
		err error
	}
	ch := make(chan result)
	go func() {
		c, err := Dial(testContext(t), bus.path)
		ch <- result{c, err}
	}()
	p := bus.accept(0xc2)
	r := wait(t, "Dial", ch)
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.c.Close() })
	return r.c, p
}

func TestProviderStatuses(t *testing.T) {
	replied := make(chan error, 10)
	o := object(map[string]func(context.Context, *Request){
		"nothing": func(ctx context.Context, r *Request) {},
		"args": func(ctx context.Context, r *Request) {
			if _, ok := r.Args.Int("n"); ok {
				r.Done(StatusInvalidArgument)
			}
			if s, _ := r.Args.String("n"); s != "text" || r.User != "root" || r.Group != "wheel" || r.Method != "args" {
				r.Done(StatusSystemError)
			}
		},
		"twice": func(ctx context.Context, r *Request) {
			r.Done(99)
			r.Done(StatusOK)
			replied <- r.Reply(nil)
		},
		"panic": func(ctx context.Context, r *Request) { panic("on purpose") },
		"big": func(ctx context.Context, r *Request) {
			replied <- r.Reply(Table{{"s", strings.Repeat("x", MaxMessage)}})
		},
		"bigThenSmall": func(ctx context.Context, r *Request) {
			replied <- r.Reply(Table{{"s", strings.Repeat("x", MaxMessage)}})
			replied <- r.Reply(Table{{"s", "small"}})
		},
		"bigOwnStatus": func(ctx context.Context, r *Request) {
			replied <- r.Reply(Table{{"s", strings.Repeat("x", MaxMessage)}})
			r.Done(StatusNotSupported)
		},
		"unfit": func(ctx context.Context, r *Request) { replied <- r.Reply(Table{{"s", 5}}) },
		"open": func(ctx context.Context, r *Request) {
			var b Builder
			b.Table("x")
			replied <- r.ReplyBlob(&b)
		},
		"largest": func(ctx context.Context, r *Request) {
			var b Builder
			b.String("s", strings.Repeat("a", 1048551))
			replied <- r.ReplyBlob(&b)
		},
	})
	_, p, logs := provide(t, o)
	seq := uint16(100)
	call := func(method string, args Table, want Status) {
		t.Helper()
		seq++
		p.invoke(seq, 0xca11, 0x1000, method, args)
		p.wantStatus(seq, 0xca11, 0x1000, want)
	}
	call("nothing", nil, StatusOK)
	call("nosuch", nil, StatusMethodNotFound)
	call("args", Table{{"n", "text"}, {"ubus_rpc_session", "0"}}, StatusOK)
	call("twice", nil, 99)
	if err := wait(t, "reply", replied); !errors.Is(err, errAnswered) {
		t.Error("a reply after the status:", err)
	}
	call("panic", nil, StatusUnknownError)
	if logs.count("on purpose") != 1 {
		t.Error("the panic is not logged once")
	}
	// A reply over the limit would have cost a libubus provider its connection, and its caller the timeout.
	call("big", nil, StatusUnknownError)
	if err := wait(t, "reply", replied); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	call("bigOwnStatus", nil, StatusNotSupported)
	if err := wait(t, "reply", replied); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	for _, m := range []string{"unfit", "open"} {
		call(m, nil, StatusUnknownError)
		if err := wait(t, "reply", replied); err == nil {
			t.Errorf("%s: no error", m)
		}
	}

	p.invoke(1, 2, 0x1000, "bigThenSmall", nil)
	_, a := p.expect(MsgData)
	if s, _ := table(t, a).String("s"); s != "small" {
		t.Error("the small reply does not come")
	}
	p.wantStatus(1, 2, 0x1000, StatusOK)
	wait(t, "reply", replied)
	wait(t, "reply", replied)

	p.invoke(1, 2, 0x1000, "largest", nil)
	m, _ := p.expect(MsgData)
	if n := len(m.Body) + attrHead; n != MaxMessage {
		t.Errorf("the largest reply has an outer length of %d", n)
	}
	if err := wait(t, "reply", replied); err != nil {
		t.Error(err)
	}
	p.wantStatus(1, 2, 0x1000, StatusOK)

	// Calls that are not whole.
	send := func(body []byte, object uint32, want Status) {
		t.Helper()
		p.send(MsgInvoke, 7, 8, body)
		p.wantStatus(7, 8, object, want)
	}
	id := AppendUint32(nil, AttrObjID, 0x1000)
	send(AppendString(id, AttrMethod, "nothing"), 0x1000, StatusInvalidArgument)     // no DATA
	send(AppendNested(id, AttrData, nil), 0x1000, StatusInvalidArgument)             // no METHOD
	send(AppendString(id, AttrMethod, "nosuch"), 0x1000, StatusMethodNotFound)       // neither
	send(AppendUint32(nil, AttrObjID, 0x9999), 0x9999, StatusNotFound)               // not ours
	send(AppendNested(AppendString(id, AttrMethod, "nothing"), AttrData, []byte{1}), // no blobmsg
		0x1000, StatusInvalidArgument)

	// Wanting no answer, and what a client has nothing to do with, get none.
	p.send(MsgInvoke, 7, 8, AppendUint8(AppendNested(AppendString(id, AttrMethod, "nothing"), AttrData, nil), AttrNoReply, 1))
	p.send(MsgInvoke, 7, 8, AppendUint8(AppendString(id, AttrMethod, "nosuch"), AttrNoReply, 1))
	p.send(MsgPing, 1, 2, nil)
	p.send(200, 1, 2, nil)
	p.send(MsgData, 1, 2, id)
	p.send(MsgStatus, 9999, 0, AppendUint32(nil, AttrStatus, 0))
	p.send(MsgUnsubscribe, 0, 0, id)
	p.send(MsgNotify, 0, 0, nil)
	p.write((&Message{Version: 1, Type: MsgInvoke, Body: id}).Append(nil))
	call("nothing", nil, StatusOK)
}

// TestForwardedOverLimit: the broker adds USER and GROUP without looking at the limit again. The recorded libubus
// provider never answers any more after such a call; ours does.
func TestForwardedOverLimit(t *testing.T) {
	sizes := make(chan int, 10)
	o := object(map[string]func(context.Context, *Request){
		"nothing": func(ctx context.Context, r *Request) {
			s, _ := r.Args.String("s")
			sizes <- len(s)
		},
	})
	_, p, _ := provide(t, o)
	calls, over := 0, 0
	for _, rec := range recording(t, "i_forward") {
		m := frameOf(t, rec)
		if m == nil || rec.fromClient() || m.Type != MsgInvoke {
			continue
		}
		a := m.Attrs()
		args, _ := a.Nested(AttrData)
		name, _ := a.String(AttrMethod)
		user, _ := a.String(AttrUser)
		group, _ := a.String(AttrGroup)
		b := AppendString(AppendUint32(nil, AttrObjID, 0x1000), AttrMethod, "nothing")
		b = AppendString(AppendString(b, AttrUser, user), AttrGroup, group)
		b = AppendNested(b, AttrData, args)
		if name == "nothing" && len(b) != len(m.Body) {
			t.Errorf("t=%d: %d bytes, recorded %d", rec.T, len(b), len(m.Body))
		}
		if len(b)+attrHead > MaxMessage {
			over++
		}
		p.send(MsgInvoke, m.Seq, m.Peer, b)
		p.wantStatus(m.Seq, m.Peer, 0x1000, StatusOK)
		calls++
	}
	if calls < 3 || over == 0 {
		t.Errorf("%d calls recorded, %d over the limit", calls, over)
	}
	p.invoke(1, 2, 0x1000, "nothing", nil)
	p.wantStatus(1, 2, 0x1000, StatusOK)
}

// TestFrameOverSlack: where no frame can be found any more, the client connects anew.
func TestFrameOverSlack(t *testing.T) {
	bus := newFakeBus(t)
	runClient(t, bus.path, func(c *Client) { c.Publish(object(nil)) })
	for _, bad := range [][]byte{
		{0, 5, 0, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff},
		{0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3},
	} {
		p := bus.accept(1)
		p.add("pakon", 0x1000)
		p.write(bad)
		p.gone()
	}
	p := bus.accept(1)
	p.add("pakon", 0x1001)
}

func TestHandlersAreBounded(t *testing.T) {
	release := make(chan struct{})
	started := make(chan struct{}, 1000)
	o := object(map[string]func(context.Context, *Request){
		"slow": func(ctx context.Context, r *Request) {
			started <- struct{}{}
			<-release
		},
		"fast": func(context.Context, *Request) {},
	})
	_, p, logs := provide(t, o)
	const extra = 50
	for i := range maxServing + maxWaiting + extra {
		p.invoke(uint16(i), 1, 0x1000, "slow", nil)
	}
	for i := range extra { // refused at once, without waiting for the others
		p.wantStatus(uint16(maxServing+maxWaiting+i), 1, 0x1000, StatusNoMemory)
	}
	for range maxServing {
		wait(t, "handler", started)
	}
	if len(started) != 0 {
		t.Error("more handlers run than may")
	}
	close(release)
	for range maxServing + maxWaiting {
		p.expect(MsgStatus)
	}
	p.invoke(5, 6, 0x1000, "fast", nil)
	p.wantStatus(5, 6, 0x1000, StatusOK)
	if logs.count("too many calls") != 1 {
		t.Error("not logged once")
	}
}

// TestWaitingBytes: few big calls fill the queue as well as many small ones.
func TestWaitingBytes(t *testing.T) {
	release := make(chan struct{})
	o := object(map[string]func(context.Context, *Request){"slow": func(context.Context, *Request) { <-release }})
	_, p, _ := provide(t, o)
	big := Table{{"s", strings.Repeat("x", 1<<20-200)}}
	for i := range maxServing {
		p.invoke(uint16(i), 1, 0x1000, "slow", nil)
	}
	for i := range 5 {
		p.invoke(uint16(100+i), 1, 0x1000, "slow", big)
	}
	p.wantStatus(104, 1, 0x1000, StatusNoMemory)
	close(release)
	for range maxServing + 4 {
		p.expect(MsgStatus)
	}
}

// TestHandlerEndsWithConnection: a deferred reply is given up when nobody can get it any more.
func TestHandlerEndsWithConnection(t *testing.T) {
	started, ended := make(chan struct{}), make(chan error, 1)
	o := object(map[string]func(context.Context, *Request){
		"wait": func(ctx context.Context, r *Request) {
			close(started)
			<-ctx.Done()
			ended <- r.Reply(Table{{"late", true}})
		},
	})
	_, p, _ := provide(t, o)
	p.invoke(1, 2, 0x1000, "wait", nil)
	wait(t, "handler", started)
	p.conn.Close()
	if err := wait(t, "handler", ended); !errors.Is(err, StatusConnectionFailed) {
		t.Error(err)
	}
}

func TestCallReplies(t *testing.T) {
	c, p := dial(t)
	ctx := testContext(t)
	type result struct {
		t   Table
		err error
	}
	got := make(chan result, 1)
	call := func(ctx context.Context) {
		go func() {
			tab, err := c.Call(ctx, "pakon", "query", Table{{"a", int32(1)}})
			got <- result{tab, err}
		}()
	}
	invoked := func() *Message {
		t.Helper()
		p.lookup("pakon", 0x77)
		m, a := p.expect(MsgInvoke)
		if s, _ := a.String(AttrMethod); s != "query" || m.Peer != 0x77 {
			t.Fatalf("%q of %x", s, m.Peer)
		}
		return m
	}
	data := func(seq uint16, peer uint32, n int32) {
		blob, _ := Table{{"n", n}}.Append(nil)
		p.send(MsgData, seq, peer, AppendNested(AppendUint32(nil, AttrObjID, peer), AttrData, blob))
	}

	call(ctx)
	m := invoked()
	data(m.Seq, 0x78, 1)   // another peer's
	data(m.Seq+1, 0x77, 2) // another call's
	data(m.Seq, 0x77, 3)
	data(m.Seq, 0x77, 4)
	p.send(MsgStatus, m.Seq, m.Peer, nil) // without STATUS it says nothing
	p.status(m.Seq, m.Peer, StatusOK)
	r := wait(t, "call", got)
	if n, _ := r.t.Int("n"); n != 3 || r.err != nil {
		t.Errorf("%v, %v; want the first reply", r.t, r.err)
	}

	// The caller's time is up: the error says so, and what comes later is of no call.
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	call(short)
	late := invoked()
	r = wait(t, "call", got)
	if !errors.Is(r.err, StatusTimeout) || !errors.Is(r.err, context.DeadlineExceeded) {
		t.Error(r.err)
	}
	call(ctx)
	p.lookup("pakon", 0x77)
	m, _ = p.expect(MsgInvoke)
	data(late.Seq, 0x77, 5)
	p.status(late.Seq, 0x77, StatusSystemError)
	data(m.Seq, 0x77, 6)
	p.status(m.Seq, 0x77, StatusOK)
	r = wait(t, "call", got)
	if n, _ := r.t.Int("n"); n != 6 || r.err != nil {
		t.Errorf("%v, %v; want the reply to this call", r.t, r.err)
	}

	// Data that is no blobmsg; a status of the provider's own.
	call(ctx)
	m = invoked()
	p.send(MsgData, m.Seq, m.Peer, AppendNested(nil, AttrData, []byte("junk")))
	if r = wait(t, "call", got); !errors.Is(r.err, StatusParseError) {
		t.Error(r.err)
	}
	call(ctx)
	m = invoked()
	data(m.Seq, m.Peer, 1)
	p.status(m.Seq, m.Peer, 1234)
	if r = wait(t, "call", got); !errors.Is(r.err, Status(1234)) || r.t != nil {
		t.Error(r.t, r.err)
	}

	// Locally refused, nothing sent.
	if _, err := c.Call(ctx, "", "m", nil); !errors.Is(err, StatusInvalidArgument) {
		t.Error(err)
	}
	if _, err := c.Call(ctx, "x", "m", Table{{"x", 1}}); !errors.Is(err, StatusInvalidArgument) {
		t.Error(err)
	}
	big := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, "pakon", "query", Table{{"s", strings.Repeat("x", MaxMessage)}})
		big <- err
	}()
	p.lookup("pakon", 0x77)
	if err := wait(t, "call", big); !errors.Is(err, StatusInvalidArgument) || !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Call(done, "pakon", "query", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	// A flood of replies that the caller does not take ends the call, not the memory.
	hold := make(chan struct{})
	flood := make(chan error, 1)
	go func() {
		flood <- c.CallAll(ctx, "pakon", "query", nil, func(Table) error { <-hold; return nil })
	}()
	m = invoked()
	blob, _ := Table{{"s", strings.Repeat("x", 1<<20-100)}}.Append(nil)
	for range 12 {
		p.send(MsgData, m.Seq, m.Peer, AppendNested(nil, AttrData, blob))
	}
	p.status(m.Seq, m.Peer, StatusOK)
	close(hold)
	if err := wait(t, "call", flood); !errors.Is(err, StatusNoMemory) {
		t.Error(err)
	}

	// The broker goes: calls in flight end at once.
	call(ctx)
	invoked()
	p.conn.Close()
	if r = wait(t, "call", got); !errors.Is(r.err, StatusConnectionFailed) {
		t.Error(r.err)
	}
}

// TestManyCalls: answers may come in any order, and only sequence numbers in use are passed over.
func TestManyCalls(t *testing.T) {
	c, p := dial(t)
	ctx := testContext(t)
	const n = 20
	got := make(chan [2]int64, n)
	c.seq.Store(1<<16 - 10) // so that the numbers wrap
	for i := range int64(n) {
		go func() {
			tab, err := c.Call(ctx, "pakon", "echo", Table{{"i", i}})
			v, _ := tab.Int("i")
			if err != nil {
				t.Error(err)
			}
			got <- [2]int64{i, v}
		}()
	}
	var calls []*Message
	for len(calls) < n {
		m := p.read()
		if m.Type == MsgLookup {
			p.send(MsgData, m.Seq, 0, AppendUint32(AppendString(nil, AttrObjPath, "pakon"), AttrObjID, 0x77))
			p.status(m.Seq, 0, StatusOK)
			continue
		}
		calls = append(calls, m)
	}
	for i := n - 1; i >= 0; i-- {
		a := calls[i].Attrs()
		args, _ := a.Nested(AttrData)
		p.send(MsgData, calls[i].Seq, 0x77, AppendNested(nil, AttrData, args))
		p.status(calls[i].Seq, 0x77, StatusOK)
	}
	for range n {
		if v := wait(t, "call", got); v[0] != v[1] {
			t.Errorf("call %d got the reply to %d", v[0], v[1])
		}
	}
}

func TestDialFails(t *testing.T) {
	noLeaks(t)
	if _, err := Dial(testContext(t), t.TempDir()+"/none"); !errors.Is(err, StatusConnectionFailed) || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	// Turned away without a hello, as those are whose uid has no name.
	bus := newFakeBus(t)
	got := make(chan error, 1)
	go func() {
		_, err := Dial(testContext(t), bus.path)
		got <- err
	}()
	bus.accept(0).conn.Close()
	if err := wait(t, "Dial", got); !errors.Is(err, StatusConnectionFailed) {
		t.Error(err)
	}
	// No hello at all: the caller's context ends it.
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, err := Dial(ctx, bus.path)
		got <- err
	}()
	p := bus.accept(0)
	cancel()
	if err := wait(t, "Dial", got); err == nil {
		t.Error("connected without a hello")
	}
	p.gone()
	// Something else than a broker.
	go func() {
		_, err := Dial(testContext(t), bus.path)
		got <- err
	}()
	bus.accept(0).send(MsgStatus, 0, 0, nil)
	if err := wait(t, "Dial", got); !errors.Is(err, ErrFrame) {
		t.Error(err)
	}
}

func TestReconnect(t *testing.T) {
	bus := newFakeBus(t)
	bus.l.Close() // not there yet
	o := object(nil)
	events := make(chan string, 10)
	c, logs := runClient(t, bus.path, func(c *Client) {
		c.Publish(o)
		c.Listen("pakon.*", func(e string, _ Table) { events <- e })
		c.Subscribe("network", func(typ string, _ Table) { events <- "network " + typ })
	})
	if c.Connected() {
		t.Error("connected to nothing")
	}
	if _, err := c.Call(testContext(t), "x", "y", nil); !errors.Is(err, StatusConnectionFailed) {
		t.Error(err)
	}
	if err := o.Notify("x", nil); err != nil {
		t.Error(err)
	}
	bus.listen()
	var seq uint16
	for round := range uint32(3) {
		p := bus.accept(round + 1)
		base := 0x1000 * (round + 1)
		p.add("pakon", base)
		p.add("", base+1)
		p.register(base+1, "pakon.*")
		p.add("", base+2)
		p.lookup("network", base+3)
		p.subscribed(base+2, base+3)
		wait(t, "ready", c.Ready())
		p.invoke(seq, 0, base+1, "pakon.x", nil)
		p.wantStatus(seq, 0, base+1, StatusOK)
		if e := wait(t, "event", events); e != "pakon.x" {
			t.Error(e)
		}
		p.invoke(seq, 0x99, base+2, "up", nil)
		p.wantStatus(seq, 0x99, base+2, StatusOK)
		if e := wait(t, "notification", events); e != "network up" {
			t.Error(e)
		}
		bus.l.Close()
		p.conn.Close()
		bus.listen()
	}
	if n := logs.count("no connection to the bus"); n < 1 || n > 4 {
		t.Errorf("%d lines about outages:\n%s", n, logs.b.String())
	}
}

// TestOutageIsLoggedOnce: however long it lasts.
func TestOutageIsLoggedOnce(t *testing.T) {
	bus := newFakeBus(t)
	bus.l.Close()
	c, logs := runClient(t, bus.path, nil)
	bus.listen()
	for range 3 {
		bus.accept(0).conn.Close() // turned away: still the same outage
	}
	bus.accept(1)
	wait(t, "ready", c.Ready())
	if n := logs.count("no connection to the bus"); n != 1 {
		t.Errorf("%d lines:\n%s", n, logs.b.String())
	}
}

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

// TestPathTaken: an object whose path another has is published when that is gone.
func TestPathTaken(t *testing.T) {
	bus := newFakeBus(t)
	o := object(nil)
	c, logs := runClient(t, bus.path, func(c *Client) { c.Publish(o) })
	p := bus.accept(1)
	refuse := func() {
		t.Helper()
		m, _ := p.expect(MsgAddObject)
		p.status(m.Seq, 0, StatusInvalidArgument)
	}
	refuse()
	p.add("", 0x1001)
	p.register(0x1001, "ubus.object.*")
	refuse()
	select {
	case <-c.Ready():
		t.Error("ready without its object")
	default:
	}
	b := AppendUint8(AppendUint32(nil, AttrObjID, 0x1001), AttrNoReply, 1)
	blob, _ := Table{{"path", "pakon"}}.Append(nil)
	p.send(MsgInvoke, 1, 0, AppendNested(AppendString(b, AttrMethod, "ubus.object.remove"), AttrData, blob))
	p.add("pakon", 0x1000)
	wait(t, "ready", c.Ready())
	if n := logs.count("cannot publish"); n != 1 {
		t.Errorf("%d lines about it", n)
	}
	c.Unpublish(o)
	m, _ := p.expect(MsgRemoveObject)
	p.status(m.Seq, 0, StatusOK)

	// Published while connected: refused at once.
	result := make(chan error, 1)
	go func() { result <- c.Publish(o) }()
	refuse()
	if err := wait(t, "Publish", result); !errors.Is(err, StatusInvalidArgument) {
		t.Error(err)
	}
}

func TestPublishChecks(t *testing.T) {
	c := New("none", slog.New(slog.DiscardHandler))
	h := func(context.Context, *Request) {}
	for name, o := range map[string]*Object{
		"no path":    {},
		"no name":    {Path: "x", Methods: []Method{{Handler: h}}},
		"no handler": {Path: "x", Methods: []Method{{Name: "m"}}},
		"twice":      {Path: "x", Methods: []Method{{Name: "m", Handler: h}, {Name: "m", Handler: h}}},
		"long name":  {Path: "x", Methods: []Method{{Name: strings.Repeat("m", maxName+1), Handler: h}}},
		"long path":  {Path: strings.Repeat("x", MaxMessage)},
	} {
		if err := c.Publish(o); err == nil {
			t.Errorf("%s: published", name)
		}
	}
	if err := c.Publish(object(nil)); err != nil {
		t.Error(err)
	}
	if err := c.Publish(object(nil)); err == nil {
		t.Error("the same path twice")
	}
}

func TestNotify(t *testing.T) {
	o := object(nil)
	_, p, _ := provide(t, o)
	active := func(v uint8) {
		p.send(MsgNotify, 0, 0, AppendUint8(AppendUint32(nil, AttrObjID, 0x1000), AttrActive, v))
		p.invoke(1, 2, 0x1000, "nosuch", nil) // answered after the above was read
		p.wantStatus(1, 2, 0x1000, StatusMethodNotFound)
	}
	if err := o.Notify("early", nil); err != nil || o.HasSubscribers() {
		t.Error(err)
	}
	active(1)
	if err := o.Notify("heard", Table{{"n", int32(1)}}); err != nil || !o.HasSubscribers() {
		t.Error(err)
	}
	m, a := p.expect(MsgNotify)
	name, _ := a.String(AttrMethod)
	if quiet, _ := a.Uint8(AttrNoReply); name != "heard" || quiet != 1 || m.Peer != 0x1000 {
		t.Errorf("%q, no reply %d, peer %x", name, quiet, m.Peer)
	}
	if err := o.Notify("big", Table{{"s", strings.Repeat("x", MaxMessage)}}); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if err := o.Notify("unfit", Table{{"s", 1}}); err == nil {
		t.Error("sent an int")
	}
	active(0)
	if err := o.Notify("late", nil); err != nil || o.HasSubscribers() {
		t.Error(err)
	}
	active(1)

	// A broker that does not read: notifications are refused, not kept.
	blob := Table{{"s", strings.Repeat("x", 1<<19)}}
	var err error
	for range 100 {
		if err = o.Notify("flood", blob); err != nil {
			break
		}
	}
	if !errors.Is(err, StatusNoMemory) {
		t.Error("50 MiB were taken:", err)
	}
}

// TestWriteQueue: a call waits for room no longer than its context says.
func TestWriteQueue(t *testing.T) {
	c, p := dial(t)
	ctx, cancel := context.WithCancel(testContext(t))
	s := c.current()
	frame := BeginFrame(nil, MsgPing, 0, 0)
	frame = AppendNested(frame, AttrData, make([]byte, 1<<20-100))
	full := make(chan error, 1)
	go func() {
		for {
			if err := s.send(ctx, frame); err != nil {
				full <- err
				return
			}
		}
	}()
	for s.trySend(frame) == nil || len(full) > 0 {
	}
	cancel()
	if err := wait(t, "send", full); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		for {
			if err := s.send(context.Background(), frame); err != nil {
				full <- err
				return
			}
		}
	}()
	p.conn.Close()
	if err := wait(t, "send", full); !errors.Is(err, StatusConnectionFailed) {
		t.Error(err)
	}
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

func TestRunEnds(t *testing.T) {
	bus := newFakeBus(t)
	c, _ := runClient(t, bus.path, nil)
	p := bus.accept(1)
	wait(t, "ready", c.Ready())
	if err := c.Run(context.Background()); err == nil {
		t.Error("ran twice")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	p.gone()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	unused := New("x", slog.New(slog.DiscardHandler))
	if err := unused.Close(); err != nil {
		t.Error(err)
	}
	if err := unused.Run(context.Background()); err == nil {
		t.Error("ran after Close")
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

// TestDescriptor: a descriptor that comes with a call is not kept.
func TestDescriptor(t *testing.T) {
	o := object(map[string]func(context.Context, *Request){"takefd": func(context.Context, *Request) {}})
	_, p, _ := provide(t, o)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := AppendString(AppendUint32(nil, AttrObjID, 0x1000), AttrMethod, "takefd")
	m := Message{Type: MsgInvoke, Seq: 1, Peer: 2, Body: AppendNested(b, AttrData, nil)}
	_, _, err = p.conn.(*net.UnixConn).WriteMsgUnix(m.Append(nil), syscall.UnixRights(int(w.Fd())), nil)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	p.wantStatus(1, 2, 0x1000, StatusOK)
	r.SetReadDeadline(time.Now().Add(patience))
	if n, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the pipe is still open: %d, %v", n, err)
	}
}

// TestChangesWhileConnected: objects and listeners come and go on a connection that stands.
func TestChangesWhileConnected(t *testing.T) {
	c, p := dial(t)
	got := make(chan string, 10)
	stop := c.Listen("*", func(e string, _ Table) { got <- e })
	p.add("", 0x1000)
	p.register(0x1000, "*")
	o := object(map[string]func(context.Context, *Request){"status": func(context.Context, *Request) {}})
	published := make(chan error, 1)
	go func() { published <- c.Publish(o) }()
	p.add("pakon", 0x1001)
	if err := wait(t, "Publish", published); err != nil {
		t.Error(err)
	}
	p.invoke(1, 2, 0x1001, "status", nil)
	p.wantStatus(1, 2, 0x1001, StatusOK)
	removed := func(id uint32) {
		t.Helper()
		m, a := p.expect(MsgRemoveObject)
		if got, _ := a.Uint32(AttrObjID); got != id {
			t.Errorf("removes %x, want %x", got, id)
		}
		p.status(m.Seq, 0, StatusOK)
	}
	p.send(MsgInvoke, 3, 0, AppendNested(AppendUint32(nil, AttrObjID, 0x1000), AttrData, nil)) // without a name
	p.wantStatus(3, 0, 0x1000, StatusInvalidArgument)
	p.invoke(4, 0, 0x1000, "", nil) // an empty one is one
	p.wantStatus(4, 0, 0x1000, StatusOK)
	if e := wait(t, "event", got); e != "" {
		t.Errorf("heard %q", e)
	}
	stop()
	removed(0x1000)
	c.Unpublish(o)
	removed(0x1001)
	p.invoke(1, 2, 0x1001, "status", nil)
	p.wantStatus(1, 2, 0x1001, StatusNotFound)
}

// TestPublishedInstantlyCalled: a call may follow the id of a new object in the same read.
func TestPublishedInstantlyCalled(t *testing.T) {
	bus := newFakeBus(t)
	runClient(t, bus.path, func(c *Client) {
		c.Publish(object(map[string]func(context.Context, *Request){"status": func(context.Context, *Request) {}}))
	})
	p := bus.accept(1)
	m, _ := p.expect(MsgAddObject)
	id := AppendUint32(nil, AttrObjID, 0x1000)
	b := (&Message{Type: MsgData, Seq: m.Seq, Body: id}).Append(nil)
	call := &Message{Type: MsgInvoke, Seq: 1, Peer: 2, Body: AppendNested(AppendString(id, AttrMethod, "status"), AttrData, nil)}
	p.write(call.Append(b))
	p.wantStatus(1, 2, 0x1000, StatusOK)
	p.status(m.Seq, 0, StatusOK)
}

// TestCloseAnswers: whoever waits for an answer gets one when the client ends; a broker would let him wait.
func TestCloseAnswers(t *testing.T) {
	started := make(chan struct{}, maxServing)
	o := object(map[string]func(context.Context, *Request){
		"wait": func(ctx context.Context, r *Request) {
			started <- struct{}{}
			<-ctx.Done()
			r.Reply(Table{{"s", strings.Repeat("x", 1<<19)}})
			r.Done(StatusSystemError)
		},
	})
	c, p, _ := provide(t, o)
	const queued = 5
	for i := range maxServing + queued {
		p.invoke(uint16(i), 2, 0x1000, "wait", nil)
	}
	for range maxServing {
		wait(t, "handler", started)
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	got := map[Status]int{}
	for got[StatusSystemError]+got[StatusUnknownError] < maxServing+queued {
		m := p.read()
		if a := m.Attrs(); m.Type == MsgStatus {
			s, _ := a.Uint32(AttrStatus)
			got[Status(s)]++
		}
	}
	if got[StatusSystemError] != maxServing || got[StatusUnknownError] != queued {
		t.Errorf("answers %v", got)
	}
	if err := wait(t, "Close", closed); err != nil {
		t.Error(err)
	}
	p.gone()
}
