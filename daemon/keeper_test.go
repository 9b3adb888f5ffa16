package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pakon/daemon/api"
	"pakon/daemon/clock"
	"pakon/daemon/disk"
	"pakon/daemon/store"
)

// keptStore is a store that notes what it is asked for, and when.
type keptStore struct {
	clock  string
	mu     sync.Mutex
	calls  []string
	st     store.Storage
	fail   map[string]error // by call
	block  map[string]chan struct{}
	now    func() time.Time
	shifts [][3]int64
	ages   []clock.Age // of the runs of the archive
}

func (s *keptStore) call(ctx context.Context, name string) error {
	s.mu.Lock()
	s.calls = append(s.calls, name)
	err, block := s.fail[name], s.block[name]
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (s *keptStore) Attach(ctx context.Context) error { return s.call(ctx, "attach") }

func (s *keptStore) Archive(ctx context.Context, now time.Time, age clock.Age) (store.ArchiveRun, error) {
	err := s.call(ctx, "archive "+now.Format("2006-01-02 15:04"))
	if err == nil {
		err = s.call(ctx, "archive")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = slices.DeleteFunc(s.calls, func(c string) bool { return c == "archive" })
	if err != nil {
		return store.ArchiveRun{}, err
	}
	s.st.Ran, s.st.Age = now.UnixMilli(), age
	s.ages = append(s.ages, age)
	return store.ArchiveRun{Moved: 5}, nil
}

func (s *keptStore) Backup(ctx context.Context) (store.BackupRun, error) {
	if err := s.call(ctx, "backup"); err != nil {
		return store.BackupRun{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.BackedUp = s.now().UnixMilli()
	return store.BackupRun{Flows: 7}, nil
}

func (s *keptStore) Detach() error { return nil }

func (s *keptStore) Clock(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock, nil
}

func (s *keptStore) SetClock(_ context.Context, said string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = said
	return nil
}

func (s *keptStore) Shift(ctx context.Context, from, to, by int64) error {
	s.shifts = append(s.shifts, [3]int64{from, to, by})
	return s.call(ctx, "shift")
}

func (s *keptStore) Import(ctx context.Context, _ store.ImportConfig) (store.ImportRun, error) {
	return store.ImportRun{}, s.call(ctx, "import")
}

func (s *keptStore) Storage(context.Context) (store.Storage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st, nil
}

// take returns the calls since the last time, without those that cost nothing.
func (s *keptStore) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := strings.Join(s.calls, ", ")
	s.calls = nil
	return calls
}

func (s *keptStore) set(call string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[call] = err
}

// keeperRig is a keeper in a bubble of time (synctest), with a wall clock that
// can be set.
type keeperRig struct {
	*keeper
	store *keptStore
	log   *bytes.Buffer
	ahead atomic.Int64 // ns, of the wall clock before the bubble's
	lies  atomic.Pointer[lies]
	path  string
	jumps [][2]int64 // by how much, and by how much of it in the run
	end   func()     // ends it and waits
}

var prague = time.FixedZone("CET", 3600)

// bubble is when the time of a bubble begins, in Unix ms.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// newKeeperRig makes a keeper whose wall clock shows start.
func newKeeperRig(t *testing.T, start time.Time) *keeperRig {
	t.Helper()
	log := &bytes.Buffer{}
	st := &keptStore{fail: make(map[string]error), block: make(map[string]chan struct{})}
	r := &keeperRig{
		store: st, log: log, path: filepath.Join(t.TempDir(), "pakon-archive.db"),
	}
	r.ahead.Store(int64(time.Until(start)))
	r.lies.Store(&lies{mount: "/srv", device: "/dev/sda1"})
	r.keeper = newKeeper(st, slog.New(slog.NewTextHandler(log, nil)))
	r.keeper.now = func() time.Time { return time.Now().Round(0).Add(time.Duration(r.ahead.Load())) }
	// The machine is started when the bubble is made.
	r.keeper.offset = func() int64 { return r.ahead.Load()/1e6 + bubble }
	r.keeper.location = func() *time.Location { return prague }
	r.keeper.look = func(string) lies { return *r.lies.Load() }
	r.keeper.jumped = func(_ context.Context, by, ours int64) { r.jumps = append(r.jumps, [2]int64{by, ours}) }
	r.keeper.settings = func() keeping {
		return keeping{archive: store.ArchiveConfig{Path: r.path, Keep: 28 * 24 * time.Hour}, interval: 2 * time.Hour}
	}
	st.now = r.keeper.now
	return r
}

func (r *keeperRig) begin(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.run(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.end = func() { cancel(); <-ended }
	synctest.Wait()
}

// after lets time pass and returns what was called in it.
func (r *keeperRig) after(d time.Duration) string {
	time.Sleep(d)
	synctest.Wait()
	return r.store.take()
}

func (r *keeperRig) expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q\n%s", what, got, want, r.log)
	}
}

func at(s string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04", s, prague)
	if err != nil {
		panic(err)
	}
	return t
}

func TestNightly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		r.store.st.Ran = at("2026-03-10 03:17").UnixMilli()
		r.begin(t)
		defer r.end()
		r.expect(t, "start", r.store.take(), "attach, import")
		r.expect(t, "two hours", r.after(2*time.Hour), "backup")
		r.expect(t, "until 3:00", r.after(7*time.Hour), "backup, backup, backup")
		r.expect(t, "until 3:16", r.after(16*time.Minute), "")
		r.expect(t, "at 3:17", r.after(time.Minute), "archive 2026-03-11 02:17, backup")
		r.expect(t, "until 5:16", r.after(119*time.Minute), "")
		r.expect(t, "at 5:17", r.after(time.Minute), "backup")
		if got := r.after(22 * time.Hour); strings.Count(got, "archive") != 1 || !strings.Contains(got, "archive 2026-03-12 02:17") {
			t.Errorf("the next night: %s", got)
		}
	})
}

// A night that the router was off in is made up for, not at once.
func TestMissedNight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		r.store.st.Ran = at("2026-03-09 03:17").UnixMilli()
		r.store.st.BackedUp = at("2026-03-10 17:00").UnixMilli()
		r.begin(t)
		defer r.end()
		r.expect(t, "start", r.store.take(), "attach, import")
		r.expect(t, "9 minutes", r.after(9*time.Minute), "")
		r.expect(t, "10 minutes", r.after(time.Minute), "archive 2026-03-10 17:10, backup")
		r.expect(t, "an hour", r.after(time.Hour), "")
	})
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		r.store.st.Ran = at("2026-03-10 03:17").UnixMilli()
		r.store.st.BackedUp = at("2026-03-10 17:00").UnixMilli()
		r.begin(t)
		defer r.end()
		r.expect(t, "nothing missed", r.after(59*time.Minute), "attach, import")
		r.expect(t, "an earlier run's backup", r.after(time.Minute), "backup")
	})
}

func TestFailingDrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 02:00"))
		r.store.st.Ran = at("2026-03-09 03:17").UnixMilli()
		r.begin(t)
		defer r.end()
		r.after(time.Second)
		full := fmt.Errorf("write archive: %w", &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})
		r.store.set("archive", full)
		r.store.set("backup", full)
		if got := r.after(2*time.Hour - time.Second); got != "archive 2026-03-10 02:17, archive 2026-03-10 02:22, archive 2026-03-10 02:32, archive 2026-03-10 02:52, backup" {
			t.Errorf("while it is full: %s", got)
		}
		if n := strings.Count(r.log.String(), taskFails[archiving]); n != 1 || !strings.Contains(r.log.String(), "/srv (/dev/sda1) is full") {
			t.Errorf("it is told %d times:\n%s", n, r.log)
		}
		var s api.Status
		r.status(t.Context(), &s)
		for _, e := range []string{s.Archive.Error, s.Backup.Error} {
			if !strings.Contains(e, "is full") || !strings.Contains(e, "pakon.archive.path") {
				t.Errorf("status says %q", e)
			}
		}
		// For another reason: that is news.
		r.store.set("archive", fmt.Errorf("write archive: %w", syscall.EROFS))
		r.after(40 * time.Minute)
		if !strings.Contains(r.log.String(), "can only be read") {
			t.Errorf("log\n%s", r.log)
		}
		// Another drive is mounted: what failed is tried again at once.
		r.store.set("archive", nil)
		r.store.set("backup", nil)
		r.lies.Store(&lies{mount: "/srv", device: "/dev/sdb1"})
		r.after(time.Minute)
		r.mountsChanged()
		synctest.Wait()
		r.expect(t, "while mounts change", r.after(900*time.Millisecond), "")
		r.mountsChanged()
		r.expect(t, "while mounts change again", r.after(900*time.Millisecond), "")
		r.expect(t, "after they have", r.after(100*time.Millisecond), "attach, import, archive 2026-03-10 03:41, backup")
		for _, works := range []string{taskWorks[archiving], taskWorks[backing]} {
			if strings.Count(r.log.String(), works) != 1 {
				t.Errorf("it is not told that %s:\n%s", works, r.log)
			}
		}
		s = api.Status{}
		r.status(t.Context(), &s)
		if s.Archive.Error != "" || s.Backup.Error != "" || s.Location.Device != "/dev/sdb1" {
			t.Errorf("status says %+v, %+v, %+v", s.Archive, s.Backup, s.Location)
		}
	})
}

// A drive that is not there at the start is waited for.
func TestDriveComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		r.store.st.Ran = at("2026-03-10 03:17").UnixMilli()
		srv := filepath.Join(filepath.Dir(r.path), "srv")
		r.path = filepath.Join(srv, "pakon", "pakon-archive.db")
		r.begin(t)
		defer r.end()
		r.expect(t, "start", r.store.take(), "")
		r.expect(t, "and again", r.after(11*time.Minute), "")
		var s api.Status
		r.status(t.Context(), &s)
		if want := "there is no folder " + srv + ":"; !strings.HasPrefix(s.Archive.Error, want) {
			t.Errorf("status says %q, want %q", s.Archive.Error, want)
		}
		if n := strings.Count(r.log.String(), taskFails[attaching]); n != 1 {
			t.Errorf("it is told %d times:\n%s", n, r.log)
		}
		if _, err := r.Backup(t.Context()); !errors.Is(err, fs.ErrNotExist) || r.store.take() != "" {
			t.Errorf("asked for a backup: %v", err)
		}
		if err := os.Mkdir(srv, 0o700); err != nil {
			t.Fatal(err)
		}
		r.mountsChanged()
		r.expect(t, "mounted", r.after(time.Second), "attach, import, backup")
		r.expect(t, "an hour", r.after(time.Hour), "")
	})
}

// A drive that is to be mounted is waited for, too, if the folder for it is there.
func TestDriveIsExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		r.store.st.Ran = at("2026-03-10 03:17").UnixMilli()
		settings := r.keeper.settings
		r.keeper.settings = func() keeping {
			k := settings()
			k.mounts = []string{filepath.Dir(r.path)}
			return k
		}
		r.lies.Store(&lies{"/", "/dev/ubi0_1", disk.Internal, false})
		r.begin(t)
		defer r.end()
		r.expect(t, "a day", r.after(24*time.Hour), "")
		if want := "the drive that is to be mounted on " + filepath.Dir(r.path) + " is not"; !strings.Contains(r.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, r.log)
		}
		r.lies.Store(&lies{mount: filepath.Dir(r.path), device: "/dev/sda1"})
		r.mountsChanged()
		r.expect(t, "mounted", r.after(time.Second), "attach, import, archive 2026-03-11 17:00, backup")
	})
}

func TestExpected(t *testing.T) {
	for _, tt := range []struct{ mounts, want string }{
		{"", ""}, {"/srv", "/srv"}, {"/srv/pakon/pakon.db", "/srv/pakon/pakon.db"}, {"/srv /srv/pakon /mnt", "/srv/pakon"}, {"/sr /srv/pak /", ""},
	} {
		if got := expected(strings.Fields(tt.mounts), "/srv/pakon/pakon.db"); got != tt.want {
			t.Errorf("of %s: %q, want %q", tt.mounts, got, tt.want)
		}
	}
}

// The router starts in 1970 and is told the time by and by.
func TestClockFrom1970(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, time.Unix(30, 0))
		r.store.st.Ran = at("2026-03-08 03:17").UnixMilli()
		r.begin(t)
		defer r.end()
		r.expect(t, "start", r.store.take(), "attach, import")
		if n := strings.Count(r.log.String(), "nothing is merged or deleted for its age until it is"); n != 1 {
			t.Errorf("it is told %d times:\n%s", n, r.log)
		}
		r.expect(t, "3 hours", r.after(3*time.Hour), "backup")
		if _, err := r.Archive(t.Context()); err == nil || !strings.Contains(err.Error(), "1970-01-01") {
			t.Errorf("asked to run: %v", err)
		}
		var s api.Status
		r.status(t.Context(), &s)
		if s.Clock.Plausible || !strings.Contains(s.Clock.Why, "1970-01-01") {
			t.Errorf("status says %+v", s.Clock)
		}
		by := at("2026-03-10 18:00").Sub(r.keeper.now()) + 123*time.Millisecond
		last := r.keeper.now().UnixMilli()
		r.ahead.Add(int64(by))
		r.clockSet()
		synctest.Wait()
		// It is 10 minutes after the start already, and the last night was missed.
		r.expect(t, "set", r.store.take(), "shift, archive 2026-03-10 17:00, backup")
		if want := [][2]int64{{by.Milliseconds(), by.Milliseconds()}}; !slices.Equal(r.jumps, want) {
			t.Errorf("told of %v, want %v", r.jumps, want)
		}
		if want := [][3]int64{{0, last + 1, by.Milliseconds()}}; !slices.Equal(r.store.shifts, want) {
			t.Errorf("shifted by %v, want %v", r.store.shifts, want)
		}
		s = api.Status{}
		r.status(t.Context(), &s)
		if n := strings.Count(r.log.String(), "the clock can be believed"); !s.Clock.Plausible || n != 1 {
			t.Errorf("status says %+v, log\n%s", s.Clock, r.log)
		}
		// From then on it is set by little and by some: nothing recorded moves.
		r.ahead.Add(int64(time.Second))
		r.clockSet()
		synctest.Wait()
		r.ahead.Add(-int64(time.Hour))
		r.clockSet()
		synctest.Wait()
		if r.store.take() != "" || len(r.jumps) != 2 || r.jumps[1] != [2]int64{-3_600_000, -3_600_000} {
			t.Errorf("told of %v, log\n%s", r.jumps, r.log)
		}
	})
}

// What a wrong clock says makes nothing old, whoever set it; what was recorded
// while it was ahead is moved to when it was.
func TestClockFromTheFuture(t *testing.T) {
	const weeks = 27 * 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		ran := at("2026-03-10 03:17").UnixMilli()
		r.store.st.Ran, r.store.st.Age = ran, clock.Age{Until: ran, Boot: "before"}
		r.begin(t)
		r.after(10 * time.Minute)
		r.ahead.Add(int64(weeks))
		jumped := r.keeper.now().UnixMilli()
		r.clockSet()
		synctest.Wait()
		r.expect(t, "an hour in April", r.after(time.Hour), "")
		var s api.Status
		r.status(t.Context(), &s)
		if s.Clock.Plausible || !strings.Contains(s.Clock.Why, "only until 2026-03-10") {
			t.Errorf("status says %+v", s.Clock)
		}
		r.expect(t, "the night", r.after(8*time.Hour+7*time.Minute), "backup, backup, backup, backup, archive 2026-04-07 02:17, backup")
		if want := ran + (9*time.Hour + 17*time.Minute).Milliseconds(); len(r.store.ages) != 1 || r.store.ages[0].Until != want {
			t.Errorf("ages %+v, want %d", r.store.ages, want)
		}
		last := r.keeper.now().UnixMilli()
		r.ahead.Add(-int64(weeks))
		r.clockSet()
		synctest.Wait()
		if want := [][3]int64{{jumped, last + 1, -weeks.Milliseconds()}}; !slices.Equal(r.store.shifts, want) {
			t.Errorf("shifted by %v, want %v", r.store.shifts, want)
		}
		s = api.Status{}
		r.status(t.Context(), &s)
		if !s.Clock.Plausible {
			t.Errorf("back: status says %+v", s.Clock)
		}
		// The next night it has been steady for a day: then the time before this boot
		// counts, too.
		r.after(24 * time.Hour)
		if n := len(r.store.ages); n != 2 || r.store.ages[1].Until != at("2026-03-12 03:17").UnixMilli() {
			t.Errorf("ages %+v", r.store.ages)
		}
		if !strings.Contains(r.store.clock, `"Ahead":{"From":0,"By":0}`) {
			t.Errorf("the excursion is not over: %s", r.store.clock)
		}
		r.end()
		if n := strings.Count(r.log.String(), "the clock can be believed"); n != 1 {
			t.Errorf("told %d times\n%s", n, r.log)
		}
	})
}

// A request that arrives together with a false time is no way around.
func TestArchiveAskedForUnderAFalseClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		ran := at("2026-03-10 17:00").UnixMilli()
		r.store.st.Ran, r.store.st.Age = ran, clock.Age{Until: ran, Boot: "before"}
		r.begin(t)
		defer r.end()
		r.after(30 * 24 * time.Hour)
		before := r.keeper.now().UnixMilli()
		r.ahead.Add(int64(50 * 24 * time.Hour))
		if _, err := r.Archive(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.store.ages[len(r.store.ages)-1].Until; got > before {
			t.Errorf("the age is %s", time.UnixMilli(got))
		}
	})
}

// A daemon that is started again while the clock is ahead knows what it was
// before.
func TestClockBackInTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const week = 7 * 24 * time.Hour
		first := newKeeperRig(t, at("2026-03-10 18:00"))
		first.boot = "one"
		first.begin(t)
		first.after(time.Hour)
		first.ahead.Add(int64(week))
		jumped := first.keeper.now().UnixMilli()
		first.clockSet()
		first.after(time.Hour)
		first.end()
		next := newKeeperRig(t, at("2026-03-10 20:00"))
		next.boot, next.store.clock = "one", first.store.clock
		next.begin(t)
		next.end()
		last := at("2026-03-17 20:00").UnixMilli()
		if want := [][3]int64{{jumped, last + 1, -week.Milliseconds()}}; !slices.Equal(next.store.shifts, want) {
			t.Errorf("shifted by %v, want %v\n%s", next.store.shifts, want, next.log)
		}
	})
}

func TestNextNight(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Skip("no zones on this machine")
	}
	skips, err := time.LoadLocation("America/Sao_Paulo") // 0:00 was 1:00
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		zone      *time.Location
		now, want string // UTC
	}{
		{zone, "2026-03-10 02:16", "2026-03-10 02:17"},
		{zone, "2026-03-10 02:17", "2026-03-11 02:17"},
		{zone, "2026-03-28 12:00", "2026-03-29 01:17"}, // 2:00 is 3:00
		{zone, "2026-03-29 01:17", "2026-03-30 01:17"},
		{zone, "2026-10-24 12:00", "2026-10-25 02:17"}, // 3:00 is 2:00
		{zone, "2026-10-25 01:30", "2026-10-25 02:17"},
		{zone, "2026-12-31 12:00", "2027-01-01 02:17"},
		{skips, "2018-11-03 12:00", "2018-11-04 05:17"},
	} {
		now, err := time.Parse("2006-01-02 15:04", tt.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := nextNight(now, tt.zone).UTC().Format("2006-01-02 15:04"); got != tt.want {
			t.Errorf("after %s in %s: %s, want %s", tt.now, tt.zone, got, tt.want)
		}
	}
	// Where the clock skips the time itself, the run is not left out, and where it
	// shows it twice, it comes again within a day.
	for _, name := range []string{"Europe/Lisbon", "Pacific/Apia", "Asia/Tehran", "America/New_York", "Antarctica/Troll"} {
		loc, err := time.LoadLocation(name)
		if err != nil {
			continue
		}
		for now := at("2024-01-01 00:00"); now.Before(at("2027-01-01 00:00")); {
			next := nextNight(now, loc)
			if d := next.Sub(now); d <= 0 || d > 27*time.Hour {
				t.Fatalf("%s: %v after %v", name, d, now)
			}
			now = next
		}
	}
}

// The end of the daemon ends a run, and the last backup is bounded.
func TestStopWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 03:00"))
		r.store.st.Ran = at("2026-03-09 03:17").UnixMilli()
		r.store.block["archive"] = make(chan struct{})
		r.begin(t)
		r.after(17 * time.Minute)
		asked := make(chan error)
		go func() {
			_, err := r.Backup(context.Background())
			asked <- err
		}()
		synctest.Wait()
		r.end()
		if err := <-asked; !errors.Is(err, errKeeperEnds) {
			t.Errorf("who waits gets %v", err)
		}
		if strings.Contains(r.log.String(), "level=ERROR") {
			t.Errorf("log\n%s", r.log)
		}
		if _, err := r.Archive(context.Background()); !errors.Is(err, errKeeperEnds) {
			t.Errorf("who comes later gets %v", err)
		}
		r.store.take()
		r.finish()
		r.expect(t, "at the end", r.store.take(), "backup")
		r.store.block["backup"] = make(chan struct{})
		began := time.Now()
		r.finish()
		if took := time.Since(began); took != lastBackup || !strings.Contains(r.log.String(), "more than 45s") {
			t.Errorf("it took %v\n%s", took, r.log)
		}
	})
}

// Requests are run one after another, and to their end if the caller leaves.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		r.store.st.Ran = at("2026-03-10 03:17").UnixMilli()
		r.begin(t)
		defer r.end()
		r.after(time.Second)
		run, err := r.Archive(t.Context())
		if err != nil || run.Moved != 5 {
			t.Errorf("archive: %+v, %v", run, err)
		}
		backup, err := r.Backup(t.Context())
		if err != nil || backup.Flows != 7 {
			t.Errorf("backup: %+v, %v", backup, err)
		}
		r.expect(t, "asked for", r.store.take(), "archive 2026-03-10 17:00, backup, backup")

		block := make(chan struct{})
		r.store.mu.Lock()
		r.store.block["archive"] = block
		r.store.mu.Unlock()
		ctx, leave := context.WithCancel(t.Context())
		first, others := make(chan error), make(chan error, maxAsking)
		go func() {
			_, err := r.Archive(ctx)
			first <- err
		}()
		synctest.Wait()
		for range maxAsking {
			go func() {
				_, err := r.Backup(t.Context())
				others <- err
			}()
		}
		synctest.Wait()
		if err := <-others; !errors.Is(err, errKeeperBusy) {
			t.Errorf("one too many gets %v", err)
		}
		leave()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who leaves gets %v", err)
		}
		close(block)
		for range maxAsking - 1 {
			if err := <-others; err != nil {
				t.Errorf("who waits gets %v", err)
			}
		}
		r.expect(t, "in the end", r.store.take(), "archive 2026-03-10 17:00, backup, backup, backup, backup")
		r.store.set("backup", errors.New("no"))
		if _, err := r.Backup(t.Context()); err == nil || err.Error() != "no" {
			t.Errorf("a failure is told as %v", err)
		}
	})
}

// Flash and RAM are told of, and flash is spared.
func TestLocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 04:00"))
		r.store.st.Ran = at("2026-03-10 03:17").UnixMilli()
		r.lies.Store(&lies{"/", "/dev/ubi0_1", disk.Internal, false})
		r.begin(t)
		defer r.end()
		r.expect(t, "start", r.store.take(), "attach, import")
		r.expect(t, "11 hours", r.after(11*time.Hour), "")
		r.mountsChanged()
		r.expect(t, "12 hours", r.after(time.Hour), "attach, import, backup")
		if n := strings.Count(r.log.String(), "own flash"); n != 1 || r.state().interval != 12*time.Hour {
			t.Errorf("it is told %d times, the interval is %v\n%s", n, r.state().interval, r.log)
		}
		r.lies.Store(&lies{"/srv", "/dev/sda1", disk.Drive, false})
		r.configured()
		synctest.Wait()
		r.expect(t, "moved to a drive", r.store.take(), "attach, import")
		r.expect(t, "2 hours", r.after(2*time.Hour), "backup")
		r.lies.Store(&lies{"/tmp", "tmpfs", disk.RAM, false})
		r.configured()
		synctest.Wait()
		if !strings.Contains(r.log.String(), "does not outlive a reboot") {
			t.Errorf("log\n%s", r.log)
		}
	})
}

// What lies below the place of a drive that was taken away is not written to.
func TestDriveIsTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 02:00"))
		r.store.st.Ran = at("2026-03-09 03:17").UnixMilli()
		r.begin(t)
		flash := &lies{"/", "/dev/ubi0_1", disk.Internal, false}
		r.after(time.Minute)
		r.lies.Store(flash)
		r.mountsChanged()
		r.expect(t, "until the next day", r.after(24*time.Hour), "")
		if _, err := r.Backup(t.Context()); err == nil || !strings.Contains(err.Error(), "/dev/sda1 that was mounted on /srv has gone") {
			t.Errorf("asked for: %v", err)
		}
		if strings.Contains(r.log.String(), "own flash") {
			t.Errorf("log\n%s", r.log)
		}
		r.lies.Store(&lies{mount: "/srv", device: "/dev/sdb1"})
		r.mountsChanged()
		r.expect(t, "it is back", r.after(time.Second), "attach, import, archive 2026-03-11 01:01, backup")
		r.lies.Store(flash)
		r.mountsChanged()
		r.after(time.Minute)
		r.end()
		r.store.take()
		r.finish()
		r.expect(t, "at the end without it", r.store.take(), "")
	})
	// Who wants it on flash says so.
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, at("2026-03-10 18:00"))
		r.store.st.Ran = at("2026-03-10 03:17").UnixMilli()
		r.begin(t)
		defer r.end()
		r.lies.Store(&lies{"/", "/dev/ubi0_1", disk.Internal, false})
		r.configured()
		synctest.Wait()
		if _, err := r.Backup(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

type sqliteError int

func (e sqliteError) Error() string { return fmt.Sprintf("SQLite says %d", int(e)) }
func (e sqliteError) Code() int     { return int(e) }

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	there, missing := filepath.Join(dir, "a.db"), filepath.Join(dir, "srv", "pakon", "a.db")
	for _, tt := range []struct {
		err          error
		path         string
		reason, text string
	}{
		{fmt.Errorf("x: %w", syscall.ENOSPC), there, "full", "is full"},
		{fmt.Errorf("x: %w", sqliteError(13)), there, "full", "KiB are free"},
		{fmt.Errorf("x: %w", syscall.EROFS), there, "read-only", "can only be read"},
		{sqliteError(8 | 5<<8), there, "read-only", "can only be read"},
		{fmt.Errorf("x: %w", fs.ErrNotExist), missing, "missing " + filepath.Join(dir, "srv"), "no folder " + filepath.Join(dir, "srv") + ":"},
		{fmt.Errorf("x: %w", os.ErrNotExist), there, "x: file does not exist", "x: file does not exist"},
		{sqliteError(11), missing, "SQLite says 11", "SQLite says 11"},
	} {
		got := explain(tt.err, tt.path, lies{mount: dir, device: "/dev/sda1"})
		if got.reason != tt.reason || !strings.Contains(got.text, tt.text) {
			t.Errorf("%v: %+v", tt.err, got)
		}
	}
}

// TestLookAt is of this machine: what it says is about a mount that there is.
func TestLookAt(t *testing.T) {
	if l := lookAt("/proc/self/x"); l.mount != "/proc" && l.mount != "/proc/self" || l.kind != disk.Drive {
		t.Errorf("%+v", l)
	}
	dir := t.TempDir()
	table, err := disk.Read()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := table.Of(disk.Resolve(dir)); !ok {
		t.Skipf("%s is on no mount that is to be seen from here: a chroot", dir)
	}
	if l := lookAt(filepath.Join(dir, "a", "b")); l.mount == "" || l.device == "" {
		t.Errorf("%+v", l)
	}
}

// A clock that was set while Pakon did not run is noticed at the next start, and
// once; but each boot of the machine has a clock of its own.
func TestClockSetBetweenRuns(t *testing.T) {
	for _, tt := range []struct {
		name        string
		start, then time.Time // what the clock shows when the next run starts
		boot        string
		kept        string // instead of what the first run has kept
		jumps       bool
		shifts      bool
	}{
		{"from 1970", time.Unix(30, 0), at("2026-03-10 18:00"), "one", "", true, true},
		{"in our days", at("2026-03-10 18:00"), at("2026-03-11 18:00"), "one", "", true, false},
		{"back", at("2026-03-10 18:00"), at("2026-03-09 18:00"), "one", "", true, false},
		{"not at all", at("2026-03-10 18:00"), at("2026-03-10 19:00"), "one", "", false, false},
		{"after another boot", time.Unix(30, 0), at("2026-03-10 18:00"), "two", "", false, false},
		{"nothing that is known", time.Unix(30, 0), at("2026-03-10 18:00"), "one", "one x", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := newKeeperRig(t, tt.start)
				first.boot = "one"
				first.begin(t)
				first.after(time.Hour)
				first.end()
				before := first.keeper.offset()
				kept := first.store.clock
				if tt.kept != "" {
					kept = tt.kept
				}
				next := newKeeperRig(t, tt.then)
				next.boot, next.store.clock = tt.boot, kept
				next.begin(t)
				next.end()
				by := next.keeper.offset() - before
				last := tt.then.UnixMilli() - by
				var jumps [][2]int64
				var shifts [][3]int64
				if tt.jumps {
					jumps = [][2]int64{{by, 0}}
				}
				if tt.shifts {
					shifts = [][3]int64{{0, last + 1, by}}
				}
				if !slices.Equal(next.jumps, jumps) || !slices.Equal(next.store.shifts, shifts) {
					t.Errorf("told of %v, shifted by %v, want %v, %v\n%s", next.jumps, next.store.shifts, jumps, shifts, next.log)
				}
				again := newKeeperRig(t, tt.then)
				again.boot, again.store.clock = tt.boot, next.store.clock
				again.begin(t)
				again.end()
				if len(again.jumps)+len(again.store.shifts) > 0 {
					t.Errorf("the next time told of %v, shifted by %v", again.jumps, again.store.shifts)
				}
			})
		})
	}
}

// A clock that is first set to what some file says, and then to what a server
// says, takes what was recorded with it both times.
func TestClockSetInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, time.Unix(30, 0))
		r.begin(t)
		defer r.end()
		var want [][3]int64
		for _, to := range []time.Time{at("2024-06-01 12:00"), at("2026-03-10 18:00")} {
			r.after(time.Hour)
			last, by := r.keeper.now().UnixMilli(), to.Sub(r.keeper.now())
			r.ahead.Add(int64(by))
			r.clockSet()
			synctest.Wait()
			want = append(want, [3]int64{0, last + 1, by.Milliseconds()})
		}
		if !slices.Equal(r.store.shifts, want) {
			t.Errorf("shifted by %v, want %v\n%s", r.store.shifts, want, r.log)
		}
	})
}
