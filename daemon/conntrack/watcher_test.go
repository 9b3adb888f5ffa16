package conntrack

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

// collector is a Receiver that keeps all it is told.
type collector struct {
	mu      sync.Mutex
	entries map[Kind][]Entry
	dumps   int
	idle    int
	changed chan struct{}
	hold    chan struct{} // if not nil, the first event waits until it is closed
}

func newCollector() *collector {
	return &collector{entries: make(map[Kind][]Entry), changed: make(chan struct{}, 1)}
}

func (c *collector) Connection(k Kind, e *Entry, _ time.Time) {
	if k == New && c.hold != nil {
		<-c.hold
	}
	c.mu.Lock()
	c.entries[k] = append(c.entries[k], *e)
	c.mu.Unlock()
	c.signal()
}

func (c *collector) signal() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *collector) DumpBegins(time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[Listed] = nil
}

func (c *collector) DumpEnds(time.Time, bool) {
	c.mu.Lock()
	c.dumps++
	c.mu.Unlock()
	c.signal()
}

func (c *collector) Idle() {
	c.mu.Lock()
	c.idle++
	c.mu.Unlock()
	c.signal()
}

// until waits for cond to hold.
func (c *collector) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(limits.For(20 * time.Second))
	for {
		c.mu.Lock()
		ok := cond()
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-c.changed:
		case <-deadline:
			t.Fatalf("timed out: %s; got %+v", what, c.entries)
		}
	}
}

// namespace is a network namespace with a Watcher that follows it.
type namespace struct {
	*Watcher
	*collector
	kernel *conntrack.Conn
	states chan State
	stop   func() error // ends Run, and returns its error
}

// watch follows a namespace of its own.
func watch(t *testing.T, c *collector) *namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a network namespace needs root")
	}
	n := &namespace{collector: c, states: make(chan State, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	made, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.kernel, err = conntrack.Dial(nil)
		}
		n.Watcher = NewWatcher(slog.New(slog.DiscardHandler), func(s State) { n.states <- s })
		made <- err
		if err == nil {
			err = n.Run(ctx, c)
		}
		ended <- err
	}()
	if err := <-made; err != nil {
		cancel()
		t.Skipf("connection tracking in a network namespace can not be had here: %v", err)
	}
	n.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := errors.Join(n.stop(), n.kernel.Close()); err != nil {
			t.Error(err)
		}
	})
	c.until(t, "a first dump", func() bool { return c.dumps > 0 })
	return n
}

// connection is one from a client to a port of a server.
func connection(proto uint8, from uint16, v6 bool) conntrack.Flow {
	src, dst := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("203.0.113.80")
	if v6 {
		src, dst = netip.MustParseAddr("2001:db8:1::10"), netip.MustParseAddr("2001:db8:f::80")
	}
	return conntrack.NewFlow(proto, conntrack.StatusConfirmed|conntrack.StatusSeenReply, src, dst, from, 443, 100, 0)
}

func TestFollow(t *testing.T) {
	n := watch(t, newCollector())
	if st := <-n.states; !st.Active || st.Problem != "" || len(st.Switched) != 3 {
		t.Errorf("told of %+v", st)
	}
	for i, f := range []conntrack.Flow{connection(unix.IPPROTO_UDP, 1000, false), connection(unix.IPPROTO_UDP, 1001, true)} {
		if err := n.kernel.Create(f); err != nil {
			t.Fatal(err)
		}
		n.until(t, "that it has begun", func() bool { return len(n.entries[New]) == i+1 })
		// The listing comes by itself, with counters.
		n.until(t, "that it is listed", func() bool { return len(n.entries[Listed]) == i+1 && n.entries[Listed][i].Counted })
		f.Timeout = 77
		if err := n.kernel.Update(f); err != nil {
			t.Fatal(err)
		}
	}
	began := n.entries[New][1]
	if want := netip.MustParseAddrPort("[2001:db8:1::10]:1001"); began.Orig.Src != want || began.Reply.Dst != want || !began.Answered() {
		t.Errorf("began: %+v", began)
	}
	if err := n.kernel.Delete(connection(unix.IPPROTO_UDP, 1001, true)); err != nil {
		t.Fatal(err)
	}
	n.until(t, "that it has ended", func() bool { return len(n.entries[Ended]) == 1 })
	ended := n.entries[Ended][0]
	if ended.ID != began.ID || !ended.Counted || ended.Start == 0 || ended.Stop < ended.Start {
		t.Errorf("ended: %+v", ended)
	}
}

// TestAsk: who asks hears soon that all was told, though nothing happens: before
// the next listing.
func TestAsk(t *testing.T) {
	n := watch(t, newCollector())
	now := func() (idle, dumps int) {
		n.collector.mu.Lock()
		defer n.collector.mu.Unlock()
		return n.idle, n.dumps
	}
	_, before := now()
	const times = 10
	for range times {
		idle, _ := now()
		n.Ask()
		n.until(t, "that all was told", func() bool { return n.idle > idle })
	}
	if _, dumps := now(); dumps-before >= times/2 {
		t.Errorf("%d listings until it was told %d times", dumps-before, times)
	}
}

// TestLastWord: at the end all that there is is told once more.
func TestLastWord(t *testing.T) {
	n := watch(t, newCollector())
	before := n.dumps
	if err := n.kernel.Create(connection(unix.IPPROTO_UDP, 1000, false)); err != nil {
		t.Fatal(err)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if len(n.entries[New]) != 1 || len(n.entries[Listed]) != 1 || !n.entries[Listed][0].Counted || n.dumps == before {
		t.Errorf("told of %+v, in %d listings", n.entries, n.dumps)
	}
}

func TestInterval(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0:                      minInterval,
		500 * time.Microsecond: minInterval,
		20 * time.Millisecond:  6 * time.Second,
		10 * time.Second:       maxInterval,
	} {
		if got := interval(took); got != want {
			t.Errorf("after %v: %v, want %v", took, got, want)
		}
	}
}

// waitingReceiver waits in the middle of a listing, as on a machine that has other
// things to do.
type waitingReceiver struct{ *collector }

func (r waitingReceiver) DumpEnds(at time.Time, whole bool) {
	time.Sleep(time.Second)
	r.collector.DumpEnds(at, whole)
}

// TestCostOfListing: the time in which others have the processor costs nothing.
func TestCostOfListing(t *testing.T) {
	n := watch(t, newCollector())
	dumps, err := dial(0)
	if err != nil {
		t.Fatal(err)
	}
	defer dumps.Close()
	f := follower{w: n.Watcher, r: waitingReceiver{newCollector()}, dumps: dumps}
	if err := f.dump(); err != nil {
		t.Fatal(err)
	}
	if f.took <= 0 || f.took > 500*time.Millisecond {
		t.Errorf("a listing of nothing, with a second of waiting, cost %v", f.took)
	}
}

// TestOnlyNews: of the changes of a connection only its end is told.
func TestOnlyNews(t *testing.T) {
	n := watch(t, newCollector())
	tcp, udp := connection(unix.IPPROTO_TCP, 1000, true), connection(unix.IPPROTO_UDP, 1001, false)
	tcp.ProtoInfo.TCP = &conntrack.ProtoInfoTCP{State: 3}
	for _, f := range []conntrack.Flow{tcp, udp} {
		if err := n.kernel.Create(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []uint8{4, 5, 6, 7, 8} { // from FIN_WAIT to CLOSE
		tcp.ProtoInfo.TCP.State = state
		tcp.Timeout, udp.Timeout = 100+uint32(state), 100+uint32(state)
		if err := errors.Join(n.kernel.Update(tcp), n.kernel.Update(udp)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.kernel.Delete(udp); err != nil {
		t.Fatal(err)
	}
	n.until(t, "the last event", func() bool { return len(n.entries[Ended]) == 1 })
	var states []uint8
	for _, e := range n.entries[Updated] {
		states = append(states, e.TCPState)
	}
	if len(n.entries[New]) != 2 || !slices.Equal(states, []uint8{TimeWait, Close}) {
		t.Errorf("%d have begun; told of the states %v, want %d and %d", len(n.entries[New]), states, TimeWait, Close)
	}
}

// TestOverrun: events that the kernel drops are made good by a listing.
func TestOverrun(t *testing.T) {
	c := newCollector()
	c.hold = make(chan struct{})
	n := watch(t, c)
	const many = 30_000
	for i := range many {
		if err := n.kernel.Create(connection(unix.IPPROTO_UDP, uint16(1000+i), i%2 == 0)); err != nil {
			t.Fatal(err)
		}
	}
	close(c.hold)
	n.until(t, "all connections, after a loss", func() bool { return len(n.entries[Listed]) == many && n.State().Lost > 0 })
	if len(n.entries[New]) == many {
		t.Error("no event was lost: the test shows nothing")
	}
}

func TestSwitchOn(t *testing.T) {
	dir := t.TempDir()
	put := func(name, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("nf_conntrack_acct", "1")
	put("nf_conntrack_timestamp", "0")
	put("nf_conntrack_events", "2")
	switched, err := switchOn(dir)
	if want := []string{"net.netfilter.nf_conntrack_timestamp", "net.netfilter.nf_conntrack_events"}; err != nil || !slices.Equal(switched, want) {
		t.Errorf("switched %v, %v; want %v", switched, err, want)
	}
	if switched, err := switchOn(dir); err != nil || len(switched) != 0 {
		t.Errorf("the second time: switched %v, %v", switched, err)
	}
	if err := os.Remove(filepath.Join(dir, "nf_conntrack_acct")); err != nil {
		t.Fatal(err)
	}
	if _, err := switchOn(dir); err == nil || !strings.Contains(err.Error(), "nf_conntrack_acct") {
		t.Errorf("without accounting: %v", err)
	}
	put("nf_conntrack_udp_timeout", "60")
	if o := readTimeouts(dir); o.UDP != time.Minute || o.UDPStream != 2*time.Minute {
		t.Errorf("timeouts %+v", o)
	}
}

// BenchmarkDump lists many connections.
func BenchmarkDump(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("making a network namespace needs root")
	}
	runtime.LockOSThread() // and never unlocked: the namespace must not be used by others
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Skip(err)
	}
	kernel, err := conntrack.Dial(nil)
	if err != nil {
		b.Skip(err)
	}
	defer kernel.Close()
	if _, err := switchOn(settings); err != nil {
		b.Fatal(err)
	}
	for i := range 5000 {
		if err := kernel.Create(connection(unix.IPPROTO_UDP, uint16(1000+i), i%2 == 0)); err != nil {
			b.Fatal(err)
		}
	}
	dumps, err := dial(0)
	if err != nil {
		b.Fatal(err)
	}
	defer dumps.Close()
	f := follower{w: NewWatcher(slog.New(slog.DiscardHandler), func(State) {}), r: newCollector(), dumps: dumps}
	f.r.(*collector).entries[Listed] = make([]Entry, 0, 5000)
	b.ReportAllocs()
	for b.Loop() {
		if err := f.dump(); err != nil {
			b.Fatal(err)
		}
	}
}
