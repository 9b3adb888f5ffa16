package broker

import (
	"slices"
	"strings"

	"pakon/ubus"
)

// handle does what a message asks. Errors in it are answered with a status; nothing that a client sends in a whole
// frame ends its connection.
func (b *Broker) handle(c *client, m *ubus.Message) {
	if m.Type == ubus.MsgLookup {
		b.lookup(c, m)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watch(c, m, false)
	a := m.Attrs()
	switch m.Type {
	case ubus.MsgStatus, ubus.MsgData:
		b.response(c, m, &a)
	case ubus.MsgInvoke:
		if s, answer := b.invoke(c, m, &a); answer {
			b.status(c, m, s)
		}
	case ubus.MsgNotify:
		if s, answer := b.notify(c, m, &a); answer {
			b.status(c, m, s)
		}
	case ubus.MsgPing:
		pong := *m
		pong.Type = ubus.MsgData
		b.send(c, pong)
		b.status(c, m, ubus.StatusOK)
	case ubus.MsgAddObject:
		b.status(c, m, b.addObject(c, m, &a))
	case ubus.MsgRemoveObject:
		b.status(c, m, b.removeObject(c, m, &a))
	case ubus.MsgSubscribe:
		b.status(c, m, b.addSubscription(c, m, &a))
	case ubus.MsgUnsubscribe:
		b.status(c, m, b.removeSubscription(c, m, &a))
	default:
		b.status(c, m, ubus.StatusInvalidCommand)
	}
}

// status answers a request with the outcome, data with a table before it.
func (b *Broker) status(c *client, m *ubus.Message, s ubus.Status) {
	b.send(c, ubus.Message{Type: ubus.MsgStatus, Seq: m.Seq, Peer: m.Peer, Body: ubus.AppendUint32(nil, ubus.AttrStatus, uint32(s))})
}

func (b *Broker) data(c *client, m *ubus.Message, body []byte) {
	b.send(c, ubus.Message{Type: ubus.MsgData, Seq: m.Seq, Peer: m.Peer, Body: body})
}

// lookup answers with the objects that have the path, or the prefix before a final "*", or all. An object without a
// type exists but is not shown. It waits for the client to take one before it sends the next, so that a long list is
// never cut by the queue's bound; the lock is not held meanwhile.
func (b *Broker) lookup(c *client, m *ubus.Message) {
	b.mu.Lock()
	b.watch(c, m, false)
	b.mu.Unlock()
	a := m.Attrs()
	pattern, hasPath := a.String(ubus.AttrObjPath)
	if hasPath && pattern == "" {
		b.finishLookup(c, m, ubus.StatusInvalidArgument)
		return
	}
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	match := func(path string) bool { return path == pattern }
	from := pattern
	if isPrefix || !hasPath {
		match = func(path string) bool { return strings.HasPrefix(path, prefix) }
		from = prefix
	}
	s := ubus.StatusNotFound
	if !hasPath {
		s = ubus.StatusOK
	}
	for {
		if !c.out.waitEmpty() {
			return
		}
		next, found := b.lookupOne(c, m, from, match)
		if !found {
			break
		}
		s, from = ubus.StatusOK, next
	}
	b.finishLookup(c, m, s)
}

// lookupOne shows the client the first object whose path is not before from, if it matches, and returns the smallest
// path that may follow it.
func (b *Broker) lookupOne(c *client, m *ubus.Message, from string, match func(string) bool) (next string, found bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, _ := b.find(from)
	if i == len(b.paths) || !match(b.paths[i].path) {
		return "", false
	}
	if o := b.paths[i]; o.typ != nil {
		body := ubus.AppendString(nil, ubus.AttrObjPath, o.path)
		body = ubus.AppendUint32(body, ubus.AttrObjID, o.id)
		body = ubus.AppendUint32(body, ubus.AttrObjType, o.typ.id)
		b.data(c, m, ubus.AppendNested(body, ubus.AttrSignature, o.typ.signature))
	}
	return b.paths[i].path + "\x00", true
}

func (b *Broker) finishLookup(c *client, m *ubus.Message, s ubus.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status(c, m, s)
}

func (b *Broker) addObject(c *client, m *ubus.Message, a *ubus.Attrs) ubus.Status {
	path, public := a.String(ubus.AttrObjPath)
	at, taken := b.find(path)
	if public && taken {
		return ubus.StatusInvalidArgument
	}
	if len(c.objects) >= maxObjects {
		return ubus.StatusNoMemory
	}
	typ := b.typeOf(a)
	o := &object{id: newID(b.objects), owner: c, path: strings.Clone(path), public: public, typ: typ}
	if c.held+o.size() > maxHeld {
		return ubus.StatusNoMemory
	}
	c.held += o.size()
	c.objects = append(c.objects, o)
	b.objects[o.id] = o
	if typ != nil {
		b.types[typ.id] = typ
		typ.uses++
	}
	if public {
		b.paths = slices.Insert(b.paths, at, o)
		b.objectEvent("ubus.object.add", o)
	}
	body := ubus.AppendUint32(nil, ubus.AttrObjID, o.id)
	if a.Has(ubus.AttrSignature) && typ != nil {
		body = ubus.AppendUint32(body, ubus.AttrObjType, typ.id)
	}
	b.data(c, m, body)
	return ubus.StatusOK
}

// typeOf is the type that an object is added with: one that is known, by id, or a new one with a signature. An unknown
// id or a malformed signature is none.
func (b *bus) typeOf(a *ubus.Attrs) *objectType {
	if id, ok := a.Uint32(ubus.AttrObjType); ok {
		return b.types[id]
	}
	list, ok := a.Nested(ubus.AttrSignature)
	if !ok {
		return nil
	}
	methods, ok := signature(list)
	if !ok {
		return nil
	}
	return &objectType{id: newID(b.types), signature: methods}
}

func (b *Broker) removeObject(c *client, m *ubus.Message, a *ubus.Attrs) ubus.Status {
	id, ok := a.Uint32(ubus.AttrObjID)
	if !ok {
		return ubus.StatusInvalidArgument
	}
	o := b.objects[id]
	if o == nil && !isSystem(id) {
		return ubus.StatusNotFound
	}
	if o == nil || o.owner != c {
		return ubus.StatusPermissionDenied
	}
	body := ubus.AppendUint32(nil, ubus.AttrObjID, o.id)
	if o.typ != nil && o.typ.uses == 1 {
		body = ubus.AppendUint32(body, ubus.AttrObjType, o.typ.id)
	}
	b.data(c, m, body)
	b.remove(o)
	return ubus.StatusOK
}

// ownAndTarget returns the numbers of a subscription: the client's own object and the one that it hears.
func (b *bus) ownAndTarget(c *client, m *ubus.Message, a *ubus.Attrs) (own *object, target uint32, s ubus.Status) {
	id, hasID := a.Uint32(ubus.AttrObjID)
	target, hasTarget := untyped(m, ubus.AttrTarget, 4)
	if !hasID || !hasTarget {
		return nil, 0, ubus.StatusInvalidArgument
	}
	own = b.objects[id]
	if own == nil && !isSystem(id) {
		return nil, 0, ubus.StatusNotFound
	}
	if own == nil || own.owner != c {
		return nil, 0, ubus.StatusInvalidArgument
	}
	return own, target, ubus.StatusOK
}

func (b *Broker) addSubscription(c *client, m *ubus.Message, a *ubus.Attrs) ubus.Status {
	own, id, s := b.ownAndTarget(c, m, a)
	if s != ubus.StatusOK {
		return s
	}
	target := b.objects[id]
	switch {
	case target == nil:
		return ubus.StatusNotFound
	case target.owner == c:
		return ubus.StatusInvalidArgument
	case c.subscriptions >= maxSubscriptions:
		return ubus.StatusNoMemory
	}
	b.subscribe(own, target)
	return ubus.StatusOK
}

func (b *Broker) removeSubscription(c *client, m *ubus.Message, a *ubus.Attrs) ubus.Status {
	own, id, s := b.ownAndTarget(c, m, a)
	if s != ubus.StatusOK {
		return s
	}
	if target := b.objects[id]; target == nil || !b.unsubscribe(own, target) {
		return ubus.StatusNotFound
	}
	return ubus.StatusOK
}
