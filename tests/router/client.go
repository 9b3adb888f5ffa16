package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

// Client is a device behind a bridge.
type Client struct {
	Device
	V4, V6  netip.Addr
	ns      *namespace
	network *Network
	port    string // the router's end of the link
	web     func() *web

	mu      sync.Mutex
	answers map[netip.Addr]string // what the device asked for when it was last given the address
	sockets []*net.UDPConn        // of QUIC connections that are over, see fetchQUIC
	servers []func() error        // end what Serve started
	ports   int                   // taken by connections so far
}

// Protocol is how a client talks to a site.
type Protocol uint8

// The protocols.
const (
	HTTP  Protocol = iota // port 80
	TLS12                 // HTTP over TLS 1.2, port 443
	TLS13                 // the same over TLS 1.3, which hides the certificate
	HTTP3                 // over QUIC, port 443/udp
)

var protocols = [...]string{"HTTP", "TLS 1.2", "TLS 1.3", "QUIC"}

func (p Protocol) String() string { return protocols[p] }

// Request is one connection to make.
type Request struct {
	Site       string
	Protocol   Protocol
	IPv6       bool  // connect by IPv6, and ask the resolver by it
	NoSNI      bool  // TLS: do not say which site is wanted
	NoLookup   bool  // go to the address without asking the resolver
	DNSOverTCP bool  // ask the resolver by TCP
	Receive    int64 // bytes of the answer
	Send       int64 // bytes sent with the question
}

// Connection is what a client did, and what a monitor can know of it.
type Connection struct {
	Client        *Client
	Local, Remote netip.AddrPort
	Proto         uint8  // IP protocol number
	App           string // as Suricata calls it: "http", "tls", "quic"
	Name          string // what the far end can be called; "" if nothing told
	Source        string // what told it best: "tls", "quic", "http", "dns", "cert", ""
	Sent, Recvd   int64  // bytes that the application moved: bodies only
	Start, End    time.Time
}

// String is the connection in a few words, for messages.
func (c Connection) String() string {
	return fmt.Sprintf("%s %v -> %v %s %q (by %q)", c.Client, c.Local, c.Remote, c.App, c.Name, c.Source)
}

// String is what Pakon calls the device: its name, or its vendor with the last
// digits of its MAC, or its MAC.
func (c *Client) String() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.Vendor != "":
		return c.Vendor + " " + c.MAC[len("00:00:00:00:"):]
	}
	return c.MAC
}

// timeout ends what hangs, which nothing here does unless it is broken.
var timeout = limits.For(10 * time.Second)

// patience is how long a client waits for the resolver before it asks again.
const patience = 2 * time.Second

// Lookup asks the router's resolver for a name's addresses of one family.
func (c *Client) Lookup(ctx context.Context, name string, v6, overTCP bool) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m := new(dns.Msg)
	qtype := dns.TypeA
	if v6 {
		qtype = dns.TypeAAAA
	}
	m.SetQuestion(dns.Fqdn(name), qtype)
	server := netip.AddrPortFrom(c.network.V4.Addr(), 53)
	if v6 {
		server = netip.AddrPortFrom(c.network.V6.Addr(), 53)
	}
	network := "udp"
	if overTCP {
		network = "tcp"
	}
	conn, err := c.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	reply, err := ask(ctx, m, conn)
	if err != nil {
		return nil, fmt.Errorf("asking %v for %s: %w", server, name, err)
	}
	if reply.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("asking %v for %s: %s", server, name, dns.RcodeToString[reply.Rcode])
	}
	var addrs []netip.Addr
	for _, rr := range reply.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range addrs {
		c.answers[a] = name
	}
	return addrs, nil
}

// ask asks a resolver, again if no answer comes: a datagram may be lost.
func ask(ctx context.Context, m *dns.Msg, conn net.Conn) (*dns.Msg, error) {
	resolver := dns.Client{Timeout: patience}
	for {
		reply, _, err := resolver.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			continue
		}
		return reply, err
	}
}

// Probe asks the resolver for one name, once: a sign of life on the network.
func (c *Client) Probe(ctx context.Context) error {
	_, err := c.Lookup(ctx, Sites[0].Name, false, false)
	return err
}

// local is the client's own address towards another.
func (c *Client) local(to netip.Addr) netip.Addr {
	if to.Is4() {
		return c.V4
	}
	return c.V6
}

// dial connects from the client's namespace and address.
func (c *Client) dial(ctx context.Context, network string, to netip.AddrPort) (conn net.Conn, err error) {
	err = c.fromPort(c.local(to.Addr()), func(from netip.AddrPort) (err error) {
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
		if network == "udp" {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(from)
		}
		conn, err = dialer.DialContext(ctx, network, to.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s connecting: %w", c, err)
	}
	return conn, nil
}

// fromPort has open take a port, in the client's namespace, that none of its
// connections had lately: where one takes the ports of another, they can not be told
// apart, nor does Suricata always do so. What other programs send comes from higher
// ones, which the kernel chooses.
func (c *Client) fromPort(addr netip.Addr, open func(from netip.AddrPort) error) error {
	const first, last = 10_000, 32_767
	return c.ns.do(func() error {
		for {
			c.mu.Lock()
			port := uint16(first + c.ports%(last-first+1))
			c.ports++
			c.mu.Unlock()
			if err := open(netip.AddrPortFrom(addr, port)); !errors.Is(err, unix.EADDRINUSE) {
				return err
			}
		}
	})
}

// Fetch resolves a site's name, connects, moves the bytes and closes.
func (c *Client) Fetch(ctx context.Context, q Request) (Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	made := Connection{Client: c, Sent: q.Send, Recvd: q.Receive}
	to, err := c.find(ctx, q)
	if err != nil {
		return made, err
	}
	made.call(q, to)
	made.Start = time.Now()
	if q.Protocol == HTTP3 {
		err = c.fetchQUIC(ctx, q, &made)
	} else {
		err = c.fetchTCP(ctx, q, &made)
	}
	made.End = time.Now()
	if err != nil {
		return made, fmt.Errorf("%s fetching %s by %v: %w", c, q.Site, q.Protocol, err)
	}
	return made, nil
}

func (c *Client) find(ctx context.Context, q Request) (netip.Addr, error) {
	site, ok := findSite(q.Site)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%s: no such site", q.Site)
	}
	if q.NoLookup {
		if q.IPv6 {
			return site.V6, nil
		}
		return site.V4, nil
	}
	// Like a browser: ask for both families, whichever is used then.
	other, err := c.Lookup(ctx, q.Site, !q.IPv6, q.DNSOverTCP)
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := c.Lookup(ctx, q.Site, q.IPv6, q.DNSOverTCP)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("%s: no address of the wanted family, only %v", q.Site, other)
	}
	return addrs[0], nil
}

// call says what a monitor can call the connection, and by what.
func (made *Connection) call(q Request, to netip.Addr) {
	made.Client.mu.Lock()
	asked := made.Client.answers[to]
	made.Client.mu.Unlock()
	port := uint16(443)
	made.Proto, made.App, made.Name, made.Source = 6, "tls", q.Site, "tls"
	switch {
	case q.Protocol == HTTP:
		port, made.App, made.Source = 80, "http", "http"
	case q.Protocol == HTTP3:
		made.Proto, made.App, made.Source = 17, "quic", "quic"
	case q.NoSNI && asked != "":
		made.Name, made.Source = asked, "dns"
	case q.NoSNI && q.Protocol == TLS12:
		var sharing []string
		for _, s := range Sites {
			if s.V4 == to || s.V6 == to {
				sharing = append(sharing, s.Name)
			}
		}
		made.Name, made.Source = defaultName(sharing), "cert"
	case q.NoSNI:
		made.Name, made.Source = "", ""
	}
	made.Remote = netip.AddrPortFrom(to, port)
}

func (c *Client) tlsConfig(q Request) *tls.Config {
	w := c.web()
	config := &tls.Config{
		ServerName: q.Site, InsecureSkipVerify: true, VerifyConnection: w.verify, // verify checks the authority, with and without a name
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13,
	}
	if q.Protocol == TLS12 {
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	}
	if q.NoSNI {
		config.ServerName = ""
	}
	return config
}

func (c *Client) fetchTCP(ctx context.Context, q Request, made *Connection) error {
	dials := 0
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		if dials++; dials > 1 {
			return nil, errors.New("a second connection for one request")
		}
		conn, err := c.dial(ctx, "tcp", made.Remote)
		if err != nil {
			return nil, err
		}
		made.Local = conn.LocalAddr().(*net.TCPAddr).AddrPort()
		if q.Protocol == HTTP {
			return conn, nil
		}
		secure := tls.Client(conn, c.tlsConfig(q))
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return secure, nil
	}
	t := &http.Transport{DialContext: dial, DialTLSContext: dial, DisableCompression: true}
	defer t.CloseIdleConnections()
	return exchange(ctx, t, q)
}

func (c *Client) fetchQUIC(ctx context.Context, q Request, made *Connection) error {
	var udp *net.UDPConn
	if err := c.fromPort(c.local(made.Remote.Addr()), func(from netip.AddrPort) (err error) {
		udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(from))
		return err
	}); err != nil {
		return err
	}
	// A server may still send when the client has closed. Were its socket closed
	// too, ICMP errors would follow, of which it depends on the moment whether
	// Suricata counts them.
	c.mu.Lock()
	c.sockets = append(c.sockets, udp)
	c.mu.Unlock()
	made.Local = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	endpoint := &quic.Transport{Conn: udp}
	defer endpoint.Close()
	t := &http3.Transport{
		TLSClientConfig: c.tlsConfig(q), DisableCompression: true,
		Dial: func(ctx context.Context, _ string, tls *tls.Config, config *quic.Config) (*quic.Conn, error) {
			return endpoint.Dial(ctx, net.UDPAddrFromAddrPort(made.Remote), tls, config)
		},
	}
	return errors.Join(exchange(ctx, t, q), t.Close())
}

// close ends what the client left open.
func (c *Client) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, s := range c.sockets {
		errs = append(errs, s.Close())
	}
	for _, end := range c.servers {
		errs = append(errs, end())
	}
	c.sockets, c.servers = nil, nil
	return errors.Join(errs...)
}

// exchange makes one request and reads all of the answer.
func exchange(ctx context.Context, t http.RoundTripper, q Request) error {
	scheme := "https"
	if q.Protocol == HTTP {
		scheme = "http"
	}
	url := fmt.Sprintf("%s://%s/?bytes=%d", scheme, q.Site, q.Receive)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if q.Send > 0 {
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, url, io.LimitReader(zeros{}, q.Send))
	}
	if err != nil {
		return err
	}
	req.ContentLength = q.Send
	reply, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, reply.Body)
	err = errors.Join(err, reply.Body.Close())
	switch {
	case err != nil:
		return err
	case reply.StatusCode != http.StatusOK:
		return fmt.Errorf("the server said %s", reply.Status)
	case n != q.Receive:
		return fmt.Errorf("%d bytes came, want %d", n, q.Receive)
	}
	return nil
}

// zeros is a body without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
