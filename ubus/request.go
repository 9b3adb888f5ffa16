package ubus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// Request is a call of a published method.
type Request struct {
	Args        Table
	User, Group string // of the caller's connection to the broker, as it knows them
	Method      string

	s      *session
	seq    uint16
	peer   uint32
	object uint32
	silent bool      // the caller wants no answer
	over   time.Time // when the caller's patience ends; zero: never

	mu     sync.Mutex
	done   bool
	failed bool // the last reply was over the limit
}

// errAnswered: a reply after the status.
var errAnswered = errors.New("ubus: request answered already")

// serve hands a call to a goroutine once it is its turn, or refuses it.
func (s *session) serve(method *Method, m *Message, a *Attrs) {
	args, ok := a.Nested(AttrData)
	if !ok {
		s.answer(m, a, StatusInvalidArgument)
		return
	}
	r := &Request{Method: method.Name, s: s, seq: m.Seq, peer: m.Peer}
	r.User, _ = a.String(AttrUser)
	r.Group, _ = a.String(AttrGroup)
	r.object, _ = a.Uint32(AttrObjID)
	silent, _ := a.Uint8(AttrNoReply)
	r.silent = silent != 0
	lane := cmp.Or(method.Lane, common)
	if lane.Patience > 0 {
		r.over = time.Now().Add(lane.Patience)
	}
	s.c.work.submit(lane, r.caller(args), len(m.Body), func() { r.run(method, args) }, r.Done)
}

// sessionArg is the argument by which the web server, one peer of the bus for all who are logged in, says for whom it
// calls. It lets none of them give it.
const sessionArg = "ubus_rpc_session"

// caller names who calls. Of a user, all processes are one. Those of root, who may do everything, are one by one.
func (r *Request) caller(args []byte) string {
	if r.User != "" && r.User != "root" {
		return "user " + r.User
	}
	if session := lastString(args, sessionArg); session != "" {
		return "session " + session
	}
	return "peer " + strconv.FormatUint(uint64(r.peer), 10)
}

// run calls the handler and sees that the call ends with a status.
func (r *Request) run(method *Method, args []byte) {
	if r.s.serving.Err() != nil { // nobody waits for it any more, or there is no time left
		r.Done(StatusUnknownError)
		return
	}
	var err error
	if r.Args, err = Decode(args); err != nil {
		r.Done(StatusInvalidArgument)
		return
	}
	ctx, cancel := r.context()
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) { // the handler may be waiting for something else
			r.Done(StatusTimeout)
		}
	})()
	defer func() {
		if p := recover(); p != nil {
			r.s.c.log.Error("a method panicked", "method", r.Method, "panic", p, "stack", string(debug.Stack()))
			r.Done(StatusUnknownError)
			return
		}
		r.mu.Lock()
		failed := r.failed
		r.mu.Unlock()
		if failed {
			r.Done(StatusUnknownError)
			return
		}
		r.Done(StatusOK)
	}()
	method.Handler(ctx, r)
}

// context is that of the handler.
func (r *Request) context() (context.Context, context.CancelFunc) {
	if r.over.IsZero() {
		return context.WithCancel(r.s.serving)
	}
	return context.WithDeadline(r.s.serving, r.over)
}

// Reply sends a table to the caller; there may be any number of replies before Done. ErrTooLong if it is over the limit
// of the bus (see MaxReply): nothing is sent, and if the handler then returns without Done and without another reply
// the caller gets StatusUnknownError. Any other error means that the caller cannot be reached any more.
func (r *Request) Reply(t Table) error {
	blob, err := t.Append(nil)
	if err != nil {
		r.fail()
		return fmt.Errorf("reply to %s: %w", r.Method, err)
	}
	return r.reply(blob)
}

// ReplyBlob is Reply with what a Builder holds, which may be reset afterwards.
func (r *Request) ReplyBlob(b *Builder) error {
	if err := b.Err(); err != nil {
		r.fail()
		return fmt.Errorf("reply to %s: %w", r.Method, err)
	}
	return r.reply(b.Bytes())
}

func (r *Request) fail() {
	r.mu.Lock()
	r.failed = true
	r.mu.Unlock()
}

func (r *Request) reply(blob []byte) error {
	if len(blob) > MaxReply {
		r.fail()
		return fmt.Errorf("reply to %s of %d bytes: %w", r.Method, len(blob), ErrTooLong)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return fmt.Errorf("reply to %s: %w", r.Method, errAnswered)
	}
	r.failed = false
	if r.silent {
		return nil
	}
	frame := BeginFrame(r.s.buffer(len(blob)+32), MsgData, r.seq, r.peer)
	frame = AppendUint32(frame, AttrObjID, r.object)
	frame = AppendNested(frame, AttrData, blob)
	if err := EndFrame(frame); err != nil {
		return fmt.Errorf("reply to %s: %w", r.Method, err)
	}
	if err := r.s.send(context.Background(), frame); err != nil {
		return fmt.Errorf("reply to %s: %w", r.Method, err)
	}
	return nil
}

// Done ends the call with a status. Only the first time counts. A handler that returns without it ends the call with
// StatusOK.
func (r *Request) Done(status Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return
	}
	r.done = true
	if !r.silent {
		// An error means that the connection is gone, and the caller with it.
		_ = r.s.send(context.Background(), statusFrame(r.seq, r.peer, r.object, status))
	}
}
