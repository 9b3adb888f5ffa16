package broker

import (
	"pakon/ubus"
)

// invoke passes a call on to the object's owner, who answers it: then answer is false. The system's own objects and
// errors are answered here.
func (b *Broker) invoke(c *client, m *ubus.Message, a *ubus.Attrs) (s ubus.Status, answer bool) {
	method, hasMethod := a.String(ubus.AttrMethod)
	id, hasID := a.Uint32(ubus.AttrObjID)
	if !hasMethod || !hasID {
		return ubus.StatusInvalidArgument, true
	}
	if isSystem(id) {
		return b.invokeSystem(c, m, a, id, method), true
	}
	o := b.objects[id]
	if o == nil {
		return ubus.StatusNotFound, true
	}
	b.forward(c, o, m.Seq, method, a, nil)
	return 0, false
}

// forward sends a call or a notification of c to the owner of o, with who c is. head goes before all else.
func (b *Broker) forward(c *client, o *object, seq uint16, method string, a *ubus.Attrs, head []byte) {
	body := ubus.AppendUint32(head, ubus.AttrObjID, o.id)
	body = ubus.AppendString(body, ubus.AttrMethod, method)
	body = ubus.AppendString(body, ubus.AttrUser, c.user)
	body = ubus.AppendString(body, ubus.AttrGroup, c.group)
	if data, ok := a.Nested(ubus.AttrData); ok {
		body = ubus.AppendNested(body, ubus.AttrData, data)
	}
	b.send(o.owner, ubus.Message{Type: ubus.MsgInvoke, Seq: seq, Peer: c.id, Body: body})
}

// response passes a provider's answer on to the caller. What does not come from the owner of the object, or is for
// nobody, is dropped without a word.
func (b *Broker) response(c *client, m *ubus.Message, a *ubus.Attrs) {
	id, ok := a.Uint32(ubus.AttrObjID)
	if !ok || m.Type == ubus.MsgStatus && !a.Has(ubus.AttrStatus) || m.Type == ubus.MsgData && !a.Has(ubus.AttrData) {
		return
	}
	o, caller := b.objects[id], b.clients[m.Peer]
	if o == nil || o.owner != c || caller == nil {
		return
	}
	passed := *m
	passed.Peer = id
	b.send(caller, passed)
}

// notify sends a notification of an object to its subscribers. If they are to answer, the owner first gets the list of
// them, which is the answer to its request.
func (b *Broker) notify(c *client, m *ubus.Message, a *ubus.Attrs) (s ubus.Status, answer bool) {
	method, hasMethod := a.String(ubus.AttrMethod)
	id, hasID := a.Uint32(ubus.AttrObjID)
	if !hasMethod || !hasID {
		return ubus.StatusInvalidArgument, true
	}
	o := b.objects[id]
	if o == nil && !isSystem(id) {
		return ubus.StatusNotFound, true
	}
	if o == nil || o.owner != c {
		return ubus.StatusPermissionDenied, true
	}
	flag, _ := untyped(m, ubus.AttrNoReply, 1)
	noReply := flag != 0
	if !noReply {
		var ids []byte
		for _, s := range o.subscribers {
			ids = ubus.AppendUint32(ids, 0, s.id)
		}
		body := ubus.AppendUint32(nil, ubus.AttrObjID, id)
		body = ubus.AppendNested(body, ubus.AttrSubscribers, ids)
		body = ubus.AppendUint32(body, ubus.AttrStatus, uint32(ubus.StatusOK))
		b.send(c, ubus.Message{Type: ubus.MsgStatus, Seq: m.Seq, Peer: m.Peer, Body: body})
	}
	for _, s := range o.subscribers {
		var head []byte
		if noReply {
			head = ubus.AppendUint8(nil, ubus.AttrNoReply, 1)
		}
		b.forward(c, s, m.Seq, method, a, head)
	}
	return 0, false
}
