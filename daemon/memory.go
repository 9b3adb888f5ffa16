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
	debug.SetMemoryLimit(memoryLimit(alive(), rest(), available()))
	runtime.SetFinalizer(new(collected), func(*collected) { followAlive() })
}

// memoryLimit is the limit where so many bytes of objects are alive, so many are the
// runtime's own and so many of RAM are available: there is room for a share of what
// is alive until the next collection, and at least for an eighth.
func memoryLimit(alive, rest, available uint64) int64 {
	room := max(alive/8, min(alive/5+3<<20, available/8))
	return int64(min(max(leastMemory, alive+rest+room), math.MaxInt64))
}

// alive is how many bytes the latest collection left.
func alive() uint64 { return measured("/gc/heap/live:bytes") }

// rest is what counts against the limit and is no heap.
func rest() uint64 {
	return measured("/memory/classes/total:bytes") - min(measured("/memory/classes/total:bytes"),
		measured("/memory/classes/heap/released:bytes")+measured("/memory/classes/heap/free:bytes")+
			measured("/memory/classes/heap/objects:bytes")+measured("/memory/classes/heap/unused:bytes"))
}

func measured(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		panic("the runtime does not measure " + name)
	}
	return s[0].Value.Uint64()
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
