package router

import (
	"errors"
	"sync"
	"testing"
	"time"
)

func TestBurst(t *testing.T) {
	const n = 200
	r := firewalled(t)
	tap, err := r.Tap(false)
	if err != nil {
		t.Fatal(err)
	}
	var all []Connection
	for i, v6 := range []bool{false, true} {
		made, err := r.Clients()[i].Burst(t.Context(), n, 16, v6)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, made...)
	}
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	tracked, err := r.Conntrack()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, c := range all {
		names[c.Name]++
		found := 0
		for _, e := range tracked {
			if e.Is(c) {
				found++
				sameAs(t, tap, c, e)
			}
		}
		if found != 1 {
			t.Errorf("%v is tracked %d times", c, found)
		}
	}
	if len(names) != n || names["s0001.burst.test"] != 2 {
		t.Errorf("%d names: %v", len(names), names)
	}
}

func TestIdle(t *testing.T) {
	const n = 500
	r := firewalled(t)
	idle, err := r.Clients()[0].Idle(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	tracked, err := r.Conntrack()
	if err != nil {
		t.Fatal(err)
	}
	if len(idle.Connections) != n || len(tracked) != n {
		t.Errorf("%d connections, %d tracked", len(idle.Connections), len(tracked))
	}
	if err := idle.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Clients()[0].Idle(t.Context(), maxIdle+1); err == nil {
		t.Error("too many idle connections")
	}
}

// TestPace: a paced transfer takes the time that it should, or longer on a
// machine that is busy.
func TestPace(t *testing.T) {
	r := firewalled(t)
	x, err := r.Clients()[0].Open(t.Context(), "www.example.org", HTTP, false)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Pace(40e6); err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]int64{{0, 2_000_000}, {2_000_000, 0}} {
		began := time.Now()
		if err := x.Move(step[0], step[1]); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("2 MB at 40 Mbit/s took %v", took)
		}
	}
	if err := x.Pace(0); err != nil {
		t.Fatal(err)
	}
	if err := x.Move(0, 10_000_000); err != nil {
		t.Fatal(err)
	}
}

// TestLossy: with loss more frames go to the bridge than without, and all bytes
// arrive.
func TestLossy(t *testing.T) {
	r := firewalled(t)
	c := r.Clients()[0]
	if err := c.Lossy(5); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var resent uint64
	var errs []error
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			x, err := c.Open(t.Context(), "www.example.org", TLS13, false)
			if err == nil {
				err = errors.Join(x.Move(0, 400_000), x.Close())
			}
			mu.Lock()
			defer mu.Unlock()
			if errs = append(errs, err); err == nil {
				resent += entry(t, r, x.Connection).Recvd.Bytes
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	// Headers and TLS are below 5 %.
	if resent < 4*400_000*107/100 {
		t.Errorf("%d bytes for 1,600,000", resent)
	}
	if err := c.Lossy(0); err != nil {
		t.Error(err)
	}
}

// TestOffloads: larger packets than a cable's cross the router if that is wanted.
func TestOffloads(t *testing.T) {
	for _, with := range []bool{false, true} {
		var options []Option
		if with {
			options = append(options, WithOffloads())
		}
		r := firewalled(t, options...)
		x, err := r.Clients()[0].Open(t.Context(), "www.example.org", HTTP, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Move(0, 5_000_000); err != nil {
			t.Fatal(err)
		}
		got := entry(t, r, x.Connection).Recvd
		if size := got.Bytes / got.Packets; (size > 1500) != with {
			t.Errorf("offloads %v: packets of %d bytes", with, size)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}
