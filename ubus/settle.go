package ubus

import (
	"context"
	"errors"
	"time"
)

// A client says what it wants to be on the bus: objects, listeners, subscriptions. settle brings each connection to
// that state and keeps it there: when the wants change, and when the bus tells that a path that is waited for has come
// or gone.

// watch is the listener by which a session learns that. It is registered only once something is missing.
type watch struct {
	on     bool
	denied bool
}

const watchPattern = "ubus.object.*"

// deniedRetry is how often is looked again for what is missing where the bus does not allow to listen for it.
const deniedRetry = time.Second

// wake has settle look again.
func (s *session) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *session) settle() {
	for {
		s.setup.Lock()
		missing := s.settleOnce()
		if missing && !s.watch.on && !s.watch.denied {
			s.startWatch()
			missing = s.settleOnce() // what came before the watch began
		}
		s.setup.Unlock()
		var again <-chan time.Time
		if missing && s.watch.denied {
			again = time.After(deniedRetry)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.kick:
		case <-again:
		}
	}
}

// settleOnce does what can be done now and says whether something is missing.
func (s *session) settleOnce() (missing bool) {
	s.c.mu.Lock()
	objects := append([]*Object(nil), s.c.objects...)
	listeners := append([]*listener(nil), s.c.listeners...)
	subs := append([]*subscription(nil), s.c.subs...)
	s.c.mu.Unlock()

	s.dropUnwanted(objects, listeners, subs)
	for _, o := range objects {
		if err := s.publish(s.ctx, o); err != nil {
			missing = true
			s.tell(&o.told, "cannot publish an object, waiting until its path is free", o.Path, err)
		} else {
			o.told = false
		}
	}
	if !missing && s.ctx.Err() == nil {
		s.settled.Store(true)
		s.c.readyOnce.Do(func() { close(s.c.ready) })
	}
	for _, l := range listeners {
		s.tell(&l.told, "cannot listen", l.pattern, s.register(s.ctx, l, l.pattern))
	}
	for _, sub := range subs {
		err := s.subscribe(s.ctx, sub)
		missing = missing || err != nil
		if !errors.Is(err, StatusNotFound) {
			s.tell(&sub.told, "cannot subscribe", sub.path, err)
		}
	}
	return missing
}

// tell logs a failure, once until there is none any more; told is kept under s.setup.
func (s *session) tell(told *bool, msg, path string, err error) {
	if err != nil && !*told && s.ctx.Err() == nil {
		s.c.log.Warn(msg, "path", path, "error", err)
	}
	*told = err != nil
}

// dropUnwanted takes away the objects of what is not wanted any more.
func (s *session) dropUnwanted(objects []*Object, listeners []*listener, subs []*subscription) {
	wanted := map[receiver]bool{&s.watch: true}
	for _, o := range objects {
		wanted[o] = true
	}
	for _, l := range listeners {
		wanted[l] = true
	}
	for _, sub := range subs {
		wanted[sub] = true
	}
	unwanted := map[receiver]uint32{}
	s.mu.Lock()
	for r, id := range s.ids {
		if !wanted[r] {
			unwanted[r] = id
		}
	}
	s.mu.Unlock()
	for r, id := range unwanted {
		// Whatever the broker says: the object is not ours any more.
		_ = s.removeObject(s.ctx, r, id)
		if sub, ok := r.(*subscription); ok {
			s.setSubscribed(sub, false)
		}
	}
}

// objectID is the id of the receiver's object on this connection.
func (s *session) objectID(r receiver) (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.ids[r]
	return id, ok
}

// anonymous sees that the receiver has an object, without path and methods.
func (s *session) anonymous(ctx context.Context, r receiver) (uint32, error) {
	if id, ok := s.objectID(r); ok {
		return id, nil
	}
	if err := s.addObject(ctx, r, nil, func(uint32) {}); err != nil {
		return 0, err
	}
	id, ok := s.objectID(r)
	if !ok {
		return 0, StatusNoData
	}
	return id, nil
}

func (s *session) startWatch() {
	err := s.register(s.ctx, &s.watch, watchPattern)
	s.watch.on = err == nil
	s.watch.denied = err != nil
	if err != nil && s.ctx.Err() == nil {
		s.c.log.Warn("cannot listen for objects that appear, looking every second", "error", err)
	}
}

// invoked looks whether what appeared or went is of interest.
func (w *watch) invoked(s *session, m *Message, a *Attrs) {
	blob, _ := a.Nested(AttrData)
	data, _ := Decode(blob)
	path, _ := data.String("path")
	if path != "" && s.c.waitsFor(path) {
		s.wake()
	}
	s.answer(m, a, StatusOK)
}

func (w *watch) notified(*session, *Message, *Attrs) {}

// waitsFor says whether anything of the client has to do with an object of that path.
func (c *Client) waitsFor(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.objects {
		if o.Path == path {
			return true
		}
	}
	for _, sub := range c.subs {
		if sub.path == path {
			return true
		}
	}
	return false
}
