package ubus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// Method is a method of a published object. Args is what is shown to callers; it is not enforced: the typed getters of
// Table do not see arguments of another type.
//
// Handler runs in a goroutine of its own, of which the method's lane has a bounded number. Its context ends with the
// lane's patience, when the caller is told so (StatusTimeout); with the connection, when nobody can be answered any
// more; and with the client: then a second is left to answer in.
type Method struct {
	Name    string
	Args    []Arg
	Handler func(ctx context.Context, r *Request)
	Lane    *Lane // nil: one of 16 calls at once and no bound of patience
}

// Object is an object to publish. Path and Methods must not change once it is.
type Object struct {
	Path    string
	Methods []Method

	bound atomic.Pointer[binding]
	told  bool // that it cannot be published; see tell
}

// binding is an object's place on one connection.
type binding struct {
	s      *session
	id     uint32
	active atomic.Bool // it has subscribers
}

// Publish puts the object on the bus now, if the client is connected, and whenever it connects. If the broker refuses
// it now (StatusInvalidArgument: the path is taken, or publishing is not allowed), the error says so, and the object
// is still published as soon as its path is free.
func (c *Client) Publish(o *Object) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("publish %q: %w", o.Path, err)
	}
	c.mu.Lock()
	for _, other := range c.objects {
		if other.Path == o.Path {
			c.mu.Unlock()
			return fmt.Errorf("publish %q: published already", o.Path)
		}
	}
	c.objects = append(c.objects, o)
	s := c.session
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	s.setup.Lock()
	err := s.publish(s.ctx, o)
	s.setup.Unlock()
	s.wake()
	if errors.Is(err, errSessionOver) {
		return nil // the next connection has it
	}
	if err != nil {
		return fmt.Errorf("publish %q: %w", o.Path, err)
	}
	return nil
}

// Unpublish takes the object off the bus.
func (c *Client) Unpublish(o *Object) {
	c.want(func() {
		c.objects = without(c.objects, o)
		o.bound.Store(nil)
	})
}

func (o *Object) check() error {
	if o.Path == "" {
		return fmt.Errorf("%w: no path", StatusInvalidArgument)
	}
	seen := map[string]bool{}
	for _, m := range o.Methods {
		if m.Name == "" || m.Handler == nil || seen[m.Name] {
			return fmt.Errorf("%w: method %q has no name or handler or is there twice", StatusInvalidArgument, m.Name)
		}
		seen[m.Name] = true
	}
	sig, err := appendSignature(nil, o.Methods)
	if err != nil {
		return err
	}
	if len(sig)+len(o.Path) > MaxMessage-64 {
		return fmt.Errorf("%w: signature of %d bytes", ErrTooLong, len(sig))
	}
	return nil
}

// publish adds the object on this connection, if it is not there yet. s.setup is held.
func (s *session) publish(ctx context.Context, o *Object) error {
	if _, ok := s.objectID(o); ok {
		return nil
	}
	return s.addObject(ctx, o, func(b []byte) []byte {
		b = AppendString(b, AttrObjPath, o.Path)
		sig, _ := appendSignature(nil, o.Methods) // checked by Publish
		return AppendNested(b, AttrSignature, sig)
	}, func(id uint32) { o.bound.Store(&binding{s: s, id: id}) })
}

// addObject asks for an object of the receiver. Its id counts from when it is read, since calls may follow at once.
func (s *session) addObject(ctx context.Context, r receiver, body func([]byte) []byte, got func(id uint32)) error {
	return s.do(ctx, request{
		typ: MsgAddObject, body: body,
		early: func(typ MessageType, a *Attrs) {
			if id, ok := a.Uint32(AttrObjID); ok && typ == MsgData {
				s.mu.Lock()
				s.receivers[id], s.ids[r] = r, id
				s.mu.Unlock()
				got(id)
			}
		},
	})
}

// removeObject takes an object of ours away.
func (s *session) removeObject(ctx context.Context, r receiver, id uint32) error {
	s.mu.Lock()
	delete(s.receivers, id)
	delete(s.ids, r)
	s.mu.Unlock()
	return s.do(ctx, request{typ: MsgRemoveObject, body: func(b []byte) []byte { return AppendUint32(b, AttrObjID, id) }})
}

// Notify tells the subscribers of the object. Without any, or without a connection, nothing is sent. It never waits:
// if the bus does not take what was sent before, the notification is lost and the error says so.
func (o *Object) Notify(typ string, data Table) error {
	b := o.bound.Load()
	if !b.hasSubscribers() {
		return nil
	}
	blob, err := data.Append(nil)
	if err != nil {
		return fmt.Errorf("notify %s of %s: %w", o.Path, typ, err)
	}
	frame := BeginFrame(nil, MsgNotify, uint16(b.s.c.seq.Add(1)), b.id)
	frame = AppendUint32(frame, AttrObjID, b.id)
	frame = AppendString(frame, AttrMethod, typ)
	frame = AppendNested(frame, AttrData, blob)
	frame = AppendUint8(frame, AttrNoReply, 1)
	if err := EndFrame(frame); err != nil {
		return fmt.Errorf("notify %s of %s: %w", o.Path, typ, err)
	}
	if err := b.s.trySend(frame); err != nil && !errors.Is(err, errSessionOver) {
		return fmt.Errorf("notify %s of %s: %w", o.Path, typ, err)
	}
	return nil
}

// HasSubscribers says whether anybody hears what Notify sends.
func (o *Object) HasSubscribers() bool { return o.bound.Load().hasSubscribers() }

func (b *binding) hasSubscribers() bool {
	return b != nil && b.active.Load() && b.s.ctx.Err() == nil
}

func (o *Object) notified(s *session, m *Message, a *Attrs) {
	active, ok := a.Uint8(AttrActive)
	if b := o.bound.Load(); ok && m.Type == MsgNotify && b != nil && b.s == s {
		b.active.Store(active != 0)
	}
}

func (o *Object) invoked(s *session, m *Message, a *Attrs) {
	name, ok := a.String(AttrMethod)
	if !ok {
		s.answer(m, a, StatusInvalidArgument)
		return
	}
	for i := range o.Methods {
		if o.Methods[i].Name == name {
			s.serve(&o.Methods[i], m, a)
			return
		}
	}
	s.answer(m, a, StatusMethodNotFound)
}

// without returns list without v.
func without[T comparable](list []T, v T) []T {
	kept := make([]T, 0, len(list))
	for _, x := range list {
		if x != v {
			kept = append(kept, x)
		}
	}
	return kept
}
