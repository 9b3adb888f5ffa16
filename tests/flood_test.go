package tests

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pakon/tests/router"
)

// TestFlood: what a client floods the router with takes neither the names nor the
// bytes of another's connections, nor their time.
func TestFlood(t *testing.T) {
	t.Parallel()
	r, s := monitoredRouter(t, "filter")
	bad, good := r.Clients()[0], r.Clients()[2]
	const own = 40
	all := 0
	for _, tt := range []struct {
		flags byte
		port  uint16
		n     int
	}{
		{router.SYN, 4444, 20_000}, // more than can be followed
		{router.FIN, 4445, 60_000},
		{router.RST, 4446, 60_000},
		{router.RST, 53, 60_000},
	} {
		made := make(chan error, 1)
		go func() {
			_, err := good.Burst(t.Context(), own, 2, false)
			made <- err
		}()
		err := bad.FloodTCP(tt.flags, tt.port, tt.n)
		if err := errors.Join(err, <-made); err != nil {
			t.Fatal(err)
		}
		if _, err := good.Burst(t.Context(), own, 2, false); err != nil {
			t.Fatal(err)
		}
		all += 2 * own
	}
	named := 0
	err := s.Until(t.Context(), reportTime, func(context.Context) (bool, error) {
		named = 0
		for _, f := range flowsOf(t, s, good) {
			if f.Source == "tls" && f.Recvd > 0 {
				named++
			}
		}
		if named > all {
			return false, fmt.Errorf("%d flows of %d connections", named, all)
		}
		return named == all, nil
	})
	if err != nil {
		t.Errorf("%d of %d connections of another client have a name: %v; %+v", named, all, err, status(t, s).Conntrack)
	}
	if st := status(t, s); st.Conntrack.Unfollowed != 0 || st.Suricata.Drops != 0 {
		t.Errorf("%d connections were not followed, %d packets were dropped", st.Conntrack.Unfollowed, st.Suricata.Drops)
	}
}
