package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Numbers of linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
const (
	subsystem = 1              // NFNL_SUBSYS_CTNETLINK
	msgNew    = subsystem << 8 // IPCTNL_MSG_CT_NEW is 0
	msgGet    = subsystem<<8 | 1
	msgDelete = subsystem<<8 | 2

	ctaTupleOrig     = 1
	ctaTupleReply    = 2
	ctaStatus        = 3
	ctaProtoInfo     = 4
	ctaTimeout       = 7
	ctaCountersOrig  = 9
	ctaCountersReply = 10
	ctaID            = 12
	ctaZone          = 18
	ctaTimestamp     = 20

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum     = 1
	ctaProtoSrcPort = 2
	ctaProtoDstPort = 3

	ctaCountersPackets = 1
	ctaCountersBytes   = 2

	ctaTimestampStart = 1
	ctaTimestampStop  = 2

	ctaProtoInfoTCP      = 1
	ctaProtoInfoTCPState = 1

	headerLen = 16 // struct nlmsghdr
	nfgenLen  = 4  // struct nfgenmsg
)

// header is struct nlmsghdr.
type header struct {
	length uint32
	typ    uint16
	flags  uint16
}

var errShort = errors.New("a message is cut short")

// nextMessage cuts the first message off a datagram.
func nextMessage(b []byte) (h header, body, rest []byte, err error) {
	if len(b) < headerLen {
		return h, nil, nil, errShort
	}
	h = header{binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])}
	if h.length < headerLen || uint64(h.length) > uint64(len(b)) {
		return h, nil, nil, errShort
	}
	aligned := min((int(h.length)+3)&^3, len(b))
	return h, b[headerLen:h.length], b[aligned:], nil
}

// kind is what a message of ctnetlink tells, by its header.
func (h header) kind() (Kind, bool) {
	switch h.typ {
	case msgDelete:
		return Ended, true
	case msgNew:
		switch {
		case h.flags&unix.NLM_F_MULTI != 0:
			return Listed, true
		case h.flags&(unix.NLM_F_CREATE|unix.NLM_F_EXCL) != 0:
			return New, true
		}
		return Updated, true
	}
	return 0, false
}

// errorOf is the error in a message of type NLMSG_ERROR or NLMSG_DONE; nil if it
// tells of none.
func errorOf(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	if n := int32(binary.NativeEndian.Uint32(body)); n < 0 {
		return unix.Errno(-n)
	}
	return nil
}

// attribute is struct nlattr without its flags.
type attribute struct {
	typ  uint16
	data []byte
}

// next cuts the first attribute off b; ok is false at the end and for what is
// none.
func next(b []byte) (a attribute, rest []byte, ok bool) {
	if len(b) < 4 {
		return a, nil, false
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < 4 || n > len(b) {
		return a, nil, false
	}
	a = attribute{binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER), b[4:n]}
	return a, b[min((n+3)&^3, len(b)):], true
}

// decode reads the body of a message into e, all of which it sets.
func (e *Entry) decode(body []byte) error {
	*e = Entry{}
	if len(body) < nfgenLen {
		return errShort
	}
	counted := 0
	for a, rest, ok := next(body[nfgenLen:]); ok; a, rest, ok = next(rest) {
		switch a.typ {
		case ctaTupleOrig:
			var zone uint16
			if e.Proto, zone = e.Orig.decode(a.data); zone != 0 { // of this direction alone
				e.Zone = zone
			}
		case ctaTupleReply:
			e.Reply.decode(a.data)
		case ctaZone:
			e.Zone = uint16(number(a.data))
		case ctaStatus:
			e.Status = uint32(number(a.data))
		case ctaProtoInfo:
			e.TCPState = tcpState(a.data)
		case ctaTimeout:
			e.Timeout = uint32(number(a.data))
		case ctaCountersOrig:
			e.Sent = counter(a.data)
			counted++
		case ctaCountersReply:
			e.Recvd = counter(a.data)
			counted++
		case ctaID:
			e.ID = uint32(number(a.data))
		case ctaTimestamp:
			for a, rest, ok := next(a.data); ok; a, rest, ok = next(rest) {
				switch a.typ {
				case ctaTimestampStart:
					e.Start = int64(number(a.data))
				case ctaTimestampStop:
					e.Stop = int64(number(a.data))
				}
			}
		}
	}
	e.Counted = counted == 2
	if !e.Orig.Src.Addr().IsValid() || !e.Reply.Src.Addr().IsValid() {
		return fmt.Errorf("a message names no addresses")
	}
	return nil
}

// number is a big-endian number of up to 8 bytes.
func number(b []byte) (n uint64) {
	if len(b) > 8 {
		return 0
	}
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func counter(b []byte) (c Counter) {
	for a, rest, ok := next(b); ok; a, rest, ok = next(rest) {
		switch a.typ {
		case ctaCountersPackets:
			c.Packets = number(a.data)
		case ctaCountersBytes:
			c.Bytes = number(a.data)
		}
	}
	return c
}

func tcpState(b []byte) uint8 {
	for a, rest, ok := next(b); ok; a, rest, ok = next(rest) {
		if a.typ != ctaProtoInfoTCP {
			continue
		}
		for a, rest, ok := next(a.data); ok; a, rest, ok = next(rest) {
			if a.typ == ctaProtoInfoTCPState {
				return uint8(number(a.data))
			}
		}
	}
	return 0
}

// decode reads a tuple and returns its protocol, and its zone if it has one of its
// own.
func (t *Tuple) decode(b []byte) (proto uint8, zone uint16) {
	var src, dst netip.Addr
	var srcPort, dstPort uint16
	for a, rest, ok := next(b); ok; a, rest, ok = next(rest) {
		switch a.typ {
		case ctaTupleIP:
			for a, rest, ok := next(a.data); ok; a, rest, ok = next(rest) {
				switch a.typ {
				case ctaIPv4Src, ctaIPv6Src:
					src, _ = netip.AddrFromSlice(a.data)
				case ctaIPv4Dst, ctaIPv6Dst:
					dst, _ = netip.AddrFromSlice(a.data)
				}
			}
		case ctaTupleZone:
			zone = uint16(number(a.data))
		case ctaTupleProto:
			for a, rest, ok := next(a.data); ok; a, rest, ok = next(rest) {
				switch a.typ {
				case ctaProtoNum:
					proto = uint8(number(a.data))
				case ctaProtoSrcPort:
					srcPort = uint16(number(a.data))
				case ctaProtoDstPort:
					dstPort = uint16(number(a.data))
				}
			}
		}
	}
	t.Src, t.Dst = netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort)
	return proto, zone
}
