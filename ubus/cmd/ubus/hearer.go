package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"pakon/ubus"
)

// hearer is a connection of a command that hears events and notifications. A ubus.Client hears too, but goes on trying
// whatever the bus says, as a service wants it. A command has to say that it was refused, has to be heard of before it
// looks for what is there already, and prints what it hears in the order in which it came.
type hearer struct {
	conn   net.Conn
	in     *ubus.Reader
	seq    uint16
	object uint32 // nameless, hears everything
	heard  func(name string, data ubus.Table)
}

// hear connects and adds the object. When ctx ends, so does all that waits for the bus.
func hear(ctx context.Context, socket string, heard func(name string, data ubus.Table)) (*hearer, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, errConnect
	}
	h := &hearer{conn: conn, in: ubus.NewReader(bufio.NewReader(conn), ubus.MaxForwarded), heard: heard}
	h.endWith(ctx)
	var hello ubus.Message
	if err := h.in.Read(&hello); err != nil {
		conn.Close()
		return nil, errConnect
	}
	err = h.ask(ctx, ubus.MsgAddObject, 0, nil, func(a *ubus.Attrs) { h.object, _ = a.Uint32(ubus.AttrObjID) })
	if err != nil {
		conn.Close()
		return nil, err
	}
	return h, nil
}

func (h *hearer) close() { h.conn.Close() }

// endWith has reads fail once ctx has ended.
func (h *hearer) endWith(ctx context.Context) {
	context.AfterFunc(ctx, func() { h.conn.SetReadDeadline(time.Unix(1, 0)) })
}

// ask makes a request of the broker and returns its status as the error; data gets each DATA before it.
func (h *hearer) ask(ctx context.Context, typ ubus.MessageType, to uint32, body []byte, data func(*ubus.Attrs)) error {
	h.seq++
	if err := h.write(ubus.Message{Type: typ, Seq: h.seq, Peer: to, Body: body}); err != nil {
		return err
	}
	for {
		m, err := h.read(ctx)
		if err != nil {
			return err
		}
		if m.Seq != h.seq || m.Peer != to {
			continue
		}
		a := m.Attrs()
		switch m.Type {
		case ubus.MsgData:
			if data != nil {
				data(&a)
			}
		case ubus.MsgStatus:
			status, _ := a.Uint32(ubus.AttrStatus)
			return ubus.Status(status).Err()
		}
	}
}

// read returns the next message that is none of those that are heard.
func (h *hearer) read(ctx context.Context) (ubus.Message, error) {
	for {
		var m ubus.Message
		if err := h.in.Read(&m); err != nil {
			if ctx.Err() != nil {
				return m, ubus.StatusTimeout
			}
			return m, fmt.Errorf("connection to the bus lost: %w", err)
		}
		if m.Type != ubus.MsgInvoke {
			return m, nil
		}
		if err := h.invoked(&m); err != nil {
			return m, err
		}
	}
}

// invoked takes an event or a notification and answers it, if an answer is wanted.
func (h *hearer) invoked(m *ubus.Message) error {
	a := m.Attrs()
	name, ok := a.String(ubus.AttrMethod)
	status := ubus.StatusOK
	blob, _ := a.Nested(ubus.AttrData)
	data, err := ubus.Decode(blob)
	if ok && err == nil {
		h.heard(name, data)
	} else {
		status = ubus.StatusInvalidArgument
	}
	if silent, _ := a.Uint8(ubus.AttrNoReply); silent != 0 {
		return nil
	}
	body := ubus.AppendUint32(nil, ubus.AttrStatus, uint32(status))
	return h.write(ubus.Message{Type: ubus.MsgStatus, Seq: m.Seq, Peer: m.Peer, Body: ubus.AppendUint32(body, ubus.AttrObjID, h.object)})
}

func (h *hearer) write(m ubus.Message) error {
	if _, err := h.conn.Write(m.Append(nil)); err != nil {
		return fmt.Errorf("connection to the bus lost: %w", err)
	}
	return nil
}

// listen hears what comes until ctx ends.
func (h *hearer) listen(ctx context.Context) error {
	h.endWith(ctx)
	for {
		if _, err := h.read(ctx); errors.Is(err, ubus.StatusTimeout) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// register asks for the events that match the pattern.
func (h *hearer) register(ctx context.Context, pattern string) error {
	var args ubus.Builder
	args.Int("object", int64(int32(h.object)))
	args.String("pattern", pattern)
	body := ubus.AppendUint32(nil, ubus.AttrObjID, ubus.ObjectEvents)
	body = ubus.AppendString(body, ubus.AttrMethod, "register")
	return h.ask(ctx, ubus.MsgInvoke, ubus.ObjectEvents, ubus.AppendNested(body, ubus.AttrData, args.Bytes()), nil)
}

// subscribe asks for the notifications of the object at the path.
func (h *hearer) subscribe(ctx context.Context, path string) error {
	var target uint32
	err := h.ask(ctx, ubus.MsgLookup, 0, ubus.AppendString(nil, ubus.AttrObjPath, path), func(a *ubus.Attrs) {
		target, _ = a.Uint32(ubus.AttrObjID)
	})
	if err != nil {
		return err
	}
	body := ubus.AppendUint32(nil, ubus.AttrObjID, h.object)
	return h.ask(ctx, ubus.MsgSubscribe, 0, ubus.AppendUint32(body, ubus.AttrTarget, target), nil)
}

// paths calls f with the path of each object that is on the bus.
func (h *hearer) paths(ctx context.Context, f func(string)) error {
	return h.ask(ctx, ubus.MsgLookup, 0, nil, func(a *ubus.Attrs) {
		if path, ok := a.String(ubus.AttrObjPath); ok {
			f(path)
		}
	})
}
