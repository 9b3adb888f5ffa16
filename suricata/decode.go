package suricata

import (
	"errors"
	"fmt"
	"net/netip"
)

// MaxLine is the length of the longest line that is decoded, in bytes, its
// newline included.
const MaxLine = 64 << 10

// What can be wrong with an event.
var (
	ErrTooLong    = errors.New("line too long")
	ErrSyntax     = errors.New("not valid JSON")
	ErrDepth      = errors.New("nested too deep")
	ErrValue      = errors.New("not a value that this field can have")
	ErrIncomplete = errors.New("missing")
)

// DecodeError tells what is wrong with an event, and where.
type DecodeError struct {
	Err    error  // one of the errors above
	Field  string // the innermost known field, if in one
	Offset int    // in bytes from the beginning of the line
}

func (e *DecodeError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("event: byte %d: %v", e.Offset, e.Err)
	}
	return fmt.Sprintf("event: %s, byte %d: %v", e.Field, e.Offset, e.Err)
}

// Unwrap returns one of the package's errors.
func (e *DecodeError) Unwrap() error { return e.Err }

// Decoder decodes events; its zero value is ready. It keeps a buffer for
// strings with escapes. It is not for concurrent use.
type Decoder struct {
	scanner
	ev      *Event
	bodies  [kinds]int // where the object named like each kind begins; 0: nowhere
	decoded int        // where the body that ev holds begins; 0: none yet
	orders  orders

	timed, started, ended bool // timestamp, start and end were there: 0 is a time, too
}

// Decode decodes one line, with or without its newline, into ev. The whole line
// is checked. Of duplicate keys the last one counts; null is as good as absent;
// unknown keys are passed over. DNS, TLS, HTTP, QUIC and Flow events have a
// time and two addresses, and all kinds but Other the object with their name,
// or they are wrong. The error is a *DecodeError; what ev holds then is
// undefined.
func (d *Decoder) Decode(line []byte, ev *Event) error {
	*ev = Event{DNS: Message{Answers: ev.DNS.Answers[:0]}, AltNames: ev.AltNames[:0]}
	if len(line) > MaxLine {
		return &DecodeError{Err: ErrTooLong, Offset: MaxLine}
	}
	d.b, d.scratch, d.ev = line, d.scratch[:0], ev
	d.bodies, d.decoded = [kinds]int{}, 0
	d.timed, d.started, d.ended = false, false, false
	if d.event() < 0 {
		e := d.err
		d.err = DecodeError{}
		return &e
	}
	return nil
}

// missing records that the event lacks a field.
func (d *Decoder) missing(field string) int {
	d.err.Field = field
	return d.fail(ErrIncomplete, len(d.b))
}

// event decodes the line.
func (d *Decoder) event() int {
	end := d.top(d.space(0))
	if end < 0 {
		return -1
	}
	if end = d.space(end); end != len(d.b) {
		return d.fail(ErrSyntax, end)
	}
	ev := d.ev
	if ev.Kind == Other {
		if len(ev.Type) == 0 {
			return d.missing("event_type")
		}
		return end
	}
	// The body stood before event_type, or stands there twice.
	if at := d.bodies[ev.Kind]; at == 0 {
		return d.missing(ev.Kind.String())
	} else if at != d.decoded && d.body(at) < 0 {
		return -1
	}
	if ev.Kind != Stats {
		return d.complete(end)
	}
	return end
}

// complete checks that an event of the network has what makes it one.
func (d *Decoder) complete(end int) int {
	switch ev := d.ev; {
	case !d.timed:
		return d.missing("timestamp")
	case !ev.Src.IsValid():
		return d.missing("src_ip")
	case !ev.Dst.IsValid():
		return d.missing("dest_ip")
	case ev.Kind == Flow && !d.started:
		return d.missing("start")
	case ev.Kind == Flow && !d.ended:
		return d.missing("end")
	}
	return end
}

// top decodes the object that is the event.
func (d *Decoder) top(i int) int {
	var src, dst netip.Addr
	var srcPort, dstPort uint64
	ev := d.ev
	i, more := d.open(i, '{', '}')
	last := uint8(0)
	for more {
		key, j := d.member(i, eventKeys, &d.orders.event[ev.Kind], last)
		if j < 0 {
			return -1
		}
		switch key {
		case keyTimestamp:
			ev.Time, d.timed, j = d.time(j)
		case keyFlowID:
			ev.FlowID, j = d.number(j, 1<<64-1)
		case keyInIface:
			ev.Interface, j = d.text(j)
		case keyEventType:
			j = d.eventType(j)
		case keySrcIP:
			src, j = d.addr(j)
		case keySrcPort:
			srcPort, j = d.number(j, 1<<16-1)
		case keyDestIP:
			dst, j = d.addr(j)
		case keyDestPort:
			dstPort, j = d.number(j, 1<<16-1)
		case keyProto:
			ev.Proto, j = d.proto(j)
		case keyAppProto:
			ev.App, j = d.text(j)
		case keyEther:
			j = d.ether(j)
		case keyDNS:
			j = d.bodyOf(DNS, j)
		case keyTLS:
			j = d.bodyOf(TLS, j)
		case keyHTTP:
			j = d.bodyOf(HTTP, j)
		case keyQUIC:
			j = d.bodyOf(QUIC, j)
		case keyFlow:
			j = d.bodyOf(Flow, j)
		case keyStats:
			j = d.bodyOf(Stats, j)
		case keyTCP:
			j = d.tcp(j)
		default:
			j = d.skip(j)
		}
		if j < 0 {
			return d.in(eventKeys, key)
		}
		i, more = d.more(j, '}')
		last = key
	}
	if i < 0 {
		return -1
	}
	if src.IsValid() {
		ev.Src = netip.AddrPortFrom(src, uint16(srcPort))
	}
	if dst.IsValid() {
		ev.Dst = netip.AddrPortFrom(dst, uint16(dstPort))
	}
	ev.Midstream = ev.Midstream && ev.Kind == Flow
	ev.Unrecognised = string(ev.App) == "failed"
	if ev.Unrecognised || string(ev.App) == "unknown" {
		ev.App = nil
	}
	return i
}

func (d *Decoder) eventType(i int) int {
	typ, next := d.text(i)
	d.ev.Type, d.ev.Kind = typ, kindOf(typ)
	if d.decoded != 0 {
		d.clearBody()
	}
	return next
}

// clearBody forgets the body decoded so far.
func (d *Decoder) clearBody() {
	ev := d.ev
	ev.DNS = Message{Answers: ev.DNS.Answers[:0]}
	ev.Name, ev.Subject, ev.AltNames = nil, nil, ev.AltNames[:0]
	ev.Flow, ev.Stats = FlowEnd{}, StatsCounters{}
	d.decoded, d.started, d.ended = 0, false, false
}

// bodyOf handles the object named like kind: it is decoded if the event is
// known to be of that kind, else its place is kept for when it is known to be.
// Other events have such objects too: an alert its flow, for one.
func (d *Decoder) bodyOf(kind Kind, i int) int {
	d.bodies[kind] = i
	if d.isNull(i) {
		d.bodies[kind] = 0
	}
	if d.ev.Kind != kind || d.bodies[kind] == 0 {
		return d.skip(i)
	}
	return d.body(i)
}

// body decodes the body of an event whose kind is known.
func (d *Decoder) body(i int) int {
	if d.decoded != 0 {
		d.clearBody()
	}
	d.decoded = i
	switch d.ev.Kind {
	case DNS:
		return d.dns(i)
	case TLS:
		return d.named(i, tlsKeys, &d.orders.tls)
	case HTTP:
		return d.named(i, httpKeys, &d.orders.http)
	case QUIC:
		return d.named(i, quicKeys, &d.orders.quic)
	case Flow:
		return d.flow(i)
	}
	return d.stats(i)
}

// named reads an object that holds the server's name.
func (d *Decoder) named(i int, keys *keySet, order *followers) int {
	var authority []byte
	i, more := d.open(i, '{', '}')
	last := uint8(0)
	for more {
		key, j := d.member(i, keys, order, last)
		if j < 0 {
			return -1
		}
		switch key {
		case keyName:
			d.ev.Name, j = d.text(j)
		case keySubject:
			d.ev.Subject, j = d.text(j)
		case keyAltNames:
			j = d.altNames(j)
		case keyRequestHeaders:
			authority, j = d.authority(j)
		default:
			j = d.skip(j)
		}
		if j < 0 {
			return d.in(keys, key)
		}
		i, more = d.more(j, '}')
		last = key
	}
	if len(authority) > 0 {
		d.ev.Name = authority // a Host beside it does not count (RFC 9113, section 8.3.1)
	}
	return i
}

// altNames reads the subjectAltNames of a certificate.
func (d *Decoder) altNames(i int) int {
	ev := d.ev
	ev.AltNames = ev.AltNames[:0]
	if d.at(i) != '[' {
		return d.skip(i)
	}
	i, more := d.open(i, '[', ']')
	for more {
		var n []byte
		if n, i = d.textOrOther(i); i < 0 {
			return -1
		}
		if len(n) > 0 && len(ev.AltNames) < MaxAltNames {
			ev.AltNames = append(ev.AltNames, n)
		}
		i, more = d.more(i, ']')
	}
	return i
}

// authority reads the :authority among the headers of a request of HTTP/2.
func (d *Decoder) authority(i int) (value []byte, next int) {
	if d.at(i) != '[' {
		return nil, d.skip(i)
	}
	i, more := d.open(i, '[', ']')
	for more {
		if d.at(i) != '{' {
			i = d.skip(i)
		} else {
			var n, v []byte
			if n, v, i = d.header(i); string(n) == ":authority" && len(v) > 0 {
				value = v
			}
		}
		if i < 0 {
			return nil, -1
		}
		i, more = d.more(i, ']')
	}
	return value, i
}

func (d *Decoder) header(i int) (name, value []byte, next int) {
	i, more := d.open(i, '{', '}')
	last := uint8(0)
	for more {
		key, j := d.member(i, headerKeys, &d.orders.header, last)
		if j < 0 {
			return nil, nil, -1
		}
		switch key {
		case keyHeaderName:
			name, j = d.textOrOther(j)
		case keyHeaderValue:
			value, j = d.textOrOther(j)
		default:
			j = d.skip(j)
		}
		if j < 0 {
			return nil, nil, -1
		}
		i, more = d.more(j, '}')
		last = key
	}
	return name, value, i
}

func (d *Decoder) flow(i int) int {
	f := &d.ev.Flow
	i, more := d.open(i, '{', '}')
	last := uint8(0)
	for more {
		key, j := d.member(i, flowKeys, &d.orders.flow, last)
		if j < 0 {
			return -1
		}
		switch key {
		case keyPktsToServer:
			f.PktsToServer, j = d.number(j, 1<<64-1)
		case keyPktsToClient:
			f.PktsToClient, j = d.number(j, 1<<64-1)
		case keyBytesToServer:
			f.BytesToServer, j = d.number(j, 1<<64-1)
		case keyBytesToClient:
			f.BytesToClient, j = d.number(j, 1<<64-1)
		case keyStart:
			f.Start, d.started, j = d.time(j)
		case keyEnd:
			f.End, d.ended, j = d.time(j)
		case keyState:
			f.State, j = d.text(j)
		case keyReason:
			f.Reason, j = d.text(j)
		default:
			j = d.skip(j)
		}
		if j < 0 {
			return d.in(flowKeys, key)
		}
		i, more = d.more(j, '}')
		last = key
	}
	return i
}

// tcp reads whether the flags of a connection hold SYN. Its other members, and
// what is no object, mean nothing here.
func (d *Decoder) tcp(i int) int {
	d.ev.Midstream = false
	if d.at(i) != '{' {
		return d.skip(i)
	}
	syn := false
	i, more := d.open(i, '{', '}')
	last := uint8(0)
	for more {
		key, j := d.member(i, tcpKeys, &d.orders.tcp, last)
		if j < 0 {
			return -1
		}
		if key == keySYN {
			syn = d.at(j) == 't'
		}
		if j = d.skip(j); j < 0 {
			return d.in(tcpKeys, key)
		}
		i, more = d.more(j, '}')
		last = key
	}
	d.ev.Midstream = !syn
	return i
}

// ether reads the addresses of a packet (src_mac, dest_mac), or the first ones
// of a flow (src_macs, dest_macs).
func (d *Decoder) ether(i int) int {
	ev := d.ev
	ev.SrcMAC, ev.DstMAC = [6]byte{}, [6]byte{}
	if d.isNull(i) {
		return i + 4
	}
	var firstSrc, firstDst [6]byte
	i, more := d.open(i, '{', '}')
	last := uint8(0)
	for more {
		key, j := d.member(i, etherKeys, &d.orders.ether, last)
		if j < 0 {
			return -1
		}
		switch key {
		case keySrcMAC:
			ev.SrcMAC, j = d.mac(j)
		case keyDestMAC:
			ev.DstMAC, j = d.mac(j)
		case keySrcMACs:
			firstSrc, j = d.firstMAC(j)
		case keyDestMACs:
			firstDst, j = d.firstMAC(j)
		default:
			j = d.skip(j)
		}
		if j < 0 {
			return d.in(etherKeys, key)
		}
		i, more = d.more(j, '}')
		last = key
	}
	if ev.SrcMAC == [6]byte{} {
		ev.SrcMAC = firstSrc
	}
	if ev.DstMAC == [6]byte{} {
		ev.DstMAC = firstDst
	}
	return i
}

func (d *Decoder) firstMAC(i int) (mac [6]byte, next int) {
	if d.isNull(i) {
		return mac, i + 4
	}
	i, more := d.open(i, '[', ']')
	if !more {
		return mac, i
	}
	mac, i = d.mac(i)
	for i >= 0 {
		if i, more = d.more(i, ']'); !more {
			break
		}
		i = d.skip(i)
	}
	return mac, i
}
