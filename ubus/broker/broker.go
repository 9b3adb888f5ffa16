// Package broker is a message bus for machines that have none: development and tests. It stands in for OpenWrt's ubusd
// and answers clients as that does; the transcripts in ../testdata are its specification. The formats are those of
// package ubus.
//
// It differs from ubusd on purpose in this: there are no access lists, whoever can open the socket may do everything,
// and so the socket is made with mode 0600; a user without an entry in the system's database is known by the number;
// descriptors that come with a message are closed, not passed on; and what one client may hold (objects, patterns,
// subscriptions, bytes of signatures) is bounded.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
)

const maxClients = 256

// Broker is a bus on one socket.
type Broker struct {
	log      *slog.Logger
	listener *net.UnixListener
	// credentials is who is at the other end of a connection.
	credentials func(*net.UnixConn) (user, group string, err error)

	conns sync.WaitGroup

	mu sync.Mutex
	bus
	closed bool
}

// Listen makes the socket at path with mode 0600, and the folder it is in. A socket that nobody serves is replaced; one
// that somebody serves, and any other file, is an error. Connections wait until Run accepts them.
func Listen(path string, log *slog.Logger) (*Broker, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the bus socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on the bus socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("closing the bus socket to others: %w", err)
	}
	return &Broker{log: log, listener: l, credentials: peerCredentials, bus: newBus()}, nil
}

func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for an old bus socket: %w", err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way of the bus socket: it is not a socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("%s: a bus is running there already", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing an old bus socket: %w", err)
	}
	return nil
}

// Run serves clients until ctx ends or Close is called, and returns nil then, when all of them are gone and the socket
// is removed.
func (b *Broker) Run(ctx context.Context) error {
	defer b.conns.Wait()
	defer context.AfterFunc(ctx, b.Close)()
	defer b.Close()
	for {
		conn, err := b.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting a client of the bus: %w", err)
		}
		if c := b.admit(conn); c != nil {
			b.conns.Go(func() { b.serve(c) })
		}
	}
}

// Close ends the bus: its clients see the end of their connections, the socket is removed.
func (b *Broker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.listener.Close()
	for _, c := range b.clients {
		c.conn.Close()
		c.out.close()
	}
}

// admit makes a client of a connection and greets it; nil if it may not stay.
func (b *Broker) admit(conn *net.UnixConn) *client {
	user, group, err := b.credentials(conn)
	if err != nil {
		b.log.Warn("bus client refused", "err", err)
		conn.Close()
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.clients) >= maxClients {
		b.log.Warn("bus client refused", "user", user, "clients", len(b.clients), "at_most", maxClients)
		conn.Close()
		return nil
	}
	c := &client{conn: conn, user: user, group: group, out: newQueue()}
	b.join(c)
	return c
}
