package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
	"pakon/tests/process"
)

// TestWatch mounts and unmounts where nobody else sees it.
func TestWatch(t *testing.T) {
	if !process.OwnMounts(t) {
		return
	}
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
	case <-time.After(limits.For(20 * time.Second)):
		t.Error("it does not end")
	}
}

func await(t *testing.T, changes <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(limits.For(20 * time.Second)):
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
