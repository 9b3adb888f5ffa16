package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// TestForgedNames: a device whose name has newlines makes no line of another's in the
// DHCP server's file, and a name that begins like an option is passed on as a name.
func TestForgedNames(t *testing.T) {
	t.Parallel()
	r, s := home(t, []router.Device{
		{Network: router.LAN, MAC: "3c:06:30:0c:00:01"},
		{Network: router.LAN, MAC: "d8:0d:17:0c:00:02"},
		{Network: router.LAN, MAC: "d8:0d:17:0c:00:03"},
	}, nil)
	anna, forger, dashes := r.Clients()[0], r.Clients()[1], r.Clients()[2]
	expires := time.Now().Add(time.Hour).Unix()
	// As odhcpd wrote them until 2026.
	line := func(c *router.Client, name string) string {
		a := c.V4.As4()
		return fmt.Sprintf("# br-lan %s ipv4 %s %d %x 32 %v/32\n", strings.ReplaceAll(c.MAC, ":", ""), name, expires, a[:], c.V4)
	}
	if err := os.Mkdir(s.Root.Path("tmp/hosts"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Root.Write(odhcpdFile, line(anna, "Anna")); err != nil {
		t.Fatal(err)
	}
	notices := listen(t, s)
	if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.notify_new_devices='1'\n"); err != nil {
		t.Fatal(err)
	}
	probe(t, anna)
	startDaemon(t, s, "--no-suricata")
	isAnna := func(d rig.Device) bool { return d.Name == "Anna" }
	awaitDevice(t, s, anna.MAC, isAnna)
	// Those who come then are new.
	if err := s.Until(t.Context(), nameTime, func(context.Context) (bool, error) {
		_, err := os.Stat(s.Root.Path("srv/pakon/devices.json"))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		t.Fatal(err)
	}
	restartDaemon(t, s, "--no-suricata")

	name := "broken\\x20x\n" + strings.TrimSuffix(line(anna, "Evil"), "\n") + "\n# br-lan " + strings.ReplaceAll(anna.MAC, ":", "") + " ipv4 Evil"
	if err := s.Root.Write(odhcpdFile, line(anna, "Anna")+line(forger, name)); err != nil {
		t.Fatal(err)
	}
	probe(t, forger)
	want := []device{deviceOf(forger, "TP-Link 00:02", "TP-Link")}
	notices.check(t, want...)
	if err := s.Root.Write(leaseFile, fmt.Sprintf("%d %s %v --help *\n", expires, dashes.MAC, dashes.V4)); err != nil {
		t.Fatal(err)
	}
	awaitDevice(t, s, dashes.MAC, func(d rig.Device) bool { return d.Name == "--help" })
	notices.check(t, append(want, deviceOf(dashes, "--help", "TP-Link"))...)
	if d := devicesOf(t, s)[anna.MAC]; !isAnna(d) {
		t.Errorf("Anna's device is %+v", d)
	}
}

// TestLittleAddressSpace: a limit of the address space, as containers and jails set it,
// leaves room for what the daemon does.
func TestLittleAddressSpace(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	dir := t.TempDir()
	plain, limited := filepath.Join(dir, "pakon"), filepath.Join(dir, "limited")
	// The race detector takes more than there is.
	build := exec.Command("go", "build", "-o", plain, "pakon/daemon")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the daemon: %v\n%s", err, out)
	}
	limit := 400 << 20
	if strconv.IntSize == 64 {
		limit += 600 << 20 // of addresses that Go's runtime reserves there at its start
	}
	if err := os.WriteFile(limited, fmt.Appendf(nil, "#!/bin/sh\nulimit -v %d\nexec %s \"$@\"\n", limit>>10, plain), 0o700); err != nil {
		t.Fatal(err)
	}
	s.Pakon = limited
	startDaemon(t, s, "--no-suricata")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.Daemon.PID()))
	if err != nil || !strings.Contains(string(b), fmt.Sprintf("Max address space         %d", limit)) {
		t.Fatalf("its limits are\n%s%v", b, err)
	}
	rows := feed(t, s, householdOf(3_000, 8))
	awaitFlows(t, s, len(rows))
	if err := s.Call(t.Context(), "archive", nil, nil); err != nil {
		t.Error(err)
	}
	flows, _, err := s.Query(t.Context(), map[string]any{"start": "-7d", "direction": "both", "filter": false})
	if err != nil || len(flows) != len(rows) {
		t.Errorf("%d flows, want %d: %v", len(flows), len(rows), err)
	}
	if st := status(t, s); st.Flows.Live == 0 {
		t.Errorf("status: %+v", st)
	}
}
