package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOwn notes the number of the process that it runs in.
func TestOwn(t *testing.T) {
	const noted = "PAKON_TEST_PROCESS_NOTED"
	if os.Getenv(noted) == "" {
		t.Setenv(noted, filepath.Join(t.TempDir(), "pid"))
	}
	if Own(t) {
		if err := os.WriteFile(os.Getenv(noted), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if pid, err := os.ReadFile(os.Getenv(noted)); err != nil || string(pid) == strconv.Itoa(os.Getpid()) {
		t.Errorf("the test ran in the process %s: %v", pid, err)
	}
}

// TestOwnMounts mounts, and looks from outside meanwhile: the parent's table of
// mounts does not have it.
func TestOwnMounts(t *testing.T) {
	if !OwnMounts(t) {
		return
	}
	point := t.TempDir()
	if err := unix.Mount("none", point, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(point, 0)
	for path, want := range map[string]bool{"/proc/self/mountinfo": true, "/proc/" + strconv.Itoa(os.Getppid()) + "/mountinfo": false} {
		table, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(table), point); got != want {
			t.Errorf("%s has the mount: %v, want %v", path, got, want)
		}
	}
}

// TestPartSkipped: a test of which a part is skipped is not skipped.
func TestPartSkipped(t *testing.T) {
	t.Cleanup(func() {
		if t.Skipped() {
			t.Error("it is shown as skipped")
		}
	})
	if Own(t) {
		t.Run("part", func(t *testing.T) { t.Skip("what it needs is not there") })
	}
}
