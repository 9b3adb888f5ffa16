package client

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pakon/daemon/client/lease"
)

// TestWhoKeepsTheName: of two devices that tell the DHCP server one name the one has it
// that had it first, however the other comes by it.
func TestWhoKeepsTheName(t *testing.T) {
	const real, intruder = "3c:06:30:00:00:a1", "02:00:00:00:00:b2"
	long := func(h *house) { h.told(30 * time.Hour) }
	// known has the real one come, and tell its name.
	known := func(h *house) {
		h.lease(real, "192.168.1.7", "Annas-phone", "")
		long(h)
	}
	comes := func(h *house) { h.lease(intruder, "192.168.1.8", "annas-PHONE", "") }
	for _, tt := range []struct {
		what string
		do   func(h *house)
	}{
		{"it comes later", func(h *house) { known(h); comes(h) }},
		{"it is first in the file", func(h *house) {
			known(h)
			comes(h)
			slices.Reverse(h.leases)
			h.SetLeases(h.leases)
		}},
		{"it renews its lease, and the other's runs out", func(h *house) {
			known(h)
			comes(h)
			long(h)
			h.leases = []lease.Lease{h.given(intruder, at(8), "Annas-phone", "")}
			h.SetLeases(h.leases)
			long(h)
		}},
		{"the other is away", func(h *house) {
			known(h)
			h.leases = nil
			h.SetLeases(nil)
			long(h)
			comes(h)
			long(h)
		}},
		{"the server takes the name from the other", func(h *house) {
			known(h)
			h.lease(real, "192.168.1.7", "", "")
			comes(h)
		}},
		{"it takes the lease of the other over by its identifier", func(h *house) {
			h.lease(real, "192.168.1.7", "Annas-phone", "01:"+real)
			long(h)
			h.leases = nil
			h.lease(intruder, "192.168.1.7", "Annas-phone", "01:"+real)
		}},
		{"the router is started anew, and it asks first", func(h *house) {
			known(h)
			records := h.Records()
			*h = *newHouse(h.t)
			comes(h)
			h.answers(intruder)
			h.Load(records, false)
			h.answers(intruder)
			long(h)
			h.lease(real, "192.168.1.9", "Annas-phone", "")
		}},
		{"after a start with both in the file", func(h *house) {
			known(h)
			comes(h)
			*h = *h.restart(h.Records())
		}},
		{"the file is of before names were kept", func(h *house) {
			known(h)
			comes(h)
			records := h.Records()
			for i := range records {
				records[i].Holds = false
			}
			*h = *h.restart(records)
		}},
		{"the other was there at the first start", func(h *house) {
			h.Table = newHouse(h.t).Table
			h.Load([]Record{{MAC: mac(h.t, real), First: h.now().Add(-time.Hour).UnixMilli(), Told: true}}, true)
			h.lease(real, "192.168.1.7", "Annas-phone", "")
			comes(h)
		}},
		{"both are in the files of two servers", func(h *house) {
			known(h)
			h.SetLeases([]lease.Lease{h.given(intruder, at(8), "Annas-phone", ""), h.given(real, at(7), "Annas-phone", ""), h.given(intruder, at(88), "Annas-phone", "")})
		}},
		{"it was called otherwise before", func(h *house) {
			h.lease(intruder, "192.168.1.8", "pc", "")
			long(h)
			known(h)
			comes(h)
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.begin()
				tt.do(h)
				time.Sleep(renameAfter)
				synctest.Wait()
				is, _ := h.Name(mac(t, real))
				other, _ := h.Name(mac(t, intruder))
				if is != "Annas-phone" || other != "annas-PHONE 00:b2" && other != "Annas-phone 00:b2" {
					t.Errorf("the real one is called %q, the other %q", is, other)
				}
				if got := h.Meant("annas-phone"); len(got) != 1 || got[0].MAC != mac(t, real) {
					t.Errorf("by the name, %v is meant", got)
				}
				if got := h.Meant("annas-phone 00:B2"); len(got) != 1 || got[0].MAC != mac(t, intruder) {
					t.Errorf("by the other's name, %v is meant", got)
				}
				for _, d := range h.Devices() {
					if d.MAC == mac(t, intruder) && d.Name != other {
						t.Errorf("among the devices it is called %q", d.Name)
					}
				}
			})
		})
	}
}

// TestWhoKeepsTheTail: of two MACs with one tail the one that was there first has the name
// that is made with it, though the other one is the lesser.
func TestWhoKeepsTheTail(t *testing.T) {
	const plug, intruder = "3c:22:fb:0a:3a:b7", "3c:22:fb:00:3a:b7"
	for _, tt := range []struct{ lease, name string }{
		{"", "Apple"},
		{"KP115", "KP115"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.begin()
			h.lease(other, "192.168.1.6", "KP115", "")
			h.seenAs(other)
			come := func(m, addr string) {
				if tt.lease != "" {
					h.lease(m, addr, tt.lease, "")
				}
				h.seenAs(m)
				h.told(time.Minute)
			}
			come(plug, "192.168.1.7")
			come(intruder, "192.168.1.8")
			for _, when := range []string{"at first", "after a restart"} {
				for m, want := range map[string]string{plug: tt.name + " 3a:b7", intruder: tt.name + " " + intruder} {
					if got, _ := h.Name(mac(t, m)); got != want {
						t.Errorf("%s, %s is called %q, want %q", when, m, got, want)
					}
				}
				if got := h.Meant(tt.name + " 3A:b7"); len(got) != 1 || got[0].MAC != mac(t, plug) {
					t.Errorf("%s, by the name, %v is meant", when, got)
				}
				h = h.restart(h.Records())
			}
		})
	}
}

// TestNameIsLeft: a name is free once its device is called otherwise, is forgotten, or
// was made up and has not been seen for long.
func TestNameIsLeft(t *testing.T) {
	for _, tt := range []struct {
		what string
		do   func(h *house)
	}{
		{"called otherwise", func(h *house) { h.lease(rnd1, "192.168.1.7", "Bobs-phone", "") }},
		{"forgotten", func(h *house) {
			h.Forget(func(d *Device) bool { return d.MAC == mac(h.t, rnd1) })
			h.leases = nil
			h.SetLeases(nil)
		}},
		{"folded away", func(h *house) {
			h.leases = nil
			h.SetLeases(nil)
			for range 91 {
				h.told(24 * time.Hour)
				h.answers(other)
			}
			h.Age()
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.begin()
				h.lease(rnd1, "192.168.1.7", "Annas-phone", "")
				h.told(time.Minute)
				h.lease(other, "192.168.1.8", "Annas-phone", "")
				h.told(time.Minute)
				if name, _ := h.Name(mac(t, other)); name != "Annas-phone 44:55" {
					t.Errorf("at first it is called %q", name)
				}
				tt.do(h)
				h.lease(other, "192.168.1.8", "Annas-phone", "")
				if name, _ := h.Name(mac(t, other)); name != "Annas-phone" {
					t.Errorf("then it is called %q", name)
				}
				// Once it has the name, it keeps it.
				h.lease(rnd1, "192.168.1.7", "Annas-phone", "")
				if name, _ := h.Name(mac(t, rnd1)); name != "Annas-phone 00:a1" {
					t.Errorf("the one that is back is called %q", name)
				}
			})
		})
	}
}

// TestNameAtIsOnes: who asks for addresses under several names, or without a MAC, is not
// called as another is.
func TestNameAtIsOnes(t *testing.T) {
	v6, v6b := netip.MustParseAddr("2001:db8:1::55"), netip.MustParseAddr("2001:db8:1::56")
	for _, tt := range []struct {
		what   string
		leases func(h *house) []lease.Lease
		want   map[netip.Addr]string // with the intruder's MAC, or none
	}{
		{"several names of one MAC", func(h *house) []lease.Lease {
			return []lease.Lease{h.given(extender, at(31), "x", "31"), h.given(extender, at(32), "Annas-phone", "32")}
		}, map[netip.Addr]string{at(31): "x", at(32): "Annas-phone 192.168.1.32"}},
		{"one name of two extenders", func(h *house) []lease.Lease {
			return []lease.Lease{h.given(extender, at(31), "x", ""), h.given(extender, at(32), "plug", ""), h.given(camera, at(33), "y", ""), h.given(camera, at(34), "plug", "")}
		}, map[netip.Addr]string{at(32): "plug 192.168.1.32"}},
		{"no MAC", func(h *house) []lease.Lease {
			return []lease.Lease{{Addr: v6, Name: "annas-phone", ClientID: "00:04:01:02"}, {Addr: v6b, Name: "desk", ClientID: "00:04:01:03"}}
		}, map[netip.Addr]string{v6: "annas-phone 2001:db8:1::55", v6b: "desk"}},
		{"two addresses of one without a MAC", func(h *house) []lease.Lease {
			return []lease.Lease{{Addr: v6, Name: "desk", ClientID: "00:04:01:03"}, {Addr: v6b, Name: "desk", ClientID: "00:04:01:03"}}
		}, map[netip.Addr]string{v6: "desk", v6b: "desk"}},
	} {
		h := newHouse(t)
		h.begin()
		phone := h.given(tablet, at(22), "Annas-phone", "")
		h.SetLeases([]lease.Lease{phone})
		h.SetLeases(append(tt.leases(h), phone))
		for a, want := range tt.want {
			frames := MAC{}
			if a.Is4() {
				frames = mac(t, extender)
			}
			if name, _ := h.NameAt(frames, a); name != want {
				t.Errorf("%s: %v is called %q, want %q", tt.what, a, name, want)
			}
		}
		if name, _ := h.NameAt(mac(t, tablet), at(22)); name != "Annas-phone" {
			t.Errorf("%s: the phone is called %q", tt.what, name)
		}
	}
}

// TestIdentifierOfAnother: who tells the DHCP server that it is another device is not
// taken for that, nor gives it a name.
func TestIdentifierOfAnother(t *testing.T) {
	for _, tt := range []struct {
		what string
		own  bool // the victim has a lease of its own, too
	}{{"the victim has a lease", true}, {"the victim is in use", false}} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.begin()
				victim := h.given(tablet, at(22), "Annas-phone", "01:"+tablet)
				h.SetLeases([]lease.Lease{victim})
				h.reaches(tablet, at(22))
				h.told(time.Minute)
				forged := []lease.Lease{h.given(extender, at(31), "evil", "01:"+tablet), h.given(extender, at(32), "worse", "01:"+camera)}
				if tt.own {
					time.Sleep(time.Hour)
					forged = append(forged, h.given(tablet, at(22), "Annas-phone", "01:"+tablet))
				}
				h.SetLeases(forged)
				h.reaches(extender, at(31), at(32))
				if got := h.Owner(mac(t, extender), at(31)); got != mac(t, extender) {
					t.Errorf("its address is of %v", got)
				}
				if name, _ := h.Name(mac(t, tablet)); name != "Annas-phone" {
					t.Errorf("the victim is called %q", name)
				}
			})
		})
	}
	// While the victim is away, what is told is believed, as that of an extender is; but
	// once it is back it is not.
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.begin()
		h.SetLeases([]lease.Lease{h.given(tablet, at(22), "Annas-phone", "01:"+tablet)})
		h.reaches(tablet, at(22))
		h.told(2 * time.Hour)
		h.SetLeases([]lease.Lease{h.given(extender, at(31), "evil", "01:"+tablet), h.given(extender, at(32), "worse", "01:"+camera)})
		h.reaches(extender, at(31), at(32))
		if name, _ := h.Name(mac(t, tablet)); name != "Annas-phone" {
			t.Errorf("the victim is called %q", name)
		}
		if got := h.Owner(mac(t, extender), at(31)); got != mac(t, tablet) {
			t.Errorf("while the device is away, its address is of %v", got)
		}
		h.reaches(tablet, at(40))
		if got := h.Owner(mac(t, extender), at(31)); got != mac(t, extender) {
			t.Errorf("once the device is back, its address is of %v", got)
		}
	})
}

// TestFloodOfVendors: devices that were made up with a vendor's prefix push out neither
// who was seen for days nor whom the owner has named.
func TestFloodOfVendors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.SetHosts([]Host{{Name: "TV", MACs: []MAC{mac(t, camera)}}})
		now := h.now().UnixMilli()
		const day = 24 * 3600_000
		h.Load([]Record{
			{MAC: mac(t, tv), First: now - 3*day, Last: now - 2*day, Told: true},
			{MAC: mac(t, rnd1), First: now - 300*day, Last: now - 200*day, Told: true},
			{MAC: mac(t, rnd2), First: now - 3*3600_000, Last: now - 3600_000, Told: true},
		}, false)
		h.lease(tablet, "192.168.1.7", "Annas-phone", "")
		h.seenAs(camera)
		flood := func(n int) {
			for i := range n {
				h.Seen(MAC{0x3c, 0x22, 0xfb, byte(i >> 16), byte(i >> 8), byte(i)}, at(50), "br-lan", h.now().UnixMilli())
			}
		}
		flood(10800)
		for _, m := range []string{tv, rnd1, rnd2, camera} {
			if h.device(m).MAC.IsZero() {
				t.Errorf("%s is forgotten", m)
			}
		}
		if n := len(h.Devices()); n != maxDevices {
			t.Errorf("%d devices are remembered", n)
		}
		news, passed, _ := h.News()
		for range 10 {
			time.Sleep(nameAfter)
			more, p, _ := h.News()
			news, passed = append(news, more...), passed+p
		}
		if len(news)+passed < 10800 {
			t.Errorf("%d devices are announced and %d counted", len(news), passed)
		}
		// Also if the flood goes on for days, and in a house of thousands, one that was
		// named stays, and those that come are remembered for a while.
		for range 3 {
			time.Sleep(25 * time.Hour)
			flood(3 * maxDevices)
		}
		const late = "3c:22:fb:ff:ff:ff"
		h.seenAs(late)
		flood(100)
		for _, m := range []string{camera, late} {
			if h.device(m).MAC.IsZero() {
				t.Errorf("after days, %s is forgotten", m)
			}
		}
		n := h.restart(h.Records())
		if n.SetHosts(h.hosts); n.device(camera).MAC.IsZero() {
			t.Error("after a restart, the one that the owner has named is forgotten")
		}
	})
}

// TestAge: MACs that were made up go after a year, if the owner has not named them.
func TestAge(t *testing.T) {
	h := newHouse(t)
	h.SetHosts([]Host{{Name: "TV", MACs: []MAC{mac(t, rnd3)}}})
	now := h.now().UnixMilli()
	const day = 24 * 3600_000
	var records []Record
	for m, days := range map[string]int64{rnd1: 366, rnd2: 364, rnd3: 500, rnd4: 89, tv: 500} {
		records = append(records, Record{MAC: mac(t, m), First: now - 501*day, Last: now - days*day, Told: true})
	}
	h.Load(append(records, Record{MAC: MAC{2, 9}, Told: true}), false)
	shown := func() (s string) {
		for _, d := range h.Devices() {
			s += fmt.Sprintf("%s %v ", d.MAC, d.Folded)
		}
		return s
	}
	folded := func(m string, is bool) string { return fmt.Sprintf("%s %v ", m, is) }
	later := folded(rnd2, true) + folded(rnd3, false) + folded(rnd4, false) + folded(tv, false)
	if got, want := shown(), folded(rnd1, true)+later; got != want {
		t.Errorf("before: %s, want %s", got, want)
	}
	h.Records()
	h.Age()
	if got := shown(); got != later || !h.Unsaved() {
		t.Errorf("then: %s, want %s", got, later)
	}
	h.Records()
	if h.Age(); h.Unsaved() {
		t.Error("it is to be saved though nothing has changed")
	}
	h.seenAs(rnd2)
	if d := h.device(rnd2); d.Folded {
		t.Errorf("seen again: %+v", d)
	}
}
