package suricata

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// logTail follows a log file that others append to.
type logTail struct {
	path   string
	file   *os.File
	offset int64
	rest   []byte // begun line
	skip   bool   // the begun line is too long: drop its end
}

const (
	// maxLogLine bounds a line, in bytes; the rest of a longer one is left out.
	maxLogLine = 4 << 10
	// maxLogFile is the size, in bytes, beyond which the file is emptied once it is read: it lies in RAM.
	maxLogFile = 256 << 10
	// maxLogOld bounds what is read of a log found at the start, in bytes.
	maxLogOld = 64 << 10
)

func (t *logTail) close() {
	if t.file != nil {
		_ = t.file.Close() // only read
	}
}

// open opens the file, or its successor of the same name. A missing file is not an error, and nothing is open then.
func (t *logTail) open() error {
	now, err := os.Stat(t.path)
	if t.file != nil {
		was, errWas := t.file.Stat()
		if err == nil && errWas == nil && os.SameFile(was, now) {
			return nil
		}
		t.close()
		t.file, t.offset, t.rest, t.skip = nil, 0, nil, false
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	t.file, err = os.OpenFile(t.path, os.O_RDWR, 0) // writing: to empty it
	return err
}

// read hands each whole new line, without its end, to f. Lines written while it reads are read too, up to maxLogFile
// bytes a call: more tells whether to come again.
func (t *logTail) read(f func(line string)) (more bool, err error) {
	if err := t.open(); err != nil || t.file == nil {
		return false, err
	}
	st, err := t.file.Stat()
	if err != nil {
		return false, err
	}
	if st.Size() < t.offset { // emptied by somebody
		t.offset, t.rest, t.skip = 0, nil, false
	}
	buf := make([]byte, 8<<10)
	for total := 0; total < maxLogFile; {
		n, err := t.file.ReadAt(buf, t.offset)
		t.offset += int64(n)
		total += n
		t.split(buf[:n], f)
		if errors.Is(err, io.EOF) {
			return false, t.shorten()
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// fromEnd makes the next read begin at most maxLogOld bytes before the end.
func (t *logTail) fromEnd() error {
	if err := t.open(); err != nil || t.file == nil {
		return err
	}
	st, err := t.file.Stat()
	if err != nil {
		return err
	}
	if st.Size() > maxLogOld {
		t.offset = st.Size() - maxLogOld
		t.skip = true // what is left of a line
	}
	return nil
}

// shorten empties a long file that is read to its end. The writers append, so they go on at the beginning.
func (t *logTail) shorten() error {
	if t.offset < maxLogFile {
		return nil
	}
	st, err := t.file.Stat()
	if err != nil || st.Size() != t.offset {
		return err
	}
	if err := t.file.Truncate(0); err != nil {
		return err
	}
	t.offset = 0
	return nil
}

func (t *logTail) split(b []byte, f func(string)) {
	for len(b) > 0 {
		part, after, end := bytes.Cut(b, []byte("\n"))
		b = after
		if room := maxLogLine - len(t.rest); !t.skip {
			t.rest = append(t.rest, part[:min(room, len(part))]...)
		}
		if !end {
			return
		}
		if line := string(bytes.TrimRight(t.rest, "\r")); line != "" && !t.skip {
			f(line)
		}
		t.rest, t.skip = t.rest[:0], false
	}
}

// watchFile signals on changed (capacity 1) whenever the file is written to or replaced, until ctx ends.
func watchFile(ctx context.Context, path string, changed chan<- struct{}) error {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watching %s: %w", path, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	dir, name := filepath.Split(path)
	const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, filepath.Clean(dir), mask); err != nil {
		_ = events.Close()
		return fmt.Errorf("watching %s: %w", dir, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer func() {
		if stop() {
			_ = events.Close()
		}
	}()
	// The watch stands: what was written before it is seen now.
	notify(changed)
	buf := make([]byte, 16*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	for {
		n, err := events.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watching %s: %w", path, err)
		}
		if inotifyNames(buf[:n], name) {
			notify(changed)
		}
	}
}

// inotifyNames tells whether one of the events is about the file of that name, or events were lost.
func inotifyNames(b []byte, name string) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		e := inotifyEvent(b)
		end := unix.SizeofInotifyEvent + int(e.length)
		if end > len(b) {
			return true
		}
		got, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:end], []byte{0})
		if e.mask&unix.IN_Q_OVERFLOW != 0 || string(got) == name {
			return true
		}
		b = b[end:]
	}
	return false
}

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

type inotifyHead struct{ mask, length uint32 }

// inotifyEvent reads the fixed part of an event, which is in the machine's byte order (inotify(7)).
func inotifyEvent(b []byte) inotifyHead {
	return inotifyHead{mask: binary.NativeEndian.Uint32(b[4:]), length: binary.NativeEndian.Uint32(b[12:])}
}
