package ubus

import (
	"context"
	"fmt"
)

// listener is a wish to hear events.
type listener struct {
	pattern string
	box     mailbox
	told    bool
}

// Listen has f called with each event whose id is pattern or, if that ends in '*', begins with what stands before it,
// one after the other, until stop is called (a call of f may still be under way then). If f falls far behind, events
// are dropped and the log says so. The client's own events do not come back to it. The broker itself sends
// "ubus.object.add" and "ubus.object.remove" with the object's id and path.
func (c *Client) Listen(pattern string, f func(event string, data Table)) (stop func()) {
	l := &listener{pattern: pattern, box: mailbox{c: c, what: "events " + pattern, f: f}}
	c.want(func() { c.listeners = append(c.listeners, l) })
	return func() {
		l.box.close()
		c.want(func() { c.listeners = without(c.listeners, l) })
	}
}

// register registers the receiver for events on this connection, unless it has an object already.
func (s *session) register(ctx context.Context, r receiver, pattern string) error {
	if _, ok := s.objectID(r); ok {
		return nil
	}
	id, err := s.anonymous(ctx, r)
	if err != nil {
		return err
	}
	var args Builder
	args.Int("object", int64(int32(id)))
	args.String("pattern", pattern)
	if err := s.invoke(ctx, ObjectEvents, "register", args.Bytes(), true, nil); err != nil {
		_ = s.removeObject(ctx, r, id) // so that the next time tries again
		return err
	}
	return nil
}

func (l *listener) invoked(s *session, m *Message, a *Attrs) { l.box.take(s, m, a) }
func (l *listener) notified(*session, *Message, *Attrs)      {}

// Send sends an event. Ids that begin with "ubus." are the broker's own (StatusPermissionDenied).
func (c *Client) Send(ctx context.Context, event string, data Table) error {
	s := c.current()
	if s == nil {
		return fmt.Errorf("send event %s: %w", event, errSessionOver)
	}
	var args Builder
	args.String("id", event)
	if err := args.Value("data", data); err != nil {
		return fmt.Errorf("send event %s: %w: %w", event, StatusInvalidArgument, err)
	}
	if err := s.invoke(ctx, ObjectEvents, "send", args.Bytes(), true, nil); err != nil {
		return fmt.Errorf("send event %s: %w", event, err)
	}
	return nil
}
