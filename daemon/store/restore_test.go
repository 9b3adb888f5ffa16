package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"pakon/daemon/flow"
	"pakon/daemon/store/backup"
)

// namedFlow is a flow with a name of its own.
func namedFlow(start int64, name string) flow.Flow {
	f := testFlow(start)
	f.Name = name
	return f
}

// namesOf are the names of all flows of live and archive in order, each as often
// as there are flows of it.
func namesOf(t testing.TB, s *Store) (names []string) {
	t.Helper()
	for _, r := range walk(t, s, Query{Filter: Filter{All: true, Out: true, In: true}}) {
		for range r.Flows {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

func sameNames(t testing.TB, what string, s *Store, want ...string) {
	t.Helper()
	if got := namesOf(t, s); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func backUp(t testing.TB, s *Store) {
	t.Helper()
	_, err := s.Backup(t.Context())
	failOn(t, err)
}

// runArchive moves what is due at a time.
func runArchive(t testing.TB, s *Store, now time.Time) ArchiveRun {
	t.Helper()
	run, err := archiveAt(s, t.Context(), now)
	failOn(t, err)
	return run
}

// TestTrimmedBackup archives all that a part of the backup has but for a flow that
// stays in live: that is still backed up, and the part does not stay for ever.
func TestTrimmedBackup(t *testing.T) {
	now := time.Now()
	tracked := namedFlow(now.UnixMilli()-10_000, "stays.example")
	tracked.State, tracked.Track.Key = flow.Running, 1
	for name, stays := range map[string]flow.Flow{
		"of a connection that goes on":   tracked,
		"of a clock that was ahead":      namedFlow(now.AddDate(0, 10, 0).UnixMilli(), "stays.example"),
		"of a clock that is not set yet": namedFlow(60_000, "stays.example"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := ramDir(t)
			s := openDisk(t, dir, Options{})
			add(t, s, stays, namedFlow(now.UnixMilli()-5000, "a.example"))
			backUp(t, s)
			later := now.Add(30 * time.Hour)
			runArchive(t, s, later)
			add(t, s, namedFlow(later.UnixMilli(), "b.example"))
			backUp(t, s)
			closeStore(t, s)
			copied := ramDir(t)
			copyFiles(t, dir, copied)
			reboot(t, copied)
			sameNames(t, "after a reboot", openDisk(t, copied, Options{}), "a.example", "b.example", "stays.example")

			s = openDisk(t, dir, Options{})
			for range 3 {
				backUp(t, s)
			}
			parts, err := filepath.Glob(filepath.Join(dir, "srv", "pakon-backup-*"))
			if first := "pakon-backup-00000001.pakon"; err != nil || len(parts) == 0 || filepath.Base(parts[0]) == first {
				t.Errorf("parts of the backup: %v, %v", parts, err)
			}
			closeStore(t, s)
			reboot(t, dir)
			sameNames(t, "after a reboot without the part", openDisk(t, dir, Options{}), "a.example", "b.example", "stays.example")
		})
	}
}

// TestRestoreWithoutArchive restores where the archive is there but can not be
// opened: what has been moved there must not come back.
func TestRestoreWithoutArchive(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	now := time.Now()
	add(t, s, namedFlow(now.UnixMilli()-5000, "a.example"))
	backUp(t, s)
	runArchive(t, s, now.Add(30*time.Hour))
	closeStore(t, s)
	reboot(t, dir)
	// SQLite can not make its file there, as on a full disk.
	shm := filepath.Join(dir, "srv", "pakon-archive.db-shm")
	failOn(t, removeIfThere(shm))
	failOn(t, os.Mkdir(shm, 0o700))
	s = open(t, Options{Path: filepath.Join(dir, "pakon.db"), Classify: testClassify})
	s.SetArchive(lasting(filepath.Join(dir, "srv", "pakon-archive.db")))
	if err := s.Attach(t.Context()); err == nil {
		t.Fatal("the archive was opened")
	}
	if _, err := s.Backup(t.Context()); err == nil {
		t.Error("a backup was begun before the last one was restored")
	}
	failOn(t, os.Remove(shm))
	failOn(t, s.Attach(t.Context()))
	sameNames(t, "once it can be opened", s, "a.example")
}

// TestNewArchive begins an archive anew while the backup is of the old one: what
// the new one gets does not come back from the backup.
func TestNewArchive(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	now := time.Now()
	add(t, s, namedFlow(now.UnixMilli()-3*dayMS, "a.example"))
	runArchive(t, s, now)
	add(t, s, namedFlow(now.UnixMilli()-5000, "b.example"))
	backUp(t, s)
	closeStore(t, s)
	reboot(t, dir)
	for _, ext := range []string{"", "-wal", "-shm"} {
		failOn(t, removeIfThere(filepath.Join(dir, "srv", "pakon-archive.db"+ext)))
	}
	s = openDisk(t, dir, Options{})
	sameNames(t, "without the archive", s, "b.example")
	runArchive(t, s, now.Add(30*time.Hour))
	closeStore(t, s)
	reboot(t, dir)
	sameNames(t, "with a new one", openDisk(t, dir, Options{}), "b.example")
}

// unrenamed are files of a disk on which nothing can be renamed.
type unrenamed struct{ backup.OS }

func (unrenamed) Rename(from, _ string) error {
	return &fs.PathError{Op: "rename", Path: from, Err: syscall.EROFS}
}

// TestDamagedBackupStays restores from a backup of which a part is damaged, on a
// disk where that can not be set aside.
func TestDamagedBackupStays(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	now := time.Now().UnixMilli()
	for _, name := range []string{"a.example", "b.example"} {
		add(t, s, namedFlow(now-5000, name))
		backUp(t, s)
	}
	closeStore(t, s)
	reboot(t, dir)
	part := filepath.Join(dir, "srv", "pakon-backup-00000001.pakon")
	data := read(t, part)
	data[len(data)-40] ^= 0xff
	write(t, part, data)
	s = openDisk(t, dir, Options{Files: unrenamed{}})
	sameNames(t, "restored", s, "b.example")
	if st, err := s.Storage(t.Context()); err != nil || st.Damaged != 1 {
		t.Errorf("%d parts are damaged, want 1: %v", st.Damaged, err)
	}
	if _, err := os.Stat(part); errors.Is(err, fs.ErrNotExist) {
		t.Error("the damaged part is gone")
	}
}
