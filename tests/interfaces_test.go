package tests

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// TestVLANFiltering: where VLAN filtering has moved the network of a bridge to a
// device of its own, that is monitored, and the owner is told.
func TestVLANFiltering(t *testing.T) {
	t.Parallel()
	r := newRouter(t, router.Household())
	vlan, err := r.FilterVLANs(router.LAN)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Firewall(); err != nil {
		t.Fatal(err)
	}
	s := newSystem(t, r.Do, nil)
	if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.mode='filter'\n"); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s)
	c := r.Clients()[0]
	awaitCapture(t, s, c, r.Clients()[4])
	for _, v6 := range []bool{false, true} {
		tr := open(t, c, "video.example.org", v6)
		move(t, tr, 100_000, 3_000_000)
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
		e := tracked(t, r, tr.Connection)
		err := s.Until(t.Context(), reportTime, func(context.Context) (bool, error) {
			for _, f := range flowsOf(t, s, c) {
				if f.Hostname == tr.Name && f.Recvd == e.Recvd.Bytes && f.Source == "tls" {
					return true, nil
				}
			}
			return false, nil
		})
		if err != nil {
			t.Fatalf("no flow of %d bytes: %v; there are %+v", e.Recvd.Bytes, err, flowsOf(t, s, c))
		}
	}
	devices, err := s.Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := devices[c.MAC].Interface; got != vlan {
		t.Errorf("%s is on %q, want %s", c, got, vlan)
	}
	st := status(t, s)
	if len(st.Interfaces) == 0 || st.Interfaces[0].Name != vlan || st.Interfaces[0].State != "up" {
		t.Errorf("interfaces %+v", st.Interfaces)
	}
	told := 0
	for _, w := range st.Warnings {
		if strings.Contains(w, vlan) && strings.Contains(w, router.LAN+" ") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times of %s; warnings %q", told, vlan, st.Warnings)
	}
}

// TestShareOfABridgeMadeAnew: what is known of a bridge's traffic is part of what
// it carried, right after a download, and after the bridge was made anew.
func TestShareOfABridgeMadeAnew(t *testing.T) {
	t.Parallel()
	r, s := monitoredRouter(t, "filter")
	const bytes = 30_000_000
	tr := open(t, r.Clients()[0], "video.example.org", false)
	move(t, tr, 1000, bytes)
	if err := r.RecreateBridge(router.LAN); err != nil {
		t.Fatal(err)
	}
	look := func() (carried, known uint64, st rig.Status) {
		st = status(t, s)
		for _, h := range st.Interfaces[0].Coverage {
			if !h.Compared {
				t.Fatalf("what it carried is not known: %+v", st.Interfaces[0])
			}
			if h.Recorded+h.Other > h.Carried || h.Named > h.Recorded {
				t.Fatalf("more is known than there was: %+v", st.Interfaces[0])
			}
			carried, known = carried+h.Carried, known+h.Recorded+h.Other
		}
		return carried, known, st
	}
	err := s.Until(t.Context(), reportTime, func(context.Context) (bool, error) {
		carried, known, st := look()
		for _, w := range st.Warnings {
			if strings.Contains(w, "only ") {
				t.Fatal(w)
			}
		}
		return carried >= bytes && known >= bytes, nil
	})
	if err != nil {
		carried, known, _ := look()
		t.Fatalf("carried %d, known %d: %v", carried, known, err)
	}
	if carried, _, _ := look(); carried > bytes*12/10 {
		t.Errorf("carried %d of %d", carried, bytes)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

// TestCleanAfterAKill: what a daemon that was killed has left in the kernel is
// removed on request, and never what one that runs needs.
func TestCleanAfterAKill(t *testing.T) {
	t.Parallel()
	r, s := monitoredRouter(t, "filter")
	clean := func() (out []byte, err error) {
		return out, r.Do(func() error {
			out, err = exec.Command(s.Pakon, "daemon", "--clean", "--root", string(s.Root)).CombinedOutput()
			return err
		})
	}
	tables := func() string {
		var out []byte
		if err := r.Do(func() (err error) {
			out, err = exec.Command("nft", "list", "tables").CombinedOutput()
			return err
		}); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out, err := clean(); err == nil || !strings.Contains(string(out), "another Pakon is running") {
		t.Errorf("beside a daemon that runs: %v, %s", err, out)
	}
	if !strings.Contains(tables(), "table inet pakon") {
		t.Fatalf("tables:\n%s", tables())
	}
	if err := s.Daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	if out, err := clean(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	if strings.Contains(tables(), "pakon") {
		t.Errorf("left:\n%s", tables())
	}
	startDaemon(t, s) // it finds the Suricata of the one before
}
