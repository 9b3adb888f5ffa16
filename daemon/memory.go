package main

import (
	"bytes"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"

	"pakon/daemon/flow"
)

// What the daemon holds is bounded, whatever comes from the network. The sum is
// tablesMemory; full tables are a flood, and a household's are a tenth of them.
const (
	// leastMemory is the limit of Go's memory as long as little is alive.
	leastMemory = 20 << 20
	// tablesMemory is what full tables hold:
	//
	//	flow.MaxMemory   connections, names and answers that are waiting for each other
	//	12 MiB           clients: 4096 neighbours and 4096 devices with what they are called
	//	4 MiB            events that are queued, of at most 1 MiB a line, and netlink's buffers
	//	8 MiB            lists, the index of names and blocks of the store that are read
	//
	// SQLite's pages are not Go's: their bound is that of the live database.
	tablesMemory = flow.MaxMemory + 24<<20
)

// limitMemory trades processor time for memory, of which a router has less: the
// collector runs early as long as little is alive. Where more is alive, as with full
// tables, a fixed limit would have it run without end: then the limit follows. What
// the environment says is not asked.
func limitMemory() {
	debug.SetGCPercent(60)
	followAlive()
}

// collected is what nothing refers to, so that its finalizer runs after a collection.
// Small objects without a pointer share memory, and are not collected alone.
type collected struct{ _ *collected }

// followAlive sets the limit anew after each collection.
func followAlive() {
	alive, rest := measure()
	debug.SetMemoryLimit(memoryLimit(alive, rest, available()))
	runtime.SetFinalizer(new(collected), func(*collected) { followAlive() })
}

// memoryLimit is the limit where so many bytes of objects are alive, so many are the
// runtime's own and so many of RAM are available: there is room for a share of what
// is alive until the next collection, and at least for an eighth.
func memoryLimit(alive, rest, available uint64) int64 {
	room := max(alive/8, min(alive/5+3<<20, available/8))
	return int64(min(max(leastMemory, alive+rest+room), math.MaxInt64))
}

// measure returns how many bytes the latest collection left, and how many count
// against the limit and are no heap.
func measure() (alive, rest uint64) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	rest = samples[1].Value.Uint64()
	for _, heap := range samples[2:] {
		rest -= min(rest, heap.Value.Uint64())
	}
	return samples[0].Value.Uint64(), rest
}

// available is how many bytes of RAM are to be had, as the kernel estimates; 0 where
// it does not tell.
func available() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return availableOf(text)
}

func availableOf(meminfo []byte) uint64 {
	for line := range bytes.Lines(meminfo) {
		f := bytes.Fields(line)
		if len(f) >= 2 && string(f[0]) == "MemAvailable:" {
			kB, err := strconv.ParseUint(string(f[1]), 10, 40)
			if err != nil {
				return 0
			}
			return kB << 10
		}
	}
	return 0
}
