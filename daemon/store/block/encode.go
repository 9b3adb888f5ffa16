package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"net/netip"
	"sync"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// What Encode takes and Decode gives. A block of 4096 flows with at most
// MaxHours hours has room for any names.
const (
	MaxFlows = 1<<16 - 1
	MaxHours = 1 << 17
	// MaxTime bounds starts and durations, in ms, and MaxBytes bytes.
	MaxTime  = 1 << 50
	MaxBytes = 1<<59 - 1
)

const (
	version = 1
	hour    = 3_600_000 // ms
	quarter = hour / 4

	// Bytes of all sections of a block before they are compressed.
	maxRaw = 8 << 20
)

// ErrTooLarge is what Encode returns for a block that exceeds a limit.
var ErrTooLarge = errors.New("block too large")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The form of a block: a byte of version, a CRC32C of all that follows and of
// the version, the number of flows, and sections: columns, each compressed on
// its own, so that it is coded by what is frequent in it, with its length in
// front. They are:
//
//	tables   counts of hours, interfaces, endpoints, applications and kinds, and these;
//	         a kind is what flows to one service share
//	lengths  of the names, a byte each, in order of first use
//	names    one after another
//	lengths  of the remote addresses, a byte each, in order of first use
//	IPv4     addresses, and
//	IPv6     addresses
//	flows    eleven columns of numbers, see columns, and two of bytes
//	hours    a column of bytes: how many quarters of an hour after a full one of UTC
//	         each begins; and three of numbers: how many hours that begin at the same
//	         quarter are between it and the one before, or the start of the flow, and
//	         the bytes sent and received
//	bits     what the columns of numbers do not say
//
// A number in a column is a byte that says how long it is, and its first three
// bits. The other bits, in which no two are alike, are in the last section. Up
// to 15, the byte says all.

// encoder is what encoding needs beside the block.
type encoder struct {
	zstd *zstd.Encoder
	dst  []byte
	raw  []byte // the section that is being made
	bits bitWriter
	size int // of all sections

	endpoints, names, apps, remotes []uint32 // the new number plus 1, 0 if it has none yet
	order                           struct{ endpoints, names, apps, remotes []uint32 }
	interfaces                      map[string]uint32
	interfaceOrder                  []string
	kinds                           map[kind]uint32
	kindOrder                       []kind
	kindOf                          []uint32 // of each flow
	recent                          recent
}

// kind is what flows to one service share.
type kind struct {
	proto, source, direction uint8
	hidden                   bool
	app                      uint32
}

// recent knows what a flow is likely to be: as the one before to the same
// remote address.
type recent struct {
	last  []uint32 // by remote: the index of its last flow plus 1
	ports []uint32 // by kind: the last port plus 1
}

// Encoders are pooled, so that their memory is free again when no block has
// been encoded for a while.
var encoders = sync.Pool{New: func() any {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true),
		zstd.WithAllLitEntropyCompression(true), // nothing else compresses most columns
		zstd.WithEncoderCRC(false))              // the block has one
	if err != nil {
		panic(err) // the options are wrong
	}
	return &encoder{zstd: z, interfaces: map[string]uint32{}, kinds: map[kind]uint32{}}
}}

// Encode appends b in its compact form to dst. Of the dictionary, only what
// flows refer to is in it. The flows must be in order of their ids, none twice,
// and each flow's hours in order, begin after it and at a quarter of an hour.
// The error wraps ErrTooLarge if b exceeds a limit. It may be called from
// any goroutine.
func Encode(dst []byte, b *Block) ([]byte, error) {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.dst = dst
	err := e.block(b)
	out := e.dst
	e.dst = nil
	if err != nil {
		return dst, fmt.Errorf("encode a block of %d flows: %w", len(b.Flows), err)
	}
	return out, nil
}

func (e *encoder) block(b *Block) error {
	if len(b.Flows) > MaxFlows {
		return fmt.Errorf("%w: more than %d flows", ErrTooLarge, MaxFlows)
	}
	e.size, e.raw = 0, e.raw[:0]
	e.bits = bitWriter{b: e.bits.b[:0]}
	hours, err := e.collect(b)
	if err != nil {
		return err
	}
	start := len(e.dst)
	e.dst = append(e.dst, version, 0, 0, 0, 0)
	e.dst = binary.AppendUvarint(e.dst, uint64(len(b.Flows)))
	if err := e.dictionary(b, hours); err != nil {
		return err
	}
	if err := e.flows(b); err != nil {
		return err
	}
	if err := e.hours(b); err != nil {
		return err
	}
	e.raw = e.bits.finish(e.raw)
	if err := e.section(); err != nil {
		return err
	}
	head := e.dst[start:]
	binary.LittleEndian.PutUint32(head[1:], checksum(head))
	return nil
}

// checksum is that of an encoded block.
func checksum(data []byte) uint32 {
	return crc32.Update(crc32.Checksum(data[:1], castagnoli), castagnoli, data[5:])
}

// section ends a section.
func (e *encoder) section() error {
	e.size += len(e.raw)
	if e.size > maxRaw {
		return fmt.Errorf("%w: more than %d bytes before compression", ErrTooLarge, maxRaw)
	}
	// The length goes in front when it is known: three bytes are enough for it,
	// as what does not become smaller is stored.
	at := len(e.dst)
	e.dst = append(e.dst, 0, 0, 0)
	e.dst = e.zstd.EncodeAll(e.raw, e.dst)
	n := len(e.dst) - at - 3
	e.dst[at], e.dst[at+1], e.dst[at+2] = byte(n), byte(n>>8), byte(n>>16)
	e.raw = e.raw[:0]
	return nil
}

// collect checks the flows, gives what they refer to new numbers and counts
// their hours.
func (e *encoder) collect(b *Block) (hours int, err error) {
	e.endpoints = zeroed(e.endpoints, len(b.Endpoints))
	e.names = zeroed(e.names, max(len(b.Names), 1))
	e.apps = zeroed(e.apps, max(len(b.Apps), 1))
	e.remotes = zeroed(e.remotes, max(len(b.Remotes), 1))
	e.names[0], e.apps[0], e.remotes[0] = 1, 1, 1
	o := &e.order
	o.endpoints, o.names, o.apps, o.remotes = o.endpoints[:0], o.names[:0], o.apps[:0], o.remotes[:0]
	o.names, o.apps, o.remotes = append(o.names, 0), append(o.apps, 0), append(o.remotes, 0)
	clear(e.kinds)
	clear(e.interfaces)
	e.kindOrder, e.kindOf, e.interfaceOrder = e.kindOrder[:0], e.kindOf[:0], e.interfaceOrder[:0]
	last := int64(-1)
	for i := range b.Flows {
		f := &b.Flows[i]
		switch {
		case f.ID <= last:
			return 0, fmt.Errorf("flow %d of id %d comes after id %d", i, f.ID, last)
		case f.Start() > MaxTime || f.Duration < 0 || f.Duration > MaxTime:
			return 0, fmt.Errorf("flow %d: start %d and duration %d: want at most %d", i, f.Start(), f.Duration, int64(MaxTime))
		case f.Sent > MaxBytes || f.Recvd > MaxBytes:
			return 0, fmt.Errorf("flow %d: %d bytes sent and %d received: want at most %d", i, f.Sent, f.Recvd, uint64(MaxBytes))
		case f.Flows == 0:
			return 0, fmt.Errorf("flow %d stands for no connection", i)
		case !first(e.endpoints, &o.endpoints, f.Endpoint) || !first(e.names, &o.names, f.Name) ||
			!first(e.apps, &o.apps, f.App) || !first(e.remotes, &o.remotes, f.Remote):
			return 0, fmt.Errorf("flow %d refers to what is not in the dictionary", i)
		case int(f.HourCount) > 0 && (int64(f.FirstHour)+int64(f.HourCount) > int64(len(b.Hours))):
			return 0, fmt.Errorf("flow %d refers to hours that are not in the block", i)
		}
		last = f.ID
		hours += int(f.HourCount)
		k := kind{f.Proto, f.Source, f.Direction, f.Hidden, e.apps[f.App] - 1}
		n, ok := e.kinds[k]
		if !ok {
			n = uint32(len(e.kindOrder))
			e.kinds[k] = n
			e.kindOrder = append(e.kindOrder, k)
		}
		e.kindOf = append(e.kindOf, n)
	}
	if hours > MaxHours {
		return 0, fmt.Errorf("%w: %d hours: want at most %d", ErrTooLarge, hours, MaxHours)
	}
	return hours, nil
}

// first gives the entry old a new number if it has none. It tells whether there
// is such an entry.
func first(numbers []uint32, order *[]uint32, old uint32) bool {
	if int64(old) >= int64(len(numbers)) {
		return false
	}
	if numbers[old] == 0 {
		*order = append(*order, old)
		numbers[old] = uint32(len(*order))
	}
	return true
}

func (e *encoder) dictionary(b *Block, hours int) error {
	for _, n := range e.order.endpoints {
		name := b.Endpoints[n].Interface
		if _, ok := e.interfaces[name]; !ok {
			e.interfaces[name] = uint32(len(e.interfaceOrder))
			e.interfaceOrder = append(e.interfaceOrder, name)
		}
	}
	for _, n := range []int{hours, len(e.interfaceOrder), len(e.order.endpoints), len(e.order.apps) - 1, len(e.kindOrder)} {
		e.uvarint(uint64(n))
	}
	for _, name := range e.interfaceOrder {
		if err := checkText(name); err != nil {
			return fmt.Errorf("interface: %w", err)
		}
		e.raw = append(append(e.raw, byte(len(name))), name...)
	}
	for _, n := range e.order.endpoints {
		p := &b.Endpoints[n]
		if p.Address.Zone() != "" {
			return fmt.Errorf("address %v has a zone", p.Address)
		}
		e.uvarint(uint64(e.interfaces[p.Interface]))
		e.raw = append(e.raw, p.MAC[:]...)
		a := p.Address.AsSlice()
		e.raw = append(append(e.raw, byte(len(a))), a...)
	}
	for _, n := range e.order.apps[1:] {
		if err := checkText(b.Apps[n]); err != nil {
			return fmt.Errorf("application: %w", err)
		}
		e.raw = append(append(e.raw, byte(len(b.Apps[n]))), b.Apps[n]...)
	}
	for _, k := range e.kindOrder {
		e.raw = append(e.raw, k.proto, k.source, k.direction)
		app := uint64(k.app) << 1
		if k.hidden {
			app |= 1
		}
		e.uvarint(app)
	}
	if err := e.section(); err != nil {
		return err
	}

	for _, n := range e.order.names[1:] {
		if err := checkText(b.Names[n]); err != nil {
			return fmt.Errorf("name: %w", err)
		}
		e.raw = append(e.raw, byte(len(b.Names[n])))
	}
	if err := e.section(); err != nil {
		return err
	}
	for _, n := range e.order.names[1:] {
		e.raw = append(e.raw, b.Names[n]...)
	}
	if err := e.section(); err != nil {
		return err
	}

	addr := func(n uint32) netip.Addr { return b.Remotes[n] }
	for _, n := range e.order.remotes[1:] {
		if addr(n).Zone() != "" {
			return fmt.Errorf("address %v has a zone", addr(n))
		}
		e.raw = append(e.raw, byte(addr(n).BitLen()/8))
	}
	if err := e.section(); err != nil {
		return err
	}
	for _, n := range e.order.remotes[1:] {
		if addr(n).Is4() {
			a := addr(n).As4()
			e.raw = append(e.raw, a[:]...)
		}
	}
	if err := e.section(); err != nil {
		return err
	}
	for _, n := range e.order.remotes[1:] {
		if addr(n).Is6() {
			a := addr(n).As16()
			e.raw = append(e.raw, a[:]...)
		}
	}
	return e.section()
}

func checkText(s string) error {
	if len(s) > MaxText || !utf8.ValidString(s) {
		return fmt.Errorf("%q: want UTF-8 of at most %d bytes", s, MaxText)
	}
	return nil
}

// The columns of numbers of flows.
const (
	columnStart    = iota // since the start of the flow before, ms
	columnCount           // low bits of the id; in the same ms, how many more than the flow before, less 1
	columnDuration        // ms
	columnRemote          // 0: one not seen before; else the number plus 1
	columnName            // 0: that of the last flow of the remote; 1: one not seen before; else the number plus 2
	columnPort            // 0: that of the last flow of the remote, else of the kind; else the port plus 1
	columnSent
	columnRecvd
	columnFlows   // less 1
	columnSeconds // only of those that stand for several
	columnHours   // how many
	columns
)

func (e *encoder) flows(b *Block) error {
	c := &e.recent
	c.ports = zeroed(c.ports, len(e.kindOrder))
	seenRemotes, seenNames := uint32(1), uint32(1)
	c.last = zeroed(c.last, len(e.order.remotes))
	for column := range columns {
		lastStart, lastCount := int64(0), int64(-1)
		for i := range b.Flows {
			f := &b.Flows[i]
			var v uint64
			switch column {
			case columnStart:
				v = uint64(f.Start() - lastStart)
				lastStart = f.Start()
			case columnCount:
				count := f.ID & (1<<IDShift - 1)
				v = uint64(count)
				if f.Start() == lastStart {
					v = uint64(count - lastCount - 1)
				}
				lastStart, lastCount = f.Start(), count
			case columnDuration:
				v = uint64(f.Duration)
			case columnRemote:
				if n := e.remotes[f.Remote] - 1; n == seenRemotes {
					seenRemotes++
				} else {
					v = uint64(n) + 1
				}
			case columnName:
				n := e.names[f.Name] - 1
				r := e.remotes[f.Remote] - 1
				predicted := uint32(0)
				if last := c.last[r]; last > 0 {
					predicted = e.names[b.Flows[last-1].Name] - 1
				}
				c.last[r] = uint32(i + 1)
				switch {
				case n == predicted:
				case n == seenNames:
					v = 1
				default:
					v = uint64(n) + 2
				}
				seenNames = max(seenNames, n+1)
			case columnPort:
				if i == 0 {
					clear(c.last)
				}
				r, k := e.remotes[f.Remote]-1, e.kindOf[i]
				predicted := max(c.ports[k], 1) - 1
				if last := c.last[r]; last > 0 {
					predicted = uint32(b.Flows[last-1].Port)
				}
				c.last[r], c.ports[k] = uint32(i+1), uint32(f.Port)+1
				if uint32(f.Port) != predicted {
					v = uint64(f.Port) + 1
				}
			case columnSent:
				v = f.Sent
			case columnRecvd:
				v = f.Recvd
			case columnFlows:
				v = uint64(f.Flows) - 1
			case columnSeconds:
				if f.Flows == 1 {
					continue
				}
				v = uint64(f.Seconds)
			case columnHours:
				v = uint64(f.HourCount)
			}
			e.number(v)
		}
		if err := e.section(); err != nil {
			return err
		}
	}
	for i := range b.Flows {
		e.uvarint(uint64(e.endpoints[b.Flows[i].Endpoint] - 1))
	}
	if err := e.section(); err != nil {
		return err
	}
	clear(c.last)
	for i := range b.Flows {
		r := e.remotes[b.Flows[i].Remote] - 1
		v := uint64(e.kindOf[i]) + 1
		if last := c.last[r]; last > 0 && e.kindOf[last-1] == e.kindOf[i] {
			v = 0
		}
		c.last[r] = uint32(i + 1)
		e.uvarint(v)
	}
	return e.section()
}

func (e *encoder) hours(b *Block) error {
	for i := range b.Flows {
		f := &b.Flows[i]
		last := f.Start()
		for _, h := range b.HoursOf(f) {
			if h.Start%quarter != 0 || h.Start <= last || h.Start > 2*MaxTime {
				return fmt.Errorf("flow %d has an hour that begins at %d", i, h.Start)
			}
			e.raw = append(e.raw, byte(h.Start%hour/quarter))
			last = h.Start
		}
	}
	if err := e.section(); err != nil {
		return err
	}
	for i := range b.Flows {
		f := &b.Flows[i]
		last := f.Start()
		for _, h := range b.HoursOf(f) {
			e.number(uint64(h.Start-last-1) / hour)
			last = h.Start
		}
	}
	if err := e.section(); err != nil {
		return err
	}
	for i := range b.Flows {
		for _, h := range b.HoursOf(&b.Flows[i]) {
			if h.Sent > MaxBytes || h.Recvd > MaxBytes {
				return fmt.Errorf("flow %d: %d bytes sent and %d received in an hour: want at most %d", i, h.Sent, h.Recvd, uint64(MaxBytes))
			}
			e.number(h.Sent)
		}
	}
	if err := e.section(); err != nil {
		return err
	}
	for i := range b.Flows {
		for _, h := range b.HoursOf(&b.Flows[i]) {
			e.number(h.Recvd)
		}
	}
	return e.section()
}

func (e *encoder) uvarint(v uint64) { e.raw = binary.AppendUvarint(e.raw, v) }

// number adds v, which must be below 1<<59, to a column.
func (e *encoder) number(v uint64) {
	if v < 16 {
		e.raw = append(e.raw, byte(v))
		return
	}
	n := bits.Len64(v) - 1
	low := n - 2
	e.raw = append(e.raw, byte(n<<2)|byte(v>>low&3))
	e.bits.write(v&(1<<low-1), low)
}

// bitWriter collects bits, the lowest first.
type bitWriter struct {
	b    []byte
	acc  uint64
	have int // bits of acc, below 8
}

// write adds the n low bits of v, which has no others; n is at most 56.
func (w *bitWriter) write(v uint64, n int) {
	w.acc |= v << w.have
	for w.have += n; w.have >= 8; w.have -= 8 {
		w.b = append(w.b, byte(w.acc))
		w.acc >>= 8
	}
}

// finish appends all bits to b.
func (w *bitWriter) finish(b []byte) []byte {
	b = append(b, w.b...)
	if w.have > 0 {
		b = append(b, byte(w.acc))
	}
	return b
}
