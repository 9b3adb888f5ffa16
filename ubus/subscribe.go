package ubus

import "context"

// subscription is a wish to hear an object's notifications.
type subscription struct {
	path string
	box  mailbox
	told bool
}

// Subscribe has f called with each notification of the object at that path, one after the other, from now or when the
// object appears, and again whenever it reappears, until stop is called (a call of f may still be under way then). If f
// falls far behind, notifications are dropped and the log says so.
func (c *Client) Subscribe(path string, f func(typ string, data Table)) (stop func()) {
	sub := &subscription{path: path, box: mailbox{c: c, what: path, f: f}}
	c.want(func() { c.subs = append(c.subs, sub) })
	return func() {
		sub.box.close()
		c.want(func() { c.subs = without(c.subs, sub) })
	}
}

// subscribe subscribes on this connection, if that is not done; StatusNotFound if the object is not there.
func (s *session) subscribe(ctx context.Context, sub *subscription) error {
	id, err := s.anonymous(ctx, sub)
	if err != nil {
		return err
	}
	s.mu.Lock()
	subscribed := s.targets[sub]
	s.mu.Unlock()
	if subscribed {
		return nil
	}
	target, err := s.find(ctx, sub.path)
	if err != nil {
		return err
	}
	return s.do(ctx, request{
		typ: MsgSubscribe,
		body: func(b []byte) []byte {
			return AppendUint32(AppendUint32(b, AttrObjID, id), AttrTarget, target)
		},
		// Noted while reading: that the target is gone may be the next frame.
		early: func(typ MessageType, a *Attrs) {
			if status, ok := a.Uint32(AttrStatus); ok && typ == MsgStatus && Status(status) == StatusOK {
				s.setSubscribed(sub, true)
			}
		},
	})
}

func (s *session) setSubscribed(sub *subscription, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.targets[sub] = true
	} else {
		delete(s.targets, sub)
	}
}

func (sub *subscription) invoked(s *session, m *Message, a *Attrs) {
	sub.box.take(s, m, a)
}

// notified: the target is gone.
func (sub *subscription) notified(s *session, m *Message, _ *Attrs) {
	if m.Type == MsgUnsubscribe {
		s.setSubscribed(sub, false)
		s.wake()
	}
}

// take posts what a call brings and answers it.
func (b *mailbox) take(s *session, m *Message, a *Attrs) {
	name, ok := a.String(AttrMethod)
	if !ok {
		s.answer(m, a, StatusInvalidArgument)
		return
	}
	blob, _ := a.Nested(AttrData)
	b.post(name, blob)
	s.answer(m, a, StatusOK)
}
