package limits

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSlowness(t *testing.T) {
	for took, want := range map[time.Duration]float64{0: 1, quiet / 2: 1, quiet: 1, 3 * quiet: 3, time.Hour: most} {
		if got := slowness(took); got != want {
			t.Errorf("the work takes %v: limits are %v times as long, want %v", took, got, want)
		}
	}
}

// TestMeter: limits follow the machine, which is not measured for each of them.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times int
		var took time.Duration
		m := meter{work: func() time.Duration { times++; return took }}
		for _, step := range []struct {
			wait, took, want time.Duration
			measured         int
		}{
			{0, 2 * quiet, 2 * time.Second, 1},
			{0, 5 * quiet, 2 * time.Second, 1},
			{validity, 5 * quiet, 2 * time.Second, 1},
			{time.Millisecond, 5 * quiet, 5 * time.Second, 2},
			{validity + time.Millisecond, quiet / 3, time.Second, 3},
		} {
			time.Sleep(step.wait)
			took = step.took
			if got := m.limit(time.Second); got != step.want || times != step.measured {
				t.Errorf("%v later a second is %v, measured %d times, want %v and %d", step.wait, got, times, step.want, step.measured)
			}
		}
	})
}

// TestWork: the work takes time at all, or no limit would ever be longer.
func TestWork(t *testing.T) {
	if took := work(); took <= 0 {
		t.Errorf("it took %v", took)
	}
	if got := For(time.Second); got < time.Second {
		t.Errorf("a second is %v", got)
	}
}
