package ubus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
)

// TestReplay plays the broker's side of the recorded conversations, byte by byte, to our client, which is asked to do
// what the recorded program did: it must send what that, with libubus, sent.
func TestReplay(t *testing.T) {
	// How many conversations of each kind there are, so that none is passed over unseen.
	want := map[string]int{"call": 93, "lookup": 19, "send": 11, "listen": 9, "subscribe": 5, "provide": 19}
	got := map[string]int{}
	for _, name := range recordings(t) {
		if name == "r_raw" || name == "i_over" || name == "i_forward" {
			continue // hand-made bytes, and what our client does better: see the tests of their own
		}
		conns := map[int][]recorded{}
		most := 0
		for _, r := range recording(t, name) {
			conns[r.Conn] = append(conns[r.Conn], r)
			most = max(most, r.Conn)
		}
		for n := 1; n <= most; n++ {
			kind, play := classify(conns[n])
			if play == nil {
				continue
			}
			got[kind]++
			t.Run(fmt.Sprintf("%s/%d/%s", name, n, kind), func(t *testing.T) { play(t, conns[n]) })
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("conversations %v, want %v", got, want)
	}
}

type player func(t *testing.T, script []recorded)

// classify finds out what a recorded client was doing.
func classify(script []recorded) (string, player) {
	var sent []Message
	for _, r := range script {
		if r.fromClient() && len(r.frame) > 0 {
			var m Message
			if NewReader(bytes.NewReader(r.frame), MaxForwarded).Read(&m) != nil {
				return "", nil
			}
			sent = append(sent, m)
		}
	}
	types := func(want ...MessageType) bool {
		if len(sent) < len(want) {
			return false
		}
		for i, w := range want {
			if sent[i].Type != w {
				return false
			}
		}
		return true
	}
	named := func(i int, id AttrID) string {
		a := sent[i].Attrs()
		s, _ := a.String(id)
		return s
	}
	switch {
	case len(sent) == 2 && types(MsgLookup, MsgInvoke) && sent[0].Seq == 1:
		a := sent[1].Attrs()
		if a.Has(AttrNoReply) || !a.Has(AttrData) {
			return "", nil
		}
		return "call", playCall
	case len(sent) == 1 && types(MsgLookup):
		return "lookup", playLookup
	case len(sent) == 1 && types(MsgInvoke) && sent[0].Peer == ObjectEvents && named(0, AttrMethod) == "send":
		return "send", playSend
	case types(MsgAddObject, MsgInvoke) && len(sent[0].Body) == 0 && named(1, AttrMethod) == "register":
		for _, m := range sent[2:] {
			if m.Type != MsgStatus {
				return "", nil // several patterns on one object
			}
		}
		return "listen", playListen
	case types(MsgAddObject, MsgLookup, MsgSubscribe) && len(sent[0].Body) == 0:
		if a := sent[2].Attrs(); bytes.Equal(a.values[AttrTarget], make([]byte, 4)) {
			return "", nil // libubus goes on with no id where it found none
		}
		return "subscribe", playSubscribe
	case types(MsgAddObject) && len(sent[0].Body) > 0:
		for _, m := range sent {
			switch a := m.Attrs(); m.Type {
			case MsgAddObject:
				if !a.Has(AttrSignature) {
					return "", nil // a known type id: we always send the signature
				}
			case MsgStatus, MsgData:
			case MsgNotify:
				if !a.Has(AttrNoReply) {
					return "provide", playProvide // up to there
				}
			default:
				return "", nil
			}
		}
		return "provide", playProvide
	}
	return "", nil
}

// frameOf is the frame of a line; nil for those without.
func frameOf(t *testing.T, r recorded) *Message {
	t.Helper()
	if len(r.frame) == 0 {
		return nil
	}
	var m Message
	if err := NewReader(bytes.NewReader(r.frame), MaxForwarded).Read(&m); err != nil {
		t.Fatal(err)
	}
	return &m
}

// table is the DATA of a message.
func table(t *testing.T, a Attrs) Table {
	t.Helper()
	blob, _ := a.Nested(AttrData)
	tab, err := Decode(blob)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// compare reads the client's next frame, which must be the recorded one.
func (p *fakePeer) compare(r recorded) {
	p.t.Helper()
	got := make([]byte, len(r.frame))
	if n, err := io.ReadFull(p.conn, got); err != nil {
		p.t.Fatalf("t=%d: client sent %x, then %v; want %x", r.T, got[:n], err, r.frame)
	}
	if !bytes.Equal(got, r.frame) {
		p.t.Fatalf("t=%d: client sent\n%.600x, want\n%.600x", r.T, got, r.frame)
	}
}

// play plays the broker's side to whoever connects, up to the end of the recording.
func play(p *fakePeer, script []recorded) {
	p.t.Helper()
	for _, r := range script {
		switch {
		case len(r.frame) == 0:
		case r.fromClient():
			p.compare(r)
		default:
			p.write(r.frame)
		}
	}
}

// dialReplay runs f with a client while the script is played to it.
func dialReplay(t *testing.T, script []recorded, f func(ctx context.Context, c *Client)) {
	t.Helper()
	noLeaks(t)
	bus := newFakeBus(t)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := Dial(ctx, bus.path)
		if err != nil {
			t.Error(err)
			return
		}
		f(ctx, c)
		c.Close()
	}()
	p := bus.accept(0)
	play(p, script)
	if _, _, _, ended := outcome(t, script); !ended {
		// One of the two gave up: the caller, or the broker.
		if script[len(script)-1].fromClient() {
			cancel()
		} else {
			p.conn.Close()
			wait(t, "the client", done)
			return
		}
	}
	wait(t, "the client", done)
	p.gone()
}

// outcome is the recorded answer to the last request: its DATA and its status.
func outcome(t *testing.T, script []recorded) (data []Table, infos int, status Status, ended bool) {
	for _, r := range script {
		m := frameOf(t, r)
		if m == nil {
			continue
		}
		if r.fromClient() {
			data, infos, ended = nil, 0, false
			continue
		}
		a := m.Attrs()
		switch m.Type {
		case MsgData:
			infos++
			if a.Has(AttrData) {
				data = append(data, table(t, a))
			}
		case MsgStatus:
			s, _ := a.Uint32(AttrStatus)
			status, ended = Status(s), true
		}
	}
	return data, infos, status, ended
}

func playCall(t *testing.T, script []recorded) {
	var path, method string
	var args Table
	for _, r := range script {
		if m := frameOf(t, r); m != nil && r.fromClient() {
			a := m.Attrs()
			if m.Type == MsgLookup {
				path, _ = a.String(AttrObjPath)
			} else {
				method, _ = a.String(AttrMethod)
				args = table(t, a)
			}
		}
	}
	// libubus goes on with a made-up id where a lookup found nothing.
	hidden := false
	for i, r := range script {
		if m := frameOf(t, r); m != nil && r.fromClient() && m.Type == MsgInvoke {
			if _, found, _, _ := outcome(t, script[:i]); found == 0 {
				script, hidden = script[:i], true
			}
			break
		}
	}
	want, _, status, ended := outcome(t, script)
	if hidden {
		status = StatusNotFound
	}
	dialReplay(t, script, func(ctx context.Context, c *Client) {
		if !ended {
			_, err := c.Call(ctx, path, method, args)
			want := error(StatusConnectionFailed)
			if script[len(script)-1].fromClient() {
				want = context.Canceled
			}
			if !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
			return
		}
		var got []Table
		err := c.CallAll(ctx, path, method, args, func(t Table) error { got = append(got, t); return nil })
		if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
			t.Errorf("replies %v, want %v", got, want)
		}
		if !errors.Is(err, status.Err()) {
			t.Errorf("%v, want %v", err, status)
		}
	})
}

func playLookup(t *testing.T, script []recorded) {
	pattern := ""
	for _, r := range script {
		if m := frameOf(t, r); m != nil && r.fromClient() {
			a := m.Attrs()
			pattern, _ = a.String(AttrObjPath)
		}
	}
	_, want, status, _ := outcome(t, script)
	dialReplay(t, script, func(ctx context.Context, c *Client) {
		got, err := c.Lookup(ctx, pattern)
		if len(got) != want || !errors.Is(err, status.Err()) {
			t.Errorf("%v, %v; want %d and %v", got, err, want, status)
		}
		for _, o := range got {
			if o.Path == "" || o.ID == 0 || o.Type == 0 || o.Methods == nil {
				t.Errorf("%+v", o)
			}
		}
	})
}

func playSend(t *testing.T, script []recorded) {
	var args Table
	for _, r := range script {
		if m := frameOf(t, r); m != nil && r.fromClient() {
			args = table(t, m.Attrs())
		}
	}
	_, _, status, _ := outcome(t, script)
	dialReplay(t, script, func(ctx context.Context, c *Client) {
		id, _ := args.String("id")
		data, _ := args.Table("data")
		if err := c.Send(ctx, id, data); !errors.Is(err, status.Err()) {
			t.Errorf("%v, want %v", err, status)
		}
	})
}

// heard are the messages that the broker delivers to an anonymous object.
func heard(t *testing.T, script []recorded) (all []string) {
	for _, r := range script {
		m := frameOf(t, r)
		if m == nil || r.fromClient() || m.Type != MsgInvoke {
			continue
		}
		a := m.Attrs()
		name, _ := a.String(AttrMethod)
		all = append(all, name+" "+string(AppendJSON(nil, table(t, a), false)))
	}
	return all
}

func playListen(t *testing.T, script []recorded) {
	pattern := ""
	for _, r := range script {
		if m := frameOf(t, r); m != nil && r.fromClient() && m.Type == MsgInvoke {
			pattern, _ = table(t, m.Attrs()).String("pattern")
		}
	}
	want := heard(t, script)
	got := make(chan string, len(want)+1)
	noLeaks(t)
	bus := newFakeBus(t)
	c, _ := runClient(t, bus.path, func(c *Client) {
		c.Listen(pattern, func(event string, data Table) { got <- event + " " + string(AppendJSON(nil, data, false)) })
	})
	play(bus.accept(0), script)
	for _, w := range want {
		if g := wait(t, "event", got); g != w {
			t.Errorf("heard %s, want %s", g, w)
		}
	}
	c.Close()
	if len(got) != 0 {
		t.Errorf("heard %s besides", <-got)
	}
}

func playSubscribe(t *testing.T, script []recorded) {
	path := ""
	for i, r := range script {
		m := frameOf(t, r)
		if m == nil || !r.fromClient() {
			continue
		}
		if a := m.Attrs(); m.Type == MsgLookup && path == "" {
			path, _ = a.String(AttrObjPath)
		} else if m.Type == MsgStatus {
			// One of the recorded programs answers with an error, which ours never does.
			if s, _ := a.Uint32(AttrStatus); s != 0 {
				id, _ := a.Uint32(AttrObjID)
				script[i].frame = statusFrame(m.Seq, m.Peer, id, StatusOK)
			}
		} else if m.Type == MsgUnsubscribe {
			script = script[:i] // what ours does by removing its object
			break
		}
	}
	want := heard(t, script)
	got := make(chan string, len(want)+1)
	bus := newFakeBus(t)
	runClient(t, bus.path, func(c *Client) {
		c.Subscribe(path, func(typ string, data Table) { got <- typ + " " + string(AppendJSON(nil, data, false)) })
	})
	play(bus.accept(0), script)
	for _, w := range want {
		if g := wait(t, "notification", got); g != w {
			t.Errorf("heard %s, want %s", g, w)
		}
	}
}

// provider is our client in the place of a recorded provider: its methods answer as recorded, when the script says.
type provider struct {
	mu    sync.Mutex
	calls map[string]chan func(*Request)
}

func callKey(seq uint16, peer uint32) string { return fmt.Sprintf("%d/%x", seq, peer) }

func (p *provider) steps(key string) chan func(*Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls[key] == nil {
		p.calls[key] = make(chan func(*Request), 64)
	}
	return p.calls[key]
}

func (p *provider) handle(ctx context.Context, r *Request) {
	for steps := p.steps(callKey(r.seq, r.peer)); ; {
		select {
		case <-ctx.Done():
			return
		case step := <-steps:
			if step == nil {
				return
			}
			step(r)
		}
	}
}

func playProvide(t *testing.T, script []recorded) {
	p := &provider{calls: map[string]chan func(*Request){}}
	objects := map[string]*Object{}
	byID := map[uint32]*Object{}
	var order []*Object
	var path string
	for _, r := range script {
		m := frameOf(t, r)
		if m == nil {
			continue
		}
		a := m.Attrs()
		if r.fromClient() && m.Type == MsgAddObject {
			o := &Object{}
			o.Path, _ = a.String(AttrObjPath)
			path = o.Path
			sig, _ := a.Nested(AttrSignature)
			for _, mi := range parseSignature(sig) {
				o.Methods = append(o.Methods, Method{Name: mi.Name, Args: mi.Args, Handler: p.handle})
			}
			objects[o.Path] = o
			order = append(order, o)
		} else if id, ok := a.Uint32(AttrObjID); ok && m.Type == MsgData && !r.fromClient() {
			byID[id] = objects[path]
		}
	}
	bus := newFakeBus(t)
	runClient(t, bus.path, func(c *Client) {
		for _, r := range script {
			if m := frameOf(t, r); m != nil && r.fromClient() {
				c.seq.Store(uint32(m.Seq) - 1) // a recorded provider may have been connected before
				break
			}
		}
		for _, o := range order {
			if err := c.Publish(o); err != nil {
				t.Fatal(err)
			}
		}
	})
	peer := bus.accept(0)
	lastCall := ""
	for _, r := range script {
		m := frameOf(t, r)
		switch {
		case m == nil:
			continue
		case !r.fromClient():
			if m.Type == MsgInvoke {
				lastCall = callKey(m.Seq, m.Peer)
			}
			peer.write(r.frame)
			continue
		}
		a := m.Attrs()
		steps := p.steps(callKey(m.Seq, m.Peer))
		switch m.Type {
		case MsgData:
			data := table(t, a)
			steps <- func(r *Request) {
				if r.User != "root" || r.Group != "root" {
					t.Errorf("caller %q %q", r.User, r.Group)
				}
				if err := r.Reply(data); err != nil {
					t.Error(err)
				}
			}
		case MsgStatus:
			s, _ := a.Uint32(AttrStatus)
			steps <- func(r *Request) { r.Done(Status(s)) }
			steps <- nil
		case MsgNotify:
			if !a.Has(AttrNoReply) {
				return // asks the subscribers for answers, which ours never does
			}
			id, _ := a.Uint32(AttrObjID)
			name, _ := a.String(AttrMethod)
			data := table(t, a)
			// All recorded notifications are sent by a method.
			p.steps(lastCall) <- func(*Request) {
				if err := byID[id].Notify(name, data); err != nil {
					t.Error(err)
				}
			}
		}
		peer.compare(r)
	}
}
