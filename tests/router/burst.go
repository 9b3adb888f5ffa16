package router

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// BurstDomain is the parent of the names that Burst asks for. They are in no
// resolver: only the connections themselves tell them.
const BurstDomain = "burst.test"

// burstReply is the size of the body that each connection of a burst receives.
const burstReply = 500

// Burst makes n short connections by TLS, each with a name of its own
// (s0001.burst.test and on), so many at a time, as fast as it goes.
func (c *Client) Burst(ctx context.Context, n, parallel int, v6 bool) ([]Connection, error) {
	var hosts []netip.Addr
	for _, a := range siteAddrs() {
		if a.Is6() == v6 {
			hosts = append(hosts, a)
		}
	}
	made := make([]Connection, n)
	running, dialing := errgroup.WithContext(ctx)
	running.SetLimit(parallel)
	for i := range made {
		if dialing.Err() != nil {
			break
		}
		name := fmt.Sprintf("s%04d.%s", i+1, BurstDomain)
		made[i] = Connection{
			Client: c, Proto: 6, App: "tls", Name: name, Source: "tls", Recvd: burstReply,
			Remote: netip.AddrPortFrom(hosts[i%len(hosts)], 443),
		}
		running.Go(func() error {
			if err := c.flash(dialing, &made[i]); err != nil {
				return fmt.Errorf("%s connecting to %s at %v: %w", c, name, made[i].Remote, err)
			}
			return nil
		})
	}
	return made, errors.Join(running.Wait(), ctx.Err())
}

// flash makes one connection of a burst. It does not look at the certificate:
// that would take longer than all the rest.
func (c *Client) flash(ctx context.Context, made *Connection) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	made.Start = time.Now()
	conn, err := c.dial(ctx, "tcp", made.Remote)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	made.Local = conn.LocalAddr().(*net.TCPAddr).AddrPort()
	secure := tls.Client(conn, &tls.Config{ServerName: made.Name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if _, err := fmt.Fprintf(secure, "GET /?bytes=%d HTTP/1.1\r\nHost: %s\r\n\r\n", burstReply, made.Name); err != nil {
		return err
	}
	reply, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, reply.Body)
	if err != nil {
		return err
	}
	if reply.StatusCode != http.StatusOK || n != burstReply {
		return fmt.Errorf("the server said %s and sent %d bytes", reply.Status, n)
	}
	made.End = time.Now()
	return hangUp(secure)
}
