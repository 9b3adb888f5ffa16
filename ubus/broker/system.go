package broker

import (
	"encoding/binary"
	"slices"
	"strings"

	"pakon/ubus"
)

func isSystem(id uint32) bool {
	return id == ubus.ObjectEvents || id == ubus.ObjectACL || id == ubus.ObjectMonitor
}

// invokeSystem carries out a call of one of the broker's own objects.
func (b *Broker) invokeSystem(c *client, m *ubus.Message, a *ubus.Attrs, id uint32, method string) ubus.Status {
	switch id {
	case ubus.ObjectEvents:
		return b.invokeEvents(c, a, method)
	case ubus.ObjectACL:
		if method != "query" {
			return ubus.StatusInvalidCommand
		}
		return b.queryACL(c, m)
	default:
		return b.invokeMonitor(c, method)
	}
}

// queryACL says that no access lists are in force.
func (b *Broker) queryACL(c *client, m *ubus.Message) ubus.Status {
	var lists ubus.Builder
	lists.Int("seq", 0)
	lists.Array("acl")
	lists.Close()
	body := ubus.AppendUint32(nil, ubus.AttrObjID, ubus.ObjectACL)
	b.data(c, m, ubus.AppendNested(body, ubus.AttrData, lists.Bytes()))
	return ubus.StatusOK
}

func (b *Broker) invokeEvents(c *client, a *ubus.Attrs, method string) ubus.Status {
	if method != "register" && method != "send" {
		return ubus.StatusInvalidCommand
	}
	args, _ := a.Nested(ubus.AttrData)
	if method == "register" {
		return b.register(c, args)
	}
	id, hasID := argument(args, "id", ubus.TypeString)
	content, hasContent := argument(args, "data", ubus.TypeTable)
	if !hasID || !hasContent {
		return ubus.StatusInvalidArgument
	}
	name := text(id)
	if strings.HasPrefix(name, "ubus.") {
		return ubus.StatusPermissionDenied
	}
	b.event(c, name, content)
	return ubus.StatusOK
}

// register lets an object hear the events that match a pattern.
func (b *Broker) register(c *client, args []byte) ubus.Status {
	number, hasObject := argument(args, "object", ubus.TypeInt32)
	value, hasPattern := argument(args, "pattern", ubus.TypeString)
	if !hasObject || !hasPattern {
		return ubus.StatusInvalidArgument
	}
	id, pattern := binary.BigEndian.Uint32(number), text(value)
	if id < firstID {
		return ubus.StatusPermissionDenied
	}
	o := b.objects[id]
	if o == nil {
		return ubus.StatusNotFound
	}
	if o.owner != c || pattern == "" {
		return ubus.StatusPermissionDenied
	}
	l := listening{object: o}
	l.pattern, l.prefix = strings.CutSuffix(pattern, "*")
	if c.patterns >= maxPatterns || c.held+len(l.pattern) > maxHeld {
		return ubus.StatusNoMemory
	}
	at, _ := slices.BinarySearchFunc(b.patterns, l.pattern, func(l listening, p string) int {
		if l.pattern == p {
			return -1 // behind its equals
		}
		return strings.Compare(l.pattern, p)
	})
	b.patterns = slices.Insert(b.patterns, at, l)
	c.patterns++
	c.held += len(l.pattern)
	return ubus.StatusOK
}

// event sends an event to the objects that listen for it, once to each, and to none of the sender's; from is nil for the
// broker's own events.
func (b *Broker) event(from *client, name string, content []byte) {
	b.events++
	for i := range b.patterns {
		l := &b.patterns[i]
		if name != l.pattern && !(l.prefix && strings.HasPrefix(name, l.pattern)) {
			continue
		}
		o := l.object
		if o.owner == from || o.heard == b.events {
			continue
		}
		o.heard = b.events
		b.eventSeq++
		body := ubus.AppendUint32(nil, ubus.AttrObjID, o.id)
		body = ubus.AppendString(body, ubus.AttrMethod, name)
		body = ubus.AppendNested(body, ubus.AttrData, content)
		b.send(o.owner, ubus.Message{Type: ubus.MsgInvoke, Seq: b.eventSeq, Body: body})
	}
}

func (b *Broker) objectEvent(name string, o *object) {
	var content ubus.Builder
	content.Int("id", int64(int32(o.id)))
	content.String("path", o.path)
	b.event(nil, name, content.Bytes())
}

func (b *Broker) invokeMonitor(c *client, method string) ubus.Status {
	switch method {
	case "add":
		b.unmonitor(c)
		b.watchers = append(b.watchers, c)
	case "remove":
		b.unmonitor(c)
	default:
		return ubus.StatusMethodNotFound
	}
	return ubus.StatusOK
}

func (b *Broker) unmonitor(c *client) {
	b.watchers = slices.DeleteFunc(b.watchers, func(w *client) bool { return w == c })
	c.monitorSeq = 0
}

// watch shows those who monitor a message that was received from, or is sent to, c.
func (b *Broker) watch(c *client, m *ubus.Message, sent bool) {
	if len(b.watchers) == 0 {
		return
	}
	body := ubus.AppendUint32(nil, ubus.MonitorClient, c.id)
	body = ubus.AppendUint32(body, ubus.MonitorPeer, m.Peer)
	body = ubus.AppendUint32(body, ubus.MonitorSeq, uint32(m.Seq))
	body = ubus.AppendUint32(body, ubus.MonitorType, uint32(m.Type))
	direction := uint8(0)
	if sent {
		direction = 1
	}
	body = ubus.AppendUint8(body, ubus.MonitorSend, direction)
	body = ubus.AppendNested(body, ubus.MonitorData, m.Body)
	for _, w := range b.watchers {
		w.monitorSeq++
		b.enqueue(w, &ubus.Message{Type: ubus.MsgMonitor, Seq: w.monitorSeq, Body: body})
	}
}
