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
	t      *testing.T
	leases []lease.Lease
}

func newHouse(t *testing.T) *house {
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
		news, next := h.News()
		for _, n := range news {
			out = append(out, fmt.Sprintf("%s %q at %s", n.MAC, n.Name, time.Since(began)))
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

// restart is the house after a restart of the daemon, of which the file said what
// is known; nil records stand for no file.
func (h *house) restart(records []Record) *house {
	h.t.Helper()
	n := newHouse(h.t)
	n.Load(records, records == nil)
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
			h.SetHosts([]Host{{tt.host, []MAC{m}}})
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

func TestSameLeaseName(t *testing.T) {
	h := newHouse(t)
	h.lease(other, "192.168.1.9", "Pixel-7", "")
	h.lease(rnd1, "192.168.1.10", "pixel-7", "")
	if got := h.ByName("PIXEL-7"); !slices.Equal(got, []MAC{mac(t, other), mac(t, rnd1)}) {
		t.Errorf("by name there are %v", got)
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
		h.SetLeases([]lease.Lease{{MAC: mac(t, other), Addr: netip.MustParseAddr("192.168.1.7"), Expires: 2}})
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
			h.SetHosts([]Host{{"TV", []MAC{mac(h.t, other)}}})
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
				h.Load(nil, true)
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
		// earlier is what the last device was, "" if it is new.
		last, earlier string
	}{
		{"name", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			return appears(h, rnd2, "pixel-7", "")
		}, rnd2, rnd1},
		{"another name", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			return appears(h, rnd2, "Pixel-8", "")
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
			appears(h, rnd1, "Pixel-7", "01:"+rnd1)
			return appears(h, rnd2, "Pixel-7", "01:"+rnd2)
		}, rnd2, rnd1},
		{"the identifier is the MAC: nothing", func(h *house) string {
			appears(h, rnd1, "", "01:"+rnd1)
			return appears(h, rnd2, "", "01:"+rnd2)
		}, rnd2, ""},
		{"two of that name", func(h *house) string {
			h.lease(rnd1, "192.168.1.7", "Pixel-7", "")
			h.lease(rnd2, "192.168.1.8", "Pixel-7", "")
			h.answers(rnd1)
			h.told(2 * lingers)
			h.answers(rnd1) // both are there
			h.told(time.Hour)
			return appears(h, rnd3, "Pixel-7", "")
		}, rnd3, ""},
		{"one after the other", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			appears(h, rnd2, "Pixel-7", "")
			return appears(h, rnd3, "Pixel-7", "")
		}, rnd3, rnd2},
		{"quickly one after the other", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			for i, m := range []string{rnd2, rnd3} {
				h.lease(m, fmt.Sprintf("192.168.1.1%d", i), "Pixel-7", "")
				if got := h.told(2 * time.Second); got != "" {
					return got
				}
			}
			return appears(h, rnd4, "Pixel-7", "")
		}, rnd4, rnd3},
		{"over a restart", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			appears(h, rnd2, "Pixel-7", "")
			*h = *h.restart(h.Records())
			return appears(h, rnd3, "Pixel-7", "")
		}, rnd3, rnd2},
		{"of a MAC that is not random", func(h *house) string {
			appears(h, other, "Pixel-7", "")
			return appears(h, rnd2, "Pixel-7", "")
		}, rnd2, ""},
		{"not random itself", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			return appears(h, other, "Pixel-7", "")
		}, other, ""},
		{"both are there", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			h.lease(rnd2, "192.168.1.8", "Pixel-7", "")
			got := h.told(30 * time.Second)
			h.answers(rnd1)
			return got + h.told(time.Hour)
		}, rnd2, ""},
		{"flows of the first end, and the kernel has not missed it yet", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			h.lease(rnd2, "192.168.1.8", "Pixel-7", "")
			h.answers(rnd1)
			got := h.told(30 * time.Second)
			h.seenAs(rnd1)
			return got + h.told(time.Hour)
		}, rnd2, rnd1},
		{"the leases are read while they are written", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			h.lease(rnd2, "192.168.1.8", "Pixel-7", "")
			got := h.told(30 * time.Second)
			h.SetLeases(nil)
			h.lease(rnd2, "192.168.1.8", "Pixel-7", "")
			return got + h.told(time.Hour)
		}, rnd2, rnd1},
		{"the first comes back later", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			got := appears(h, rnd2, "Pixel-7", "")
			h.seenAs(rnd1)
			return got + h.told(time.Hour)
		}, rnd2, rnd1},
		{"the earlier one is forgotten", func(h *house) string {
			appears(h, rnd1, "Pixel-7", "")
			h.Forget(func(d *Device) bool { return d.MAC == mac(h.t, rnd1) })
			return appears(h, rnd2, "Pixel-7", "")
		}, rnd2, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.Load(nil, true)
				start := h.now().UnixMilli()
				told := tt.do(h)
				d := h.device(tt.last)
				if d.Earlier.String() != tt.earlier || (told == "") != (tt.earlier != "") {
					t.Errorf("told %q, device %+v", told, d)
				}
				if (d.FirstSeen == start) != (tt.earlier != "") {
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
		"Petrs-iPhone": false, "Pixel-7": false, "android-5bd8e16e2d1f7a3c": false, "Galaxy-S23": false, "[": true, "a[b": false,
	} {
		if isGeneric(name) != want {
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
	n := h.restart([]Record{{MAC: mac(t, other), First: 1 << 45, Last: 1 << 45, Told: true}})
	if d := n.device(other); d.LastSeen > n.now().UnixMilli() {
		t.Errorf("seen in the future: %+v", d)
	}
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
	if n := len(h.registry.waiting); n != maxDevices {
		t.Errorf("%d devices wait", n)
	}
}

// Devices that refer to each other in a circle end no search.
func TestCircle(t *testing.T) {
	h := newHouse(t)
	a, b := mac(t, rnd1), mac(t, rnd2)
	h.Load([]Record{{MAC: a, Earlier: b, Lease: "Pixel-7", Told: true}, {MAC: b, Earlier: a, Lease: "Pixel-7", Told: true}}, false)
	h.lease(rnd3, "192.168.1.7", "Pixel-7", "")
	if news, _ := h.News(); len(news) > 1 {
		t.Errorf("told %v", news)
	}
}
