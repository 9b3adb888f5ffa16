package suricata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxWriters  = 16              // connections at a time
	maxTypes    = 64              // event types that are counted by name
	maxTypeName = 64              // bytes
	drainLimit  = 2 * time.Second // for what is queued when the context ends
	acceptPause = 100 * time.Millisecond
)

// Listener receives events on a Unix stream socket from any number of writers,
// one after another or together.
type Listener struct {
	path  string
	log   *slog.Logger
	ln    *net.UnixListener
	queue *queue
	late  atomic.Bool // the time for draining is over

	received                             [kinds]atomic.Uint64
	malformed, tooLong, partial, dropped atomic.Uint64
	connections, refused                 atomic.Uint64
	connected                            atomic.Int64
	saidMalformed, saidDropped           atomic.Bool

	mu    sync.Mutex
	types map[string]*uint64 // received, of the kinds that are not decoded
}

// EventCounters count since the listener began.
type EventCounters struct {
	Received    map[string]uint64 // well-formed events by event_type; types past a bound count as "other"
	Malformed   uint64            // lines that are no event, or a wrong one
	TooLong     uint64            // lines longer than MaxLine
	Partial     uint64            // lines without an end, because their writer ended
	Dropped     uint64            // lines that the queue had no room for
	Connections uint64            // writers accepted
	Refused     uint64            // writers refused because there were too many
	Connected   int               // writers now
}

// Listen makes the socket at path, mode 0600, so that writers can connect from
// now on. A socket that a dead process left is replaced; if another process
// listens there the error is ErrInUse.
func Listen(path string, log *slog.Logger) (*Listener, error) {
	ln, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("events: listening on %s: %w", path, err)
	}
	return &Listener{path: path, log: log, ln: ln, queue: newQueue(), types: make(map[string]*uint64)}, nil
}

// Close removes the socket. Run does so itself when it ends.
func (l *Listener) Close() error { return l.ln.Close() }

// Run receives events until ctx ends. handle is called for each, from one
// goroutine, and may use the event until it returns; idle, unless nil, from the
// same one each time that all events received so far have been handled. When
// ctx ends, what the writers have sent by then is still handled, as far as two
// seconds allow; then Run returns nil. Run is called once.
func (l *Listener) Run(ctx context.Context, handle func(*Event), idle func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		defer close(l.queue.done)
		served <- l.serve(ctx)
	}()
	timer := make(chan *time.Timer, 1)
	stop := context.AfterFunc(ctx, func() {
		l.ln.Close()
		timer <- time.AfterFunc(drainLimit, func() { l.late.Store(true) })
	})
	l.consume(handle, idle)
	err := <-served
	if !stop() { // ctx ended
		(<-timer).Stop()
	}
	l.ln.Close()
	return err
}

// serve accepts writers until ctx or the socket ends, and waits for the
// goroutines that read from them.
func (l *Listener) serve(ctx context.Context) error {
	var readers sync.WaitGroup
	defer readers.Wait()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	for {
		conn, err := l.ln.AcceptUnix()
		switch {
		case err == nil:
			l.admit(reading, conn, &readers)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("events: %s was closed", l.path)
		default:
			// Out of file descriptors, most likely: nothing tells when there
			// are some again.
			l.log.Error("cannot accept a writer of events", "socket", l.path, "error", err)
			pause(ctx, acceptPause)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	waitFor(ctx.Done(), d)
}

// admit starts the goroutine that reads from a writer.
func (l *Listener) admit(ctx context.Context, conn *net.UnixConn, readers *sync.WaitGroup) {
	if l.connected.Load() >= maxWriters {
		if l.refused.Add(1) == 1 {
			l.log.Warn("too many writers of events, refusing more", "socket", l.path, "limit", maxWriters)
		}
		conn.Close()
		return
	}
	l.connected.Add(1)
	l.connections.Add(1)
	l.log.Info("a writer of events connected", "socket", l.path)
	readers.Go(func() {
		defer l.connected.Add(-1)
		defer conn.Close()
		if err := widen(conn); err != nil {
			l.log.Warn("events may be lost in a burst: their socket holds few", "socket", l.path, "error", err)
		}
		r := reader{l: l, conn: conn, buf: make([]byte, MaxLine)}
		if err := r.read(ctx); err != nil {
			l.log.Warn("reading events failed", "socket", l.path, "error", err)
			return
		}
		l.log.Info("a writer of events disconnected", "socket", l.path)
	})
}

// lost counts lines that the queue had no room for.
func (l *Listener) lost(lines uint64) {
	l.dropped.Add(lines)
	if !l.saidDropped.Swap(true) {
		l.log.Warn("events come faster than they are handled, dropping some", "socket", l.path)
	}
}

// consume handles what is queued until nothing will be queued any more.
func (l *Listener) consume(handle func(*Event), idle func()) {
	var d Decoder
	var ev Event
	busy, done := false, false
	for {
		chunk := l.queue.pop()
		switch {
		case chunk != nil:
			busy = true
			l.lines(chunk, &d, &ev, handle)
			l.queue.release(chunk)
		case busy:
			busy = false
			l.saidDropped.Store(false)
			if idle != nil {
				idle()
			}
		case done:
			return
		default:
			select {
			case <-l.queue.ready:
			case <-l.queue.done:
				done = true
			}
		}
	}
}

// lines handles the lines of a chunk.
func (l *Listener) lines(chunk []byte, d *Decoder, ev *Event, handle func(*Event)) {
	for len(chunk) > 0 {
		if l.late.Load() {
			l.dropped.Add(countLines(chunk) + l.queue.abandon())
			return
		}
		line := chunk
		if end := bytes.IndexByte(chunk, '\n'); end >= 0 {
			line = chunk[:end+1]
		}
		chunk = chunk[len(line):]
		if err := d.Decode(line, ev); err != nil {
			l.bad(line, err)
			continue
		}
		l.received[ev.Kind].Add(1)
		if ev.Kind == Other {
			l.countType(ev.Type)
		}
		handle(ev)
	}
}

// bad counts a line that is no event. The first one is logged.
func (l *Listener) bad(line []byte, err error) {
	l.malformed.Add(1)
	if !l.saidMalformed.Swap(true) {
		const shown = 200
		l.log.Warn("dropping an event that is wrong; more of them are only counted", "error", err, "line", string(line[:min(len(line), shown)]))
	}
}

func (l *Listener) countType(typ []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.types[string(typ)]; n != nil {
		*n++
		return
	}
	name := Other.String()
	if len(typ) <= maxTypeName && len(l.types) < maxTypes {
		name = strings.ToValidUTF8(string(typ), "\ufffd")
	}
	if l.types[name] == nil {
		l.types[name] = new(uint64)
	}
	*l.types[name]++
}

// Counters returns the counters so far.
func (l *Listener) Counters() EventCounters {
	c := EventCounters{
		Received:    make(map[string]uint64),
		Malformed:   l.malformed.Load(),
		TooLong:     l.tooLong.Load(),
		Partial:     l.partial.Load(),
		Dropped:     l.dropped.Load(),
		Connections: l.connections.Load(),
		Refused:     l.refused.Load(),
		Connected:   int(l.connected.Load()),
	}
	for k := Other + 1; k < kinds; k++ {
		if n := l.received[k].Load(); n > 0 {
			c.Received[k.String()] = n
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for typ, n := range l.types {
		c.Received[typ] = *n
	}
	return c
}
