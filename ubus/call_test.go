package ubus

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

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
	r = wait(t, "call", got)
	if n, _ := r.t.Int("n"); n != 1 || !errors.Is(r.err, Status(1234)) {
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
