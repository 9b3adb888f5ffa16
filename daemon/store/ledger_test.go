package store

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"
	"time"

	"pakon/daemon/store/backup"
)

// ledger is what was written to disk, all days together.
func ledger(t testing.TB, s *Store) (bytes int64) {
	t.Helper()
	st, err := s.Storage(t.Context())
	failOn(t, err)
	for _, d := range st.Written {
		bytes += d.Bytes
	}
	return bytes
}

// TestWrittenOutlivesLive: what was written is known after a reboot, up to the last
// run of the archive, and is counted on.
func TestWrittenOutlivesLive(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	now := time.Now()
	add(t, s, testFlow(now.UnixMilli()-5000))
	backUp(t, s)
	runArchive(t, s, now.Add(30*time.Hour))
	// The last step of a run writes down what there was before it.
	before := ledger(t, s)
	closeStore(t, s)
	reboot(t, dir)
	s = openDisk(t, dir, Options{})
	after := ledger(t, s)
	if after == 0 || after > before {
		t.Fatalf("%d bytes after the reboot, %d before", after, before)
	}
	add(t, s, testFlow(now.UnixMilli()-4000))
	run, err := s.Backup(t.Context())
	failOn(t, err)
	if got := ledger(t, s); run.Written == 0 || got != after+run.Written {
		t.Errorf("%d bytes, want those %d and the %d of a backup", got, after, run.Written)
	}
}

// unsynced are files that can be written, but not synced.
type unsynced struct{ backup.OS }

type unsyncedFile struct{ backup.File }

func (unsyncedFile) Sync() error { return &fs.PathError{Op: "sync", Path: "x", Err: syscall.EIO} }

func (u unsynced) Create(path string) (backup.File, error) {
	f, err := u.OS.Create(path)
	return unsyncedFile{f}, err
}

// TestWrittenInVain: what a backup that fails has written wears the disk, too.
func TestWrittenInVain(t *testing.T) {
	s := openArchived(t, Options{Files: unsynced{}}, ArchiveConfig{})
	add(t, s, testFlow(time.Now().UnixMilli()))
	run, err := s.Backup(t.Context())
	if !errors.Is(err, syscall.EIO) || run.Written == 0 {
		t.Fatalf("%+v, %v", run, err)
	}
	if got := ledger(t, s); got != run.Written {
		t.Errorf("%d bytes, want %d", got, run.Written)
	}
}
