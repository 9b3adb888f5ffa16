package store

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store/original"
)

// Of the original's tables: traffic as live and as archive.
const (
	originalLive    = "CREATE TABLE traffic (flow_id integer, start real, duration integer, src_mac, src_ip, src_port, dest_ip, dest_port, proto, app_proto, bytes_send integer, bytes_received integer, app_hostname)"
	originalArchive = "CREATE TABLE traffic (start real, duration integer, details integer, src_mac, src_ip, src_port, dest_ip, dest_port, proto, app_proto, bytes_send integer, bytes_received integer, app_hostname)"
)

// writeOriginal writes flows into a new database of the original; those of the
// archive on a level by their age.
func writeOriginal(t testing.TB, path, schema string, flows []flow.Flow) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), schema+"; PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
	extra := "flow_id"
	if schema == originalArchive {
		extra = "details"
	}
	insert, err := tx.PrepareContext(t.Context(), "INSERT INTO traffic ("+extra+", start, duration, src_mac, src_ip, dest_ip, dest_port, proto, app_proto, bytes_send, bytes_received, app_hostname) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		var more any
		if extra == "details" {
			level := 0
			for _, r := range testRules {
				if theNow.UnixMilli()-f.Start > r.UpTo.Milliseconds() {
					level++
				}
			}
			more = level
		}
		mac := f.Client.String()
		proto := map[uint8]string{flow.TCP: "TCP", flow.UDP: "UDP"}[f.Proto]
		if _, err := insert.ExecContext(t.Context(), more, float64(f.Start)/1000, (f.End-f.Start)/1000, mac, f.ClientAddr.String(), f.Remote.String(), f.Port,
			proto, f.App, int64(f.Sent), int64(f.Recvd), f.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// asOriginal leaves of flows what the original would have kept.
func asOriginal(flows []flow.Flow) []flow.Flow {
	for i := range flows {
		f := &flows[i]
		if _, err := netip.ParseAddr(f.Name); err == nil {
			f.Name = "" // an address is no name to it
		}
		f.Track, f.Direction, f.Interface = flow.Track{}, flow.Out, ""
		f.Start = f.Start / 1000 * 1000
		f.End = f.Start + (f.End-f.Start)/1000*1000
	}
	return flows
}

// totalsOf are the bytes by client and by hostname.
func totalsOf(t testing.TB, s *Store) map[string][3]uint64 {
	t.Helper()
	all := make(map[string][3]uint64)
	for _, by := range []string{"client", "hostname", "day"} {
		rows, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{by}, Filter: Filter{All: true}, Limit: MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			all[fmt.Sprint(by, r.Client, r.ClientAddr, r.Hostname, r.Day)] = [3]uint64{r.Sent, r.Recvd, uint64(r.Flows)}
		}
	}
	return all
}

func TestImport(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	old, recent := asOriginal(randomFlows(r, 3000, 27)), asOriginal(randomFlows(r, 1500, 2))
	reference := open(t, Options{Classify: testClassify})
	add(t, reference, old...)
	add(t, reference, recent...)
	want := totalsOf(t, reference)

	for _, form := range []string{"live", "backup"} {
		t.Run(form, func(t *testing.T) {
			dir := t.TempDir()
			srv := filepath.Join(dir, "srv")
			if err := os.Mkdir(srv, 0o700); err != nil {
				t.Fatal(err)
			}
			live, archive := filepath.Join(dir, "pakon.db"), filepath.Join(srv, "pakon-archive.db")
			writeOriginal(t, archive, originalArchive, old)
			writeOriginal(t, live, originalLive, recent)
			b, err := os.ReadFile(live)
			if err != nil {
				t.Fatal(err)
			}
			var packed bytes.Buffer
			w, err := xz.NewWriter(&packed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = w.Write(b); errors.Join(err, w.Close()) != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(srv, "pakon.db.xz"), packed.Bytes())
			if form == "backup" {
				if err := os.Remove(live); err != nil {
					t.Fatal(err)
				}
			}
			var names bytes.Buffer
			z := gzip.NewWriter(&names)
			fmt.Fprint(z, `{"02:00:00:00:00:01:203.0.113.9": "Example.net"}`)
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(srv, "dns_cache.json.gz"), names.Bytes())

			s := openArchived(t, Options{Path: live, Classify: testClassify}, ArchiveConfig{Path: archive, Rules: withoutThresholds(testRules)})
			var learned []original.Name
			c := ImportConfig{
				Live: live + ".original", Archive: archive + ".original", Backup: filepath.Join(srv, "pakon.db.xz"), DNS: filepath.Join(srv, "dns_cache.json.gz"),
				Temp: dir, Answers: func(n []original.Name, _ int64) { learned = n },
			}
			run, err := s.Import(t.Context(), c)
			if err != nil || run.Live != int64(len(recent)) || run.Archive != int64(len(old)) || run.Skipped != 0 {
				t.Fatalf("%+v, %v", run, err)
			}
			if len(learned) != 1 || learned[0].Name != "example.net" || learned[0].Client != (client.MAC{2, 0, 0, 0, 0, 1}) {
				t.Errorf("names %+v", learned)
			}
			check := func(when string) {
				t.Helper()
				got := totalsOf(t, s)
				for k, n := range want {
					if got[k] != n {
						t.Errorf("%s: %s: %v, want %v", when, k, got[k], n)
					}
				}
				if len(got) != len(want) {
					t.Errorf("%s: %d sums, want %d", when, len(got), len(want))
				}
				censusOf(t, s)
			}
			check("after the import")
			for _, name := range []string{archive, filepath.Join(srv, "pakon.db.xz"), filepath.Join(srv, "dns_cache.json.gz")} {
				if _, err := os.Stat(name + ".imported"); err != nil {
					t.Error(err)
				}
			}
			if run, err := s.Import(t.Context(), c); err != nil || run != (ImportRun{}) {
				t.Errorf("again: %+v, %v", run, err)
			}
			if _, err := archiveAt(s, t.Context(), theNow); err != nil {
				t.Fatal(err)
			}
			check("after a run")
		})
	}
}

// A database that is damaged is taken over as far as it can be read, once, and
// left.
func TestImportDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive.db.original")
	writeOriginal(t, archive, originalArchive, asOriginal(randomFlows(r, 4000, 27)))
	fi, err := os.Stat(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(archive, fi.Size()*2/3); err != nil {
		t.Fatal(err)
	}
	zeros := filepath.Join(dir, "live.db.original")
	write(t, zeros, make([]byte, 8192))
	s := openArchived(t, Options{}, ArchiveConfig{})
	c := ImportConfig{Live: zeros, Archive: archive, Temp: dir}
	run, err := s.Import(t.Context(), c)
	if !errors.Is(err, original.ErrDamaged) || run.Archive < 1000 || run.Archive >= 4000 {
		t.Errorf("%+v, %v", run, err)
	}
	before := totalsOf(t, s)
	run, err = s.Import(t.Context(), c)
	if err != nil || run != (ImportRun{}) {
		t.Errorf("again: %+v, %v", run, err)
	}
	if after := totalsOf(t, s); len(after) != len(before) {
		t.Errorf("%d sums, want %d", len(after), len(before))
	}
	for _, p := range []string{archive, zeros} {
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
	}
}

// What is excluded is not taken over.
func TestImportExcludes(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 10))
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive.db.original")
	writeOriginal(t, archive, originalArchive, asOriginal(randomFlows(r, 500, 10)))
	s := openArchived(t, Options{}, ArchiveConfig{})
	mac := client.MAC{2, 0, 0, 0, 0, 1}
	run, err := s.Import(t.Context(), ImportConfig{Archive: archive, Temp: dir, Exclude: func(f *flow.Flow) bool { return f.Client == mac }})
	if err != nil || run.Skipped == 0 || run.Archive == 0 {
		t.Fatalf("%+v, %v", run, err)
	}
	if rows := walk(t, s, Query{Filter: Filter{Clients: []client.ID{{MAC: mac}}, All: true, Start: 1, End: theNow.Add(time.Hour).UnixMilli()}}); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}
