package broker

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pakon/tests/limits"
	"pakon/ubus"
)

// patience bounds how long a test waits for what must come.
var patience = limits.For(30 * time.Second)

// recordings are those whose broker side is replayed. Left out are the ones that need access lists or pass descriptors.
var recordings = []string{
	"a_connect", "b_list", "c_provider", "d_multi", "e_subscribe", "f_events", "g_monitor", "h_errors",
	"i_big", "i_forward", "i_over", "j_close", "k_noreply", "n_procd", "o_jsonrpc", "r_raw",
}

// recorded is one line of a recording.
type recorded struct {
	Dir, Ev, Hex string
	Conn         int
	Partial      bool
	frame        []byte
}

func (r *recorded) fromClient() bool { return r.Dir == "c2s" }

func readRecording(name string) ([]recorded, error) {
	base := filepath.Join("../testdata", name+".jsonl")
	f, err := os.Open(base + ".gz")
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.Open(base); err != nil {
			return nil, err
		}
		defer f.Close()
		return parseRecording(f)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return parseRecording(z)
}

func parseRecording(in io.Reader) ([]recorded, error) {
	var list []recorded
	d := json.NewDecoder(in)
	for {
		var r recorded
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		var err error
		if r.frame, err = hex.DecodeString(r.Hex); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
}

// TestReplay plays the recorded clients against the broker and compares what it answers to what ubusd did: byte by
// byte, except for the ids, which are drawn at random and must only play the same role.
func TestReplay(t *testing.T) {
	for _, name := range recordings {
		t.Run(name, func(t *testing.T) {
			p := &player{t: t, name: name, path: filepath.Join(t.TempDir(), "bus.sock"), live: map[uint32]uint32{}, old: map[uint32]uint32{}, conns: map[int]*playedConn{}}
			list, err := readRecording(name)
			if err != nil {
				t.Fatal(err)
			}
			p.start()
			p.play(list)
			p.stop()
			if p.compared == 0 {
				t.Error("nothing was compared")
			}
			t.Logf("%d frames compared", p.compared)
		})
	}
}

type playedConn struct {
	*net.UnixConn
	r *bufio.Reader
	// closing: the client of the recording has closed; what ubusd still wrote to it need not come.
	closing bool
}

type player struct {
	t     *testing.T
	name  string
	path  string
	stop  func()
	conns map[int]*playedConn
	// live is the broker's id for a recorded one, old the other way.
	live, old map[uint32]uint32
	compared  int
}

func (p *player) start() { p.stop = startBroker(p.t, p.path, nil) }

// startBroker runs a broker for which every client is root, as in the recordings; the result stops it.
func startBroker(t testing.TB, path string, log *slog.Logger) (stop func()) {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b, err := Listen(path, log)
	if err != nil {
		t.Fatal(err)
	}
	b.credentials = func(*net.UnixConn) (string, string, error) { return "root", "root", nil }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

func (p *player) play(list []recorded) {
	down := false
	for i := range list {
		r := &list[i]
		c := p.conns[r.Conn]
		switch {
		case r.Ev == "connect-failed":
			if conn, err := net.Dial("unix", p.path); err == nil {
				conn.Close()
				p.t.Errorf("line %d: connected to a broker that has ended", i+1)
			}
		case r.Ev == "open":
			if down {
				p.start()
				down = false
			}
			p.conns[r.Conn] = p.open(r.Conn)
		case r.Ev == "close" && r.fromClient():
			p.barrier(i, r.Conn)
			c.closing = true
			c.CloseWrite()
		case r.Ev == "close":
			if cause := fatalFrame(list, r.Conn); cause != nil {
				p.write(i, c, cause.frame)
			} else if !down {
				p.stop()
				down = true
			}
			if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) && !isReset(err) {
				p.t.Errorf("line %d: connection %d still open: %v", i+1, r.Conn, err)
			}
			c.Close()
			delete(p.conns, r.Conn)
		case p.name == "k_noreply" && i+1 == 26:
			// The caller hung up at once after this call. ubusd does not read what comes together with a hang-up and so
			// never passed it on; this broker does, to a provider that answers a caller who is gone.
		case r.fromClient() && c != nil && lengthAllowed(r.frame):
			p.write(i, c, p.translate(r.frame))
		case !r.fromClient() && c != nil && !c.closing:
			p.compare(i, r, p.read(i, c))
		}
	}
	for n := range p.conns {
		if !p.conns[n].closing {
			p.barrier(len(list), n)
		}
	}
}

func isReset(err error) bool {
	var e *net.OpError
	return errors.As(err, &e) && !e.Timeout()
}

// fatalFrame is the frame for which ubusd closed the connection, of a length that it does not take; nil if there is
// none. The recording may hold it before or behind the close.
func fatalFrame(list []recorded, conn int) *recorded {
	for i := range list {
		if r := &list[i]; r.Conn == conn && r.fromClient() && !lengthAllowed(r.frame) {
			return r
		}
	}
	return nil
}

func lengthAllowed(frame []byte) bool {
	if len(frame) < ubus.HeaderLen {
		return true
	}
	n := binary.BigEndian.Uint32(frame[8:]) & (1<<24 - 1)
	return n >= 4 && (n+3)&^3 <= ubus.MaxMessage
}

func (p *player) open(n int) *playedConn {
	p.t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.path, Net: "unix"})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return &playedConn{UnixConn: conn, r: bufio.NewReader(conn)}
}

func (p *player) write(line int, c *playedConn, frame []byte) {
	p.t.Helper()
	c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.Write(frame); err != nil && lengthAllowed(frame) {
		p.t.Fatalf("line %d: %v", line+1, err)
	}
}

func (p *player) read(line int, c *playedConn) []byte {
	p.t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	frame := make([]byte, 12)
	if _, err := io.ReadFull(c.r, frame); err != nil {
		p.t.Fatalf("line %d: waiting for an answer: %v", line+1, err)
	}
	rest := make([]byte, binary.BigEndian.Uint32(frame[8:])&(1<<24-1)-4)
	if _, err := io.ReadFull(c.r, rest); err != nil {
		p.t.Fatalf("line %d: waiting for the rest of an answer: %v", line+1, err)
	}
	return append(frame, rest...)
}

// barrier sees to it that nothing came on a connection that the recording does not have.
func (p *player) barrier(line, n int) {
	p.t.Helper()
	if p.name == "g_monitor" {
		return // the monitor would see it
	}
	c := p.conns[n]
	ping := (&ubus.Message{Type: ubus.MsgPing, Seq: 0xbeef, Peer: 0xbeef}).Append(nil)
	p.write(line, c, ping)
	pong := bytes.Clone(ping)
	pong[1] = byte(ubus.MsgData)
	if got := p.read(line, c); !bytes.Equal(got, pong) {
		p.t.Fatalf("line %d: connection %d got more than was recorded: %s", line+1, n, describe(got))
	}
	p.read(line, c)
}

// words are the offsets at which a frame may hold an id.
func words(frame []byte) []int {
	var at []int
	for i := 4; i+4 <= len(frame); i += 4 {
		at = append(at, i)
	}
	return at
}

// translate puts the broker's ids into a recorded frame.
func (p *player) translate(frame []byte) []byte {
	out := bytes.Clone(frame)
	for _, i := range words(frame) {
		if id, ok := p.live[binary.BigEndian.Uint32(frame[i:])]; ok {
			binary.BigEndian.PutUint32(out[i:], id)
		}
	}
	return out
}

// isID says whether the word at i is an id: the peer, an attribute of 4 bytes, or a number named "id" in an event.
func isID(frame []byte, i int) bool {
	if i == 4 {
		return true
	}
	switch binary.BigEndian.Uint32(frame[i-4:]) {
	case 0x00000008, 0x01000008, 0x03000008, 0x05000008, 0x08000008:
		return true
	}
	return i >= 12 && bytes.Equal(frame[i-12:i], []byte{0x85, 0, 0, 0x10, 0, 2, 'i', 'd', 0, 0, 0, 0})
}

func (p *player) compare(line int, r *recorded, got []byte) {
	p.t.Helper()
	p.compared++
	if len(got) != len(r.frame) {
		p.t.Fatalf("line %d, connection %d:\n got %s\nwant %s", line+1, r.Conn, describe(got), describe(r.frame))
	}
	for _, i := range words(got) {
		want, have := binary.BigEndian.Uint32(r.frame[i:]), binary.BigEndian.Uint32(got[i:])
		if live, known := p.live[want]; known && isID(r.frame, i) {
			if live != have {
				p.t.Fatalf("line %d, connection %d: id %08x, want %08x (recorded %08x)\n got %s\nwant %s", line+1, r.Conn, have, live, want, describe(got), describe(r.frame))
			}
			continue
		}
		if _, taken := p.old[have]; want >= firstID && have >= firstID && !taken && isID(r.frame, i) {
			p.live[want], p.old[have] = have, want
			continue
		}
		if want != have {
			p.t.Fatalf("line %d, connection %d: differs at %d\n got %s\nwant %s", line+1, r.Conn, i, describe(got), describe(r.frame))
		}
	}
	if n := len(got) &^ 3; !bytes.Equal(got[:4], r.frame[:4]) || !bytes.Equal(got[n:], r.frame[n:]) {
		p.t.Fatalf("line %d, connection %d:\n got %s\nwant %s", line+1, r.Conn, describe(got), describe(r.frame))
	}
}

func describe(frame []byte) string {
	if len(frame) > 200 {
		return fmt.Sprintf("%x... (%d bytes)", frame[:200], len(frame))
	}
	return fmt.Sprintf("%x", frame)
}
