// Package limits bounds how long tests wait for what must come, in seconds of
// a quiet machine: a slow or busy one gets as many more as it needs.
package limits

import (
	"runtime"
	"sync"
	"time"
)

// For returns a limit that is d on a quiet machine and longer on one that is
// slow or does other things at the moment. It is not for a limit that is itself
// what a test is about.
func For(d time.Duration) time.Duration { return machine.limit(d) }

var machine = meter{work: work}

// meter knows how slow the machine was when it was measured last.
type meter struct {
	work func() time.Duration // returns how long it took, which is quiet on a quiet machine

	mu   sync.Mutex
	at   time.Time
	slow float64
}

// validity is how long a measurement holds; what else runs on the machine changes.
const validity = 10 * time.Second

func (m *meter) limit(d time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at.IsZero() || time.Since(m.at) > validity {
		m.slow = slowness(m.work())
		m.at = time.Now()
	}
	return time.Duration(float64(d) * m.slow)
}

const (
	quiet = 15 * time.Millisecond // that the work takes on a quiet machine of the year 2020
	most  = 30                    // a limit is at most so many times as long
)

func slowness(took time.Duration) float64 {
	return min(max(1, float64(took)/float64(quiet)), most)
}

// work keeps all processors busy, and returns how long it took.
func work() time.Duration {
	began := time.Now()
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			n := uint64(began.UnixNano()) | 1
			for range 8_000_000 {
				// Each step waits for the one before: xorshift64.
				n ^= n << 13
				n ^= n >> 7
				n ^= n << 17
			}
			if n == 0 {
				panic("xorshift64 never gets to 0")
			}
		})
	}
	all.Wait()
	return time.Since(began)
}
