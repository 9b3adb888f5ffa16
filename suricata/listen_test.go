package suricata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// run starts a listener; stop ends it and returns what Run returned.
func run(t *testing.T, handle func(*Event), idle func()) (l *Listener, stop func() error) {
	t.Helper()
	l, err := Listen(filepath.Join(t.TempDir(), "eve.sock"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- l.Run(ctx, handle, idle) }()
	stop = func() error {
		cancel()
		err := <-result
		result <- err
		return err
	}
	t.Cleanup(func() { stop() })
	return l, stop
}

func connect(t testing.TB, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", l.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// namedEvent is an event that can be told from others.
func namedEvent(name string) string { return event("tls", fmt.Sprintf(`{"sni":%q}`, name)) + "\n" }

func write(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestListenerSeveralWriters(t *testing.T) {
	const writers, events = 3, 500
	got := map[string]int{}
	done := make(chan struct{})
	l, stop := run(t, func(ev *Event) {
		writer, n, _ := strings.Cut(string(ev.Name), "-")
		if want := fmt.Sprint(got[writer]); n != want {
			t.Errorf("writer %s: event %s, want %s", writer, n, want)
		}
		if got[writer]++; got["0"]+got["1"]+got["2"] == writers*events {
			close(done)
		}
	}, nil)
	for w := range writers {
		c := connect(t, l)
		go func() {
			defer c.Close()
			var all strings.Builder
			for n := range events {
				all.WriteString(namedEvent(fmt.Sprintf("%d-%d", w, n)))
			}
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for s := all.String(); len(s) > 0; {
				n := min(len(s), 1+random.IntN(400))
				if _, err := io.WriteString(c, s[:n]); err != nil {
					t.Error(err)
					return
				}
				s = s[n:]
			}
		}()
	}
	<-done
	if err := stop(); err != nil {
		t.Error(err)
	}
	c := l.Counters()
	if c.Received["tls"] != writers*events || c.Connections != writers || c.Malformed+c.Partial+c.Dropped+c.TooLong != 0 {
		t.Errorf("counters: %+v", c)
	}
	if _, err := os.Lstat(l.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// One writer after another, each of which leaves something wrong behind.
func TestListenerWrongInput(t *testing.T) {
	names := make(chan string, 100)
	l, stop := run(t, func(ev *Event) { names <- string(ev.Name) }, nil)
	long := event("tls", `{"sni":"`+strings.Repeat("a", MaxLine)+`"}`) + "\n"
	longest := event("tls", fmt.Sprintf(`{"sni":"longest","x":%q}`, strings.Repeat("x", MaxLine)))
	longest = longest[:len(longest)-4-(len(longest)+1-MaxLine)] + `"}}` + "\n"
	if longest = strings.Replace(longest, `x"}}`, `xx"}}`, 1); len(longest) != MaxLine {
		t.Fatalf("the longest line has %d bytes, not %d", len(longest), MaxLine)
	}
	for i, input := range []string{
		long[:len(long)/2] + strings.Repeat("x", MaxLine),
		namedEvent("a") + "not JSON\n" + "\n" + namedEvent("b"),
		long + namedEvent("c") + long + long + namedEvent("d"),
		longest + "x" + longest + namedEvent("e"),
		namedEvent("f") + `{"timestamp":"2025-`,
		`{"event_type":"netflow","netflow":{}}` + "\n" + `{"event_type":"netflow"}` + "\n" + namedEvent("g"),
	} {
		c := connect(t, l)
		write(t, c, input)
		c.Close()
		var got []string
		for range []int{0, 2, 2, 2, 1, 3}[i] {
			got = append(got, <-names)
		}
		if want := []string{"[]", "[a b]", "[c d]", "[longest e]", "[f]", "[  g]"}[i]; fmt.Sprint(got) != want {
			t.Errorf("input %d: got %q, want %s", i, got, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	c := l.Counters()
	want := EventCounters{Received: map[string]uint64{"tls": 8, "netflow": 2}, Malformed: 2, TooLong: 5, Partial: 1, Connections: 6}
	if fmt.Sprint(c) != fmt.Sprint(want) {
		t.Errorf("counters\n got %+v\nwant %+v", c, want)
	}
}

func TestListenerIdleAfterBurst(t *testing.T) {
	handled := 0
	idle := make(chan int, 1000)
	l, _ := run(t, func(*Event) { handled++ }, func() { idle <- handled })
	c := connect(t, l)
	for burst := 1; burst <= 3; burst++ {
		for range 50 {
			write(t, c, namedEvent("a"))
		}
		for n := 0; n < burst*50; {
			n = <-idle
		}
	}
}

// What was sent before the context ended is handled before Run returns.
func TestListenerDrainsAtTheEnd(t *testing.T) {
	const events = 3000
	l, err := Listen(filepath.Join(t.TempDir(), "eve.sock"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, result := make(chan struct{}, events), make(chan error, 1)
	handled, idles := 0, 0
	go func() {
		result <- l.Run(ctx, func(*Event) {
			first <- struct{}{}
			<-ctx.Done()
			handled++
		}, func() { idles++ })
	}()
	write(t, connect(t, l), strings.Repeat(namedEvent("a"), events)+"{")
	<-first
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if c := l.Counters(); handled != events || idles == 0 || c.Received["tls"] != events || c.Partial != 1 || c.Connected != 0 {
		t.Errorf("%d of %d handled, %d times idle: %+v", handled, events, idles, c)
	}
}

// A handler that takes too long does not keep Run from ending.
func TestListenerDrainIsBounded(t *testing.T) {
	const events = 2000
	sent := make(chan struct{})
	var l *Listener
	l, stop := run(t, func(*Event) {
		<-sent
		l.late.Store(true)
	}, nil)
	write(t, connect(t, l), strings.Repeat(namedEvent("a"), events))
	close(sent)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if c := l.Counters(); c.Received["tls"] != 1 || c.Dropped == 0 {
		t.Errorf("counters: %+v", c)
	}
}

func TestListenerClosedIsAnError(t *testing.T) {
	l, err := Listen(filepath.Join(t.TempDir(), "eve.sock"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	connect(t, l)
	l.Close()
	if err := l.Run(t.Context(), func(*Event) {}, nil); err == nil || !strings.Contains(err.Error(), l.path) {
		t.Errorf("error %v, want one that names the socket", err)
	}
}

func TestListenerRefusesTooManyWriters(t *testing.T) {
	names := make(chan string, 1)
	l, _ := run(t, func(ev *Event) { names <- string(ev.Name) }, nil)
	for i := range maxWriters {
		write(t, connect(t, l), namedEvent(fmt.Sprint(i)))
		<-names
	}
	if n, err := connect(t, l).Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one writer too many: %d, %v", n, err)
	}
	if c := l.Counters(); c.Refused != 1 || c.Connected != maxWriters {
		t.Errorf("counters: %+v", c)
	}
}

func TestListen(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "eve.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()

	l, err := Listen(path, log)
	if err != nil {
		t.Fatalf("with a stale socket: %v", err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path, log); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("with a live socket: %v", err)
	}
	connect(t, l)
	l.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, log); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file is %q now", b)
	}
	if _, err := Listen(filepath.Join(path, "x", "eve.sock"), log); err == nil {
		t.Error("no error where there is no directory")
	}
}

func TestQueueWaitsForRoomThenDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		line := append(bytes.Repeat([]byte{'x'}, 1023), '\n')
		full := bytes.Repeat(line, chunkSize/len(line))
		for range maxChunks {
			if n := q.put(full); n != 0 {
				t.Fatalf("%d lines dropped while there was room", n)
			}
		}
		start := time.Now()
		if n := q.put(bytes.Repeat(line, 10)); n != 10 || time.Since(start) != roomWait {
			t.Errorf("full: %d lines dropped after %v", n, time.Since(start))
		}
		start = time.Now()
		if n := q.put(line); n != 1 || time.Since(start) != 0 {
			t.Errorf("still full: %d lines dropped after %v", n, time.Since(start))
		}
		q.release(q.pop())
		if n := q.put(full[:len(full)-len(line)]); n != 0 {
			t.Errorf("%d lines dropped with room for them", n)
		}
		// Room appears while it waits: two lines of three had none.
		go func() {
			time.Sleep(roomWait / 2)
			q.release(q.pop())
		}()
		start = time.Now()
		if n := q.put(bytes.Repeat(line, 3)); n != 0 || time.Since(start) != roomWait/2 {
			t.Errorf("%d lines dropped after %v", n, time.Since(start))
		}
		queued := 0
		for c := q.pop(); c != nil; c = q.pop() {
			queued += bytes.Count(c, line)
			q.release(c)
		}
		if want := (maxChunks-1)*chunkSize/len(line) + 2; queued != want {
			t.Errorf("%d lines queued, want %d", queued, want)
		}
		if len(q.free) > keepFree || q.used != 0 {
			t.Errorf("%d chunks kept, %d in use", len(q.free), q.used)
		}
	})
}

func TestQueueAbandoned(t *testing.T) {
	q := newQueue()
	q.put([]byte("a\nb\n"))
	if n := q.abandon(); n != 2 {
		t.Errorf("%d lines were queued, want 2", n)
	}
	if n := q.put([]byte("c\n")); n != 1 || q.pop() != nil {
		t.Errorf("%d lines dropped afterwards, want 1", n)
	}
}

// From the socket to the handler.
func BenchmarkListener(b *testing.B) {
	lines := household(b, "7", 2000)
	block, events := append(bytes.Join(lines, []byte{'\n'}), '\n'), len(lines)
	for _, line := range lines {
		if err := new(Decoder).Decode(line, &Event{}); err != nil {
			b.Fatal(err)
		}
	}
	l, err := Listen(filepath.Join(b.TempDir(), "eve.sock"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	handled := 0
	batch := make(chan struct{}, 1)
	result := make(chan error, 1)
	go func() {
		result <- l.Run(ctx, func(*Event) {
			if handled++; handled%events == 0 {
				batch <- struct{}{}
			}
		}, nil)
	}()
	c := connect(b, l)
	b.SetBytes(int64(len(block) / events))
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += events {
		if _, err := c.Write(block); err != nil {
			b.Fatal(err)
		}
		<-batch
	}
	b.StopTimer()
	cancel()
	if err := <-result; err != nil {
		b.Error(err)
	}
}

// TestOneByteSegments: a writer whose lines come a byte at a time costs no more than
// these bytes, whatever is in the buffer already.
func TestOneByteSegments(t *testing.T) {
	l := &Listener{queue: newQueue()}
	r := &reader{l: l, buf: make([]byte, MaxLine)}
	send := func(line string) {
		for i := range len(line) {
			r.buf[r.n] = line[i]
			r.received(1)
		}
	}
	long := strings.Repeat("x", MaxLine-2)
	send(long)
	if n := testing.AllocsPerRun(1000, func() { r.received(0) }); n != 0 {
		t.Errorf("%v allocations for each segment", n)
	}
	send("\n")
	for range 10_000 {
		send("header: value\n")
	}
	lines := uint64(0)
	for c := l.queue.pop(); c != nil; c = l.queue.pop() {
		lines += countLines(c)
		l.queue.release(c)
	}
	if lines != 10_001 || r.n != 0 || l.tooLong.Load() != 0 {
		t.Errorf("%d lines, %d bytes left, %d too long", lines, r.n, l.tooLong.Load())
	}
}
