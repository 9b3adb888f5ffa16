package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/daemon/api"
	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store"
	"pakon/tests/limits"
	"pakon/uci"
)

// router is a folder laid out as a router's file system.
func router(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "var/run/pakon"), 0o700); err != nil {
		t.Fatal(err)
	}
	lists, err := os.ReadFile("../files/usr/share/pakon-light/lists")
	if err != nil {
		t.Fatal(err)
	}
	write(t, root, "usr/share/pakon-light/lists", string(lists))
	for name, text := range files {
		write(t, root, name, text)
	}
	return root
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const (
	pakonFile = "config monitor 'monitor'\n\tlist interface 'br-lan'\n\tlist exclude_client 'tv'\n\tlist exclude_client '00:11:22:33:44:66'\n\tlist exclude_client '10.8.0.2'\n\tlist exclude_client 'FD00:8:0::2'\n\tlist exclude_hostname 'example.org'\n\tlist exclude_hostname '203.0.113.9'\n"
	dhcpFile  = "config host\n\toption name 'TV'\n\tlist mac '00:11:22:33:44:55'\n\toption ip '192.168.1.10'\n\nconfig host\n\toption mac '00:11:22:33:44:77'\n\toption ip '192.168.1.12'\n\nconfig host\n\toption name 'box'\n\toption duid '000300010011223344bb'\n\toption ip '192.168.1.11'\n\nconfig dhcp 'lan'\n\tlist dhcp_option '6,192.168.1.53'\n"
)

func TestPolicy(t *testing.T) {
	root := router(t, map[string]string{"etc/config/pakon": pakonFile, "etc/config/dhcp": dhcpFile})
	s := readSettings(pathsBelow(root), nil)
	if s.refused != nil || len(s.said()) > 0 {
		t.Fatalf("refused %v, problems %v", s.refused, s.said())
	}
	p := s.policy()
	if !slices.Equal(p.Interfaces, []string{"br-lan"}) {
		t.Errorf("interfaces %v", p.Interfaces)
	}
	if want := []netip.Addr{netip.MustParseAddr("192.168.1.53")}; !slices.Equal(p.Resolvers, want) {
		t.Errorf("resolvers %v, want %v", p.Resolvers, want)
	}
	for m, want := range map[string]bool{"00:11:22:33:44:55": true, "00:11:22:33:44:66": true, "00:11:22:33:44:77": false} {
		mac, err := client.ParseMAC(m)
		if err != nil {
			t.Fatal(err)
		}
		if p.ExcludeMACs[mac] != want {
			t.Errorf("%s is excluded: %v", m, !want)
		}
	}
	for n, want := range map[string]bool{"example.org": true, "www.example.org": true, "notexample.org": false, "": false} {
		if p.ExcludeNames(n) != want {
			t.Errorf("%q is excluded: %v", n, !want)
		}
	}
	if want := map[netip.Addr]bool{netip.MustParseAddr("10.8.0.2"): true, netip.MustParseAddr("fd00:8::2"): true}; !maps.Equal(p.ExcludePeers, want) {
		t.Errorf("clients without a MAC %v are excluded, want %v", p.ExcludePeers, want)
	}
	if want := map[netip.Addr]bool{netip.MustParseAddr("203.0.113.9"): true}; !maps.Equal(p.ExcludeAddrs, want) {
		t.Errorf("addresses %v are excluded, want %v", p.ExcludeAddrs, want)
	}
}

func TestStagedChangesCount(t *testing.T) {
	root := router(t, map[string]string{"etc/config/pakon": pakonFile, "tmp/.uci/pakon": "pakon.monitor.interface='br-lan br-iot'\n"})
	s := readSettings(pathsBelow(root), nil)
	if got := s.config.Monitor.Interfaces; !slices.Equal(got, []string{"br-lan", "br-iot"}) {
		t.Errorf("interfaces %v", got)
	}
}

// TestOverridesCount: files in /var/run/uci stand instead of those in /etc/config,
// and messages name them.
func TestOverridesCount(t *testing.T) {
	root := router(t, map[string]string{
		"etc/config/pakon": pakonFile, "var/run/uci/pakon": "config monitor 'monitor'\n\tlist interface 'br-iot'\n\tlist exclude_client 'nobody'\n",
		"etc/config/dhcp": dhcpFile, "var/run/uci/dhcp": "config host\n\toption name 'radio'\n\toption mac '00:11:22:33:44:55'\n",
		"tmp/.uci/pakon": "pakon.monitor.mode='filter'\n",
	})
	s := readSettings(pathsBelow(root), nil)
	if got := s.config.Monitor; !slices.Equal(got.Interfaces, []string{"br-iot"}) || got.Mode != "filter" {
		t.Errorf("interfaces %v, mode %s", got.Interfaces, got.Mode)
	}
	if len(s.hosts) != 1 || s.hosts[0].Name != "radio" {
		t.Errorf("hosts %v", s.hosts)
	}
	if said := s.said(); len(said) != 1 || !strings.Contains(said[0], "/var/run/uci/pakon") || !strings.Contains(said[0], "/var/run/uci/dhcp") {
		t.Errorf("problems %q", said)
	}
}

// TestHostsElsewhere: what the owner wrote of devices outside of UCI names them behind
// what he wrote in it, and may be left out by these names; what is wrong with it is no
// error.
func TestHostsElsewhere(t *testing.T) {
	root := router(t, map[string]string{
		"etc/config/pakon": "config monitor 'monitor'\n\tlist exclude_client 'Tv'\n\tlist exclude_client 'phone'\n\tlist exclude_client 'nas'\n\tlist exclude_client 'pi'\n",
		"etc/config/dhcp": "config dnsmasq\n\toption dhcphostsfile '/etc/hosts.dhcp'\n\nconfig host\n\toption name 'first'\n\toption mac '00:11:22:33:44:01'\n\n" +
			"config domain\n\toption name 'nas'\n\toption ip '192.168.1.9'\n\nconfig host\n\toption name 'pi'\n\toption duid '000300010011223344aa'\n\toption ip '192.168.1.8'\n",
		"etc/ethers":          "00:11:22:33:44:01 second\n00:11:22:33:44:02 tv\nnonsense\n",
		"etc/hosts.dhcp/more": "00:11:22:33:44:03,phone\n",
	})
	p := pathsBelow(root)
	s := readSettings(p, nil)
	if s.refused != nil || s.wrong || len(s.problems) > 0 || len(s.hostProblems) != 1 || !strings.Contains(s.hostProblems[0], "/etc/ethers") {
		t.Errorf("refused %v, problems %q, of hosts %q", s.refused, s.problems, s.hostProblems)
	}
	var names []string
	for _, h := range s.hosts {
		names = append(names, h.Name)
	}
	if want := []string{"first", "pi", "nas", "second", "tv", "phone"}; !slices.Equal(names, want) {
		t.Errorf("hosts %q, want %q", names, want)
	}
	for m, want := range map[string]bool{"00:11:22:33:44:02": true, "00:11:22:33:44:03": true, "00:11:22:33:44:01": false} {
		if mac, err := client.ParseMAC(m); err != nil || s.policy().ExcludeMACs[mac] != want {
			t.Errorf("%s is excluded: %v, %v", m, !want, err)
		}
	}
	for _, a := range []string{"192.168.1.8", "192.168.1.9"} {
		if !s.policy().ExcludePeers[netip.MustParseAddr(a)] {
			t.Errorf("whoever is at %s is recorded if the MAC is not known", a)
		}
	}
	// A file that uci refuses changes nothing of what is elsewhere.
	if err := s.save(p.saved); err != nil {
		t.Fatal(err)
	}
	write(t, root, "etc/config/dhcp", "nonsense\n")
	for name, last := range map[string]*settings{"reload": s, "restart": nil} {
		if again := readSettings(p, last); !reflect.DeepEqual(again.hosts, s.hosts) || !slices.Equal(again.hostsFiles, s.hostsFiles) {
			t.Errorf("%s: hosts %+v of %q", name, again.hosts, again.hostsFiles)
		}
	}
}

// TestExcludedElsewhere: whether anybody is left out by a name is said of the files of
// hosts as they are.
func TestExcludedElsewhere(t *testing.T) {
	root := router(t, map[string]string{
		"etc/config/pakon": "config monitor 'monitor'\n\tlist exclude_client 'tv'\n", "etc/ethers": "00:11:22:33:44:02 tv\n",
	})
	p := pathsBelow(root)
	s := readSettings(p, nil)
	if len(s.said()) > 0 {
		t.Errorf("problems %q", s.said())
	}
	write(t, root, "etc/ethers", "00:11:22:33:44:02 television\n")
	if s.readHosts(p); len(s.said()) != 1 || !strings.Contains(s.said()[0], "exclude_client 'tv': no host") {
		t.Errorf("once nobody has the name: problems %q", s.said())
	}
	write(t, root, "etc/ethers", "00:11:22:33:44:02 tv\n")
	if s.readHosts(p); len(s.said()) > 0 {
		t.Errorf("once it is back: problems %q", s.said())
	}
}

// TestRefusedFile: a file that uci refuses leaves the last good configuration
// in force, over a restart too.
func TestRefusedFile(t *testing.T) {
	root := router(t, map[string]string{"etc/config/pakon": pakonFile, "etc/config/dhcp": dhcpFile})
	p := pathsBelow(root)
	good := readSettings(p, nil)
	if err := good.save(p.saved); err != nil {
		t.Fatal(err)
	}
	write(t, root, "etc/config/pakon", "config monitor 'monitor\n")
	write(t, root, "etc/config/dhcp", "nonsense\n")
	for name, last := range map[string]*settings{"reload": good, "restart": nil} {
		s := readSettings(p, last)
		if s.refused == nil || !strings.Contains(s.refused.Error(), "etc/config/pakon") || !strings.Contains(s.refused.Error(), "etc/config/dhcp") {
			t.Errorf("%s: the error is %v", name, s.refused)
		}
		if got := s.config.Monitor.Interfaces; !slices.Equal(got, []string{"br-lan"}) {
			t.Errorf("%s: interfaces %v", name, got)
		}
		if strings.Contains(s.refused.Error(), "\n") {
			t.Errorf("%s: the error is of several lines: %q", name, s.refused)
		}
	}
	if s := readSettings(p, good); len(s.hosts) != 3 {
		t.Errorf("hosts after a reload: %v", s.hosts)
	}
	if s := readSettings(p, nil); len(s.hosts) != 3 || len(s.policy().ExcludeMACs) != 2 {
		t.Errorf("after a restart: hosts %v, excluded %v", s.hosts, s.policy().ExcludeMACs)
	}
	if err := os.Remove(p.saved); err != nil {
		t.Fatal(err)
	}
	if s := readSettings(p, nil); !slices.Equal(s.config.Monitor.Interfaces, uci.Default().Monitor.Interfaces) {
		t.Errorf("at the first start: interfaces %v", s.config.Monitor.Interfaces)
	}
	write(t, root, "var/run/pakon/config.json", "{\"Monitor\":")
	if s := readSettings(p, nil); !slices.Equal(s.config.Monitor.Interfaces, uci.Default().Monitor.Interfaces) {
		t.Errorf("with a damaged copy: interfaces %v", s.config.Monitor.Interfaces)
	}
}

// TestRefusedHosts: a refused file of hosts does not keep the configuration
// from being saved.
func TestRefusedHosts(t *testing.T) {
	root := router(t, map[string]string{"etc/config/pakon": pakonFile, "etc/config/dhcp": "nonsense\n"})
	d := &daemon{log: slog.New(slog.DiscardHandler), paths: pathsBelow(root)}
	if s := d.read(nil); s.refused == nil || !slices.Equal(s.config.Monitor.Interfaces, []string{"br-lan"}) {
		t.Errorf("refused %v, interfaces %v", s.refused, s.config.Monitor.Interfaces)
	}
	write(t, root, "etc/config/pakon", "config monitor 'monitor\n")
	if s := d.read(nil); !slices.Equal(s.config.Monitor.Interfaces, []string{"br-lan"}) {
		t.Errorf("after a restart with a broken file: interfaces %v", s.config.Monitor.Interfaces)
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name, pakon string
		args        []string
		status      int
		stdout      string
		stderr      string
	}{
		{"good", pakonFile, nil, 0, "interfaces: br-lan (mode tap)", ""},
		{"wrong value", "config monitor 'monitor'\n\toption mode 'nope'\n", nil, 1, "(mode ", "nope"},
		{"refused", "nonsense\n", nil, 1, "interfaces: br-lan, br-guest_turris", "etc/config/pakon"},
		{"unknown option is a warning", "config monitor 'monitor'\n\toption colour 'red'\n", nil, 0, "interfaces", "colour"},
		{"shown category", "config monitor 'monitor'\n\tlist show_category 'Time'\n", nil, 0, "shown although the lists hide them: time", ""},
		{"unknown category", "config monitor 'monitor'\n\tlist show_category 'colour'\n", nil, 1, "interfaces", "show_category 'colour': want one of advertising, "},
		{"nobody is excluded", "config monitor 'monitor'\n\tlist exclude_client 'phone'\n", nil, 1, "phone", "exclude_client 'phone': no host"},
		{"a peer is excluded", "config monitor 'monitor'\n\tlist exclude_client '10.8.0.2'\n", nil, 0, "never recorded: 10.8.0.2", ""},
		{"excluded by the address of a host", "config monitor 'monitor'\n\tlist exclude_client '192.168.1.10'\n", nil, 1, "", "exclude_client '192.168.1.10': want the MAC or the name of TV"},
		{"excluded by the address of a host with a DUID", "config monitor 'monitor'\n\tlist exclude_client '192.168.1.11'\n", nil, 1, "", "exclude_client '192.168.1.11': want the MAC or the name of box"},
		{"devices with a name", pakonFile, nil, 0, "named devices: 2\n", ""},
		{"excluded name in other letters", "config monitor 'monitor'\n\tlist exclude_hostname 'müller.example'\n", nil, 0, "never recorded: xn--mller-kva.example", ""},
		{"excluded nonsense", "config monitor 'monitor'\n\tlist exclude_hostname 'a..b'\n", nil, 1, "", `monitor.exclude_hostname="a..b": want a host name such as example.org, or an IP address`},
		{"help", pakonFile, []string{"--help"}, 0, "-json", ""},
		{"argument", pakonFile, []string{"now"}, 2, "", `unknown argument "now"`},
		{"option", pakonFile, []string{"--now"}, 2, "", "-now"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := router(t, map[string]string{"etc/config/pakon": tt.pakon, "etc/config/dhcp": dhcpFile})
			var stdout, stderr bytes.Buffer
			got := run(append([]string{"pakon", "check", "--root", root}, tt.args...), &stdout, &stderr)
			if got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
			}
		})
	}
}

func TestCheckJSON(t *testing.T) {
	root := router(t, map[string]string{"etc/config/pakon": pakonFile, "etc/config/dhcp": dhcpFile})
	var stdout, stderr bytes.Buffer
	if status := run([]string{"pakon", "check", "--json", "--root", root}, &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	var c struct {
		Monitor struct {
			Interface     []string
			ExcludeClient []string `json:"exclude_client"`
			DatabaseLimit int64    `json:"database_limit"`
		}
		Archive struct{ Keep int64 }
		Rules   []map[string]int64 `json:"archive_rule"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &c); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Monitor.Interface, []string{"br-lan"}) || len(c.Monitor.ExcludeClient) != 4 || c.Monitor.DatabaseLimit != 3000000 ||
		c.Archive.Keep != 4*7*24*3600 || len(c.Rules) != 4 || c.Rules[1]["window"] != 900 {
		t.Errorf("%s", stdout.String())
	}
}

func TestPeriod(t *testing.T) {
	for d, want := range map[time.Duration]string{
		4 * 7 * 24 * time.Hour: "4w", 3 * 24 * time.Hour: "3d", 36 * time.Hour: "36h", 2 * time.Hour: "2h",
		15 * time.Minute: "15m", 90 * time.Second: "90s", 0: "0s",
	} {
		if got := period(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		argv   []string
		status int
		stdout string
		stderr string
	}{
		{[]string{"pakon"}, 2, "", "usage: pakon COMMAND"},
		{[]string{"pakon", "nope"}, 2, "", `unknown command "nope"`},
		{[]string{"pakon", "--version"}, 0, "pakon " + version, ""},
		{[]string{"pakon", "--help"}, 0, "usage: pakon COMMAND", ""},
		{[]string{"pakon", "daemon", "--nope"}, 2, "", "-nope"},
		{[]string{"pakon", "daemon", "now"}, 2, "", `unknown argument "now"`},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		if got := run(tt.argv, &stdout, &stderr); got != tt.status || !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%v: status %d, stdout %q, stderr %q", tt.argv, got, stdout.String(), stderr.String())
		}
	}
}

func TestKeeping(t *testing.T) {
	root := router(t, map[string]string{"etc/config/pakon": pakonFile +
		"config archive 'archive'\n\toption path '/mnt/pakon/a.db'\n\toption keep '2w'\n\toption backup_interval '30m'\n" +
		"config archive_rule\n\toption up_to '1d'\n\toption window '60'\n\toption size_threshold '4096'\n"})
	k := readSettings(pathsBelow(root), nil).keeping(pathsBelow(root))
	want := store.ArchiveConfig{
		Path: filepath.Join(root, "mnt/pakon/a.db"), Keep: 14 * 24 * time.Hour, MaxFlows: 10_000_000,
		Rules: []store.Rule{{UpTo: 24 * time.Hour, Window: time.Minute, Threshold: 4096}},
	}
	if !reflect.DeepEqual(k.archive, want) || k.interval != 30*time.Minute {
		t.Errorf("got  %+v, %v\nwant %+v", k.archive, k.interval, want)
	}
	i := k.imports
	if i.Archive != want.Path+".original" || i.Backup != filepath.Join(root, "mnt/pakon/pakon.db.xz") || i.Live != filepath.Join(root, "var/lib/pakon.db.original") {
		t.Errorf("imports %+v", i)
	}
	excluded, err := client.ParseMAC("00:11:22:33:44:66")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		flow flow.Flow
		want bool
	}{
		{flow.Flow{}, false},
		{flow.Flow{Client: excluded}, true},
		{flow.Flow{Name: "www.example.org"}, true},
		{flow.Flow{Name: "www.example.net"}, false},
		{flow.Flow{Remote: netip.MustParseAddr("203.0.113.9")}, true},
	} {
		if got := i.Exclude(&tt.flow); got != tt.want {
			t.Errorf("%+v is excluded: %v", tt.flow, got)
		}
	}
}

func TestArchiveWarnings(t *testing.T) {
	config := uci.Default().Archive
	fine := api.Status{
		Clock: api.ClockStatus{Plausible: true}, Location: api.LocationStatus{Mount: "/srv", Kind: "drive"},
		Backup: api.BackupStatus{Interval: config.BackupInterval},
		Aside:  []string{"/srv/pakon/pakon-archive.db.imported", "/srv/pakon/pakon-archive.db.original"},
	}
	for _, tt := range []struct {
		name   string
		change func(*api.Status)
		want   []string
	}{
		{"nothing", func(*api.Status) {}, nil},
		{"no archive", func(s *api.Status) { s.Archive.Error, s.Backup.Error = "no drive", "no drive" }, []string{"no drive"}},
		{"no backup", func(s *api.Status) { s.Backup.Error = "full" }, []string{"do not outlive a reboot: full"}},
		{"clock", func(s *api.Status) { s.Clock = api.ClockStatus{Why: "it shows 1970-01-01"} }, []string{"it shows 1970-01-01."}},
		{"flash", func(s *api.Status) { s.Location.Kind, s.Backup.Interval = "internal", 12*time.Hour }, []string{"every 12 hours"}},
		{"RAM", func(s *api.Status) { s.Location.Kind, s.Backup.Interval = "ram", 12*time.Hour }, []string{"RAM (/srv)"}},
		{"damaged", func(s *api.Status) {
			s.Backup.Damaged = 2
			s.Aside = append(s.Aside, "/srv/pakon/pakon-archive.db.damaged-1")
		}, []string{"2 files", "delete them once they are of no use any more: /srv/pakon/pakon-archive.db.damaged-1."}},
	} {
		s := fine
		s.Aside = slices.Clone(fine.Aside)
		tt.change(&s)
		got := archiveWarnings(&s, config)
		ok := len(got) == len(tt.want)
		for i := range min(len(got), len(tt.want)) {
			ok = ok && strings.Contains(got[i], tt.want[i])
		}
		if !ok {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// TestWhatIsNoFile: something else in the place of a file, or far too large a file,
// keeps nobody waiting, and everything else holds.
func TestWhatIsNoFile(t *testing.T) {
	endless := func(path string) error { return os.Symlink("/dev/zero", path) }
	huge := func(path string) error {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		return os.Truncate(path, 1<<40)
	}
	fifo := func(path string) error { return unix.Mkfifo(path, 0o600) }
	locked := func(path string) error {
		if err := os.WriteFile(path, []byte(pakonFile), 0o644); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		t.Cleanup(func() { f.Close() })
		return unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	mine := "usr/share/pakon-light/domains_ignore/mine.txt"
	tests := []struct {
		name, path string
		make       func(string) error
		said       string
		refused    bool // the configuration is
	}{
		{"configuration", "etc/config/pakon", fifo, "", false}, // there is none, as for uci
		{"endless configuration", "etc/config/pakon", endless, "", false},
		{"huge configuration", "etc/config/pakon", huge, "", true},
		{"locked configuration", "etc/config/pakon", locked, "", true},
		{"staged changes", "tmp/.uci/pakon", fifo, "", false},
		{"huge staged changes", "tmp/.uci/pakon", huge, "", true},
		{"override", "var/run/uci/pakon", fifo, "", false},
		{"hosts", "etc/config/dhcp", fifo, "", false},
		{"mounts", "etc/config/fstab", fifo, "", false},
		{"ethers", "etc/ethers", fifo, "etc/ethers", false},
		{"list", "usr/share/pakon-light/domains_ignore/a.txt", fifo, "a.txt", false},
		{"endless list", "usr/share/pakon-light/domains_ignore/a.txt", endless, "a.txt", false},
		{"huge list", "usr/share/pakon-light/domains_ignore/a.txt", huge, "a.txt", false},
		{"groups", "usr/share/pakon-light/domains_replace/a.conf", fifo, "a.conf", false},
		{"endless groups", "usr/share/pakon-light/domains_replace/a.conf", endless, "a.conf", false},
		{"folder of groups", "usr/share/pakon-light/domains_replace", fifo, "domains_replace", false},
		{"our own lists", "usr/share/pakon-light/lists", fifo, "lists", false},
		{"huge own lists", "usr/share/pakon-light/lists", huge, "lists", false},
		{"saved configuration", "var/run/pakon/config.json", fifo, "", false},
		{"what is saved", "var/run/pakon/config.json.new", fifo, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := router(t, map[string]string{"etc/config/pakon": pakonFile, mine: "mine.example\n"})
			p := pathsBelow(root)
			last := readSettings(p, nil)
			path := filepath.Join(root, tt.path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.RemoveAll(path), tt.make(path)); err != nil {
				t.Fatal(err)
			}
			d := &daemon{log: slog.New(slog.DiscardHandler), paths: p}
			read := make(chan *settings)
			go func() { read <- d.read(last) }()
			var s *settings
			select {
			case s = <-read:
			case <-time.After(limits.For(20 * time.Second)):
				t.Fatal("it does not end")
			}
			if (s.refused != nil) != tt.refused || tt.refused && !slices.Equal(s.config.Monitor.Interfaces, last.config.Monitor.Interfaces) {
				t.Errorf("refused: %v; interfaces %v", s.refused, s.config.Monitor.Interfaces)
			}
			said := strings.Join(s.said(), "\n")
			if !strings.Contains(said, tt.said) {
				t.Errorf("said %q, want a word of %s", said, tt.said)
			}
			if c := s.lists.Classify("x.mine.example"); c.Hidden != "ignored" {
				t.Errorf("the other lists do not hold: %+v", c)
			}
			if b, err := os.ReadFile(p.saved); err != nil || !bytes.Contains(b, []byte("br-lan")) {
				t.Errorf("saved %q, %v", b, err)
			}
		})
	}
}

// TestSavedByAnother: what was saved by a Pakon of another version, or is not what
// was saved, is no reason not to start.
func TestSavedByAnother(t *testing.T) {
	root := router(t, map[string]string{"etc/config/pakon": "refused\n", "etc/config/dhcp": "refused\n"})
	p := pathsBelow(root)
	good := &settings{config: uci.Default()}
	good.config.Monitor.Interfaces = []string{"br-iot"}
	if err := good.save(p.saved); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(p.saved)
	if err != nil {
		t.Fatal(err)
	}
	kept := func(c *uci.Config) {}
	none := func(c *uci.Config) { c.Monitor.Interfaces = uci.Default().Monitor.Interfaces }
	for _, tt := range []struct {
		name, old, new string
		change         func(*uci.Config)
	}{
		{"as it was", "", "", kept},
		{"an option was not known", `"DatabaseLimit":3000000,`, "", kept},
		{"one that is not known any more", `"Mode"`, `"Moody":1,"Mode"`, kept},
		{"no interval", `"BackupInterval":7200000000000`, `"BackupInterval":0`, none},
		{"keeps nothing", `"Keep":2419200000000000`, `"Keep":-1`, none},
		{"no path", `/srv/pakon/pakon-archive.db`, `x`, none},
		{"another mode", `"Mode":"tap"`, `"Mode":"all"`, none},
		{"no interfaces", `["br-iot"]`, `[]`, none},
		{"an interface that none can be", `br-iot`, `../br-iot`, none},
		{"no rules", `"Rules":[`, `"Rules":[],"Others":[`, none},
		{"a rule of nothing", `"UpTo":86400000000000`, `"UpTo":0`, none},
		{"no files of hosts", `"HostsFiles":null`, `"HostsFiles":[]`, kept},
		{"of another type", `"Keep":2419200000000000`, `"Keep":"4w"`, none},
		{"cut off", `"Resolvers"`, "\x00", none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(string(whole), tt.old, tt.new, 1)
			if text == string(whole) && tt.old != "" {
				t.Fatalf("no %q in %s", tt.old, whole)
			}
			write(t, root, "var/run/pakon/config.json", text)
			want := good.config
			tt.change(&want)
			if s := readSettings(p, nil); !reflect.DeepEqual(s.config, want) {
				t.Errorf("in force is %+v, want %+v", s.config, want)
			}
		})
	}
}

// FuzzSaved: whatever is in the place of the saved configuration, what is in force
// is one that the owner could have written.
func FuzzSaved(f *testing.F) {
	p := pathsBelow(f.TempDir())
	if err := os.MkdirAll(p.run, 0o700); err != nil {
		f.Fatal(err)
	}
	for _, s := range []settings{
		{config: uci.Default()},
		{
			config: uci.Config{Rules: []uci.Rule{{UpTo: 1}}}, leases: []string{"/tmp/dhcp.leases"}, hostsFiles: []string{"/etc/ethers"},
			written:   []client.Host{{Name: "TV", MACs: []client.MAC{{0, 0x11, 0x22, 0x33, 0x44, 0x55}}, Addrs: []netip.Addr{netip.MustParseAddr("10.8.0.2")}}},
			resolvers: []netip.Addr{netip.MustParseAddr("192.168.1.53")},
		},
	} {
		if err := s.save(p.saved); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(p.saved)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"HostsFiles":[],"Config":{"Rules":[{}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		saved := parseSaved(b)
		if !saved.Config.Valid() {
			t.Fatalf("in force is %+v", saved.Config)
		}
		s := &settings{config: saved.Config, hosts: saved.Hosts, resolvers: saved.Resolvers}
		s.policy()
		if k := s.keeping(p); !strings.HasPrefix(k.archive.Path, p.root+"/") || len(k.archive.Rules) == 0 {
			t.Fatalf("%+v", k)
		}
	})
}
