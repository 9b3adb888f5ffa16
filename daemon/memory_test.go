package main

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"pakon/tests/limits"
)

func TestMemoryLimit(t *testing.T) {
	const MiB = 1 << 20
	for _, tt := range []struct {
		name                   string
		alive, rest, available uint64
		want                   int64
	}{
		{"a start", 0, 3 * MiB, 1024 * MiB, 20 * MiB},
		{"a household", 9 * MiB, 4 * MiB, 1024 * MiB, 20 * MiB},
		{"full tables", 40 * MiB, 6 * MiB, 1024 * MiB, 57 * MiB},
		{"full tables and little RAM", 40 * MiB, 6 * MiB, 48 * MiB, 52 * MiB},
		{"no RAM to be had", 40 * MiB, 6 * MiB, 0, 51 * MiB},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := memoryLimit(tt.alive, tt.rest, tt.available); got != tt.want {
				t.Errorf("the limit is %d, want %d", got, tt.want)
			}
		})
	}
}

func TestAvailable(t *testing.T) {
	for text, want := range map[string]uint64{
		"MemTotal:  1000 kB\nMemAvailable:     300 kB\nBuffers: 1 kB\n": 300 << 10,
		"MemAvailable: x kB\n": 0,
		"MemAvailable:\n":      0,
		"":                     0,
	} {
		if got := availableOf([]byte(text)); got != want {
			t.Errorf("%q: %d bytes are available, want %d", text, got, want)
		}
	}
	if available() == 0 {
		t.Error("this kernel does not tell how much RAM is available")
	}
}

// TestFullTablesAreCollectedSeldom: as much as full tables hold is alive, and more
// comes and goes: the collector does not run all the time for it, and memory is
// bounded all the same. Limits are of a process, so it is another one.
func TestFullTablesAreCollectedSeldom(t *testing.T) {
	const me = "PAKON_TEST_FULL_TABLES"
	if os.Getenv(me) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullTablesAreCollectedSeldom$", "-test.v")
		cmd.Env = append(os.Environ(), me+"=1", "GOMEMLIMIT=5MiB", "GOGC=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	limitMemory()
	kept := make([][]byte, tablesMemory/1024)
	for i := range kept {
		kept[i] = make([]byte, 1024)
	}
	runtime.GC()
	// The limit follows in a goroutine of the runtime's.
	for end := time.Now().Add(limits.For(10 * time.Second)); debug.SetMemoryLimit(-1) < tablesMemory; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("the limit is %d bytes", debug.SetMemoryLimit(-1))
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const garbage = 200 << 20
	for range garbage / 1024 {
		kept[0] = make([]byte, 1024)
	}
	runtime.ReadMemStats(&after)
	// A collection for each eighth of what is alive.
	if n, most := after.NumGC-before.NumGC, uint32(garbage/(tablesMemory/8)+5); n > most {
		t.Errorf("%d collections for %d bytes, at most %d are right", n, garbage, most)
	}
	// What comes while the collector runs counts as alive, which is much on a slow machine.
	if most := uint64(3 * tablesMemory); after.Sys-after.HeapReleased > most {
		t.Errorf("%d bytes are used for %d that are alive", after.Sys-after.HeapReleased, uint64(tablesMemory))
	}
	runtime.KeepAlive(kept)
}
