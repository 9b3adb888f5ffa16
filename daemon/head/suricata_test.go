package head

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"pakon/suricata"
	"pakon/tests/limits"
	"pakon/tests/rig"
	"pakon/tests/router"
)

// A real Suricata finds the name of each connection in what it is handed.
func TestSuricata(t *testing.T) {
	binary, err := suricata.Find("")
	if err != nil {
		t.Skip("needs a real suricata: ", err)
	}
	for _, way := range []Way{NFLOG, Mirror} {
		for _, merged := range []bool{false, true} {
			name := way.String()
			var options []router.Option
			if merged {
				name, options = name+" of merged packets", []router.Option{router.WithOffloads()}
			}
			t.Run(name, func(t *testing.T) { testSuricata(t, binary, way, options...) })
		}
	}
}

func testSuricata(t *testing.T, binary string, way Way, options ...router.Option) {
	r, err := router.Start(router.Household(), options...)
	if errors.Is(err, router.ErrUnable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), limits.For(time.Minute))
	defer cancel()
	h := New(slog.New(slog.DiscardHandler))
	if err := r.Do(func() error { return h.Apply(Settings{way, []string{router.LAN, router.Guest}}) }); err != nil {
		t.Fatal(err)
	}
	settings := suricata.Settings{RunDir: t.TempDir(), Major: 7}
	args := []string{"-c", filepath.Join(settings.RunDir, suricata.ConfigFile), "--disable-detection"}
	if way == NFLOG {
		settings.NFLOGGroup = Group
		args = append(args, "--nflog")
	} else {
		for device := range h.State().Mirrors {
			settings.Interfaces = append(settings.Interfaces, device)
		}
		args = append(args, "--af-packet")
	}
	if err := os.WriteFile(filepath.Join(settings.RunDir, suricata.ConfigFile), suricata.YAML(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	eve := listenEVE(t, filepath.Join(settings.RunDir, suricata.SocketFile))
	process, err := rig.Start(r.Do, nil, binary, args...)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			if err := process.Stop(limits.For(20 * time.Second)); err != nil {
				t.Errorf("suricata: %v: %s", err, process.Said())
			}
		}
	}
	defer stop()

	clients := r.Clients()
	fetch := func(i int, q router.Request) router.Connection {
		t.Helper()
		c, err := clients[i%len(clients)].Fetch(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// Suricata works once it tells of something.
	for capturing := false; !capturing; {
		fetch(0, router.Request{Site: "weather.test", Protocol: router.TLS13})
		select {
		case <-eve.more:
			capturing = true
		case <-time.After(100 * time.Millisecond):
			if ctx.Err() != nil {
				t.Fatalf("no event came: %s", process.Said())
			}
		}
	}
	var made []router.Connection
	sites := []string{"www.example.org", "video.example.org", "shop.example.com", "mail.example.com"}
	for i := range 48 {
		protocol := []router.Protocol{router.TLS13, router.TLS12, router.HTTP3, router.HTTP}[i/2%4]
		size := int64(1000)
		if i%8 < 4 && i < 16 {
			size = 4 << 20
		}
		made = append(made, fetch(i, router.Request{Site: sites[i%len(sites)], Protocol: protocol, IPv6: i%2 == 1, Receive: size}))
	}
	// What waits in the ring of AF_PACKET when Suricata ends is lost.
	limit, over := context.WithTimeout(ctx, patience)
	defer over()
	for _, c := range made {
		for limit.Err() == nil && !slices.Contains(eve.called(c), c.Name) {
			select {
			case <-eve.more:
			case <-limit.Done():
			}
		}
	}
	stop()
	eve.end()
	for _, c := range made {
		if got := eve.called(c); !slices.Contains(got, c.Name) {
			t.Errorf("%v: Suricata calls it %q", c, got)
		}
	}
	t.Logf("%d connections; events: %v; bytes that Suricata saw: %d", len(made), eve.types, eve.bytes)
}

// events are what Suricata told.
type events struct {
	mu    sync.Mutex
	names map[[2]netip.AddrPort][]string // of the connections, by either end
	types map[string]int
	bytes int // of flows
	more  chan struct{}
	end   func()
}

func listenEVE(t *testing.T, path string) *events {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	e := &events{names: map[[2]netip.AddrPort][]string{}, types: map[string]int{}, more: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		s := bufio.NewScanner(c)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			e.add(s.Bytes())
		}
		if err := s.Err(); err != nil {
			t.Errorf("reading Suricata's events: %v", err)
		}
	})
	e.end = func() { l.Close(); wg.Wait() }
	t.Cleanup(e.end)
	return e
}

func (e *events) add(line []byte) {
	var v struct {
		Type     string `json:"event_type"`
		Src      string `json:"src_ip"`
		SrcPort  uint16 `json:"src_port"`
		Dest     string `json:"dest_ip"`
		DestPort uint16 `json:"dest_port"`
		TLS      struct{ SNI string }
		QUIC     struct{ SNI string }
		HTTP     struct{ Hostname string }
		Flow     struct {
			In  int `json:"bytes_toclient"`
			Out int `json:"bytes_toserver"`
		}
	}
	if json.Unmarshal(line, &v) != nil {
		return
	}
	e.types[v.Type]++
	e.bytes += v.Flow.In + v.Flow.Out
	src, err1 := netip.ParseAddr(v.Src)
	dest, err2 := netip.ParseAddr(v.Dest)
	if err1 != nil || err2 != nil {
		return
	}
	a, b := netip.AddrPortFrom(src, v.SrcPort), netip.AddrPortFrom(dest, v.DestPort)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range []string{v.TLS.SNI, v.QUIC.SNI, v.HTTP.Hostname} {
		if name == "" {
			continue
		}
		for _, ends := range [][2]netip.AddrPort{{a, b}, {b, a}} {
			e.names[ends] = append(e.names[ends], name)
		}
		select {
		case e.more <- struct{}{}:
		default:
		}
	}
}

// called are the names of a connection.
func (e *events) called(c router.Connection) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.names[[2]netip.AddrPort{c.Local, c.Remote}])
}
