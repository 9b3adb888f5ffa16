package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"unicode/utf8"

	"pakon/daemon/client"

	"github.com/klauspost/compress/zstd"
)

// ErrDamaged is what Decode returns for what Encode has not made.
var ErrDamaged = errors.New("block is damaged")

// decoder is what decoding needs beside the block that it fills.
type decoder struct {
	zstd   *zstd.Decoder
	in     []byte   // what is left of the encoded block
	raw    []byte   // all sections so far
	column []uint64 // the numbers of a column
	heads  [columns + 3][]byte
	bits   []byte // with 8 zeros behind
	bit    int    // how many of bits were read
	kinds  []kind
	kindOf []uint32 // of each flow
	recent recent
}

// Decoders are pooled, so that their memory is free again when no block has been
// decoded for a while.
var decoders = sync.Pool{New: func() any {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecoderMaxWindow(maxRaw),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are wrong
	}
	return &decoder{zstd: z}
}}

// Decode replaces b by what Encode has made data of, in b's memory as far as
// that is enough. The error wraps ErrDamaged; then b is empty. It may be called
// from any goroutine.
func Decode(b *Block, data []byte) error {
	b.endpoints, b.names, b.apps, b.remotes = nil, nil, nil, nil
	b.Reset()
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	err := d.block(b, data)
	d.in, d.bits = nil, nil
	clear(d.heads[:])
	if err != nil {
		b.Reset()
		return fmt.Errorf("decode a block of %d bytes: %w", len(data), err)
	}
	return nil
}

func damaged(what string) error { return fmt.Errorf("%w: %s", ErrDamaged, what) }

func (d *decoder) block(b *Block, data []byte) error {
	if len(data) < 6 {
		return damaged("it ends early")
	}
	if checksum(data) != binary.LittleEndian.Uint32(data[1:]) {
		return damaged("its checksum is wrong")
	}
	if data[0] != version {
		return damaged(fmt.Sprintf("it is of version %d", data[0]))
	}
	d.in, d.bit = data[5:], 0
	d.raw = slices.Grow(d.raw[:0], min(3*len(data), maxRaw)) // usually enough for all of it
	flows, n := binary.Uvarint(d.in)
	if n <= 0 || flows > MaxFlows {
		return damaged("number of flows")
	}
	d.in = d.in[n:]
	hours, err := d.tables(b)
	if err != nil {
		return err
	}
	if err := d.names(b); err != nil {
		return err
	}
	if err := d.remotes(b); err != nil {
		return err
	}
	return d.flows(b, int(flows), hours)
}

// section is the next section. It is good until the next block is decoded.
func (d *decoder) section() ([]byte, error) {
	if len(d.in) < 3 {
		return nil, damaged("it ends early")
	}
	n := int(d.in[0]) | int(d.in[1])<<8 | int(d.in[2])<<16
	if n > len(d.in)-3 {
		return nil, damaged("it ends early")
	}
	var h zstd.Header
	if err := h.Decode(d.in[3 : 3+n]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	from := len(d.raw)
	if !h.HasFCS || h.FrameContentSize > uint64(maxRaw-from) {
		return nil, damaged("it is too large")
	}
	// Decoding takes no more memory than there is then. It is faster with some to spare.
	size := int(h.FrameContentSize)
	d.raw = slices.Grow(d.raw, size+64)
	raw, err := d.zstd.DecodeAll(d.in[3:3+n], d.raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(raw) != from+size {
		return nil, damaged("length of a section")
	}
	d.raw, d.in = raw, d.in[3+n:]
	return raw[from:], nil
}

// fields reads a section of fields one after another. Past the end they are
// empty, and bad is set.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uvarint(limit int) int {
	v, n := binary.Uvarint(f.b)
	if n <= 0 || limit < 0 || v > uint64(limit) {
		f.b, f.bad = nil, true
		return 0
	}
	f.b = f.b[n:]
	return int(v)
}

func (f *fields) bytes(n int) []byte {
	if n > len(f.b) {
		f.b, f.bad = nil, true
		return nil
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (f *fields) text() string {
	b := f.bytes(int(f.byte()))
	f.bad = f.bad || !utf8.Valid(b)
	return string(b)
}

// tables reads the first section, and tells how many hours there are.
func (d *decoder) tables(b *Block) (hours int, err error) {
	s, err := d.section()
	if err != nil {
		return 0, err
	}
	f := fields{b: s}
	hours = f.uvarint(MaxHours)
	// Each entry takes a byte at least.
	nInterfaces, nEndpoints := f.uvarint(len(s)), f.uvarint(len(s))
	nApps, nKinds := f.uvarint(len(s)), f.uvarint(len(s))
	var interfaces []string
	for range nInterfaces {
		if f.bad {
			break
		}
		interfaces = append(interfaces, f.text())
	}
	for range nEndpoints {
		n := f.uvarint(nInterfaces - 1)
		e := Endpoint{}
		copy(e.MAC[:], f.bytes(len(client.MAC{})))
		if size := int(f.byte()); size != 0 {
			var ok bool
			e.Address, ok = netip.AddrFromSlice(f.bytes(size))
			f.bad = f.bad || !ok
		}
		if f.bad {
			break
		}
		e.Interface = interfaces[n]
		b.Endpoints = append(b.Endpoints, e)
	}
	for range nApps {
		if f.bad {
			break
		}
		b.Apps = append(b.Apps, f.text())
	}
	d.kinds = d.kinds[:0]
	for range nKinds {
		if f.bad {
			break
		}
		k := kind{proto: f.byte(), source: f.byte(), direction: f.byte()}
		app := f.uvarint(2*nApps + 1)
		k.hidden, k.app = app&1 != 0, uint32(app>>1)
		d.kinds = append(d.kinds, k)
	}
	if f.bad || len(f.b) > 0 {
		return 0, damaged("tables")
	}
	return hours, nil
}

func (d *decoder) names(b *Block) error {
	lengths, err := d.section()
	if err != nil {
		return err
	}
	s, err := d.section()
	if err != nil {
		return err
	}
	all := string(s)
	b.Names = slices.Grow(b.Names, len(lengths))
	for _, n := range lengths {
		if int(n) > len(all) || !utf8.ValidString(all[:n]) {
			return damaged("names")
		}
		b.Names = append(b.Names, all[:n])
		all = all[n:]
	}
	if all != "" {
		return damaged("names")
	}
	return nil
}

func (d *decoder) remotes(b *Block) error {
	lengths, err := d.section()
	if err != nil {
		return err
	}
	v4, err := d.section()
	if err != nil {
		return err
	}
	v6, err := d.section()
	if err != nil {
		return err
	}
	b.Remotes = slices.Grow(b.Remotes, len(lengths))
	for _, n := range lengths {
		switch {
		case n == 4 && len(v4) >= 4:
			b.Remotes = append(b.Remotes, netip.AddrFrom4([4]byte(v4)))
			v4 = v4[4:]
		case n == 16 && len(v6) >= 16:
			b.Remotes = append(b.Remotes, netip.AddrFrom16([16]byte(v6)))
			v6 = v6[16:]
		default:
			return damaged("remote addresses")
		}
	}
	if len(v4)+len(v6) > 0 {
		return damaged("remote addresses")
	}
	return nil
}

// flows reads the columns. All sections come first, so that nothing is taken for
// flows that are not there.
func (d *decoder) flows(b *Block, n, hours int) error {
	var err error
	head := func(i, n int) {
		if err == nil {
			d.heads[i], err = d.section()
		}
		if err == nil && len(d.heads[i]) != n {
			err = damaged("length of a column")
		}
	}
	several := 0
	for i := range columns {
		if i == columnSeconds {
			head(i, several)
			continue
		}
		head(i, n)
		if i == columnFlows {
			for _, h := range d.heads[i] {
				if h != 0 {
					several++
				}
			}
		}
	}
	if err != nil {
		return err
	}
	endpoints, err := d.section()
	if err != nil {
		return err
	}
	kinds, err := d.section()
	if err != nil {
		return err
	}
	quarters, err := d.section()
	if err != nil {
		return err
	}
	if len(quarters) != hours {
		return damaged("length of a column")
	}
	for i := range 3 {
		head(columns+i, hours)
	}
	if err != nil {
		return err
	}
	if d.bits, err = d.section(); err != nil {
		return err
	}
	if len(d.in) > 0 {
		return damaged("something comes after its end")
	}
	size := len(d.bits)
	d.raw = append(d.raw, 0, 0, 0, 0, 0, 0, 0, 0)
	d.bits = d.raw[len(d.raw)-8-size:]

	b.Flows = slices.Grow(b.Flows, n)[:n]
	b.Hours = slices.Grow(b.Hours, hours)[:hours]
	d.column = slices.Grow(d.column[:0], max(n, hours))
	for _, step := range []struct {
		what string
		read func(*Block) bool
	}{
		{"starts", d.ids}, {"durations", d.durations},
		{"remote addresses of flows", d.flowRemotes}, {"names of flows", d.flowNames},
		{"kinds", func(b *Block) bool { return d.flowKinds(b, kinds) }}, {"ports", d.ports},
		{"bytes", d.bytes}, {"counts", d.counts},
		{"endpoints", func(b *Block) bool { return d.flowEndpoints(b, endpoints) }},
		{"hours", func(b *Block) bool { return d.hours(b, quarters) }},
	} {
		if !step.read(b) {
			return damaged(step.what)
		}
	}
	if (d.bit+7)/8 != size {
		return damaged("bits")
	}
	return nil
}

// numbers are those of a column, until the next are read. They must be read in
// the order in which they were written. It is false if one is above limit.
func (d *decoder) numbers(column int, limit uint64) ([]uint64, bool) {
	head := d.heads[column]
	out := d.column[:len(head)]
	bits, at := d.bits, d.bit
	most := uint64(0)
	for i, h := range head {
		v := uint64(h)
		if h >= 16 {
			n := uint(h>>2) - 2
			from := at >> 3
			if n > 56 || from > len(bits)-8 {
				return nil, false
			}
			v = binary.LittleEndian.Uint64(bits[from:])>>(at&7)&(1<<n-1) | uint64(4|h&3)<<n
			at += int(n)
		}
		most = max(most, v)
		out[i] = v
	}
	d.bit = at
	return out, most <= limit
}

// indexes are n numbers up to limit of a column of bytes, until other numbers
// are read.
func (d *decoder) indexes(s []byte, n, limit int) ([]uint64, bool) {
	out := d.column[:n]
	for i := range out {
		if len(s) == 0 {
			return nil, false
		}
		v, size := uint64(s[0]), 1
		if v >= 0x80 {
			v, size = binary.Uvarint(s)
		}
		if size <= 0 || limit < 0 || v > uint64(limit) {
			return nil, false
		}
		out[i], s = v, s[size:]
	}
	return out, len(s) == 0
}

func (d *decoder) ids(b *Block) bool {
	numbers, ok := d.numbers(columnStart, MaxTime)
	if !ok {
		return false
	}
	start := int64(0)
	for i, v := range numbers {
		start += int64(v)
		if start > MaxTime {
			return false
		}
		b.Flows[i].ID = start << IDShift
	}
	if numbers, ok = d.numbers(columnCount, 1<<IDShift-1); !ok {
		return false
	}
	start = 0
	count := int64(-1)
	for i, v := range numbers {
		f := &b.Flows[i]
		if f.ID == start {
			count += int64(v) + 1
		} else {
			start, count = f.ID, int64(v)
		}
		if count >= 1<<IDShift {
			return false
		}
		f.ID |= count
	}
	return true
}

func (d *decoder) durations(b *Block) bool {
	numbers, ok := d.numbers(columnDuration, MaxTime)
	for i, v := range numbers {
		b.Flows[i].Duration = int64(v)
	}
	return ok
}

func (d *decoder) flowRemotes(b *Block) bool {
	numbers, ok := d.numbers(columnRemote, uint64(len(b.Remotes)))
	seen := uint32(1)
	for i, v := range numbers {
		n := uint32(v) - 1
		if v == 0 {
			n = seen
			seen++
		}
		b.Flows[i].Remote = n
	}
	return ok && int(seen) == len(b.Remotes)
}

func (d *decoder) flowNames(b *Block) bool {
	numbers, ok := d.numbers(columnName, uint64(len(b.Names))+1)
	if !ok {
		return false
	}
	// Here, it is the last name and not the last flow.
	last := zeroed(d.recent.last, len(b.Remotes))
	d.recent.last = last
	seen := uint32(1)
	for i, v := range numbers {
		f := &b.Flows[i]
		n := uint32(v) - 2
		switch v {
		case 0:
			n = last[f.Remote]
		case 1:
			n = seen
			seen++
		}
		last[f.Remote] = n
		f.Name = n
	}
	return int(seen) == len(b.Names)
}

func (d *decoder) flowKinds(b *Block, s []byte) bool {
	numbers, ok := d.indexes(s, len(b.Flows), len(d.kinds))
	if !ok {
		return false
	}
	last := zeroed(d.recent.last, len(b.Remotes))
	d.recent.last = last
	d.kindOf = slices.Grow(d.kindOf[:0], len(numbers))[:len(numbers)]
	for i, v := range numbers {
		f := &b.Flows[i]
		n := uint32(v)
		if v == 0 {
			n = last[f.Remote]
		}
		if n == 0 {
			return false
		}
		last[f.Remote] = n
		k := &d.kinds[n-1]
		f.Proto, f.Source, f.Direction, f.Hidden, f.App = k.proto, k.source, k.direction, k.hidden, k.app
		d.kindOf[i] = n - 1
	}
	return true
}

func (d *decoder) ports(b *Block) bool {
	numbers, ok := d.numbers(columnPort, 1<<16)
	if !ok {
		return false
	}
	// Here, it is the last port plus 1.
	last := zeroed(d.recent.last, len(b.Remotes))
	ports := zeroed(d.recent.ports, len(d.kinds))
	d.recent.last, d.recent.ports = last, ports
	for i, v := range numbers {
		f := &b.Flows[i]
		n := uint32(v)
		if v == 0 {
			n = last[f.Remote]
		}
		if n == 0 {
			n = max(ports[d.kindOf[i]], 1)
		}
		last[f.Remote], ports[d.kindOf[i]] = n, n
		f.Port = uint16(n - 1)
	}
	return true
}

func (d *decoder) bytes(b *Block) bool {
	numbers, ok := d.numbers(columnSent, MaxBytes)
	if !ok {
		return false
	}
	for i, v := range numbers {
		b.Flows[i].Sent = v
	}
	numbers, ok = d.numbers(columnRecvd, MaxBytes)
	for i, v := range numbers {
		b.Flows[i].Recvd = v
	}
	return ok
}

func (d *decoder) counts(b *Block) bool {
	numbers, ok := d.numbers(columnFlows, math.MaxUint32-1)
	if !ok {
		return false
	}
	for i, v := range numbers {
		b.Flows[i].Flows, b.Flows[i].Seconds = uint32(v)+1, 0
	}
	if numbers, ok = d.numbers(columnSeconds, math.MaxUint32); !ok {
		return false
	}
	for i := range b.Flows {
		if f := &b.Flows[i]; f.Flows > 1 {
			f.Seconds, numbers = uint32(numbers[0]), numbers[1:]
		}
	}
	if numbers, ok = d.numbers(columnHours, math.MaxUint16); !ok {
		return false
	}
	first := uint32(0)
	for i, v := range numbers {
		b.Flows[i].FirstHour, b.Flows[i].HourCount = first, uint16(v)
		first += uint32(v)
	}
	return int(first) == len(b.Hours) // MaxFlows times as many does not overflow
}

func (d *decoder) flowEndpoints(b *Block, s []byte) bool {
	numbers, ok := d.indexes(s, len(b.Flows), len(b.Endpoints)-1)
	for i, v := range numbers {
		b.Flows[i].Endpoint = uint32(v)
	}
	return ok
}

func (d *decoder) hours(b *Block, quarters []byte) bool {
	numbers, ok := d.numbers(columns, 2*MaxTime/hour)
	if !ok {
		return false
	}
	for i := range b.Flows {
		f := &b.Flows[i]
		last := f.Start()
		hours := b.HoursOf(f)
		for j := range hours {
			n := int(f.FirstHour) + j
			start := last - last%hour + int64(quarters[n])*quarter
			if start <= last {
				start += hour
			}
			start += int64(numbers[n]) * hour
			if quarters[n] > 3 || start > 2*MaxTime {
				return false
			}
			hours[j].Start, last = start, start
		}
	}
	if numbers, ok = d.numbers(columns+1, MaxBytes); !ok {
		return false
	}
	for i, v := range numbers {
		b.Hours[i].Sent = v
	}
	numbers, ok = d.numbers(columns+2, MaxBytes)
	for i, v := range numbers {
		b.Hours[i].Recvd = v
	}
	return ok
}
