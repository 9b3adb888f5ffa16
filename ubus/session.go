package ubus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// What a session may hold that is not yet written, in bytes; each frame counts frameCost more than its length.
const (
	queueBytes = 2 << 20
	frameCost  = 4 << 10
)

// spareSize is how large a frame is for its memory to be used again, in bytes.
const spareSize = 64 << 10

// session is one connection to a broker, from its HELLO to its end.
type session struct {
	c    *Client
	conn net.Conn
	in   *Reader
	id   uint32

	ctx context.Context // ends with the session; its cause says why
	end context.CancelCauseFunc

	// serving is the context of the handlers: it ends a little before the session if that is ended on purpose, so that
	// callers get an answer. No broker gives them one in our place.
	serving     context.Context
	stopServing context.CancelFunc
	finish      chan struct{} // closed when nothing more will be queued: write the rest and end

	out   chan []byte
	room  *semaphore.Weighted    // of out, in bytes
	spare atomic.Pointer[[]byte] // a large frame that was written, for the next reply

	// The state of what the client wants on this connection, see settle.go.
	kick    chan struct{} // something to settle
	settled atomic.Bool   // everything was there once
	setup   sync.Mutex    // held while requests settle it
	watch   watch

	mu        sync.Mutex
	calls     map[uint16]*call
	receivers map[uint32]receiver // by object id
	ids       map[receiver]uint32
	targets   map[*subscription]bool // those that are subscribed
}

// receiver is what owns an object of ours: a published one, a listener or a subscription. Its methods are called by
// the goroutine that reads the connection and must not wait for it.
type receiver interface {
	invoked(s *session, m *Message, a *Attrs)
	// notified is called with NOTIFY, by which the broker tells a publisher whether there are subscribers, and with
	// UNSUBSCRIBE, by which it tells a subscriber that its target is gone.
	notified(s *session, m *Message, a *Attrs)
}

func newSession(c *Client, conn net.Conn) *session {
	s := &session{
		c: c, conn: conn,
		in: NewReader(bufio.NewReaderSize(conn, 16<<10), MaxForwarded),
		// Enough that whoever has room in the queue never waits for a place in it.
		out:  make(chan []byte, queueBytes/frameCost),
		room: semaphore.NewWeighted(queueBytes),
		kick: make(chan struct{}, 1), calls: map[uint16]*call{},
		receivers: map[uint32]receiver{}, ids: map[receiver]uint32{}, targets: map[*subscription]bool{},
	}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	s.serving, s.stopServing = context.WithCancel(s.ctx)
	s.finish = make(chan struct{})
	return s
}

// grace is how long calls under way have to be answered, and then how long the answers have to be written, when the
// client ends.
const grace = time.Second

// run serves the connection until it is lost or ctx ends, and says why it ended.
func (s *session) run(ctx context.Context) error {
	defer context.AfterFunc(s.ctx, func() { s.conn.Close() })()
	var wg sync.WaitGroup
	wg.Go(s.write)
	wg.Go(s.settle)
	wg.Go(func() { s.retire(ctx) })
	s.end(s.read())
	s.conn.Close()
	wg.Wait()
	return context.Cause(s.ctx)
}

// retire ends the session in good order once ctx ends.
func (s *session) retire(ctx context.Context) {
	select {
	case <-s.ctx.Done():
		return
	case <-ctx.Done():
	}
	s.stopServing()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-s.c.work.idle():
	case <-timer.C:
	case <-s.ctx.Done():
	}
	s.conn.SetWriteDeadline(time.Now().Add(grace))
	close(s.finish)
}

func (s *session) read() error {
	for {
		var m Message
		if err := s.in.Read(&m); err != nil {
			return err
		}
		if m.Version != 0 {
			continue // libubus does not know such frames either
		}
		a := m.Attrs()
		switch m.Type {
		case MsgStatus, MsgData:
			s.answered(&m, &a)
		case MsgInvoke:
			s.invoked(&m, &a)
		case MsgNotify, MsgUnsubscribe:
			if r := s.receiver(&a); r != nil {
				r.notified(s, &m, &a)
			}
		}
	}
}

func (s *session) receiver(a *Attrs) receiver {
	id, ok := a.Uint32(AttrObjID)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.receivers[id]
}

func (s *session) invoked(m *Message, a *Attrs) {
	if r := s.receiver(a); r != nil {
		r.invoked(s, m, a)
		return
	}
	s.answer(m, a, StatusNotFound)
}

// answer ends a call that came with a status, unless it wants none.
func (s *session) answer(m *Message, a *Attrs, status Status) {
	if v, _ := a.Uint8(AttrNoReply); v != 0 {
		return
	}
	id, _ := a.Uint32(AttrObjID)
	// Waiting for room here holds up a broker that sends more than it reads.
	s.send(context.Background(), statusFrame(m.Seq, m.Peer, id, status))
}

func statusFrame(seq uint16, peer, object uint32, status Status) []byte {
	b := BeginFrame(make([]byte, 0, 32), MsgStatus, seq, peer)
	b = AppendUint32(b, AttrStatus, uint32(status))
	b = AppendUint32(b, AttrObjID, object)
	b[11] = byte(len(b) - HeaderLen + attrHead)
	return b
}

var errSessionOver = fmt.Errorf("%w: no connection to the bus", StatusConnectionFailed)

// errBusy: the queue of what is to be written is full.
var errBusy = fmt.Errorf("%w: the bus does not take what is sent", StatusNoMemory)

// send queues a frame, waiting for room until ctx or the session ends.
func (s *session) send(ctx context.Context, frame []byte) error {
	n := int64(len(frame) + frameCost)
	if !s.room.TryAcquire(n) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		if err := s.room.Acquire(ctx, n); err != nil {
			return s.ended(err)
		}
	}
	return s.queue(frame)
}

// trySend queues a frame if there is room.
func (s *session) trySend(frame []byte) error {
	if !s.room.TryAcquire(int64(len(frame) + frameCost)) {
		return errBusy
	}
	return s.queue(frame)
}

func (s *session) queue(frame []byte) error {
	if s.ctx.Err() != nil {
		return errSessionOver
	}
	s.out <- frame // there is room, see newSession
	return nil
}

// ended is the error of a wait that err ended: the session's end, or that of the caller's patience.
func (s *session) ended(err error) error {
	if s.ctx.Err() != nil {
		return errSessionOver
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", StatusTimeout, err)
	}
	return err
}

// write writes what is queued, as much at once as there is.
func (s *session) write() {
	w := bufio.NewWriterSize(s.conn, 16<<10)
	for {
		var frame []byte
		select {
		case <-s.ctx.Done():
			return
		case frame = <-s.out:
		case <-s.finish:
			if len(s.out) == 0 {
				s.end(context.Canceled)
				return
			}
			continue
		}
		_, err := w.Write(frame)
		if err == nil && len(s.out) == 0 {
			err = w.Flush()
		}
		s.room.Release(int64(len(frame) + frameCost))
		if err != nil {
			s.end(err)
			return
		}
		if cap(frame) >= spareSize {
			s.spare.Store(&frame)
		}
	}
}

// buffer is an empty buffer for a frame of n bytes.
func (s *session) buffer(n int) []byte {
	if n >= spareSize {
		if b := s.spare.Swap(nil); b != nil && cap(*b) >= n {
			return (*b)[:0]
		}
	}
	return make([]byte, 0, n)
}
