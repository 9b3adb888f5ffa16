package client

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pakon/daemon/client/lease"
)

const (
	extender = "d8:0d:17:00:00:20"
	tv       = "50:c7:bf:00:00:21"
	tablet   = "00:1b:21:00:00:11"
	camera   = "52:00:00:00:00:31"
)

// at is the address 192.168.1.n.
func at(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 1, n}) }

// reaches has the kernel tell that it has reached a device by its frames' MAC.
func (h *house) reaches(frames string, addrs ...netip.Addr) {
	h.t.Helper()
	for _, a := range addrs {
		h.setNeighbour(neighbour{3, a}, mac(h.t, frames), true)
	}
}

// given is a lease that has an hour to go.
func (h *house) given(m string, a netip.Addr, name, id string) lease.Lease {
	h.t.Helper()
	return lease.Lease{MAC: mac(h.t, m), Addr: a, Name: name, ClientID: id, Expires: h.now().Add(time.Hour).Unix()}
}

// TestOwner: whose an address is with which frames of the extender's MAC come.
func TestOwner(t *testing.T) {
	tvV6 := netip.MustParseAddr("2001:db8:1:0:52c7:bfff:fe00:21")
	random := netip.MustParseAddr("2001:db8:1::1234")
	assigned := netip.MustParseAddr("2001:db8:1::55")
	for _, tt := range []struct {
		name string
		do   func(h *house)
		want map[netip.Addr]string
	}{
		{"two that the DHCP server knows", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(extender, at(20), "", ""), h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "")})
			h.reaches(extender, at(20), at(21), at(22))
		}, map[netip.Addr]string{at(20): extender, at(21): tv, at(22): tablet, at(23): extender, tvV6: tv, random: extender}},
		{"the leases are given at the time", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(camera, at(21), "", "")})
			h.reaches(extender, at(21), at(22))
			time.Sleep(time.Second)
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "")})
		}, map[netip.Addr]string{at(21): tv, at(22): tablet}},
		{"the leases are read later", func(h *house) {
			h.reaches(extender, at(21), at(22))
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "")})
		}, map[netip.Addr]string{at(21): tv, at(22): tablet}},
		{"the owner has reserved their addresses", func(h *house) {
			h.reaches(extender, at(21), at(22))
			h.SetHosts([]Host{{MACs: []MAC{mac(h.t, tv)}, Addrs: []netip.Addr{at(21)}}, {Name: "dock", MACs: []MAC{mac(h.t, tablet), mac(h.t, camera)}, Addrs: []netip.Addr{at(22)}}})
		}, map[netip.Addr]string{at(21): tv, at(22): tablet}},
		{"one of each", func(h *house) {
			h.SetHosts([]Host{{MACs: []MAC{mac(h.t, tv)}, Addrs: []netip.Addr{at(21)}}})
			h.SetLeases([]lease.Lease{h.given(tablet, at(22), "", "")})
			h.reaches(extender, at(21), at(22))
		}, map[netip.Addr]string{at(21): tv, at(22): tablet}},
		{"one by its DUID, of which the lease of IPv4 tells", func(h *house) {
			h.SetLeases([]lease.Lease{
				h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "ff:00:00:00:01:00:02:00:00:ab:11"),
				{Addr: assigned, ClientID: "00:02:00:00:ab:11"},
			})
			h.reaches(extender, at(21), at(22))
		}, map[netip.Addr]string{assigned: tablet}},
		{"leases without an end", func(h *house) {
			h.SetLeases([]lease.Lease{{MAC: mac(h.t, tv), Addr: at(21)}, {MAC: mac(h.t, tablet), Addr: at(22)}})
			h.reaches(extender, at(21), at(22))
		}, map[netip.Addr]string{at(21): tv, at(22): tablet}},
		{"it asks in its own name, the identifiers are theirs", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(extender, at(31), "camera", "01:"+camera), h.given(extender, at(32), "tv", "01:"+tv)})
			h.reaches(extender, at(31), at(32))
		}, map[netip.Addr]string{at(31): camera, at(32): tv}},
		{"just one of them roams to the router", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "")})
			h.reaches(extender, at(21), at(22))
			h.reaches(tv, at(21))
		}, map[netip.Addr]string{at(21): tv, at(22): tablet}},
		{"one of two leaves for good", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "")})
			h.reaches(extender, at(21), at(22))
			time.Sleep(50 * time.Minute)
			h.SetLeases([]lease.Lease{h.given(tablet, at(22), "", "")})
		}, map[netip.Addr]string{at(22): tablet}},

		// These are no extenders.
		{"a device that uses the address of another", func(h *house) {
			h.SetHosts([]Host{{MACs: []MAC{mac(h.t, tv)}, Addrs: []netip.Addr{at(21)}}})
			h.reaches(extender, at(20), at(21))
		}, map[netip.Addr]string{at(20): extender, at(21): extender}},
		{"a device that took addresses over whose leases had expired", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "")})
			time.Sleep(2 * time.Hour)
			h.reaches(extender, at(21), at(22))
		}, map[netip.Addr]string{at(21): extender, at(22): extender}},
		{"a device whose former addresses others have now", func(h *house) {
			h.SetLeases(nil)
			h.reaches(extender, at(21), at(22), at(23))
			time.Sleep(time.Minute)
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "")})
			h.reaches(extender, at(23))
		}, map[netip.Addr]string{at(21): extender, at(23): extender}},
		{"a device that used the address of one, and of another much later", func(h *house) {
			h.SetHosts([]Host{{MACs: []MAC{mac(h.t, tv)}, Addrs: []netip.Addr{at(21)}}, {MACs: []MAC{mac(h.t, tablet)}, Addrs: []netip.Addr{at(22)}}})
			h.reaches(extender, at(21))
			time.Sleep(time.Hour)
			h.reaches(extender, at(22))
		}, map[netip.Addr]string{at(21): extender, at(22): extender}},
		{"a device with several addresses of its own", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), {MAC: mac(h.t, tablet), Addr: random}, {MAC: mac(h.t, camera), Addr: assigned}})
			h.reaches(tv, at(21), random, assigned, tvV6)
		}, map[netip.Addr]string{at(21): tv, random: tv, assigned: tv, tvV6: tv}},
		{"one of the owner's with two MACs", func(h *house) {
			macs := []MAC{mac(h.t, tv), mac(h.t, tablet)}
			h.SetHosts([]Host{{MACs: macs, Addrs: []netip.Addr{at(21)}}, {MACs: macs, Addrs: []netip.Addr{at(22)}}})
			h.reaches(tablet, at(21), at(22))
		}, map[netip.Addr]string{at(21): tablet, at(22): tablet}},
		{"one with another system on each of its leases", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", "01:"+tv), h.given(tv, at(22), "", "ff:00:00:00:01:00:01:00:00:00:00:"+tablet), h.given(tv, at(23), "", "00:12:34")})
			h.reaches(tv, at(21), at(22), at(23))
		}, map[netip.Addr]string{at(21): tv, at(22): tv, at(23): tv}},
		{"a phone with a MAC and the identifier of another", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "", "01:"+tablet)})
			h.reaches(tv, at(21))
		}, map[netip.Addr]string{at(21): tv}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.SetLeases([]lease.Lease{})
				tt.do(h)
				for a, want := range tt.want {
					frames := mac(t, extender)
					if m, ok := h.ByAddr("br-lan", a); ok {
						frames = m
					}
					if got := h.Owner(frames, a); got != mac(t, want) {
						t.Errorf("%v is of %v, want %s", a, got, want)
					}
				}
			})
		})
	}
}

// TestHolder: whose an address is that no neighbour has.
func TestHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		v6 := netip.MustParseAddr("2001:db8:1::55")
		h.SetHosts([]Host{{MACs: []MAC{mac(t, camera)}, Addrs: []netip.Addr{at(23)}}, {MACs: []MAC{mac(t, camera)}, Addrs: []netip.Addr{at(21)}}})
		h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", ""), {MAC: mac(t, tablet), Addr: v6}, {Addr: at(24), Name: "modem"}})
		expect := func(what string, want map[netip.Addr]string) {
			t.Helper()
			for a, w := range want {
				for _, iface := range []string{"br-lan", ""} {
					if m, ok := h.ByAddr(iface, a); ok != (w != "") || m.String() != w {
						t.Errorf("%s: on %q %v is of %v, want %q", what, iface, a, m, w)
					}
				}
			}
		}
		expect("by lease and reserved", map[netip.Addr]string{at(21): tv, at(22): tablet, v6: tablet, at(23): camera, at(24): "", at(25): ""})
		h.reaches(extender, at(22))
		expect("with a neighbour", map[netip.Addr]string{at(22): extender})
		time.Sleep(2 * time.Hour)
		expect("after the leases", map[netip.Addr]string{at(21): camera, at(22): extender})
	})
}

// TestSharesMAC: several addresses of IPv4 that are in use tell several devices.
func TestSharesMAC(t *testing.T) {
	v6 := func(n byte) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: n}) }
	for _, tt := range []struct {
		name string
		do   func(h *house)
		want bool
	}{
		{"nothing", func(h *house) {}, false},
		{"one address", func(h *house) { h.reaches(tv, at(21)) }, false},
		{"one of IPv4, several of IPv6", func(h *house) { h.reaches(tv, v6(1), at(21), v6(2), netip.MustParseAddr("fe80::1")) }, false},
		{"two", func(h *house) { h.reaches(tv, at(21), at(22)) }, true},
		{"three by turns", func(h *house) {
			for range 20 {
				h.reaches(tv, at(21), at(22), at(23))
				time.Sleep(5 * time.Minute)
			}
		}, true},
		{"one sleeps", func(h *house) {
			h.reaches(tv, at(21), at(22))
			for range 5 {
				time.Sleep(10 * time.Minute)
				h.reaches(tv, at(22))
			}
		}, true},
		{"another address than before", func(h *house) {
			h.reaches(tv, at(21))
			time.Sleep(time.Hour)
			h.reaches(tv, at(22))
		}, false},
		{"another address some time ago", func(h *house) {
			h.reaches(tv, at(21), at(22))
			time.Sleep(2 * time.Hour)
			h.reaches(tv, at(22))
		}, false},
		{"an extender", func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tablet, at(21), "", ""), h.given(camera, at(22), "", "")})
			h.reaches(tv, at(21), at(22))
			time.Sleep(2 * time.Hour)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				tt.do(h)
				if got := h.SharesMAC(mac(t, tv)); got != tt.want {
					t.Errorf("shared: %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestSeenBehindExtender: what comes from behind an extender is a sign of life of the
// device that has the address, and its address is none of the extender's.
func TestSeenBehindExtender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.begin()
		h.SetLeases([]lease.Lease{h.given(extender, at(20), "", ""), h.given(tv, at(21), "tv", ""), h.given(tablet, at(22), "tablet", "")})
		h.told(time.Minute)
		h.reaches(extender, at(20), at(21), at(22))
		time.Sleep(20 * time.Minute)
		h.reaches(extender, at(21))
		now := h.now().UnixMilli()
		if d := h.device(tv); d.LastSeen != now || !slices.Equal(d.Addresses, []netip.Addr{at(21)}) {
			t.Errorf("the tv was seen at %d (now %d) with %v", d.LastSeen, now, d.Addresses)
		}
		if d := h.device(extender); d.LastSeen == now || !slices.Equal(d.Addresses, []netip.Addr{at(20)}) {
			t.Errorf("the extender was seen at %d (now %d) with %v", d.LastSeen, now, d.Addresses)
		}
	})
}

// TestRemovedLink: who was where is known after the link is gone, and after one of
// its name was made anew.
func TestRemovedLink(t *testing.T) {
	h := newHouse(t)
	h.SetLeases(nil)
	h.reaches(tv, at(21))
	known := func(what string, want string) {
		t.Helper()
		for _, iface := range []string{"br-lan", ""} {
			if m, _ := h.ByAddr(iface, at(21)); m.String() != want {
				t.Errorf("%s: on %q the address is of %v, want %s", what, iface, m, want)
			}
		}
	}
	with := func(links ...Interface) {
		m := &machine{links: make(map[string]Interface), index: make(map[int]string)}
		for _, l := range links {
			m.links[l.Name], m.index[l.Index] = l, l.Name
		}
		h.setMachine(m)
	}
	guest := Interface{Name: "br-guest", Index: 4}
	with(guest)
	known("without the link", tv)
	with(guest, Interface{Name: "br-lan", Index: 9})
	known("with a new one", tv)
	h.setNeighbour(neighbour{9, at(21)}, mac(t, tablet), true)
	known("once another has the address", tablet)
	if m, ok := h.ByAddr("br-guest", at(21)); ok {
		t.Errorf("on another link the address is of %v", m)
	}
}

// TestHostsByOther: the owner names devices by what is not their MAC.
func TestHostsByOther(t *testing.T) {
	duid := "00:04:01:02:03:04"
	v6 := netip.MustParseAddr("2001:db8:1::55")
	for _, tt := range []struct {
		name string
		host Host
		do   func(h *house)
		want string // MACs with blanks between them
	}{
		{"the identifier in a lease", Host{IDs: []string{"70:69"}}, func(h *house) { h.SetLeases([]lease.Lease{h.given(tv, at(21), "x", "70:69")}) }, tv},
		{"text with a 0 in front", Host{IDs: []string{"70:69"}}, func(h *house) { h.SetLeases([]lease.Lease{h.given(tv, at(21), "x", "00:70:69")}) }, tv},
		{"the DUID in an identifier", Host{IDs: []string{duid}}, func(h *house) { h.SetLeases([]lease.Lease{h.given(tv, at(21), "x", "ff:00:00:00:01:"+duid)}) }, tv},
		{"a DUID whose lease's neighbour is known", Host{IDs: []string{duid}}, func(h *house) {
			h.SetLeases([]lease.Lease{{Addr: v6, ClientID: duid}})
			h.reaches(tv, v6)
		}, tv},
		{"a DUID made of the MAC", Host{IDs: []string{"00:03:00:01:" + tv}}, func(h *house) {}, tv},
		{"an identifier of a device that has left", Host{IDs: []string{"70:69"}}, func(h *house) {
			h.lease(tv, "192.168.1.21", "x", "70:69")
			h.seenAs(tv)
			h.SetLeases(nil)
		}, tv},
		{"an address that a neighbour has", Host{Addrs: []netip.Addr{at(21)}}, func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tablet, at(21), "x", "")})
			h.reaches(tv, at(21))
		}, tv},
		{"an address behind an extender", Host{Addrs: []netip.Addr{at(21)}}, func(h *house) {
			h.SetLeases([]lease.Lease{h.given(tv, at(21), "x", ""), h.given(tablet, at(22), "x", "")})
			h.reaches(extender, at(21), at(22))
		}, tv},
		{"an address of a lease", Host{Addrs: []netip.Addr{at(21)}}, func(h *house) { h.SetLeases([]lease.Lease{h.given(tv, at(21), "x", "")}) }, tv},
		{"an address that moves", Host{Addrs: []netip.Addr{at(21)}}, func(h *house) {
			h.reaches(tablet, at(21))
			h.reaches(tv, at(21))
		}, tv},
		{"an address that only flows show", Host{Addrs: []netip.Addr{at(21)}}, func(h *house) {
			h.Seen(mac(t, tablet), at(21), "br-lan", 1)
			h.Seen(mac(t, tablet), at(22), "br-lan", 2)
			h.Seen(mac(t, tv), at(21), "br-lan", 3)
			h.Seen(mac(t, tv), v6, "br-lan", 4)
		}, tv},
		{"nobody", Host{IDs: []string{duid}, Addrs: []netip.Addr{at(21)}}, func(h *house) { h.reaches(tv, at(21)) }, ""},
		{"MACs, and an identifier that another sends", Host{MACs: []MAC{mac(t, tv)}, IDs: []string{"70:69"}}, func(h *house) { h.SetLeases([]lease.Lease{h.given(tablet, at(21), "x", "70:69")}) }, tv},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				tt.host.Name = "Mine"
				h.SetHosts([]Host{tt.host, {Name: "Other", MACs: []MAC{mac(t, camera)}}})
				h.SetLeases(nil)
				tt.do(h)
				time.Sleep(renameAfter)
				synctest.Wait()
				if got := strings.Trim(fmt.Sprint(h.Named("mine")), "[]"); got != tt.want {
					t.Errorf("Mine is %q, want %q", got, tt.want)
				}
				if _, source := h.Name(mac(t, tv)); tt.want != "" && source != Static {
					t.Errorf("the name is from %q", source)
				}
				if changed := len(h.Renamed()) > 0; changed != (tt.want != "" && len(tt.host.MACs) == 0) {
					t.Errorf("changes of names are told: %v", changed)
				}
			})
		})
	}
}

// TestSecondName: a device to which the owner gave two names is called by the first, and
// left out by either.
func TestSecondName(t *testing.T) {
	h := newHouse(t)
	h.SetHosts([]Host{
		{Name: "nas", MACs: []MAC{mac(t, tv)}, Addrs: []netip.Addr{at(21)}}, {Name: "box", MACs: []MAC{mac(t, tv)}},
		{Name: "media", Addrs: []netip.Addr{at(21)}}, {Name: "first", Addrs: []netip.Addr{at(22)}}, {Name: "second", Addrs: []netip.Addr{at(22)}},
	})
	h.reaches(tablet, at(22))
	h.SetLeases(nil) // puts the names together
	for name, want := range map[string]string{"nas": tv, "box": tv, "Media": tv, "first": tablet, "second": tablet, "third": ""} {
		if got := strings.Trim(fmt.Sprint(h.Named(name)), "[]"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for m, want := range map[string]string{tv: "nas", tablet: "first"} {
		if name, _ := h.Name(mac(t, m)); name != want {
			t.Errorf("%s is called %q, want %q", m, name, want)
		}
	}
}

// TestNamedBehindExtender: the owner names an address that is behind an extender and
// was given to nobody. The name is not that of all that are behind it.
func TestNamedBehindExtender(t *testing.T) {
	h := newHouse(t)
	h.SetHosts([]Host{{Name: "static", Addrs: []netip.Addr{at(25)}}, {Name: "itself", Addrs: []netip.Addr{at(20)}}})
	leases := []lease.Lease{h.given(tv, at(21), "tv", ""), h.given(tablet, at(22), "tablet", "")}
	h.SetLeases(leases)
	h.reaches(extender, at(21), at(22), at(25), at(26))
	h.SetLeases(leases)
	for addr, want := range map[netip.Addr]string{at(25): "static", at(26): ""} {
		if name, _ := h.NameAt(h.Owner(mac(t, extender), addr), addr); name != want {
			t.Errorf("%s is called %q, want %q", addr, name, want)
		}
	}
	if got, want := fmt.Sprint(h.Meant("static")), fmt.Sprint([]ID{{Addr: at(25)}}); got != want {
		t.Errorf("%s are meant, want %s", got, want)
	}
	// Who is to be left out must not be recorded with the others.
	if got := fmt.Sprint(h.Named("static")); got != "["+extender+"]" {
		t.Errorf("%s are left out", got)
	}
	h.SetLeases(append(leases, h.given(extender, at(20), "", "")))
	h.reaches(extender, at(20))
	h.SetLeases(append(leases, h.given(extender, at(20), "", "")))
	if name, _ := h.Name(mac(t, extender)); name != "itself" {
		t.Errorf("the extender is called %q", name)
	}
}

// TestNamedBehindMask: an extender asks the DHCP server with its own MAC for all that are
// behind it, of which the owner names some. Their names are not those of the others.
func TestNamedBehindMask(t *testing.T) {
	h := newHouse(t)
	h.SetHosts([]Host{{Name: "Radio", Addrs: []netip.Addr{at(32)}}, {Name: "Lens", IDs: []string{"31"}}})
	leases := []lease.Lease{h.given(extender, at(33), "printer", "00:33"), h.given(extender, at(31), "camera", "00:31"), h.given(extender, at(32), "radio", "00:32")}
	h.SetLeases(leases)
	h.reaches(extender, at(31), at(32), at(33), at(34))
	h.SetLeases(leases)
	for n, want := range map[byte]string{31: "Lens", 32: "Radio", 33: "printer"} {
		if name, _ := h.NameAt(h.Owner(mac(t, extender), at(n)), at(n)); name != want {
			t.Errorf("%s is called %q, want %q", at(n), name, want)
		}
	}
	if name, source := h.Name(mac(t, extender)); source == Static {
		t.Errorf("the extender is called %q", name)
	}
	for name, want := range map[string][]ID{"radio": {{Addr: at(32)}}, "lens": nil} {
		if got := h.Meant(name); !slices.Equal(got, want) {
			t.Errorf("%s means %v, want %v", name, got, want)
		}
		if got := fmt.Sprint(h.Named(name)); got != "["+extender+"]" {
			t.Errorf("%s: %s are left out", name, got)
		}
	}
}

// TestNamedOnNewNetwork: a network is monitored in which whom the owner has named by
// an address is known already.
func TestNamedOnNewNetwork(t *testing.T) {
	h := newHouse(t)
	h.SetHosts([]Host{{Name: "static", Addrs: []netip.Addr{netip.MustParseAddr("192.168.3.9")}}})
	h.setNeighbour(neighbour{5, netip.MustParseAddr("192.168.3.9")}, mac(t, tv), true)
	h.SetLeases(nil)
	if got := h.Named("static"); len(got) > 0 {
		t.Fatalf("%v have the name already", got)
	}
	h.SetNetworks([]string{"br-lan", "eth2"}, nil)
	if got := fmt.Sprint(h.Named("static")); got != "["+tv+"]" || len(h.Renamed()) == 0 {
		t.Errorf("%s have the name, told: %v", got, len(h.Renamed()) > 0)
	}
}

// TestNameAt: addresses that no MAC tells from others have names of their own.
func TestNameAt(t *testing.T) {
	h := newHouse(t)
	h.SetHosts([]Host{{Name: "peer", Addrs: []netip.Addr{netip.MustParseAddr("10.8.0.2")}}, {Name: "Printer", MACs: []MAC{mac(t, camera)}}})
	h.SetLeases([]lease.Lease{
		h.given(extender, at(33), "printer", "00:33"), h.given(extender, at(31), "camera", "00:31"), h.given(extender, at(32), "radio", "00:32"),
		h.given(tv, at(21), "tv", ""), {Addr: at(24), Name: "modem"},
	})
	for _, tt := range []struct{ mac, addr, name, source string }{
		{extender, "192.168.1.31", "camera", Lease}, {extender, "192.168.1.32", "radio", Lease},
		{tv, "192.168.1.21", "tv", Lease}, {tv, "192.168.1.99", "tv", Lease}, {camera, "192.168.1.5", "Printer", Static},
		{"", "10.8.0.2", "peer", Static}, {"", "192.168.1.24", "modem", Lease}, {"", "192.168.1.25", "", ""},
	} {
		m := MAC{}
		if tt.mac != "" {
			m = mac(t, tt.mac)
		}
		if name, source := h.NameAt(m, netip.MustParseAddr(tt.addr)); name != tt.name || source != tt.source {
			t.Errorf("%s at %s is %q, %q; want %q, %q", tt.mac, tt.addr, name, source, tt.name, tt.source)
		}
	}
	if name, _ := h.NameAt(mac(t, extender), at(33)); name == "printer" {
		t.Error("a device has the name that the owner gave to another")
	}
}

// TestExtendersAreBounded: whoever makes up MACs and uses others' addresses.
func TestExtendersAreBounded(t *testing.T) {
	h := newHouse(t)
	h.SetLeases([]lease.Lease{h.given(tv, at(21), "", ""), h.given(tablet, at(22), "", "")})
	for i := range 2 * maxExtenders {
		m := MAC{2, 1, 0, 0, byte(i >> 8), byte(i)}
		h.setNeighbour(neighbour{3, at(21)}, m, true)
		h.setNeighbour(neighbour{3, at(22)}, m, true)
	}
	if n := len(h.owners.extenders); n != maxExtenders {
		t.Errorf("%d extenders are kept", n)
	}
	if n := h.owners.suspects.Len(); n > maxExtenders {
		t.Errorf("%d suspects are kept", n)
	}
}
