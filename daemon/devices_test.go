package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/client/lease"
	"pakon/daemon/disk"
	"pakon/daemon/flow"
	"pakon/daemon/store"
)

var (
	deviceA = client.MAC{0, 0, 0, 0, 0, 0xa}
	deviceB = client.MAC{0, 0, 0, 0, 0, 0xb}
	deviceC = client.MAC{0, 0, 0, 0, 0, 0xc}
)

// countedStore knows clients, and counts what is written.
type countedStore struct {
	totals  map[client.ID]store.Total
	err     error
	written atomic.Int64
	writes  atomic.Int64
}

func (s *countedStore) Totals(context.Context, int64, func(client.ID) bool) (store.Totals, error) {
	return store.Totals{Of: s.totals}, s.err
}

func (s *countedStore) Wrote(_ context.Context, n int64) error {
	s.written.Add(n)
	if n > 0 {
		s.writes.Add(1)
	}
	return nil
}

// devicesRig is a registry of devices in a folder.
type devicesRig struct {
	*devices
	counted *countedStore
	log     *bytes.Buffer
	folder  string

	mu     sync.Mutex
	list   []client.MAC
	passed int
}

func newDevicesRig(folder string) *devicesRig {
	r := &devicesRig{counted: &countedStore{}, log: &bytes.Buffer{}, folder: folder}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.devices = &devices{
		table: client.New(log), store: r.counted, log: log, hosts: func() []client.Host { return nil },
		ready: func(context.Context) {},
		pass:  func(devices int) { r.passed += devices },
		announce: func(d client.Device) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.list = append(r.list, d.MAC)
		},
	}
	r.table.SetNetworks([]string{"br-lan"}, nil)
	return r
}

// told are those told of since it was asked last.
func (r *devicesRig) told() []client.MAC {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.list
	r.list = nil
	return told
}

func (r *devicesRig) seen(m client.MAC) {
	r.table.Seen(m, netip.MustParseAddr("192.168.1.7"), "br-lan", time.Now().UnixMilli())
}

// settled lets all wait that is waited for, and returns who was told since.
func (r *devicesRig) settled(t *testing.T) []client.MAC {
	t.Helper()
	save := func() (int64, error) { return r.save(t.Context()) }
	for next := r.work(save); !next.IsZero(); next = r.work(save) {
		time.Sleep(time.Until(next))
	}
	return r.told()
}

// settle has the registry read, and lets the time pass in which those that appear
// after the first start count as known.
func (r *devicesRig) settle(t *testing.T) {
	t.Helper()
	if err := r.attach(t.Context(), r.folder); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour)
}

func (r *devicesRig) saved(t *testing.T) []client.MAC {
	t.Helper()
	records, err := client.ReadRecords(filepath.Join(r.folder, devicesFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	var macs []client.MAC
	for _, rec := range records {
		macs = append(macs, rec.MAC)
		if !rec.Told {
			t.Errorf("%v is saved as one nobody was told of", rec.MAC)
		}
	}
	slices.SortFunc(macs, func(a, b client.MAC) int { return slices.Compare(a[:], b[:]) })
	return macs
}

func TestBaseline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "pakon") // which is not there yet
		r := newDevicesRig(folder)
		r.hosts = func() []client.Host { return []client.Host{{Name: "TV", MACs: []client.MAC{deviceB}}} }
		r.counted.totals = map[client.ID]store.Total{{MAC: deviceC}: {First: 1_760_000_000_000, Last: 1_770_000_000_000}, {}: {}}
		r.ready = func(context.Context) { r.seen(deviceA) } // what is there is told at last
		if err := r.attach(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
		if got := r.saved(t); !slices.Equal(got, []client.MAC{deviceA, deviceB, deviceC}) {
			t.Errorf("saved %v", got)
		}
		for _, m := range []client.MAC{deviceA, deviceB, deviceC} {
			r.seen(m)
		}
		if got := r.settled(t); len(got) > 0 {
			t.Errorf("told of %v", got)
		}
		if d := r.table.Devices(); len(d) != 3 {
			t.Errorf("devices %+v", d)
		}
		if i, err := os.Stat(filepath.Join(folder, devicesFile)); err != nil || i.Size() != r.counted.written.Load() {
			t.Errorf("%v, %v; %d bytes were counted", i, err, r.counted.written.Load())
		}
	})
}

// A device is told once, whatever ends the daemon then.
func TestToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		r := newDevicesRig(folder)
		r.settle(t)
		r.seen(deviceA)
		told := r.announce
		r.announce = func(d client.Device) {
			if got := r.saved(t); !slices.Equal(got, []client.MAC{deviceA}) {
				t.Errorf("it is told before it is saved: %v", got)
			}
			told(d)
		}
		if got := r.settled(t); !slices.Equal(got, []client.MAC{deviceA}) {
			t.Errorf("told of %v", got)
		}
		// Nothing was saved since: as if it had been killed.
		r = newDevicesRig(folder)
		r.seen(deviceA)
		r.seen(deviceB)
		if got := r.settled(t); len(got) > 0 {
			t.Errorf("told of %v before the file was read", got)
		}
		if err := r.attach(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
		if got := r.settled(t); !slices.Equal(got, []client.MAC{deviceB}) {
			t.Errorf("after a restart: told of %v", got)
		}
		// That devices are seen again is nothing to be written for.
		writes := r.counted.writes.Load()
		r.seen(deviceA)
		r.settled(t)
		if r.counted.writes.Load() != writes {
			t.Error("the file was written for a device that is known")
		}
	})
}

func TestBrokenRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		path := filepath.Join(folder, devicesFile)
		broken := `{"devices":[` + "\n" + `{"mac":"00:00:00:00:00:0a","first":1760000000,"last":1770000000,"told":true},` + "\n" + `{"mac":"00:00:`
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newDevicesRig(folder)
		r.seen(deviceB)
		if err := r.attach(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path + ".broken"); err != nil || string(b) != broken {
			t.Errorf("set aside: %q, %v", b, err)
		}
		if got := r.saved(t); !slices.Equal(got, []client.MAC{deviceA, deviceB}) || strings.Count(r.log.String(), "level=ERROR") != 1 {
			t.Errorf("saved %v, log:\n%s", got, r.log)
		}
		time.Sleep(time.Hour)
		r.seen(deviceA)
		r.seen(deviceC)
		if got := r.settled(t); !slices.Equal(got, []client.MAC{deviceC}) {
			t.Errorf("told of %v", got)
		}
		r.table.Forget(func(*client.Device) bool { return true })
		if err := r.forget(); err != nil {
			t.Error(err)
		}
		if _, err := r.save(t.Context()); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
			t.Errorf("after all was forgotten: %v, %v", left, err)
		}
	})
}

// What can not be read is not taken for nothing.
func TestUnreadableRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		path := filepath.Join(folder, devicesFile)
		if err := os.Mkdir(path, 0o700); err != nil { // reading it fails
			t.Fatal(err)
		}
		r := newDevicesRig(folder)
		r.seen(deviceA)
		if err := r.attach(t.Context(), folder); err == nil {
			t.Error("no error")
		}
		if got := r.settled(t); len(got) > 0 || r.table.Known() {
			t.Errorf("told of %v", got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		r.counted.err = errors.New("the archive can not be read")
		if err := r.attach(t.Context(), folder); err == nil || r.table.Known() {
			t.Error("what the archive knows is taken for nothing")
		}
	})
}

// Where the archive is moved, what is known comes along.
func TestMovedRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := t.TempDir(), t.TempDir()
		r := newDevicesRig(two)
		for _, folder := range []string{one, two} {
			if err := r.attach(t.Context(), folder); err != nil {
				t.Fatal(err)
			}
			r.seen(deviceA)
			r.settled(t)
		}
		if got := r.saved(t); !slices.Equal(got, []client.MAC{deviceA}) {
			t.Errorf("saved %v", got)
		}
		// On the other drive, others are known, too.
		if _, err := client.WriteRecords(filepath.Join(one, devicesFile), []client.Record{{MAC: deviceB, Told: true}}); err != nil {
			t.Fatal(err)
		}
		if err := r.attach(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		r.seen(deviceA)
		r.seen(deviceB)
		if got := r.settled(t); len(got) > 0 {
			t.Errorf("told of %v", got)
		}
	})
}

// A drive that is mounted over the folder after the registry was begun there is
// read before it is written.
func TestLateDrive(t *testing.T) {
	for _, what := range []string{"attach", "save"} {
		synctest.Test(t, func(t *testing.T) {
			folder, drive := filepath.Join(t.TempDir(), "pakon"), filepath.Join(t.TempDir(), "pakon")
			if err := os.Mkdir(drive, 0o700); err != nil {
				t.Fatal(err)
			}
			const first = 1_760_000_000_000
			if _, err := client.WriteRecords(filepath.Join(drive, devicesFile), []client.Record{
				{MAC: deviceA, First: first, Last: first, Told: true}, {MAC: deviceB, First: first, Last: first, Told: true},
			}); err != nil {
				t.Fatal(err)
			}
			r := newDevicesRig(folder)
			r.settle(t)
			r.seen(deviceA)
			if got := r.settled(t); !slices.Equal(got, []client.MAC{deviceA}) {
				t.Errorf("%s: before the drive is there, told of %v", what, got)
			}
			if err := errors.Join(os.Rename(folder, folder+".flash"), os.Rename(drive, folder)); err != nil {
				t.Fatal(err)
			}
			var err error
			if what == "attach" {
				err = r.attach(t.Context(), folder)
			} else {
				_, err = r.save(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
			r.seen(deviceB)
			r.seen(deviceC)
			if got := r.settled(t); !slices.Equal(got, []client.MAC{deviceC}) {
				t.Errorf("%s: told of %v", what, got)
			}
			if got := r.saved(t); !slices.Equal(got, []client.MAC{deviceA, deviceB, deviceC}) {
				t.Errorf("%s: saved %v", what, got)
			}
			for _, d := range r.table.Devices() {
				if d.MAC != deviceC && d.FirstSeen != first {
					t.Errorf("%s: device %+v", what, d)
				}
			}
		})
	}
}

// Made-up devices without end do not wear the drive.
func TestFloodOfDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newDevicesRig(t.TempDir())
		r.settle(t)
		told := 0
		for i := range 1000 {
			for j := range 4 {
				r.seen(client.MAC{4, 0, 0, byte(j), byte(i >> 8), byte(i)})
			}
			told += len(r.settled(t))
		}
		if told+r.passed != 4000 {
			t.Errorf("%d devices were told, %d were counted", told, r.passed)
		}
		if r.counted.written.Load() < soonBytes || r.counted.written.Load() > 2*soonBytes {
			t.Errorf("%d bytes were written", r.counted.written.Load())
		}
	})
}

func TestMuted(t *testing.T) {
	d := client.Device{MAC: deviceA, Name: "Petr's phone", NameSource: client.Static, Interface: "br-guest_turris"}
	for entry, want := range map[string]bool{
		"00:00:00:00:00:0a": true, "00:00:00:00:00:0b": false, "petr's PHONE": true, "phone": false,
		"br-guest_turris": true, "guest_turris": true, "br-lan": false, "": false,
	} {
		if muted(&d, []string{"nobody", entry}, []string{d.Interface}) != want {
			t.Errorf("%q mutes it: %v", entry, !want)
		}
	}
	d.NameSource = client.Lease
	if muted(&d, []string{"Petr's phone"}, []string{d.Interface}) {
		t.Error("what a device calls itself mutes it")
	}
}

// Where one drive is taken for another at the same place, what the other knows is
// read.
func TestDrivesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 12:00"))
		d := newDevicesRig(filepath.Dir(r.path))
		r.keeper.devices, r.newDevices = d.devices, d.table.Wake()
		r.begin(t)
		defer r.end()
		r.after(time.Hour)
		drive := *r.lies.Load()
		r.lies.Store(&lies{"/srv", "/dev/ubi0_1", disk.Internal, false})
		r.mountsChanged()
		r.after(time.Minute)
		if _, err := client.WriteRecords(filepath.Join(d.folder, devicesFile), []client.Record{{MAC: deviceA, Told: true}}); err != nil {
			t.Fatal(err)
		}
		r.lies.Store(&drive)
		r.mountsChanged()
		r.after(time.Minute)
		d.seen(deviceA)
		d.seen(deviceB)
		r.after(time.Minute)
		if told := d.told(); !slices.Equal(told, []client.MAC{deviceB}) {
			t.Errorf("told of %v", told)
		}
	})
}

// Times of a clock that was ahead are mended once the clock is believed.
func TestDevicesFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 12:00"))
		d := newDevicesRig(filepath.Dir(r.path))
		r.keeper.devices = d.devices
		future := at("2030-01-01 00:00").UnixMilli()
		if _, err := client.WriteRecords(filepath.Join(d.folder, devicesFile), []client.Record{{MAC: deviceA, Last: future, Told: true}}); err != nil {
			t.Fatal(err)
		}
		r.begin(t)
		defer r.end()
		for _, believed := range []bool{false, true} {
			r.after(23 * time.Hour) // with backups
			if got := d.table.Devices(); len(got) != 1 || (got[0].LastSeen == future) == believed {
				t.Errorf("believed %v: %+v", believed, got)
			}
		}
	})
}

// The times of this run are moved with the clock, whatever it showed.
func TestClientsAfterTheClockWasSet(t *testing.T) {
	w, end := startWriter(&fakeStore{})
	defer end()
	clients := client.New(slog.New(slog.DiscardHandler))
	d := &daemon{clients: clients, table: flow.New(clients, w.add), writer: w}
	const weeks = 21 * 24 * 3600_000
	before := time.Now().UnixMilli() - weeks
	clients.Load([]client.Record{{MAC: deviceA, First: before - 2*weeks, Last: before - weeks, Told: true}}, false)
	clients.Seen(deviceB, netip.MustParseAddr("192.168.1.7"), "br-lan", before)
	d.jumped(t.Context(), 2*weeks, weeks)
	for _, c := range clients.Devices() {
		want := map[client.MAC][2]int64{deviceA: {before - 2*weeks, before - weeks}, deviceB: {before + weeks, before + weeks}}[c.MAC]
		if c.FirstSeen != want[0] || c.LastSeen != want[1] {
			t.Errorf("device %+v, want %v", c, want)
		}
	}
}

// The keeper reads the registry once the drive is there, saves it along with what
// it writes anyway, and has new devices told in time.
func TestKeeperKeepsDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 12:00"))
		d := newDevicesRig(filepath.Dir(r.path))
		r.keeper.devices, r.newDevices = d.devices, d.table.Wake()
		r.store.set("attach", errors.New("no drive"))
		d.seen(deviceA)
		r.begin(t)
		if got := r.after(time.Minute); got != "attach" {
			t.Errorf("calls %q", got)
		}
		if w := r.devicesWarning(); !strings.Contains(w, "not told") || !strings.Contains(w, devicesFile) || !strings.Contains(w, "no drive") {
			t.Errorf("the warning is %q", w)
		}
		r.store.set("attach", nil)
		r.after(keeperRetry + time.Minute)
		if w := r.devicesWarning(); w != "" || !d.table.Known() {
			t.Errorf("the drive is there: %q", w)
		}
		d.seen(deviceB)
		r.after(6 * time.Second)
		if got, told := d.saved(t), d.told(); !slices.Equal(got, []client.MAC{deviceA, deviceB}) || !slices.Equal(told, []client.MAC{deviceB}) {
			t.Errorf("saved %v, told of %v", got, told)
		}
		d.table.SetLeases([]lease.Lease{{MAC: deviceC, Addr: netip.MustParseAddr("192.168.1.9"), Name: "Phone"}})
		d.seen(deviceC)
		r.after(0)
		if told := d.told(); !slices.Equal(told, []client.MAC{deviceC}) {
			t.Errorf("with a name it is not told at once: %v", told)
		}
		writes := d.counted.writes.Load()
		r.after(2 * time.Hour)
		if d.counted.writes.Load() != writes+1 {
			t.Errorf("along with a backup, it was written %d times", d.counted.writes.Load()-writes)
		}
		// A drive that can not be written keeps nobody from being told.
		if err := os.RemoveAll(d.folder); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.folder, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		d.seen(client.MAC{0, 0, 0, 0, 0, 0xd})
		r.after(time.Minute)
		if w := r.devicesWarning(); len(d.told()) != 1 || !strings.Contains(w, "may not outlive a reboot") {
			t.Errorf("the warning is %q", w)
		}
		r.end()
	})
}

// TestStale: a large registry is saved once a day, unless a device was noted.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &devices{table: client.New(slog.New(slog.DiscardHandler)), saved: time.Now(), bytes: oftenBytes - 1}
		if !d.stale() {
			t.Error("a small one is not to be saved")
		}
		d.bytes = oftenBytes
		if d.stale() {
			t.Error("a large one is to be saved at once")
		}
		d.table.Seen(client.MAC{2}, netip.MustParseAddr("192.168.1.7"), "br-lan", time.Now().UnixMilli())
		if !d.stale() {
			t.Error("with a new device it is not")
		}
		d.table.Records()
		time.Sleep(25 * time.Hour)
		if !d.stale() {
			t.Error("a day later it is not")
		}
	})
}
