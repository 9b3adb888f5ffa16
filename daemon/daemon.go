package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"pakon/daemon/api"
	"pakon/daemon/api/timespec"
	"pakon/daemon/client"
	"pakon/daemon/client/vendor"
	"pakon/daemon/clock"
	"pakon/daemon/conntrack"
	"pakon/daemon/disk"
	"pakon/daemon/flow"
	"pakon/daemon/head"
	"pakon/daemon/inotify"
	"pakon/daemon/newclient"
	"pakon/daemon/store"
	"pakon/daemon/store/original"
	"pakon/suricata"
	"pakon/ubus"
)

// options are the daemon's command line.
type options struct {
	root       string
	socket     string
	noSuricata bool
	clean      bool
}

// daemonCommand runs the daemon until the context ends.
func daemonCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("pakon daemon", flag.ContinueOnError)
	var o options
	flags.StringVar(&o.root, "root", "/", "put every path below `DIR`")
	flags.StringVar(&o.socket, "ubus-socket", "", "use the bus at `PATH`")
	flags.BoolVar(&o.noSuricata, "no-suricata", false, "start no Suricata; take events from whoever connects to eve.sock")
	flags.BoolVar(&o.clean, "clean", false, "run nothing; remove what a daemon that was killed has left in the kernel")
	if status, ok := parseFlags(flags, args, stdout, stderr); !ok {
		return status
	}
	if o.clean {
		if err := clean(o); err != nil {
			fmt.Fprintf(stderr, "pakon daemon --clean: %v\n", err)
			return 1
		}
		return 0
	}
	limitMemory()
	log := newLogger(stdout, stderr)
	d, err := newDaemon(ctx, o, log)
	if err != nil {
		if ctx.Err() != nil {
			log.Info("Pakon ends before it has started")
			return 0
		}
		log.Error("Pakon can not start", "err", err)
		return 1
	}
	if err := d.run(ctx); err != nil {
		log.Error("Pakon ends", "err", err)
		return 1
	}
	return 0
}

// clean removes the rules and devices that hand out packets, unless a daemon
// runs whose they are.
func clean(o options) error {
	p := pathsBelow(o.root)
	if err := os.MkdirAll(p.run, 0o700); err != nil {
		return fmt.Errorf("make the folder of the sockets: %w", err)
	}
	lock, err := lockInstance(p.pidFile)
	if err != nil {
		return err
	}
	return errors.Join(head.Clean(), lock.Close())
}

// parseFlags reads options, and nothing else. If ok is false, the command ends
// with status: help was asked for and given, or the usage was wrong, which it
// says in one line.
func parseFlags(flags *flag.FlagSet, args []string, stdout, stderr io.Writer) (status int, ok bool) {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stdout)
		flags.Usage()
		return 0, false
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", flags.Name(), err)
		return 2, false
	}
	return 0, true
}

// daemon is the parts, built and connected.
type daemon struct {
	options
	paths   paths
	log     *slog.Logger
	started time.Time
	lock    *os.File // held as long as the process lives
	hup     chan os.Signal

	clients *client.Table
	table   *flow.Table
	writer  *writer
	store   *store.Store
	events  *suricata.Listener
	bus     *ubus.Client
	api     *api.API
	monitor atomic.Pointer[suricata.Monitor] // nil until it is known what supervises; always with --no-suricata
	kernel  *conntrack.Watcher
	head    *head.Head
	carried *carried
	keeper  *keeper

	newclient   *newclient.Announcer
	leasesMoved chan struct{} // holds one: other files of leases may be in force
	leasesRead  chan struct{} // closed once they were read
	// Of the goroutine that reads leases: what was wrong with them last.
	leaseTrouble string
	leaseLines   bool

	forced atomic.Bool // Suricata's monitor is to try again, even if nothing has changed
	// Of the goroutine that chooses how to capture.
	inspector suricata.Inspector
	applied   *suricata.Settings // nil if nothing was

	adopted    []flow.Flow   // that an earlier run has left running
	monitored  chan struct{} // closed once a monitored interface is there
	captureDue chan struct{}
	method     atomic.Pointer[method] // nil until it is chosen

	looking sync.Mutex              // one look at the interfaces at a time
	watched atomic.Pointer[watched] // what is monitored of the interfaces of the settings

	reloading sync.Mutex // one reload at a time
	enforcing sync.Mutex // held while what settings and watched say is put in force: the latest of both holds
	settings  atomic.Pointer[settings]
	engine    atomic.Pointer[suricata.StatsCounters] // Suricata's latest counters
}

func newDaemon(ctx context.Context, o options, log *slog.Logger) (_ *daemon, err error) {
	d := &daemon{options: o, paths: pathsBelow(o.root), log: log, started: time.Now(), hup: make(chan os.Signal, 1)}
	signal.Notify(d.hup, syscall.SIGHUP)
	if o.socket == "" {
		d.socket = d.paths.ubus
	}
	if err := os.MkdirAll(filepath.Dir(d.paths.live), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the live database: %w", err)
	}
	if err := os.MkdirAll(d.paths.run, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the sockets: %w", err)
	}
	if d.lock, err = lockInstance(d.paths.pidFile); err != nil {
		return nil, err
	}
	s := d.read(nil)
	d.settings.Store(s)
	d.watched.Store(plainly(s.config.Monitor.Interfaces))
	if d.events, err = suricata.Listen(d.paths.eve, log); err != nil {
		return nil, err
	}
	d.store, err = store.Open(ctx, store.Options{
		Path:     d.paths.live,
		MaxFlows: s.config.Monitor.DatabaseLimit,
		Classify: d.classify,
		Location: d.location,
		Log:      log,
	})
	if err != nil {
		return nil, errors.Join(err, d.events.Close())
	}
	d.monitored, d.captureDue = make(chan struct{}), make(chan struct{}, 1)
	d.kernel = conntrack.NewWatcher(log, d.kernelChanged)
	d.head = head.New(log)
	d.clients = client.New(log)
	d.leasesMoved, d.leasesRead = make(chan struct{}, 1), make(chan struct{})
	if v, err := vendor.Open(d.paths.vendors); err != nil {
		log.Warn("the vendors of devices are not known", "err", err)
	} else {
		d.clients.SetVendors(v)
	}
	d.setDevices(s)
	d.writer = newWriter(d.store, log)
	d.table = flow.New(d.clients, d.writer.add)
	d.table.AskKernel(d.kernel.Ask)
	d.table.SetPolicy(d.policy(s))
	if !o.noSuricata {
		// One that an earlier run has left may be given heads only: until that is
		// known, its count is not believed.
		d.table.SetCapture(flow.Capture{Heads: true})
	}
	d.carried = newCarried(log, d.table.Hour, d.table.TakeCoverage)
	d.keeper = newKeeper(d.store, log)
	d.keeper.settings = func() keeping {
		k := d.settings.Load().keeping(d.paths)
		k.imports.Answers = d.learn
		return k
	}
	d.keeper.location, d.keeper.jumped = d.location, d.jumped
	d.store.SetArchive(s.keeping(d.paths).archive)
	d.keeper.devices = &devices{
		table: d.clients, store: d.store, log: log, announce: d.announceDevice, ready: d.devicesReady,
		pass:  func(devices int) { d.newclient.Pass(devices) },
		hosts: func() []client.Host { return d.settings.Load().hosts },
	}
	d.keeper.newDevices = d.clients.Wake()
	d.bus = ubus.New(d.socket, log)
	d.api = api.New(api.Config{
		Store: d.store, Clients: d.clients, Lists: d.lists, Status: d.status, Reload: d.reload,
		Archive: d.keeper.Archive, Backup: d.keeper.Backup, Forget: d.forget, Location: d.location, Log: log,
	})
	d.newclient = newclient.New(newclient.Config{
		Notify: func(n newclient.Notice) error { return d.api.NotifyClient(n.Device, n.More) }, Folder: d.paths.scripts, Turris: d.paths.turris, Log: log,
		Enabled: func() bool { return d.settings.Load().config.Monitor.NotifyNewDevices },
	})
	d.writer.stored = func(flows []flow.Flow) {
		if err := d.api.Stored(flows); err != nil {
			log.Warn("new flows could not be told on the bus", "err", err)
		}
	}
	d.bus.Listen(netifdObject, func(string, ubus.Table) { d.recapture() })
	if err := d.bus.Publish(d.api.Object()); err != nil {
		return nil, errors.Join(err, d.store.Close(), d.events.Close())
	}
	return d, nil
}

func (d *daemon) location() *time.Location { return timespec.Location(d.root) }

// policy is what of the traffic is recorded.
func (d *daemon) policy(s *settings) flow.Policy {
	p := s.policy()
	w := d.watched.Load()
	p.Interfaces, p.Aliases = w.devices, w.aliases
	for _, c := range s.config.Monitor.ExcludeClients {
		for _, m := range d.clients.Named(c) { // by what is not a MAC
			p.ExcludeMACs[m] = true
		}
	}
	p.HourOffset = zoneOffset(d.location())
	return p
}

// interfaces are the monitored interfaces that there are.
func (d *daemon) interfaces() []client.Interface {
	var there []client.Interface
	for _, name := range d.watched.Load().devices {
		if i, ok := d.clients.Interface(name); ok {
			there = append(there, i)
		}
	}
	return there
}

// lists are those in force.
func (d *daemon) lists() api.Lists { return d.settings.Load().lists }

// classify is what the lists in force say of a name.
func (d *daemon) classify(name string) (group string, hidden bool) {
	c := d.settings.Load().lists.Classify(name)
	return c.Group, c.Hidden != ""
}

// run runs the parts until the context ends or one fails. What captures ends
// first, so that what it tells at its end is still recorded.
func (d *daemon) run(ctx context.Context) error {
	d.log.Info("Pakon starts", "version", version)
	left, err := d.store.Tracked(ctx)
	if err != nil {
		return errors.Join(err, d.events.Close(), d.store.Close())
	}
	d.adopted = left
	g, ctx := errgroup.WithContext(ctx)
	late, capturing := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer capturing()
		return d.capture(ctx)
	})
	g.Go(func() error { return d.clients.Run(late) })
	g.Go(func() error {
		d.keeper.awaitDevices(late) // who asks first is to be told of all
		return d.bus.Run(late)
	})
	g.Go(func() error {
		defer d.writer.finish()
		defer d.table.Suspend()
		d.table.Adopt(d.adopted)
		d.adopted = nil
		// The kernel has the last word, after what Suricata tells when it ends.
		last, told := context.WithCancel(context.WithoutCancel(late))
		var sources errgroup.Group
		sources.Go(func() error {
			defer told()
			return d.events.Run(late, d.event, d.table.Flush)
		})
		sources.Go(func() error { return d.followKernel(last) })
		return sources.Wait()
	})
	g.Go(func() error { return d.head.Run(late) })
	g.Go(func() error { return d.carried.run(ctx, d.sampleUncounted) })
	g.Go(func() error { d.writer.run(); return nil })
	g.Go(func() error { return d.follow(ctx) })
	g.Go(func() error {
		defer d.newclient.Finish()
		return d.keeper.run(ctx)
	})
	g.Go(func() error { return d.newclient.Run(ctx) })
	g.Go(func() error { return d.followLeases(ctx) })
	g.Go(func() error {
		if err := inotify.Watch(ctx, d.paths.listFolders(), func(string) { d.listsChanged(ctx) }); err != nil {
			d.log.Error("it is not noticed when lists are changed", "err", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := disk.Watch(ctx, d.keeper.mountsChanged); err != nil {
			d.log.Error("a drive that comes later is not noticed", "err", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := clock.Watch(ctx, d.keeper.clockSet); err != nil {
			d.log.Error("it is not noticed at once when the clock is set", "err", err)
		}
		return nil
	})
	g.Go(func() error {
		// The run that recorded the names may have had other lists.
		if err := d.store.Reclassify(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("the lists are not applied to all recorded names", "err", err)
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-d.bus.Ready():
			d.log.Info("the ubus object is there", "object", api.Path)
			d.recapture() // netifd may be there, too
		}
		return nil
	})
	err = g.Wait()
	d.keeper.finish()
	err = errors.Join(err, d.store.Close())
	if err == nil {
		d.log.Info("Pakon ends")
	}
	return err
}

// learn takes the names that the original Pakon knew.
func (d *daemon) learn(names []original.Name, at int64) {
	for _, n := range names {
		d.table.Learn(n.Client, n.Address, n.Name, at)
	}
}

// event takes one event of Suricata.
func (d *daemon) event(ev *suricata.Event) {
	if ev.Kind == suricata.Stats {
		s := ev.Stats
		d.engine.Store(&s)
	}
	d.table.Event(ev)
}

// follow reacts to interfaces that come and go, to what else decides on the
// capture, and to SIGHUP, which asks to read the configuration again.
func (d *daemon) follow(ctx context.Context) error {
	defer signal.Stop(d.hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.clients.Changes():
			d.applyCapture(ctx)
		case <-d.head.Changes():
			d.applyCapture(ctx)
		case <-d.captureDue:
			d.applyCapture(ctx)
		case <-d.clients.Renamed():
			d.renamed()
		case <-d.hup:
			if err := d.reload(ctx); err != nil {
				d.log.Error("reload failed", "err", err)
			}
		}
		d.noteMonitored()
	}
}

// noteMonitored begins to follow the kernel's connections once there is
// something to be monitored.
func (d *daemon) noteMonitored() {
	select {
	case <-d.monitored:
		return
	default:
	}
	if d.settings.Load().config.Monitor.Enabled && len(d.interfacesUp()) > 0 {
		close(d.monitored)
	}
}

// reload reads configuration, hosts and lists again and puts them in force.
func (d *daemon) reload(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	s := d.read(d.settings.Load())
	d.settings.Store(s)
	d.lookAround(ctx)
	d.enforce()
	d.store.SetMaxFlows(s.config.Monitor.DatabaseLimit)
	d.store.SetArchive(s.keeping(d.paths).archive)
	d.keeper.configured()
	d.forced.Store(true)
	d.recapture()
	// The caller may leave; then the lists are to hold for all names all the same.
	if err := d.store.Reclassify(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("apply the lists to recorded names: %w", err)
	}
	return nil
}

// listsChanged puts the lists in force as they are now, and nothing else.
func (d *daemon) listsChanged(ctx context.Context) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	last := d.settings.Load()
	if filesIn(d.paths.listFolders()) == last.listFiles {
		return
	}
	s := *last
	s.readLists(d.paths)
	s.tell(d.log, last)
	d.settings.Store(&s)
	domains, services := s.lists.Len()
	d.log.Info("the lists have changed", "domains", domains, "services", services)
	if err := d.store.Reclassify(ctx); err != nil && ctx.Err() == nil {
		d.log.Error("the lists are not applied to all recorded names", "err", err)
	}
}

// read reads the settings, says what is wrong with them, and saves what is then
// in force for a start that finds a file refused.
func (d *daemon) read(last *settings) *settings {
	s := readSettings(d.paths, last)
	s.tell(d.log, last)
	if err := s.save(d.paths.saved); err != nil {
		d.log.Warn(err.Error())
	}
	return s
}
