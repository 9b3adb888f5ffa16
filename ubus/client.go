package ubus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Client is a peer of the bus. It keeps its connection: when the broker goes it comes back as soon as the broker does,
// with its objects, listeners and subscriptions. Its methods may be used from any goroutine, handlers and callbacks
// included.
type Client struct {
	path string
	log  *slog.Logger

	ready     chan struct{}
	readyOnce sync.Once
	work      pool
	seq       atomic.Uint32 // goes on over reconnects, as libubus' does
	stopOnce  sync.Once
	stopped   chan struct{} // closed by Close
	ended     chan struct{} // closed when Run has returned

	mu        sync.Mutex
	running   bool
	session   *session // nil while not connected
	objects   []*Object
	listeners []*listener
	subs      []*subscription
}

// New makes a client of the bus at that path, which Run connects. Objects, listeners and subscriptions may be added
// before and after.
func New(path string, log *slog.Logger) *Client {
	c := &Client{
		path: path, log: log,
		ready: make(chan struct{}), stopped: make(chan struct{}), ended: make(chan struct{}),
	}
	c.work.log = log
	return c
}

// Dial connects to the bus at that path, for a command: a bus that is not there is an error (StatusConnectionFailed,
// with the cause). Close ends the client.
func Dial(ctx context.Context, path string) (*Client, error) {
	c := New(path, slog.New(slog.DiscardHandler))
	s, err := c.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus at %s: %w: %w", path, StatusConnectionFailed, err)
	}
	c.running = true
	c.session = s
	go c.keep(context.Background(), s)
	return c, nil
}

// Run keeps the client connected until ctx ends or Close is called, and returns nil when all handlers and callbacks
// have returned. A bus that is not there is waited for. Run can be called once.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("ubus: client runs already")
	}
	c.running = true
	c.mu.Unlock()
	c.keep(ctx, nil)
	return nil
}

// Ready is closed when the client is connected and all its objects are published, for the first time.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// String names the client as a task.
func (c *Client) String() string { return "ubus" }

// Close ends the client and waits until its handlers and callbacks have returned; it must not be called from one.
func (c *Client) Close() error {
	c.stopOnce.Do(func() { close(c.stopped) })
	c.mu.Lock()
	running := c.running
	c.running = true // a later Run has nothing to do
	c.mu.Unlock()
	if running {
		<-c.ended
	}
	return nil
}

// want changes what the client wants on the bus, and has the connection, if there is one, settle it.
func (c *Client) want(change func()) {
	c.mu.Lock()
	change()
	s := c.session
	c.mu.Unlock()
	if s != nil {
		s.wake()
	}
}

// Connected says whether the bus is there.
func (c *Client) Connected() bool { return c.current() != nil }

func (c *Client) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

func (c *Client) setSession(s *session) {
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
}

// Retries of a connection: at once after it was lost, then after firstRetry, doubling to lastRetry, so that the client
// is back within a second after the bus is.
const (
	firstRetry   = 20 * time.Millisecond
	lastRetry    = 500 * time.Millisecond
	helloTimeout = 5 * time.Second
)

// ErrSilent: something listens there, but does not serve.
var ErrSilent = fmt.Errorf("it does not answer within %s", helloTimeout)

// keep holds the connection until ctx ends or Close; s is a connection made already, if not nil.
func (c *Client) keep(ctx context.Context, s *session) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-c.stopped:
			cancel()
		case <-stop:
		}
	})
	defer close(c.ended)
	defer c.work.wait()
	defer watcher.Wait()
	defer close(stop)

	retry, told := firstRetry, false
	for {
		var err error
		if s == nil {
			s, err = c.connect(ctx)
		}
		if s != nil {
			c.setSession(s)
			if told {
				c.log.Info("the bus is back", "path", c.path)
				told = false
			}
			err = s.run(ctx)
			c.setSession(nil)
			if s.settled.Load() {
				retry = firstRetry
			}
			s = nil
		}
		if ctx.Err() != nil {
			return
		}
		if !told {
			c.log.Warn("no connection to the bus, waiting for it", "path", c.path, "error", err)
			told = true
		}
		timer := time.NewTimer(retry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		retry = min(2*retry, lastRetry)
	}
}

// connect makes a connection and takes the broker's HELLO.
func (c *Client) connect(ctx context.Context) (*session, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, err
	}
	s := newSession(c, conn)
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	conn.SetReadDeadline(time.Now().Add(helloTimeout))
	var hello Message
	if err := s.in.Read(&hello); err != nil {
		conn.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			return nil, ErrSilent
		}
		// The broker turns those away whose user or group has no name.
		return nil, fmt.Errorf("waiting for the broker's hello: %w", err)
	}
	if hello.Type != MsgHello || hello.Version != 0 {
		conn.Close()
		return nil, fmt.Errorf("%w: type %d, version %d in place of the broker's hello", ErrFrame, hello.Type, hello.Version)
	}
	conn.SetReadDeadline(time.Time{})
	s.id = hello.Peer
	return s, nil
}
