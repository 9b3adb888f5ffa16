package suricata

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pakon/tests/limits"
)

// script writes an executable shell script.
func script(t *testing.T, path, body string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	// No fork while the file is open for writing: a child would hold it open, and it could not be executed.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// newChild returns a Child, run until the returned function is called.
func newChild(t *testing.T, record string) (*Child, func()) {
	t.Helper()
	c := NewChild(record, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	ended := false
	end := func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(end)
	return c, end
}

// await waits until the state is as wanted.
func await(t *testing.T, s Service, want func(ServiceState) bool) ServiceState {
	t.Helper()
	timeout := time.After(limits.For(30 * time.Second))
	for {
		if st := s.State(); want(st) {
			return st
		}
		select {
		case <-s.Changes():
		case <-timeout:
			t.Fatalf("waited in vain; state %+v", s.State())
		}
	}
}

// gone tells whether the process has ended; one that ended as our child is reaped.
func gone(pid int) bool {
	var ws syscall.WaitStatus
	if n, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); err == nil && n == pid {
		return true
	}
	return syscall.Kill(pid, 0) != nil
}

func start(t *testing.T, c *Child, spec Spec) ServiceState {
	t.Helper()
	if _, err := c.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	st := c.State()
	if !st.Running || st.PID == 0 || time.Since(st.Since) > time.Minute || time.Until(st.Since) > time.Second {
		t.Fatalf("after the start: %+v", st)
	}
	return st
}

// about tells whether two readings of a process' start can be the same.
func about(a, b time.Time) bool { return a.Sub(b).Abs() < time.Second }

func stop(t *testing.T, c *Child) {
	t.Helper()
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := c.State(); st.Running || st.PID != 0 {
		t.Errorf("after the stop: %+v", st)
	}
}

func childSpec(t *testing.T, body string) (Spec, string) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Command:     []string{script(t, filepath.Join(dir, "program"), body), "argument"},
		Files:       []string{conf},
		Output:      filepath.Join(dir, "out"),
		TermTimeout: 10 * time.Second,
	}, filepath.Join(dir, "pid")
}

func TestChildStartsOnceAndReplacesWhatChanged(t *testing.T) {
	t.Parallel()
	spec, record := childSpec(t, `echo "got $1"; exec sleep 1000`)
	c, _ := newChild(t, record)
	first := start(t, c, spec)
	if again := start(t, c, spec); again != first {
		t.Errorf("%+v became %+v though nothing changed", first, again)
	}
	if pgid, err := syscall.Getpgid(first.PID); err != nil || pgid != first.PID {
		t.Errorf("process group %d, error %v; want its own, %d", pgid, err, first.PID)
	}
	if err := os.WriteFile(spec.Files[0], []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := start(t, c, spec)
	if second.PID == first.PID || !gone(first.PID) {
		t.Errorf("another content of its file: want process %d replaced, got %d", first.PID, second.PID)
	}
	spec.Command = append(spec.Command, "another")
	third := start(t, c, spec)
	if third.PID == second.PID || !gone(second.PID) {
		t.Errorf("another command: want process %d replaced, got %d", second.PID, third.PID)
	}
	stop(t, c)
	stop(t, c) // none running: no error
	if st := c.State(); st.Exits != 0 || st.Exit != "" {
		t.Errorf("what was asked for counts as unasked: %+v", st)
	}
	if _, err := os.Stat(record); err == nil {
		t.Error("the record of the process remains")
	}
}

func TestChildOutput(t *testing.T) {
	t.Parallel()
	spec, record := childSpec(t, `echo out; echo err >&2; exit 3`)
	c, _ := newChild(t, record)
	if err := os.WriteFile(spec.Output, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if started, err := c.Start(t.Context(), spec); err != nil || !started {
		t.Fatal(started, err)
	}
	st := await(t, c, func(s ServiceState) bool { return s.Exits == 1 })
	if st.Running || st.PID != 0 || st.Exit != "exit status 3" {
		t.Errorf("state %+v", st)
	}
	got, err := os.ReadFile(spec.Output)
	if err != nil || string(got) != "before\nout\nerr\n" {
		t.Errorf("output %q, %v", got, err)
	}
}

func TestChildThatIgnoresSIGTERMIsKilled(t *testing.T) {
	t.Parallel()
	spec, record := childSpec(t, `trap '' TERM; echo deaf; exec sleep 1000`)
	spec.TermTimeout = 200 * time.Millisecond
	c, _ := newChild(t, record)
	st := start(t, c, spec)
	awaitFile(t, spec.Output, "deaf")
	stop(t, c)
	if !gone(st.PID) {
		t.Errorf("process %d lives", st.PID)
	}
}

// awaitFile waits until the file holds the text.
func awaitFile(t *testing.T, path, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limits.For(30*time.Second))
	defer cancel()
	changed := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() { done <- watchFile(ctx, path, changed) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for {
		select {
		case <-changed:
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), text) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("%s never held %q", path, text)
		}
	}
}

func TestChildIsFoundAgain(t *testing.T) {
	t.Parallel()
	spec, record := childSpec(t, `exec sleep 1000`)
	c1, end := newChild(t, record)
	first := start(t, c1, spec)
	end()
	if gone(first.PID) {
		t.Fatal("the process ended with its supervisor")
	}

	c2, end := newChild(t, record)
	if st := start(t, c2, spec); st.PID != first.PID || !about(st.Since, first.Since) {
		t.Errorf("%+v became %+v", first, st)
	}
	end()

	// Unlike before: replaced.
	if err := os.WriteFile(spec.Files[0], []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	c3, end := newChild(t, record)
	second := start(t, c3, spec)
	if second.PID == first.PID || !gone(first.PID) {
		t.Errorf("want process %d replaced, got %d", first.PID, second.PID)
	}
	end()

	// One that is not even asked for can be stopped.
	c4, end := newChild(t, record)
	stop(t, c4)
	if !gone(second.PID) {
		t.Errorf("process %d lives", second.PID)
	}
	end()
}

func TestChildSeesTheEndOfOneFoundAgain(t *testing.T) {
	t.Parallel()
	spec, record := childSpec(t, `exec sleep 1000`)
	c1, end := newChild(t, record)
	first := start(t, c1, spec)
	end()
	c2, _ := newChild(t, record)
	start(t, c2, spec)
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	st := await(t, c2, func(s ServiceState) bool { return !s.Running })
	if st.Exits != 1 || st.Exit != "ended" {
		t.Errorf("state %+v", st)
	}
}

func TestChildLeavesStrangersAlone(t *testing.T) {
	t.Parallel()
	stranger := exec.Command("sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	}()
	ticks, err := startTicks(stranger.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := childSpec(t, `exec sleep 1000`)
	identity, err := spec.identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, record string }{
		{"reused number", fmt.Sprintf(`{"pid":%d,"start":%d,"boot":%q,"identity":%q}`, stranger.Process.Pid, ticks-1, bootID(), identity)},
		{"another boot", fmt.Sprintf(`{"pid":%d,"start":%d,"boot":"other","identity":%q}`, stranger.Process.Pid, ticks, identity)},
		{"not a record", `half a rec`},
		{"everybody", fmt.Sprintf(`{"pid":-1,"start":%d,"boot":%q,"identity":%q}`, ticks, bootID(), identity)},
		{"gone", fmt.Sprintf(`{"pid":4194305,"start":1,"boot":%q,"identity":%q}`, bootID(), identity)},
	} {
		t.Run(c.name, func(t *testing.T) {
			record := filepath.Join(t.TempDir(), "pid")
			if err := os.WriteFile(record, []byte(c.record), 0o600); err != nil {
				t.Fatal(err)
			}
			child, _ := newChild(t, record)
			st := start(t, child, spec)
			if st.PID == stranger.Process.Pid {
				t.Error("took a stranger for its child")
			}
			stop(t, child)
			if gone(stranger.Process.Pid) {
				t.Fatal("ended a stranger")
			}
		})
	}
}

func TestChildThatCannotStart(t *testing.T) {
	t.Parallel()
	spec, record := childSpec(t, "")
	c, _ := newChild(t, record)
	missing := spec
	missing.Command = []string{spec.Command[0] + ".missing"}
	if _, err := c.Start(t.Context(), missing); err == nil || !strings.Contains(err.Error(), missing.Command[0]) {
		t.Errorf("a missing program: %v", err)
	}
	missing = spec
	missing.Files = []string{"/nonexistent/file"}
	if _, err := c.Start(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "/nonexistent/file") {
		t.Errorf("a missing file: %v", err)
	}
	if st := c.State(); st.Running {
		t.Errorf("state %+v", st)
	}
}
