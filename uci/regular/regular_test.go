package regular

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

// inTime fails the test if f takes long, as it does where it waits for something.
func inTime(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limits.For(10 * time.Second)):
		t.Fatal("it does not end")
	}
}

func TestRead(t *testing.T) {
	const most = 1000
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write("file", "text")
	write("largest", strings.Repeat("x", most))
	write("larger", strings.Repeat("x", most+1))
	write("huge", "text")
	must(os.Truncate(at("huge"), 1<<40))
	must(unix.Mkfifo(at("fifo"), 0o600))
	must(os.Mkdir(at("folder"), 0o700))
	for link, to := range map[string]string{
		"link": "file", "link to fifo": "fifo", "zero": "/dev/zero", "loop": "loop", "kernel's": "/proc/self/maps",
		"dangling": "nowhere",
	} {
		must(os.Symlink(to, at(link)))
	}
	l, err := net.Listen("unix", at("socket"))
	must(err)
	defer l.Close()
	for name, want := range map[string]string{
		"file": "", "largest": "", "link": "",
		"larger": "larger than 1000 bytes", "huge": "larger than 1000 bytes", "kernel's": "larger than 1000 bytes",
		"fifo": ErrNotRegular.Error(), "link to fifo": ErrNotRegular.Error(), "folder": ErrNotRegular.Error(), "zero": ErrNotRegular.Error(),
		"socket": "no such device", "loop": "too many levels", "none": "no such file", "dangling": "no such file",
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func() {
				b, err := Read(at(name), most)
				if fmt.Sprint(err) != "<nil>" && want == "" || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("the error is %v, want %q", err, want)
				}
				if err != nil && !strings.Contains(err.Error(), at(name)) {
					t.Errorf("%v does not name the file", err)
				}
				if text, _ := os.ReadFile(at("file")); name == "file" && string(b) != string(text) {
					t.Errorf("read %q", b)
				}
			})
		})
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"none": nil, "file": nil, "fifo": ErrNotRegular, ".": ErrNotRegular} {
		if err := Check(filepath.Join(dir, name)); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCreate: what is in the place of the file is replaced, not written to.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("other"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("other", at("link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"none", "fifo", "link"} {
		inTime(t, func() {
			f, err := Create(at(name))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer f.Close()
			if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		})
	}
	if err := os.Mkdir(at("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(at("folder")); err == nil || !strings.Contains(err.Error(), at("folder")) {
		t.Errorf("in place of a folder: %v", err)
	}
	if b, err := os.ReadFile(at("other")); string(b) != "other" {
		t.Errorf("what the link led to is %q, %v", b, err)
	}
}

func TestDirFS(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a", "sub/c"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := DirFS(dir)
	b, err := fs.ReadFile(tree, "sub/c")
	if string(b) != "sub/c" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	entries, err := fs.ReadDir(tree, ".")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"a", "b", "fifo", "sub"}; !reflect.DeepEqual(names, want) || err != nil {
		t.Errorf("%v, %v", names, err)
	}
	for name, want := range map[string]error{"../a": fs.ErrInvalid, "none": fs.ErrNotExist, "fifo": ErrNotRegular, "sub": ErrNotRegular} {
		inTime(t, func() {
			if _, err := tree.Open(name); !errors.Is(err, want) {
				t.Errorf("open %s: %v", name, err)
			}
		})
	}
	if _, err := fs.ReadDir(tree, "fifo"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("list a FIFO: %v", err)
	}
}

func TestFullFolder(t *testing.T) {
	dir := t.TempDir()
	for i := range maxEntries {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := ReadDir(dir); len(entries) != maxEntries || err != nil {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDir(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("the error is %v", err)
	}
}
