package suricata

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

// inNamespace is set in the environment of the test's second self, in a network namespace of its own.
const inNamespace = "PAKON_TEST_SURICATA_NAMESPACE"

// enterNamespace runs the calling test again in a new network namespace, and tells whether this is that run.
func enterNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a network namespace")
	}
	if _, err := Find(""); err != nil {
		t.Skip("needs a real suricata: ", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs iproute2: ", err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("in the namespace:\n%s", out)
	if err != nil && strings.Contains(err.Error(), "operation not permitted") {
		t.Skip("needs a network namespace: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// lanClient makes the interface `name` here, address 10.0.N.1, and beyond it a machine 10.0.N.2 in a namespace of its
// own, in which the functions sent to the channel run, until it is clo.
func lanClient(t *testing.T, name string, n int) chan<- func() {
	t.Helper()
	work, ready := make(chan func()), make(chan int)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			ready <- 0
			return
		}
		ready <- unix.Gettid()
		for f := range work {
			f()
		}
	}()
	tid := <-ready
	if tid == 0 {
		t.FailNow()
	}
	peer := fmt.Sprintf("peer%d", n)
	addr := func(host int) string { return fmt.Sprintf("10.0.%d.%d/24", n, host) }
	for _, args := range [][]string{
		{"link", "add", name, "type", "veth", "peer", "name", peer},
		{"addr", "add", addr(1), "dev", name},
		{"link", "set", name, "up"},
		{"link", "set", peer, "netns", fmt.Sprint(tid)},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v: %s", args, err, out)
		}
	}
	done := make(chan struct{})
	work <- func() {
		defer close(done)
		ip(t, "addr add "+addr(2)+" dev "+peer)
		ip(t, "link set "+peer+" up")
	}
	<-done
	t.Cleanup(func() { close(work); wg.Wait() })
	return work
}

// serve answers TLS on 443, HTTP (2 as well) on 80 and DNS on 53, on all addresses.
func serve(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	secure, err := tls.Listen("tcp", ":443", conf)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	dns, err := net.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })}
	web.Protocols = new(http.Protocols)
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	var wg sync.WaitGroup
	wg.Add(3)
	go func() { defer wg.Done(); _ = web.Serve(secure) }()
	go func() { defer wg.Done(); _ = web.Serve(plain) }()
	go func() { defer wg.Done(); answer(dns) }()
	t.Cleanup(func() { _ = web.Close(); _ = dns.Close(); wg.Wait() })
}

func answer(dns net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := dns.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil {
			continue
		}
		m.Response = true
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: [4]byte{203, 0, 113, 7}},
		}}
		if b, err := m.Pack(); err == nil {
			_, _ = dns.WriteTo(b, from)
		}
	}
}

// browse makes a connection or query of each kind to the server for each name; it runs in the client's namespace.
func browse(server string, names []string) error {
	for _, name := range names {
		conn, err := net.Dial("tcp", server+":443")
		if err != nil {
			return err
		}
		c := tls.Client(conn, &tls.Config{ServerName: "tls-" + name, InsecureSkipVerify: true})
		if err := request(c, name); err != nil {
			return err
		}
		if conn, err = net.Dial("tcp", server+":80"); err != nil {
			return err
		}
		if err := request(conn, "http-"+name); err != nil {
			return err
		}
		if conn, err = net.Dial("tcp", server+":80"); err != nil {
			return err
		}
		if err := requestHTTP2(conn, "h2c-"+name); err != nil {
			return err
		}
		if conn, err = net.Dial("udp", server+":53"); err != nil {
			return err
		}
		q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName("dns-" + name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		b, err := q.Pack()
		if err != nil {
			return err
		}
		if _, err := conn.Write(b); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 1500)); err != nil {
			return err
		}
		_ = conn.Close()
	}
	return nil
}

func request(c net.Conn, host string) error {
	defer c.Close()
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return err
	}
	_, err := bufio.NewReader(c).ReadString('\n')
	return err
}

// requestHTTP2 asks in clear text, by prior knowledge.
func requestHTTP2(c net.Conn, host string) error {
	client := &http.Transport{
		Protocols:   new(http.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil },
	}
	client.Protocols.SetUnencryptedHTTP2(true)
	defer client.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodGet, "http://"+host, nil)
	if err != nil {
		return err
	}
	reply, err := client.RoundTrip(r)
	if err != nil {
		return err
	}
	return reply.Body.Close()
}

// eveEvent is what the tests look at.
type eveEvent struct {
	Type  string `json:"event_type"`
	Iface string `json:"in_iface"`
	DNS   struct {
		Type, Rrname string
		Queries      []struct{ Rrname string }
	}
	TLS  struct{ SNI, Subject string }
	HTTP struct {
		Hostname string
		Headers  []struct{ Name, Value string } `json:"request_headers"`
	}
	Ether map[string]any
}

// eveReader collects the events written to the socket.
type eveReader struct {
	mu     sync.Mutex
	cond   *sync.Cond
	events []eveEvent
}

func readEVE(t *testing.T, path string) *eveReader {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := &eveReader{}
	r.cond = sync.NewCond(&r.mu)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				lines := bufio.NewReader(c)
				for {
					line, err := lines.ReadBytes('\n')
					if err != nil {
						return
					}
					var e eveEvent
					if err := json.Unmarshal(line, &e); err != nil {
						t.Errorf("event %q: %v", line, err)
					}
					r.mu.Lock()
					r.events = append(r.events, e)
					r.cond.Broadcast()
					r.mu.Unlock()
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return r
}

// names waits until each of the names was seen with each prefix, and returns what was not within the time.
func (r *eveReader) missing(names []string, patience time.Duration) []string {
	deadline := time.AfterFunc(patience, func() { r.mu.Lock(); defer r.mu.Unlock(); r.cond.Broadcast() })
	defer deadline.Stop()
	end := time.Now().Add(patience)
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		seen := map[string]bool{}
		for _, e := range r.events {
			seen[e.TLS.SNI], seen[e.HTTP.Hostname], seen[e.DNS.Rrname] = true, true, true
			for _, q := range e.DNS.Queries {
				seen[q.Rrname] = true
			}
			for _, h := range e.HTTP.Headers {
				seen[h.Value] = seen[h.Value] || h.Name == ":authority"
			}
		}
		var missing []string
		for _, n := range names {
			for _, kind := range []string{"tls-", "http-", "h2c-", "dns-"} {
				if !seen[kind+n] {
					missing = append(missing, kind+n)
				}
			}
		}
		if len(missing) == 0 || !time.Now().Before(end) {
			return missing
		}
		r.cond.Wait()
	}
}

// conditions waits for the monitor's conditions.
type conditions chan State

func (c conditions) await(t *testing.T, want func(State) bool) State {
	t.Helper()
	timeout := time.After(limits.For(60 * time.Second))
	var last State
	for {
		select {
		case last = <-c:
			if want(last) {
				return last
			}
		case <-timeout:
			t.Fatalf("waited in vain; last state %+v", last)
		}
	}
}

func is(c Condition) func(State) bool { return func(s State) bool { return s.Condition == c } }

// runMonitor runs a monitor; end ends it and waits.
func runMonitor(t *testing.T, opt Options) (m *Monitor, states conditions, end func()) {
	t.Helper()
	return runMonitorWith(t, opt, func(*Monitor) {})
}

// runMonitorFast is runMonitor with delays of a hundredth.
func runMonitorFast(t *testing.T, opt Options) (m *Monitor, states conditions, end func()) {
	t.Helper()
	return runMonitorWith(t, opt, func(m *Monitor) {
		m.minDelay, m.maxDelay = minDelay/100, maxDelay/100
		m.delay = m.minDelay
	})
}

func runMonitorWith(t *testing.T, opt Options, tune func(*Monitor)) (m *Monitor, states conditions, end func()) {
	t.Helper()
	states = make(conditions, 1000)
	opt.Changed = func(s State) { states <- s }
	if opt.Log == nil {
		opt.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	m = NewMonitor(opt)
	tune(m)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(end)
	<-m.Ready()
	return m, states, end
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// procStatus returns a field of /proc/PID/status.
func procStatus(t *testing.T, pid int, field string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}

func TestRealSuricata(t *testing.T) {
	if !enterNamespace(t) {
		return
	}
	const guest = `br"g's,#\é{` // the kernel forbids only '/', ':' and white space
	ip(t, "link set lo up")
	lan, far := lanClient(t, "br-lan", 1), lanClient(t, guest, 2)
	serve(t)
	dir := t.TempDir()
	eve := readEVE(t, filepath.Join(dir, SocketFile))
	opt := Options{RunDir: dir, Service: NewChild(filepath.Join(dir, "suricata.pid"), slog.Default()), KeepRunning: func() bool { return true }}
	t.Cleanup(func() { // whatever happened; the reader waits for it
		if err := NewChild(filepath.Join(dir, "suricata.pid"), slog.Default()).Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	m, states, end := runMonitor(t, opt)

	m.Apply(Settings{Interfaces: []string{"br-lan"}})
	first := states.await(t, is(Running))
	visit := func(client chan<- func(), server string, names []string) {
		t.Helper()
		// A few at a time: a loaded machine may not run Suricata, or the reader, for longer than their queues hold.
		// If that is not enough, they are visited again: what is never seen is missing still.
		for some := range slices.Chunk(names, 10) {
			for try := 1; ; try++ {
				failed := make(chan error)
				client <- func() { failed <- browse(server, some) }
				if err := <-failed; err != nil {
					t.Fatal(err)
				}
				missing := eve.missing(some, 20*time.Second)
				if len(missing) == 0 {
					break
				}
				if try == 3 {
					t.Fatalf("%d names did not arrive: %.20q", len(missing), missing)
				}
			}
		}
	}
	visit(lan, "10.0.1.1", manyNames("lan", 200))
	t.Logf("one interface: RSS %s, peak %s, %s threads", procStatus(t, first.PID, "VmRSS"), procStatus(t, first.PID, "VmHWM"), procStatus(t, first.PID, "Threads"))

	// The same settings again, in another order, and a restart of the monitor: nothing happens to Suricata.
	m.Apply(Settings{Interfaces: []string{"br-lan", "br-lan"}})
	end()
	opt.Service = NewChild(filepath.Join(dir, "suricata.pid"), slog.Default())
	m, states, end = runMonitor(t, opt)
	m.Apply(Settings{Interfaces: []string{"br-lan"}})
	if again := states.await(t, is(Running)); again.PID != first.PID || !about(again.Since, first.Since) {
		t.Errorf("process %d of %v became %d of %v by a restart of the monitor", first.PID, first.Since, again.PID, again.Since)
	}

	// Another interface: replaced.
	m.Apply(Settings{Interfaces: []string{guest, "br-lan"}})
	second := states.await(t, func(s State) bool { return s.Condition == Running && len(s.Interfaces) == 2 })
	if second.PID == first.PID || second.Restarts != 0 {
		t.Errorf("want a new process and no unasked restarts, got %+v", second)
	}
	visit(lan, "10.0.1.1", manyNames("more", 50))
	visit(far, "10.0.2.1", manyNames("guest", 50))
	t.Logf("two interfaces: RSS %s, peak %s, %s threads", procStatus(t, second.PID, "VmRSS"), procStatus(t, second.PID, "VmHWM"), procStatus(t, second.PID, "Threads"))

	// Killed: it comes again.
	if err := syscall.Kill(second.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	failing := states.await(t, is(Failing))
	if failing.LastError != "signal: killed" {
		t.Errorf("last error %q", failing.LastError)
	}
	third := states.await(t, is(Running))
	if third.Restarts != 1 {
		t.Errorf("%d restarts, want 1", third.Restarts)
	}
	visit(far, "10.0.2.1", manyNames("again", 10))

	// Nothing left to capture: stopped. Then the events are complete, for at its end it tells of all flows.
	m.Apply(Settings{})
	states.await(t, is(Stopped))
	if syscall.Kill(third.PID, 0) == nil {
		t.Errorf("process %d is still there", third.PID)
	}
	end()
	checkEvents(t, eve, guest)
	if s := m.State(); s.Drops.Packets != 0 {
		t.Errorf("drops %+v", s.Drops)
	}
	checkMode(t, filepath.Join(dir, ConfigFile))
}

func manyNames(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d.example.org", prefix, i)
	}
	return names
}

func checkMode(t *testing.T, path string) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o600 {
		t.Errorf("%s has mode %v", path, st.Mode())
	}
}

// checkEvents looks at the kinds of events, and at what each must have.
func checkEvents(t *testing.T, eve *eveReader, guest string) {
	t.Helper()
	eve.mu.Lock()
	defer eve.mu.Unlock()
	kinds, interfaces := map[string]int{}, map[string]bool{}
	for _, e := range eve.events {
		kinds[e.Type]++
		interfaces[e.Iface] = true
		if e.Type == "dns" && !slices.Contains([]string{"answer", "response"}, e.DNS.Type) {
			t.Errorf("dns event of type %q", e.DNS.Type)
		}
		// What Suricata tells of HTTP/2 only at a connection's end has none.
		if slices.Contains([]string{"dns", "http", "flow"}, e.Type) && len(e.Ether) == 0 && (e.Type != "http" || e.HTTP.Hostname != "") {
			t.Errorf("%s event without ether", e.Type)
		}
	}
	t.Log("events: ", kinds, interfaces)
	for _, kind := range []string{"dns", "tls", "http", "flow", "stats"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s events", kind)
		}
	}
	for kind := range kinds {
		if !slices.Contains([]string{"dns", "tls", "http", "quic", "flow", "stats"}, kind) {
			t.Errorf("%d events of kind %s were not asked for", kinds[kind], kind)
		}
	}
	if !interfaces["br-lan"] || !interfaces[guest] {
		t.Errorf("interfaces %v", interfaces)
	}
}
