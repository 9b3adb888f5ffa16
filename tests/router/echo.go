package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Echo has the internet send back what arrives at a UDP port of EchoAddr.
func (r *Router) Echo(port uint16) error {
	var conn *net.UDPConn
	if err := r.internet.do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(EchoAddr, port)))
		return err
	}); err != nil {
		return fmt.Errorf("starting the echo at port %d: %w", port, err)
	}
	ended := make(chan error, 1)
	go func() {
		b := make([]byte, maxEcho)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err == nil {
				_, err = conn.WriteToUDPAddrPort(b[:n], from)
			}
			if err != nil {
				ended <- unlessClosed(err)
				return
			}
		}
	}()
	r.closers = append(r.closers, func() error { return errors.Join(conn.Close(), <-ended) })
	return nil
}

// EchoAddr is where Echo listens. No name leads there.
var EchoAddr = netip.MustParseAddr(wanServer4)

const maxEcho = 1500 // bytes

// Ask connects to an address by "tcp" or "udp", sends a message and returns the
// beginning of the answer.
func (c *Client) Ask(ctx context.Context, network string, to netip.AddrPort, message string) (answer string, err error) {
	return c.AskOften(ctx, network, to, message, 1)
}

// AskOften sends a message n times by one connection, each time after the answer
// to the one before has begun to come, and returns the last one's beginning.
func (c *Client) AskOften(ctx context.Context, network string, to netip.AddrPort, message string, n int) (answer string, err error) {
	conn, err := c.dial(ctx, network, to)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	b, got := make([]byte, maxEcho), 0
	for range n {
		if _, err := conn.Write([]byte(message)); err != nil {
			return "", fmt.Errorf("%s asking %v: %w", c, to, err)
		}
		if got, err = conn.Read(b); err != nil {
			return "", fmt.Errorf("%s asking %v: %w", c, to, err)
		}
	}
	return string(b[:got]), nil
}

// Send sends at least so many bytes to a UDP port and waits for no answer: that
// nobody listens there is no error.
func (c *Client) Send(ctx context.Context, to netip.AddrPort, bytes int) (err error) {
	conn, err := c.dial(ctx, "udp", to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	for b := make([]byte, 1400); bytes > 0; {
		n, err := conn.Write(b)
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%s sending to %v: %w", c, to, err)
		}
		bytes -= n
	}
	return nil
}
