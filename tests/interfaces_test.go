package tests

import (
	"context"
	"strings"
	"testing"

	"pakon/tests/router"
)

// TestVLANFiltering: where VLAN filtering has moved the network of a bridge to a
// device of its own, that is monitored, and the owner is told.
func TestVLANFiltering(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			r := newRouter(t, router.Household())
			vlan, err := r.FilterVLANs(router.LAN)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Firewall(); err != nil {
				t.Fatal(err)
			}
			s := newSystem(t, r.Do, nil)
			if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.mode='"+mode+"'\n"); err != nil {
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
		})
	}
}
