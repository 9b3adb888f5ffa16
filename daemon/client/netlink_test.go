package client

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
)

// inNamespace runs f in a network namespace of its own, on a thread that ends
// with it. Processes that f starts are in it too.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making a network namespace needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("iproute2 is not installed")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is of no further use
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		defer close(done)
		f()
	}()
	if err := <-done; err != nil {
		t.Skipf("a network namespace can not be made here: %v", err)
	}
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", args, err, out)
	}
}

// until waits for the table to say that something changed and cond to hold.
func until(t *testing.T, tab *Table, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(limits.For(10 * time.Second))
	for !cond() {
		select {
		case <-tab.Changes():
		case <-time.After(20 * time.Millisecond): // neighbours change without a word
		case <-deadline:
			t.Errorf("timed out: %s", what)
			return
		}
	}
}

func TestFollowNetlink(t *testing.T) {
	inNamespace(t, func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tab := New(slog.New(slog.DiscardHandler))
		ns, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		ended := make(chan error, 1)
		ip(t, "link add br-lan address 02:00:00:00:00:01 type bridge")
		ip(t, "addr add 192.168.1.1/24 dev br-lan")
		go func() {
			runtime.LockOSThread()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				ended <- err
				return
			}
			ended <- tab.Run(ctx)
		}()
		<-tab.Ready()
		lan, ok := tab.Interface("br-lan")
		want := netip.MustParsePrefix("192.168.1.0/24")
		if !ok || lan.Up || len(lan.Prefixes) != 1 || lan.Prefixes[0] != want || lan.MAC.String() != "02:00:00:00:00:01" {
			t.Errorf("br-lan at the start: %+v, %v", lan, ok)
		}
		if !tab.RouterMAC(lan.MAC) || !tab.RouterAddr(netip.MustParseAddr("192.168.1.1")) || tab.RouterAddr(netip.MustParseAddr("192.168.1.2")) {
			t.Error("the machine's own addresses are not known")
		}
		ip(t, "link set br-lan up")
		until(t, tab, "br-lan is up", func() bool { i, _ := tab.Interface("br-lan"); return i.Up })
		ip(t, "link add br-guest type bridge")
		until(t, tab, "br-guest appears", func() bool { _, ok := tab.Interface("br-guest"); return ok })
		ip(t, "link del br-guest")
		until(t, tab, "br-guest disappears", func() bool { _, ok := tab.Interface("br-guest"); return !ok })
		ip(t, "neigh add 192.168.1.10 lladdr 00:11:22:33:44:55 dev br-lan nud reachable")
		found := func(want string) func() bool {
			return func() bool {
				m, _ := tab.ByAddr("br-lan", netip.MustParseAddr("192.168.1.10"))
				return m.String() == want
			}
		}
		until(t, tab, "a new neighbour", found("00:11:22:33:44:55"))
		ip(t, "neigh replace 192.168.1.10 lladdr 00:11:22:33:44:66 dev br-lan nud reachable")
		until(t, tab, "the neighbour's new MAC", found("00:11:22:33:44:66"))
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
