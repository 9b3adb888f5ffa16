package backup

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"pakon/daemon/store/block"
)

// faultyFS is a file system of which one call fails, or that one and all later.
type faultyFS struct {
	FS
	fail  int // the call that fails, from 1; 0 for none
	err   error
	crash bool
	calls []string
}

func (f *faultyFS) call(name string) error {
	f.calls = append(f.calls, name)
	if n := len(f.calls); f.fail > 0 && (n == f.fail || n > f.fail && f.crash) {
		return &fs.PathError{Op: name, Path: "test", Err: f.err}
	}
	return nil
}

func (f *faultyFS) failed() bool { return f.fail > 0 && len(f.calls) >= f.fail }

func (f *faultyFS) Create(path string) (File, error) {
	if err := f.call("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(path)
	return faultyFile{file, f}, err
}

func (f *faultyFS) Open(path string) (File, error) {
	if err := f.call("open"); err != nil {
		return nil, err
	}
	file, err := f.FS.Open(path)
	return faultyFile{file, f}, err
}

func (f *faultyFS) Rename(from, to string) error {
	if err := f.call("rename"); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *faultyFS) Remove(path string) error {
	if err := f.call("remove"); err != nil {
		return err
	}
	return f.FS.Remove(path)
}

func (f *faultyFS) ReadDir(path string) ([]fs.DirEntry, error) {
	if err := f.call("readdir"); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(path)
}

func (f *faultyFS) Mkdir(path string, mode fs.FileMode) error {
	if err := f.call("mkdir"); err != nil {
		return err
	}
	return f.FS.Mkdir(path, mode)
}

func (f *faultyFS) SyncDir(path string) error {
	if err := f.call("syncdir"); err != nil {
		return err
	}
	return f.FS.SyncDir(path)
}

type faultyFile struct {
	File
	fs *faultyFS
}

func (f faultyFile) Read(b []byte) (int, error) {
	if err := f.fs.call("read"); err != nil {
		return 0, err
	}
	return f.File.Read(b)
}

// Write writes half of b where it fails, as a full disk does.
func (f faultyFile) Write(b []byte) (int, error) {
	if err := f.fs.call("write"); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	}
	return f.File.Write(b)
}

func (f faultyFile) Stat() (fs.FileInfo, error) {
	if err := f.fs.call("stat"); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f faultyFile) Sync() error {
	if err := f.fs.call("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f faultyFile) Close() error {
	err := f.fs.call("close")
	if e := f.File.Close(); err == nil {
		err = e
	}
	return err
}

// memoryFS is a file system that only the process knows.
type memoryFS struct{ fstest.MapFS }

// openMemory opens a folder in memory that has a segment with number 1.
func openMemory(t *testing.T, data []byte) *Dir {
	t.Helper()
	m := memoryFS{fstest.MapFS{"b/" + fileName(1): {Data: data}}}
	d, err := Open("b", m, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (m memoryFS) Create(path string) (File, error) {
	if m.MapFS[path] != nil {
		return nil, fs.ErrExist
	}
	m.MapFS[path] = &fstest.MapFile{}
	return memoryFile{MapFile: m.MapFS[path]}, nil
}

func (m memoryFS) Open(path string) (File, error) {
	f, err := m.MapFS.Open(path)
	return memoryFile{File: f}, err
}

func (m memoryFS) Rename(from, to string) error {
	m.MapFS[to] = m.MapFS[from]
	return m.Remove(from)
}

func (m memoryFS) Remove(path string) error {
	if m.MapFS[path] == nil {
		return fs.ErrNotExist
	}
	delete(m.MapFS, path)
	return nil
}

func (memoryFS) Mkdir(string, fs.FileMode) error { return nil }
func (memoryFS) SyncDir(string) error            { return nil }

// memoryFile has a File if it is read, a MapFile if it is written.
type memoryFile struct {
	fs.File
	*fstest.MapFile
}

func (f memoryFile) Write(b []byte) (int, error) {
	f.Data = append(f.Data, b...)
	return len(b), nil
}

func (memoryFile) Sync() error { return nil }

func (f memoryFile) Close() error {
	if f.File == nil {
		return nil
	}
	return f.File.Close()
}

var changes = []struct {
	name string
	do   func(d *Dir) error
	// undone tells that nothing is changed after an error.
	undone bool
}{
	{"write", func(d *Dir) error {
		_, err := d.Write(testHeader(3), segmentOf(testBlock(7), testBlock(8)))
		return err
	}, true},
	{"write much", func(d *Dir) error { // in several pieces
		big := make([]byte, 200<<10)
		_, err := d.Write(Header{}, func(write func([]byte) error) error {
			write(big) // the error must not be lost
			return write(big)
		})
		return err
	}, true},
	{"rewrite all", func(d *Dir) error {
		_, err := d.Rewrite(1, func(b *block.Block) (bool, error) {
			b.Flows = b.Flows[:1]
			return true, nil
		})
		return err
	}, false},
	{"rewrite the end", func(d *Dir) error {
		_, err := d.Rewrite(1, forget(3))
		return err
	}, false},
	{"set aside", func(d *Dir) error { return d.SetAside(1) }, false},
	{"remove", func(d *Dir) error { return d.Remove(2) }, false},
	{"remove aside", func(d *Dir) error { return d.RemoveAside(fileName(4) + ".damaged") }, false},
}

// someSegments makes a folder with two segments and one that was set aside.
func someSegments(t *testing.T) string {
	path := t.TempDir() + "/b"
	d := open(t, path)
	write(t, d, testHeader(1), testBlock(1), testBlock(2), testBlock(3))
	write(t, d, testHeader(2), testBlock(4))
	writeFile(t, path, fileName(4)+".damaged", []byte("x"))
	return path
}

func TestFailureLeavesOldOrNew(t *testing.T) {
	for _, change := range changes {
		path := someSegments(t)
		before := folder(t, path)
		if err := change.do(open(t, path)); err != nil {
			t.Fatal(err)
		}
		after := folder(t, path)
		if equal(before, after) {
			t.Fatalf("%s changes nothing", change.name)
		}
		for _, kind := range []struct {
			name  string
			err   error
			crash bool
		}{{"EIO", syscall.EIO, false}, {"ENOSPC", syscall.ENOSPC, false}, {"crash", syscall.EIO, true}} {
			t.Run(change.name+" "+kind.name, func(t *testing.T) {
				for n := 1; ; n++ {
					path := someSegments(t)
					f := &faultyFS{FS: OS{}, err: kind.err, crash: kind.crash}
					d, err := Open(path, f, quiet)
					if err != nil {
						t.Fatal(err)
					}
					f.calls, f.fail = nil, n
					err = change.do(d)
					failed, calls := f.failed(), strings.Join(f.calls, " ")
					f.fail = 0
					again := open(t, path)
					now := folder(t, path)
					switch {
					case !equal(now, before) && !equal(now, after):
						t.Fatalf("%s: the folder holds neither the old nor the new: %v", calls, names(now))
					case err == nil && !equal(now, after):
						t.Fatalf("%s: no error but nothing changed", calls)
					case err != nil && change.undone && !kind.crash && !equal(now, before):
						t.Fatalf("%s: %v, but it is done", calls, err)
					case !slices.Equal(d.Segments(), again.Segments()) || !slices.Equal(d.Aside(), again.Aside()):
						t.Fatalf("%s: it knows of %v, %v; there are %v, %v", calls,
							d.Segments(), d.Aside(), again.Segments(), again.Aside())
					}
					if _, err := d.Write(Header{}, segmentOf()); err != nil {
						t.Fatalf("%s: then write: %v", calls, err)
					}
					if got := len(folder(t, path)); got != len(now)+1 {
						t.Fatalf("%s: %d files became %d by a write", calls, len(now), got)
					}
					if !failed {
						return
					}
				}
			})
		}
	}
}

// A single failed call leaves nothing that the next start would have to clear.
func TestFailureLeavesNoRest(t *testing.T) {
	for n := 1; ; n++ {
		path := someSegments(t)
		f := &faultyFS{FS: OS{}, err: syscall.ENOSPC}
		d, err := Open(path, f, quiet)
		if err != nil {
			t.Fatal(err)
		}
		before := folder(t, path)
		f.calls, f.fail = nil, n
		_, err = d.Write(testHeader(3), segmentOf(testBlock(7)))
		if !f.failed() {
			return
		}
		if now := folder(t, path); err != nil && !equal(now, before) {
			t.Fatalf("%v: %v", f.calls, names(now))
		}
	}
}

func TestOrderOfCalls(t *testing.T) {
	path := t.TempDir() + "/b"
	f := &faultyFS{FS: OS{}}
	d, err := Open(path, f, quiet)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		if got := strings.Join(f.calls, " "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		f.calls = nil
	}
	check("readdir")
	write(t, d, testHeader(1), testBlock(1))
	check("readdir mkdir syncdir create write sync close rename syncdir")
	write(t, d, testHeader(2), testBlock(2))
	check("readdir create write sync close rename syncdir")
	if _, err := d.Rewrite(2, forget(2)); err != nil {
		t.Fatal(err)
	}
	f.calls = slices.DeleteFunc(f.calls, func(s string) bool { return s == "read" || s == "stat" })
	check("readdir open open create close write sync close rename syncdir close")
	if err := d.Remove(2); err != nil {
		t.Fatal(err)
	}
	check("remove syncdir")
}

func TestOpenThatCannotRead(t *testing.T) {
	for n := 1; ; n++ {
		path := someSegments(t)
		before := folder(t, path)
		f := &faultyFS{FS: OS{}, fail: n, err: syscall.EIO}
		d, err := Open(path, f, quiet)
		if !f.failed() {
			if n < 8 {
				t.Fatalf("only %d calls", n-1)
			}
			return
		}
		if n == 1 {
			if err == nil {
				t.Fatal("no error although the folder cannot be listed")
			}
			continue
		}
		if err != nil || len(d.Segments()) != 2 {
			t.Fatalf("%v: %v", f.calls, err)
		}
		if f.calls[n-1] != "close" {
			if s := d.Segments(); (s[0].Err == nil) == (s[1].Err == nil) {
				t.Errorf("%v: %v", f.calls, s)
			}
		}
		if !equal(folder(t, path), before) {
			t.Errorf("%v: the folder was changed", f.calls)
		}
	}
}

func TestFailureToMakeTheFolder(t *testing.T) {
	for n := 1; ; n++ {
		path := t.TempDir() + "/b"
		f := &faultyFS{FS: OS{}}
		d, err := Open(path, f, quiet)
		if err != nil {
			t.Fatal(err)
		}
		f.calls, f.fail, f.err = nil, n, syscall.ENOSPC
		_, err = d.Write(testHeader(1), segmentOf(testBlock(1)))
		if !f.failed() {
			return
		}
		if files := folder(t, path); err == nil || len(files) != 0 || len(d.Segments()) != 0 {
			t.Fatalf("%v: %v, files %v", f.calls, err, names(files))
		}
		write(t, d, testHeader(1), testBlock(1))
	}
}

// The folder around it may be a drive that is not mounted.
func TestWriteWithoutTheFolderAround(t *testing.T) {
	parent := t.TempDir() + "/srv"
	d := open(t, parent+"/b")
	if _, err := d.Write(testHeader(1), segmentOf(testBlock(1))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was made", parent)
	}
}

// What cannot be read now may be whole.
func TestFailureToReadIsNotDamage(t *testing.T) {
	path := t.TempDir()
	large := make([]byte, 100<<10) // more than is read at once
	d := open(t, path)
	if _, err := d.Write(testHeader(1), func(write func([]byte) error) error {
		if err := segmentOf(testBlock(1))(write); err != nil {
			return err
		}
		if err := write(large); err != nil { // no block: it is damaged
			return err
		}
		return segmentOf(testBlock(2))(write)
	}); err != nil {
		t.Fatal(err)
	}
	before := folder(t, path)
	for name, do := range map[string]func(d *Dir) error{
		"read":    func(d *Dir) error { _, err := readAll(d, 1); return err },
		"header":  func(d *Dir) error { _, err := d.Header(1); return err },
		"rewrite": func(d *Dir) error { _, err := d.Rewrite(1, forget(2)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				writeFile(t, path, fileName(1), []byte(before[fileName(1)]))
				f := &faultyFS{FS: OS{}}
				d, err := Open(path, f, quiet)
				if err != nil {
					t.Fatal(err)
				}
				f.calls, f.fail, f.err = nil, n, syscall.EIO
				err = do(d)
				if !f.failed() {
					return
				}
				switch last := f.calls[n-1]; last {
				case "open", "stat", "read", "readdir":
					if !errors.Is(err, syscall.EIO) || errors.Is(err, ErrDamaged) {
						t.Fatalf("%v: %v", f.calls, err)
					}
					if !equal(folder(t, path), before) {
						t.Fatalf("%v: files %v", f.calls, names(folder(t, path)))
					}
				}
			}
		})
	}
}
