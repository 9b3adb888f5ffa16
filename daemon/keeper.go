package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"pakon/daemon/api"
	"pakon/daemon/clock"
	"pakon/daemon/disk"
	"pakon/daemon/store"
)

const (
	// nightHour and nightMinute are when the archive runs, by the router's zone.
	nightHour, nightMinute = 3, 17
	// A run that was due while the router was off is made up for once it has
	// settled.
	missedAfter = 24 * time.Hour
	missedDelay = 10 * time.Minute
	// mountDelay is how long mounts must not have changed: several often do at once.
	mountDelay = time.Second
	// keeperRetry is after how long what failed is tried again. What writes to the
	// drive waits twice as long each time, up to keeperPatience: on a full one, each
	// attempt wears it.
	keeperRetry    = 5 * time.Minute
	keeperPatience = 80 * time.Minute
	// flashInterval is how often the router's own flash is written at most.
	flashInterval = 12 * time.Hour
	// devicesWait is how long the object on the bus waits for the known devices.
	devicesWait = time.Second
	// lastBackup bounds the backup at the end: the init script waits for a minute.
	lastBackup = 45 * time.Second
	// clockJump is by what the clock must be set to be worth a word.
	clockJump = 2 * time.Second
	// maxAsking bounds the requests that wait: each holds one of the bus' workers.
	maxAsking = 4
)

// keeperStore is a store with an archive and a backup. The keeper calls all
// methods but Storage from one goroutine.
type keeperStore interface {
	// Attach opens what is on the drive, and restores live if it was lost.
	Attach(context.Context) error
	// Detach closes it.
	Detach() error
	Archive(ctx context.Context, now time.Time, age clock.Age) (store.ArchiveRun, error)
	Backup(context.Context) (store.BackupRun, error)
	// Clock and SetClock keep by which clock flows were recorded so far.
	Clock(context.Context) (string, error)
	SetClock(ctx context.Context, said string) error
	// Shift moves the flows that start in [from, to) (Unix ms) by so many ms.
	Shift(ctx context.Context, from, to, by int64) error
	// Import takes what the original has left, if there is any.
	Import(context.Context, store.ImportConfig) (store.ImportRun, error)
	Storage(context.Context) (store.Storage, error)
}

// keeping is what the keeper needs of the settings.
type keeping struct {
	archive  store.ArchiveConfig
	interval time.Duration // between backups
	imports  store.ImportConfig
	mounts   []string // the folders at which drives are to be mounted
}

// keeper decides when flows are moved to the archive and backed up, and does it:
// all that writes to the drive is done by its one goroutine, one thing at a time.
// What a run does is the store's business.
type keeper struct {
	store    keeperStore
	log      *slog.Logger
	settings func() keeping
	location func() *time.Location
	// jumped is told that the wall clock was set by so many ms, by ours of them since
	// this run began, before flows that were recorded are moved.
	jumped  func(ctx context.Context, by, ours int64)
	devices *devices         // nil if they are not kept
	now     func() time.Time // the wall clock
	offset  func() int64     // see clock.Offset
	look    func(path string) lies
	started time.Time
	boot    string // see clock.BootID

	mounts, clock, config chan struct{}   // hold one each: something has changed
	devicesRead           chan struct{}   // closed once it was tried to read them
	newDevices            <-chan struct{} // tells that devices are to be looked at; nil if they are not kept
	requests              chan request
	asking                chan struct{} // holds one for each request
	ended                 chan struct{} // closed when requests are not run any more

	// Of the goroutine that runs. Times are of the monotonic clock, zero if nothing
	// is due, but for night.
	attachAt, retryAt, missedAt, backupAt time.Time
	night                                 time.Time
	devicesAt                             time.Time // when new devices are to be looked at
	wall                                  wallClock
	before                                int64      // ms of what noteClock finds next that were before this run
	failed                                [tasks]int // how often in a row
	home                                  lies       // the drive that the archive was on since it was configured; zero if on none
	unusable                              error      // why nothing is to be written there now

	mu    sync.Mutex
	shown keeperState
}

// wallClock is what is known of the wall clock in this boot of the machine. It is
// kept, as JSON, for a later run of the daemon.
type wallClock struct {
	Boot   string
	Offset int64 // see clock.Offset
	Steady clock.Steady
	Ahead  ahead
}

// ahead is an excursion of the clock: that it was set ahead, perhaps wrongly.
type ahead struct {
	From int64 // what it showed first, Unix ms
	By   int64 // ms; 0 if there is none
}

// keeperState is what status shows of the keeper.
type keeperState struct {
	lies     lies
	interval time.Duration // between backups, as it is kept
	doubt    string        // why the clock can not be believed, "" if it can
	troubles [tasks]trouble
}

// task is something that can fail.
type task int

// The tasks.
const (
	attaching task = iota
	importing
	archiving
	backing
	noting
	tasks
)

// What the log says when a task fails and when it succeeds again.
var taskFails, taskWorks = [tasks]string{
	attaching: "the archive and the backup can not be opened",
	importing: "the files of the original are not imported",
	archiving: "flows are not moved to the archive",
	backing:   "the last day is not backed up",
	noting:    "which devices are known is not kept",
}, [tasks]string{
	attaching: "the archive and the backup are open again",
	importing: "the files of the original are imported",
	archiving: "flows are moved to the archive again",
	backing:   "the last day is backed up again",
	noting:    "which devices are known is kept again",
}

// trouble is why a task fails; zero if it does not.
type trouble struct {
	reason string // the same as long as it fails for the same reason
	text   string // with what the owner can do
}

// request is a task that somebody waits for.
type request struct {
	run  func(context.Context) error
	done chan error
}

func newKeeper(store keeperStore, log *slog.Logger) *keeper {
	return &keeper{
		store: store, log: log, now: time.Now, offset: clock.Offset, look: lookAt, started: time.Now(), boot: clock.BootID(),
		jumped: func(context.Context, int64, int64) {},
		mounts: make(chan struct{}, 1), clock: make(chan struct{}, 1), config: make(chan struct{}, 1),
		requests: make(chan request), asking: make(chan struct{}, maxAsking), ended: make(chan struct{}),
		devicesRead: make(chan struct{}),
	}
}

// tell notes a change for the goroutine that runs.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// mountsChanged, clockSet and configured tell of changes. They do not wait.
func (k *keeper) mountsChanged() { tell(k.mounts) }
func (k *keeper) clockSet()      { tell(k.clock) }
func (k *keeper) configured()    { tell(k.config) }

// run does what is due until ctx ends; a task that runs then ends soon.
func (k *keeper) run(ctx context.Context) error {
	defer close(k.ended)
	k.readDevices()
	k.takeClock(ctx)
	k.noteClock(ctx)
	k.attach(ctx)
	k.believe(ctx)
	k.plan()
	k.planMissed(ctx)
	k.planBackup(ctx)
	timer := time.NewTimer(k.wait())
	defer timer.Stop()
	for {
		k.noteClock(ctx)
		k.work(ctx)
		timer.Reset(k.wait())
		select {
		case <-ctx.Done():
			return nil
		case r := <-k.requests:
			if ctx.Err() != nil {
				r.done <- errKeeperEnds
				return nil
			}
			r.done <- r.run(ctx)
		case <-k.mounts:
			k.attachAt = time.Now().Add(mountDelay)
		case <-k.clock: // looked at in any case
		case <-k.newDevices:
		case <-k.config:
			k.home = lies{}
			k.attach(ctx)
			k.plan()
			k.planMissed(ctx)
			k.planBackup(ctx)
		case <-timer.C:
		}
	}
}

// finish backs up what is left, once nothing more comes. run has ended.
func (k *keeper) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), lastBackup)
	defer cancel()
	err := k.unusable
	if err == nil {
		_, err = k.store.Backup(ctx)
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("it takes more than %s", lastBackup)
	}
	k.note(context.Background(), backing, err)
	_, _ = k.saveDevices(context.Background())
}

// work does what is due.
func (k *keeper) work(ctx context.Context) {
	if due(k.attachAt) {
		k.attach(ctx)
	}
	if k.devices != nil {
		k.devicesAt = k.devices.work(func() (int64, error) { return k.saveDevices(ctx) })
	}
	if k.untilArchive() <= 0 {
		_, _ = k.archive(ctx) // which has told of the error
	}
	if due(k.backupAt) {
		_, _ = k.backup(ctx)
	}
}

func due(t time.Time) bool { return !t.IsZero() && time.Until(t) <= 0 }

// wait is how long nothing is due.
func (k *keeper) wait() time.Duration {
	d := k.untilArchive()
	for _, t := range []time.Time{k.attachAt, k.backupAt, k.devicesAt} {
		if !t.IsZero() {
			d = min(d, time.Until(t))
		}
	}
	return max(d, 0)
}

// untilArchive is how long the archive need not run.
func (k *keeper) untilArchive() time.Duration {
	if !k.retryAt.IsZero() {
		return time.Until(k.retryAt)
	}
	d := k.night.Sub(k.now())
	if !k.missedAt.IsZero() {
		d = min(d, time.Until(k.missedAt))
	}
	return d
}

// plan sets when the archive runs next.
func (k *keeper) plan() { k.night = nextNight(k.now(), k.location()) }

// planMissed has the archive run before the next night if it has missed one.
func (k *keeper) planMissed(ctx context.Context) {
	k.missedAt = time.Time{}
	if k.now().Sub(k.lastRun(ctx)) > missedAfter {
		k.missedAt = k.started.Add(missedDelay)
	}
}

// lastRun is when the archive last ran to its end; zero if that is not known.
func (k *keeper) lastRun(ctx context.Context) time.Time {
	st, err := k.store.Storage(ctx)
	if err != nil {
		return time.Time{} // status shows it
	}
	return unixMilli(st.Ran)
}

// nextNight is the first time after now at which the archive is to run.
func nextNight(now time.Time, loc *time.Location) time.Time {
	t := now.In(loc)
	for day := t.Day(); ; day++ {
		// Where the clock skips that time, it is an hour off.
		if at := time.Date(t.Year(), t.Month(), day, nightHour, nightMinute, 0, 0, loc); at.After(now) {
			return at.Round(0)
		}
	}
}

// planBackup sets when the next backup is due: an interval after the last one,
// which an earlier run may have made.
func (k *keeper) planBackup(ctx context.Context) {
	interval := k.state().interval
	wait := interval
	if st, err := k.store.Storage(ctx); err == nil && st.BackedUp > 0 {
		wait = min(max(interval-k.now().Sub(time.UnixMilli(st.BackedUp)), missedDelay), interval)
	}
	k.backupAt = time.Now().Add(wait)
}

// attach opens what is on the drive, and then imports what the original has left.
func (k *keeper) attach(ctx context.Context) {
	set := k.settings()
	k.note(ctx, attaching, k.attachTo(ctx, set))
	if k.state().troubles[attaching].reason != "" {
		k.attachAt = time.Now().Add(keeperRetry)
		return
	}
	k.attachAt = time.Time{}
	run, err := k.store.Import(ctx, set.imports)
	if run.Live+run.Archive > 0 {
		k.log.Info("what the original Pakon recorded was imported", "live", run.Live, "archive", run.Archive, "skipped", run.Skipped)
	}
	if k.note(ctx, importing, err); err != nil {
		k.attachAt = time.Now().Add(keeperRetry)
	}
	if k.devices != nil {
		err = k.devices.attach(ctx, filepath.Dir(set.archive.Path))
		if k.note(ctx, noting, err); err != nil {
			k.attachAt = time.Now().Add(keeperRetry)
		}
	}
	// What failed for want of the drive need not wait.
	state := k.state()
	if state.troubles[archiving].reason != "" {
		k.retryAt = time.Now()
	}
	if state.troubles[backing].reason != "" {
		k.backupAt = time.Now()
	}
}

func (k *keeper) attachTo(ctx context.Context, set keeping) error {
	if k.locate(set); k.unusable != nil {
		// What lies at the path now is not what was there, or will be.
		if k.devices != nil {
			k.devices.left()
		}
		return errors.Join(k.unusable, k.store.Detach())
	}
	return k.store.Attach(ctx)
}

// locate looks where the archive lies, and whether it is to be used.
func (k *keeper) locate(set keeping) {
	l := k.look(set.archive.Path)
	if l.kind == disk.Drive {
		k.home = l
	}
	// Below the place of a drive that was taken away lies the router's own flash.
	k.unusable = nil
	if k.home.mount != "" && l.mount != "" && l.kind != disk.Drive {
		k.unusable = fmt.Errorf("the drive %s that was mounted on %s has gone", k.home.device, k.home.mount)
		l = lies{}
	} else if folder := expected(set.mounts, set.archive.Path); folder != "" && l.mount != "" && !within(l.mount, folder) {
		k.unusable = fmt.Errorf("the drive that is to be mounted on %s is not", folder)
		l = lies{}
	} else if missing := disk.Missing(filepath.Dir(set.archive.Path)); missing != "" {
		// The folder of the archive is made, but what that lies in may be a drive.
		k.unusable = fmt.Errorf("%s: %w", missing, fs.ErrNotExist)
		l = lies{}
	}
	interval := backupInterval(set.interval, l)
	before := k.state().lies
	k.change(func(s *keeperState) { s.lies, s.interval = l, interval })
	if l != before {
		switch {
		case l.kind == disk.RAM:
			k.log.Warn("the archive is in RAM: it does not outlive a reboot", "path", set.archive.Path, "mount", l.mount)
		case interval != set.interval:
			k.log.Warn("the archive is on the router's own flash: the last day is backed up less often", "path", set.archive.Path,
				"interval", interval, "configured", set.interval)
		}
	}
}

// readDevices reads which devices are known, which takes no archive. What fails is
// told by attach, which does it again.
func (k *keeper) readDevices() {
	defer close(k.devicesRead)
	if k.devices == nil {
		return
	}
	set := k.settings()
	if k.locate(set); k.unusable == nil {
		_, _ = k.devices.read(filepath.Join(filepath.Dir(set.archive.Path), devicesFile))
	}
}

// awaitDevices returns once it was tried to read which devices are known, or the
// drive takes long for it, or ctx has ended.
func (k *keeper) awaitDevices(ctx context.Context) {
	select {
	case <-k.devicesRead:
	case <-time.After(devicesWait):
	case <-ctx.Done():
	}
}

// expected is the innermost of the folders at which drives are to be mounted in
// which a path lies; "" if it lies in none.
func expected(mounts []string, path string) string {
	innermost := ""
	for _, m := range mounts {
		if m != "/" && within(path, m) && len(m) > len(innermost) {
			innermost = m
		}
	}
	return innermost
}

// within tells whether a path is a folder or lies in it.
func within(path, folder string) bool {
	rest, ok := strings.CutPrefix(path, folder)
	return ok && (rest == "" || rest[0] == '/')
}

// archive moves flows to the archive, and then backs up what is left.
func (k *keeper) archive(ctx context.Context) (run store.ArchiveRun, err error) {
	k.retryAt = time.Now().Add(keeperRetry)
	k.noteClock(ctx)
	now := k.now()
	if why := notSet(now); why != "" {
		return run, fmt.Errorf("the clock can not be believed: %s", why)
	}
	if err = k.unusable; err == nil {
		var st store.Storage
		if st, err = k.store.Storage(ctx); err == nil {
			run, err = k.store.Archive(ctx, now.Round(0), k.aged(now, st.Age))
		}
	}
	if k.note(ctx, archiving, err); err != nil {
		k.retryAt = time.Now().Add(k.patience(archiving))
		return run, err
	}
	k.log.Info("flows were moved to the archive", "moved", run.Moved, "merged", run.Merged, "dropped", run.Dropped,
		"expired", run.Expired, "bytes", run.Written, "took", run.Took.Round(time.Millisecond))
	k.retryAt, k.missedAt = time.Time{}, time.Time{}
	k.plan()
	_, _ = k.backup(ctx)
	return run, nil
}

// uptime is for how long the machine has run, in milliseconds.
func (k *keeper) uptime() int64 { return k.now().UnixMilli() - k.offset() }

// aged is the age that data has now, if it had another before. A first run has no
// other clock than the present one to compare with.
func (k *keeper) aged(now time.Time, before clock.Age) clock.Age {
	uptime := k.uptime()
	first := before.Until == 0 && k.wall.Ahead.By == 0
	return before.Advance(now.UnixMilli(), k.boot, uptime, first || k.wall.Steady.Believed(uptime))
}

// notSet says that the clock was never set if it shows now; "" if it was.
func notSet(now time.Time) string {
	if now.Before(clock.Earliest) {
		return fmt.Sprintf("it shows %s, so it was not set since the router was started", now.UTC().Format(time.DateOnly))
	}
	return ""
}

// doubted says why the age of what is kept does not follow the clock; "" if it
// does. before is the age at the last run of the archive.
func (k *keeper) doubted(now time.Time, before clock.Age) string {
	if why := notSet(now); why != "" {
		return why
	}
	until := time.UnixMilli(k.aged(now, before).Until)
	if until.Before(clock.Earliest) || now.Sub(until) < missedAfter {
		return "" // nothing has aged yet, or next to nothing is left out
	}
	return fmt.Sprintf("it shows %s, and only until %s has time passed for certain: it is believed once it has not been set for a day",
		now.UTC().Format(time.DateOnly), until.UTC().Format(time.DateOnly))
}

// backup backs up live.
func (k *keeper) backup(ctx context.Context) (run store.BackupRun, err error) {
	k.backupAt = time.Now().Add(k.state().interval)
	if err = k.unusable; err == nil {
		run, err = k.store.Backup(ctx)
	}
	if k.note(ctx, backing, err); err != nil {
		k.backupAt = time.Now().Add(min(k.patience(backing), k.state().interval))
	}
	k.believe(ctx)
	if k.devices != nil && k.devices.stale() {
		_, _ = k.saveDevices(ctx)
	}
	return run, err
}

// saveDevices writes which devices are known, if there is where to.
func (k *keeper) saveDevices(ctx context.Context) (written int64, err error) {
	if k.devices == nil || k.unusable != nil {
		return 0, k.unusable
	}
	written, err = k.devices.save(ctx)
	k.note(ctx, noting, err)
	return written, err
}

// forgetDevices has what is known of devices on the drive follow what the table
// has forgotten; all if that is everything.
func (k *keeper) forgetDevices(ctx context.Context, all bool) error {
	if k.devices == nil || k.unusable != nil { // which the caller tells
		return nil
	}
	var err error
	if all {
		err = k.devices.forget()
	}
	_, saveErr := k.saveDevices(ctx)
	return errors.Join(err, saveErr)
}

// devicesWarning is what the owner should know of the devices that are known; ""
// if that is nothing.
func (k *keeper) devicesWarning() string {
	if k.devices == nil {
		return ""
	}
	state := k.state()
	why := state.troubles[noting].text
	switch known := k.devices.table.Known(); {
	case known && why != "":
		return "Which devices are known may not outlive a reboot: " + why
	case known:
		return ""
	}
	if why = cmp.Or(state.troubles[attaching].text, why); why == "" {
		return "" // it will be read in a moment
	}
	path := filepath.Join(filepath.Dir(k.settings().archive.Path), devicesFile)
	return fmt.Sprintf("New devices are not told while %s can not be read: %s", path, why)
}

// patience is how long a task that has just failed is not tried again.
func (k *keeper) patience(what task) time.Duration {
	return min(keeperRetry<<min(max(k.failed[what]-1, 0), 10), keeperPatience)
}

// takeClock takes up the clock by which an earlier run of this boot has recorded:
// it may have been set since.
func (k *keeper) takeClock(ctx context.Context) {
	offset := k.offset()
	k.wall = wallClock{Boot: k.boot, Offset: offset}
	k.wall.Steady = clock.Steady{Offset: offset, Since: k.uptime()}
	said, err := k.store.Clock(ctx)
	if err != nil {
		k.log.Error("whether the clock was set while Pakon did not run is not known", "err", err)
	}
	var before wallClock
	if json.Unmarshal([]byte(said), &before) == nil && before.Boot == k.boot && k.boot != "" {
		k.wall, k.before = before, offset-before.Offset
	}
	k.keepClock(ctx)
}

// keepClock keeps the clock for a later run.
func (k *keeper) keepClock(ctx context.Context) {
	said, err := json.Marshal(k.wall)
	if err == nil {
		err = k.store.SetClock(ctx, string(said))
	}
	if err != nil && ctx.Err() == nil {
		k.log.Error("the clock is not kept for the next start", "err", err)
	}
}

// noteClock looks whether the wall clock was set. What was recorded before it was
// set for the first time is moved to when it was, and what was recorded while it
// was ahead, once it is set back.
func (k *keeper) noteClock(ctx context.Context) {
	offset := k.offset()
	by := offset - k.wall.Offset
	ours := by - k.before
	k.wall.Offset, k.before = offset, 0
	now := k.now()
	k.wall.Steady.Note(offset, k.uptime())
	if by > -clockJump.Milliseconds() && by < clockJump.Milliseconds() {
		return
	}
	last := now.UnixMilli() - by
	k.log.Info("the clock was set", "by", time.Duration(by)*time.Millisecond, "now", now.Round(time.Second))
	k.jumped(ctx, by, ours)
	wasSet := last >= clock.Earliest.UnixMilli()
	var err error
	switch {
	case !wasSet:
		err = k.store.Shift(ctx, 0, last+1, by)
	case by > 0 && k.wall.Ahead.By == 0:
		k.wall.Ahead = ahead{now.UnixMilli(), by}
	case by > 0:
		k.wall.Ahead.By += by
	case k.wall.Ahead.By > 0:
		err = k.store.Shift(ctx, k.wall.Ahead.From, last+1, by)
		if k.wall.Ahead = (ahead{k.wall.Ahead.From + by, k.wall.Ahead.By + by}); k.wall.Ahead.By < clockJump.Milliseconds() {
			k.wall.Ahead = ahead{}
		}
	}
	if err != nil && ctx.Err() == nil {
		k.log.Error("flows keep the times of a clock that was wrong", "err", err)
	}
	k.keepClock(ctx)
	k.plan()
	if !wasSet {
		k.retryAt = time.Time{} // what waited for the clock is planned anew
		k.planMissed(ctx)
	}
	k.believe(ctx)
}

// believe looks whether the clock can be believed, and says so if that is news.
func (k *keeper) believe(ctx context.Context) {
	st, err := k.store.Storage(ctx)
	if err != nil {
		return // status shows it
	}
	now := k.now()
	why, before := k.doubted(now, st.Age), ""
	k.change(func(s *keeperState) { before, s.doubt = s.doubt, why })
	switch {
	case why != "" && before == "":
		k.log.Warn("the clock can not be believed: nothing is merged or deleted for its age until it is", "why", why)
	case why == "" && before != "":
		k.log.Info("the clock can be believed")
	}
	// Times of devices that a clock has left which was ahead are mended.
	if k.devices != nil && why == "" && k.wall.Steady.Believed(k.uptime()) {
		k.devices.table.ClockRight()
		k.devices.table.Age()
	}
}

// note notes whether a task has failed, and logs it if that is news. One that was
// ended has neither failed nor not.
func (k *keeper) note(ctx context.Context, what task, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	if k.failed[what]++; err == nil {
		k.failed[what] = 0
	}
	var t trouble
	if err != nil {
		t = explain(err, k.settings().archive.Path, k.state().lies)
	}
	var before trouble
	k.change(func(s *keeperState) { before, s.troubles[what] = s.troubles[what], t })
	switch {
	case t.reason == before.reason:
	case err != nil:
		attrs := []any{"err", strings.ReplaceAll(err.Error(), "\n", "; ")}
		if t.text != t.reason {
			attrs = append(attrs, "why", t.text)
		}
		k.log.Error(taskFails[what], attrs...)
	default:
		k.log.Info(taskWorks[what])
	}
}

func (k *keeper) state() keeperState {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.shown
}

func (k *keeper) change(f func(*keeperState)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.shown)
}

var (
	errKeeperEnds = errors.New("the daemon ends")
	errKeeperBusy = errors.New("too many wait for the archive already")
)

// ask has the goroutine that runs do something, and waits for it. What has begun
// is done even if nobody waits any more.
func (k *keeper) ask(ctx context.Context, run func(context.Context) error) error {
	select {
	case k.asking <- struct{}{}:
		defer func() { <-k.asking }()
	default:
		return errKeeperBusy
	}
	r := request{run, make(chan error, 1)}
	select {
	case k.requests <- r:
	case <-k.ended:
		return errKeeperEnds
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Archive, Backup and Forget are methods of the ubus object.

// Archive moves flows to the archive now.
func (k *keeper) Archive(ctx context.Context) (store.ArchiveRun, error) {
	var run store.ArchiveRun
	if err := k.ask(ctx, func(ctx context.Context) (err error) {
		run, err = k.archive(ctx)
		return err
	}); err != nil {
		return store.ArchiveRun{}, err
	}
	return run, nil
}

// Backup backs up live now.
func (k *keeper) Backup(ctx context.Context) (store.BackupRun, error) {
	var run store.BackupRun
	if err := k.ask(ctx, func(ctx context.Context) (err error) {
		run, err = k.backup(ctx)
		return err
	}); err != nil {
		return store.BackupRun{}, err
	}
	return run, nil
}

// status tells how the archive and the backup are.
func (k *keeper) status(ctx context.Context, s *api.Status) {
	st, err := k.store.Storage(ctx)
	state, path := k.state(), k.settings().archive.Path
	s.Clock.Plausible, s.Clock.Why = state.doubt == "", state.doubt
	s.Archive = api.ArchiveStatus{
		Path: path, Bytes: st.Bytes, Flows: st.Flows, Oldest: unixMilli(st.Oldest),
		Lost: st.Lost, ReadOnly: st.ReadOnly, LastRun: unixMilli(st.Ran), Run: st.LastRun,
		Error: cmp.Or(state.troubles[attaching].text, state.troubles[archiving].text, state.troubles[importing].text, text(st.RunErr), text(err)),
	}
	s.Backup = api.BackupStatus{
		Last: unixMilli(st.BackedUp), Segments: st.Segments, Bytes: st.BackupBytes, Damaged: st.Damaged,
		Interval: state.interval, Error: cmp.Or(state.troubles[backing].text, text(st.BackupErr)),
	}
	s.Written, s.Import, s.Restore, s.Aside = st.Written, st.Importing, st.Restoring, st.Aside
	s.Location = api.LocationStatus{Mount: state.lies.mount, Device: state.lies.device}
	if state.lies.mount != "" {
		s.Location.Kind = state.lies.kind.String()
		s.Location.Free, _ = disk.Free(state.lies.mount) // 0 where the drive has just gone
	}
}

// text is what an error says, "" if there is none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// lies is where a file lies.
type lies struct {
	mount, device string
	kind          disk.Kind
	readOnly      bool
}

// backupInterval is the configured time between backups, or more to spare the
// router's own flash.
func backupInterval(configured time.Duration, l lies) time.Duration {
	if l.mount != "" && l.kind == disk.Internal {
		return max(configured, flashInterval)
	}
	return configured
}

// lookAt tells where a file lies or would lie; zero if that is not known.
func lookAt(path string) lies {
	table, err := disk.Read()
	if err != nil {
		return lies{}
	}
	m, ok := table.Of(disk.Resolve(path))
	if !ok {
		return lies{}
	}
	return lies{m.Point, m.Source, table.Kind(m), m.ReadOnly}
}

// The primary result codes of SQLite that say what the system has said.
const (
	sqliteReadOnly = 8
	sqliteFull     = 13
)

// explain tells why something could not be written, and what can be done.
func explain(err error, path string, l lies) trouble {
	code := 0
	if sqlite := (interface{ Code() int })(nil); errors.As(err, &sqlite) {
		code = sqlite.Code() & 0xff
	}
	switch missing := disk.Missing(path); {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), code == sqliteFull:
		free := "nothing is"
		if n, err := disk.Free(l.mount); err == nil {
			free = fmt.Sprintf("%d KiB are", n>>10)
		}
		return trouble{"full", fmt.Sprintf("%s (%s) is full, %s free: make room, or set pakon.archive.path to a file on a larger drive", l.mount, l.device, free)}
	case errors.Is(err, syscall.EROFS), code == sqliteReadOnly:
		return trouble{"read-only", fmt.Sprintf("%s (%s) can only be read: if it was mounted writable, the drive may be damaged (dmesg says so)", l.mount, l.device)}
	case missing != "" && errors.Is(err, fs.ErrNotExist):
		return trouble{"missing " + missing, fmt.Sprintf("there is no folder %s: is the drive mounted? pakon.archive.path is to be a file in a folder that there is", missing)}
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ") // several, joined
	return trouble{text, text}
}
