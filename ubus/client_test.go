package ubus

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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

// TestSilentBus: a bus that takes connections and does not serve them is told of
// in one short line.
func TestSilentBus(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ubus.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err = Dial(t.Context(), path); !errors.Is(err, ErrSilent) || !strings.HasSuffix(err.Error(), ": it does not answer within 5s") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Dial(ctx, path); errors.Is(err, ErrSilent) {
		t.Errorf("a wait that was given up: %v", err)
	}
}
