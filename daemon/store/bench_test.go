package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
)

// batchSize is the size of a batch in the benchmarks.
const batchSize = 300

// fill adds the flows in batches.
func fill(b testing.TB, s *Store, flows []flow.Flow) {
	for len(flows) > 0 {
		n := min(batchSize, len(flows))
		add(b, s, flows[:n]...)
		flows = flows[n:]
	}
}

// endless gives one day after the other, each as the first.
type endless struct {
	flows []flow.Flow
	at    int
	batch [batchSize]flow.Flow
}

func (e *endless) next(n int) []flow.Flow {
	for i := range n {
		f := &e.batch[i]
		*f = e.flows[e.at%len(e.flows)]
		shift := int64(e.at/len(e.flows)) * 86_400_000
		f.Start, f.End = f.Start+shift, f.End+shift
		e.at++
	}
	return e.batch[:n]
}

// cpuTime is what the calling thread has used: unlike the time that has passed,
// it does not depend on what else runs on the machine.
func cpuTime() time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(thread, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAdd stores a household's day; the unit is a flow.
func BenchmarkAdd(b *testing.B) {
	flows := household(100_000)
	b.ReportAllocs()
	s := open(b, Options{Classify: testClassify, MaxFlows: int64(len(flows))})
	days := endless{flows: flows}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ResetTimer()
	cpu := cpuTime()
	for i := 0; i < b.N; i += batchSize {
		add(b, s, days.next(min(batchSize, b.N-i))...)
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/flow")
}

// countRows reads all pages of a query and keeps none.
func countRows(b *testing.B, s *Store, q Query) (n int) {
	for {
		p, err := s.Flows(b.Context(), q)
		if err != nil {
			b.Error(err)
			return n
		}
		n += len(p.Rows)
		if q.Cursor = p.Next; p.Next == "" {
			return n
		}
	}
}

// BenchmarkDay has the figures of a database of 100,000 flows of one day.
func BenchmarkDay(b *testing.B) {
	flows := household(100_000)
	s := open(b, Options{Classify: testClassify})
	fill(b, s, flows)
	b.Run("size", func(b *testing.B) {
		for b.Loop() {
			st, err := s.Stats(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(st.Bytes)/float64(len(flows)), "bytes/flow")
		}
	})
	last := flows[len(flows)-1].End
	queries := map[string]Query{
		"time":               {},
		"newest":             {Descending: true},
		"sent":               {Sort: BySent, Descending: true},
		"aggregate":          {Aggregate: true, Sort: ByTotal, Descending: true},
		"hour":               {Filter: Filter{Start: last - 2*3600_000, End: last - 3600_000}},
		"one client by name": {Filter: Filter{Clients: []client.ID{{MAC: flows[0].Client}}, Hostnames: []string{"example7.com"}}},
	}
	for name, q := range queries {
		q.All = true
		b.Run("first page/"+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Flows(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("walk/"+name, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(float64(countRows(b, s, q)), "rows")
			}
		})
	}
	for _, by := range [][]string{{"client"}, {"hostname"}, {"client", "hostname"}, {"hour"}, {"hostname", "hour"}} {
		b.Run("summary/"+strings.Join(by, "+"), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.Summary(b.Context(), SummaryQuery{By: by}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			n := 0
			err := scanAll(b, s, Filter{}.normal(), s.batch.Load(), false, func(r *scanned) error {
				n += len(r.Flows)
				return nil
			})
			if err != nil || n != len(flows) {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("totals", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Totals(b.Context(), 0, nobody); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		copied := filepath.Join(b.TempDir(), "pakon.db")
		if _, err := s.w.conn.ExecContext(b.Context(), "VACUUM INTO '"+copied+"'"); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			open(b, Options{Path: copied}).Close()
		}
	})
}

// BenchmarkAddWhileQuerying adds batches while a day is walked over and over,
// and without, and tells what a flow takes.
func BenchmarkAddWhileQuerying(b *testing.B) {
	flows := household(100_000)
	for _, querying := range []bool{false, true} {
		b.Run(fmt.Sprint("querying=", querying), func(b *testing.B) {
			s := open(b, Options{})
			fill(b, s, flows)
			var stop atomic.Bool
			done := make(chan struct{})
			walks := 0
			go func() {
				defer close(done)
				for ; querying && !stop.Load(); walks++ {
					countRows(b, s, Query{})
				}
			}()
			days := endless{flows: flows, at: len(flows)}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			cpu := cpuTime()
			for b.Loop() {
				add(b, s, days.next(batchSize)...)
			}
			cpu = cpuTime() - cpu
			b.StopTimer()
			stop.Store(true)
			<-done
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batchSize), "ns/flow")
			b.ReportMetric(float64(cpu)/float64(b.N*batchSize), "cpu-ns/flow")
			b.ReportMetric(float64(walks), "walks")
		})
	}
}

// measuredPath, in the environment, makes the test binary a process that uses
// the database there as the daemon does, and prints its memory.
const measuredPath = "PAKON_TEST_STORE_MEASURED"

// useOnce asks all kinds of queries and adds some batches.
func useOnce(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Path: path, MaxFlows: 100_000, Log: slog.Default()})
	if err != nil {
		return err
	}
	defer s.Close()
	days := endless{flows: household(10 * batchSize)}
	for range 10 {
		if err := s.Add(ctx, days.next(batchSize)); err != nil {
			return err
		}
	}
	days = endless{}
	for _, q := range []Query{{}, {Sort: BySent}, {Aggregate: true, Sort: ByTotal}} {
		for {
			p, err := s.Flows(ctx, q)
			if err != nil {
				return err
			}
			if q.Cursor = p.Next; p.Next == "" {
				break
			}
		}
	}
	if _, _, err := s.Summary(ctx, SummaryQuery{By: []string{"hostname", "hour"}}); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for _, field := range []string{"VmRSS:", "VmHWM:"} {
		_, after, _ := bytes.Cut(status, []byte(field))
		fmt.Println(string(bytes.Fields(after)[0]))
	}
	return nil
}

// BenchmarkMemory tells the memory, in MB, of a process that has a database of
// 100,000 flows and asks it for all; now and at its highest.
func BenchmarkMemory(b *testing.B) {
	path := filepath.Join(b.TempDir(), "pakon.db")
	s := open(b, Options{Path: path})
	fill(b, s, household(100_000))
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), measuredPath+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		var rss, peak float64
		if _, err := fmt.Sscan(string(out), &rss, &peak); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(rss/1024, "MB-rss")
		b.ReportMetric(peak/1024, "MB-peak")
	}
}
