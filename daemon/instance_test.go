package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLockInstance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pakon.pid")
	if err := os.WriteFile(path, []byte("999999999 and more than this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := lockInstance(path)
	if err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprintln(os.Getpid())
	if b, _ := os.ReadFile(path); string(b) != pid {
		t.Errorf("the file holds %q, want %q", b, pid)
	}
	if _, err := lockInstance(path); err == nil || !strings.Contains(err.Error(), "process "+strings.TrimSpace(pid)) {
		t.Errorf("a second instance gets %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = lockInstance(path); err != nil {
		t.Errorf("after the first has ended: %v", err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
