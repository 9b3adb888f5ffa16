package main

import (
	"context"
	"fmt"
	"time"

	"pakon/daemon/conntrack"
)

// followKernel tells the table of the kernel's connections, from when there is
// something to be monitored until the context ends.
func (d *daemon) followKernel(ctx context.Context) error {
	// Whose a connection is, the neighbours tell.
	for _, known := range []<-chan struct{}{d.monitored, d.clients.Ready()} {
		select {
		case <-ctx.Done():
			return nil
		case <-known:
		}
	}
	return d.kernel.Run(ctx, receiver{d})
}

// receiver hands the kernel's connections to the table.
type receiver struct{ d *daemon }

func (r receiver) Connection(k conntrack.Kind, e *conntrack.Entry, at time.Time) {
	r.d.table.Connection(k, e, at)
}
func (r receiver) DumpBegins(at time.Time) { r.d.table.DumpBegins(at) }
func (r receiver) Idle()                   { r.d.table.Idle() }

func (r receiver) DumpEnds(at time.Time, whole bool) {
	r.d.table.DumpEnds(at, whole)
	if !whole {
		return // what it missed was carried all the same
	}
	if err := r.d.sample(true); err != nil {
		r.d.log.Debug("what interfaces carry is not known", "err", err)
	}
}

// sample looks at what interfaces carried and what of it is known. A flow table
// forwards past the counters of bridges.
func (d *daemon) sample(counted bool) error {
	used := d.method.Load()
	comparable := counted && (used == nil || used.offload == "")
	if !d.settings.Load().config.Monitor.Enabled {
		return d.carried.sample(nil, nil, comparable)
	}
	return d.carried.sample(d.watched.Load().devices, d.interfaces(), comparable)
}

// sampleUncounted is sample for while no listing of the kernel's connections
// tells when: what Suricata counts is known at the end of connections only.
func (d *daemon) sampleUncounted() error {
	if st := d.kernel.State(); st.Active || st.Problem == "" {
		return nil // it does, or will soon
	}
	return d.sample(false)
}

// kernelChanged notes that connections are followed from now on, or are not any
// more.
func (d *daemon) kernelChanged(s conntrack.State) {
	if s.Active {
		d.table.SetTimeouts(d.kernel.Timeouts())
	} else {
		d.table.Inactive()
	}
	d.recapture()
}

// zoneOffset is how much after a full hour of UTC the hours of a zone begin, in
// milliseconds.
func zoneOffset(loc *time.Location) int64 {
	_, seconds := time.Now().In(loc).Zone()
	hour := int(time.Hour / time.Second)
	return int64(((-seconds%hour)+hour)%hour) * 1000
}

// zeroedWarning says what it means that somebody zeroes the kernel's counters.
func zeroedWarning(n uint64, tap bool) string {
	how := "in mode 'filter' what moved in the seconds before is not counted"
	if tap {
		how = "what moved in the seconds before is taken from Suricata"
	}
	return fmt.Sprintf("Another program (nlbwmon?) has zeroed the kernel's counters of connections: %d were noticed; %s.", n, how)
}
