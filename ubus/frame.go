package ubus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MessageType is the type of a frame.
type MessageType uint8

const (
	MsgHello        MessageType = 0
	MsgStatus       MessageType = 1
	MsgData         MessageType = 2
	MsgPing         MessageType = 3
	MsgLookup       MessageType = 4
	MsgInvoke       MessageType = 5
	MsgAddObject    MessageType = 6
	MsgRemoveObject MessageType = 7
	MsgSubscribe    MessageType = 8
	MsgUnsubscribe  MessageType = 9
	MsgNotify       MessageType = 10
	MsgMonitor      MessageType = 11
)

// The system objects of a broker.
const (
	ObjectEvents  uint32 = 1
	ObjectACL     uint32 = 2
	ObjectMonitor uint32 = 3
)

// MaxMessage is the largest outer length, padded, that a broker takes from a client, in bytes; a frame is 8 more.
// MaxForwarded is what a client must take from a broker, which does not look at the limit again when it has added the
// caller's USER and GROUP to a call. MaxReply is the largest content of a reply's DATA.
const (
	MaxMessage   = 1 << 20
	MaxForwarded = MaxMessage + 1024
	MaxReply     = MaxMessage - attrHead - 8 - attrHead
)

// HeaderLen is the number of bytes before a frame's body: 8 of the frame, 4 of the outer attribute's head.
const HeaderLen = 12

var (
	// ErrTooLong: a message is over the limit of the bus and was not sent, or a frame that came announces to be.
	ErrTooLong = errors.New("message over the limit of the bus")
	// ErrFrame: what came is no frame. There is no way to find the next one.
	ErrFrame = errors.New("malformed frame")
)

// Message is one frame. All of it that is not in the fields is in Body: the attributes, see ParseAttrs.
type Message struct {
	Version uint8
	Type    MessageType
	Seq     uint16
	Peer    uint32
	// Outer is the top byte of the outer attribute's head, 0 but in hand-made frames; the echo of a PING repeats it.
	Outer uint8
	Body  []byte
}

// Attrs parses the attributes of the body, which they share.
func (m *Message) Attrs() Attrs { return ParseAttrs(m.Body) }

// Append appends the whole frame. A body over MaxMessage is not refused here: a broker passes on what it took.
func (m *Message) Append(b []byte) []byte {
	b = append(b, m.Version, byte(m.Type), byte(m.Seq>>8), byte(m.Seq))
	b = binary.BigEndian.AppendUint32(b, m.Peer)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Outer)<<24|uint32(len(m.Body)+attrHead)&attrLenMask)
	return append(b, m.Body...)
}

// Reader reads frames from a stream, however it is split.
type Reader struct {
	r   io.Reader
	max int
	// head is here and not on the stack, from where it would escape with each frame.
	head [HeaderLen]byte
}

// NewReader reads frames whose outer length, padded, is at most max (MaxMessage in a broker, MaxForwarded in a client)
// from r, which should be buffered.
func NewReader(r io.Reader, max int) *Reader { return &Reader{r: r, max: max} }

// firstRead bounds the memory that a header alone can make its receiver take.
const firstRead = 64 << 10

// Read reads one frame; its Body is newly made. The error is io.EOF at the end of the stream between two frames,
// io.ErrUnexpectedEOF inside one; ErrTooLong and ErrFrame leave the stream unusable.
func (r *Reader) Read(m *Message) error {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return err
	}
	h := &r.head
	m.Version, m.Type, m.Seq = h[0], MessageType(h[1]), binary.BigEndian.Uint16(h[2:])
	m.Peer, m.Outer = binary.BigEndian.Uint32(h[4:]), h[8]
	outer := int(binary.BigEndian.Uint32(h[8:]) & attrLenMask)
	if outer < attrHead {
		return fmt.Errorf("%w: outer length %d", ErrFrame, outer)
	}
	if pad(outer) > r.max {
		return fmt.Errorf("%w: outer length %d, at most %d", ErrTooLong, outer, r.max)
	}
	var err error
	m.Body, err = readBody(r.r, outer-attrHead)
	return err
}

func readBody(r io.Reader, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, min(n, firstRead))
	for got := 0; ; {
		k, err := io.ReadFull(r, b[got:])
		got += k
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if got == n {
			return b, nil
		}
		more := make([]byte, min(n, 4*got))
		copy(more, b)
		b = more
	}
}

// BeginFrame starts a frame in b, which must be empty; attributes are then appended to it and EndFrame sets its
// length.
func BeginFrame(b []byte, typ MessageType, seq uint16, peer uint32) []byte {
	m := Message{Type: typ, Seq: seq, Peer: peer}
	return m.Append(b)
}

// EndFrame sets the length of the frame that b is; ErrTooLong if a broker would not take it.
func EndFrame(b []byte) error {
	outer := len(b) - HeaderLen + attrHead
	if pad(outer) > MaxMessage {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, outer, MaxMessage)
	}
	b[9], b[10], b[11] = byte(outer>>16), byte(outer>>8), byte(outer)
	return nil
}
