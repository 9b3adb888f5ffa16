package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	idlePort = 5222 // of the server that waits for its clients to say something
	maxIdle  = 5000 // a process has a limit of open files, and both ends are in this one
)

// Idling are connections over which nothing goes.
type Idling struct {
	Connections []Connection
	conns       []net.Conn
}

// Idle opens n TCP connections and leaves them alone.
func (c *Client) Idle(ctx context.Context, n int) (*Idling, error) {
	if n > maxIdle {
		return nil, fmt.Errorf("%s opening %d idle connections: want at most %d", c, n, maxIdle)
	}
	idle := &Idling{Connections: make([]Connection, n), conns: make([]net.Conn, n)}
	running, ctx := errgroup.WithContext(ctx)
	running.SetLimit(16)
	to := netip.AddrPortFrom(Sites[0].V4, idlePort)
	for i := range n {
		running.Go(func() error {
			began := time.Now()
			conn, err := c.dial(ctx, "tcp", to)
			if err != nil {
				return err
			}
			idle.conns[i] = conn
			idle.Connections[i] = Connection{Client: c, Local: conn.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: to, Proto: 6, Start: began}
			return nil
		})
	}
	if err := running.Wait(); err != nil {
		return nil, errors.Join(err, idle.Close())
	}
	return idle, nil
}

// Close ends the connections by a reset: 5,000 that wait for their last packets
// would take ports from what comes next.
func (i *Idling) Close() error {
	var errs []error
	for _, c := range i.conns {
		if c != nil {
			errs = append(errs, c.(*net.TCPConn).SetLinger(0), c.Close())
		}
	}
	i.conns = nil
	return errors.Join(errs...)
}

// serveIdle accepts connections and keeps each until its client ends it.
func (r *Router) serveIdle() error {
	var listener net.Listener
	if err := r.internet.do(func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf(":%d", idlePort))
		return err
	}); err != nil {
		return fmt.Errorf("starting the idle server: %w", err)
	}
	var conns connSet
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				ended <- unlessClosed(err)
				return
			}
			conns.serve(conn, func(conn net.Conn) {
				var b [1]byte
				_, _ = conn.Read(b[:]) // however it ends
			})
		}
	}()
	r.closers = append(r.closers, func() error {
		err := errors.Join(listener.Close(), <-ended)
		conns.close()
		return err
	})
	return nil
}
