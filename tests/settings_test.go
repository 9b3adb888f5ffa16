package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/household"
	"pakon/tests/limits"
	"pakon/tests/rig"
)

// fed starts a daemon, gives it a small household's events and returns the
// devices that are in its flows.
func fed(t *testing.T, s *rig.System, cfg household.Config) (rows []household.Row, macs map[string]bool) {
	t.Helper()
	have := status(t, s).Flows.Live
	rows = feed(t, s, cfg)
	err := s.Until(t.Context(), time.Minute, func(ctx context.Context) (bool, error) {
		st, err := s.Status(ctx)
		var flows uint64
		for fate, n := range st.Events.Fates {
			if slices.Contains([]string{"recorded", "other_interface", "excluded_client", "excluded_hostname"}, fate) {
				flows += n
			}
		}
		return flows >= uint64(len(rows)) && st.Flows.Live >= have+int64(st.Events.Fates["recorded"]), err
	})
	if err != nil {
		t.Fatalf("%v; status: %+v", err, status(t, s))
	}
	flows, _, err := s.Query(t.Context(), map[string]any{"start": "-7d", "direction": "both", "filter": false})
	if err != nil {
		t.Fatal(err)
	}
	macs = map[string]bool{}
	for _, f := range flows {
		macs[f.MAC] = true
	}
	return rows, macs
}

// TestStagedChangesCount: what `uci set` staged without a commit is in force
// after a restart, and so are names of devices.
func TestStagedChangesCount(t *testing.T) {
	t.Parallel()
	cfg := householdOf(4_000, 7)
	devices, err := household.Devices(cfg)
	if err != nil {
		t.Fatal(err)
	}
	left, named := devices[1], devices[0]
	s := newSystem(t, rig.Here, []rig.Host{{Name: "old-name", MACs: []string{named.MAC.String()}}})
	// As the command uci writes them; cfg02fe63 is the second section of the dhcp file.
	for path, content := range map[string]string{
		"tmp/.uci/pakon": "|pakon.monitor.exclude_client='" + left.MAC.String() + "'\npakon.monitor.interface='br-lan'\n",
		"tmp/.uci/dhcp":  "dhcp.cfg02fe63.name='new-name'\n",
	} {
		if err := s.Root.Write(path, content); err != nil {
			t.Fatal(err)
		}
	}
	startDaemon(t, s, "--no-suricata")
	rows, macs := fed(t, s, cfg)
	if macs[left.MAC.String()] {
		t.Errorf("%v was recorded, though staged to be left out", left)
	}
	for _, r := range rows {
		mac := r.MAC.String()
		switch want := r.Interface == "br-lan" && r.MAC != left.MAC; {
		case want && !macs[mac]:
			t.Fatalf("%s on %s was not recorded", r.Device, r.Interface)
		case !want && macs[mac]:
			t.Fatalf("%s on %s was recorded", r.Device, r.Interface)
		}
	}
	var clients struct {
		Clients []struct{ MAC, Name string } `json:"clients"`
	}
	if err := s.Call(t.Context(), "clients", nil, &clients); err != nil {
		t.Fatal(err)
	}
	name := ""
	for _, c := range clients.Clients {
		if c.MAC == named.MAC.String() {
			name = c.Name
		}
	}
	if name != "new-name" {
		t.Errorf("%v is called %q, want new-name; clients: %+v", named.MAC, name, clients.Clients)
	}
	// Reverted, and restarted: everything counts again.
	for _, path := range []string{"tmp/.uci/pakon", "tmp/.uci/dhcp"} {
		if err := s.Root.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	restartDaemon(t, s, "--no-suricata")
	if _, macs = fed(t, s, cfg); !macs[left.MAC.String()] {
		t.Errorf("%v was not recorded after `uci revert`", left)
	}
}

// TestListsHoldForRecordedNames: lists that were changed while Pakon did not run
// hold for what it recorded before.
func TestListsHoldForRecordedNames(t *testing.T) {
	t.Parallel()
	cfg := householdOf(2_000, 8)
	s := newSystem(t, rig.Here, nil)
	startDaemon(t, s, "--no-suricata")
	rows, _ := fed(t, s, cfg)
	name := rows[slices.IndexFunc(rows, func(r household.Row) bool { return r.Name != "" })].Name
	dir := "usr/share/pakon-light/domains_replace"
	if err := os.MkdirAll(s.Root.Path(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Root.Write(dir+"/own.conf", fmt.Sprintf("%q : %q\n", name, "own.group.example")); err != nil {
		t.Fatal(err)
	}
	restartDaemon(t, s, "--no-suricata")
	err := s.Until(t.Context(), time.Minute, func(ctx context.Context) (bool, error) {
		flows, _, err := s.Query(ctx, map[string]any{"start": "-7d", "direction": "both", "filter": false, "hostname": "own.group.example"})
		return len(flows) > 0, err
	})
	if err != nil {
		t.Errorf("no flow to %s is in the group that a list now gives it: %v", name, err)
	}
}

// TestBrokenFileKeepsTheLastGood: a file that uci refuses leaves the last good
// configuration in force, also over a restart, and status says why.
func TestBrokenFileKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	good := "config monitor 'monitor'\n\tlist interface 'br-good'\n"
	s := newSystem(t, rig.Here, nil)
	if err := s.Root.Write("etc/config/pakon", good); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")
	check := func(when string, refused bool) {
		t.Helper()
		st := status(t, s)
		if len(st.Interfaces) != 1 || st.Interfaces[0].Name != "br-good" {
			t.Errorf("%s: interfaces %+v, want br-good", when, st.Interfaces)
		}
		if told := strings.Contains(st.Config.Error, "etc/config/pakon"); told != refused {
			t.Errorf("%s: the configuration's error is %q", when, st.Config.Error)
		}
		if refused && len(st.Warnings) == 0 {
			t.Errorf("%s: no warning for the user", when)
		}
	}
	check("at first", false)
	if err := s.Root.Write("etc/config/pakon", "config monitor 'monitor\n\toption interface 'br-bad'\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.Call(t.Context(), "reload", nil, nil); err != nil {
		t.Fatal(err)
	}
	check("after a reload with a broken file", true)
	restartDaemon(t, s, "--no-suricata")
	check("after a restart with a broken file", true)
	if err := s.Root.Write("etc/config/pakon", good); err != nil {
		t.Fatal(err)
	}
	if err := s.Call(t.Context(), "reload", nil, nil); err != nil {
		t.Fatal(err)
	}
	check("after the repair", false)
}

// TestWrongOptionIsNamed: one wrong value falls back, the rest holds, and the
// user is told which and what would be right.
func TestWrongOptionIsNamed(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	if err := s.Root.Write("etc/config/pakon", "config monitor 'monitor'\n\toption database_limit 'plenty'\n\toption interface 'br-one br-two'\n"); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")
	st := status(t, s)
	if len(st.Interfaces) != 2 || st.Interfaces[0].Name != "br-one" || st.Interfaces[1].Name != "br-two" {
		t.Errorf("interfaces %+v", st.Interfaces)
	}
	told := false
	for _, p := range st.Config.Problems {
		told = told || strings.Contains(p, "database_limit") && strings.Contains(p, "plenty")
	}
	if !told || st.Config.Error != "" {
		t.Errorf("told of the configuration: %+v", st.Config)
	}
}

// TestWhatIsNoFile: a FIFO, a device without an end or a file of a terabyte in place of
// lists, of what the original has left, or of what the daemon keeps: it starts, reads
// its settings again and ends as if they were not there, and says what they are.
func TestWhatIsNoFile(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	lists := "usr/share/pakon-light/domains_ignore/"
	fifo := func(name string) {
		t.Helper()
		if err := unix.Mkfifo(s.Root.Path(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		lists + "fifo.txt", "usr/share/pakon-light/domains_replace/fifo.conf", "etc/ethers",
		"srv/pakon/pakon-archive.db.original", "srv/pakon/pakon.db.xz", "srv/pakon/dns_cache.json.gz", "var/lib/pakon.db.original",
		"srv/pakon/devices.json", "srv/pakon/devices.json.new", "srv/pakon/pakon-backup-00000001.pakon",
		"var/run/pakon/config.json", "var/run/pakon/config.json.new", "var/run/pakon/restart",
	} {
		if err := os.MkdirAll(filepath.Dir(s.Root.Path(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		fifo(name)
	}
	if err := os.Symlink("/dev/zero", s.Root.Path(lists+"endless.txt")); err != nil {
		t.Fatal(err)
	}
	if err := s.Root.Write(lists+"huge.txt", "huge.example\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.Root.Path(lists+"huge.txt"), 1<<40); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")
	fed(t, s, householdOf(1_000, 8))
	ctx, cancel := context.WithTimeout(t.Context(), limits.For(20*time.Second))
	defer cancel()
	for _, method := range []string{"reload", "archive", "backup", "status"} {
		if err := s.Call(ctx, method, nil, nil); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	said := strings.Join(status(t, s).Config.Problems, "\n")
	for _, name := range []string{"fifo.txt", "fifo.conf", "endless.txt", "huge.txt", "ethers"} {
		if !strings.Contains(said, name) {
			t.Errorf("nothing is said of %s: %s", name, said)
		}
	}
	if err := s.StopDaemon(); err != nil { // which waits for as long as the init script does
		t.Error(err)
	}
}
