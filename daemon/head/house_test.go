package head

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

// patience bounds what a test waits for.
var patience = limits.For(20 * time.Second)

// house is a client behind the bridge br-lan of a router, and a server.
type house struct {
	t                      *testing.T
	client, router, server netns.NsHandle
}

const (
	server4, server6 = "203.0.113.2", "2001:db8:f::2"
	router4          = "192.168.1.1"
	bridgeMAC        = "02:00:5e:00:01:01"
	bulkPort         = "8080"
	ethernetHeader   = 14
)

var createBridge = []string{
	"link add br-lan address " + bridgeMAC + " type bridge",
	"addr add 192.168.1.1/24 dev br-lan",
	"addr add 2001:db8:1::1/64 dev br-lan nodad",
	"link set lan1 master br-lan up",
	"link set br-lan up",
}

func newHouse(t *testing.T) *house {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and nftables")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	r := &house{t: t}
	for _, ns := range []*netns.NsHandle{&r.client, &r.router, &r.server} {
		if err := onThread(func() (err error) { *ns, err = netns.New(); return err }); err != nil {
			t.Skipf("a network namespace can not be made here: %v", err)
		}
		t.Cleanup(func() { ns.Close() })
	}
	for _, ns := range []netns.NsHandle{r.client, r.router, r.server} {
		// Without it link-local addresses are of no use for a second.
		r.in(ns, func() error { return writeSysctl("ipv6/conf/default/accept_dad", "0") })
	}
	r.ip(r.router, append([]string{
		"link set lo up",
		"link add lan1 type veth peer name eth0 netns " + r.path(r.client),
		"link add wan type veth peer name eth0 netns " + r.path(r.server),
		"addr add 203.0.113.1/24 dev wan",
		"addr add 2001:db8:f::1/64 dev wan nodad",
		"link set wan up",
	}, createBridge...)...)
	r.ip(r.client, "link set lo up",
		"addr add 192.168.1.2/24 dev eth0", "addr add 2001:db8:1::2/64 dev eth0 nodad", "link set eth0 up",
		"route add default via 192.168.1.1", "route add default via 2001:db8:1::1")
	r.ip(r.server, "link set lo up",
		"addr add "+server4+"/24 dev eth0", "addr add "+server6+"/64 dev eth0 nodad", "link set eth0 up",
		"route add default via 203.0.113.1", "route add default via 2001:db8:f::1")
	r.in(r.router, func() error {
		for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding", "netfilter/nf_conntrack_acct"} {
			if err := writeSysctl(key, "1"); err != nil {
				return err
			}
		}
		return nil
	})
	r.serve(r.server)
	r.serve(r.router)
	return r
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- f()
	}()
	return <-done
}

func enter(ns netns.NsHandle, f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

func (r *house) in(ns netns.NsHandle, f func() error) {
	r.t.Helper()
	if err := enter(ns, f); err != nil {
		r.t.Fatal(err)
	}
}

func (r *house) path(ns netns.NsHandle) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(ns))
}

// run returns what a program in the namespace says.
func (r *house) run(ns netns.NsHandle, stdin string, args ...string) string {
	r.t.Helper()
	var out bytes.Buffer
	r.in(ns, func() error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, &out)
		}
		return nil
	})
	return out.String()
}

func (r *house) ip(ns netns.NsHandle, commands ...string) {
	r.t.Helper()
	r.run(ns, strings.Join(commands, "\n")+"\n", "ip", "-batch", "-")
}

// nft runs a script in the router.
func (r *house) nft(script string) { r.t.Helper(); r.run(r.router, script, "nft", "-f", "-") }

// ruleset is what nft shows of the router. Protocols are numbers: their names are
// in /etc/protocols, where there is one.
func (r *house) ruleset() string {
	r.t.Helper()
	return r.run(r.router, "", "nft", "--numeric-protocol", "list", "ruleset")
}

// serve answers TCP on bulkPort with as many bytes as asked for, and UDP on 53
// with what it was sent.
func (r *house) serve(ns netns.NsHandle) {
	r.t.Helper()
	var l net.Listener
	var dns net.PacketConn
	r.in(ns, func() (err error) {
		if l, err = net.Listen("tcp", ":"+bulkPort); err != nil {
			return err
		}
		dns, err = net.ListenPacket("udp", ":53")
		return err
	})
	var wg sync.WaitGroup
	r.t.Cleanup(func() { l.Close(); dns.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				var n uint64
				if binary.Read(c, binary.BigEndian, &n) == nil {
					io.CopyN(c, zeros{}, int64(n))
				}
			})
		}
	})
	wg.Go(func() {
		b := make([]byte, 1500)
		for {
			n, from, err := dns.ReadFrom(b)
			if err != nil {
				return
			}
			dns.WriteTo(b[:n], from)
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// fetch gets n bytes from a host by a connection of its own, from a port of the
// client if that is not 0.
func (r *house) fetch(host string, from int, n uint64) {
	r.t.Helper()
	r.in(r.client, func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{Port: from}, Timeout: patience, Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), err)
		}}
		c, err := d.Dial("tcp", net.JoinHostPort(host, bulkPort))
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if err := binary.Write(c, binary.BigEndian, n); err != nil {
			return err
		}
		if got, err := io.Copy(io.Discard, c); err != nil || uint64(got) != n {
			return fmt.Errorf("%d of %d bytes arrived: %w", got, n, err)
		}
		return nil
	})
}

// ask sends n questions to a host, and gets as many answers.
func (r *house) ask(host string, n int) {
	r.t.Helper()
	r.in(r.client, func() error {
		c, err := net.Dial("udp", net.JoinHostPort(host, "53"))
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		b := make([]byte, 512)
		for range n {
			if _, err := c.Write(b); err != nil {
				return err
			}
			if _, err := c.Read(b); err != nil {
				return err
			}
		}
		return nil
	})
}

// another adds a device to the LAN: it is who talks to server6 from then on.
func (r *house) another() {
	r.t.Helper()
	r.ip(r.router, "link add lan9 type veth peer name eth1 netns "+r.path(r.client), "link set lan9 master br-lan up")
	r.ip(r.client, "addr add 2001:db8:1::9/64 dev eth1 nodad", "link set eth1 up", "route add "+server6+"/128 via 2001:db8:1::1 dev eth1")
}

// flood checks that what a client floods the log with is seen as far as its limit,
// which is not another's, whatever the addresses that it uses.
func (s *packets) flood(r *house, way Way) {
	s.t.Helper()
	r.another()
	dns := func(p packet) bool { return p.is(unix.IPPROTO_UDP, 53) }
	const much, few = 10_000, 100
	raw := func(flags byte, spoofed bool) func() {
		return func() {
			r.inject(unix.IPPROTO_TCP, much, spoofed, func(i int) []byte { return tcpHeader(uint16(1024+i), 9999, flags) })
		}
	}
	questions := func(p int) []byte {
		b := make([]byte, 8+30)
		binary.BigEndian.PutUint16(b, uint16(1024+p))
		binary.BigEndian.PutUint16(b[2:], 53)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		return b
	}
	to9999 := func(p packet) bool { return p.proto == unix.IPPROTO_TCP && p.to == 9999 }
	// The limit of beginnings holds for all ends where packets are mirrored, and
	// elsewhere for those of connections that are not answered, as on a busy machine.
	ends := []limit{newLimit}
	if way != Mirror {
		ends = append(ends, endLimit)
	}
	for _, tt := range []struct {
		name   string
		flood  func()
		match  func(packet) bool
		limits []limit
	}{
		{"DNS of one connection", func() { r.ask(server4, much) }, dns, []limit{dnsLimit, dnsLimit}},
		{"DNS of many connections", func() { r.inject(unix.IPPROTO_UDP, much, false, questions) }, func(p packet) bool { return dns(p) && p.to == 53 }, []limit{dnsLimit}},
		{"DNS from made-up addresses", func() { r.inject(unix.IPPROTO_UDP, much, true, questions) }, func(p packet) bool { return dns(p) && p.to == 53 }, []limit{dnsLimit}},
		{"SYN", raw(tcpSYN, false), to9999, []limit{newLimit}},
		{"FIN", raw(tcpFIN, false), to9999, ends},
		{"RST", raw(tcpRST, false), to9999, ends},
		{"RST from made-up addresses", raw(tcpRST, true), to9999, ends},
	} {
		s.reset()
		began := time.Now()
		tt.flood()
		r.ask(server6, few) // as another client
		r.fetch(server6, 0, 1000)
		other := func(p packet) bool { return dns(p) && p.v6 }
		s.until(2*few, tt.name+": DNS of another client", other)
		s.until(2, tt.name+": ends of another client", func(p packet) bool { return p.v6 && p.flags&tcpFIN != 0 })
		n, _ := s.count(func(p packet) bool { return tt.match(p) && !p.v6 })
		// A busy kernel forwards a packet long after it was sent.
		most := 0
		for _, l := range tt.limits {
			most += int(l.burst) + int(time.Since(began).Seconds()*float64(l.rate)) + 1
		}
		if n == 0 || n > most { // few if the flood before used up the limit
			s.t.Errorf("%s: %d packets were seen of %d that were sent, at most %d are right", tt.name, n, much, most)
		}
		if n, _ := s.count(other); n != 2*few {
			s.t.Errorf("%s: %d of %d packets of another client were seen", tt.name, n, 2*few)
		}
		s.t.Logf("%s: %d packets were seen of %d that were sent", tt.name, n, much)
	}
}

// tcpHeader is one without options.
func tcpHeader(from, to uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12], b[tcpFlags] = 5<<4, flags
	return b
}

// nobody4 is an address on the server's side where nobody is, who could not keep up.
const nobody4 = "203.0.113.99"

// inject sends packets from the client to nobody4, each from an address of its own if
// those are made up.
func (r *house) inject(proto byte, n int, spoofed bool, packet func(int) []byte) {
	r.t.Helper()
	r.in(r.client, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i := range n {
			data := packet(i)
			b := append(make([]byte, 20), data...)
			b[0], b[8], b[9] = 4<<4|5, 64, proto
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			copy(b[source4:], []byte{192, 168, 1, 2})
			if spoofed {
				copy(b[source4:], []byte{192, 168, byte(2 + i>>8), byte(i)})
			}
			copy(b[destination4:], net.ParseIP(nobody4).To4())
			sum := uint32(0)
			if proto == unix.IPPROTO_TCP { // without it connection tracking takes none for valid
				for _, half := range [][]byte{b[source4:20], {0, proto, 0, byte(len(data))}, data} {
					for j := 0; j < len(half); j += 2 {
						sum += uint32(binary.BigEndian.Uint16(half[j:]))
					}
				}
				sum = sum&0xffff + sum>>16
				binary.BigEndian.PutUint16(b[20+16:], ^uint16(sum+sum>>16))
			}
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: [4]byte(b[destination4:20])}); err != nil {
				return fmt.Errorf("send a packet of a flood: %w", err)
			}
		}
		return nil
	})
}

// packets are what a listener got.
type packets struct {
	t    *testing.T
	mu   sync.Mutex
	all  []packet
	more chan struct{}
}

// packet is a TCP or UDP packet.
type packet struct {
	length   int // of the IP packet
	data     int // behind the headers
	v6       bool
	proto    byte
	from, to uint16
	flags    byte
}

func (p packet) is(proto byte, port uint16) bool {
	return p.proto == proto && (p.from == port || p.to == port)
}

// parse takes packets apart that have no options nor extension headers.
func parse(b []byte) (p packet, ok bool) {
	p.length = len(b)
	if len(b) < 40 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		p.proto, b = b[9], b[20:]
	case 6:
		p.v6, p.proto, b = true, b[6], b[40:]
	}
	if len(b) < 8 || p.proto != unix.IPPROTO_TCP && p.proto != unix.IPPROTO_UDP {
		return p, false
	}
	p.from, p.to = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if p.proto == unix.IPPROTO_TCP && len(b) >= 20 {
		p.flags, p.data = b[tcpFlags], len(b)-int(b[12]>>4)*4
	}
	return p, true
}

func (s *packets) add(b []byte) {
	p, ok := parse(b)
	if !ok {
		return
	}
	s.mu.Lock()
	s.all = append(s.all, p)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// count is how many packets match, and their bytes.
func (s *packets) count(match func(packet) bool) (n, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.all {
		if match(p) {
			n++
			bytes += p.length
		}
	}
	return n, bytes
}

// until waits for n packets that match.
func (s *packets) until(n int, what string, match func(packet) bool) {
	s.t.Helper()
	limit := time.After(patience)
	for {
		got, _ := s.count(match)
		if got >= n {
			return
		}
		select {
		case <-s.more:
		case <-limit:
			s.t.Fatalf("%s: %d of %d packets came", what, got, n)
		}
	}
}

func (s *packets) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
}

// listenLog reads what is logged to Group in the router.
func (r *house) listenLog() *packets {
	r.t.Helper()
	s := &packets{t: r.t, more: make(chan struct{}, 1)}
	var c *netlink.Conn
	r.in(r.router, func() (err error) {
		if c, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
			return err
		}
		if err := c.SetReadBuffer(8 << 20); err != nil {
			return err
		}
		config := func(attributes []byte) error {
			group := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, byte(Group >> 8), byte(Group & 0xff)}
			_, err := c.Execute(netlink.Message{
				Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | 1, Flags: netlink.Request | netlink.Acknowledge},
				Data:   append(group, attributes...),
			})
			return err
		}
		// NFULNL_CFG_CMD_BIND, then NFULNL_COPY_PACKET of up to 65535 bytes.
		if err := config([]byte{5, 0, 1, 0, 1, 0, 0, 0}); err != nil {
			return fmt.Errorf("listen to log group %d: %w", Group, err)
		}
		return config([]byte{10, 0, 2, 0, 0, 0, 0xff, 0xff, 2, 0, 0, 0})
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			messages, err := c.Receive()
			if errors.Is(err, unix.ENOBUFS) {
				r.t.Error("the log lost packets")
				continue
			}
			if err != nil {
				return
			}
			for _, m := range messages {
				ad, err := netlink.NewAttributeDecoder(m.Data[nfgenmsgLength:])
				if err != nil {
					continue
				}
				for ad.Next() {
					if ad.Type() == 9 { // NFULA_PAYLOAD
						s.add(ad.Bytes())
					}
				}
			}
		}
	}()
	r.t.Cleanup(func() { c.SetReadDeadline(time.Unix(1, 0)); <-done; c.Close() })
	return s
}

// listenDevice reads what AF_PACKET sees on a device of the router.
func (r *house) listenDevice(name string) *packets {
	r.t.Helper()
	s := &packets{t: r.t, more: make(chan struct{}, 1)}
	var f *os.File
	r.in(r.router, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), name)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return err
		}
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<17)
		for {
			n, err := f.Read(b)
			if err != nil && !errors.Is(err, unix.ENETDOWN) {
				return
			}
			if n > ethernetHeader {
				s.add(b[ethernetHeader:n])
			}
		}
	}()
	r.t.Cleanup(func() { f.Close(); <-done })
	return s
}

// listenLinks returns what waits for the next change of a link.
func (r *house) listenLinks() func() string {
	r.t.Helper()
	var c *netlink.Conn
	r.in(r.router, func() (err error) {
		c, err = netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_LINK})
		return err
	})
	r.t.Cleanup(func() { c.Close() })
	return func() string {
		r.t.Helper()
		c.SetReadDeadline(time.Now().Add(patience))
		messages, err := c.Receive()
		if err != nil {
			r.t.Fatal(err)
		}
		l, err := parseLink(messages[0].Data)
		if err != nil {
			r.t.Fatal(err)
		}
		return l.name
	}
}

// head makes a Head whose warnings are counted; it works in the router only.
func (r *house) head() (*Head, *warnings) {
	w := &warnings{Handler: slog.DiscardHandler, lines: make(chan string, 100)}
	return New(slog.New(w)), w
}

// start runs the Head until the test ends.
func (r *house) start(h *Head) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- enter(r.router, func() error { return h.Run(ctx) }) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

func (r *house) apply(h *Head, s Settings) {
	r.t.Helper()
	r.in(r.router, func() error { return h.Apply(s) })
}

// warnings is a log that hands over each warning.
type warnings struct {
	slog.Handler
	lines chan string
}

func (w *warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	w.lines <- line
	return nil
}

// next waits for a warning.
func (w *warnings) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-w.lines:
		return line
	case <-time.After(patience):
		t.Fatal("no warning came")
		return ""
	}
}

func (w *warnings) none(t *testing.T) {
	t.Helper()
	select {
	case line := <-w.lines:
		t.Errorf("a warning: %s", line)
	default:
	}
}

// writeSysctl sets a value of the namespace that the thread is in.
func writeSysctl(key, value string) error {
	return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0o644)
}
