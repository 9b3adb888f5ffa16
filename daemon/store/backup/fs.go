package backup

import (
	"io"
	"io/fs"
	"os"

	"pakon/daemon/disk"
	"pakon/uci/regular"
)

// FS is what the package asks of a file system. Its errors tell with errors.Is
// whether they are fs.ErrNotExist or fs.ErrExist.
type FS interface {
	// Create makes a file that only its owner may read; it must not exist yet.
	Create(path string) (File, error)
	// Open opens a file to read it.
	Open(path string) (File, error)
	// Rename replaces what has the new name already, in one step.
	Rename(from, to string) error
	Remove(path string) error
	ReadDir(path string) ([]fs.DirEntry, error)
	Mkdir(path string, mode fs.FileMode) error
	// SyncDir returns when the names in the folder are on the disk.
	SyncDir(path string) error
}

// File is a file of an FS.
type File interface {
	io.ReadWriteCloser
	Stat() (fs.FileInfo, error)
	// Sync returns when the content is on the disk.
	Sync() error
}

// OS is the file system of the machine.
type OS struct{}

func (OS) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err // not f: a nil *os.File is not a nil File
	}
	return f, nil
}

func (OS) Open(path string) (File, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (OS) Rename(from, to string) error               { return os.Rename(from, to) }
func (OS) Remove(path string) error                   { return os.Remove(path) }
func (OS) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
func (OS) Mkdir(path string, mode fs.FileMode) error  { return os.Mkdir(path, mode) }

func (OS) SyncDir(path string) error { return disk.SyncFolder(path) }
