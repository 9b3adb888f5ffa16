package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"pakon/daemon/flow"
	"pakon/daemon/head"
	"pakon/suricata"
	"pakon/uci/regular"
)

// busPatience is how long the start waits for the bus to tell whether procd is
// there, where it is not installed: on a machine for development.
const busPatience = 5 * time.Second

// method is how Suricata gets its packets.
type method struct {
	way     head.Way // None: every packet, by AF_PACKET
	why     string   // why it is not the one that was asked for; "" if it is
	offload string   // what flow offloading means for it; "" if there is none
	// counted: the kernel counted connections when it was chosen.
	counted bool
	// uncounted: a flow table forwards without counting.
	uncounted bool
}

// mode is the method as the configuration calls it.
func (m method) mode() string {
	if m.way == head.None {
		return "tap"
	}
	return "filter"
}

// machine is what the choice of a method depends on.
type machine struct {
	counted error           // why connections are not counted, nil if they are
	build   *suricata.Build // nil if there is no Suricata, or it does not tell
	ability head.Ability
	probe   error  // why ability is not known
	bridges string // a monitored interface by which this machine itself reaches the internet, "" if none
}

// choose picks the method for a mode: the one that costs least of those that
// see all connections.
func choose(mode string, m machine) method {
	var c method
	offloaded := len(m.ability.Flowtables) > 0
	if mode != "tap" {
		c.way, c.why = chooseWay(m, offloaded)
	}
	if offloaded {
		c.offload = offloadNote(c.way, m.ability.Flowtables)
		c.uncounted = slices.ContainsFunc(m.ability.Flowtables, uncounting)
	}
	return c
}

func chooseWay(m machine, offloaded bool) (head.Way, string) {
	nflog, mirror := m.ability.NFLOG, m.ability.Mirror
	switch {
	case m.bridges != "":
		return head.None, fmt.Sprintf("the internet is behind %s: what this machine only bridges, the kernel neither tracks nor hands on", m.bridges)
	case m.counted != nil:
		return head.None, fmt.Sprintf("connections are not counted: %v", m.counted)
	case m.probe != nil:
		return head.None, fmt.Sprintf("nftables can not be asked: %v", m.probe)
	}
	if slices.ContainsFunc(m.ability.Flowtables, uncounting) {
		return head.None, "flow offloading is on, and its flow table does not count bytes (it has no 'counter')"
	}
	if nflog == nil && m.build != nil && !m.build.NFLOG {
		nflog = errors.New("this Suricata is built without NFLOG")
	}
	if nflog == nil && offloaded {
		nflog = errors.New("flow offloading hides packets from it")
	}
	if mirror == nil && m.build != nil && !m.build.AFPacket {
		mirror = errors.New("this Suricata is built without AF_PACKET")
	}
	switch {
	case nflog == nil:
		return head.NFLOG, ""
	case mirror == nil:
		return head.Mirror, ""
	}
	return head.None, fmt.Sprintf("neither a netfilter log (%v) nor a mirror (%v) can be used", nflog, mirror)
}

func uncounting(t head.Flowtable) bool { return !t.Counter }

// offloadNote says what flow offloading means for the method.
func offloadNote(way head.Way, tables []head.Flowtable) string {
	var notes []string
	hardware, uncounted := false, false
	var devices []string
	for _, t := range tables {
		hardware = hardware || t.Hardware
		uncounted = uncounted || !t.Counter
		devices = append(devices, t.Devices...)
	}
	slices.Sort(devices)
	notes = append(notes, fmt.Sprintf("Flow offloading is on for %s.", strings.Join(slices.Compact(devices), ", ")))
	if hardware {
		notes = append(notes, "Hardware offloading hides packets from every way of capture: names are seen as long as a connection is not offloaded, and bytes as far as the hardware reports them.")
	}
	if uncounted {
		notes = append(notes, "The flow table has no 'counter': the bytes of an offloaded connection are known at its end only, from what Suricata saw.")
	}
	if way == head.None && !hardware {
		notes = append(notes, "Names and bytes are seen if the flow table has the bridges; if it has their ports, most packets bypass the capture.")
	}
	return strings.Join(notes, " ")
}

// capture keeps Suricata running for the interfaces that are there, until the
// context ends.
func (d *daemon) capture(ctx context.Context) error {
	if d.noSuricata {
		<-ctx.Done()
		return nil
	}
	service, keep := d.service(ctx)
	if service == nil {
		return nil
	}
	// Of the calls of Changed.
	pid, missing := 0, false
	m := suricata.NewMonitor(suricata.Options{
		RunDir: d.paths.run, Service: service, KeepRunning: keep, Log: d.log,
		Changed: func(s suricata.State) {
			d.notify(string(s.Condition))
			if s.PID != pid {
				pid = s.PID
				d.engine.Store(nil) // another has counted that
			}
			if s.Condition == suricata.Failing || missing {
				d.recapture() // it may have failed for an interface that is gone, or be installed now
			}
			missing = s.Condition == suricata.Missing
		},
	})
	d.monitor.Store(m)
	select {
	case <-ctx.Done():
		return nil
	case <-d.clients.Ready():
	}
	d.recapture()
	err := m.Run(ctx)
	if used := d.method.Load(); used != nil && used.way != head.None && !keep() {
		err = errors.Join(err, d.head.Remove())
	}
	return err
}

// service chooses what runs Suricata: procd where it is installed or on the
// bus, and then Suricata goes on through a restart of the daemon, else the
// daemon itself. It is nil if the context ends before that is known.
func (d *daemon) service(ctx context.Context) (_ suricata.Service, keep func() bool) {
	never := func() bool { return false }
	var enough <-chan time.Time
	_, err := os.Stat(d.paths.procd)
	installed := err == nil
	if !installed {
		enough = time.After(busPatience)
	}
	select {
	case <-ctx.Done():
		return nil, nil
	case <-d.bus.Ready():
	case <-enough:
	}
	if installed {
		// It may run a Suricata already: beside a second one each flow would
		// be recorded twice. If it is not on the bus (yet), it is asked again.
		return suricata.NewProcd(d.bus, d.log), d.restarting
	}
	asking, cancel := context.WithTimeout(ctx, busPatience)
	procd, err := suricata.HasProcd(asking, d.bus)
	cancel()
	switch {
	case ctx.Err() != nil:
		return nil, nil
	case procd:
		return suricata.NewProcd(d.bus, d.log), d.restarting
	case err != nil:
		d.log.Warn("procd can not be asked for; Suricata is run without it", "err", err)
	}
	return suricata.NewChild(filepath.Join(d.paths.run, "suricata.json"), d.log), never
}

// restarting reports whether the daemon ends only to be started again. What was
// left by a restart of another is of no meaning.
func (d *daemon) restarting() bool {
	pid, err := regular.Read(d.paths.restart, 32)
	return err == nil && strings.TrimSpace(string(pid)) == strconv.Itoa(os.Getpid())
}

func (d *daemon) notify(state string) {
	if err := d.api.NotifySuricata(state); err != nil {
		d.log.Warn("state of Suricata could not be told on the bus", "err", err)
	}
}

// recapture makes applyCapture run.
func (d *daemon) recapture() {
	select {
	case d.captureDue <- struct{}{}:
	default: // it is due already
	}
}

// applyCapture gives Suricata's monitor what to capture, and the kernel what to
// hand it. It waits until it is known whether the kernel counts connections,
// which the choice of the method depends on.
func (d *daemon) applyCapture(ctx context.Context) {
	d.lookAround(ctx)
	m := d.monitor.Load()
	if m == nil {
		return
	}
	monitor := d.settings.Load().config.Monitor
	watched, there := d.watched.Load().devices, d.interfacesUp()
	if !monitor.Enabled {
		d.stopCapture(m)
		return
	}
	if len(there) == 0 && d.method.Load() == nil {
		m.Apply(suricata.Settings{}) // nothing is there yet
		d.applied = nil
		return
	}
	counted := d.kernel.State()
	if !counted.Active && counted.Problem == "" {
		return
	}
	now := d.inspect(ctx, monitor.Mode)
	if ctx.Err() != nil {
		return
	}
	used := choose(monitor.Mode, now)
	if before := d.method.Load(); before != nil && before.way != head.None && monitor.Mode != "tap" &&
		(now.probe != nil || now.counted != nil) {
		used = *before // what is out of reach for a moment is not worth starting Suricata anew, twice
	}
	if err := d.head.Apply(head.Settings{Way: used.way, Interfaces: watched}); err != nil {
		if used.way != head.None {
			used = method{why: fmt.Sprintf("the rules can not be put in force: %v", err), offload: used.offload}
			err = d.head.Remove()
		}
		if err != nil {
			d.log.Debug("what an earlier run may have left in nftables is still there", "err", err) // status says it
		}
	}
	used.counted = used.way != head.None || counted.Any
	if before := d.method.Load(); before != nil && before.way == used.way {
		used.counted = before.counted // not worth another start of Suricata
	}
	d.useMethod(used, monitor.Mode)
	s := suricata.Settings{Counted: used.counted}
	c := flow.Capture{Heads: used.way != head.None, Uncounted: used.uncounted}
	switch used.way {
	case head.NFLOG:
		s.NFLOGGroup = head.Group
	case head.Mirror:
		c.Devices = d.head.State().Mirrors
		for device := range c.Devices {
			s.Interfaces = append(s.Interfaces, device)
		}
	default:
		s.Interfaces = there
		if st := m.State(); st.Condition == suricata.Running && st.NFLOGGroup == 0 {
			// It opens an interface that has gone again by itself, once it is back.
			for _, name := range watched {
				if slices.Contains(st.Interfaces, name) && !slices.Contains(there, name) {
					s.Interfaces = append(s.Interfaces, name)
				}
			}
		}
	}
	d.table.SetCapture(c)
	slices.Sort(s.Interfaces)
	if !d.forced.Swap(false) && d.applied != nil && reflect.DeepEqual(*d.applied, s) {
		return // the monitor goes on trying by itself, ever more slowly
	}
	d.applied = &s
	m.Apply(s)
}

// stopCapture ends what captures.
func (d *daemon) stopCapture(m *suricata.Monitor) {
	m.Apply(suricata.Settings{})
	d.applied = nil
	d.method.Store(nil)
	if err := d.head.Remove(); err != nil {
		d.log.Warn("rules in nftables could not be removed", "err", err)
	}
}

// useMethod notes the method in use, and says so if it is not what was asked for.
func (d *daemon) useMethod(used method, mode string) {
	before := d.method.Swap(&used)
	if before != nil && *before == used {
		return
	}
	switch {
	case used.why == "":
	case mode == "filter":
		d.log.Warn("mode 'filter' can not be used, 'tap' is", "why", used.why)
	default:
		d.log.Info("mode 'tap' is used", "why", used.why)
	}
	if used.offload != "" && (before == nil || before.offload != used.offload) {
		d.log.Info(used.offload)
	}
}

// inspect finds out what this machine can do.
func (d *daemon) inspect(ctx context.Context, mode string) machine {
	var m machine
	if st := d.kernel.State(); !st.Active {
		m.counted = errors.New(st.Problem)
	}
	interfaces := d.watched.Load().devices
	if mode == "tap" {
		m.ability.Flowtables, m.probe = head.Flowtables()
		return m
	}
	for _, i := range interfaces {
		if d.clients.Uplink(i) {
			m.bridges = i
		}
	}
	m.ability, m.probe = head.Probe(interfaces)
	binary, err := suricata.Find("")
	if err != nil {
		return m // the monitor says so
	}
	build, err := d.inspector.Inspect(ctx, binary)
	if err != nil {
		d.log.Debug("what Suricata can do is not known", "err", err) // likewise
		return m
	}
	m.build = &build
	return m
}

// interfacesUp are the monitored interfaces that are there and up.
func (d *daemon) interfacesUp() []string {
	var there []string
	for _, i := range d.interfaces() {
		if i.Up {
			there = append(there, i.Name)
		}
	}
	return there
}
