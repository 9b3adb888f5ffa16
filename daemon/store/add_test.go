package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pakon/daemon/flow"
)

// count is the number of rows that a query counts.
func count(t *testing.T, s *Store, query string) (n int) {
	t.Helper()
	if err := s.read.QueryRowContext(t.Context(), "SELECT count(*) FROM "+query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheOldestAreDeleted(t *testing.T) {
	s := open(t, Options{MaxFlows: 1000})
	flows := household(5000)
	fill(t, s, flows)
	rows := walk(t, s, Query{})
	if len(rows) != 1000 {
		t.Fatalf("got %d flows, want 1000", len(rows))
	}
	starts := make(map[int64]bool)
	for _, r := range rows {
		starts[r.Start] = true
	}
	for _, f := range flows {
		if f.Start > rows[0].Start && !starts[f.Start] {
			t.Fatalf("a flow that began at %d is gone, one of %d is there", f.Start, rows[0].Start)
		}
	}
}

// A limit that was lowered is reached step by step.
func TestALowerLimit(t *testing.T) {
	s := open(t, Options{})
	fill(t, s, household(10_000))
	s.SetMaxFlows(100)
	for range 9 {
		add(t, s)
		if n := s.flows.Load(); n < 1000 {
			t.Fatalf("%d flows are left, too many were deleted at a time", n)
		}
	}
	add(t, s)
	if n := len(walk(t, s, Query{})); n != 100 || s.flows.Load() != 100 {
		t.Errorf("got %d flows, counted %d", n, s.flows.Load())
	}
}

// TestUnusedNamesAreDeleted adds flows with ever new names, clients and
// applications: the tables of those do not grow for ever, and no flow loses what
// it refers to.
func TestUnusedNamesAreDeleted(t *testing.T) {
	const limit = 2500
	s := open(t, Options{MaxFlows: limit, Classify: testClassify})
	for b := range 200 {
		flows := make([]flow.Flow, 100)
		for i := range flows {
			n := b*100 + i
			f := testFlow(1_700_000_000_000 + int64(n))
			f.Name = fmt.Sprintf("n%d.example", n)
			f.App = fmt.Sprintf("app%d", n/10)
			f.Interface = fmt.Sprintf("br-%d", n)
			if i%10 == 0 { // old ones come back
				f.Name = fmt.Sprintf("n%d.example", i)
			}
			f.Sent = uint64(n)
			flows[i] = f
		}
		add(t, s, flows...)
	}
	rows := walk(t, s, Query{})
	if len(rows) != limit {
		t.Fatalf("got %d flows", len(rows))
	}
	for _, r := range rows {
		n := int(r.Sent)
		want := fmt.Sprintf("n%d.example", n)
		if n%10 == 0 {
			want = fmt.Sprintf("n%d.example", n%100)
		}
		if r.Name != want || r.App != fmt.Sprintf("app%d", n/10) || r.Interface != fmt.Sprintf("br-%d", n) {
			t.Fatalf("flow %d became %+v", n, r)
		}
	}
	for _, table := range []string{"names", "endpoints", "apps"} {
		if n := count(t, s, table); n > 4*limit {
			t.Errorf("%s has %d rows for %d flows", table, n, limit)
		}
	}
	if n := s.w.names.newer; len(n) > cacheSize {
		t.Errorf("%d names are cached", len(n))
	}
}

// A batch that fails leaves nothing, and the next finds its feet.
func TestAFailedBatch(t *testing.T) {
	s := open(t, Options{})
	if _, err := s.w.conn.ExecContext(t.Context(), `CREATE TRIGGER no BEFORE INSERT ON flows WHEN new.sent = 666
		BEGIN SELECT raise(ABORT, 'no'); END`); err != nil {
		t.Fatal(err)
	}
	good, bad := testFlow(1_700_000_000_000), testFlow(1_700_000_000_001)
	bad.Sent = 666
	err := s.Add(t.Context(), []flow.Flow{good, bad})
	if err == nil || !strings.Contains(err.Error(), s.path) {
		t.Fatalf("got %v", err)
	}
	for _, table := range []string{"flows", "names", "endpoints", "apps"} {
		if n := count(t, s, table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
	add(t, s, good)
	want := Row{Flow: good, Flows: 1, Duration: 1}
	if rows := walk(t, s, Query{}); len(rows) != 1 || rows[0] != want {
		t.Errorf("got %+v", rows)
	}
	if n := s.flows.Load(); n != 1 {
		t.Errorf("counted %d flows", n)
	}
}

func TestReclassify(t *testing.T) {
	group := "one.example"
	s := open(t, Options{Classify: func(n string) (string, bool) {
		if n == "n7.example" {
			return "", group == "one.example"
		}
		return group, false
	}})
	const n = 2*reclassifySlice + 7
	flows := make([]flow.Flow, n)
	for i := range flows {
		flows[i] = testFlow(1_700_000_000_000 + int64(i))
		flows[i].Name = fmt.Sprintf("n%d.example", i)
	}
	add(t, s, flows...)
	check := func(rows int, name, group string) {
		t.Helper()
		got := walk(t, s, Query{Filter: Filter{Hostnames: []string{name}}})
		if len(got) != rows {
			t.Errorf("%s: got %d rows, want %d", name, len(got), rows)
		}
		for _, r := range got {
			if r.Group != group {
				t.Fatalf("%s is in group %q, want %q", r.Name, r.Group, group)
			}
		}
	}
	check(n-1, "one.example", "one.example")
	check(0, "n7.example", "")
	group = "two.example"
	check(n-1, "one.example", "one.example")
	if err := s.Reclassify(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(0, "one.example", "")
	check(n-1, "two.example", "two.example")
	check(1, "n7.example", "")
}

// TestTheWALIsStartedOver keeps a query open while much is written, so that the
// WAL grows, and ends it.
func TestTheWALIsStartedOver(t *testing.T) {
	s := open(t, Options{})
	add(t, s, testFlow(1_600_000_000_000))
	s.querying.RLock()
	tx, err := s.read.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("SELECT * FROM flows"); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		fi, err := os.Stat(s.path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	if _, err := s.w.conn.ExecContext(t.Context(), "CREATE TABLE big AS SELECT zeroblob(?)", drainSize); err != nil {
		t.Fatal(err)
	}
	add(t, s, testFlow(1_700_000_000_000))
	if !s.draining.Load() {
		t.Error("nothing is done about the WAL")
	}
	if err := tx.Rollback(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	s.querying.RUnlock()
	s.tasks.Wait()
	if n := size(); n != 0 {
		t.Errorf("the WAL still has %d bytes", n)
	}
	add(t, s, testFlow(1_700_000_000_001))
}
