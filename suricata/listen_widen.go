package suricata

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// sendBuffer is what a writer's socket may hold, in bytes. Suricata never waits:
// what does not fit is lost. The kernel's default holds about a hundred events,
// and at its end Suricata tells of all connections at once. Memory is used only
// for what is queued.
const sendBuffer = 4 << 20

// widen enlarges the send buffer of the writer at the other end of conn. It can
// only be done on the writer's own socket, which is borrowed from its process
// (pidfd_getfd(2), since Linux 5.6; asks for the right to trace the process).
func widen(conn *net.UnixConn) error {
	pid, err := peer(conn)
	if err != nil {
		return err
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(process)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return err
	}
	path := conn.LocalAddr().String()
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(process, n, 0)
		if errors.Is(err, unix.EBADF) {
			continue // closed since it was listed
		}
		if err != nil {
			return fmt.Errorf("borrow a socket of process %d: %w", pid, err)
		}
		err = widenIfTo(fd, path)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// peer is the process at the other end.
func peer(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		var c *unix.Ucred
		if c, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(c.Pid)
		}
	})
	return pid, errors.Join(ctlErr, err)
}

// widenIfTo enlarges the buffer of a socket that is connected to path; others
// are left alone.
func widenIfTo(fd int, path string) error {
	to, err := unix.Getpeername(fd)
	if err != nil {
		return nil // no socket, or not connected
	}
	if a, ok := to.(*unix.SockaddrUnix); !ok || a.Name != path {
		return nil
	}
	if old, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil || old >= sendBuffer {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer); err != nil {
		return fmt.Errorf("enlarge the send buffer: %w", err)
	}
	return nil
}
