package store

import (
	"runtime"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
	generator "pakon/tests/household"
)

// generated makes n flows of a day that ends at end, as the benchmarks of the
// whole daemon have them.
func generated(b testing.TB, seed uint64, n int, p2p float64, end time.Time) []flow.Flow {
	b.Helper()
	cfg := generator.Default()
	cfg.Seed, cfg.Rows, cfg.P2P, cfg.End = seed, n, p2p, end
	sources := map[string]name.Source{"tls": name.TLS, "quic": name.QUIC, "http": name.HTTP, "dns": name.DNS}
	var flows []flow.Flow
	err := generator.Generate(cfg, nil, func(r *generator.Row) {
		f := flow.Flow{
			Start: r.Start, End: r.End, Client: client.MAC(r.MAC), ClientAddr: r.Local, Remote: r.Remote, Port: r.Port, Proto: r.Proto,
			Name: r.Name, Source: sources[r.Source], App: r.App, Interface: r.Interface, Sent: r.Sent, Recvd: r.Recvd,
		}
		if r.Inbound {
			f.Direction = flow.In
		}
		flows = append(flows, f)
	})
	if err != nil {
		b.Fatal(err)
	}
	return flows
}

// BenchmarkArchive runs the archive each night; the figures are those of the
// last, when each level gets a day.
func BenchmarkArchive(b *testing.B) {
	const days = 18
	for _, bb := range []struct {
		name   string
		perDay int
		p2p    float64
	}{{"100000", 100_000, 0}, {"200000", 200_000, 0}, {"100000 p2p", 100_000, 0.1}} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				s := openArchived(b, Options{Classify: testClassify}, ArchiveConfig{})
				first := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
				for day := range days {
					end := first.AddDate(0, 0, day+1)
					fill(b, s, generated(b, uint64(day), bb.perDay, bb.p2p, end))
					runtime.GC()
					runtime.LockOSThread()
					cpu := cpuTime()
					run, err := archiveAt(s, b.Context(), end.AddDate(0, 0, 1).Add(17*time.Minute))
					if err != nil {
						b.Fatal(err)
					}
					cpu = cpuTime() - cpu
					runtime.UnlockOSThread()
					if day < days-1 {
						continue
					}
					st, err := s.Storage(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(cpu.Seconds(), "cpu-s")
					b.ReportMetric(float64(run.Written)/1e6, "MB-written")
					b.ReportMetric(float64(st.Bytes)/float64(st.Flows), "bytes/flow")
					b.Logf("%+v", run)
					b.Logf("levels %v", st.Levels)
					var blockBytes, sumBytes, pages, free int64
					a := s.archive.Load()
					if err := a.read.QueryRowContext(b.Context(), `SELECT (SELECT sum(length(data)) FROM blocks), (SELECT sum(length(data)) FROM sums),
						(SELECT page_count FROM pragma_page_count), (SELECT freelist_count FROM pragma_freelist_count)`).Scan(&blockBytes, &sumBytes, &pages, &free); err != nil {
						b.Fatal(err)
					}
					b.Logf("blocks %d, sums %d, pages %d, free %d", blockBytes, sumBytes, pages, free)
				}
			}
		})
	}
}
