package inotify

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

// watching watches paths until the test ends. What it returns waits for a path
// to be told.
func watching(t *testing.T, paths ...string) (await func(path, what string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan string, 1000), make(chan error, 1)
	go func() { ended <- Watch(ctx, paths, func(path string) { told <- path }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	deadline := time.After(limits.For(30 * time.Second))
	await = func(path, what string) {
		t.Helper()
		for {
			select {
			case p := <-told:
				if p == path {
					return
				}
				t.Fatalf("%s: %s is told", what, p)
			case <-deadline:
				t.Fatalf("%s is not told", what)
			}
		}
	}
	return await
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	do(t, os.WriteFile(path, []byte(text), 0o600))
}

// TestFile does to a file what programs do. Each change must be told, and nothing
// else: a change that is told twice would answer for the next one.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dhcp.leases")
	await := watching(t, path)
	await(path, "the beginning")

	kept, err := os.Create(path)
	do(t, err)
	await(path, "a new file")
	for _, text := range []string{"a", "b"} { // as dnsmasq writes it, open all the time
		do(t, kept.Truncate(0))
		_, err := kept.WriteAt([]byte(text), 0)
		do(t, err)
		await(path, "a write in place")
	}
	do(t, os.Chmod(path, 0o644))
	await(path, "a change of its mode")
	for range 3 { // as odhcpd writes it
		write(t, path+".tmp", "c")
		do(t, os.Rename(path+".tmp", path))
		await(path, "a new file in its place")
	}
	do(t, kept.Close())
	write(t, path, "d")
	await(path, "a write into the new file")
	kept, err = os.Open(path)
	do(t, err)
	do(t, os.Remove(path))
	await(path, "the removal of a file that is open")
	do(t, kept.Close())
	write(t, path, "e")
	await(path, "the file made again")
	do(t, os.Rename(path, path+".old"))
	await(path, "the file moved away")
	do(t, os.Rename(path+".old", path))
	await(path, "the file moved back")
	write(t, path, "f")
	await(path, "a write after that")
}

// TestQuietNeighbours shows that what happens beside the file is not told.
func TestQuietNeighbours(t *testing.T) {
	for _, there := range []bool{true, false} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		if there {
			write(t, path, "")
		}
		w := armed(t, path)
		beside := filepath.Join(dir, "beside")
		write(t, beside, "x")
		do(t, os.Rename(beside, beside+"2"), os.Remove(beside+"2"))
		if touch, stale := w.judge(pending(t, w)); touch || stale {
			t.Errorf("file there: %v; what happened beside it counts", there)
		}
		write(t, path, "y")
		if touch, _ := w.judge(pending(t, w)); !touch {
			t.Errorf("file there: %v; its own change does not count", there)
		}
	}
}

// TestBusyFolder has a file that is there in a folder where others come and go:
// the kernel is not to wake anyone for them.
func TestBusyFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	write(t, path, "")
	w := armed(t, path)
	pending(t, w)
	beside := filepath.Join(dir, "beside")
	write(t, beside, "x")
	do(t, os.Remove(beside))
	if events := pending(t, w); len(events) > 0 {
		t.Errorf("%d bytes of events", len(events))
	}
}

func armed(t *testing.T, path string) *watched {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	do(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	w := &watched{fd: fd, path: path}
	do(t, w.arm())
	return w
}

// pending are the events that wait.
func pending(t *testing.T, w *watched) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Read(w.fd, buf)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	do(t, err)
	return buf[:n]
}

// TestLaterFolders waits for a file whose folders are not there yet.
func TestLaterFolders(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts", "deep", "odhcpd")
	await := watching(t, path)
	await(path, "the beginning")
	do(t, os.Mkdir(filepath.Join(dir, "hosts"), 0o700))
	await(path, "the first folder")
	do(t, os.Mkdir(filepath.Join(dir, "hosts", "deep"), 0o700))
	await(path, "the second folder")
	write(t, path, "x")
	await(path, "the file")
	do(t, os.Rename(filepath.Join(dir, "hosts"), filepath.Join(dir, "old")))
	await(path, "a folder above it moved away")
	do(t, os.MkdirAll(filepath.Dir(path), 0o700))
	write(t, path, "y")
	await(path, "all made at once")
	do(t, os.RemoveAll(filepath.Join(dir, "hosts")))
	await(path, "all removed at once")
	do(t, os.WriteFile(filepath.Join(dir, "hosts"), nil, 0o600))
	await(path, "a file where the folder was")
	do(t, os.Remove(filepath.Join(dir, "hosts")), os.MkdirAll(filepath.Dir(path), 0o700))
	await(path, "the folder again")
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lists")
	await := watching(t, dir)
	await(dir, "the beginning")
	do(t, os.Mkdir(dir, 0o700))
	await(dir, "the folder")
	path := filepath.Join(dir, "a.conf")
	write(t, path, "x")
	await(dir, "a file in it")
	write(t, path, "y")
	await(dir, "a write to a file in it")
	do(t, os.Chmod(path, 0o644))
	await(dir, "a change of a file's mode")
	do(t, os.Rename(path, filepath.Join(dir, "b.conf")))
	await(dir, "a renamed file")
	do(t, os.Rename(filepath.Join(dir, "b.conf"), filepath.Join(filepath.Dir(dir), "b.conf")))
	await(dir, "a file moved out")
	do(t, os.Rename(filepath.Join(filepath.Dir(dir), "b.conf"), path))
	await(dir, "a file moved in")
	do(t, os.Remove(path))
	await(dir, "a removed file")
	do(t, os.Remove(dir))
	await(dir, "the removed folder")
	do(t, os.Mkdir(dir, 0o700))
	await(dir, "the folder made again")
	write(t, path, "z")
	await(dir, "a file in the new folder")
}

// TestSharedFolder has paths that need watches of the same folders.
func TestSharedFolder(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan string, 100), make(chan error, 1)
	go func() { ended <- Watch(ctx, []string{a, dir, b, a}, func(path string) { told <- path }) }()
	both := func(what string, want ...string) {
		t.Helper()
		missing := make(map[string]bool)
		for _, path := range want {
			missing[path] = true
		}
		for len(missing) > 0 {
			select {
			case p := <-told:
				if !missing[p] {
					t.Fatalf("%s: %s is told", what, p)
				}
				delete(missing, p)
			case <-time.After(limits.For(30 * time.Second)):
				t.Fatalf("%s: not told: %v", what, missing)
			}
		}
	}
	both("the beginning", a, b, dir)
	write(t, a, "")
	both("a appears", a, dir)
	write(t, b, "")
	both("b appears", b, dir)
	write(t, a, "x")
	both("a is written", a, dir)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watch(ctx, []string{t.TempDir()}, func(string) {}); err != nil {
		t.Error(err)
	}
	if err := Watch(ctx, nil, func(string) {}); err != nil {
		t.Error(err)
	}
}

func TestGather(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		touches []time.Duration // when something happens
		want    []time.Duration // when it is told
	}{
		{"one", []time.Duration{0}, []time.Duration{100 * ms}},
		{"a few", []time.Duration{0, 50 * ms, 120 * ms}, []time.Duration{220 * ms}},
		{"two that are apart", []time.Duration{0, 150 * ms}, []time.Duration{100 * ms, 250 * ms}},
		{
			"one after the other",
			[]time.Duration{0, 90 * ms, 180 * ms, 270 * ms, 360 * ms, 450 * ms, 540 * ms},
			[]time.Duration{500 * ms, 640 * ms},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				touched, ended := make(chan string), make(chan struct{})
				begin := time.Now()
				var got []time.Duration
				go func() {
					defer close(ended)
					gather(ctx, touched, func(string) { got = append(got, time.Since(begin)) })
				}()
				for _, at := range tt.touches {
					<-time.After(time.Until(begin.Add(at)))
					touched <- "path"
				}
				<-time.After(time.Second)
				cancel()
				<-ended
				if len(got) != len(tt.want) {
					t.Fatalf("told at %v, want %v", got, tt.want)
				}
				for i := range got {
					if got[i] != tt.want[i] {
						t.Fatalf("told at %v, want %v", got, tt.want)
					}
				}
			})
		})
	}
}

func TestJudge(t *testing.T) {
	const target, folder, other = 1, 2, 3
	for _, tt := range []struct {
		name         string
		e            event
		touch, stale bool
	}{
		{"overflow", event{-1, unix.IN_Q_OVERFLOW, ""}, true, true},
		{"of an ended watch", event{9, unix.IN_DELETE_SELF, ""}, false, false},
		{"a folder above moved", event{other, unix.IN_MOVE_SELF, ""}, true, true},
		{"written", event{target, unix.IN_MODIFY, ""}, true, false},
		{"unlinked", event{target, unix.IN_ATTRIB, ""}, true, true},
		{"a file in it", event{target, unix.IN_ATTRIB, "x"}, true, false},
		{"appeared", event{folder, unix.IN_CREATE, "next"}, true, true},
		{"moved there", event{folder, unix.IN_MOVED_TO | unix.IN_ISDIR, "next"}, true, true},
		{"something else appeared", event{folder, unix.IN_CREATE, "nextt"}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &watched{marks: map[int32]bool{target: true, folder: true, other: true}, target: target, folder: folder, next: "next"}
			if touch, stale := w.judge(encode(tt.e)); touch != tt.touch || stale != tt.stale {
				t.Errorf("touch %v, stale %v", touch, stale)
			}
		})
	}
}

func encode(e event) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(e.mark))
	b = binary.NativeEndian.AppendUint32(b, e.mask)
	b = binary.NativeEndian.AppendUint32(b, 0)
	name := append([]byte(e.name), make([]byte, 16-len(e.name)%16)...)
	if e.name == "" {
		name = nil
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	return append(b, name...)
}

func FuzzParse(f *testing.F) {
	whole := encode(event{1, unix.IN_CREATE, "name"})
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:15])
	f.Add(append(encode(event{-1, unix.IN_Q_OVERFLOW, ""}), whole...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			e, n := parse(b)
			if n == 0 {
				return
			}
			if n < unix.SizeofInotifyEvent || n > len(b) || len(e.name) > n-unix.SizeofInotifyEvent {
				t.Fatalf("%d bytes of %d, name %q", n, len(b), e.name)
			}
			b = b[n:]
		}
	})
}
