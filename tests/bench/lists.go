package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store"
	"pakon/lists"
	"pakon/suricata"
	"pakon/tests/figures"
	"pakon/tests/household"
	"pakon/tests/rig"
)

const (
	listedNames   = "lists/testdata/names.txt" // names that are seen in homes
	ownersDomains = 200_000                    // of a long list from the internet
	listsFolder   = "usr/share/pakon-light"    // below files, and below the root of a router
	ownersFile    = "domains_ignore/long.txt"
)

// installedLists are the files of which lists and vendors are made.
var installedLists = []string{"files/" + listsFolder + "/lists", "files/" + listsFolder + "/vendors"}

// listsStep measures what the lists of names cost: their room, to be loaded, to
// be asked, and in the way of an event.
func listsStep(ctx context.Context, b *bench) error {
	var installed int64
	for _, path := range installedLists {
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		installed += fi.Size()
	}
	long := longList(ownersDomains)
	owner := filepath.Join(b.workDir, "lists")
	if err := os.CopyFS(owner, os.DirFS("files/"+listsFolder)); err != nil {
		return err
	}
	if err := writeOwners(owner, long); err != nil {
		return err
	}
	defer os.RemoveAll(owner)
	own, err := load(os.DirFS("files/" + listsFolder))
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	readHeap(&before)
	all, err := load(os.DirFS(owner))
	if err != nil {
		return err
	}
	readHeap(&after)
	took, err := medianOf(5, func() error {
		_, err := load(os.DirFS(owner))
		return err
	})
	if err != nil {
		return err
	}
	alone, _, err := peaks(ctx, b, nil)
	if err != nil {
		return err
	}
	loaded, reloaded, err := peaks(ctx, b, long)
	if err != nil {
		return err
	}
	names, err := mixedNames()
	if err != nil {
		return err
	}
	b.Add("lists_installed_kb", float64(installed)/1e3, "kB", figures.Below(1000))
	b.Add("lists_ns_per_name", nsPerName(own, names), "ns", figures.Below(1000))
	b.Add("lists_ns_per_name_200k", nsPerName(all, names), "ns", figures.Below(1000))
	b.Add("lists_heap_mb_200k", mega(int64(after.HeapAlloc)-int64(before.HeapAlloc)), "MB", figures.Below(6))
	b.Add("lists_load_ms_200k", millis(took), "ms", figures.None)
	b.Add("lists_load_peak_mb", loaded-alone, "MB", figures.None)
	b.Add("lists_reload_peak_mb", reloaded-alone, "MB", figures.None)
	return b.listsIngest(ctx, all)
}

// load loads lists, in which nothing may be wrong.
func load(fsys fs.FS) (*lists.Lists, error) {
	l, problems := lists.Load(fsys)
	if len(problems) > 0 {
		return nil, problems[0]
	}
	return l, nil
}

// readHeap reads what is in use of the heap.
func readHeap(m *runtime.MemStats) {
	runtime.GC()
	runtime.GC() // what a pool holds is let go by the second
	runtime.ReadMemStats(m)
}

// longList makes n domains, of 21 bytes in the mean as lists of advertisers have
// them: half of them below others, most of them of a few top-level domains. Beyond
// that they have nothing in common that would make them small.
func longList(n int) []byte {
	r := rand.New(rand.NewPCG(1, 1))
	label := func(length int) string {
		s := make([]byte, length)
		for i := range s {
			s[i] = byte('a' + r.IntN(26))
		}
		return string(s)
	}
	top := strings.Fields("com com com com com net net org info xyz top online site club ru de co.uk io")
	var b bytes.Buffer
	var above []string
	seen := make(map[string]bool, n)
	for len(seen) < n {
		var d string
		if len(above) > 0 && r.IntN(2) == 0 {
			d = label(2+r.IntN(13)) + "." + above[r.IntN(len(above))]
		} else {
			d = label(7+r.IntN(12)) + "." + top[r.IntN(len(top))]
			above = append(above, d)
		}
		if !seen[d] {
			seen[d] = true
			fmt.Fprintln(&b, d)
		}
	}
	return b.Bytes()
}

// writeOwners writes a list of names to be hidden where an owner puts it.
func writeOwners(dir string, list []byte) error {
	path := filepath.Join(dir, ownersFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, list, 0o644)
}

// peaks is the most memory, in MB, that a daemon used which starts with an owner's
// list, and then reads it again; nil is no list.
func peaks(ctx context.Context, b *bench, list []byte) (start, reload float64, err error) {
	r, err := newRoot()
	if err != nil {
		return 0, 0, err
	}
	if list != nil {
		if err := writeOwners(r.path(listsFolder), list); err != nil {
			return 0, 0, errors.Join(err, r.remove())
		}
	}
	d, err := startIn(ctx, b.pakon, rig.Here, r)
	if err != nil {
		return 0, 0, err
	}
	defer d.stop()
	if start, err = d.memory("VmHWM"); err != nil {
		return 0, 0, err
	}
	if _, err := d.client.Call(ctx, "pakon", "reload", nil); err != nil {
		return 0, 0, d.explain(fmt.Errorf("reload: %w", err))
	}
	if reload, err = d.memory("VmHWM"); err != nil {
		return 0, 0, err
	}
	return start, reload, d.stop()
}

// mixedNames are the household's names, each once, and those that are seen in homes.
func mixedNames() ([]string, error) {
	cfg := household.Default()
	cfg.Events = 200_000
	seen := make(map[string]bool)
	err := household.Generate(cfg, nil, func(r *household.Row) {
		if n, _ := r.Called(); n != "" {
			seen[n] = true
		}
	})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(listedNames)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		text, _, _ := strings.Cut(sc.Text(), "#")
		if fields := strings.Fields(text); len(fields) > 0 {
			seen[fields[0]] = true
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	// The order must not say where a name is found.
	slices.Sort(names)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names, nil
}

// nsPerName is the CPU time to find out what a name is.
func nsPerName(l *lists.Lists, names []string) float64 {
	const passes = 40
	var took []time.Duration
	for range 5 {
		before := ownCPU()
		for range passes {
			for _, n := range names {
				l.Classify(n)
			}
		}
		took = append(took, ownCPU()-before)
	}
	return float64(median(took).Nanoseconds()) / float64(passes*len(names))
}

// listsIngest measures what the lists add to an event on its way from a line to
// a stored flow, here in this process: the same events with and without, in
// turns.
func (b *bench) listsIngest(ctx context.Context, l *lists.Lists) error {
	const pairs = 9
	cfg := household.Default()
	cfg.Events = min(b.events, 250_000)
	cfg.End = time.Now()
	var lines bytes.Buffer
	rows := int64(0)
	if err := household.Generate(cfg, &lines, func(*household.Row) { rows++ }); err != nil {
		return err
	}
	asked := 0
	classify := func(name string) (string, bool) {
		asked++
		c := l.Classify(name)
		return c.Group, c.Hidden != ""
	}
	var with, without, added []time.Duration
	for i := range pairs {
		var took [2]time.Duration
		for j := range took {
			k := (i + j) % 2 // who is first takes turns, too
			var f func(string) (string, bool)
			if k == 0 {
				f = classify
			}
			var stored int64
			var err error
			if took[k], stored, err = b.stores(ctx, lines.Bytes(), f); err != nil {
				return err
			}
			b.check(stored == rows, "lists: %d flows are stored, want %d", stored, rows)
		}
		with, without, added = append(with, took[0]), append(without, took[1]), append(added, took[0]-took[1])
	}
	b.check(asked > 0, "lists: no name was looked up")
	perEvent := func(d []time.Duration) float64 { return micros(median(d)) / float64(cfg.Events) }
	b.Add("lists_ingest_us", perEvent(added), "us/event", figures.None)
	b.Add("lists_ingest_with_us", perEvent(with), "us/event", figures.None)
	b.Add("lists_ingest_without_us", perEvent(without), "us/event", figures.None)
	return nil
}

// stores is the CPU time to decode lines, make flows of them and store these in
// an empty database, as the daemon does; and how many flows it has then.
func (b *bench) stores(ctx context.Context, lines []byte, classify func(string) (string, bool)) (took time.Duration, flows int64, err error) {
	const batch = 1024 // as the daemon's
	r, err := newRoot()
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(ctx, store.Options{Path: r.path("var/lib/pakon.db"), Classify: classify, Log: log})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	waiting := make([]flow.Flow, 0, 2*batch)
	var failed error
	add := func() {
		failed = errors.Join(failed, s.Add(ctx, waiting))
		waiting = waiting[:0]
	}
	t := flow.New(client.New(log), func(f []flow.Flow) {
		if waiting = append(waiting, f...); len(waiting) >= batch {
			add()
		}
	})
	t.SetPolicy(flow.Policy{Interfaces: []string{"br-lan", "br-guest_turris"}})
	var dec suricata.Decoder
	var ev suricata.Event
	runtime.GC()
	before := ownCPU()
	for line := range bytes.Lines(lines) {
		if err := dec.Decode(line, &ev); err != nil {
			return 0, 0, err
		}
		t.Event(&ev)
	}
	t.Flush()
	add()
	took = ownCPU() - before
	if failed != nil {
		return 0, 0, failed
	}
	st, err := s.Stats(ctx)
	return took, st.Flows, err
}
