package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockInstance makes this the only daemon below a root: it locks the file,
// which holds the process's number, until the process ends. /etc/init.d/pakon
// waits for the lock to know that the daemon is gone.
func lockInstance(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the pid file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid := make([]byte, 20)
			n, _ := f.Read(pid) // for the message only
			return nil, fmt.Errorf("another Pakon is running, process %s (%s)", strings.TrimSpace(string(pid[:n])), path)
		}
		return nil, fmt.Errorf("lock the pid file %s: %w", path, err)
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("write the pid file: %w", err), f.Close())
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("write the pid file: %w", err), f.Close())
	}
	return f, nil
}
