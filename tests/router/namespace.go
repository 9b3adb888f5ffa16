package router

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace that lives as long as its handle.
type namespace struct {
	name   string // for errors
	handle netns.NsHandle
}

func newNamespace(name string) (*namespace, error) {
	ns := &namespace{name: name, handle: netns.None()}
	err := onThread(func() (err error) {
		if ns.handle, err = netns.New(); errors.Is(err, unix.EPERM) {
			return ErrUnable // a container's root may not
		} else if err != nil {
			return fmt.Errorf("making network namespace %s: %w", name, err)
		}
		return nil
	})
	return ns, err
}

// onThread runs f on a thread of its own, which ends with f: whatever f did to
// the thread's namespace harms nobody.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		done <- f()
	}()
	return <-done
}

// do runs f on a thread in the namespace. Sockets that f opens belong to the
// namespace for ever, and so do processes that it starts.
func (ns *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns.handle); err != nil {
			return fmt.Errorf("entering network namespace %s: %w", ns.name, err)
		}
		return f()
	})
}

// path is what `ip` knows the namespace by.
func (ns *namespace) path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(ns.handle))
}

// ip runs a batch of ip(8) commands in the namespace.
func (ns *namespace) ip(commands ...string) error {
	return ns.do(func() error {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("ip in namespace %s: %w: %s", ns.name, err, strings.TrimSpace(stderr.String()))
		}
		return nil
	})
}

// sysctl sets a value below /proc/sys/net, which shows the namespace of the
// thread that opens it.
func (ns *namespace) sysctl(key, value string) error {
	return ns.do(func() error {
		if err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting net/%s in namespace %s: %w", key, ns.name, err)
		}
		return nil
	})
}

// processes are those that live in the namespace, this one's threads aside.
func (ns *namespace) processes() []int {
	id := ns.handle.UniqueId()
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		h, err := netns.GetFromPid(pid)
		if err != nil {
			continue // it ended meanwhile, or is not ours to see
		}
		if h.UniqueId() == id {
			pids = append(pids, pid)
		}
		h.Close()
	}
	return pids
}

func (ns *namespace) close() error {
	if !ns.handle.IsOpen() {
		return nil
	}
	return ns.handle.Close()
}
