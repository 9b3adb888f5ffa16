package ubus

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pakon/tests/limits"
)

// patience bounds every wait of a test; it is only ever used up by one that fails.
var patience = limits.For(20 * time.Second)

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// fakeBus is the broker's end of the socket, played by the test.
type fakeBus struct {
	t    testing.TB
	path string
	l    net.Listener
}

func newFakeBus(t testing.TB) *fakeBus {
	b := &fakeBus{t: t, path: filepath.Join(t.TempDir(), "bus.sock")}
	b.listen()
	t.Cleanup(func() { b.l.Close() })
	return b
}

func (b *fakeBus) listen() {
	b.t.Helper()
	l, err := net.Listen("unix", b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	b.l = l
}

// fakePeer is the broker's end of one connection.
type fakePeer struct {
	t    testing.TB
	conn net.Conn
	in   *Reader
}

// accept waits for the client to connect and greets it, unless hello is 0.
func (b *fakeBus) accept(hello uint32) *fakePeer {
	b.t.Helper()
	b.l.(*net.UnixListener).SetDeadline(time.Now().Add(patience))
	conn, err := b.l.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	p := &fakePeer{b.t, conn, NewReader(bufio.NewReader(conn), MaxForwarded)}
	if hello != 0 {
		p.send(MsgHello, 0, hello, nil)
	}
	return p
}

func (p *fakePeer) write(frame []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(frame); err != nil {
		p.t.Fatal("broker writes:", err)
	}
}

func (p *fakePeer) send(typ MessageType, seq uint16, peer uint32, body []byte) {
	p.t.Helper()
	p.write((&Message{Type: typ, Seq: seq, Peer: peer, Body: body}).Append(nil))
}

func (p *fakePeer) status(seq uint16, peer uint32, s Status) {
	p.t.Helper()
	p.send(MsgStatus, seq, peer, AppendUint32(nil, AttrStatus, uint32(s)))
}

func (p *fakePeer) read() *Message {
	p.t.Helper()
	var m Message
	if err := p.in.Read(&m); err != nil {
		p.t.Fatal("broker reads:", err)
	}
	return &m
}

// expect reads a frame that must be of that type.
func (p *fakePeer) expect(typ MessageType) (*Message, Attrs) {
	p.t.Helper()
	m := p.read()
	if m.Type != typ {
		p.t.Fatalf("client sent type %d (%x), want %d", m.Type, m.Body, typ)
	}
	return m, m.Attrs()
}

// gone reports that the client closed, after whatever it still sent.
func (p *fakePeer) gone() {
	p.t.Helper()
	if _, err := io.Copy(io.Discard, p.conn); err != nil {
		p.t.Error("waiting for the client to close:", err)
	}
}

// add answers the client's ADD_OBJECT, which must be for that path ("" for an anonymous one).
func (p *fakePeer) add(path string, id uint32) {
	p.t.Helper()
	m, a := p.expect(MsgAddObject)
	if got, _ := a.String(AttrObjPath); got != path {
		p.t.Fatalf("client adds %q, want %q", got, path)
	}
	p.send(MsgData, m.Seq, 0, AppendUint32(nil, AttrObjID, id))
	p.status(m.Seq, 0, StatusOK)
}

// register answers the registration of an object for events.
func (p *fakePeer) register(id uint32, pattern string) {
	p.t.Helper()
	m, a := p.expect(MsgInvoke)
	blob, _ := a.Nested(AttrData)
	data, _ := Decode(blob)
	obj, _ := data.Int("object")
	got, _ := data.String("pattern")
	if m.Peer != ObjectEvents || uint32(obj) != id || got != pattern {
		p.t.Fatalf("client registers %v at %d, want %d for %q", data, m.Peer, id, pattern)
	}
	p.status(m.Seq, m.Peer, StatusOK)
}

// lookup answers a LOOKUP with an object, or with StatusNotFound if id is 0.
func (p *fakePeer) lookup(path string, id uint32) {
	p.t.Helper()
	m, a := p.expect(MsgLookup)
	if got, _ := a.String(AttrObjPath); got != path {
		p.t.Fatalf("client looks %q up, want %q", got, path)
	}
	if id == 0 {
		p.status(m.Seq, 0, StatusNotFound)
		return
	}
	p.send(MsgData, m.Seq, 0, AppendNested(AppendUint32(AppendUint32(AppendString(nil, AttrObjPath, path),
		AttrObjID, id), AttrObjType, 1), AttrSignature, nil))
	p.status(m.Seq, 0, StatusOK)
}

// subscribed answers a SUBSCRIBE.
func (p *fakePeer) subscribed(id, target uint32) {
	p.t.Helper()
	m, a := p.expect(MsgSubscribe)
	gotID, _ := a.Uint32(AttrObjID)
	gotTarget, _ := a.Uint32(AttrTarget)
	if gotID != id || gotTarget != target {
		p.t.Fatalf("client subscribes %x to %x, want %x to %x", gotID, gotTarget, id, target)
	}
	p.status(m.Seq, 0, StatusOK)
}

// invoke calls a method of the client's object as a broker forwards it.
func (p *fakePeer) invoke(seq uint16, peer, id uint32, method string, args Table) {
	p.t.Helper()
	blob, err := args.Append(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	b := AppendString(AppendUint32(nil, AttrObjID, id), AttrMethod, method)
	b = AppendString(AppendString(b, AttrUser, "root"), AttrGroup, "wheel")
	p.send(MsgInvoke, seq, peer, AppendNested(b, AttrData, blob))
}

// wantStatus reads the end of a call.
func (p *fakePeer) wantStatus(seq uint16, peer, id uint32, want Status) {
	p.t.Helper()
	m, a := p.expect(MsgStatus)
	s, ok := a.Uint32(AttrStatus)
	obj, _ := a.Uint32(AttrObjID)
	if !ok || m.Seq != seq || m.Peer != peer || obj != id || Status(s) != want {
		p.t.Fatalf("status %d of object %x for call %d of %x; want %d of %x for call %d of %x",
			s, obj, m.Seq, m.Peer, want, id, seq, peer)
	}
}

// logBuffer collects a client's log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// runClient runs a client of that bus, sets it up, and ends it with the test, after which no goroutine may be left.
func runClient(t testing.TB, path string, setup func(*Client)) (*Client, *logBuffer) {
	t.Helper()
	noLeaks(t)
	logs := new(logBuffer)
	c := New(path, slog.New(slog.NewTextHandler(logs, nil)))
	if setup != nil {
		setup(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error("Run:", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
		if t.Failed() {
			t.Log(logs.b.String())
		}
	})
	return c, logs
}

// noLeaks checks at the end of the test that no goroutine of this package is left.
func noLeaks(t testing.TB) {
	t.Cleanup(func() {
		var stacks string
		for range 1000 {
			buf := make([]byte, 1<<20)
			stacks = string(buf[:runtime.Stack(buf, true)])
			left := 0
			for g := range strings.SplitSeq(stacks, "\n\n") {
				if strings.Contains(g, "created by pakon/ubus.(") || strings.Contains(g, "ubus.(*session)") {
					left++
				}
			}
			if left == 0 {
				return
			}
			runtime.Gosched()
			time.Sleep(time.Millisecond) // only while a goroutine is on its way out
		}
		t.Errorf("goroutines left:\n%s", stacks)
	})
}

func wait[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("timeout waiting for " + what)
		panic("unreachable")
	}
}
