package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/client/lease"
	"pakon/daemon/flow"
	"pakon/daemon/inotify"
	"pakon/daemon/store"
)

const (
	// devicesFile is beside the archive.
	devicesFile = "devices.json"
	// soonBytes is how much may be written a day for the sake of new devices: with
	// made-up ones without end, they are saved along with the backup only.
	soonBytes = 1 << 20
	// A registry that is larger is saved along with a backup once a day, if no device
	// was noted.
	oftenBytes = 64 << 10
)

// deviceStore is what the registry of devices needs of the store.
type deviceStore interface {
	// Totals tells which clients have flows; the known ones always.
	Totals(ctx context.Context, since int64, known func(client.ID) bool) (store.Totals, error)
	// Wrote counts bytes that were written to the drive.
	Wrote(ctx context.Context, bytes int64) error
}

// devices keeps the registry of devices on the drive, and has new ones announced.
// The keeper calls all methods from its one goroutine.
type devices struct {
	table    *client.Table
	store    deviceStore
	log      *slog.Logger
	hosts    func() []client.Host // those that the owner has named
	announce func(client.Device)
	pass     func(devices int) // counts new devices that were forgotten again
	// ready returns once the table has what the kernel and the DHCP server know, or
	// can not have it, or ctx has ended.
	ready func(ctx context.Context)

	path  string      // of the file that was read; "" if none was
	home  fs.FileInfo // the folder that it was in; nil if that is not known
	saved time.Time   // monotonic: when it was last written
	bytes int64       // how large it was then
	since time.Time   // monotonic: of the day in which soon was written
	soon  int64       // bytes
}

// attach reads the registry in the folder, if that is not done. Where there is
// none, all devices that anything is known of are taken for known.
func (d *devices) attach(ctx context.Context, folder string) error {
	path := filepath.Join(folder, devicesFile)
	if path == d.path && d.atHome() {
		return nil
	}
	home := look(path)
	records, err := d.read(path)
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case err == nil:
		return nil
	case !missing && !errors.Is(err, client.ErrBroken):
		return err
	case !missing:
		broken := path + ".broken"
		if e := os.Rename(path, broken); e != nil {
			return fmt.Errorf("set %s aside: %w", path, e)
		}
		d.log.Error("the known devices are read in part only: their file was set aside", "path", broken, "err", err)
	}
	if !d.table.Known() {
		d.ready(ctx)
		known, err := d.everyone(ctx)
		if err != nil {
			return err
		}
		records = append(records, known...)
	}
	d.table.Load(records, !d.table.Known())
	d.path, d.home = path, home
	_, err = d.write(ctx)
	return err
}

// atHome tells whether the folder is the one of which the registry was read, and
// not one that was mounted over it.
func (d *devices) atHome() bool {
	now := look(d.path)
	return d.home != nil && now != nil && os.SameFile(d.home, now)
}

// look is the folder that a file is in, nil if it is not there.
func look(path string) fs.FileInfo {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil
	}
	return info
}

// left has the registry read again: another drive may be there.
func (d *devices) left() { d.home = nil }

// read takes the registry if there is one that is whole; what is left of another,
// it returns.
func (d *devices) read(path string) ([]client.Record, error) {
	home := look(path)
	records, err := client.ReadRecords(path)
	if err != nil {
		return records, err
	}
	d.table.Load(records, false)
	d.path, d.home = path, home
	return nil, nil
}

// everyone is those who have flows or a name of the owner's.
func (d *devices) everyone(ctx context.Context) ([]client.Record, error) {
	there := make(map[client.MAC]bool)
	for _, n := range d.table.Devices() {
		there[n.MAC] = true
	}
	for _, h := range d.hosts() {
		for _, m := range h.MACs {
			there[m] = true
		}
	}
	totals, err := d.store.Totals(ctx, 0, func(id client.ID) bool { return there[id.MAC] })
	if err != nil {
		return nil, fmt.Errorf("list the clients of all flows: %w", err)
	}
	var records []client.Record
	for id, t := range totals.Of {
		if !id.MAC.IsZero() {
			records = append(records, client.Record{MAC: id.MAC, First: t.First, Last: t.Last, Told: true})
		}
	}
	for _, h := range d.hosts() {
		if h.Name == "" {
			continue
		}
		for _, m := range h.MACs {
			records = append(records, client.Record{MAC: m, Told: true})
		}
	}
	return records, nil
}

// save writes the registry, and returns how many bytes. Before attach it does
// nothing. What another drive knows that has come meanwhile is not lost by it.
func (d *devices) save(ctx context.Context) (written int64, err error) {
	if d.path == "" {
		return 0, nil
	}
	if !d.atHome() {
		if err := d.attach(ctx, filepath.Dir(d.path)); err != nil {
			return 0, err
		}
	}
	return d.write(ctx)
}

// stale tells whether the registry is to be saved along with a backup.
func (d *devices) stale() bool {
	return d.bytes < oftenBytes || d.table.Unsaved() || time.Since(d.saved) > 24*time.Hour
}

// write is save where the registry was read.
func (d *devices) write(ctx context.Context) (written int64, err error) {
	switch err := os.Mkdir(filepath.Dir(d.path), 0o700); {
	case err == nil:
		d.home = look(d.path)
	case !errors.Is(err, fs.ErrExist):
		return 0, fmt.Errorf("make the folder of the known devices: %w", err)
	}
	written, err = client.WriteRecords(d.path, d.table.Records())
	d.saved, d.bytes = time.Now(), written
	return written, errors.Join(err, d.store.Wrote(context.WithoutCancel(ctx), written))
}

// forget removes what is left of a broken registry.
func (d *devices) forget() error {
	if d.path == "" {
		return nil
	}
	if err := os.Remove(d.path + ".broken"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete a broken list of devices: %w", err)
	}
	return nil
}

// work has new devices announced that are due, and returns when it is to be called
// again; zero if the table's Wake tells. What is known of them is saved first, by
// save, so that none is announced twice.
func (d *devices) work(save func() (int64, error)) (next time.Time) {
	news, passed, next := d.table.News()
	if d.path != "" && (len(news) > 0 || next.IsZero() && d.table.Unsaved()) {
		if time.Since(d.since) > 24*time.Hour {
			d.since, d.soon = time.Now(), 0
		}
		if d.soon < soonBytes {
			written, _ := save() // which has told of the error
			d.soon += written
		}
	}
	if passed > 0 {
		d.pass(passed)
	}
	for _, n := range news {
		d.announce(n)
	}
	return next
}

// muted tells whether nobody is to be told of a new device.
// networks are its network's links, as they are called and as the configuration
// calls them.
func muted(n *client.Device, mute, networks []string) bool {
	return slices.ContainsFunc(mute, func(m string) bool {
		if mac, err := client.ParseMAC(m); err == nil {
			return mac == n.MAC
		}
		// A network of UCI is known by the link that it has by default, too.
		// What a device calls itself says nothing of whose it is.
		return n.NameSource == client.Static && strings.EqualFold(m, n.Name) || slices.Contains(networks, m) || slices.Contains(networks, "br-"+m)
	})
}

// announceDevice has a new device announced, unless it is muted.
func (d *daemon) announceDevice(n client.Device) {
	if muted(&n, d.settings.Load().config.Monitor.NotifyMute, append(d.watched.Load().named(n.Interface), n.Interface)) {
		return
	}
	d.newclient.Announce(n)
}

// enforce puts in force what settings and interfaces say of whom to record: the
// latest of both, whoever else does the same.
func (d *daemon) enforce() {
	d.enforcing.Lock()
	defer d.enforcing.Unlock()
	s := d.settings.Load()
	d.setDevices(s)
	d.table.SetPolicy(d.policy(s))
}

// setDevices tells the table of clients what the settings say of them.
func (d *daemon) setDevices(s *settings) {
	d.clients.SetHosts(s.hosts)
	p := d.policy(s)
	d.setNetworks(&p)
	tell(d.leasesMoved)
}

func (d *daemon) setNetworks(p *flow.Policy) {
	networks := p.Interfaces
	if p.Off {
		networks = nil
	}
	d.clients.SetNetworks(networks, p.ExcludeMACs)
}

// hostsChanged puts the files of hosts in force as they are now, and nothing else.
func (d *daemon) hostsChanged() {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	last := d.settings.Load()
	s := *last
	s.readHosts(d.paths)
	s.tell(d.log, last)
	d.settings.Store(&s)
	if reflect.DeepEqual(s.hosts, last.hosts) {
		return
	}
	d.log.Info("the files of hosts have changed", "hosts", len(s.hosts))
	d.enforce()
}

// renamed leaves out those who are not to be recorded by the names that the owner
// gave to devices without their MACs.
func (d *daemon) renamed() {
	d.enforcing.Lock()
	defer d.enforcing.Unlock()
	p := d.policy(d.settings.Load())
	d.setNetworks(&p)
	d.table.SetPolicy(p)
}

// followLeases takes the leases of the DHCP servers, and the files of hosts, as they
// change.
func (d *daemon) followLeases(ctx context.Context) error {
	for ctx.Err() == nil {
		s := d.settings.Load()
		files, hostsFiles := s.leases, s.hostsFiles
		d.readLeases(files) // what is there is needed before it is watched
		watching, cancel := context.WithCancel(ctx)
		var watch sync.WaitGroup
		watch.Go(func() {
			if err := inotify.Watch(watching, slices.Concat(files, hostsFiles), func(path string) {
				if slices.Contains(files, path) {
					d.readLeases(files)
				}
				if slices.Contains(hostsFiles, path) {
					d.hostsChanged()
				}
			}); err != nil {
				d.log.Error("what devices tell the DHCP server, and what they are called, is not followed", "err", err)
			}
		})
		for moved := false; !moved; {
			select {
			case <-ctx.Done():
				moved = true
			case <-d.leasesMoved:
				s := d.settings.Load()
				moved = !slices.Equal(s.leases, files) || !slices.Equal(s.hostsFiles, hostsFiles)
			}
		}
		cancel()
		watch.Wait()
	}
	return nil
}

// devicesReady returns once the table of clients is filled as far as it is known
// now, or ctx has ended.
func (d *daemon) devicesReady(ctx context.Context) {
	for _, ready := range []<-chan struct{}{d.clients.Ready(), d.leasesRead} {
		select {
		case <-ready:
		case <-ctx.Done():
		}
	}
}

// readLeases is called by one goroutine at a time.
func (d *daemon) readLeases(files []string) {
	leases, skipped, err := lease.Read(files)
	d.clients.SetLeases(leases)
	if said := strings.ReplaceAll(text(err), "\n", "; "); said != d.leaseTrouble {
		if d.leaseTrouble = said; said != "" {
			d.log.Warn("the names of some devices are not known", "err", said)
		}
	}
	if (skipped > 0) != d.leaseLines {
		if d.leaseLines = skipped > 0; d.leaseLines {
			d.log.Warn("lines of the DHCP server's leases are not understood", "lines", skipped)
		}
	}
	select {
	case <-d.leasesRead:
	default:
		close(d.leasesRead)
	}
}
