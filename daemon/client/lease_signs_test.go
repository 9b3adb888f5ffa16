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
		if told := h.told(20 * time.Second); told != "" {
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

// TestRotations: a phone that makes up a MAC each day is known for years.
func TestRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.begin()
		for i := range 1200 {
			m := fmt.Sprintf("02:00:00:00:%02x:%02x", i/256, i%256)
			h.SetLeases([]lease.Lease{leased(t, m, "192.168.1.7", "Petrs-Phone", int64(1000+i))})
			if told := h.told(minute2); (told != "") != (i == 0) {
				t.Fatalf("MAC %d: told %q", i, told)
			}
			time.Sleep(24 * time.Hour)
		}
	})
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
