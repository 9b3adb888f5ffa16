package suricata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"pakon/uci/regular"
)

// Options make a Monitor.
type Options struct {
	RunDir  string  // of suricata.yaml, suricata.log and eve.sock; must exist
	Root    string  // suricata is looked for below it; "" for this system
	Service Service // runs it
	// KeepRunning is asked when Run ends whether to leave Suricata running; nil does not. Under procd a mere restart of
	// this program need not disturb it. Else Run ends it, and what it tells at its end can still be received. Either way
	// it survives a crash of this program, and is found again.
	KeepRunning func() bool
	Log         *slog.Logger
	// Changed, if set, is called after each change of the condition, its reason or the running process, one call at a
	// time.
	Changed func(State)
}

// Monitor keeps suricata.yaml written and Suricata running, as the last Apply wants.
type Monitor struct {
	opt     Options
	applied chan struct{}
	ready   chan struct{}

	mu       sync.Mutex
	settings *Settings // nil before the first Apply
	state    State

	// Of the goroutine that runs step.
	inspector Inspector
	tail      logTail
	relay     *logRelay
	engine    bool          // Suricata's log said that it captures
	fresh     bool          // it said so since ran was noted
	ran       int           // PID of the latest process that was known to capture
	words     string        // the error that its log gives for its end
	process   int           // PID last seen running
	since     time.Time     // its start
	exits     int           // of the service, already told
	tried     bool          // the current settings were given to the service
	announced int           // the PID at the last change of the condition
	told      string        // the last failure logged, until Suricata runs again
	aged      string        // the version of which its age was last logged
	delay     time.Duration // before the next attempt
	retry     *time.Timer
	waiting   bool // for retry
	// As the constants say, but in tests.
	minDelay, maxDelay, grace time.Duration
}

const (
	minDelay = time.Second
	maxDelay = time.Minute
	// steady is how long Suricata must have run for the delay to begin anew.
	steady = time.Minute
	// termTimeout is what Suricata has to end: it writes the flows it still has.
	termTimeout = 10 * time.Second
	// stopTimeout bounds waiting for it to be gone.
	stopTimeout = termTimeout + 5*time.Second
	// niceness: a monitor gives way to what the router does for a living.
	niceness = 5
)

// NewMonitor returns a Monitor; Run makes it work.
func NewMonitor(opt Options) *Monitor {
	return &Monitor{
		opt:     opt,
		applied: make(chan struct{}, 1),
		ready:   make(chan struct{}),
		state:   State{Condition: Stopped, Reason: "not configured yet"},
		tail:    logTail{path: filepath.Join(opt.RunDir, LogFile)},
		relay:   newLogRelay(opt.Log, time.Now),

		delay: minDelay, minDelay: minDelay, maxDelay: maxDelay, grace: termTimeout,
	}
}

// Ready is closed once Apply is listened to, whatever becomes of Suricata: a missing one holds up nobody.
func (m *Monitor) Ready() <-chan struct{} { return m.ready }

// State is what is known now.
func (m *Monitor) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	s.Interfaces = slices.Clone(s.Interfaces)
	return s
}

// Apply makes these the settings; RunDir, Major and Version are filled in. It returns at once. Suricata is restarted only
// if they, or it, differ from what runs; whatever delays the next attempt to start it is over.
func (m *Monitor) Apply(s Settings) {
	s.Interfaces = s.captured()
	m.mu.Lock()
	m.settings = &s
	m.mu.Unlock()
	notify(m.applied)
}

// Run works until ctx ends; it fails only if the folder cannot be watched.
func (m *Monitor) Run(ctx context.Context) error {
	defer m.tail.close()
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	// The service is followed until the loop has done with it.
	following, unfollow := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return watchFile(ctx, m.tail.path, changed) })
	g.Go(func() error { return m.opt.Service.Run(following) })
	g.Go(func() error {
		defer unfollow()
		m.loop(ctx, changed)
		return nil
	})
	return g.Wait()
}

func (m *Monitor) loop(ctx context.Context, logged <-chan struct{}) {
	m.recall()
	m.retry = time.NewTimer(m.maxDelay)
	defer m.retry.Stop()
	m.retry.Stop()
	close(m.ready)
	for {
		select {
		case <-ctx.Done():
			m.end()
			return
		case <-m.applied:
			m.delay = m.minDelay
			m.reconcile(ctx)
		case <-m.retry.C:
			m.reconcile(ctx)
		case <-m.opt.Service.Changes():
			m.observe()
		case <-logged:
			m.readLog()
			m.observe()
		}
	}
}

// end leaves Suricata as the options say.
func (m *Monitor) end() {
	defer m.relay.flush()
	if m.opt.KeepRunning != nil && m.opt.KeepRunning() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := m.opt.Service.Stop(ctx); err != nil {
		m.opt.Log.Error("suricata may still be running", "error", err)
	}
	m.idle()
	m.set(Stopped, "Pakon ended")
}

// reconcile compares what is wanted with what is, and acts.
func (m *Monitor) reconcile(ctx context.Context) {
	m.noRetry()
	m.mu.Lock()
	if m.settings == nil {
		m.mu.Unlock()
		return
	}
	s := *m.settings
	m.mu.Unlock()
	if s.NFLOGGroup == 0 && len(s.Interfaces) == 0 {
		m.halt(ctx, Stopped, "there are no interfaces to be monitored")
		return
	}
	binary, err := Find(m.opt.Root)
	if errors.Is(err, ErrMissing) {
		m.halt(ctx, Missing, "suricata is not installed: version 7 or 8 is wanted (Turris OS: package suricata-bin; OpenWrt's feeds have none)")
		m.retryLater()
		return
	}
	if err == nil {
		err = m.start(ctx, binary, s)
	}
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		m.fail(err.Error())
		return
	}
	m.observe()
}

func (m *Monitor) start(ctx context.Context, binary string, s Settings) error {
	build, err := m.inspector.Inspect(ctx, binary)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.state.Version, m.state.Outdated = build.Version, build.Outdated()
	m.mu.Unlock()
	m.noteAge(build)
	if err := build.check(s); err != nil {
		return err
	}
	s.RunDir, s.Major, s.Version = m.opt.RunDir, build.Major, build.Version
	config := filepath.Join(s.RunDir, ConfigFile)
	rewritten, err := writeChanged(config, YAML(s))
	if err != nil {
		return fmt.Errorf("writing suricata's configuration: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, stopTimeout, errors.New("timed out"))
	defer cancel()
	started, err := m.opt.Service.Start(ctx, Spec{
		Command:     s.command(binary),
		Files:       []string{config},
		Output:      m.tail.path,
		Nice:        niceness,
		TermTimeout: m.grace,
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.state.Interfaces, m.state.NFLOGGroup = s.Interfaces, s.NFLOGGroup
	if s.NFLOGGroup != 0 {
		m.state.Interfaces = nil
	}
	m.mu.Unlock()
	m.tried = true
	// The log of one that was running before us was read by recall; a new one has yet to say that it captures. procd
	// replaces one behind our back, and shows the old one until it has ended.
	if started || rewritten {
		m.engine, m.fresh, m.words = false, false, ""
	}
	return nil
}

// noteAge says of each version once that a later one has mended flaws of it.
func (m *Monitor) noteAge(b Build) {
	if wanted := b.Outdated(); wanted != "" && m.aged != b.Version {
		m.aged = b.Version
		m.opt.Log.Info("suricata has flaws that a packet can reach, unless who packaged it mended them", "version", b.Version, "mended_in", wanted)
	}
}

// writeChanged writes the file, 0600, unless that is its content.
func writeChanged(path string, content []byte) (written bool, err error) {
	if old, err := regular.Read(path, int64(len(content))); err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	return true, writeFile(path, content)
}

// halt ends Suricata for a reason of ours.
func (m *Monitor) halt(ctx context.Context, c Condition, reason string) {
	m.tried = false
	stop, cancel := context.WithTimeoutCause(ctx, stopTimeout, errors.New("timed out"))
	defer cancel()
	if err := m.opt.Service.Stop(stop); err != nil && ctx.Err() == nil {
		// Not a reason to stay silent about the other: what should not run may.
		m.opt.Log.Warn("suricata may still be running", "error", err)
		m.retryLater()
	}
	m.idle()
	m.set(c, reason)
}

// idle notes that nothing runs any more.
func (m *Monitor) idle() {
	m.readLog() // what it lost
	m.process, m.engine, m.fresh = 0, false, false
	m.mu.Lock()
	m.state.PID, m.state.Since, m.state.Interfaces, m.state.NFLOGGroup = 0, time.Time{}, nil, 0
	m.mu.Unlock()
}

// observe takes in what the service says.
func (m *Monitor) observe() {
	st := m.opt.Service.State()
	if st.Exits != m.exits {
		m.exits = st.Exits
		m.readLog() // its last words come before how it ended
		m.note(m.ending(st.Exit))
	}
	m.mu.Lock()
	m.state.PID, m.state.Since, m.state.Restarts = st.PID, st.Since, st.Exits
	m.mu.Unlock()
	if !m.tried { // nothing is wanted, or it was not tried yet
		return
	}
	if st.Running {
		if m.process != st.PID {
			m.relax(st.PID)
		}
		m.process, m.since = st.PID, st.Since
		m.noRetry()
		if m.captures(st.PID) {
			m.ran, m.fresh = st.PID, false
			m.set(Running, "")
		} else {
			m.set(Starting, "")
		}
		return
	}
	ran := m.process != 0 || st.Exit != ""
	if m.process != 0 {
		m.readLog()
		m.process = 0
		// Only now: the next one may say that it captures before the service shows it.
		m.engine = m.engine && m.fresh
		if time.Since(m.since) >= steady {
			m.delay = m.minDelay
		}
	}
	switch {
	case st.Removed:
		m.set(Stopped, "its service was deleted from "+m.opt.Service.Kind()+"; `/etc/init.d/pakon reload` starts it again")
	case st.Pending:
		m.note(m.ending(st.Exit))
		m.set(Failing, m.ending(st.Exit)+"; "+m.opt.Service.Kind()+" starts it again")
	case ran && !m.waiting:
		m.note(m.ending(st.Exit))
		m.fail(m.ending(st.Exit))
	}
}

// captures reports whether a process that runs captures. Another than before has to say so itself: the service manager may
// replace one without ever showing that none runs. And what is said after the one that runs has said it, is said by one that
// the service does not show yet.
func (m *Monitor) captures(pid int) bool {
	return m.engine && (m.ran == 0 || (pid == m.ran) != m.fresh)
}

// timerSlack is by how many nanoseconds the sleeps of Suricata's main thread may be longer: it does nothing but look for
// signals a hundred times a second, which on an idle router is most of what Suricata costs.
const timerSlack = 50_000_000

// relax lets Suricata's main thread sleep longer. Where the kernel does not let us (CAP_SYS_NICE) nothing is lost.
func (m *Monitor) relax(pid int) {
	path := filepath.Join("/proc", strconv.Itoa(pid), "timerslack_ns")
	if err := os.WriteFile(path, []byte(strconv.Itoa(timerSlack)), 0); err != nil {
		m.opt.Log.Debug("suricata's main thread keeps waking up as it likes", "error", err)
	}
}

// ending is how it ended, and why.
func (m *Monitor) ending(exit string) string {
	if exit == "" {
		exit = "ended"
	}
	if m.words != "" {
		exit += ": " + m.words
	}
	return exit
}

// fail says what is wrong and tries again later.
func (m *Monitor) fail(reason string) {
	m.set(Failing, reason)
	m.retryLater()
}

func (m *Monitor) retryLater() {
	m.waiting = true
	m.retry.Reset(m.delay)
	m.delay = min(2*m.delay, m.maxDelay)
}

func (m *Monitor) noRetry() {
	m.waiting = false
	m.retry.Stop()
}

// set changes the condition; a change is logged, once.
func (m *Monitor) set(c Condition, reason string) {
	m.mu.Lock()
	// procd may replace the process so fast that it is never seen not to run.
	if m.state.Condition == c && m.state.Reason == reason && (c != Running || m.announced == m.state.PID) {
		m.mu.Unlock()
		return
	}
	m.announced = m.state.PID
	m.state.Condition, m.state.Reason = c, reason
	m.mu.Unlock()
	s := m.State()
	switch c {
	case Running:
		m.told = ""
		m.opt.Log.Info("suricata runs", "version", s.Version, "pid", s.PID, "capturing", capturing(s))
	case Missing, Failing:
		if m.told == reason { // one in a row of equal failures
			break
		}
		m.told = reason
		m.opt.Log.Error("suricata does not run: names are not seen", "state", c, "reason", reason)
	case Stopped:
		m.opt.Log.Info("suricata is stopped", "reason", reason)
	}
	if m.opt.Changed != nil {
		m.opt.Changed(s)
	}
}

func capturing(s State) string {
	if s.NFLOGGroup != 0 {
		return fmt.Sprintf("netfilter log group %d", s.NFLOGGroup)
	}
	return strings.Join(s.Interfaces, " ")
}

// note keeps the last error.
func (m *Monitor) note(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.LastError = text
}

// recall learns from the log of a Suricata that an earlier run of this program left whether it captures.
func (m *Monitor) recall() {
	m.engine = true // a log that was emptied says nothing
	if err := m.tail.fromEnd(); err != nil {
		m.opt.Log.Warn("suricata's log cannot be read", "error", err)
		return
	}
	m.readWith(func(line string) { m.follow(ParseLogLine(line).meaning()) })
}

// follow keeps track of whether Suricata captures.
func (m *Monitor) follow(what logMeaning) {
	m.engine = what.engine || m.engine && !what.begins && !what.ends
	m.fresh = m.fresh || what.engine
}

// readLog takes in the new lines of Suricata's log.
func (m *Monitor) readLog() {
	m.readWith(func(line string) {
		l := ParseLogLine(line)
		what := l.meaning()
		m.follow(what)
		if what.begins {
			m.words = ""
		}
		if l.Level >= slog.LevelError {
			if m.words == "" || m.engine { // of those that end a start, the first is the cause
				m.words = l.Message
			}
			m.note(l.Message)
		}
		if what.drops != (Drops{}) {
			m.mu.Lock()
			m.state.Drops.Events += what.drops.Events
			m.state.Drops.Packets += what.drops.Packets
			m.mu.Unlock()
		}
		if what.routine {
			m.opt.Log.Debug("suricata: " + l.Message)
			return
		}
		m.relay.add(l)
	})
}

func (m *Monitor) readWith(f func(string)) {
	for more := true; more; {
		var err error
		if more, err = m.tail.read(f); err != nil {
			m.relay.add(LogLine{slog.LevelWarn, cleanText("its log cannot be read: " + err.Error())})
		}
	}
}
