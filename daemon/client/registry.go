package client

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// nameAfter is how long a new device may take to get a lease, with which its
	// name comes, before it is told of without.
	nameAfter = 5 * time.Second
	// sameAfter is how long it is looked whether a device with a random MAC that is
	// taken for an earlier one and that one are there at the same time. Longer than
	// the kernel goes without asking a neighbour that is spoken to.
	sameAfter = time.Minute
	// lingers is for how long the kernel may take a device for there that has left: it
	// goes by what was confirmed in the last few seconds.
	lingers = 10 * time.Second
	// leftAfter is after how long without a sign of life a device counts as having
	// left for a while; one that is in use gives one each minute.
	leftAfter = 5 * time.Minute
	// At the first start, who appears so soon has been there before, if anything was;
	// in a house of which nothing is known yet, it takes longer until all have come.
	quietAfter      = time.Minute
	quietAfterEmpty = time.Hour
	// goneAfter is after how long without a sign of life a device that is forgotten
	// counts as gone: it is new when it comes back, others are not.
	goneAfter = time.Hour
)

// registry is which devices are known for good, and which are new.
type registry struct {
	count    uint64       // devices that were new so far
	known    bool         // what earlier runs knew was said
	unsaved  bool         // a device was noted since Records
	waiting  map[MAC]bool // are not told yet
	suspects map[MAC]bool // that those waiting are taken for: to be looked at once they are seen
	passed   int          // were forgotten, for too many others, before they were told
	full     bool         // one was
	aged     int64        // Unix ms: when Age was called last
	quiet    time.Time    // until when those that appear are known without being told; zero: none are
	next     time.Time    // when those waiting are to be looked at; zero: there are none
	// forgotten are those not seen since they were, and whether they were there.
	forgotten map[MAC]bool
}

// Record is what is to be kept of a device for good.
type Record struct {
	MAC, Earlier MAC   // Earlier as in Device
	First, Last  int64 // Unix ms; 0 if not known
	Appeared     int64 // Unix ms: the first time with this MAC, if it had an Earlier; 0 if not known
	Lease        string
	ClientID     string
	Interface    string
	Address      netip.Addr // invalid if none is known
	Told         bool       // whoever is to know of it does
	Holds        bool       // it had the name Lease before others
}

// Wake tells that News is to be called.
func (t *Table) Wake() <-chan struct{} { return t.news }

// wake sees to it that News is called at a time. The caller holds t.mu.
func (t *Table) wake(at time.Time) {
	r := &t.registry
	if !r.known || len(r.waiting) == 0 || !r.next.IsZero() && !at.Before(r.next) {
		return
	}
	r.next = at
	select {
	case t.news <- struct{}{}:
	default: // it will be soon
	}
}

// isNew begins to wait for the name of a device that was just seen for the first
// time, at in Unix ms. The caller holds t.mu.
func (t *Table) isNew(d *device, at int64) {
	r := &t.registry
	d.told = r.forgotten[d.MAC] // whoever had it forgotten knows of it
	delete(r.forgotten, d.MAC)
	r.unsaved = true
	if d.told {
		return
	}
	t.begin(d)
	d.appeared, d.ourAppeared = at, true
	t.wait(d)
	t.match(d)
}

// begin numbers a new device.
func (t *Table) begin(d *device) {
	t.registry.count++
	d.number, d.noted = t.registry.count, t.now()
}

// wait has News look at a new device. The caller holds t.mu.
func (t *Table) wait(d *device) {
	t.registry.waiting[d.MAC] = true
	at := d.noted.Add(nameAfter)
	if _, source := t.nameOf(d); source == Static || source == Lease {
		at = t.now()
	}
	t.wake(at)
}

// dropped is told of a device that is not remembered any more.
func (t *Table) dropped(m MAC, d *device) {
	delete(t.registry.waiting, m)
	t.kinship.remove(d)
}

// Known tells whether it was said which devices earlier runs knew.
func (t *Table) Known() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.registry.known
}

// Load takes the devices that earlier runs knew. Those that were seen by now and
// are not among them are new, unless all is set: then nothing was known for good
// yet, and they are known from now on, as those that appear soon.
func (t *Table) Load(records []Record, all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.registry
	devices := make(map[MAC]*device, t.devices.Len()+len(records))
	for _, d := range t.devices.Values() {
		devices[d.MAC] = d
	}
	t.devices.Purge()
	listed := make(map[MAC]bool, len(records))
	for _, rec := range records {
		listed[rec.MAC] = true
		d := devices[rec.MAC]
		if d == nil {
			if t.excluded[rec.MAC] && all {
				continue
			}
			d = t.restore(rec)
			devices[rec.MAC] = d
			continue
		}
		d.update(rec)
	}
	ordered := make([]*device, 0, len(devices))
	for _, d := range devices {
		// Of what has only been told by others, it is not known when that was.
		if !d.hearsay || all || r.known || listed[d.MAC] {
			ordered = append(ordered, d)
		}
	}
	slices.SortFunc(ordered, func(a, b *device) int { return cmp.Compare(a.LastSeen, b.LastSeen) })
	for _, d := range ordered {
		d.told = d.told || all
		if !d.told {
			r.waiting[d.MAC] = true
		}
		t.insert(d)
	}
	t.relate()
	for _, d := range ordered {
		if d.alone {
			t.inherit(d)
		}
	}
	if all && !r.known {
		soon := quietAfter
		if len(ordered) == 0 {
			soon = quietAfterEmpty
		}
		r.quiet = t.now().Add(soon)
		t.log.Info("from now on it is known which devices there are; those that appear soon are not told as new",
			"devices", len(ordered), "soon", soon)
	}
	if !all && len(records) > 0 {
		r.quiet = time.Time{} // it was not the first start: the drive has come later
	}
	r.known, r.unsaved, r.next = true, true, time.Time{}
	for m := range r.waiting {
		if d, ok := t.devices.Peek(m); ok {
			t.match(d)
		}
	}
	t.rename()
	t.wake(t.now())
}

// restore is a device of an earlier run.
func (t *Table) restore(rec Record) *device {
	d := &device{
		Device: Device{
			MAC: rec.MAC, Random: rec.MAC.IsLocal() && !rec.MAC.IsGroup(), Vendor: t.vendor(rec.MAC), Earlier: rec.Earlier,
			Interface: rec.Interface, FirstSeen: rec.First, LastSeen: rec.Last,
		},
		told: rec.Told, appeared: cmp.Or(rec.Appeared, rec.First),
	}
	if !d.told {
		t.begin(d)
	}
	h := t.leases[rec.MAC]
	d.says(cmp.Or(h.name, rec.Lease), cmp.Or(h.clientID, rec.ClientID))
	d.holds = rec.Holds && strings.EqualFold(d.lease, rec.Lease)
	d.reachedBy(rec.Address)
	return d
}

// update adds what an earlier run knew to what this one knows of a device.
func (d *device) update(rec Record) {
	if rec.Told {
		d.told, d.number = true, 0
	}
	if d.alone { // which was not known when that was written
		rec.First, rec.Earlier = rec.Appeared, MAC{}
	}
	switch {
	case rec.First == 0:
	case d.ourFirst:
		d.FirstSeen, d.ourFirst = rec.First, false
	default:
		d.FirstSeen = earlier(rec.First, d.FirstSeen)
	}
	if rec.Last != 0 && (d.hearsay || rec.Last > d.LastSeen) {
		d.LastSeen, d.ourLast = rec.Last, false
	}
	if at := cmp.Or(rec.Appeared, rec.First); at != 0 && d.ourAppeared {
		d.appeared, d.ourAppeared = at, false
	}
	d.says(cmp.Or(d.lease, rec.Lease), cmp.Or(d.clientID, rec.ClientID))
	d.holds = d.holds || rec.Holds && strings.EqualFold(d.lease, rec.Lease)
	d.Earlier = cmp.Or(rec.Earlier, d.Earlier)
}

// Unsaved tells whether a device was noted since Records was last called.
func (t *Table) Unsaved() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.registry.unsaved
}

// Records returns what is to be kept for good, those seen last first.
func (t *Table) Records() []Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	records := make([]Record, 0, t.devices.Len())
	for _, d := range t.devices.Values() {
		r := Record{
			MAC: d.MAC, Earlier: d.Earlier, First: d.FirstSeen, Last: d.LastSeen, Lease: d.lease, ClientID: d.clientID,
			Interface: d.Interface, Address: d.Address(), Told: d.told, Holds: d.holds,
		}
		if !d.Earlier.IsZero() {
			r.Appeared = d.appeared
		}
		for _, at := range []*int64{&r.First, &r.Last, &r.Appeared} {
			if !believed(*at) {
				*at = 0
			}
		}
		records = append(records, r)
	}
	t.registry.unsaved = false
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(b.Last, a.Last), slices.Compare(a.MAC[:], b.MAC[:]))
	})
	return records
}

// News returns the devices that are new and of which everybody is to be told now,
// each once, how many more there were that had to be forgotten before, and when it is
// to be called again at the latest; zero if only Wake tells. A device with an Earlier
// is back with another MAC, by its name alone.
func (t *Table) News() (news []Device, passed int, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.registry
	if !r.known {
		return nil, 0, time.Time{}
	}
	passed, r.passed = r.passed, 0
	now := t.now()
	clear(r.suspects)
	var ready []*device
	for m := range r.waiting {
		d, ok := t.devices.Peek(m)
		if !ok {
			continue
		}
		due := d.noted.Add(nameAfter)
		_, source := t.nameOf(d)
		switch {
		case t.excluded[m], d.noted.Before(r.quiet):
			t.settle(d)
			continue
		case !d.Earlier.IsZero():
			if due = d.noted.Add(sameAfter); t.together(d, d) {
				t.separate(d)
				t.settle(d)
				ready = append(ready, d)
				continue
			}
			if !d.told && t.byNameAlone(d) {
				d.told, r.unsaved = true, true
				ready = append(ready, d)
			}
			if !now.Before(due) {
				t.settle(d)
				continue
			}
			r.suspects[d.Earlier] = true
		case source == Static || source == Lease || !now.Before(due):
			t.settle(d)
			ready = append(ready, d)
			continue
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	r.next = next
	slices.SortFunc(ready, func(a, b *device) int {
		return cmp.Compare(a.number, b.number)
	})
	for _, d := range ready {
		news = append(news, t.show(d))
	}
	return news, passed, next
}

// settle ends the wait of a device.
func (t *Table) settle(d *device) {
	d.told = true
	t.registry.unsaved = true
	delete(t.registry.waiting, d.MAC)
}
