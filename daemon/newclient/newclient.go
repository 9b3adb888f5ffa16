// Package newclient does what is to be done for a device that was never seen
// before, or is back with another MAC: it notifies whoever listens on the bus, runs
// the owner's programs and makes a notification of Turris. Which devices are new,
// and which of them are passed over, is decided by others.
package newclient

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"pakon/daemon/client"
)

const (
	maxQueue = 64               // devices that wait
	maxRun   = 30 * time.Second // for a program
	maxEnd   = 5 * time.Second  // for all that still waits when the daemon ends

	// Whoever makes up devices makes thousands: only so many are announced in a
	// while; at its end the last of the others is, with how many there were.
	maxNotices = 10
	noticesFor = time.Minute
)

// Notice is what is told of a device.
type Notice struct {
	client.Device
	More int // devices before it of which nothing is told, as there were too many
}

// Config is what an Announcer needs. Every field must be set.
type Config struct {
	// Notify tells those who listen on the bus.
	Notify func(Notice) error
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
	passed atomic.Int64  // devices that are to be counted only
	limit  time.Duration // maxRun, but in tests
	atLast time.Duration // maxEnd, likewise
}

// New returns an Announcer, which does nothing before Run.
func New(c Config) *Announcer {
	return &Announcer{Config: c, queue: make(chan client.Device, maxQueue), limit: maxRun, atLast: maxEnd}
}

// Announce has a device announced. It does not wait; with too many waiting, the
// device is only counted.
func (a *Announcer) Announce(d client.Device) {
	select {
	case a.queue <- d:
	default:
		a.Pass(1)
	}
}

// Pass tells of new devices of which nothing is known any more. They are counted with
// the next one that is announced.
func (a *Announcer) Pass(devices int) { a.passed.Add(int64(devices)) }

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
	var (
		notices int            // in this while
		last    *client.Device // that is held back until its end
		until   = time.NewTimer(noticesFor)
	)
	defer until.Stop()
	tell := func(d client.Device) {
		if notices++; notices == 1 {
			until.Reset(noticesFor)
		}
		a.announce(running, Notice{d, int(a.passed.Swap(0))})
	}
	for {
		select {
		case d, ok := <-a.queue:
			switch {
			case !ok:
				if last != nil {
					tell(*last)
				}
				return nil
			case notices < maxNotices:
				tell(d)
			default:
				if last != nil {
					a.Pass(1)
				}
				last = &d
			}
		case <-until.C:
			notices = 0
			if last != nil {
				tell(*last)
				last = nil
			}
		}
	}
}

func (a *Announcer) announce(ctx context.Context, d Notice) {
	address := ""
	if addr := d.Address(); addr.IsValid() {
		address = addr.String()
	}
	what := "a new device"
	about := []any{"mac", d.MAC, "name", d.Name, "vendor", d.Vendor, "address", address, "interface", d.Interface}
	if !d.Earlier.IsZero() {
		what, about = "a device is back with another MAC, as its name tells", append(about, "earlier", d.Earlier)
	}
	if d.More > 0 {
		about = append(about, "more", d.More)
	}
	a.Log.Info(what, about...)
	if err := a.Notify(d); err != nil {
		a.Log.Warn("a new device could not be told on the bus", "mac", d.MAC, "err", err)
	}
	env := []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/",
		"PAKON_MAC=" + d.MAC.String(), "PAKON_NAME=" + d.Name, "PAKON_VENDOR=" + d.Vendor,
		"PAKON_ADDRESS=" + address, "PAKON_INTERFACE=" + d.Interface, "PAKON_EARLIER=" + d.Earlier.String(), "PAKON_MORE=" + strconv.Itoa(d.More),
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
func texts(d Notice, address string) (czech, english string) {
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
	czech, english = "Nové zařízení v síti", "New device in the network"
	if !d.Earlier.IsZero() {
		czech, english = "Zařízení je zpět s jinou adresou v síti", "A device is back with another address in the network"
	}
	if d.Interface != "" {
		czech, english = czech+" "+d.Interface, english+" "+d.Interface
	}
	czech, english = czech+": "+about, english+": "+about
	if !d.Earlier.IsZero() {
		czech, english = czech+", dříve "+d.Earlier.String(), english+", was "+d.Earlier.String()
	}
	if d.More > 0 {
		czech, english = fmt.Sprintf("%s; dalších nových zařízení: %d", czech, d.More), fmt.Sprintf("%s; more new devices: %d", english, d.More)
	}
	return czech, english
}
