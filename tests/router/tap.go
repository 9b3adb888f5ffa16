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
	Bytes   uint64 // with the Ethernet header, as Suricata's af-packet counts
}

// Net is the number of bytes without Ethernet headers, as the kernel's
// connection tracking counts.
func (c Count) Net() uint64 { return c.Bytes - ethernetHeader*c.Packets }

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
	d, ok := parse(frame)
	if !ok {
		return
	}
	c := t.counts[d]
	c.Packets++
	c.Bytes += uint64(len(frame))
	t.counts[d] = c
}

// parse finds the connection of a TCP or UDP packet without IP options or
// fragments, which nobody here sends.
func parse(frame []byte) (d direction, ok bool) {
	if len(frame) < ethernetHeader+20 {
		return d, false
	}
	ip := frame[ethernetHeader:]
	var from, to netip.Addr
	var ports []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		d.proto = ip[9]
		from, to = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		ports = ip[20:]
	case unix.ETH_P_IPV6:
		if len(ip) < 40 {
			return d, false
		}
		d.proto = ip[6]
		from, to = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		ports = ip[40:]
	}
	if d.proto != unix.IPPROTO_TCP && d.proto != unix.IPPROTO_UDP || len(ports) < 4 {
		return d, false
	}
	d.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports))
	d.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:]))
	return d, true
}

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
