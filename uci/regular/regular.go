// Package regular opens files where others may put something else: a FIFO, which
// keeps whoever opens it waiting, a device without an end, or simply far too much.
// What the files mean is left to those who read them.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotRegular is wrapped where something else is in a file's place.
var ErrNotRegular = errors.New("is not a regular file")

// Open opens a regular file to read it. It never waits for what else may be there.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Read returns the content of a regular file of at most so many bytes. Of a larger
// one it is an error.
func Read(path string, most int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tooLarge := &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d bytes", most)}
	if info.Size() > most {
		return nil, tooLarge
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most { // it grows, or its size is not what the kernel says
		return nil, tooLarge
	}
	return b, nil
}

// Check returns an error if there is something at a path that is no regular file.
func Check(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	return err
}

// Create makes a file to be written, which only its owner may read, in place of what
// is there, unless that is a folder.
func Create(path string) (*os.File, error) {
	if err := unix.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// maxEntries bounds a folder.
const maxEntries = 4096

// ReadDir returns what is in a folder, by name. Of a folder with more than 4096
// entries it is an error.
func ReadDir(path string) ([]fs.DirEntry, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(entries) > maxEntries {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("more than %d files in it", maxEntries)}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// DirFS is the tree of files below a folder, opened by Open and listed by ReadDir.
func DirFS(folder string) fs.FS { return tree(folder) }

type tree string

func (t tree) at(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return filepath.Join(string(t), filepath.FromSlash(name)), nil
}

func (t tree) Open(name string) (fs.File, error) {
	path, err := t.at("open", name)
	if err != nil {
		return nil, err
	}
	f, err := Open(path)
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		e.Path = name
	}
	if err != nil {
		return nil, err // not f: a nil *os.File is not a nil fs.File
	}
	return f, nil
}

func (t tree) ReadDir(name string) ([]fs.DirEntry, error) {
	path, err := t.at("readdir", name)
	if err != nil {
		return nil, err
	}
	return ReadDir(path)
}
