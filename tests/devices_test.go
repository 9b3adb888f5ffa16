package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pakon/tests/limits"
	"pakon/tests/rig"
	"pakon/tests/router"
	"pakon/ubus"
)

const (
	// nameTime is far more than a name takes from a file to a reply (less than a
	// second). Files are read when they change, and at no other time.
	nameTime = 10 * time.Second

	leaseFile  = "tmp/dhcp.leases"
	odhcpdFile = "tmp/hosts/odhcpd"
)

// home is a router with connection tracking and dnsmasq, and Pakon on it, which
// does not run yet and gets no Suricata.
func home(t *testing.T, devices []router.Device, hosts []rig.Host) (*router.Router, *rig.System) {
	t.Helper()
	for _, program := range []string{"dnsmasq", "udhcpc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs a DHCP server and a client: %v", err)
		}
	}
	r := startRouter(t, devices)
	if err := r.Firewall(); err != nil {
		t.Fatal(err)
	}
	// What goes by UDP is over soon.
	if err := r.Sysctl("netfilter/nf_conntrack_udp_timeout", "1"); err != nil {
		t.Fatal(err)
	}
	s := newSystem(t, r.Do, hosts)
	args := []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--pid-file=", "--user=", "--port=0", "--no-ping",
		"--bind-interfaces", "--dhcp-authoritative", "--dhcp-leasefile=" + s.Root.Path(leaseFile),
	}
	for _, n := range router.Networks {
		first := n.V4.Masked().Addr().As4()
		first[3] = 100
		last := first
		last[3] = 199
		args = append(args, "--interface="+n.Bridge, fmt.Sprintf("--dhcp-range=%v,%v,1h", netip.AddrFrom4(first), netip.AddrFrom4(last)))
	}
	server, err := rig.Start(r.Do, s.Echo, "dnsmasq", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(limits.For(10 * time.Second)); err != nil {
			t.Error(err)
		}
	})
	if err := server.Await(t.Context(), "started"); err != nil {
		t.Fatal(err)
	}
	return r, s
}

// stage makes changes of Pakon's configuration as `uci set` and `uci add_list`
// leave them, and reloads.
func stage(t *testing.T, s *rig.System, changes ...string) {
	t.Helper()
	if err := s.Root.Write("tmp/.uci/pakon", strings.Join(changes, "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.Call(t.Context(), "reload", nil, nil); err != nil {
		t.Fatal(err)
	}
	if st := status(t, s); st.Config.Error != "" || len(st.Config.Problems) > 0 {
		t.Fatalf("the configuration is refused: %+v", st.Config)
	}
}

func lease(t *testing.T, c *router.Client, name, id string) {
	t.Helper()
	if err := c.Lease(t.Context(), name, id); err != nil {
		t.Fatal(err)
	}
}

func probe(t *testing.T, clients ...*router.Client) {
	t.Helper()
	for _, c := range clients {
		if err := c.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func devicesOf(t *testing.T, s *rig.System) map[string]rig.Device {
	t.Helper()
	devices, err := s.Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return devices
}

// awaitDevice waits until a device is known and ok holds for it.
func awaitDevice(t *testing.T, s *rig.System, mac string, ok func(rig.Device) bool) rig.Device {
	t.Helper()
	var d rig.Device
	err := s.Until(t.Context(), nameTime, func(ctx context.Context) (bool, error) {
		devices, err := s.Devices(ctx)
		if err != nil {
			return false, err
		}
		var known bool
		d, known = devices[mac]
		return known && ok(d), nil
	})
	if err != nil {
		t.Fatalf("device %s: %v; it is %+v", mac, err, d)
	}
	return d
}

// TestNamesByDHCP: what a device tells the DHCP server is its name at once, also of
// a flow that runs already, whichever server writes it and how.
func TestNamesByDHCP(t *testing.T) {
	t.Parallel()
	r, s := home(t, []router.Device{{Network: router.LAN, MAC: "3c:06:30:0b:00:01", DHCP: true}}, nil)
	startDaemon(t, s, "--no-suricata")
	phone := r.Clients()[0]
	lease(t, phone, "", "")
	tr, err := phone.Open(t.Context(), "www.example.org", router.HTTP, false)
	if err != nil {
		t.Fatal(err)
	}
	// shown are the names by which the phone and its flow are shown.
	shown := func(ctx context.Context) (names [2]string, err error) {
		devices, err := s.Devices(ctx)
		if err != nil {
			return names, err
		}
		flows, _, err := s.Query(ctx, map[string]any{"filter": false, "mac": phone.MAC})
		if err != nil {
			return names, err
		}
		names[0] = devices[phone.MAC].Name
		for _, f := range flows {
			if f.Running {
				names[1] = f.Client
			}
		}
		return names, nil
	}
	// named waits until that is the name.
	named := func(want string) {
		t.Helper()
		var names [2]string
		if err := s.Until(t.Context(), nameTime, func(ctx context.Context) (bool, error) {
			now, err := shown(ctx)
			if err == nil {
				names = now
			}
			return now == [2]string{want, want}, err
		}); err != nil {
			t.Fatalf("the phone and its flow are called %q, want %q: %v", names, want, err)
		}
	}
	named("Apple 00:01")

	lease(t, phone, "Evas-phone", "")
	named("Evas-phone")

	line := fmt.Sprintf("%d %s %v Evas-new-name 01:%[2]s\n", time.Now().Add(time.Hour).Unix(), phone.MAC, phone.V4)
	if err := s.Root.Write(leaseFile, line); err != nil { // by rename
		t.Fatal(err)
	}
	named("Evas-new-name")

	// The other server, whose folder was not there before: of before 2025 in place, then by a hidden file beside it.
	if err := s.Root.Write(leaseFile, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.Root.Path("tmp/hosts"), 0o755); err != nil {
		t.Fatal(err)
	}
	odhcpd := func(name string) string {
		a := phone.V4.As4()
		return fmt.Sprintf("%v\t%s\n# br-lan %s ipv4 %[2]s %[4]d %x 32 %[1]v/32\n",
			phone.V4, name, strings.ReplaceAll(phone.MAC, ":", ""), time.Now().Add(time.Hour).Unix(), a[:])
	}
	if err := os.WriteFile(s.Root.Path(odhcpdFile), []byte(odhcpd("Evas-third-name")), 0o644); err != nil {
		t.Fatal(err)
	}
	named("Evas-third-name")
	hidden := s.Root.Path("tmp/hosts/.odhcpd")
	if err := errors.Join(os.WriteFile(hidden, []byte(odhcpd("Evas-fourth-name")), 0o644), os.Rename(hidden, s.Root.Path(odhcpdFile))); err != nil {
		t.Fatal(err)
	}
	named("Evas-fourth-name")
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestBehindExtender: what an extender sends with its own MAC is of the devices behind
// it, by their leases, also what is not to be recorded; and what the owner calls them
// in /etc/ethers holds at once.
func TestBehindExtender(t *testing.T) {
	t.Parallel()
	const own, tv, tablet = "d8:0d:17:0b:00:20", "50:c7:bf:0b:00:21", "3c:06:30:0b:00:22"
	r, s := home(t, []router.Device{{Network: router.LAN, MAC: own}}, nil)
	extender := r.Clients()[0]
	behind := map[string]netip.Addr{tv: netip.MustParseAddr("192.168.1.21"), tablet: netip.MustParseAddr("192.168.1.22")}
	startDaemon(t, s, "--no-suricata")
	if err := s.Root.Write("tmp/.uci/dhcp", "+dhcp.cfg0a='domain'\ndhcp.cfg0a.name='tablet'\ndhcp.cfg0a.ip='192.168.1.22'\n"); err != nil {
		t.Fatal(err)
	}
	stage(t, s, "|pakon.monitor.exclude_client='tablet'")
	leases := ""
	for mac, a := range behind {
		leases += fmt.Sprintf("%d %s %v * *\n", time.Now().Add(time.Hour).Unix(), mac, a)
	}
	if err := s.Root.Write(leaseFile, leases); err != nil {
		t.Fatal(err)
	}
	speak := func(mac string) {
		t.Helper()
		if err := extender.Speak(behind[mac]); err != nil {
			t.Fatal(err)
		}
	}
	for mac := range behind {
		speak(mac)
		probe(t, extender)
	}
	awaitDevice(t, s, own, func(d rig.Device) bool { // once it is known for an extender
		return !slices.ContainsFunc(d.Addresses, func(a string) bool { return a == behind[tv].String() || a == behind[tablet].String() })
	})
	for _, mac := range []string{tablet, tv} {
		speak(mac)
		tr, err := extender.Open(t.Context(), "www.example.org", router.HTTP, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Root.Write("etc/ethers", tv+" Living-room\n"); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := s.Until(t.Context(), reportTime, func(ctx context.Context) (bool, error) {
		flows, _, err := s.Query(ctx, map[string]any{"filter": false})
		got = nil
		for _, f := range flows {
			got = append(got, fmt.Sprintf("%s %s to %s/%d", f.MAC, f.Client, f.Proto, f.Port))
		}
		return slices.Equal(got, []string{tv + " Living-room to tcp/80"}), err
	})
	if err != nil {
		t.Errorf("%v; the flows are %q", err, got)
	}
}

// TestWellKnownNames: what no name leads to is called by its address or its port.
func TestWellKnownNames(t *testing.T) {
	t.Parallel()
	r, s := home(t, router.Household()[:1], nil)
	c := r.Clients()[0]
	web := netip.AddrPortFrom(router.Networks[0].V4.Addr(), 80)
	var listener net.Listener
	if err := r.Do(func() (err error) {
		listener, err = net.Listen("tcp", web.String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), <-served); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	if err := r.Echo(123); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")
	clock := netip.AddrPortFrom(router.EchoAddr, 123)
	for _, ask := range []struct {
		network string
		to      netip.AddrPort
		message string
	}{
		{"tcp", web, "GET / HTTP/1.0\r\n\r\n"},
		{"udp", clock, "what time is it?"},
	} {
		if answer, err := c.Ask(t.Context(), ask.network, ask.to, ask.message); err != nil || answer == "" {
			t.Fatalf("%v answers %q: %v", ask.to, answer, err)
		}
	}
	shown := func(f rig.Flow) string {
		return fmt.Sprintf("%s %d/%s %q by %q in %q hidden %q", f.Address, f.Port, f.Proto, f.Hostname, f.Source, f.Group, f.Hidden)
	}
	for _, tt := range []struct {
		filter bool
		want   []string
	}{
		{false, []string{
			`192.168.1.1 80/tcp "router" by "address" in "router" hidden ""`,
			`203.0.113.2 123/udp "ntp" by "port" in "ntp" hidden "time"`,
		}},
		{true, []string{`192.168.1.1 80/tcp "router" by "address" in "router" hidden ""`}},
	} {
		var got []string
		err := s.Until(t.Context(), reportTime, func(ctx context.Context) (bool, error) {
			flows, _, err := s.Query(ctx, map[string]any{"filter": tt.filter})
			if err != nil {
				return false, err
			}
			got = nil
			for _, f := range flows {
				got = append(got, shown(f))
			}
			slices.Sort(got)
			return slices.Equal(got, tt.want), nil
		})
		if err != nil {
			t.Errorf("filter %v: %v; there are\n%s", tt.filter, err, strings.Join(got, "\n"))
		}
	}
}

// told is what was told of new devices, by all that tells.
type told struct {
	s     *rig.System
	mu    sync.Mutex
	onBus []string
}

const (
	byProgram = "tmp/told-by-program"
	byTurris  = "tmp/told-by-turris"
)

// listen keeps what is told, from the start of the daemon on and through its
// restarts.
func listen(t *testing.T, s *rig.System) *told {
	t.Helper()
	for path, script := range map[string]string{
		"etc/pakon/client-new.d/10-test": `echo "$PAKON_MAC|$PAKON_NAME|$PAKON_VENDOR|$PAKON_ADDRESS|$PAKON_INTERFACE|$PAKON_EARLIER|$PAKON_MORE" >>` + s.Root.Path(byProgram),
		"usr/bin/create_notification":    `echo "$#|$1|$2|$3|$4" >>` + s.Root.Path(byTurris),
	} {
		if err := os.MkdirAll(filepath.Dir(s.Root.Path(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.Root.Path(path), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bus, err := ubus.Dial(t.Context(), s.Root.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &told{s: s}
	bus.Subscribe("pakon", func(typ string, data ubus.Table) {
		if typ != "client.new" {
			return
		}
		var values []string
		for _, key := range []string{"mac", "name", "vendor", "address", "interface"} {
			value, ok := data.String(key)
			if !ok {
				value = fmt.Sprintf("no %s in %v", key, data)
			}
			values = append(values, value)
		}
		earlier, _ := data.String("earlier")
		more, _ := data.Int("more")
		values = append(values, earlier, fmt.Sprint(more))
		n.mu.Lock()
		defer n.mu.Unlock()
		n.onBus = append(n.onBus, strings.Join(values, "|"))
	})
	return n
}

// now is what was told until now: on the bus, by the program and by Turris.
func (n *told) now() (got [3][]string, err error) {
	n.mu.Lock()
	got[0] = slices.Clone(n.onBus)
	n.mu.Unlock()
	for i, path := range []string{byProgram, byTurris} {
		b, e := os.ReadFile(n.s.Root.Path(path))
		if e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
		got[i+1] = strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
	}
	return got, err
}

// device is a new one as it is to be told.
type device struct {
	mac, name, vendor, address, network string
	turris                              bool   // by Turris, too
	earlier                             string // its MAC before, if its name alone tells that
}

func deviceOf(c *router.Client, name, vendor string) device {
	return device{mac: c.MAC, name: name, vendor: vendor, address: c.V4.String(), network: c.Network, turris: true}
}

// check waits until the last of the devices was told in all ways in which it is to
// be, and compares all that was told with all that was to be.
func (n *told) check(t *testing.T, devices ...device) {
	t.Helper()
	var want [3][]string
	for _, d := range devices {
		line := strings.Join([]string{d.mac, d.name, d.vendor, d.address, d.network, d.earlier, "0"}, "|")
		want[0], want[1] = append(want[0], line), append(want[1], line)
		if !d.turris {
			continue
		}
		about := d.name
		if d.vendor != "" && !strings.HasPrefix(d.name, d.vendor) {
			about += " (" + d.vendor + ")"
		}
		about = fmt.Sprintf("%s: %s, %s, MAC %s", d.network, about, d.address, d.mac)
		czech, english := "Nové zařízení v síti "+about, "New device in the network "+about
		if d.earlier != "" {
			czech = "Zařízení je zpět s jinou adresou v síti " + about + ", dříve " + d.earlier
			english = "A device is back with another address in the network " + about + ", was " + d.earlier
		}
		want[2] = append(want[2], "4|-s|news|"+czech+"|"+english)
	}
	last := devices[len(devices)-1]
	var got [3][]string
	err := n.s.Until(t.Context(), 2*nameTime, func(context.Context) (all bool, err error) {
		got, err = n.now()
		all = true
		for i, lines := range got {
			if i < 2 || last.turris {
				all = all && slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, last.mac) })
			}
		}
		return all, err
	})
	if err != nil {
		t.Errorf("%s was not told: %v", last.mac, err)
	}
	for i, by := range []string{"on the bus", "by the program", "by Turris"} {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("told %s was\n%s\nwant\n%s", by, strings.Join(got[i], "\n"), strings.Join(want[i], "\n"))
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// TestNewDevices lives with a router for a while: each new device is told once, and so
// is one that comes back with another MAC if its name alone shows that; those that
// were there, those that come back and say who they are, and those that are muted are
// not, and those that are left out are not known at all. That none is told is seen
// once the next one was.
func TestNewDevices(t *testing.T) {
	t.Parallel()
	var devices []router.Device
	index := map[string]int{}
	for i, d := range []router.Device{
		{Name: "Annas-phone", Network: router.LAN, MAC: "3c:06:30:0a:00:01"},
		{Name: "there", Network: router.Guest, MAC: "d8:0d:17:0a:00:02"},
		{Name: "first", Network: router.LAN, MAC: "3c:06:30:0a:00:03", DHCP: true},
		{Name: "silent", Network: router.LAN, MAC: "00:1b:21:0a:00:04"},
		{Name: "random", Network: router.LAN, MAC: "fe:9a:2c:0a:00:05", DHCP: true},
		{Name: "identified", Network: router.LAN, MAC: "fe:9a:2c:0a:00:06", DHCP: true},
		{Name: "muted by MAC", Network: router.LAN, MAC: "3c:06:30:0a:00:07", DHCP: true},
		{Name: "muted by name", Network: router.LAN, MAC: "3c:06:30:0a:00:08", DHCP: true},
		{Name: "muted by interface", Network: router.Guest, MAC: "3c:06:30:0a:00:09", DHCP: true},
		{Name: "left out by MAC", Network: router.LAN, MAC: "3c:06:30:0a:00:0a", DHCP: true},
		{Name: "Left-out-by-name", Network: router.LAN, MAC: "3c:06:30:0a:00:0b", DHCP: true},
		{Name: "without Turris", Network: router.LAN, MAC: "d8:0d:17:0a:00:0c", DHCP: true},
		{Name: "last", Network: router.LAN, MAC: "d8:0d:17:0a:00:0d", DHCP: true},
	} {
		devices = append(devices, d)
		index[d.Name] = i
	}
	var hosts []rig.Host
	for _, name := range []string{"Annas-phone", "Left-out-by-name"} {
		hosts = append(hosts, rig.Host{Name: name, MACs: []string{devices[index[name]].MAC}})
	}
	hosts = append(hosts, rig.Host{Name: "Muted-phone", MACs: []string{devices[index["muted by name"]].MAC}})
	r, s := home(t, devices, hosts)
	the := func(name string) *router.Client { return r.Clients()[index[name]] }

	probe(t, the("Annas-phone"), the("there"))
	notices := listen(t, s)
	if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.notify_new_devices='1'\n"); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")
	for _, name := range []string{"Annas-phone", "there"} {
		awaitDevice(t, s, the(name).MAC, func(rig.Device) bool { return true })
	}

	// Who comes soon after it was settled who was there counts as one of those, but for
	// a restart.
	kept := s.Root.Path("srv/pakon/devices.json")
	if err := s.Until(t.Context(), nameTime, func(context.Context) (bool, error) {
		_, err := os.Stat(kept)
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.StopDaemon(); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")

	first := the("first")
	lease(t, first, "Evas-phone", "")
	want := []device{deviceOf(first, "Evas-phone", "Apple")}
	notices.check(t, want...)
	firstSeen := map[string]int64{}
	for _, name := range []string{"Annas-phone", "there", "first"} {
		firstSeen[name] = devicesOf(t, s)[the(name).MAC].FirstSeen
	}

	// One that asks for no address is waited for a moment, in case it does. Others
	// are told meanwhile, and are known again when they come with another MAC.
	probe(t, the("silent"))
	for _, again := range []struct{ who, name, id, mac string }{
		{"random", "Petrs-tablet", "", "fe:9a:2c:0b:00:05"},
		{"identified", "android", "00aabbccddeeff0011", "fe:9a:2c:0b:00:06"},
	} {
		c, old := the(again.who), the(again.who).MAC
		lease(t, c, again.name, again.id)
		want = append(want, deviceOf(c, again.name, ""))
		notices.check(t, want...)
		before := devicesOf(t, s)[old]
		tr, err := c.Open(t.Context(), "www.example.org", router.HTTP, false)
		if err != nil {
			t.Fatal(err)
		}
		move(t, tr, 1000, 1000)
		if err := c.SetMAC(again.mac); err != nil {
			t.Fatal(err)
		}
		lease(t, c, again.name, again.id)
		// A connection that the old MAC had is over later, and no sign of its life.
		if err := tr.Abort(); err != nil {
			t.Fatal(err)
		}
		// Anybody may take a name: it stays the old MAC's.
		name, sure := again.name, again.id != ""
		if !sure {
			name += " 00:05"
			back := deviceOf(c, name, "")
			back.earlier = old
			want = append(want, back)
			notices.check(t, want...)
		}
		d := awaitDevice(t, s, c.MAC, func(d rig.Device) bool { return d.Name == name })
		if d.Earlier != old || sure && d.FirstSeen != before.FirstSeen || !d.Random {
			t.Errorf("%s came back as %+v, was %+v", again.who, d, before)
		}
		if d := devicesOf(t, s)[old]; d.Name != again.name || d.Earlier != "" {
			t.Errorf("%s is remembered as %+v", again.who, d)
		}
	}
	want = append(want, deviceOf(the("silent"), "Intel 00:04", "Intel"))
	notices.check(t, want...)

	// A restart, for which all is lost but the list of devices.
	if err := s.StopDaemon(); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"var/lib/*", "srv/pakon/*"} {
		lost, err := filepath.Glob(s.Root.Path(pattern))
		if err != nil || len(lost) == 0 {
			t.Fatalf("%s: %q, %v", pattern, lost, err)
		}
		for _, path := range lost {
			if path == kept {
				continue
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	restarted := time.Now()
	startDaemon(t, s, "--no-suricata")
	for name, at := range firstSeen {
		probe(t, the(name))
		d := awaitDevice(t, s, the(name).MAC, func(d rig.Device) bool { return len(d.Addresses) > 0 })
		if d.FirstSeen != at || at >= restarted.Unix() {
			t.Errorf("%s was first seen at %d, want %d; the restart was at %d", name, d.FirstSeen, at, restarted.Unix())
		}
	}
	probe(t, the("silent"), the("random"), the("identified"))

	options := []string{
		"|pakon.monitor.notify_mute='" + the("muted by MAC").MAC + "'",
		"|pakon.monitor.notify_mute='muted-phone'",
		"|pakon.monitor.notify_mute='" + router.Guest + "'",
		"|pakon.monitor.exclude_client='" + the("left out by MAC").MAC + "'",
		"|pakon.monitor.exclude_client='left-out-by-NAME'",
	}
	stage(t, s, append(options, "pakon.monitor.notify_new_devices='0'")...)
	muted := []string{"muted by MAC", "muted by name", "muted by interface"}
	out := []string{"left out by MAC", "Left-out-by-name"}
	for i, name := range slices.Concat(muted, out) {
		lease(t, the(name), []string{"Muted-1", "Muted-Phone", "Muted-3", "Out-1", "Out-2"}[i], "")
		if _, err := the(name).Fetch(t.Context(), router.Request{Site: "www.example.org", Protocol: router.HTTP, Receive: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	lease(t, the("without Turris"), "Cam-1", "")
	want = append(want, deviceOf(the("without Turris"), "Cam-1", "TP-Link"))
	want[len(want)-1].turris = false
	notices.check(t, want...)
	stage(t, s, append(options, "pakon.monitor.notify_new_devices='1'")...)
	last := the("last")
	lease(t, last, "Cam-2", "")
	want = append(want, deviceOf(last, "Cam-2", "TP-Link"))
	notices.check(t, want...)

	// Their connections are over; the last one's is the latest.
	if _, err := last.Fetch(t.Context(), router.Request{Site: "www.example.org", Protocol: router.HTTP, Receive: 1000}); err != nil {
		t.Fatal(err)
	}
	var recorded map[string]int
	var nobodys []rig.Flow
	err := s.Until(t.Context(), reportTime, func(ctx context.Context) (bool, error) {
		flows, _, err := s.Query(ctx, map[string]any{"direction": "both", "filter": false})
		if err != nil {
			return false, err
		}
		recorded, nobodys = map[string]int{}, nil
		for _, f := range flows {
			if recorded[f.MAC]++; f.MAC == "" {
				nobodys = append(nobodys, f)
			}
		}
		all := recorded[last.MAC] > 0
		for _, name := range muted {
			all = all && recorded[the(name).MAC] > 0
		}
		return all, nil
	})
	if err != nil {
		t.Errorf("flows of the muted devices and of the last one: %v; there are %v", err, recorded)
	}
	known := devicesOf(t, s)
	for _, name := range muted {
		if _, ok := known[the(name).MAC]; !ok {
			t.Errorf("the device %s is not known", name)
		}
	}
	for _, name := range out {
		// One that is excluded is there for the bytes that were left out, if at all.
		if d := known[the(name).MAC]; d.FirstSeen != 0 || len(d.Addresses) > 0 || recorded[the(name).MAC] > 0 {
			t.Errorf("the device %s is known as %+v, with %d flows", name, d, recorded[the(name).MAC])
		}
	}
	if len(nobodys) > 0 {
		t.Errorf("flows of nobody: %+v", nobodys)
	}
	notices.check(t, want...)
}

// TestOwnersLists: lists that the owner writes hold at once, also for what was
// recorded and for what runs; and a name that is left out is not recorded.
func TestOwnersLists(t *testing.T) {
	t.Parallel()
	r, s := monitoredRouter(t, "tap")
	c := r.Clients()[0]
	tr := open(t, c, "www.example.org", false)
	defer tr.Close()
	if _, err := c.Fetch(t.Context(), router.Request{Site: "weather.test", Protocol: router.TLS13, Receive: 1000}); err != nil {
		t.Fatal(err)
	}
	// grouped waits until the flow that runs and the one that is over are in groups.
	grouped := func(when, running, over string) {
		t.Helper()
		want := []string{"weather.test in " + over, "www.example.org in " + running + ", running"}
		var got []string
		err := s.Until(t.Context(), nameTime, func(ctx context.Context) (bool, error) {
			flows, _, err := s.Query(ctx, map[string]any{"mac": c.MAC})
			if err != nil {
				return false, err
			}
			got = nil
			for _, f := range flows {
				shown := f.Hostname + " in " + f.Group
				if f.Running {
					shown += ", running"
				}
				got = append(got, shown)
			}
			slices.Sort(got)
			return slices.Equal(got, want), nil
		})
		if err != nil {
			t.Errorf("%s: %v; there are %q, want %q", when, err, got, want)
		}
	}
	grouped("with the lists of the project", "example.org", "weather.test")
	dir := "usr/share/pakon-light/domains_replace"
	if err := os.MkdirAll(s.Root.Path(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Root.Write(dir+"/mine.conf", `"example.org" : "mine.example"`+"\n"+`"weather.test" : "sky.example"`+"\n"); err != nil {
		t.Fatal(err)
	}
	grouped("with a list of the owner's", "mine.example", "sky.example")
	// In place, as an editor may write it.
	if err := os.WriteFile(s.Root.Path(dir+"/mine.conf"), []byte(`"www.example.org" : "other.example"`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	grouped("after a change of the list", "other.example", "weather.test")
	if err := s.Root.Remove(dir + "/mine.conf"); err != nil {
		t.Fatal(err)
	}
	grouped("without the list", "example.org", "weather.test")

	stage(t, s, "pakon.monitor.mode='tap'", "|pakon.monitor.exclude_hostname='example.com'")
	awaitCapture(t, s, c) // through the reload
	for _, site := range []string{"mail.example.com", "photos.test"} {
		if _, err := c.Fetch(t.Context(), router.Request{Site: site, Protocol: router.TLS13, Receive: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	awaitFlow(t, s, c, "photos.test", func(rig.Flow) bool { return true })
	var names []string
	for _, f := range flowsOf(t, s, c) {
		names = append(names, f.Hostname)
	}
	slices.Sort(names)
	if want := []string{"photos.test", "weather.test", "www.example.org"}; !slices.Equal(names, want) {
		t.Errorf("recorded are %q, want %q", names, want)
	}
}
