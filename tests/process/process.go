// Package process runs a test in a process of its own, and where it asks for that
// with mounts of its own.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// running, in the environment, says that the test binary runs one test for
// another process of it.
const running = "PAKON_TEST_PROCESS"

// Own runs the test in a process of its own. It returns true there, and false in
// the test that has waited for it.
func Own(t *testing.T) bool {
	t.Helper()
	if os.Getenv(running) != "" {
		return true
	}
	run(t, new(syscall.SysProcAttr))
	return false
}

// OwnMounts is Own in a process whose mounts nobody else sees. Where there can be
// none the test is skipped.
func OwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(running) != "" {
		if err := hideMounts(); err != nil {
			t.Skipf("needs mounts that nobody else sees: %v", err)
		}
		return true
	}
	run(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS})
	return false
}

func run(t *testing.T, attr *syscall.SysProcAttr) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	if end, ok := t.Deadline(); ok {
		cmd.Args = append(cmd.Args, "-test.timeout="+time.Until(end).String())
	}
	cmd.Env = append(os.Environ(), running+"="+t.Name())
	// The kernel sends the signal when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	// Behind the name of a subtest is more of it.
	switch {
	case errors.Is(err, syscall.EPERM) && attr.Cloneflags != 0:
		t.Skipf("needs mounts of its own, which only root may have: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP: "+t.Name()+" (")):
		t.Skipf("%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" (")):
		t.Errorf("the test did not run:\n%s", out)
	}
}

// hideMounts ends the sharing of mounts with other processes. That is done at the
// root of all mounts, which is not the process's own root in a chroot.
func hideMounts() error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// /proc/self is that of the main thread.
			defer runtime.UnlockOSThread()
			done <- hideMounts()
			return
		}
		// Never unlocked: the thread's root becomes another.
		done <- hideMountsOfThread()
	}()
	return <-done
}

func hideMountsOfThread() error {
	all, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	defer all.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the root: %w", err)
	}
	if err := unix.Setns(int(all.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("go to the root of all mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}
