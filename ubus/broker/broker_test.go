package broker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pakon/ubus"
)

// peer is a client of the tests: it writes frames and reads frames, nothing else.
type peer struct {
	t    testing.TB
	conn *net.UnixConn
	r    *ubus.Reader
	id   uint32
	seq  uint16
}

func dial(t testing.TB, path string) *peer {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	p := &peer{t: t, conn: conn, r: ubus.NewReader(bufio.NewReader(conn), ubus.MaxForwarded)}
	p.id = p.read(ubus.MsgHello).Peer
	return p
}

func (p *peer) read(want ubus.MessageType) ubus.Message {
	p.t.Helper()
	var m ubus.Message
	if err := p.r.Read(&m); err != nil {
		p.t.Fatalf("reading a message of type %d: %v", want, err)
	}
	if m.Type != want {
		p.t.Fatalf("message of type %d, want %d: %x", m.Type, want, m.Body)
	}
	return m
}

func (p *peer) write(m ubus.Message) {
	p.t.Helper()
	if _, err := p.conn.Write(m.Append(nil)); err != nil {
		p.t.Fatal(err)
	}
}

// ask sends a request and returns its status and the last DATA before it.
func (p *peer) ask(typ ubus.MessageType, to uint32, body []byte) (ubus.Status, ubus.Attrs) {
	p.t.Helper()
	p.seq++
	p.write(ubus.Message{Type: typ, Seq: p.seq, Peer: to, Body: body})
	var data ubus.Attrs
	for {
		var m ubus.Message
		if err := p.r.Read(&m); err != nil {
			p.t.Fatal(err)
		}
		if m.Seq != p.seq || m.Peer != to {
			continue
		}
		a := m.Attrs()
		if m.Type == ubus.MsgData {
			data = a
		}
		if m.Type == ubus.MsgStatus {
			s, ok := a.Uint32(ubus.AttrStatus)
			if !ok {
				p.t.Fatalf("STATUS without a status: %x", m.Body)
			}
			return ubus.Status(s), data
		}
	}
}

func (p *peer) must(want ubus.Status, what string, got ubus.Status) {
	p.t.Helper()
	if got != want {
		p.t.Fatalf("%s: status %d, want %d", what, got, want)
	}
}

// add adds an object with a method; an empty path: a nameless one.
func (p *peer) add(path string) uint32 {
	p.t.Helper()
	var body []byte
	if path != "" {
		var signature ubus.Builder
		signature.Table("method")
		signature.Close()
		body = ubus.AppendString(nil, ubus.AttrObjPath, path)
		body = ubus.AppendNested(body, ubus.AttrSignature, signature.Bytes())
	}
	s, a := p.ask(ubus.MsgAddObject, 0, body)
	p.must(ubus.StatusOK, "adding "+path, s)
	id, ok := a.Uint32(ubus.AttrObjID)
	if !ok {
		p.t.Fatalf("adding %q: no id", path)
	}
	return id
}

func (p *peer) register(object uint32, pattern string) ubus.Status {
	p.t.Helper()
	var args ubus.Builder
	args.Int("object", int64(int32(object)))
	args.String("pattern", pattern)
	return p.invoke(ubus.ObjectEvents, "register", args.Bytes())
}

func (p *peer) invoke(object uint32, method string, args []byte) ubus.Status {
	p.t.Helper()
	body := ubus.AppendUint32(nil, ubus.AttrObjID, object)
	body = ubus.AppendString(body, ubus.AttrMethod, method)
	s, _ := p.ask(ubus.MsgInvoke, object, ubus.AppendNested(body, ubus.AttrData, args))
	return s
}

func (p *peer) subscribe(own, target uint32) ubus.Status {
	p.t.Helper()
	body := ubus.AppendUint32(nil, ubus.AttrObjID, own)
	s, _ := p.ask(ubus.MsgSubscribe, 0, ubus.AppendUint32(body, ubus.AttrTarget, target))
	return s
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "bus.sock")
	stop := startBroker(t, path, nil)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, want 600", st.Mode().Perm())
	}
	if _, err := Listen(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("second broker at the same socket: %v", err)
	}
	dial(t, path).add("there")
	stop()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}

	// A socket that was left behind.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	stop = startBroker(t, path, nil)
	dial(t, path).add("there")
	stop()

	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file was taken for an old socket")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file was touched: %q %v", b, err)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	b, err := Listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := b.Run(context.Background()); err != nil {
		t.Errorf("Run after Close: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	userName, groupName, err := peerCredentials(s)
	if err != nil {
		t.Fatal(err)
	}
	wantUser, wantGroup := fmt.Sprint(os.Getuid()), fmt.Sprint(os.Getgid())
	if u, err := user.LookupId(wantUser); err == nil {
		wantUser = u.Username
	}
	if g, err := user.LookupGroupId(wantGroup); err == nil {
		wantGroup = g.Name
	}
	if userName != wantUser || groupName != wantGroup {
		t.Errorf("got %s:%s, want %s:%s", userName, groupName, wantUser, wantGroup)
	}
}

// Two callers with the same sequence number, two calls of one of them in flight, answered in reverse.
func TestManyCallers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	provider := dial(t, path)
	id := provider.add("thing")
	body := ubus.AppendString(ubus.AppendUint32(nil, ubus.AttrObjID, id), ubus.AttrMethod, "method")
	call := func(p *peer, seq uint16) { p.write(ubus.Message{Type: ubus.MsgInvoke, Seq: seq, Peer: id, Body: body}) }

	a, b := dial(t, path), dial(t, path)
	call(a, 7)
	first := provider.read(ubus.MsgInvoke)
	call(b, 7)
	second := provider.read(ubus.MsgInvoke)
	call(a, 8)
	third := provider.read(ubus.MsgInvoke)
	if first.Peer != a.id || second.Peer != b.id || third.Peer != a.id || first.Seq != 7 || second.Seq != 7 || third.Seq != 8 {
		t.Fatalf("calls come as %+v %+v %+v", first, second, third)
	}
	for n, m := range []ubus.Message{third, second, first} {
		status := ubus.AppendUint32(nil, ubus.AttrStatus, uint32(n))
		provider.write(ubus.Message{Type: ubus.MsgStatus, Seq: m.Seq, Peer: m.Peer, Body: ubus.AppendUint32(status, ubus.AttrObjID, id)})
	}
	for _, want := range []struct {
		p      *peer
		seq    uint16
		status uint32
	}{{a, 8, 0}, {a, 7, 2}, {b, 7, 1}} {
		m := want.p.read(ubus.MsgStatus)
		attrs := m.Attrs()
		if s, _ := attrs.Uint32(ubus.AttrStatus); m.Seq != want.seq || m.Peer != id || s != want.status {
			t.Errorf("answer %+v, want seq %d status %d", m, want.seq, want.status)
		}
	}
}

func TestTypesAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	p := dial(t, path)
	var signature ubus.Builder
	signature.Table("method")
	signature.Close()
	s, a := p.ask(ubus.MsgAddObject, 0, ubus.AppendNested(ubus.AppendString(nil, ubus.AttrObjPath, "one"), ubus.AttrSignature, signature.Bytes()))
	p.must(ubus.StatusOK, "adding one", s)
	one, _ := a.Uint32(ubus.AttrObjID)
	typ, ok := a.Uint32(ubus.AttrObjType)
	if !ok {
		t.Fatal("no type")
	}
	s, a = p.ask(ubus.MsgAddObject, 0, ubus.AppendUint32(ubus.AppendString(nil, ubus.AttrObjPath, "two"), ubus.AttrObjType, typ))
	p.must(ubus.StatusOK, "adding two", s)
	two, _ := a.Uint32(ubus.AttrObjID)
	if a.Has(ubus.AttrObjType) {
		t.Error("the type is named again")
	}
	for _, id := range []uint32{one, two} {
		s, a = p.ask(ubus.MsgRemoveObject, 0, ubus.AppendUint32(nil, ubus.AttrObjID, id))
		p.must(ubus.StatusOK, "removing", s)
		if got, _ := a.Uint32(ubus.AttrObjType); (got == typ) != (id == two) {
			t.Errorf("removing object %08x of %08x, %08x takes type %08x", id, one, two, got)
		}
	}
	s, _ = p.ask(ubus.MsgAddObject, 0, ubus.AppendUint32(ubus.AppendString(nil, ubus.AttrObjPath, "three"), ubus.AttrObjType, typ))
	p.must(ubus.StatusOK, "adding with a type that is gone", s)
	s, a = p.ask(ubus.MsgLookup, 0, ubus.AppendString(nil, ubus.AttrObjPath, "three"))
	p.must(ubus.StatusOK, "looking it up", s)
	if a.Has(ubus.AttrObjID) {
		t.Error("an object without a type is shown")
	}
}

func TestWhatOneClientMayHold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	other := dial(t, path).add("other")

	t.Run("objects", func(t *testing.T) {
		p := dial(t, path)
		for range maxObjects {
			p.add("")
		}
		s, _ := p.ask(ubus.MsgAddObject, 0, nil)
		p.must(ubus.StatusNoMemory, "one more object", s)
	})
	t.Run("subscriptions and patterns", func(t *testing.T) {
		p := dial(t, path)
		own := p.add("")
		for range maxSubscriptions {
			p.must(ubus.StatusOK, "subscribing", p.subscribe(own, other))
		}
		p.must(ubus.StatusNoMemory, "one more subscription", p.subscribe(own, other))
		for range maxPatterns {
			p.must(ubus.StatusOK, "registering", p.register(own, "x*"))
		}
		p.must(ubus.StatusNoMemory, "one more pattern", p.register(own, "x*"))
		s, _ := p.ask(ubus.MsgRemoveObject, 0, ubus.AppendUint32(nil, ubus.AttrObjID, own))
		p.must(ubus.StatusOK, "removing the object", s)
		own = p.add("")
		p.must(ubus.StatusOK, "subscribing after it was removed", p.subscribe(own, other))
		p.must(ubus.StatusOK, "registering after it was removed", p.register(own, "x*"))
	})
	t.Run("bytes", func(t *testing.T) {
		p := dial(t, path)
		long := strings.Repeat("x", 3<<18)
		var ids []uint32
		for n := range maxHeld / len(long) {
			ids = append(ids, p.add(fmt.Sprint(n, long)))
		}
		own := p.add("")
		p.must(ubus.StatusNoMemory, "a long pattern", p.register(own, long))
		s, _ := p.ask(ubus.MsgAddObject, 0, ubus.AppendString(nil, ubus.AttrObjPath, long))
		p.must(ubus.StatusNoMemory, "a long path", s)
		s, _ = p.ask(ubus.MsgRemoveObject, 0, ubus.AppendUint32(nil, ubus.AttrObjID, ids[0]))
		p.must(ubus.StatusOK, "removing one", s)
		p.add(long)
	})
}

func TestTooManyClients(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	first := dial(t, path)
	for range maxClients - 1 {
		dial(t, path)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 100)); !errors.Is(err, io.EOF) {
		t.Errorf("one client too many: read %d bytes, %v", n, err)
	}
	first.add("still served")
}

// A client that does not read costs no more memory than its queue, loses what does not fit, gets the rest whole and in
// order, and holds up nobody.
func TestDeafClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	var log bytes.Buffer
	b, err := Listen(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()

	const pings = 3000
	body := bytes.Repeat([]byte("0123456789abcdef"), 256)
	deaf := dial(t, path)
	for n := range pings {
		deaf.write(ubus.Message{Type: ubus.MsgPing, Seq: uint16(n), Body: body})
	}
	other := dial(t, path)
	s, _ := other.ask(ubus.MsgPing, 0, nil)
	other.must(ubus.StatusOK, "another client", s)

	// The broker has taken all of them once the deaf client's call arrives at somebody else.
	target := other.add("target")
	deaf.write(ubus.Message{Type: ubus.MsgAddObject, Seq: pings})
	deaf.write(ubus.Message{Type: ubus.MsgInvoke, Seq: pings + 1, Peer: target,
		Body: ubus.AppendString(ubus.AppendUint32(nil, ubus.AttrObjID, target), ubus.AttrMethod, "method")})
	other.read(ubus.MsgInvoke)

	b.mu.Lock()
	q := b.clients[deaf.id].out
	b.mu.Unlock()
	q.mu.Lock()
	if q.bytes > maxQueued {
		t.Errorf("%d bytes are queued", q.bytes)
	}
	if q.dropped == 0 {
		t.Error("nothing was dropped")
	}
	want := 2*pings + 2 - q.dropped // and the answer to ADD_OBJECT: DATA and STATUS
	q.mu.Unlock()

	last := -1
	for n := range want {
		var m ubus.Message
		if err := deaf.r.Read(&m); err != nil {
			t.Fatalf("message %d of %d: %v", n, want, err)
		}
		if int(m.Seq) < last {
			t.Fatalf("answer to %d after that to %d", m.Seq, last)
		}
		last = int(m.Seq)
		if m.Type == ubus.MsgData && m.Seq < pings && !bytes.Equal(m.Body, body) {
			t.Fatalf("a pong is broken: %x", m.Body)
		}
	}
	deaf.add("hears again")

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "does not read"); n != 1 {
		t.Errorf("%d lines about the deaf client, want 1:\n%s", n, log.String())
	}
}

// A list that is longer than a client's queue arrives whole, however late the client reads it.
func TestLongLookup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	const objects = 60
	name := strings.Repeat("n", 50<<10)
	provider := dial(t, path)
	for n := range objects {
		provider.add(fmt.Sprintf("%03d%s", objects-n, name))
	}
	p := dial(t, path)
	p.write(ubus.Message{Type: ubus.MsgLookup, Seq: 1})
	// The provider is served meanwhile: the list waits for p alone.
	provider.add("zzz")
	last := ""
	for n := range objects + 1 {
		m := p.read(ubus.MsgData)
		a := m.Attrs()
		got, _ := a.String(ubus.AttrObjPath)
		if got <= last {
			t.Fatalf("object %d out of order", n)
		}
		last = got
	}
	p.read(ubus.MsgStatus)
}

// A broker that ends ends its clients, those in the middle of a list and those that do not read included.
func TestStopWithBusyClients(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	stop := startBroker(t, path, nil)
	provider := dial(t, path)
	for n := range 20 {
		provider.add(fmt.Sprint(n, strings.Repeat("n", 100<<10)))
	}
	lister := dial(t, path)
	lister.write(ubus.Message{Type: ubus.MsgLookup, Seq: 1})
	lister.read(ubus.MsgData)
	stop()
	if _, err := io.Copy(io.Discard, provider.conn); err != nil && !ended(err) {
		t.Error(err)
	}
}

// A descriptor that comes along is dropped and nothing else happens.
func TestDescriptor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	startBroker(t, path, nil)
	p := dial(t, path)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ping := (&ubus.Message{Type: ubus.MsgPing, Seq: 9}).Append(nil)
	if _, _, err := p.conn.WriteMsgUnix(ping, syscall.UnixRights(int(w.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p.read(ubus.MsgData)
	p.read(ubus.MsgStatus)
	r.SetReadDeadline(time.Now().Add(patience))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the broker holds the descriptor: %v", err)
	}
}

// TestChaos lets clients come, do things to each other and go at any moment, in the middle of a frame too, and then
// looks whether anything of them is left.
func TestChaos(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.sock")
	b, err := Listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()

	stable := dial(t, path)
	stableID := stable.add("stable")
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 60 {
				chaoticClient(t, path, r, stableID)
			}
		})
	}
	all.Wait()
	s, _ := stable.ask(ubus.MsgPing, 0, nil)
	stable.must(ubus.StatusOK, "the client that stayed", s)
	stable.conn.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(b.clients)+len(b.objects)+len(b.types)+len(b.paths)+len(b.patterns)+len(b.watchers) != 0 {
		t.Errorf("left: %d clients, %d objects, %d types, %d paths, %d patterns, %d watchers", len(b.clients),
			len(b.objects), len(b.types), len(b.paths), len(b.patterns), len(b.watchers))
	}
}

func chaoticClient(t *testing.T, path string, r *rand.Rand, target uint32) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := ubus.NewReader(bufio.NewReader(conn), ubus.MaxForwarded)
	var own uint32
	for seq := range uint16(r.IntN(12)) {
		frame := chaoticMessage(r, seq, own, target)
		if r.IntN(15) == 0 {
			conn.Write(frame[:r.IntN(len(frame))])
			return
		}
		if _, err := conn.Write(frame); err != nil {
			t.Errorf("writing: %v", err)
			return
		}
		var m ubus.Message
		if typ := ubus.MessageType(frame[1]); typ != ubus.MsgPing && typ != ubus.MsgAddObject && typ != ubus.MsgLookup {
			continue // answered by somebody else, or not at all
		}
		if err := in.Read(&m); err != nil {
			t.Errorf("reading: %v", err)
			return
		}
		a := m.Attrs()
		if id, ok := a.Uint32(ubus.AttrObjID); ok {
			own = id
		}
	}
}

func chaoticMessage(r *rand.Rand, seq uint16, own, target uint32) []byte {
	m := ubus.Message{Seq: seq, Type: ubus.MessageType(r.IntN(13))}
	switch r.IntN(4) {
	case 0:
		m.Type = ubus.MsgAddObject
	case 1:
		m.Type = ubus.MsgSubscribe
	}
	m.Body = ubus.AppendUint32(nil, ubus.AttrObjID, own)
	m.Body = ubus.AppendUint32(m.Body, ubus.AttrTarget, target)
	switch m.Type {
	case ubus.MsgAddObject:
		m.Body = ubus.AppendNested(nil, ubus.AttrSignature, nil)
		if r.IntN(2) == 0 {
			m.Body = ubus.AppendString(m.Body, ubus.AttrObjPath, fmt.Sprint("chaos", r.IntN(20)))
		}
	case ubus.MsgInvoke:
		m.Peer = []uint32{target, own, ubus.ObjectEvents, ubus.ObjectMonitor}[r.IntN(4)]
		m.Body = ubus.AppendUint32(nil, ubus.AttrObjID, m.Peer)
		m.Body = ubus.AppendString(m.Body, ubus.AttrMethod, []string{"register", "send", "add"}[r.IntN(3)])
		var args ubus.Builder
		args.Int("object", int64(int32(own)))
		args.String("pattern", "cha*")
		args.String("id", "chaos")
		args.Table("data")
		args.Close()
		m.Body = ubus.AppendNested(m.Body, ubus.AttrData, args.Bytes())
	case ubus.MsgNotify:
		m.Body = ubus.AppendString(m.Body, ubus.AttrMethod, "changed")
	}
	return m.Append(nil)
}
