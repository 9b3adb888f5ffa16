package router

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

// Transfer is a connection over TCP that stays open, and on which bytes are
// moved step by step. It is used by one goroutine at a time.
type Transfer struct {
	Connection
	inbound bool     // by a visitor
	conn    net.Conn // plain, or TLS
	tcp     *net.TCPConn
	block   []byte
	rate    uint64 // to tell the server with the next step
	watch   func() bool
}

// Open connects to a site by HTTP or TLS. The connection is over when it is
// closed, or aborted when ctx ends.
func (c *Client) Open(ctx context.Context, site string, protocol Protocol, v6 bool) (*Transfer, error) {
	if protocol == HTTP3 {
		return nil, fmt.Errorf("%s opening a connection to %s: by TCP only, not by %v", c, site, protocol)
	}
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	q := Request{Site: site, Protocol: protocol, IPv6: v6}
	to, err := c.find(dialing, q)
	if err != nil {
		return nil, err
	}
	t := &Transfer{Connection: Connection{Client: c}}
	t.call(q, to)
	t.Start = time.Now()
	if t.conn, err = c.dial(dialing, "tcp", t.Remote); err != nil {
		return nil, err
	}
	t.tcp = t.conn.(*net.TCPConn)
	t.Local = t.tcp.LocalAddr().(*net.TCPAddr).AddrPort()
	if protocol != HTTP {
		t.conn = tls.Client(t.tcp, c.tlsConfig(q))
	}
	if err := t.upgrade(ctx, dialing, site); err != nil {
		return nil, fmt.Errorf("%s opening a connection to %s by %v: %w", c, site, protocol, err)
	}
	return t, nil
}

// Visit connects from the internet by HTTP to a port at which the client serves:
// by IPv6 straight, by IPv4 through the router's forward to it. The connection is
// told as the client sees it.
func (r *Router) Visit(ctx context.Context, c *Client, port uint16, v6 bool) (*Transfer, error) {
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	to := netip.AddrPortFrom(c.V6, port)
	if !v6 {
		i := slices.IndexFunc(r.forwards, func(f forward) bool { return f.to == c && f.toPort == port })
		if i < 0 {
			return nil, fmt.Errorf("visiting %s: its port %d is not forwarded", c, port)
		}
		to = netip.AddrPortFrom(netip.MustParseAddr(wanRouter4), r.forwards[i].port)
	}
	t := &Transfer{inbound: true, Connection: Connection{Client: c, Proto: 6, App: "http", Start: time.Now()}}
	if err := r.internet.do(func() (err error) {
		t.conn, err = new(net.Dialer).DialContext(dialing, "tcp", to.String())
		return err
	}); err != nil {
		return nil, fmt.Errorf("visiting %s: %w", c, err)
	}
	t.tcp = t.conn.(*net.TCPConn)
	t.Local = netip.AddrPortFrom(c.local(to.Addr()), port)
	t.Remote = t.tcp.LocalAddr().(*net.TCPAddr).AddrPort()
	if err := t.upgrade(ctx, dialing, to.String()); err != nil {
		return nil, fmt.Errorf("visiting %s: %w", c, err)
	}
	return t, nil
}

// Serve lets the client take visitors at a port by HTTP, until the router is
// closed.
func (c *Client) Serve(port uint16) error {
	var listener net.Listener
	if err := c.ns.do(func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	}); err != nil {
		return fmt.Errorf("%s serving at port %d: %w", c, port, err)
	}
	steps := &stepServer{}
	server := &http.Server{Handler: handler(steps), ReadHeaderTimeout: timeout}
	ended := make(chan error, 1)
	go func() { ended <- unlessClosed(server.Serve(listener)) }()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = append(c.servers, func() error {
		err := server.Close()
		steps.conns.close()
		return errors.Join(err, <-ended)
	})
	return nil
}

// upgrade leaves HTTP. The connection lives as long as ctx.
func (t *Transfer) upgrade(ctx, dialing context.Context, host string) (err error) {
	t.block = make([]byte, stepBlock)
	t.watch = context.AfterFunc(ctx, func() { _ = t.tcp.Close() })
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Abort())
		}
	}()
	if deadline, ok := dialing.Deadline(); ok {
		if err := t.tcp.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(t.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", stepsPath, host, stepsProtocol); err != nil {
		return err
	}
	// The server says nothing more before the first step: nothing is read too much.
	reply, err := http.ReadResponse(bufio.NewReader(t.conn), nil)
	if err != nil {
		return err
	}
	if reply.StatusCode != http.StatusSwitchingProtocols {
		return errors.Join(fmt.Errorf("the server said %s", reply.Status), reply.Body.Close())
	}
	return t.tcp.SetDeadline(time.Time{})
}

// Pace limits both ways to so many bits a second from the next step on; 0: as
// fast as it goes.
func (t *Transfer) Pace(bits int64) error {
	t.rate = math.MaxUint64
	if bits > 0 {
		t.rate = uint64(max(bits/8, 1))
	}
	return pace(t.tcp, t.rate)
}

// Move sends and then receives so many bytes, as who opened the connection, and
// returns when all have arrived.
func (t *Transfer) Move(send, receive int64) error {
	if send < 0 || receive < 0 || send > maxStep || receive > maxStep {
		return fmt.Errorf("moving %d and %d bytes: want 0 to %d", send, receive, int64(maxStep))
	}
	var header [stepHeader]byte
	binary.BigEndian.PutUint64(header[:], uint64(send))
	binary.BigEndian.PutUint64(header[8:], uint64(receive))
	binary.BigEndian.PutUint64(header[16:], t.rate)
	t.rate = 0
	_, err := t.conn.Write(header[:])
	if err == nil {
		err = fill(t.conn, send)
	}
	if err == nil {
		err = discard(t.conn, receive+1, t.block)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("moving %d and %d bytes over %v: %w", send, receive, t.Connection, err)
	}
	if t.inbound {
		send, receive = receive, send
	}
	t.Sent += send
	t.Recvd += receive
	t.End = time.Now()
	return nil
}

// Close ends the connection as a program does that is done.
func (t *Transfer) Close() error {
	t.watch()
	t.End = time.Now()
	if err := hangUp(t.conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing %v: %w", t.Connection, err)
	}
	return nil
}

// hangUp ends a connection, plain or TLS, and waits until the server does too:
// the last packet is on its way then. As the first to end it the client keeps
// the port, which its kernel gives to no other connection for a minute, so that
// no two connections look the same.
func hangUp(conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	var err error
	if secure, isTLS := conn.(*tls.Conn); isTLS {
		tcp, ok = secure.NetConn().(*net.TCPConn)
		err = secure.CloseWrite()
	}
	if !ok {
		return fmt.Errorf("ending a %T: not over TCP", conn)
	}
	err = errors.Join(err, tcp.CloseWrite(), tcp.SetReadDeadline(time.Now().Add(timeout)))
	if err == nil {
		_, err = io.Copy(io.Discard, tcp)
	}
	return errors.Join(err, tcp.Close())
}

// Abort ends the connection by a reset.
func (t *Transfer) Abort() error {
	t.watch()
	t.End = time.Now()
	if err := errors.Join(t.tcp.SetLinger(0), t.tcp.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("aborting %v: %w", t.Connection, err)
	}
	return nil
}
