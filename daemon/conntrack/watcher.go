package conntrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// minInterval is the time between dumps: how old the bytes of a connection
	// that runs may be.
	minInterval = 2 * time.Second
	// share is the part of a processor that dumps may take: 1/share. With very
	// many connections they become rarer instead, but not rarer than maxInterval.
	share       = 300
	maxInterval = 15 * time.Second
	// eager is the time between dumps that make good lost events.
	eager      = time.Second
	eagerShare = 10        // as share, then
	warnEvery  = time.Hour // that events are lost is said
	maxDrain   = 100_000   // events before a dump
	// eventBuffer is what the kernel keeps of events while they are not read,
	// as during a dump: some 5000.
	eventBuffer = 4 << 20
	// gather is for how long events are let gather after all were read: to be
	// woken up for each of them costs more than they do.
	gather = 100 * time.Millisecond
	// datagram holds the largest part of a dump (NLMSG_GOODSIZE up to 32 KiB).
	datagram = 64 << 10
	// lastWord bounds the dump that is made at the end.
	lastWord = 2 * time.Second
	// again is when a source that failed is tried again.
	again = 10 * time.Second
)

// Watcher follows the connections of this network namespace.
type Watcher struct {
	log     *slog.Logger
	changed func(State)

	asked atomic.Bool // somebody waits to hear that all was told

	mu       sync.Mutex
	events   *socket // that is read; nil while none is
	state    State
	timeouts Timeouts
}

// NewWatcher returns a Watcher; Run makes it work. changed is called whenever
// State.Active or Problem have changed.
func NewWatcher(log *slog.Logger, changed func(State)) *Watcher {
	return &Watcher{log: log, changed: changed, timeouts: readTimeouts(settings)}
}

// State is what is known now.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Timeouts are the kernel's as of the last start.
func (w *Watcher) Timeouts() Timeouts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.timeouts
}

func (w *Watcher) update(f func(*State)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.state)
}

// Ask makes the receiver be told soon of all that has happened until now, which
// Idle says: without it that takes until something happens.
func (w *Watcher) Ask() {
	w.asked.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.events != nil {
		w.events.SetReadDeadline(time.Unix(1, 0)) // fails only if it is closed
	}
}

// reading notes the socket that is read.
func (w *Watcher) reading(s *socket) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = s
}

// Run tells r of the connections until ctx ends. Where there is no connection
// tracking it says so once and goes on asking.
func (w *Watcher) Run(ctx context.Context, r Receiver) error {
	for {
		err := w.follow(ctx, r)
		if ctx.Err() != nil {
			return nil
		}
		problem := explain(err)
		told := w.State().Problem == problem
		w.update(func(s *State) { s.Active, s.Problem = false, problem })
		if !told {
			w.log.Warn("the kernel's connections can not be followed", "problem", problem)
			w.changed(w.State())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
}

// explain says what an owner can do about an error.
func explain(err error) string {
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Sprintf("the kernel does not tell of its connections (the package kmod-nf-conntrack-netlink is missing?): %v", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Sprintf("the right to ask for connections is missing (CAP_NET_ADMIN): %v", err)
	}
	return fmt.Sprint(err)
}

// socket is a netlink socket that is read without copying.
type socket struct {
	*netlink.Conn
	raw syscall.RawConn
	buf []byte
}

func dial(groups uint32) (*socket, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("open netfilter netlink: %w", err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netfilter netlink: %w", err), c.Close())
	}
	return &socket{Conn: c, raw: raw, buf: make([]byte, datagram)}, nil
}

// read returns a datagram, which is valid until the next call; if there is none,
// it waits for one until the deadline if it is to, and returns nothing if not.
func (s *socket) read(wait bool) ([]byte, error) {
	var n int
	var err error
	receive := func(fd uintptr) bool {
		for {
			n, _, err = unix.Recvfrom(int(fd), s.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN && wait:
				return false
			case err == unix.EAGAIN:
				n, err = 0, nil
			}
			return true
		}
	}
	var failed error
	if wait {
		failed = s.raw.Read(receive)
	} else {
		failed = s.raw.Control(func(fd uintptr) { receive(fd) }) // whatever the deadline is
	}
	switch {
	case failed != nil:
		return nil, failed
	case err != nil:
		return nil, err
	case n > len(s.buf):
		return nil, fmt.Errorf("a datagram of %d bytes: %w", n, errShort)
	}
	return s.buf[:n], nil
}

// follow listens and dumps until something fails or ctx ends.
func (w *Watcher) follow(ctx context.Context, r Receiver) (err error) {
	events, err := dial(1<<0 | 1<<1 | 1<<2) // NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	if err := events.SetReadBuffer(eventBuffer); err != nil {
		return fmt.Errorf("set the buffer for connections' events: %w", err)
	}
	filter, err := onlyNews()
	if err != nil {
		return err
	}
	if err := events.SetBPF(filter); err != nil {
		return fmt.Errorf("filter connections' events: %w", err)
	}
	dumps, err := dial(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dumps.Close()) }()
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		events.SetReadDeadline(time.Unix(1, 0))
		dumps.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	problem := ""
	if err := w.switchOn(); err != nil {
		if !accounting(settings) {
			return fmt.Errorf("the kernel does not count the bytes of connections: %w", err)
		}
		problem = err.Error()
		w.log.Warn("connections are not told of as they should be", "problem", problem)
	}
	w.mu.Lock()
	w.timeouts = readTimeouts(settings)
	w.mu.Unlock()
	w.reading(events)
	defer w.reading(nil)
	f := follower{w: w, r: r, events: events, dumps: dumps}
	if err := f.dump(); err != nil {
		return err
	}
	w.update(func(s *State) { s.Active, s.Problem = true, problem })
	w.changed(w.State())
	err = f.run(ctx)
	if ctx.Err() != nil {
		<-woken // nothing sets a deadline any more
		if err := f.finish(); err != nil {
			w.log.Warn("what moved last is not known", "problem", err)
		}
	}
	return err
}

// finish tells all there is at the end: what counters say of the connections that
// run, a run to come goes on from.
func (f *follower) finish() (err error) {
	until := time.Now().Add(lastWord)
	if err := f.drain(); err != nil {
		return err
	}
	// The other socket may be in the middle of an answer.
	if f.dumps, err = dial(0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.dumps.Close()) }()
	if err := f.dumps.SetReadDeadline(until); err != nil {
		return fmt.Errorf("list the connections: %w", err)
	}
	return f.dump()
}

// switchOn puts the kernel's settings in force, and notes those that it changed.
func (w *Watcher) switchOn() error {
	switched, err := switchOn(settings)
	for _, s := range switched {
		w.log.Info("switched on for counting connections", "setting", s)
	}
	w.update(func(st *State) {
		for _, s := range switched {
			if !slices.Contains(st.Switched, s) {
				st.Switched = append(st.Switched, s)
			}
		}
	})
	return err
}

// follower is one life of the two sockets.
type follower struct {
	w             *Watcher
	r             Receiver
	events, dumps *socket
	entry         Entry
	last          time.Time     // when the last dump ended
	due           time.Time     // when the next one is
	took          time.Duration // of a processor
	overran       bool          // events were lost since the last dump began
	warned        time.Time     // of lost events
}

func (f *follower) run(ctx context.Context) error {
	pause := time.NewTimer(gather)
	defer pause.Stop()
	for {
		if time.Now().Before(f.due) {
			if err := f.readUntil(ctx, f.due); err != nil {
				return err
			}
		}
		if !time.Now().Before(f.due) {
			// What happened before the dump is told before it.
			if err := f.drain(); err != nil {
				return err
			}
			if err := f.dump(); err != nil {
				return err
			}
		}
		pause.Reset(gather)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
	}
}

// readUntil waits for events until the time given, or until somebody asks for them,
// and tells of all that are there.
func (f *follower) readUntil(ctx context.Context, until time.Time) error {
	if err := f.events.SetReadDeadline(until); err != nil {
		return fmt.Errorf("wait for connections' events: %w", err)
	}
	for wait := !f.w.asked.Swap(false); ; wait = false {
		if ctx.Err() != nil { // it may have ended before the deadline was set
			return ctx.Err()
		}
		b, err := f.events.read(wait)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			f.overrun()
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			f.w.asked.Store(false) // what was asked for comes now
		case err != nil:
			return fmt.Errorf("read connections' events: %w", err)
		case len(b) == 0:
			if !f.overran {
				f.r.Idle()
			}
			return ctx.Err()
		default:
			if err := f.take(b); err != nil {
				return fmt.Errorf("read connections' events: %w", err)
			}
			if !time.Now().Before(until) {
				return nil
			}
		}
	}
}

// drain tells of the events that are there.
func (f *follower) drain() error {
	for range maxDrain {
		b, err := f.events.read(false)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			f.overrun()
		case err != nil:
			return fmt.Errorf("read connections' events: %w", err)
		case len(b) == 0:
			return nil
		default:
			if err := f.take(b); err != nil {
				return fmt.Errorf("read connections' events: %w", err)
			}
		}
	}
	return nil
}

// overrun notes that events were lost, for which the next dump makes good.
func (f *follower) overrun() {
	f.overran = true
	f.w.update(func(s *State) { s.Lost++ })
	if now := time.Now(); f.warned.IsZero() || now.Sub(f.warned) > warnEvery {
		f.w.log.Warn("the kernel dropped events of connections: they are listed anew")
		f.warned = now
	}
	if soon := f.last.Add(max(eager, eagerShare*f.took)); soon.Before(f.due) {
		f.due = soon
	}
}

// take tells of the events in a datagram.
func (f *follower) take(b []byte) error {
	at := time.Now()
	for len(b) > 0 {
		h, body, rest, err := nextMessage(b)
		if err != nil {
			return err
		}
		b = rest
		if k, ok := h.kind(); ok && k != Listed && f.entry.decode(body) == nil {
			f.r.Connection(k, &f.entry, at)
		}
	}
	return nil
}

// request asks for all connections: nlmsghdr and nfgenmsg of family AF_UNSPEC.
var request = netlink.Message{
	Header: netlink.Header{Type: msgGet, Flags: netlink.Request | netlink.Dump},
	Data:   []byte{unix.AF_UNSPEC, 0, 0, 0},
}

// interval is the time from a dump to the next, by the processor time of the one.
func interval(took time.Duration) time.Duration {
	return min(max(minInterval, share*took), maxInterval)
}

// processorTime is what the thread has used, which this goroutine is locked to.
func processorTime() time.Duration {
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used); err != nil {
		return 0 // no kernel that Go runs on
	}
	return time.Duration(used.Nano())
}

// dump lists all connections, and says when to do so again: how soon depends on
// what that costs, and not on what else the machine does meanwhile.
func (f *follower) dump() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began, used := time.Now(), processorTime()
	f.overran = false
	f.r.DumpBegins(began)
	if _, err := f.dumps.Send(request); err != nil {
		return fmt.Errorf("ask for the connections: %w", err)
	}
	n, uncounted, whole := 0, 0, true
	for done := false; !done; {
		b, err := f.dumps.read(true)
		if err != nil {
			return fmt.Errorf("list the connections: %w", err)
		}
		for len(b) > 0 {
			h, body, rest, err := nextMessage(b)
			if err != nil {
				return fmt.Errorf("list the connections: %w", err)
			}
			b = rest
			whole = whole && h.flags&unix.NLM_F_DUMP_INTR == 0
			switch h.typ {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if err := errorOf(body); err != nil {
					return fmt.Errorf("list the connections: %w", err)
				}
				done = true
			default:
				if k, ok := h.kind(); ok && k == Listed && f.entry.decode(body) == nil {
					f.r.Connection(Listed, &f.entry, began)
					n++
					if !f.entry.Counted {
						uncounted++
					}
				}
			}
		}
	}
	f.last = time.Now()
	f.r.DumpEnds(f.last, whole)
	f.took = processorTime() - used
	f.due = f.last.Add(interval(f.took))
	if uncounted > 0 && !accounting(settings) { // somebody has switched it off
		if err := f.w.switchOn(); err != nil {
			return fmt.Errorf("the kernel does not count the bytes of connections any more: %w", err)
		}
	}
	f.w.update(func(s *State) {
		s.Entries, s.DumpTime = n, f.last.Sub(began)
		s.Any = s.Any || n > 0
	})
	return nil
}
