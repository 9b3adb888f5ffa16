package store

import (
	"net/netip"
	"testing"
	"time"

	"pakon/daemon/client"
)

// TestForgetAddress forgets a far end without a name by an address that is spelled
// otherwise, in live, archive and backup.
func TestForgetAddress(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	now := time.Now()
	record := func(start int64) {
		t.Helper()
		for i, a := range []string{"2001:db8::1", "2001:db8::2"} {
			f := namedFlow(start+int64(i), "")
			f.Remote = netip.MustParseAddr(a)
			add(t, s, f)
		}
	}
	record(now.UnixMilli())
	runArchive(t, s, now.Add(48*time.Hour))
	record(now.Add(48 * time.Hour).UnixMilli())
	backUp(t, s)
	n, err := s.Forget(t.Context(), Forgetting{Hostnames: []string{"2001:DB8:0:0::1"}})
	if n != 2 || err != nil {
		t.Errorf("forgot %d rows: %v", n, err)
	}
	left := func(what string) {
		t.Helper()
		rows := walk(t, s, Query{})
		for _, r := range rows {
			if r.Remote != netip.MustParseAddr("2001:db8::2") {
				t.Errorf("%s there is %+v", what, r)
			}
		}
		if len(rows) != 2 {
			t.Errorf("%s there are %d flows, want 2", what, len(rows))
		}
	}
	left("then")
	closeStore(t, s)
	reboot(t, dir)
	s = openDisk(t, dir, Options{})
	left("after a reboot")
}

// TestForgetClientByAddress forgets one of the clients without a MAC, in live, archive
// and backup, and no device that had its address.
func TestForgetClientByAddress(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	now := time.Now()
	peer, other := netip.MustParseAddr("10.8.0.2"), netip.MustParseAddr("10.8.0.3")
	record := func(start int64) {
		t.Helper()
		for i, id := range []client.ID{{Addr: peer}, {Addr: other}, {MAC: testMAC(1)}} {
			f := namedFlow(start+int64(i), "a.example")
			f.Client, f.ClientAddr = id.MAC, id.Addr
			if !id.MAC.IsZero() {
				f.ClientAddr = peer
			}
			add(t, s, f)
		}
	}
	record(now.UnixMilli())
	runArchive(t, s, now.Add(48*time.Hour))
	record(now.Add(48 * time.Hour).UnixMilli())
	backUp(t, s)
	if rows := walk(t, s, Query{Filter: Filter{Clients: []client.ID{{Addr: peer}}}}); len(rows) != 2 {
		t.Errorf("it has %d flows, want 2: %+v", len(rows), rows)
	}
	n, err := s.Forget(t.Context(), Forgetting{Clients: []client.ID{{Addr: peer}}})
	if n != 2 || err != nil {
		t.Errorf("forgot %d rows: %v", n, err)
	}
	left := func(what string) {
		t.Helper()
		totals, err := s.Totals(t.Context(), 0, nobody)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := totals.Of[client.ID{Addr: peer}]; ok || len(totals.Of) != 2 || len(walk(t, s, Query{})) != 4 {
			t.Errorf("%s there are %v", what, totals)
		}
	}
	left("then")
	closeStore(t, s)
	reboot(t, dir)
	s = openDisk(t, dir, Options{})
	left("after a reboot")
}
