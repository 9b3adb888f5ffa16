package limits

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestSlowness(t *testing.T) {
	for took, want := range map[time.Duration]float64{0: 1, quiet / 2: 1, quiet: 1, 3 * quiet: 3, time.Hour: most} {
		if got := slowness(took); got != want {
			t.Errorf("the work takes %v: limits are %v times as long, want %v", took, got, want)
		}
	}
}

// TestBusyMachine: what else runs makes limits longer.
func TestBusyMachine(t *testing.T) {
	fastest := func() time.Duration {
		d := work()
		for range 4 {
			d = min(d, work())
		}
		return d
	}
	alone := fastest()
	var stop atomic.Bool
	defer stop.Store(true)
	for range 3 * runtime.GOMAXPROCS(0) {
		go func() {
			for !stop.Load() {
			}
		}()
	}
	if busy := fastest(); busy < alone*3/2 {
		t.Errorf("the work takes %v beside three others on each processor, and %v alone", busy, alone)
	}
	if got := For(time.Second); got < time.Second {
		t.Errorf("a second is %v", got)
	}
}
