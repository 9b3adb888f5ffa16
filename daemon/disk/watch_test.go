package disk

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const inNamespace = "PAKON_TEST_MOUNTS"

// TestWatch mounts and unmounts where nobody else sees it: in a process with
// mounts of its own.
func TestWatch(t *testing.T) {
	if os.Getenv(inNamespace) != "" {
		watchMounts(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("not root: may not mount")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestWatch$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skipf("no namespace of mounts: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "PASS: TestWatch") {
		t.Errorf("%v\n%s", err, out)
	}
}

func watchMounts(t *testing.T) {
	point := filepath.Join(t.TempDir(), "with blank")
	if err := os.Mkdir(point, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() { ended <- Watch(ctx, func() { changes <- struct{}{} }) }()
	await(t, changes, "the beginning")
	if err := unix.Mount("none", point, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	await(t, changes, "a mount")
	if err := unix.Mount("none", point, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	await(t, changes, "a mount over it")
	table, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	m, ok := table.Of(filepath.Join(point, "x"))
	if !ok || m.Point != point || m.Type != "ramfs" || table.Kind(m) != RAM || m.ReadOnly {
		t.Errorf("it is on %+v", m)
	}
	if err := unix.Mount("none", point, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	await(t, changes, "remount")
	if table, err = Read(); err != nil {
		t.Fatal(err)
	}
	if m, _ := table.Of(point); !m.ReadOnly {
		t.Errorf("after the remount it is %+v", m)
	}
	if err := errors.Join(unix.Unmount(point, 0), unix.Unmount(point, 0)); err != nil {
		t.Fatal(err)
	}
	await(t, changes, "unmount")
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
}

func await(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s is not told", what)
	}
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watch(ctx, func() {}); err != nil {
		t.Error(err)
	}
}
