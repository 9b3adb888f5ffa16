package suricata

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"pakon/tests/limits"
	"pakon/ubus"
)

// frame is a recorded message.
type frame struct {
	t      int
	toBus  bool // from procd
	typ    byte // 1 STATUS, 2 DATA, 5 INVOKE, 10 NOTIFY
	key    string
	method string
	status ubus.Status
	data   ubus.Table
}

// recordedFrames reads testdata/procd.
func recordedFrames(t *testing.T) []frame {
	t.Helper()
	f, err := os.Open("testdata/procd/n_procd.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var frames []frame
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var rec struct {
			T        int
			Dir, Hex string
		}
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(rec.Hex)
		if err != nil {
			t.Fatal(err)
		}
		fr := frame{t: rec.T, toBus: rec.Dir == "c2s", typ: b[1], key: string(b[2:8])}
		for b := b[12:]; len(b) >= 4; {
			head := binary.BigEndian.Uint32(b)
			n := int(head & 0xffffff)
			switch v := b[4:n]; head >> 24 {
			case 1:
				fr.status = ubus.Status(binary.BigEndian.Uint32(v))
			case 4:
				fr.method = string(v[:len(v)-1])
			case 7:
				if fr.data, err = ubus.Decode(v); err != nil {
					t.Fatalf("frame %d: %v", rec.T, err)
				}
			}
			b = b[min(len(b), (n+3)&^3):]
		}
		frames = append(frames, fr)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return frames
}

// recordedBus answers and notifies as the recorded procd did.
type recordedBus struct {
	t          *testing.T
	frames     []frame
	subscribed chan struct{} // closed by Subscribe

	mu      sync.Mutex
	at      int // frames before are played
	notify  func(string, ubus.Table)
	called  []string
	failing error
}

// play notifies what procd did until frame number n.
func (b *recordedBus) play(n int) {
	for {
		b.mu.Lock()
		if b.at == len(b.frames) || b.frames[b.at].t > n {
			b.mu.Unlock()
			return
		}
		f := b.frames[b.at]
		b.at++
		tell := b.notify
		b.mu.Unlock()
		if f.typ == 10 && tell != nil {
			tell(f.method, f.data)
		}
	}
}

// Call answers as procd did next to a call of that method for that service.
func (b *recordedBus) Call(_ context.Context, path, method string, args ubus.Table) (ubus.Table, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.called = append(b.called, method)
	if b.failing != nil {
		return nil, b.failing
	}
	name, _ := args.String("name")
	key := ""
	var reply ubus.Table
	for _, f := range b.frames[b.at:] {
		recorded, _ := f.data.String("name")
		switch {
		case key == "" && f.typ == 5 && f.method == method && recorded == name:
			key = f.key
		case key == f.key && f.typ == 2:
			reply = f.data
		case key == f.key && f.typ == 1:
			return reply, f.status.Err()
		}
	}
	b.t.Errorf("no %s %s %v was recorded after frame %d", path, method, args, b.at)
	return nil, ubus.StatusUnknownError
}

func (b *recordedBus) Subscribe(path string, f func(string, ubus.Table)) func() {
	if path != "service" {
		b.t.Errorf("subscribed to %q", path)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notify = f
	close(b.subscribed)
	return func() { b.mu.Lock(); defer b.mu.Unlock(); b.notify = nil }
}

// recordedProcd runs a Procd against the recording, from frame n on.
func recordedProcd(t *testing.T, service, instance string, n int) (*Procd, *recordedBus) {
	t.Helper()
	bus := &recordedBus{t: t, frames: recordedFrames(t), subscribed: make(chan struct{})}
	bus.play(n)
	p := NewProcd(bus, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	p.name, p.inst = service, instance
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-bus.subscribed
	return p, bus
}

func TestProcdFollowsTheRecordedService(t *testing.T) {
	t.Parallel()
	p, bus := recordedProcd(t, "demo", "instance1", 60)
	if started, err := p.Start(t.Context(), Spec{Command: []string{"/bin/sleep", "1000"}}); err != nil || started {
		// The recorded one ran already, as the list before shows.
		t.Fatal(started, err)
	}
	if st := p.State(); !st.Running || st.PID != 22 || st.Since.IsZero() {
		t.Errorf("set: %+v", st)
	}
	bus.play(101) // killed, respawned
	st := await(t, p, func(s ServiceState) bool { return s.PID == 50 })
	if !st.Running || st.Exits != 1 || st.Exit != "signal: killed" || st.Pending || st.Removed {
		t.Errorf("respawned: %+v", st)
	}
	bus.play(165) // told not to spawn
	st = await(t, p, func(s ServiceState) bool { return !s.Running })
	if st.PID != 0 || st.Exits != 2 || st.Exit != "signal: terminated" || st.Pending || st.Removed {
		t.Errorf("ended: %+v", st)
	}
	bus.play(237) // deleted by somebody
	st = await(t, p, func(s ServiceState) bool { return s.Removed })
	if st.Running || st.Pending || st.Exits != 2 {
		t.Errorf("deleted: %+v", st)
	}
}

func TestProcdFollowsTheRecordedCrashLoop(t *testing.T) {
	t.Parallel()
	p, bus := recordedProcd(t, "crash", "i", 380)
	bus.play(415)
	st := await(t, p, func(s ServiceState) bool { return s.Exits == 3 })
	if st.Running || st.Pending || st.Exit != "exit status 1" {
		t.Errorf("failed: %+v", st)
	}
}

func TestProcdStopsWhatIsGoneAlready(t *testing.T) {
	t.Parallel()
	p, bus := recordedProcd(t, "demo", "instance1", 237)
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("deleting a service that is not there (status 4): %v", err)
	}
	bus.mu.Lock()
	defer bus.mu.Unlock()
	if got := strings.Join(bus.called, " "); !strings.HasSuffix(got, "list delete list") {
		t.Errorf("called %s", got)
	}
}

func TestProcdErrors(t *testing.T) {
	t.Parallel()
	p, bus := recordedProcd(t, "demo", "instance1", 60)
	bus.mu.Lock()
	bus.failing = ubus.StatusPermissionDenied
	bus.mu.Unlock()
	if _, err := p.Start(t.Context(), Spec{Command: []string{"/x"}}); !errors.Is(err, ubus.StatusPermissionDenied) || !strings.Contains(err.Error(), "procd") {
		t.Errorf("start: %v", err)
	}
	if err := p.Stop(t.Context()); !errors.Is(err, ubus.StatusPermissionDenied) {
		t.Errorf("stop: %v", err)
	}
}

func TestHasProcd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err     error
		has     bool
		wantErr bool
	}{
		{ubus.StatusNotFound, false, false},
		{ubus.StatusPermissionDenied, false, true},
		{context.DeadlineExceeded, false, true},
	} {
		has, err := HasProcd(t.Context(), &recordedBus{t: t, failing: c.err})
		if has != c.has || (err != nil) != c.wantErr {
			t.Errorf("%v: got %v, %v", c.err, has, err)
		}
	}
}

// TestProcdSendsWhatInitScriptsSend compares with the set call of an init script: every field of ours is one of
// procd.sh's, of the same type on the wire.
func TestProcdSendsWhatInitScriptsSend(t *testing.T) {
	t.Parallel()
	var recorded ubus.Table
	for _, f := range recordedFrames(t) {
		if name, _ := f.data.String("script"); f.typ == 5 && f.method == "set" && name != "" {
			recorded = f.data
			break
		}
	}
	ours := NewProcd(nil, nil).set(Spec{
		Command: []string{"/usr/bin/suricata", "-c", "/x"}, Files: []string{"/x"}, Nice: 5, TermTimeout: 10 * time.Second,
	})
	var compare func(where string, got, like ubus.Table)
	compare = func(where string, got, like ubus.Table) {
		for _, f := range got {
			want, ok := like.Get(f.Name)
			if !ok {
				t.Errorf("%s: procd.sh sends no %q", where, f.Name)
				continue
			}
			if g, w := fmt.Sprintf("%T", f.Value), fmt.Sprintf("%T", want); g != w {
				t.Errorf("%s: %q is a %s, procd.sh sends a %s", where, f.Name, g, w)
			}
			if sub, ok := f.Value.(ubus.Table); ok && len(sub) > 0 {
				compare(where+"."+f.Name, sub, want.(ubus.Table))
			}
			if a, ok := f.Value.(ubus.Array); ok && len(a) > 0 {
				if g, w := fmt.Sprintf("%T", a[0]), fmt.Sprintf("%T", want.(ubus.Array)[0]); g != w {
					t.Errorf("%s: %q holds %s, procd.sh sends %s", where, f.Name, g, w)
				}
			}
		}
	}
	compare("set", ours, recorded)
	encoded, err := ours.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ubus.Decode(encoded)
	if err != nil || string(ubus.AppendJSON(nil, again, false)) != procdSetJSON {
		t.Errorf("error %v; sends\n%s, want\n%s", err, ubus.AppendJSON(nil, again, false), procdSetJSON)
	}
}

const procdSetJSON = `{"name":"suricata-pakon","script":"/etc/init.d/suricata-pakon","instances":{"instance1":{` +
	`"command":["/usr/bin/suricata","-c","/x"],"respawn":["60","5","5"],"file":["/x"],"stdout":true,"stderr":true,` +
	`"nice":5,"term_timeout":10}},"triggers":[],"validate":[],"data":{}}`

// TestRealProcd runs the monitor against real ubusd and procd, wherever they are on the path.
func TestRealProcd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range []string{"ubusd", "procd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs OpenWrt's tools: ", err)
		}
	}
	f := newFakeRouter(t)
	f.keep = true
	// Suricata itself writes its log, for procd takes what it prints: so does this one.
	logs := "exec >>'" + f.run + "/" + LogFile + "' 2>&1\n"
	f.suricata(logs + fakeRuns)
	sock := f.root + "/ubus.sock"
	daemon := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	daemon("ubusd", "-s", sock)
	bus := ubus.New(sock, slog.New(slog.NewTextHandler(f.log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- bus.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-bus.Ready()
	appeared := make(chan struct{}, 1)
	stop := bus.Listen("ubus.object.add", func(_ string, data ubus.Table) {
		if path, _ := data.String("path"); path == "service" {
			notify(appeared)
		}
	})
	if has, err := HasProcd(ctx, bus); has || err != nil {
		t.Errorf("without procd: %v, %v", has, err)
	}
	daemon("procd", "-S", "-s", sock)
	select {
	case <-appeared:
	case <-time.After(limits.For(30 * time.Second)):
		t.Fatal("procd did not appear")
	}
	stop()
	if has, err := HasProcd(ctx, bus); !has || err != nil {
		t.Errorf("with procd: %v, %v", has, err)
	}

	begin := func() {
		log := slog.New(slog.NewTextHandler(f.log, nil))
		f.m, f.states, f.end = runMonitorFast(t, Options{RunDir: f.run, Root: f.root, KeepRunning: func() bool { return f.keep }, Log: log, Service: NewProcd(bus, log)})
	}
	begin()
	f.apply("br-lan")
	first := f.states.await(t, is(Running))
	f.apply("br-lan")
	f.end()
	begin()
	f.apply("br-lan")
	if s := f.states.await(t, is(Running)); s.PID != first.PID || !about(s.Since, first.Since) {
		t.Errorf("process %d of %v became %d of %v though nothing changed", first.PID, first.Since, s.PID, s.Since)
	}
	f.apply("br-lan", "br-guest")
	second := f.states.await(t, func(s State) bool { return s.Condition == Running && s.PID != first.PID })
	if !gone(first.PID) || second.Restarts != 0 {
		t.Errorf("another configuration: %+v replaced process %d", second, first.PID)
	}

	// It dies: procd starts it again, after five seconds.
	kill := ubus.Table{{Name: "name", Value: procdName}, {Name: "signal", Value: int32(9)}}
	if _, err := bus.Call(ctx, "service", "signal", kill); err != nil {
		t.Fatal(err)
	}
	failing := f.states.await(t, is(Failing))
	if failing.LastError != "signal: killed" || !strings.Contains(failing.Reason, "signal: killed; procd starts it again") {
		t.Errorf("killed: %+v", failing)
	}
	third := f.states.await(t, is(Running))
	if third.PID == second.PID || third.Restarts != 1 {
		t.Errorf("respawned: %+v was %+v", third, second)
	}

	// Somebody deletes the service: respected, until the next settings.
	if _, err := bus.Call(ctx, "service", "delete", ubus.Table{{Name: "name", Value: procdName}}); err != nil {
		t.Fatal(err)
	}
	f.states.await(t, is(Stopped))
	f.apply("br-lan", "br-guest")
	f.states.await(t, is(Running))

	f.apply()
	f.states.await(t, is(Stopped))
	list, err := bus.Call(ctx, "service", "list", ubus.Table{{Name: "name", Value: procdName}})
	if err != nil || len(list) != 0 {
		t.Errorf("stopped, but procd lists %v, %v", list, err)
	}
}
