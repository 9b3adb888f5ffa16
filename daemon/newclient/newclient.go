// Package newclient does what is to be done for a device that was never seen
// before: it notifies whoever listens on the bus, runs the owner's programs and
// makes a notification of Turris. Which devices are new, and which of them are
// passed over, is decided by others.
package newclient

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"pakon/daemon/client"
)

const (
	maxQueue = 64               // devices that wait
	maxRun   = 30 * time.Second // for a program
	maxEnd   = 5 * time.Second  // for all that still waits when the daemon ends
)

// Config is what an Announcer needs. Every field must be set.
type Config struct {
	// Notify tells those who listen on the bus.
	Notify func(client.Device) error
	// Folder is where the owner's programs are. It need not exist.
	Folder string
	// Turris is the command that makes a notification, used if it exists and
	// Enabled says so.
	Turris  string
	Enabled func() bool
	Log     *slog.Logger
}

// Announcer announces new devices, one after the other.
type Announcer struct {
	Config
	queue  chan client.Device
	full   atomic.Bool   // that was logged
	limit  time.Duration // maxRun, but in tests
	atLast time.Duration // maxEnd, likewise
}

// New returns an Announcer, which does nothing before Run.
func New(c Config) *Announcer {
	return &Announcer{Config: c, queue: make(chan client.Device, maxQueue), limit: maxRun, atLast: maxEnd}
}

// Announce has a device announced. It does not wait; with too many waiting, the
// device is left out.
func (a *Announcer) Announce(d client.Device) {
	select {
	case a.queue <- d:
		a.full.Store(false)
	default:
		if !a.full.Swap(true) {
			a.Log.Warn("too many new devices at once: not all of them are told", "waiting", maxQueue)
		}
	}
}

// Finish tells that Announce is not called any more: Run ends.
func (a *Announcer) Finish() { close(a.queue) }

// Run announces devices until Finish. Once ctx has ended, what is left has little
// time.
func (a *Announcer) Run(ctx context.Context) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		end := time.AfterFunc(a.atLast, cancel)
		context.AfterFunc(running, func() { end.Stop() })
	})()
	for d := range a.queue {
		a.announce(running, d)
	}
	return nil
}

func (a *Announcer) announce(ctx context.Context, d client.Device) {
	address := ""
	if addr := d.Address(); addr.IsValid() {
		address = addr.String()
	}
	a.Log.Info("a new device", "mac", d.MAC, "name", d.Name, "vendor", d.Vendor, "address", address, "interface", d.Interface)
	if err := a.Notify(d); err != nil {
		a.Log.Warn("a new device could not be told on the bus", "mac", d.MAC, "err", err)
	}
	env := []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/",
		"PAKON_MAC=" + d.MAC.String(), "PAKON_NAME=" + d.Name, "PAKON_VENDOR=" + d.Vendor,
		"PAKON_ADDRESS=" + address, "PAKON_INTERFACE=" + d.Interface,
	}
	for _, path := range a.programs() {
		a.run(ctx, env, path)
	}
	if a.Enabled() && there(a.Turris) {
		czech, english := texts(d, address)
		a.run(ctx, env[:2], a.Turris, "-s", "news", czech, english)
	}
}

// texts are what a notification of Turris says.
func texts(d client.Device, address string) (czech, english string) {
	name := d.Name
	switch {
	case name == "":
		name = d.Vendor
	case d.Vendor != "" && d.NameSource != client.Vendor:
		name = fmt.Sprintf("%s (%s)", name, d.Vendor)
	}
	about := "MAC " + d.MAC.String()
	if address != "" {
		about = address + ", " + about
	}
	if name != "" {
		about = name + ", " + about
	}
	if d.Interface == "" {
		return "Nové zařízení v síti: " + about, "New device in the network: " + about
	}
	return "Nové zařízení v síti " + d.Interface + ": " + about, "New device in the network " + d.Interface + ": " + about
}
