package newclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pakon/uci/regular"
)

const (
	maxPrograms = 64
	maxOutput   = 1 << 10 // bytes of a program's output that are kept
	maxLines    = 4       // lines of it that are logged
	// leftOpen is for how long the output of a program that has ended is waited
	// for: another that it has left running may hold it.
	leftOpen = 500 * time.Millisecond
)

// programs are the programs in the folder that may be run, in order of name.
func (a *Announcer) programs() []string {
	entries, err := regular.ReadDir(a.Folder)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.Log.Warn("the programs for new devices can not be listed", "err", err)
		}
		return nil
	}
	if i, err := os.Stat(a.Folder); err != nil || !trusted(i) {
		if len(entries) > 0 {
			a.Log.Warn("programs for new devices are not run: others may write their folder", "folder", a.Folder)
		}
		return nil
	}
	var paths []string
	for _, e := range entries {
		path := filepath.Join(a.Folder, e.Name())
		i, err := os.Lstat(path)
		switch {
		case err != nil || !i.Mode().IsRegular() || i.Mode()&0o100 == 0:
			continue
		case !trusted(i):
			a.Log.Warn("a program for new devices is not run: others own it or may write it", "path", path)
			continue
		case len(paths) == maxPrograms:
			a.Log.Warn("there are too many programs for new devices", "folder", a.Folder, "limit", maxPrograms)
			return paths
		}
		paths = append(paths, path)
	}
	return paths
}

// trusted tells whether a file can only be written by root and whom the daemon
// runs as.
func trusted(i fs.FileInfo) bool {
	s, ok := i.Sys().(*syscall.Stat_t)
	if !ok || s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return false
	}
	own := s.Gid == 0 || int(s.Gid) == os.Getegid()
	return i.Mode()&0o002 == 0 && (own || i.Mode()&0o020 == 0)
}

// there tells whether there is a program.
func there(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.Mode().IsRegular() && i.Mode()&0o111 != 0
}

// run runs a program to its end, and kills it with all that it has started if it
// takes too long. What failed is logged.
func (a *Announcer) run(ctx context.Context, env []string, path string, args ...string) {
	if ctx.Err() != nil {
		a.Log.Warn("the daemon ends: a program for a new device is not run", "path", path)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	var out output
	c := exec.CommandContext(ctx, path, args...)
	c.Env, c.Dir, c.Stdout, c.Stderr, c.WaitDelay = env, "/", &out, &out, leftOpen
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	err := c.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended well, another holds its output
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("it was killed: %w", ctx.Err())
	}
	if err != nil {
		a.Log.Warn("a program for a new device failed", "path", path, "err", err, "output", out.String())
	}
}

// output keeps the beginning of what a program says.
type output struct{ kept bytes.Buffer }

func (o *output) Write(p []byte) (int, error) {
	o.kept.Write(p[:min(len(p), maxOutput-o.kept.Len())])
	return len(p), nil
}

// String is its first lines, made one.
func (o *output) String() string {
	lines := strings.SplitN(strings.TrimSpace(strings.ToValidUTF8(o.kept.String(), "?")), "\n", maxLines+1)
	return strings.Join(lines[:min(len(lines), maxLines)], "; ")
}
