package suricata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"syscall"
	"time"

	"pakon/ubus"
)

// Bus is what Procd needs of ubus.
type Bus interface {
	Call(ctx context.Context, path, method string, args ubus.Table) (ubus.Table, error)
	// Subscribe calls f for each notification of the object, and does so again when the object reappears.
	Subscribe(path string, f func(typ string, data ubus.Table)) (stop func())
}

const (
	procdObject   = "service"
	procdName     = "suricata-pakon"
	procdInstance = "instance1" // what procd.sh calls the only instance of an init script
)

// respawn as in procd.sh: threshold s, delay s, retries. After six ends, each within a minute of its start, procd gives
// up, and whoever wants the program running calls Start with a growing delay.
var procdRespawn = ubus.Array{"60", "5", "5"}

const (
	procdTimeout = 10 * time.Second // of one call: procd answers in milliseconds
	// procdRecheck is when the state is asked for again although nothing was told: while procd is about to start the
	// program, or could not be asked. Notifications are lost while the bus is away.
	procdRecheck = 6 * time.Second
)

// Procd is the Service on OpenWrt: procd runs the program as a service of its own, as if an init script
// `suricata-pakon` had started it. It outlives this program; `ubus call service delete '{"name":"suricata-pakon"}'`
// ends it.
type Procd struct {
	bus     Bus
	name    string // of the service
	inst    string // of its instance
	log     *slog.Logger
	changes chan struct{}
	dirty   chan struct{} // the state is to be asked for

	mu     sync.Mutex
	state  ServiceState
	proc   *process // the running one, if it can be watched
	wanted bool     // by the last Start or Stop
	wg     sync.WaitGroup

	asking sync.Mutex // one refresh at a time, for the answers to be taken in order
}

// NewProcd returns a Procd that talks to procd over the bus.
func NewProcd(bus Bus, log *slog.Logger) *Procd {
	return &Procd{bus: bus, name: procdName, inst: procdInstance, log: log, changes: make(chan struct{}, 1), dirty: make(chan struct{}, 1)}
}

// HasProcd tells whether procd is on the bus. An error other than its absence is returned.
func HasProcd(ctx context.Context, bus Bus) (bool, error) {
	_, err := bus.Call(ctx, procdObject, "list", ubus.Table{{Name: "name", Value: procdName}})
	if errors.Is(err, ubus.StatusNotFound) || errors.Is(err, ubus.StatusMethodNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Kind implements Service.
func (p *Procd) Kind() string { return "procd" }

// Changes implements Service.
func (p *Procd) Changes() <-chan struct{} { return p.changes }

// State implements Service.
func (p *Procd) State() ServiceState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Run implements Service.
func (p *Procd) Run(ctx context.Context) error {
	stop := p.bus.Subscribe(procdObject, p.notified)
	defer stop()
	defer p.unwatch()
	notify(p.dirty)
	var recheck <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.dirty:
		case <-recheck:
		}
		recheck = nil
		if err := p.refresh(ctx); err != nil || p.State().Pending {
			recheck = time.After(procdRecheck)
		}
	}
}

// notified takes procd's notifications. It may run on the bus connection's own goroutine: no calls from here.
func (p *Procd) notified(typ string, data ubus.Table) {
	if name, _ := data.String("service"); name != p.name {
		return
	}
	switch typ {
	case "instance.respawn", "instance.fail":
		p.mu.Lock()
		p.state.Exits++
		if code, ok := data.Int("exit_code"); ok {
			p.state.Exit = exitText(code)
		}
		p.mu.Unlock()
	}
	notify(p.dirty)
}

// exitText names the exit code as procd gives it: that of a shell, 128 + signal.
func exitText(code int64) string {
	if code > 128 && code < 128+65 {
		return "signal: " + syscall.Signal(code-128).String()
	}
	return "exit status " + strconv.FormatInt(code, 10)
}

// Start implements Service: the `set` of an init script, which procd compares with what it has.
func (p *Procd) Start(ctx context.Context, spec Spec) (started bool, err error) {
	if err := p.refresh(ctx); err != nil {
		return false, err
	}
	was := p.State().PID
	p.setWanted(true)
	if _, err := p.call(ctx, "set", p.set(spec)); err != nil {
		return false, fmt.Errorf("procd: setting service %s: %w", p.name, err)
	}
	// One that is being replaced is still shown for as long as it takes to end.
	err = p.refresh(ctx)
	return p.State().PID != was, err
}

func (p *Procd) setWanted(wanted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = wanted
}

// set is what procd.sh sends, field for field.
func (p *Procd) set(spec Spec) ubus.Table {
	instance := ubus.Table{
		{Name: "command", Value: strings2array(spec.Command)},
		{Name: "respawn", Value: procdRespawn},
		{Name: "file", Value: strings2array(spec.Files)},
		{Name: "stdout", Value: true},
		{Name: "stderr", Value: true},
		{Name: "nice", Value: int32(spec.Nice)},
		{Name: "term_timeout", Value: int32(max(1, spec.TermTimeout/time.Second))},
	}
	return ubus.Table{
		{Name: "name", Value: p.name},
		{Name: "script", Value: "/etc/init.d/" + p.name},
		{Name: "instances", Value: ubus.Table{{Name: p.inst, Value: instance}}},
		{Name: "triggers", Value: ubus.Array{}},
		{Name: "validate", Value: ubus.Array{}},
		{Name: "data", Value: ubus.Table{}},
	}
}

func strings2array(list []string) ubus.Array {
	a := make(ubus.Array, len(list))
	for i, s := range list {
		a[i] = s
	}
	return a
}

// Stop implements Service.
func (p *Procd) Stop(ctx context.Context) error {
	p.setWanted(false)
	// What runs may have been started by an earlier run of this program.
	if err := p.refresh(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	proc := p.proc
	p.mu.Unlock()
	_, err := p.call(ctx, "delete", ubus.Table{{Name: "name", Value: p.name}})
	if err != nil && !errors.Is(err, ubus.StatusNotFound) {
		return fmt.Errorf("procd: deleting service %s: %w", p.name, err)
	}
	if proc != nil {
		select {
		case <-proc.done:
		case <-ctx.Done():
			return fmt.Errorf("procd: waiting for service %s to end: %w", p.name, context.Cause(ctx))
		}
	}
	return p.refresh(ctx)
}

func (p *Procd) call(ctx context.Context, method string, args ubus.Table) (ubus.Table, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, procdTimeout, errors.New("no answer"))
	defer cancel()
	return p.bus.Call(ctx, procdObject, method, args)
}

// refresh asks procd for the state.
func (p *Procd) refresh(ctx context.Context) error {
	p.asking.Lock()
	defer p.asking.Unlock()
	reply, err := p.call(ctx, "list", ubus.Table{{Name: "name", Value: p.name}})
	if err != nil {
		return fmt.Errorf("procd: listing service %s: %w", p.name, err)
	}
	instance, known := p.instance(reply)
	running, _ := instance.Bool("running")
	pid, _ := instance.Int("pid")
	_, respawns := instance.Get("respawn")
	p.follow(running, int(pid))

	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.state
	s := &p.state
	s.Running, s.PID = running, 0
	if running {
		s.PID = int(pid)
		if s.Since.IsZero() || was.PID != s.PID {
			s.Since = time.Now()
			if p.proc != nil {
				s.Since = startTime(p.proc.start)
			}
		}
	} else {
		s.Since = time.Time{}
	}
	s.Pending = known && !running && respawns
	s.Removed = p.wanted && !known
	if code, ok := instance.Int("exit_code"); ok && !running {
		s.Exit = exitText(code)
	}
	if *s != was {
		notify(p.changes)
	}
	return nil
}

// instance finds the instance in the reply to `list`.
func (p *Procd) instance(reply ubus.Table) (ubus.Table, bool) {
	service, _ := reply.Table(p.name)
	instances, _ := service.Table("instances")
	return instances.Table(p.inst)
}

// follow watches the process itself as well: its end is then seen even while the bus is away.
func (p *Procd) follow(running bool, pid int) {
	p.mu.Lock()
	old := p.proc
	if old != nil && running && old.pid == pid && old.running() {
		p.mu.Unlock()
		return
	}
	p.proc = nil
	p.mu.Unlock()
	if old != nil {
		old.close()
	}
	if !running || pid <= 1 {
		return
	}
	proc, err := openProcess(pid, false)
	if err != nil { // gone already, or in another PID namespace (a jail): procd tells
		p.log.Debug("suricata's process cannot be watched", "pid", pid, "error", err)
		return
	}
	p.mu.Lock()
	p.proc = proc
	p.mu.Unlock()
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		<-proc.done
		if proc.exited {
			notify(p.dirty)
		}
	}()
}

// unwatch ends what follow began.
func (p *Procd) unwatch() {
	p.follow(false, 0)
	p.wg.Wait()
}
