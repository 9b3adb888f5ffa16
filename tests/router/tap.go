package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Tap counts every frame on the router's bridges: the truth that a monitor's
// bytes are compared with.
type Tap struct {
	files   []*os.File
	running errgroup.Group

	mu      sync.Mutex
	counts  map[direction]Count
	packets []packet // when they are kept
	keep    bool
	bytes   int
}

// direction is a connection's one way.
type direction struct {
	proto    uint8
	from, to netip.AddrPort
}

// Count is what went one way.
type Count struct {
	Packets uint64
	Bytes   uint64 // with Ethernet headers
	Errors  uint64 // bytes of ICMP errors about the other way's packets, with Ethernet headers
}

// Net is the number of bytes as the kernel's connection tracking counts them:
// without Ethernet headers, and without ICMP errors.
func (c Count) Net() uint64 { return c.Bytes - ethernetHeader*c.Packets }

// Suricata is the number of bytes as Suricata counts them from a bridge: it
// takes ICMP errors for a part of the connection that they are about.
func (c Count) Suricata() uint64 { return c.Bytes + c.Errors }

type packet struct {
	at   time.Time
	data []byte
}

const (
	ethernetHeader = 14
	maxKept        = 64 << 20 // bytes of packets
)

// Tap begins to count. keep: keep the packets too, for WritePcap.
func (r *Router) Tap(keep bool) (*Tap, error) {
	t := &Tap{counts: map[direction]Count{}, keep: keep}
	for _, n := range Networks {
		f, err := r.tap(n.Bridge)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("tapping %s: %w", n.Bridge, err), t.Close())
		}
		t.files = append(t.files, f)
		t.running.Go(func() error { return t.read(f) })
	}
	return t, nil
}

func (r *Router) tap(bridge string) (f *os.File, err error) {
	err = r.router.do(func() error {
		dev, err := net.InterfaceByName(bridge)
		if err != nil {
			return err
		}
		all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: dev.Index}),
		)
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		f = os.NewFile(uintptr(fd), "tap on "+bridge)
		return nil
	})
	return f, err
}

// read counts until Close sets a deadline, and then what is still queued.
func (t *Tap) read(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	frame := make([]byte, 1<<16)
	var failed error
	drain := func(fd uintptr) bool {
		for {
			n, _, err := unix.Recvfrom(int(fd), frame, unix.MSG_DONTWAIT)
			switch err {
			case nil:
				t.count(frame[:n])
			case unix.EAGAIN:
				return false // wait for more
			case unix.EINTR:
			default:
				failed = fmt.Errorf("reading the %s: %w", f.Name(), err)
				return true
			}
		}
	}
	err = raw.Read(drain)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = raw.Control(func(fd uintptr) { drain(fd) })
	}
	return errors.Join(err, failed)
}

func (t *Tap) count(frame []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep && t.bytes < maxKept {
		t.packets = append(t.packets, packet{time.Now(), slices.Clone(frame)})
		t.bytes += len(frame)
	}
	if len(frame) < ethernetHeader {
		return
	}
	d, failed, ok := parse(binary.BigEndian.Uint16(frame[12:]), frame[ethernetHeader:])
	if !ok {
		return
	}
	c := t.counts[d]
	if failed {
		c.Errors += uint64(len(frame))
	} else {
		c.Packets++
		c.Bytes += uint64(len(frame))
	}
	t.counts[d] = c
}

// parse finds the connection of a TCP or UDP packet, or of the one that an ICMP
// error is about, in which case failed is true. It knows no IP options and no
// fragments, which nobody here sends.
func parse(etherType uint16, ip []byte) (d direction, failed, ok bool) {
	var from, to netip.Addr
	var rest []byte
	switch {
	case etherType == unix.ETH_P_IP && len(ip) >= 20:
		d.proto = ip[9]
		from, to = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		rest = ip[20:]
	case etherType == unix.ETH_P_IPV6 && len(ip) >= 40:
		d.proto = ip[6]
		from, to = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		rest = ip[40:]
	}
	if len(rest) < 8 {
		return d, false, false
	}
	switch {
	case d.proto == unix.IPPROTO_TCP || d.proto == unix.IPPROTO_UDP:
		d.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(rest))
		d.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(rest[2:]))
		return d, false, true
	case d.proto == unix.IPPROTO_ICMP && rest[0] == icmpUnreachable, d.proto == unix.IPPROTO_ICMPV6 && rest[0] == icmp6Unreachable:
		about, again, ok := parse(etherType, rest[8:])
		return direction{about.proto, about.to, about.from}, true, ok && !again
	}
	return d, false, false
}

// The types of "destination unreachable" (RFC 792, RFC 4443).
const (
	icmpUnreachable  = 3
	icmp6Unreachable = 1
)

// Counts is what went over a connection, from its client and to it.
func (t *Tap) Counts(c Connection) (sent, recvd Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[direction{c.Proto, c.Local, c.Remote}], t.counts[direction{c.Proto, c.Remote, c.Local}]
}

// Close ends the tap after it has counted all that is queued; the counts stay.
// It is an error if the kernel dropped frames, for then nothing can be compared.
func (t *Tap) Close() error {
	var errs []error
	for _, f := range t.files {
		errs = append(errs, f.SetReadDeadline(time.Now()))
	}
	errs = append(errs, t.running.Wait())
	for _, f := range t.files {
		errs = append(errs, noDrops(f), f.Close())
	}
	t.files = nil
	return errors.Join(errs...)
}

func noDrops(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var stats *unix.TpacketStats
	var statsErr error
	if err := raw.Control(func(fd uintptr) {
		stats, statsErr = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); err != nil || statsErr != nil {
		return fmt.Errorf("asking for drops of the %s: %w", f.Name(), errors.Join(err, statsErr))
	}
	if stats.Drops > 0 {
		return fmt.Errorf("the %s lost %d frames", f.Name(), stats.Drops)
	}
	return nil
}

// WritePcap writes the packets that were kept, as a capture file of
// https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-07.html.
func (t *Tap) WritePcap(w io.Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	packets := slices.Clone(t.packets)
	slices.SortStableFunc(packets, func(a, b packet) int { return a.at.Compare(b.at) })
	b := make([]byte, 0, 24+16*len(packets)+t.bytes)
	le := binary.LittleEndian
	b = le.AppendUint32(b, 0xa1b2c3d4) // microseconds
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(b, 1<<16)
	b = le.AppendUint32(b, 1) // Ethernet
	for _, p := range packets {
		b = le.AppendUint32(b, uint32(p.at.Unix()))
		b = le.AppendUint32(b, uint32(p.at.Nanosecond()/1000))
		b = le.AppendUint32(b, uint32(len(p.data)))
		b = le.AppendUint32(b, uint32(len(p.data)))
		b = append(b, p.data...)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("writing a capture file: %w", err)
	}
	return nil
}
