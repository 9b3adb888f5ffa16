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
	for i := range common.AtOnce + common.Waiting + extra {
		p.invoke(uint16(i), 1, 0x1000, "slow", nil)
	}
	for i := range extra { // refused at once, without waiting for the others
		p.wantStatus(uint16(common.AtOnce+common.Waiting+i), 1, 0x1000, StatusNoMemory)
	}
	for range common.AtOnce {
		wait(t, "handler", started)
	}
	if len(started) != 0 {
		t.Error("more handlers run than may")
	}
	close(release)
	for range common.AtOnce + common.Waiting {
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
	for i := range common.AtOnce {
		p.invoke(uint16(i), 1, 0x1000, "slow", nil)
	}
	for i := range 5 {
		p.invoke(uint16(100+i), 1, 0x1000, "slow", big)
	}
	p.wantStatus(104, 1, 0x1000, StatusNoMemory)
	close(release)
	for range common.AtOnce + 4 {
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
	started := make(chan struct{}, common.AtOnce)
	o := object(map[string]func(context.Context, *Request){
		"wait": func(ctx context.Context, r *Request) {
			started <- struct{}{}
			<-ctx.Done()
			r.Reply(Table{{"s", strings.Repeat("x", 1<<16)}}) // all do not fit into the socket
			r.Done(StatusSystemError)
		},
	})
	c, p, _ := provide(t, o)
	const queued = 5
	for i := range common.AtOnce + queued {
		p.invoke(uint16(i), 2, 0x1000, "wait", nil)
	}
	for range common.AtOnce {
		wait(t, "handler", started)
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	got := map[Status]int{}
	for got[StatusSystemError]+got[StatusUnknownError] < common.AtOnce+queued {
		m := p.read()
		if a := m.Attrs(); m.Type == MsgStatus {
			s, _ := a.Uint32(AttrStatus)
			got[Status(s)]++
		}
	}
	if got[StatusSystemError] != common.AtOnce || got[StatusUnknownError] != queued {
		t.Errorf("answers %v", got)
	}
	if err := wait(t, "Close", closed); err != nil {
		t.Error(err)
	}
	p.gone()
}
