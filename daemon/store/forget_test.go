package store

import (
	"net/netip"
	"testing"
	"time"
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
