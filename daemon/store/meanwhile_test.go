package store

import (
	"database/sql"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"pakon/daemon/flow"
	"pakon/daemon/store/backup"
	"pakon/tests/limits"
)

// stall is longer than anything may wait for a backup or a query that takes its
// time.
var stall = limits.For(4 * time.Second)

// waitsLong makes SQLite wait for longer than that, where it waits.
func waitsLong(t *testing.T, conn *sql.Conn) {
	t.Helper()
	_, err := conn.ExecContext(t.Context(), fmt.Sprintf("PRAGMA busy_timeout = %d", 2*stall.Milliseconds()))
	failOn(t, err)
}

// watched are files that tell before each write.
type watched struct {
	backup.OS
	before func()
}

type watchedFile struct {
	backup.File
	before func()
}

func (w watched) Create(path string) (backup.File, error) {
	f, err := w.OS.Create(path)
	return watchedFile{f, w.before}, err
}

func (w watchedFile) Write(b []byte) (int, error) {
	w.before()
	return w.File.Write(b)
}

// TestStorageDuringBackup asks for the state of the backup while a part of it is
// being written: that is left alone.
func TestStorageDuringBackup(t *testing.T) {
	var s *Store
	asked := 0
	s = openArchived(t, Options{Files: watched{before: func() {
		asked++
		if st, err := s.Storage(t.Context()); err != nil || st.Segments != 0 {
			t.Errorf("%d parts before the first is whole: %v", st.Segments, err)
		}
	}}}, ArchiveConfig{})
	add(t, s, testFlow(theNow.UnixMilli()))
	backUp(t, s)
	if st, err := s.Storage(t.Context()); err != nil || st.Segments != 1 || asked == 0 {
		t.Errorf("%d parts after %d questions: %v", st.Segments, asked, err)
	}
}

// TestAddDuringBackup adds and asks while a slow backup keeps the WAL from being
// started over. It is once the backup has ended.
func TestAddDuringBackup(t *testing.T) {
	var s *Store
	var once sync.Once
	meanwhile := func() {
		// This makes it too large.
		_, err := s.w.conn.ExecContext(t.Context(), "CREATE TABLE big AS SELECT zeroblob(?)", drainSize)
		failOn(t, err)
		waitsLong(t, s.w.conn)
		began := time.Now()
		add(t, s, testFlow(theNow.UnixMilli()+1))
		for i := range int64(3) {
			add(t, s, testFlow(theNow.UnixMilli()+2+i))
			_, err := s.Stats(t.Context())
			failOn(t, err)
		}
		s.tasks.Wait()
		if took := time.Since(began); took > stall {
			t.Errorf("it took %v", took)
		}
		if n := len(read(t, s.path+"-wal")); n < drainSize {
			t.Errorf("the WAL has %d bytes while it is read", n)
		}
	}
	s = openArchived(t, Options{Files: watched{before: func() { once.Do(meanwhile) }}}, ArchiveConfig{})
	add(t, s, testFlow(theNow.UnixMilli()))
	backUp(t, s)
	add(t, s, testFlow(theNow.UnixMilli()+9))
	s.tasks.Wait()
	if n := len(read(t, s.path+"-wal")); n > drainSize {
		t.Errorf("the WAL has %d bytes", n)
	}
	if rows := walk(t, s, Query{}); len(rows) != 6 {
		t.Errorf("%d flows, want 6", len(rows))
	}
}

// TestArchiveWhileReading archives while a query reads the archive as it was: the
// run does not wait for it, and what it writes is told once, not with each of its
// steps.
func TestArchiveWhileReading(t *testing.T) {
	base := time.Date(2026, 5, 10, 0, 0, 0, 0, time.UTC)
	var written [2]int64
	for i := range written {
		s := openArchived(t, Options{}, ArchiveConfig{Rules: withoutThresholds(testRules)})
		for hour := range 100 {
			add(t, s, namedFlow(base.Add(time.Duration(hour)*time.Hour).UnixMilli(), fmt.Sprintf("n%d.example", hour)))
		}
		runArchive(t, s, base.Add(48*time.Hour))
		v, err := s.view(t.Context())
		failOn(t, err)
		t.Cleanup(v.close)
		if i == 0 {
			v.close()
		}
		waitsLong(t, s.archive.Load().write)
		began := time.Now()
		run := runArchive(t, s, base.Add(200*time.Hour))
		if took := time.Since(began); run.Moved == 0 || took > stall {
			t.Errorf("%+v in %v", run, took)
		}
		v.close()
		written[i] = run.Written + runArchive(t, s, base.Add(200*time.Hour)).Written
		if fi := read(t, s.archive.Load().path+"-wal"); len(fi) > 0 {
			t.Errorf("the WAL keeps %d bytes once nobody reads", len(fi))
		}
	}
	// A page that several steps write goes to the file once then.
	if written[0] < written[1] || written[1] < written[0]/3 {
		t.Errorf("%d bytes written while a query reads, otherwise %d", written[1], written[0])
	}
}

// TestSettleWhileReading settles the archive while a query reads the newest there is:
// the WAL is moved, and stays as it is until later.
func TestSettleWhileReading(t *testing.T) {
	s := openArchived(t, Options{}, ArchiveConfig{})
	runArchive(t, s, theNow)
	a := s.archive.Load()
	failOn(t, a.transaction(t.Context(), func(c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), "UPDATE state SET ran = ran + 1")
		return err
	}))
	v, err := s.view(t.Context())
	failOn(t, err)
	defer v.close()
	waitsLong(t, a.write)
	began := time.Now()
	for _, want := range []int64{walFrame + 4096, 0} {
		if written, err := a.settle(t.Context()); written != want || err != nil {
			t.Errorf("%d bytes written, want %d: %v", written, want, err)
		}
	}
	if took := time.Since(began); took > stall {
		t.Errorf("it took %v", took)
	}
}

// TestPagingWhileArchiving archives between the pages of a query: each flow is on
// one of them.
func TestPagingWhileArchiving(t *testing.T) {
	for _, descending := range []bool{false, true} {
		s := openArchived(t, Options{}, ArchiveConfig{Rules: withoutThresholds(testRules), Keep: 1000 * 24 * time.Hour})
		base := time.Date(2026, 5, 10, 0, 0, 0, 0, time.UTC)
		const n = 700
		flows := make([]flow.Flow, n)
		for i := range flows {
			flows[i] = namedFlow(base.Add(time.Duration(i*791%n)*10*time.Minute).UnixMilli(), fmt.Sprintf("n%d.example", i))
		}
		add(t, s, flows...)
		seen := make(map[string]int64)
		q := Query{Limit: 37, Descending: descending}
		for hours := 20; ; hours += 7 {
			p, err := s.Flows(t.Context(), q)
			failOn(t, err)
			for _, r := range p.Rows {
				seen[r.Name] += r.Flows
			}
			if q.Cursor = p.Next; p.Next == "" {
				break
			}
			runArchive(t, s, base.Add(time.Duration(hours)*time.Hour))
		}
		if got := len(seen); got != n {
			t.Errorf("descending %v: %d flows, want %d", descending, got, n)
		}
		maps.DeleteFunc(seen, func(_ string, n int64) bool { return n == 1 })
		if len(seen) > 0 {
			t.Errorf("descending %v: more than once: %v", descending, seen)
		}
	}
}

// TestAllAtTheSameTime adds, asks, archives, backs up and forgets all at once;
// with -race, it looks for races. What is there is not missing meanwhile.
func TestAllAtTheSameTime(t *testing.T) {
	s := openArchived(t, Options{Classify: testClassify}, ArchiveConfig{Rules: withoutThresholds(testRules)})
	const batches, size = 24, 50
	done := make(chan struct{})
	var others sync.WaitGroup
	also := func(f func() error) {
		others.Go(func() {
			for {
				if err := f(); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	forgotten := Forgetting{Hostnames: []string{"forgotten.example"}}
	sent := func() (sent, gone uint64, err error) {
		rows, _, err := s.Summary(t.Context(), SummaryQuery{By: []string{"hostname"}, Limit: MaxLimit})
		for _, r := range rows {
			if r.Hostname == "forgotten.example" {
				gone += r.Sent
			} else {
				sent += r.Sent
			}
		}
		return sent, gone, err
	}
	also(func() error { _, err := archiveAt(s, t.Context(), theNow); return err })
	also(func() error { _, err := s.Backup(t.Context()); return err })
	also(func() error { _, err := s.Forget(t.Context(), forgotten); return err })
	also(func() error { _, err := s.Storage(t.Context()); return err })
	also(func() error { _, err := s.Flows(t.Context(), Query{Limit: 10}); return err })
	also(func() error { _, err := s.Flows(t.Context(), Query{Limit: 10, Sort: BySent}); return err })
	before := uint64(0)
	also(func() error {
		now, _, err := sent()
		if err == nil && now < before {
			err = fmt.Errorf("%d bytes were sent, %d before", now, before)
		}
		before = now
		return err
	})
	want := uint64(0)
	for b := range batches {
		flows := make([]flow.Flow, size)
		for i := range flows {
			n := b*size + i
			f := namedFlow(theNow.UnixMilli()-int64(n*7919%(5*24*60))*60_000, fmt.Sprintf("n%d.example", n%20))
			switch {
			case i%10 == 0:
				f.Name = "forgotten.example"
			case i%10 == 1:
				f.State, f.Track.Key = flow.Over, uint64(n)
			}
			if f.Name != "forgotten.example" {
				want += f.Sent
			}
			flows[i] = f
			if i%10 == 1 && b >= 4 {
				flows = append(flows, flow.Flow{State: flow.Done, Track: flow.Track{Key: uint64(n - 4*size)}})
			}
		}
		add(t, s, flows...)
	}
	close(done)
	others.Wait()
	_, err := s.Forget(t.Context(), forgotten)
	failOn(t, err)
	if got, gone, err := sent(); err != nil || got != want || gone != 0 {
		t.Errorf("sent %d bytes, want %d; %d are not forgotten: %v", got, want, gone, err)
	}
}

// TestLateFlowInReadBlock merges a late flow into a block that a query has read just
// before: the next query sees it.
func TestLateFlowInReadBlock(t *testing.T) {
	s := openArchived(t, Options{}, ArchiveConfig{Rules: withoutThresholds(testRules)})
	base := theNow.Add(-48 * time.Hour).Truncate(time.Hour).UnixMilli()
	add(t, s, namedFlow(base, "a.example"), namedFlow(base+20_000, "a.example"))
	runArchive(t, s, theNow)
	sameNames(t, "archived", s, "a.example", "a.example")
	add(t, s, namedFlow(base+10_000, "a.example"))
	runArchive(t, s, theNow)
	sameNames(t, "with the late one", s, "a.example", "a.example", "a.example")
}
