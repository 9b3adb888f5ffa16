package broker

import (
	"bytes"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"pakon/ubus"
)

// FuzzHandle feeds a client's stream to the broker, with another client there to be called, subscribed to and listened
// to, and checks that what the broker holds fits together whatever came.
func FuzzHandle(f *testing.F) {
	for _, name := range []string{"c_provider", "e_subscribe", "f_events", "h_errors", "r_raw"} {
		lines, err := readRecording(name)
		if err != nil {
			f.Fatal(err)
		}
		streams := map[int][]byte{}
		for _, r := range lines {
			if r.fromClient() {
				streams[r.Conn] = append(streams[r.Conn], r.frame...)
			}
		}
		for _, s := range streams {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		b := &Broker{log: slog.New(slog.DiscardHandler), bus: newBus()}
		var takers sync.WaitGroup
		join := func() *client {
			c := &client{conn: new(net.UnixConn), user: "root", group: "root", out: newQueue()}
			takers.Go(func() {
				for {
					if _, ok := c.out.first(); !ok {
						return
					}
					c.out.written()
				}
			})
			b.join(c)
			return c
		}
		other := join()
		b.handle(other, &ubus.Message{Type: ubus.MsgAddObject, Body: ubus.AppendString(nil, ubus.AttrObjPath, "other")})
		c := join()
		r := ubus.NewReader(bytes.NewReader(stream), ubus.MaxMessage)
		for {
			var m ubus.Message
			if r.Read(&m) != nil {
				break
			}
			b.handle(c, &m)
			check(t, b)
		}
		for _, c := range []*client{c, other} {
			c.out.close()
			b.leave(c)
			check(t, b)
			if c.patterns != 0 || c.subscriptions != 0 || c.held != 0 {
				t.Errorf("a client that has gone still holds %d patterns, %d subscriptions, %d bytes", c.patterns, c.subscriptions, c.held)
			}
		}
		takers.Wait()
		if len(b.objects)+len(b.types)+len(b.paths)+len(b.patterns)+len(b.watchers) != 0 {
			t.Error("clients that have gone left something")
		}
	})
}

func check(t *testing.T, b *Broker) {
	t.Helper()
	if !slices.IsSortedFunc(b.paths, func(x, y *object) int { return strings.Compare(x.path, y.path) }) {
		t.Error("paths are not sorted")
	}
	if !slices.IsSortedFunc(b.patterns, func(x, y listening) int { return strings.Compare(x.pattern, y.pattern) }) {
		t.Error("patterns are not sorted")
	}
	uses, objects, subscribers, targets := map[*objectType]int{}, 0, 0, 0
	for _, c := range b.clients {
		objects += len(c.objects)
		if c.held < 0 || c.patterns < 0 || c.subscriptions < 0 {
			t.Errorf("a client holds %d patterns, %d subscriptions, %d bytes", c.patterns, c.subscriptions, c.held)
		}
	}
	for id, o := range b.objects {
		if o.id != id || b.clients[o.owner.id] != o.owner {
			t.Errorf("object %08x: id %08x, owner %08x", id, o.id, o.owner.id)
		}
		if o.typ != nil {
			uses[o.typ]++
		}
		subscribers += len(o.subscribers)
		targets += len(o.targets)
	}
	if objects != len(b.objects) || subscribers != targets {
		t.Errorf("%d objects of clients, %d objects; %d subscribers, %d targets", objects, len(b.objects), subscribers, targets)
	}
	for _, typ := range b.types {
		if typ.uses != uses[typ] || typ.uses == 0 {
			t.Errorf("a type is used %d times, counted %d", uses[typ], typ.uses)
		}
	}
}
