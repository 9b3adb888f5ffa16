// Package inotify tells when files and folders change, appear or disappear. It
// reads none of them: what changed, and whether it matters, its callers find
// out. A file costs nothing while it rests: as long as it is there, nothing
// else of its folder is watched, however busy that is.
package inotify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Changes that follow each other are told together: quiet after the last of
// them, and no later than longest after the first.
const (
	quiet   = 100 * time.Millisecond
	longest = 500 * time.Millisecond
)

// Watch calls changed with a path of paths after the file there was written,
// attributes of it changed, or it appeared, disappeared or was replaced; for a
// folder, after any of this happened to a file in it. It is called for each path
// at the beginning as well, once the path is watched: who reads it then misses
// nothing. A path that is not there is waited for, as are its folders; a link is
// followed to what it led to when it was last looked at.
//
// changed is called by one goroutine at a time: 100 ms after the last change of
// the path, and at most 500 ms after the first that it was not yet told of. Watch
// returns nil once ctx has ended, and an error if paths can not be watched any more.
func Watch(ctx context.Context, paths []string, changed func(path string)) error {
	g, ctx := errgroup.WithContext(ctx)
	touched := make(chan string)
	for _, path := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		g.Go(func() error {
			if err := follow(ctx, path, touched); err != nil {
				return fmt.Errorf("watch %s: %w", path, err)
			}
			return nil
		})
	}
	g.Go(func() error {
		gather(ctx, touched, changed)
		return nil
	})
	return g.Wait()
}

// burst is when the changes of a path that are not yet told began, and when the
// last of them was.
type burst struct{ first, last time.Time }

func (b burst) due() time.Time {
	due, latest := b.last.Add(quiet), b.first.Add(longest)
	if latest.Before(due) {
		return latest
	}
	return due
}

// gather puts changes together and tells them.
func gather(ctx context.Context, touched <-chan string, changed func(string)) {
	bursts := make(map[string]burst)
	timer := time.NewTimer(0)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case path := <-touched:
			b, known := bursts[path]
			b.last = time.Now()
			if !known {
				b.first = b.last
			}
			bursts[path] = b
		case <-timer.C:
			for path, b := range bursts {
				if !time.Now().Before(b.due()) && ctx.Err() == nil {
					delete(bursts, path)
					changed(path)
				}
			}
		}
		var next time.Time
		for _, b := range bursts {
			if due := b.due(); next.IsZero() || due.Before(next) {
				next = due
			}
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

const (
	gone     = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_UNMOUNT | unix.IN_IGNORED
	appeared = unix.IN_CREATE | unix.IN_MOVED_TO

	ofTarget  = unix.IN_MODIFY | unix.IN_ATTRIB | appeared | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	ofFolder  = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR // of a folder above what is watched
	ofWaiting = ofFolder | appeared                                       // of the folder in which it is to appear
)

// watched is one path and the watches for it.
type watched struct {
	fd     int
	path   string
	marks  map[int32]bool // the watch descriptors of the path and the folders above it
	target int32          // that of the path itself, -1 if it is not there
	folder int32          // that of the folder in which the next part of the path is to appear, else -1
	next   string         // the name of that part
}

// follow sends path to touched when something happened to it, until ctx ends.
func follow(ctx context.Context, path string, touched chan<- string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("start inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("read inotify: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	w := &watched{fd: fd, path: absolute}
	buf := make([]byte, 16*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	stale, touch := true, false
	for {
		if stale {
			if err := w.arm(); err != nil {
				return err
			}
			stale, touch = false, true
		} else {
			n, err := f.Read(buf)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read events: %w", err)
			}
			touch, stale = w.judge(buf[:n])
		}
		if !touch || stale {
			continue // what is stale is told once it is watched again
		}
		select {
		case touched <- path:
		case <-ctx.Done():
			return nil
		}
	}
}

// arm watches the path as it is now: the path itself and, only for whether they
// are still there, the folders above it; or as much of it as there is. A folder
// is watched for its next part before that is looked for, and no more once that
// was found.
func (w *watched) arm() error {
	before := w.marks
	w.marks, w.target, w.folder = make(map[int32]bool), -1, -1
	parts := []string{w.path}
	for p := w.path; p != "/"; {
		p = filepath.Dir(p)
		parts = append(parts, p)
	}
	slices.Reverse(parts)
	for i, part := range parts {
		mask := uint32(ofWaiting)
		if part == w.path {
			mask = ofTarget
		}
		id, err := unix.InotifyAddWatch(w.fd, part, mask)
		if err != nil {
			if i == 0 || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) {
				return fmt.Errorf("watch %s: %w", part, err)
			}
			break // it is not there, or not to be had
		}
		mark := int32(id)
		if w.folder >= 0 && w.folder != mark {
			// Where that folder was replaced meanwhile, an event tells of it.
			if id, err := unix.InotifyAddWatch(w.fd, parts[i-1], ofFolder); err == nil {
				w.marks[int32(id)] = true
			}
		}
		w.marks[mark] = true
		if part == w.path {
			w.target, w.folder = mark, -1
		} else {
			w.folder, w.next = mark, filepath.Base(parts[i+1])
		}
	}
	for mark := range before {
		if !w.marks[mark] {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(mark)) // as a rule it has ended by itself
		}
	}
	return nil
}

// judge tells of events whether something happened to the path, and whether it
// is to be watched anew.
func (w *watched) judge(b []byte) (touch, stale bool) {
	for len(b) > 0 {
		e, n := parse(b)
		if n == 0 {
			return true, true
		}
		b = b[n:]
		switch {
		case e.mask&unix.IN_Q_OVERFLOW != 0: // anything may have happened
			stale = true
		case !w.marks[e.mark]: // of a watch that has ended
		case e.mask&gone != 0:
			stale = true
		case e.mark == w.folder:
			stale = stale || e.mask&appeared != 0 && e.name == w.next
		case e.mark == w.target:
			// The number of its links is an attribute: it may have been removed
			// while a program has it open.
			stale = stale || e.mask&unix.IN_ATTRIB != 0 && e.name == ""
			touch = true
		}
	}
	return touch || stale, stale
}

type event struct {
	mark int32
	mask uint32
	name string // in a folder; "" if the event is of the watched thing itself
}

// parse reads the event at the beginning of b, and how many bytes it has: 0 if
// it is not whole.
func parse(b []byte) (e event, n int) {
	if len(b) < unix.SizeofInotifyEvent {
		return event{}, 0
	}
	name := binary.NativeEndian.Uint32(b[12:])
	if uint64(name) > uint64(len(b)-unix.SizeofInotifyEvent) {
		return event{}, 0
	}
	n = unix.SizeofInotifyEvent + int(name)
	return event{
		mark: int32(binary.NativeEndian.Uint32(b)),
		mask: binary.NativeEndian.Uint32(b[4:]),
		name: unix.ByteSliceToString(b[unix.SizeofInotifyEvent:n]),
	}, n
}
