package client

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pakon/daemon/client/lease"
)

// leased is a lease of an address until a time.
func leased(t *testing.T, m, addr, name string, expires int64) lease.Lease {
	t.Helper()
	return lease.Lease{MAC: mac(t, m), Addr: netip.MustParseAddr(addr), Name: name, Expires: expires}
}

// TestJitter: odhcpd writes what is left of a lease by one clock, added to another,
// so one that stays differs by a second now and then.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.begin()
		file := func(jitter int64, more ...lease.Lease) {
			h.SetLeases(append(more, leased(t, rnd1, "192.168.1.7", "Petrs-Phone", 1000+jitter)))
		}
		file(0)
		h.told(minute2)
		last := h.device(rnd1).LastSeen
		time.Sleep(time.Hour)
		again := leased(t, rnd2, "192.168.1.8", "Petrs-Phone", 9000)
		file(0, again)
		if told := h.told(20 * time.Second); told != rnd2+` "Petrs-Phone 00:a2", was `+rnd1+`, at 0s` {
			t.Errorf("a phone with another MAC is told: %s", told)
		}
		file(1, again, leased(t, other, "192.168.1.9", "tv", 9000))
		if told := h.told(minute2); told != `00:11:22:33:44:55 "tv" at 0s` {
			t.Errorf("told: %s", told)
		}
		if d := h.device(rnd1); d.LastSeen != last {
			t.Errorf("one that has left was seen %d s later", (d.LastSeen-last)/1000)
		}
	})
}

// TestTwoLeases: the older of two leases runs out long after its device has left.
func TestTwoLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.begin()
		lan, guest := leased(t, other, "192.168.1.7", "x", 2000), leased(t, other, "192.168.2.7", "x", 1000)
		h.SetLeases([]lease.Lease{lan, guest})
		last := h.device(other).LastSeen
		time.Sleep(12 * time.Hour)
		h.SetLeases([]lease.Lease{lan})
		if d := h.device(other); d.LastSeen != last {
			t.Errorf("seen %d s later", (d.LastSeen-last)/1000)
		}
	})
}

// TestRotations: a phone that makes up a MAC each day is known for years, at once by an
// identifier, with a word by its name alone; its MACs are folded away, and forgotten.
func TestRotations(t *testing.T) {
	for _, id := range []string{"70:68:6f:6e:65", ""} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.begin()
			macOf := func(day int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", day/256, day%256) }
			const days = 500
			for i := range days {
				l := leased(t, macOf(i), "192.168.1.7", "Petrs-Phone", int64(1000+i))
				l.ClientID = id
				h.SetLeases([]lease.Lease{l})
				want := ""
				switch {
				case i == 0:
					want = macOf(0) + ` "Petrs-Phone" at 0s`
				case id == "":
					want = fmt.Sprintf(`%s "Petrs-Phone %s", was %s, at 0s`, macOf(i), tail(mac(t, macOf(i))), macOf(i-1))
				}
				if told := h.told(minute2); told != want {
					t.Fatalf("id %q, MAC %d: told %q, want %q", id, i, told, want)
				}
				h.told(24*time.Hour - minute2)
				h.Age()
			}
			folded := 0
			devices := h.Devices()
			for _, d := range devices {
				if d.Folded {
					folded++
				}
			}
			if len(devices) != 364 || folded != 364-89 {
				t.Errorf("id %q: %d MACs are remembered, %d folded", id, len(devices), folded)
			}
			// Who has the name is the one that was seen in the last 90 days and had it first.
			for _, m := range h.ByName("petrs-phone") {
				if d := h.device(m.String()); d.Folded && id == "" {
					t.Errorf("one that was folded away has the name: %+v", d)
				}
			}
		})
	}
}

// TestClockBack: a device is seen by the clock that was set back before that is told.
func TestClockBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		const ahead = 400 * 24 * time.Hour
		off := 30*365*24*time.Hour + ahead
		h.now = func() time.Time { return time.Now().Add(off) }
		h.begin()
		h.answers(other)
		time.Sleep(time.Minute)
		off -= ahead
		right := h.now().UnixMilli()
		h.answers(other)
		time.Sleep(time.Second)
		h.ClockSet(h.now().UnixMilli()+ahead.Milliseconds(), -ahead.Milliseconds())
		if d := h.device(other); d.FirstSeen < right-minute2.Milliseconds() || d.LastSeen < right-minute2.Milliseconds() || d.LastSeen > right {
			t.Errorf("first seen %d h, last %d h from when it was", (d.FirstSeen-right)/3600_000, (d.LastSeen-right)/3600_000)
		}
	})
}
