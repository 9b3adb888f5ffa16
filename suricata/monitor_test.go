package suricata

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeBuild is what a fake suricata answers to --build-info.
const fakeBuild = `if [ "$1" = --build-info ]; then
echo "This is Suricata version %s RELEASE"
echo "  AF_PACKET support:                       %s"
echo "  NFLOG support:                           %s"
exit 0; fi
`

// fakeRuns says what a real one does at its start.
const fakeRuns = `echo "Notice: This is Suricata version 7.0.10 RELEASE running in SYSTEM mode"
echo "Notice: Threads created -> W: 1 FM: 1 FR: 1   Engine started."
exec sleep 1000
`

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
	t  *testing.T
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("%s", bytes.TrimSpace(p))
	return l.b.Write(p)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// fakeRouter is a root with a suricata, and a monitor for it.
type fakeRouter struct {
	t      *testing.T
	root   string
	run    string
	log    *logBuffer
	keep   bool
	m      *Monitor
	states conditions
	end    func()
}

func newFakeRouter(t *testing.T) *fakeRouter {
	t.Helper()
	f := &fakeRouter{t: t, root: t.TempDir(), log: &logBuffer{t: t}}
	f.run = filepath.Join(f.root, "run")
	if err := os.Mkdir(f.run, 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fakeRouter) suricata(body string) string {
	f.t.Helper()
	return script(f.t, filepath.Join(f.root, "usr/bin/suricata"), fmt.Sprintf(fakeBuild, "7.0.10", "yes", "yes")+body)
}

// begin runs a monitor whose delays are a hundredth of the real ones.
func (f *fakeRouter) begin() {
	f.t.Helper()
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.states = make(conditions, 1000)
	f.m, f.states, f.end = runMonitorFast(f.t, Options{
		RunDir: f.run, Root: f.root, KeepRunning: func() bool { return f.keep }, Log: log,
		Service: NewChild(filepath.Join(f.run, "suricata.pid"), log),
	})
}

func (f *fakeRouter) apply(interfaces ...string) {
	f.m.Apply(Settings{Interfaces: interfaces})
}

func TestMonitorRunsSuricata(t *testing.T) {
	t.Parallel()
	f := newFakeRouter(t)
	f.suricata(fakeRuns)
	f.begin()
	if s := f.m.State(); s.Condition != Stopped || s.Reason == "" {
		t.Errorf("before the first settings: %+v", s)
	}
	f.apply("br-lan")
	s := f.states.await(t, is(Running))
	if s.Version != "7.0.10" || s.PID == 0 || s.Since.IsZero() || fmt.Sprint(s.Interfaces) != "[br-lan]" || s.Reason != "" || s.Restarts != 0 {
		t.Errorf("running: %+v", s)
	}
	got, err := os.ReadFile(filepath.Join(f.run, ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	want := YAML(Settings{Interfaces: []string{"br-lan"}, RunDir: f.run, Major: 7, Version: "7.0.10"})
	if !bytes.Equal(got, want) {
		t.Errorf("configuration is\n%s\nwant\n%s", got, want)
	}
	f.end()
	if !gone(s.PID) {
		t.Errorf("process %d survived the end of the monitor", s.PID)
	}
	if s := f.m.State(); s.Condition != Stopped || s.PID != 0 || s.Restarts != 0 {
		t.Errorf("at the end: %+v", s)
	}
}

func TestMonitorTellsOfAMissingSuricataOnceAndFindsItLater(t *testing.T) {
	t.Parallel()
	f := newFakeRouter(t)
	f.begin()
	f.apply("br-lan")
	s := f.states.await(t, is(Missing))
	if !strings.Contains(s.Reason, "install") || s.PID != 0 {
		t.Errorf("missing: %+v", s)
	}
	f.suricata(fakeRuns)
	f.states.await(t, is(Running))
	if n := f.log.count("suricata does not run"); n != 1 {
		t.Errorf("told %d times that it is missing, want once", n)
	}
}

func TestMonitorCrashLoop(t *testing.T) {
	t.Parallel()
	f := newFakeRouter(t)
	f.suricata("echo 'E: af-packet: br-lan: no such device'; echo 'E: thread failed'; echo 'Notice: something went on'; exit 1\n")
	f.begin()
	f.apply("br-lan")
	s := f.states.await(t, func(s State) bool { return s.Condition == Failing && s.Restarts >= 4 })
	const want = "exit status 1: af-packet: br-lan: no such device"
	if s.LastError != want || s.Reason != want || s.PID != 0 {
		t.Errorf("failing: %+v, want error %q", s, want)
	}
	if n := f.log.count("suricata does not run"); n != 1 {
		t.Errorf("told %d times of the same failure, want once", n)
	}
	if n := f.log.count("something went on"); n != 1 {
		t.Errorf("passed the same message on %d times, want once", n)
	}
	f.suricata(fakeRuns)
	if s := f.states.await(t, is(Running)); s.Reason != "" {
		t.Errorf("running again: %+v", s)
	}
}

func TestMonitorApplyEndsTheDelay(t *testing.T) {
	t.Parallel()
	f := newFakeRouter(t)
	f.suricata("exit 1\n")
	opt := Options{RunDir: f.run, Root: f.root, Service: NewChild(filepath.Join(f.run, "pid"), slog.Default())}
	f.m, f.states, f.end = runMonitorWith(t, opt, func(m *Monitor) { m.minDelay, m.delay, m.maxDelay = time.Hour, time.Hour, time.Hour })
	f.apply("br-lan")
	f.states.await(t, is(Failing))
	f.suricata(fakeRuns)
	f.apply("br-lan")
	f.states.await(t, is(Running))
}

func TestMonitorDelaysGrowToAMinute(t *testing.T) {
	t.Parallel()
	m := NewMonitor(Options{})
	m.retry = time.NewTimer(time.Hour)
	var delays []time.Duration
	for range 8 {
		delays = append(delays, m.delay)
		m.retryLater()
	}
	m.noRetry()
	if got := fmt.Sprint(delays); got != "[1s 2s 4s 8s 16s 32s 1m0s 1m0s]" {
		t.Errorf("delays %s", got)
	}
}

func TestMonitorSlowStart(t *testing.T) {
	t.Parallel()
	f := newFakeRouter(t)
	gate := filepath.Join(f.root, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	f.suricata("echo 'Notice: This is Suricata version 7.0.10 RELEASE running in SYSTEM mode'\nread x <'" + gate + "'\n" + fakeRuns)
	f.begin()
	f.apply("br-lan")
	s := f.states.await(t, is(Starting))
	if s.PID == 0 {
		t.Errorf("starting: %+v", s)
	}
	if err := os.WriteFile(gate, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := f.states.await(t, is(Running)); r.PID != s.PID {
		t.Errorf("process %d became %d", s.PID, r.PID)
	}
}

func TestMonitorRestartsOnlyForAReason(t *testing.T) {
	t.Parallel()
	f := newFakeRouter(t)
	f.keep = true
	f.suricata(fakeRuns)
	f.begin()
	f.apply("br-lan", "br-guest")
	first := f.states.await(t, is(Running))
	f.apply("br-guest", "br-lan", "br-guest")
	f.end()
	for range 3 {
		f.begin()
		f.apply("br-guest", "br-lan")
		if s := f.states.await(t, is(Running)); s.PID != first.PID || !about(s.Since, first.Since) {
			t.Fatalf("process %d became %d by a restart of the monitor", first.PID, s.PID)
		}
		f.end()
	}
	f.begin()
	f.apply("br-lan")
	second := f.states.await(t, is(Running))
	if second.PID == first.PID || !gone(first.PID) {
		t.Errorf("an interface less: want process %d replaced, got %d", first.PID, second.PID)
	}
	f.apply()
	if s := f.states.await(t, is(Stopped)); s.PID != 0 || !strings.Contains(s.Reason, "interfaces") || len(s.Interfaces) != 0 {
		t.Errorf("without interfaces: %+v", s)
	}
	if !gone(second.PID) {
		t.Errorf("process %d runs without interfaces", second.PID)
	}
	f.m.Apply(Settings{NFLOGGroup: 5, Interfaces: []string{"br-lan"}})
	third := f.states.await(t, is(Running))
	if third.NFLOGGroup != 5 || len(third.Interfaces) != 0 || third.Restarts != 0 {
		t.Errorf("with a log group: %+v", third)
	}
	f.m.opt.KeepRunning = nil
}

func TestMonitorSaysWhatABuildCannotDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, version, afpacket, nflog string
		settings                       Settings
		want                           string
	}{
		{"too old", "6.0.20", "yes", "yes", Settings{Interfaces: []string{"br-lan"}}, "suricata 6.0.20 is too old"},
		{"no NFLOG", "7.0.10", "yes", "no", Settings{NFLOGGroup: 5}, "without NFLOG"},
		{"no AF_PACKET", "8.0.7", "no", "yes", Settings{Interfaces: []string{"br-lan"}}, "without AF_PACKET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeRouter(t)
			script(t, filepath.Join(f.root, "usr/bin/suricata"), fmt.Sprintf(fakeBuild, c.version, c.afpacket, c.nflog)+fakeRuns)
			f.begin()
			f.m.Apply(c.settings)
			if s := f.states.await(t, is(Failing)); !strings.Contains(s.Reason, c.want) || s.Version != c.version {
				t.Errorf("%+v, want reason %q", s, c.want)
			}
		})
	}
}

func TestMonitorTellsOnceOfAnOldVersion(t *testing.T) {
	t.Parallel()
	f := newFakeRouter(t)
	install := func(version string) {
		f.t.Helper()
		script(t, filepath.Join(f.root, "usr/bin/suricata"), fmt.Sprintf(fakeBuild, version, "yes", "yes")+fakeRuns)
	}
	install("7.0.10")
	f.begin()
	for _, i := range []string{"br-lan", "br-guest"} {
		f.apply(i)
		s := f.states.await(t, func(s State) bool { return s.Condition == Running && fmt.Sprint(s.Interfaces) == "["+i+"]" })
		if s.Outdated != "7.0.14" {
			t.Errorf("%+v", s)
		}
	}
	const told = `level=INFO msg="suricata has flaws that a packet can reach`
	if n := f.log.count(told); n != 1 || f.log.count("version=7.0.10 mended_in=7.0.14") != 1 {
		t.Errorf("told %d times", n)
	}
	install("7.0.14")
	f.apply("br-lan")
	if s := f.states.await(t, func(s State) bool { return s.Condition == Running && s.Version == "7.0.14" }); s.Outdated != "" {
		t.Errorf("%+v", s)
	}
	if n := f.log.count(told); n != 1 {
		t.Errorf("told %d times, of 7.0.14 too", n)
	}
}

func TestMonitorAddsUpDropsAndKeepsTheLastWords(t *testing.T) {
	t.Parallel()
	f := newFakeRouter(t)
	f.suricata(`trap 'echo "Notice: Signal Received.  Stopping engine."
echo "Warning: 405 events were dropped due to slow or disconnected socket"
echo "Notice: br-lan: packets: 1000, drops: 7 (0.70%), invalid chksum: 0"
echo "Notice: br-guest: packets: 10, drops: 2 (20.00%), invalid chksum: 0"; exit 0' TERM
echo "Notice: Threads created -> W: 1 FM: 1 FR: 1   Engine started."
while :; do sleep 0.01; done
`)
	f.begin()
	for range 2 {
		f.apply("br-lan")
		f.states.await(t, is(Running))
		f.apply()
		f.states.await(t, is(Stopped))
	}
	if got, want := f.m.State().Drops, (Drops{Events: 810, Packets: 18}); got != want {
		t.Errorf("drops %+v, want %+v", got, want)
	}
	if n := f.log.count("405 events were dropped"); n != 1 {
		t.Errorf("told %d times of dropped events, want once and a count", n)
	}
}

func TestMonitorLeftoverOfACrash(t *testing.T) {
	t.Parallel()
	// The monitor's process dies without a word: what it left is found, here by one that has nothing to capture.
	f := newFakeRouter(t)
	f.keep = true
	f.suricata(fakeRuns)
	f.begin()
	f.apply("br-lan")
	s := f.states.await(t, is(Running))
	f.end()
	f.begin()
	f.apply()
	f.states.await(t, func(s State) bool { return s.Condition == Stopped && strings.Contains(s.Reason, "interfaces") })
	if !gone(s.PID) {
		t.Errorf("process %d runs on", s.PID)
	}
}

// shownService is a Service whose state a test sets.
type shownService struct {
	Service
	state ServiceState
}

func (s *shownService) State() ServiceState { return s.state }
func (s *shownService) Kind() string        { return "procd" }

// TestMonitorTellsOfEachProcessOnce: that a process captures is said once, in whatever order its log and the service tell of
// it and of the one before.
func TestMonitorTellsOfEachProcessOnce(t *testing.T) {
	t.Parallel()
	const (
		begins  = "Notice: This is Suricata version 7.0.10 RELEASE running in SYSTEM mode"
		engine  = "Notice: Threads created -> W: 1 FM: 1 FR: 1   Engine started."
		ends    = "Notice: Signal Received.  Stopping engine."
		first   = 1<<30 + 1 // no process has such numbers
		second  = 1<<30 + 2
		nobody  = 0
		crashed = -1
	)
	for _, c := range []struct {
		name  string
		steps []any // a line of the log, or the process that the service shows
	}{
		{"one after the other", []any{begins, first, engine, ends, nobody, begins, second, engine}},
		{"procd replaces one that crashed", []any{first, begins, engine, crashed, second, begins, engine}},
		{"the next is shown before it says a word", []any{first, begins, engine, ends, second, begins, engine}},
		{"the next speaks before it is shown", []any{first, begins, engine, ends, begins, engine, second}},
		{"the next speaks after a crash before it is shown", []any{first, begins, engine, begins, engine, crashed, second}},
		{"none is shown when it speaks", []any{first, begins, engine, nobody, begins, engine, second}},
		{"shown again and again", []any{first, first, begins, first, engine, first, first, ends, first, nobody, second, second, begins, second, engine, second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &logBuffer{t: t}
			service := &shownService{}
			m := NewMonitor(Options{RunDir: t.TempDir(), Service: service, Log: slog.New(slog.NewTextHandler(log, nil))})
			m.retry = time.NewTimer(time.Hour)
			defer m.retry.Stop()
			m.tried = true
			for _, step := range c.steps {
				switch step := step.(type) {
				case string:
					m.follow(ParseLogLine(step).meaning())
				case int:
					if step == crashed {
						service.state.Exits++
						continue
					}
					service.state.PID, service.state.Running = step, step != nobody
				}
				m.observe()
			}
			for _, pid := range []int{first, second} {
				if n := log.count(fmt.Sprintf(`msg="suricata runs" version="" pid=%d`, pid)); n != 1 {
					t.Errorf("process %d was told of %d times", pid, n)
				}
			}
			if s := m.State(); s.Condition != Running || s.PID != second {
				t.Errorf("at the end %+v", s)
			}
		})
	}
}
