package ubus

import (
	"context"
	"fmt"
	"sync"
)

// unreadBytes is what a call's replies may amount to before its caller has taken them.
const unreadBytes = 8 << 20

// errUnread ends a call whose provider sends faster than the caller takes.
var errUnread = fmt.Errorf("%w: over %d MiB of replies not yet taken", StatusNoMemory, unreadBytes>>20)

// call is a request that waits for its STATUS.
type call struct {
	peer  uint32
	first bool // only the first DATA is wanted
	// early is called in the goroutine that reads, before the next frame is looked at.
	early func(typ MessageType, a *Attrs)

	wake chan struct{}

	mu      sync.Mutex
	replies []Attrs
	bytes   int
	got     bool
	done    bool
	status  Status
	err     error
}

// request is what to ask of the broker or, through it, of an object.
type request struct {
	typ  MessageType
	peer uint32
	body func(b []byte) []byte // appends the attributes
	// data is called with each DATA, in the goroutine of the caller.
	data  func(a *Attrs) error
	first bool
	early func(typ MessageType, a *Attrs)
}

// do sends the request and waits for its STATUS, which is the error if not StatusOK. What comes after ctx's end is
// ignored.
func (s *session) do(ctx context.Context, r request) error {
	if err := ctx.Err(); err != nil {
		return s.ended(err)
	}
	k := &call{peer: r.peer, first: r.first, early: r.early, wake: make(chan struct{}, 1)}
	seq, err := s.enter(k)
	if err != nil {
		return err
	}
	defer s.leave(seq, k)
	frame := BeginFrame(nil, r.typ, seq, r.peer)
	if r.body != nil {
		frame = r.body(frame)
	}
	if err := EndFrame(frame); err != nil {
		return fmt.Errorf("%w: %w", StatusInvalidArgument, err)
	}
	if err := s.send(ctx, frame); err != nil {
		return err
	}
	for over := false; ; {
		replies, done, err := k.take()
		for i := range replies {
			if r.data == nil {
				continue
			}
			if err := r.data(&replies[i]); err != nil {
				return err
			}
		}
		switch {
		case done:
			return err
		case over:
			return errSessionOver
		case len(replies) > 0:
			continue
		}
		select {
		case <-k.wake:
		case <-ctx.Done():
			return s.ended(ctx.Err())
		case <-s.ctx.Done():
			over = true // the answer may have come with the end
		}
	}
}

// enter gives the call a sequence number that no other has.
func (s *session) enter(k *call) (uint16, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) >= 1<<16-1 {
		return 0, errBusy
	}
	for {
		seq := uint16(s.c.seq.Add(1))
		if _, taken := s.calls[seq]; !taken {
			s.calls[seq] = k
			return seq, nil
		}
	}
}

func (s *session) leave(seq uint16, k *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[seq] == k {
		delete(s.calls, seq)
	}
}

// answered takes a STATUS or DATA. What belongs to no call, by number and peer, comes too late and is dropped.
func (s *session) answered(m *Message, a *Attrs) {
	s.mu.Lock()
	k := s.calls[m.Seq]
	s.mu.Unlock()
	if k == nil || k.peer != m.Peer {
		return
	}
	if k.early != nil {
		k.early(m.Type, a)
	}
	k.put(m, a)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *call) put(m *Message, a *Attrs) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return
	}
	if m.Type == MsgStatus {
		status, ok := a.Uint32(AttrStatus)
		if !ok {
			return
		}
		k.done, k.status = true, Status(status)
		return
	}
	if k.first && k.got {
		return
	}
	k.got = true
	k.bytes += len(m.Body) + frameCost
	if k.bytes > unreadBytes {
		k.done, k.err, k.replies = true, errUnread, nil
		return
	}
	k.replies = append(k.replies, *a)
}

// take returns the replies since the last time and, when done, the outcome.
func (k *call) take() (replies []Attrs, done bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	replies, k.replies, k.bytes = k.replies, nil, 0
	if k.done {
		err = k.err
		if err == nil {
			err = k.status.Err()
		}
	}
	return replies, k.done, err
}

// Call calls a method of the object at that path and returns the table of its first reply, nil if there is none; there
// may be one beside an error, which then says more about it. The error wraps a Status: the provider's, StatusNotFound if there is no such object, StatusTimeout if ctx's time is up,
// StatusConnectionFailed if there is no bus or it goes, StatusInvalidArgument for arguments over the limit of the bus.
func (c *Client) Call(ctx context.Context, path, method string, args Table) (Table, error) {
	var first Table
	err := c.call(ctx, path, method, args, true, func(t Table) error {
		first = t
		return nil
	})
	return first, err
}

// CallAll is Call for methods that reply more than once: f gets each table as it comes. An error of f ends the call.
func (c *Client) CallAll(ctx context.Context, path, method string, args Table, f func(Table) error) error {
	return c.call(ctx, path, method, args, false, f)
}

func (c *Client) call(ctx context.Context, path, method string, args Table, first bool, f func(Table) error) error {
	s := c.current()
	if s == nil {
		return fmt.Errorf("call %s %s: %w", path, method, errSessionOver)
	}
	blob, err := args.Append(nil)
	if err != nil {
		return fmt.Errorf("call %s %s: %w: %w", path, method, StatusInvalidArgument, err)
	}
	id, err := s.find(ctx, path)
	if err == nil {
		err = s.invoke(ctx, id, method, blob, first, f)
	}
	if err != nil {
		return fmt.Errorf("call %s %s: %w", path, method, err)
	}
	return nil
}

// invoke calls a method of the object of that id.
func (s *session) invoke(ctx context.Context, id uint32, method string, args []byte, first bool, f func(Table) error) error {
	return s.do(ctx, request{
		typ: MsgInvoke, peer: id, first: first,
		body: func(b []byte) []byte {
			b = AppendUint32(b, AttrObjID, id)
			b = AppendString(b, AttrMethod, method)
			return AppendNested(b, AttrData, args)
		},
		data: func(a *Attrs) error {
			blob, ok := a.Nested(AttrData)
			if !ok {
				return nil
			}
			t, err := Decode(blob)
			if err != nil {
				return fmt.Errorf("%w: reply: %w", StatusParseError, err)
			}
			if f == nil {
				return nil
			}
			return f(t)
		},
	})
}
