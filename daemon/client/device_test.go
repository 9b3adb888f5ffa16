package client

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pakon/daemon/client/lease"
)

// someVendors knows vendors by the first three octets.
type someVendors map[[3]byte]string

func (v someVendors) Lookup(m [6]byte) string { return v[[3]byte(m[:3])] }

// house is a table whose machine has the networks br-lan and br-guest, which are
// monitored, and eth2, which is not. Its clock is one that is set.
type house struct {
	*Table
	t      testing.TB
	leases []lease.Lease
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{Table: New(slog.New(slog.DiscardHandler)), t: t}
	h.now = func() time.Time { return time.Now().Add(30 * 365 * 24 * time.Hour) }
	h.SetVendors(someVendors{{0x3c, 0x22, 0xfb}: "Apple", {0x02, 0, 0}: "nobody"})
	h.setMachine(&machine{
		links: map[string]Interface{
			"br-lan":   {Name: "br-lan", Index: 3, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}},
			"br-guest": {Name: "br-guest", Index: 4, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.2.0/24")}},
			"eth2":     {Name: "eth2", Index: 5, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.3.0/24")}},
		},
		index: map[int]string{3: "br-lan", 4: "br-guest", 5: "eth2"},
		macs:  map[MAC]bool{mac(t, "00:00:00:00:00:01"): true},
	})
	h.SetNetworks([]string{"br-lan", "br-guest"}, nil)
	return h
}

// seenAs has a device be seen now.
func (h *house) seenAs(m string) {
	h.t.Helper()
	h.Seen(mac(h.t, m), netip.MustParseAddr("192.168.1.50"), "br-lan", h.now().UnixMilli())
}

// answers has a device answer the kernel now, at the address that seenAs has.
func (h *house) answers(m string) {
	h.t.Helper()
	h.setNeighbour(neighbour{3, netip.MustParseAddr("192.168.1.50")}, mac(h.t, m), true)
}

// lease has the DHCP server give an address.
func (h *house) lease(m, addr, name, id string) {
	h.t.Helper()
	h.leases = slices.DeleteFunc(h.leases, func(l lease.Lease) bool { return l.MAC == mac(h.t, m) })
	h.leases = append(h.leases, lease.Lease{MAC: mac(h.t, m), Addr: netip.MustParseAddr(addr), Name: name, ClientID: id})
	h.SetLeases(h.leases)
}

// told lets time pass and returns the MACs of the devices that are told of then,
// in one line; with when, by how many seconds they were waited for.
func (h *house) told(d time.Duration) string {
	h.t.Helper()
	var out []string
	began := time.Now()
	end := began.Add(d)
	for {
		news, _, next := h.News()
		for _, n := range news {
			was := ""
			if !n.Earlier.IsZero() {
				was = fmt.Sprintf(", was %s,", n.Earlier)
			}
			out = append(out, fmt.Sprintf("%s %q%s at %s", n.MAC, n.Name, was, time.Since(began)))
		}
		wait := time.Until(end)
		if !next.IsZero() {
			wait = min(wait, next.Sub(h.now()))
		}
		if time.Now().Equal(end) {
			return strings.Join(out, ", ")
		}
		select {
		case <-h.Wake():
		case <-time.After(wait):
		}
	}
}

func (h *house) device(m string) Device {
	h.t.Helper()
	for _, d := range h.Devices() {
		if d.MAC == mac(h.t, m) {
			return d
		}
	}
	return Device{}
}

// begin is the start of a run in a house of which it is known that nothing is there.
func (h *house) begin() {
	h.SetLeases(nil)
	h.Load(nil, false)
}

// restart is the house after a restart of the daemon, of which the file said what
// is known; the leases that were given are still in theirs.
func (h *house) restart(records []Record) *house {
	h.t.Helper()
	n := newHouse(h.t)
	n.leases = h.leases
	n.SetLeases(n.leases)
	n.Load(records, false)
	return n
}

const (
	apple   = "3c:22:fb:00:3a:b7"
	other   = "00:11:22:33:44:55" // of no known vendor
	rnd1    = "02:00:00:00:00:a1"
	rnd2    = "02:00:00:00:00:a2"
	rnd3    = "02:00:00:00:00:a3"
	rnd4    = "02:00:00:00:00:a4"
	minute2 = 2 * time.Minute
)

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		what, mac                 string
		host, lease, last, lease6 string
		name, source, vendor      string
	}{
		{"nothing", other, "", "", "", "", "", "", ""},
		{"vendor", apple, "", "", "", "", "Apple 3a:b7", Vendor, "Apple"},
		{"lease before vendor", apple, "", "Phone", "", "", "Phone", Lease, "Apple"},
		{"the last lease before vendor", apple, "", "", "Phone", "", "Phone", Lease, "Apple"},
		{"present lease before the last", apple, "", "New", "Old", "", "New", Lease, "Apple"},
		{"IPv6", other, "", "", "", "Six", "Six", Lease, ""},
		{"IPv4 before IPv6", other, "", "Four", "", "Six", "Four", Lease, ""},
		{"static before all", apple, "Owner's", "Phone", "Old", "", "Owner's", Static, "Apple"},
		{"random", rnd1, "", "", "", "", "", "", ""},
		{"random with a lease", rnd1, "", "Phone", "", "", "Phone", Lease, ""},
	} {
		h := newHouse(t)
		m := mac(t, tt.mac)
		if tt.host != "" {
			h.SetHosts([]Host{{Name: tt.host, MACs: []MAC{m}}})
		}
		var leases []lease.Lease
		if tt.last != "" {
			h.SetLeases([]lease.Lease{{MAC: m, Addr: netip.MustParseAddr("192.168.1.9"), Name: tt.last}})
		}
		h.seenAs(tt.mac)
		if tt.lease6 != "" {
			leases = append(leases, lease.Lease{MAC: m, Addr: netip.MustParseAddr("2001:db8::9"), Name: tt.lease6})
		}
		if tt.lease != "" {
			leases = append(leases, lease.Lease{MAC: m, Addr: netip.MustParseAddr("192.168.1.9"), Name: tt.lease})
		}
		h.SetLeases(leases)
		d := h.device(tt.mac)
		if d.Name != tt.name || d.NameSource != tt.source || d.Vendor != tt.vendor || d.Random != (tt.mac == rnd1) {
			t.Errorf("%s: %+v", tt.what, d)
		}
		if name, source := h.Name(m); name != tt.name || source != tt.source {
			t.Errorf("%s: rows have %q from %q", tt.what, name, source)
		}
		if tt.name != "" && !slices.Equal(h.ByName(strings.ToUpper(tt.name)), []MAC{m}) {
			t.Errorf("%s: by name there are %v", tt.what, h.ByName(tt.name))
		}
		if tt.host != "" && len(h.ByName(tt.lease)) > 0 {
			t.Errorf("%s: it has the name %q, too", tt.what, tt.lease)
		}
	}
}

// A name that the owner gave is of that device alone; of several devices that have
// given themselves one, the first keeps it, and the others are called otherwise.
func TestSameNames(t *testing.T) {
	const third, twin = "3c:22:fb:01:3a:b7", "00:1b:44:22:44:55" // with the tails of apple and other
	for _, tt := range []struct {
		what   string
		hosts  []Host
		leases map[string]string
		names  map[string]string   // by MAC
		by     map[string][]string // who is meant by a name
	}{
		{"the owner's and a stranger's", []Host{{Name: "Printer", MACs: []MAC{mac(t, other)}}}, map[string]string{rnd1: "printer", apple: "PRINTER"},
			map[string]string{other: "Printer", rnd1: "printer 00:a1", apple: "PRINTER 3a:b7"},
			map[string][]string{"printer": {other}, "printer 00:a1": {rnd1}, "Printer 3A:B7": {apple}}},
		{"the owner's, of a device that has another", []Host{{Name: "nas", MACs: []MAC{mac(t, other)}}, {Name: "old", MACs: []MAC{mac(t, other)}}, {Name: "gone", MACs: nil}},
			map[string]string{rnd1: "old", apple: "gone"},
			map[string]string{other: "nas", rnd1: "old 00:a1", apple: "gone 3a:b7"},
			map[string][]string{"nas": {other}, "old": {}, "gone": {}, "old 00:a1": {rnd1}}},
		{"the owner's for two", []Host{{Name: "laptop", MACs: []MAC{mac(t, other)}}, {Name: "Laptop", MACs: []MAC{mac(t, rnd1)}}}, nil,
			map[string]string{other: "laptop", rnd1: "Laptop"},
			map[string][]string{"LAPTOP": {other, rnd1}}},
		{"two that call themselves so", nil, map[string]string{other: "KP115", rnd1: "kp115", apple: "tv"},
			map[string]string{other: "KP115", rnd1: "kp115 00:a1", apple: "tv"},
			map[string][]string{"kp115": {other}, "kp115 44:55": {}, "kp115 00:a1": {rnd1}, "tv": {apple}}},
		{"of one that was seen", nil, map[string]string{other: "tv", apple: "TV"},
			map[string]string{other: "tv 44:55", apple: "TV"},
			map[string][]string{"tv": {apple}, "tv 44:55": {other}}},
		{"with the same tails", nil, map[string]string{apple: "plug", other: "plug", twin: "plug", rnd1: "plug"},
			map[string]string{apple: "plug", other: "plug 44:55", twin: "plug " + twin, rnd1: "plug 00:a1"},
			map[string][]string{"plug": {apple}, "plug 44:55": {other}, "plug " + twin: {twin}}},
		{"as the owner calls another with its tail", []Host{{Name: "plug 00:a1", MACs: []MAC{mac(t, other)}}, {Name: "plug", MACs: []MAC{mac(t, apple)}}}, map[string]string{rnd1: "plug"},
			map[string]string{other: "plug 00:a1", apple: "plug", rnd1: "plug " + rnd1},
			map[string][]string{"plug 00:a1": {other}, "plug": {apple}, "plug " + rnd1: {rnd1}}},
		{"as a vendor", nil, map[string]string{other: "Apple", rnd1: "apple"},
			map[string]string{other: "Apple", rnd1: "apple 00:a1", apple: "Apple 3a:b7", third: "Apple " + third},
			map[string][]string{"apple": {other}, "apple 00:a1": {rnd1}, "apple 3a:b7": {apple}}},
		{"two of a vendor with one tail", nil, nil,
			map[string]string{apple: "Apple 3a:b7", third: "Apple " + third},
			map[string][]string{"apple 3a:b7": {apple}, "apple " + third: {third}}},
	} {
		h := newHouse(t)
		h.SetHosts(tt.hosts)
		for _, m := range []string{apple, third} {
			h.Seen(mac(t, m), netip.MustParseAddr("192.168.1.50"), "br-lan", h.now().Add(-time.Minute).UnixMilli())
		}
		var leases []lease.Lease
		for m, name := range tt.leases {
			leases = append(leases, lease.Lease{MAC: mac(t, m), Addr: netip.MustParseAddr("192.168.1.9"), Name: name})
		}
		h.SetLeases(leases)
		for m, want := range tt.names {
			if got, _ := h.Name(mac(t, m)); got != want {
				t.Errorf("%s: %s is called %q, want %q", tt.what, m, got, want)
			}
		}
		for name, macs := range tt.by {
			want := make([]MAC, len(macs))
			for i, m := range macs {
				want[i] = mac(t, m)
			}
			if got := h.ByName(name); !slices.Equal(got, want) {
				t.Errorf("%s: %q means %v, want %v", tt.what, name, got, want)
			}
		}
	}
}

// A phone that makes up a MAC for itself now and then is one device, of one name, if it
// tells who it is; two that were taken for it are not, nor is who has its name alone.
func TestNameOfKin(t *testing.T) {
	const id = "ff:12:34:56:78:00:04:aa:bb:cc:dd"
	for _, tt := range []struct {
		id            string
		second        string // what it is called at first
		meant, parted []string
	}{
		{id, "Petrs-Pixel", []string{rnd1, rnd2}, []string{rnd1}},
		{"", "Petrs-Pixel 00:a2", []string{rnd1}, []string{rnd1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.begin()
			called := func(what, second string, meant []string) {
				t.Helper()
				time.Sleep(renameAfter)
				synctest.Wait()
				one, _ := h.Name(mac(t, rnd1))
				two, _ := h.Name(mac(t, rnd2))
				var by []string
				for _, m := range h.ByName("petrs-pixel") {
					by = append(by, m.String())
				}
				if one != "Petrs-Pixel" || two != second || !slices.Equal(by, meant) {
					t.Errorf("id %q, %s: %q and %q; by name there are %v", tt.id, what, one, two, by)
				}
			}
			h.lease(rnd1, "192.168.1.7", "Petrs-Pixel", tt.id)
			h.told(10 * time.Hour)
			h.lease(rnd2, "192.168.1.8", "Petrs-Pixel", tt.id)
			h.told(10 * time.Hour)
			called("one after the other", tt.second, tt.meant)
			for range 4 {
				h.answers(rnd1)
				h.answers(rnd2)
				h.told(5 * time.Second)
			}
			called("both at once", "Petrs-Pixel 00:a2", tt.parted)
		})
	}
}

// Names for devices that appear are put together soon, however many they are.
func TestNamesOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for i := range 100 {
			h.seenAs(fmt.Sprintf("3c:22:fb:00:00:%02x", i))
		}
		time.Sleep(renameAfter)
		synctest.Wait()
		for i := range 100 {
			if name, _ := h.Name(MAC{0x3c, 0x22, 0xfb, 0, 0, byte(i)}); name != fmt.Sprintf("Apple 00:%02x", i) {
				t.Fatalf("the device %d is called %q", i, name)
			}
		}
	})
}

// What notes a device, and what does not.
func TestNoted(t *testing.T) {
	addr := netip.MustParseAddr
	neighbourOn := func(link int, m string) func(*house) {
		return func(h *house) { h.setNeighbour(neighbour{link, addr("192.168.1.7")}, mac(t, m), false) }
	}
	for _, tt := range []struct {
		what string
		do   func(*house)
		want bool
	}{
		{"flow", func(h *house) { h.Seen(mac(t, other), addr("192.168.1.7"), "br-lan", h.now().UnixMilli()) }, true},
		{"neighbour", neighbourOn(3, other), true},
		{"neighbour elsewhere", neighbourOn(5, other), false},
		{"this machine", neighbourOn(3, "00:00:00:00:00:01"), false},
		{"excluded neighbour", neighbourOn(3, "00:00:00:00:00:ee"), false},
		{"lease", func(h *house) { h.lease(other, "192.168.2.7", "", "") }, true},
		{"lease elsewhere", func(h *house) { h.lease(other, "192.168.3.7", "", "") }, false},
		{"excluded lease", func(h *house) { h.lease("00:00:00:00:00:ee", "192.168.2.7", "x", "") }, false},
		{"lease of IPv6 only", func(h *house) { h.lease(other, "2001:db8::7", "x", "") }, false},
		{"network that is monitored later", func(h *house) {
			neighbourOn(5, other)(h)
			h.SetNetworks([]string{"eth2"}, nil)
		}, true},
		{"lease of a network that comes later", func(h *house) {
			h.SetNetworks([]string{"br-iot"}, nil)
			h.lease(other, "192.168.9.7", "", "")
			h.setMachine(&machine{links: map[string]Interface{"br-iot": {Name: "br-iot", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.9.0/24")}}}})
		}, true},
	} {
		h := newHouse(t)
		h.SetNetworks([]string{"br-lan", "br-guest"}, map[MAC]bool{{0, 0, 0, 0, 0, 0xee}: true})
		tt.do(h)
		if d := h.Devices(); len(d) > 0 != tt.want {
			t.Errorf("%s: devices %+v", tt.what, d)
		}
	}
}

// The kernel keeps what it knows of neighbours that have left, and tells it anew.
func TestSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		at := neighbour{3, netip.MustParseAddr("192.168.1.7")}
		start := h.now().UnixMilli()
		h.setNeighbour(at, mac(t, other), false)
		time.Sleep(time.Hour)
		h.setNeighbour(at, mac(t, other), false)
		if d := h.device(other); d.LastSeen != start {
			t.Errorf("an old entry is a sign of life: %+v", d)
		}
		h.setNeighbour(at, mac(t, other), true)
		if d := h.device(other); d.LastSeen != start+3600_000 || d.FirstSeen != start {
			t.Errorf("after it was reached: %+v", d)
		}
		h.SetLeases([]lease.Lease{{MAC: mac(t, other), Addr: netip.MustParseAddr("192.168.1.7"), Expires: 1}})
		time.Sleep(time.Hour)
		h.SetLeases([]lease.Lease{{MAC: mac(t, other), Addr: netip.MustParseAddr("192.168.1.7"), Expires: 1, Name: "another"}})
		if d := h.device(other); d.LastSeen != start+3600_000 {
			t.Errorf("a lease that stays is a sign of life: %+v", d)
		}
		h.SetLeases([]lease.Lease{{MAC: mac(t, other), Addr: netip.MustParseAddr("192.168.1.7"), Expires: 3600}})
		if d := h.device(other); d.LastSeen != start+2*3600_000 {
			t.Errorf("a lease that was renewed is none: %+v", d)
		}
		h.Seen(mac(t, other), netip.MustParseAddr("fe80::7"), "br-lan", h.now().UnixMilli())
		if d := h.device(other); fmt.Sprint(d.Addresses) != "[192.168.1.7]" {
			t.Errorf("addresses %v", d.Addresses)
		}
	})
}

func TestNews(t *testing.T) {
	for _, tt := range []struct {
		what string
		do   func(*house) string
		want string
	}{
		{"after the time for a name", func(h *house) string {
			h.seenAs(other)
			return h.told(minute2)
		}, other + ` "" at 5s`},
		{"with a name at once", func(h *house) string {
			h.seenAs(other)
			return h.told(time.Second) + "; " + func() string { h.lease(other, "192.168.1.7", "Phone", ""); return h.told(minute2) }()
		}, "; " + other + ` "Phone" at 0s`},
		{"with a name that is there", func(h *house) string {
			h.lease(other, "192.168.1.7", "Phone", "")
			return h.told(minute2)
		}, other + ` "Phone" at 0s`},
		{"of the owner's", func(h *house) string {
			h.SetHosts([]Host{{Name: "TV", MACs: []MAC{mac(h.t, other)}}})
			h.seenAs(other)
			return h.told(minute2)
		}, other + ` "TV" at 0s`},
		{"the vendor can wait", func(h *house) string {
			h.seenAs(apple)
			return h.told(minute2)
		}, apple + ` "Apple 3a:b7" at 5s`},
		{"excluded meanwhile", func(h *house) string {
			h.seenAs(other)
			h.SetNetworks(h.networks, map[MAC]bool{mac(h.t, other): true})
			return h.told(minute2)
		}, ""},
		{"once", func(h *house) string {
			h.seenAs(other)
			first := h.told(time.Minute)
			h.seenAs(other)
			h.lease(other, "192.168.1.7", "Phone", "")
			return first + "; " + h.told(minute2)
		}, other + ` "" at 5s; `},
		{"once, over a restart", func(h *house) string {
			h.seenAs(other)
			h.told(time.Minute)
			h = h.restart(h.Records())
			h.seenAs(other)
			return h.told(minute2)
		}, ""},
		{"not told before a restart", func(h *house) string {
			h.seenAs(other)
			h = h.restart(h.Records())
			return h.told(minute2)
		}, other + ` "" at 5s`},
		{"forgotten and there", func(h *house) string {
			h.seenAs(other)
			h.told(time.Minute)
			h.Forget(func(*Device) bool { return true })
			h.seenAs(other)
			return h.told(minute2)
		}, ""},
		{"forgotten and gone", func(h *house) string {
			h.seenAs(other)
			h.told(2 * time.Hour)
			h.Forget(func(*Device) bool { return true })
			h.seenAs(other)
			return h.told(minute2)
		}, other + ` "" at 5s`},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.begin()
				if got := tt.do(h); got != tt.want {
					t.Errorf("told %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// Nobody is told before it is known what was known.
func TestHeld(t *testing.T) {
	for _, tt := range []struct {
		what    string
		records []Record
		all     bool
		want    string
	}{
		{"no file", nil, true, ""},
		{"known", []Record{{MAC: MAC{0, 0x11, 0x22, 0x33, 0x44, 0x55}, Told: true}}, false, ""},
		{"new", []Record{{MAC: MAC{0, 0, 0, 0, 0, 9}, Told: true}}, false, other + ` "" at 0s`},
		{"a part of a file", []Record{{MAC: MAC{0, 0, 0, 0, 0, 9}, Told: true}}, true, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.seenAs(other)
			if got := h.told(time.Hour); got != "" {
				t.Errorf("%s: told too early: %s", tt.what, got)
			}
			h.Load(tt.records, tt.all)
			if got := h.told(minute2); got != tt.want {
				t.Errorf("%s: told %q, want %q", tt.what, got, tt.want)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	const id, otherID = "ff:12:34:56:78:00:04:aa:bb:cc:dd", "ff:12:34:56:78:00:04:aa:bb:cc:ee"
	// appears has a device come with a lease, be told of, and leave.
	appears := func(h *house, m, name, id string) string {
		h.lease(m, "192.168.1.7", name, id)
		return h.told(time.Hour)
	}
	for _, tt := range []struct {
		what string
		do   func(h *house) string
		// earlier is what the last device was, "" if it is new; it is told of then if its
		// name alone shows that.
		last, earlier string
	}{
		{"name", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			return appears(h, rnd2, "petrs-pixel", "")
		}, rnd2, rnd1},
		{"another name", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			return appears(h, rnd2, "Petrs-Nexus", "")
		}, rnd2, ""},
		{"a name that many have", func(h *house) string {
			appears(h, rnd1, "iPhone", "")
			return appears(h, rnd2, "iPhone", "")
		}, rnd2, ""},
		{"client identifier", func(h *house) string {
			appears(h, rnd1, "old-name", id)
			return appears(h, rnd2, "new-name", "ff:99:99:99:99"+id[len("ff:12:34:56:78"):])
		}, rnd2, rnd1},
		{"another client identifier", func(h *house) string {
			appears(h, rnd1, "laptop-7", id)
			return appears(h, rnd2, "laptop-7", otherID)
		}, rnd2, ""},
		{"the identifier is the MAC: the name", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "01:"+rnd1)
			return appears(h, rnd2, "Petrs-Pixel", "01:"+rnd2)
		}, rnd2, rnd1},
		{"the identifier is the MAC: nothing", func(h *house) string {
			appears(h, rnd1, "", "01:"+rnd1)
			return appears(h, rnd2, "", "01:"+rnd2)
		}, rnd2, ""},
		{"two of that name", func(h *house) string {
			h.lease(rnd1, "192.168.1.7", "Petrs-Pixel", "")
			h.lease(rnd2, "192.168.1.8", "Petrs-Pixel", "")
			h.answers(rnd1)
			h.told(2 * lingers)
			h.answers(rnd1) // both are there
			h.told(time.Hour)
			return appears(h, rnd3, "Petrs-Pixel", "")
		}, rnd3, ""},
		{"one after the other", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			appears(h, rnd2, "Petrs-Pixel", "")
			return appears(h, rnd3, "Petrs-Pixel", "")
		}, rnd3, rnd2},
		{"quickly one after the other", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			for i, m := range []string{rnd2, rnd3} {
				h.lease(m, fmt.Sprintf("192.168.1.1%d", i), "Petrs-Pixel", "")
				h.told(2 * time.Second)
			}
			return appears(h, rnd4, "Petrs-Pixel", "")
		}, rnd4, rnd3},
		{"over a restart", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			appears(h, rnd2, "Petrs-Pixel", "")
			*h = *h.restart(h.Records())
			return appears(h, rnd3, "Petrs-Pixel", "")
		}, rnd3, rnd2},
		{"of a MAC that is not random", func(h *house) string {
			appears(h, other, "Petrs-Pixel", "")
			return appears(h, rnd2, "Petrs-Pixel", "")
		}, rnd2, ""},
		{"not random itself", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			return appears(h, other, "Petrs-Pixel", "")
		}, other, ""},
		{"both are there", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			h.lease(rnd2, "192.168.1.8", "Petrs-Pixel", "")
			got := h.told(30 * time.Second)
			h.answers(rnd1)
			return got + h.told(time.Hour)
		}, rnd2, ""},
		{"flows of the first end, and the kernel has not missed it yet", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			h.lease(rnd2, "192.168.1.8", "Petrs-Pixel", "")
			h.answers(rnd1)
			got := h.told(30 * time.Second)
			h.seenAs(rnd1)
			return got + h.told(time.Hour)
		}, rnd2, rnd1},
		{"the leases are read while they are written", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			h.lease(rnd2, "192.168.1.8", "Petrs-Pixel", "")
			got := h.told(30 * time.Second)
			h.SetLeases(nil)
			h.lease(rnd2, "192.168.1.8", "Petrs-Pixel", "")
			return got + h.told(time.Hour)
		}, rnd2, rnd1},
		{"the first comes back later", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			got := appears(h, rnd2, "Petrs-Pixel", "")
			h.seenAs(rnd1)
			return got + h.told(time.Hour)
		}, rnd2, rnd1},
		{"the earlier one is forgotten", func(h *house) string {
			appears(h, rnd1, "Petrs-Pixel", "")
			h.Forget(func(d *Device) bool { return d.MAC == mac(h.t, rnd1) })
			return appears(h, rnd2, "Petrs-Pixel", "")
		}, rnd2, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.begin()
				start := h.now().UnixMilli()
				told := tt.do(h)
				d := h.device(tt.last)
				sure := tt.what == "client identifier"
				want := ""
				switch {
				case tt.earlier == "":
					want = fmt.Sprintf("%s %q at ", d.MAC, d.Name)
				case !sure:
					want = fmt.Sprintf("%s %q, was %s, at 0s", d.MAC, d.Name, d.Earlier)
				}
				if d.Earlier.String() != tt.earlier || !strings.Contains(told, want) || want == "" && told != "" {
					t.Errorf("told %q, want %q; device %+v", told, want, d)
				}
				if strings.Count(told, " was ") > 1 {
					t.Errorf("told twice: %q", told)
				}
				if (d.FirstSeen == start) != sure {
					t.Errorf("first seen %d s after the start", (d.FirstSeen-start)/1000)
				}
			})
		})
	}
}

func TestIdentifier(t *testing.T) {
	m := MAC{2, 0, 0, 0, 0, 0xa1}
	for _, tt := range []struct {
		id, same string // the same identifier, "" if it is none
	}{
		{"", ""},
		{"01:" + rnd1, ""},
		{"01:02:00:00:00:00:A1", ""},
		{"01:3c:22:fb:00:3a:b7", "01:3c:22:fb:00:3a:b7"}, // another card's
		{"ff:00:00:00:a1:00:03:00:01:" + rnd1, ""},       // DUID-LL of the MAC
		{"ff:00:00:00:a1:00:04:01:02:03:04", "ff:99:99:99:99:00:04:01:02:03:04"},
		{"00:00:00:00", ""},
		{"ff", ""},
		{"30:32:30:30:30:30:30:30:30:30:61:31", ""}, // the MAC as text
		{"not an identifier", "Not an identifier"},
	} {
		got := identifier(tt.id, m)
		if tt.same == "" && got != "" || tt.same != "" && (got == "" || got != identifier(tt.same, m)) {
			t.Errorf("%s: %q, want that of %q", tt.id, got, tt.same)
		}
	}
}

func TestGenericNames(t *testing.T) {
	for name, want := range map[string]bool{
		"": true, "iPhone": true, "iphone.lan": true, "android-dhcp-14": true, "localhost": true, "x": true, "espressif": true, "ESP32-S3": true,
		"Petrs-iPhone": false, "android-5bd8e16e2d1f7a3c": false, "[": true, "a[b": false, "iPhone-von-Anna": false, "Annas-Galaxy-S23": false,
		"Galaxy-S23": true, "Pixel-7": true, "iPhone-2": true, "Redmi-Note-12": true, "SM-A528B": true, "moto-g34-5G": true, "DESKTOP-7K2Q1LP": false,
	} {
		if isGeneric(strings.ToLower(name)) != want {
			t.Errorf("%q is generic: %v", name, !want)
		}
	}
}

// What the kernel knows of a device that is known for good does not make it seen.
func TestHearsay(t *testing.T) {
	h := newHouse(t)
	h.setNeighbour(neighbour{3, netip.MustParseAddr("192.168.1.7")}, mac(t, other), false)
	h.setNeighbour(neighbour{3, netip.MustParseAddr("192.168.1.8")}, mac(t, apple), true)
	now := h.now().UnixMilli()
	h.Load([]Record{{MAC: mac(t, other), First: 1_760_000_000_000, Last: 1_770_000_000_000}, {MAC: mac(t, apple), Last: 1_770_000_000_000}}, false)
	if d := h.device(other); d.LastSeen != 1_770_000_000_000 || d.FirstSeen != 1_760_000_000_000 {
		t.Errorf("known by hearsay: %+v", d)
	}
	if d := h.device(apple); d.LastSeen < now-60_000 {
		t.Errorf("heard itself: %+v", d)
	}
}

// The times of a clock that is not set do not move those that are known.
func TestUnsetClock(t *testing.T) {
	h := newHouse(t)
	const first, last = 1_760_000_000_000, 1_770_000_000_000
	h.Load([]Record{{MAC: mac(t, other), First: first, Last: last, Told: true}}, false)
	h.Seen(mac(t, other), netip.Addr{}, "br-lan", 5000)
	h.Seen(mac(t, apple), netip.Addr{}, "br-lan", 6000)
	if d := h.device(other); d.FirstSeen != first || d.LastSeen != last {
		t.Errorf("seen %d to %d", d.FirstSeen, d.LastSeen)
	}
	for _, r := range h.Records() {
		if r.MAC == mac(t, apple) && (r.First != 0 || r.Last != 0) {
			t.Errorf("the record %+v is kept", r)
		}
	}
	h.ClockSet(7000, last)
	if d := h.device(apple); d.FirstSeen != last+6000 {
		t.Errorf("after the clock was set: %+v", d)
	}
}

// A clock that goes on where it was at the last shutdown, or in the year of the
// system's image, is weeks behind: what is known holds, and what is new is moved.
func TestClockBehind(t *testing.T) {
	const day = 24 * 3600_000
	h := newHouse(t)
	right := h.now()
	now := right.UnixMilli()
	h.now = func() time.Time { return right.AddDate(0, 0, -21) }
	h.setNeighbour(neighbour{3, netip.MustParseAddr("192.168.1.7")}, mac(t, apple), false)
	h.Seen(mac(t, rnd1), netip.Addr{}, "br-lan", now-21*day)
	known := []Record{
		{MAC: mac(t, other), First: now - 10*day, Last: now - day, Told: true},
		{MAC: mac(t, apple), First: now - 10*day, Last: now - day, Told: true},
		{MAC: mac(t, rnd1), First: now - 10*day, Last: now - day, Told: true},
	}
	h.Load(known, false)
	h.Seen(mac(t, other), netip.Addr{}, "br-lan", now-21*day)
	h.Seen(mac(t, rnd2), netip.Addr{}, "br-lan", now-21*day)
	h.Seen(mac(t, rnd2), netip.Addr{}, "br-lan", now-20*day)
	h.ClockSet(now-20*day, 20*day)
	for _, m := range []string{other, apple, rnd1} {
		if d := h.device(m); d.FirstSeen != now-10*day || d.LastSeen != now-day {
			t.Errorf("%s was seen %d to %d ms ago", m, now-d.FirstSeen, now-d.LastSeen)
		}
	}
	if d := h.device(rnd2); d.FirstSeen != now-day || d.LastSeen != now {
		t.Errorf("a new device was seen %d to %d ms ago", now-d.FirstSeen, now-d.LastSeen)
	}
	h.Seen(mac(t, other), netip.Addr{}, "br-lan", now)
	if d := h.device(other); d.FirstSeen != now-10*day || d.LastSeen != now {
		t.Errorf("seen again: %+v", d)
	}
	// Of two lists, the earlier time holds.
	h.Load([]Record{{MAC: mac(t, other), First: now - 100*day, Last: now - 90*day, Told: true}}, false)
	h.Load([]Record{{MAC: mac(t, other), First: now - 50*day, Last: now - 40*day, Told: true}}, false)
	if d := h.device(other); d.FirstSeen != now-100*day || d.LastSeen != now {
		t.Errorf("after another list: %+v", d)
	}
}

// What a clock that was ahead has left is mended once it is sure that it was.
func TestClockAhead(t *testing.T) {
	h := newHouse(t)
	h.Load([]Record{{MAC: mac(t, other), First: 1 << 45, Last: 1 << 45, Told: true}}, false)
	if d := h.device(other); d.FirstSeen != 1<<45 {
		t.Errorf("the clock may be behind, and yet: %+v", d)
	}
	h.ClockRight()
	if d := h.device(other); d.LastSeen > h.now().UnixMilli() || d.FirstSeen > h.now().UnixMilli() {
		t.Errorf("seen in the future: %+v", d)
	}
}

// Two devices that were taken for one are told apart when both are there, however
// late that is.
func TestPart(t *testing.T) {
	// both has two devices answer for a while.
	both := func(h *house, a, b string) (told string) {
		for range 4 {
			h.answers(a)
			h.answers(b)
			told += h.told(5 * time.Second)
		}
		return told
	}
	for _, tt := range []struct {
		what string
		do   func(h *house) string
		told string
		last string // earlier of rnd2
	}{
		{"both are there", func(h *house) string { return both(h, rnd1, rnd2) }, rnd2 + ` "Petrs-Pixel 00:a2" at 0s`, ""},
		{"both are there, the later one is heard first", func(h *house) string { return both(h, rnd2, rnd1) }, rnd2 + ` "Petrs-Pixel 00:a2" at 0s`, ""},
		{"once", func(h *house) string { return both(h, rnd1, rnd2) + both(h, rnd1, rnd2) }, rnd2 + ` "Petrs-Pixel 00:a2" at 0s`, ""},
		{"after a restart", func(h *house) string {
			*h = *h.restart(h.Records())
			return both(h, rnd1, rnd2)
		}, rnd2 + ` "Petrs-Pixel 00:a2" at 0s`, ""},
		{"once, over a restart", func(h *house) string {
			told := both(h, rnd1, rnd2)
			*h = *h.restart(h.Records())
			return told + both(h, rnd1, rnd2)
		}, rnd2 + ` "Petrs-Pixel 00:a2" at 0s`, ""},
		{"once, though the list is read again", func(h *house) string {
			records := h.Records()
			told := both(h, rnd1, rnd2)
			h.Load(records, false)
			return told + both(h, rnd1, rnd2)
		}, rnd2 + ` "Petrs-Pixel 00:a2" at 0s`, ""},
		{"back to the old MAC, and the kernel has not missed the other yet", func(h *house) string {
			h.answers(rnd2)
			told := h.told(10 * time.Second)
			h.answers(rnd1)
			told += h.told(5 * time.Second)
			h.answers(rnd2)
			for range 10 {
				told += h.told(30 * time.Second)
				h.answers(rnd1)
			}
			return told
		}, "", rnd1},
		{"by turns", func(h *house) (told string) {
			for range 10 {
				h.answers(rnd1)
				told += h.told(10 * time.Minute)
				h.answers(rnd2)
				told += h.told(10 * time.Minute)
			}
			return told
		}, "", rnd1},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.begin()
				start := h.now().UnixMilli()
				for i, m := range []string{rnd1, rnd2, rnd3} {
					h.lease(m, fmt.Sprintf("192.168.1.%d", 7+i), "Petrs-Pixel", "70:69:78:65:6c")
					h.told(10 * time.Hour)
				}
				if got := tt.do(h); got != tt.told {
					t.Errorf("told %q, want %q", got, tt.told)
				}
				first := [3]int64{start, start, start}
				if tt.told != "" { // the third came after it
					first[1], first[2] = start+10*3600_000, start+10*3600_000
				}
				for i, m := range []string{rnd1, rnd2, rnd3} {
					if d := h.device(m); d.FirstSeen != first[i] || m == rnd2 && d.Earlier.String() != tt.last {
						t.Errorf("device %+v was first seen %d s after the start", d, (d.FirstSeen-start)/1000)
					}
				}
			})
		})
	}
}

// What the files of the DHCP server and the kernel keep of a device that was
// forgotten does not make it new at the next start; that it is heard does.
func TestForgottenIsHearsay(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.SetLeases(nil)
			h.lease(other, "192.168.1.9", "sold-tv", "")
			h.Load(nil, true)
			h.told(3 * time.Hour)
			h.seenAs(apple)
			h.told(time.Minute)
			h.Forget(func(d *Device) bool { return d.MAC == mac(t, other) })
			records := h.Records()
			n := newHouse(t)
			n.leases = h.leases
			if late {
				n.Load(records, false)
			}
			n.SetLeases(n.leases)
			n.setNeighbour(neighbour{3, netip.MustParseAddr("192.168.1.9")}, mac(t, other), false)
			n.Load(records, false)
			if got := n.told(time.Hour); got != "" || len(n.Devices()) != 1 {
				t.Errorf("late %v: told %q; devices %+v", late, got, n.Devices())
			}
			n.answers(other)
			if got := n.told(time.Hour); got != other+` "sold-tv" at 0s` {
				t.Errorf("late %v: once it is heard, told %q", late, got)
			}
		})
	}
}

// Who appears soon after the first start has been there before.
func TestQuiet(t *testing.T) {
	for _, tt := range []struct {
		what  string
		there func(h *house)
		quiet time.Duration
	}{
		{"nothing is known", func(*house) {}, time.Hour},
		{"a neighbour", func(h *house) {
			h.setNeighbour(neighbour{3, netip.MustParseAddr("192.168.1.9")}, mac(h.t, apple), false)
		}, time.Minute},
		{"a lease", func(h *house) { h.lease(apple, "192.168.1.9", "", "") }, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			tt.there(h)
			h.Load(nil, true)
			h.told(tt.quiet - time.Second)
			h.lease(rnd1, "192.168.1.7", "Petrs-Pixel", "")
			h.lease(rnd2, "192.168.1.8", "Petrs-Pixel", "")
			h.answers(rnd1)
			h.answers(rnd2)
			if got := h.told(0); got != "" || !h.Unsaved() {
				t.Errorf("%s: told %q, to be saved: %v", tt.what, got, h.Unsaved())
			}
			h.told(time.Second)
			h.seenAs(other)
			if got := h.told(minute2); got != other+` "" at 5s` {
				t.Errorf("%s: afterwards, told %q", tt.what, got)
			}
			for _, r := range h.Records() {
				if !r.Told {
					t.Errorf("%s: %+v", tt.what, r)
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.Load(nil, true)
		h.Load([]Record{{MAC: mac(t, apple), Told: true}}, false)
		h.seenAs(other)
		if got := h.told(time.Minute); got != other+` "" at 5s` {
			t.Errorf("after the list was found on another drive, told %q", got)
		}
	})
}

// Of too many devices those that were seen last are kept, whether known or new.
func TestFullTable(t *testing.T) {
	h := newHouse(t)
	var records []Record
	for i := range maxDevices {
		records = append(records, Record{MAC: MAC{4, 0, 0, 0, byte(i >> 8), byte(i)}, First: 1_760_000_000_000, Last: 1_770_000_000_000 + int64(i), Told: true})
	}
	h.Load(records, false)
	h.Seen(MAC{4}, netip.Addr{}, "br-lan", 1_780_000_000_000) // the first of them
	h.seenAs(other)
	got := h.Records()
	has := func(m MAC) bool { return slices.ContainsFunc(got, func(r Record) bool { return r.MAC == m }) }
	if len(got) != maxDevices || !has(MAC{4}) || has(MAC{4, 0, 0, 0, 0, 1}) || !has(mac(t, other)) {
		t.Errorf("%d devices are kept", len(got))
	}
	for i := range 2 * maxDevices {
		h.Seen(MAC{6, 0, 0, 0, byte(i >> 8), byte(i)}, netip.Addr{}, "br-lan", h.now().UnixMilli())
	}
	if n := len(h.registry.waiting); n != minPassing {
		t.Errorf("%d devices wait", n)
	}
}

// Made-up devices push out each other, not those that can be told from them.
func TestFullOfMadeUp(t *testing.T) {
	h := newHouse(t)
	h.SetHosts([]Host{{Name: "TV", MACs: []MAC{mac(t, rnd1)}}})
	h.SetLeases(nil)
	h.begin()
	first := h.now().UnixMilli()
	for _, m := range []string{apple, rnd1} {
		h.seenAs(m)
	}
	h.lease(rnd2, "192.168.1.7", "Petrs-Pixel", "")
	h.seenAs(rnd3)
	for i := range 2 * maxDevices {
		h.Seen(MAC{6, 0, 0, 0, byte(i >> 8), byte(i)}, netip.Addr{}, "br-lan", first+int64(i))
	}
	for m, want := range map[string]bool{apple: true, rnd1: true, rnd2: true, rnd3: false} {
		if d := h.device(m); d.MAC.IsZero() == want {
			t.Errorf("%s is remembered: %v", m, !want)
		}
	}
	n := h.restart(h.Records())
	for m := range map[string]bool{apple: true, rnd1: true, rnd2: true} {
		if n.device(m).MAC.IsZero() {
			t.Errorf("after a restart, %s is not remembered", m)
		}
	}
	if len(n.Devices()) != maxDevices {
		t.Errorf("%d devices", len(n.Devices()))
	}
}

// Thousands of leases do not keep those who ask for names waiting.
func BenchmarkManyLeases(b *testing.B) {
	for what, name := range map[string]func(i int) string{
		"names of two": func(i int) string { return fmt.Sprintf("phone-%d", i/2) },
		"one name":     func(int) string { return "the-phone" },
	} {
		b.Run(what, func(b *testing.B) {
			var leases []lease.Lease
			for i := range 4000 {
				leases = append(leases, lease.Lease{
					MAC: MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}, Addr: netip.AddrFrom4([4]byte{192, 168, 1, byte(i)}),
					Name: name(i), ClientID: fmt.Sprintf("01:02:00:00:01:%02x:%02x", byte(i>>8), byte(i)),
				})
			}
			for b.Loop() {
				h := newHouse(b)
				h.begin()
				h.SetLeases(leases)
				h.SetLeases(leases)
				h.News()
			}
		})
	}
}

// Devices that refer to each other in a circle end no search.
func TestCircle(t *testing.T) {
	h := newHouse(t)
	a, b := mac(t, rnd1), mac(t, rnd2)
	h.Load([]Record{{MAC: a, Earlier: b, Lease: "Petrs-Pixel", Told: true}, {MAC: b, Earlier: a, Lease: "Petrs-Pixel", Told: true}}, false)
	h.lease(rnd3, "192.168.1.7", "Petrs-Pixel", "")
	if news, _, _ := h.News(); len(news) > 1 {
		t.Errorf("told %v", news)
	}
}
