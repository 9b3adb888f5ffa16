package uci

import (
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestReadHosts(t *testing.T) {
	file := `
config dnsmasq
	option domainneeded '1'

config host
	option name 'laptop'
	list mac '00:11:22:33:44:55'
	list mac '00:11:22:33:44:66'
	option ip '192.168.1.5'

config host 'tv'
	option name 'Mámina televize'
	option mac '00-11-22-AA-BB-CC 00:11:22:aa:bb:cc'
	option ip 'ignore'
	option leasetime 'infinite'

config host
	option mac '00:11:22:33:44:77'

config host
	option name 'no mac'

config host
	option name 'wrong'
	option mac '00:11:22:33:44'

config host
	option name 'pattern'
	list mac '00:11:22:*:*:*'
	list mac '00:11:22:33:44:88'

config host
	option name 'zero'
	option mac '00:00:00:00:00:00'

config host
	option name "two
lines"
	option mac '00:11:22:33:44:99'

config host 'long'
	option name '` + strings.Repeat("x", 256) + `'
	option mac '00:11:22:33:44:99'

config host
	option name '` + "\xff" + `'
	option mac '00:11:22:33:44:99'
`
	in := etc(t, map[string]string{"dhcp": file, ".dhcp": "+dhcp.cfg0b1234='host'\ndhcp.cfg0b1234.name='staged'\ndhcp.cfg0b1234.mac='00:11:22:33:44:aa'\n"})
	hosts, problems, err := ReadHosts(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []Host{
		{"laptop", []string{"00:11:22:33:44:55", "00:11:22:33:44:66"}, "192.168.1.5"},
		{"Mámina televize", []string{"00:11:22:aa:bb:cc"}, ""},
		{"pattern", []string{"00:11:22:33:44:88"}, ""},
		{"staged", []string{"00:11:22:33:44:aa"}, ""},
	}
	if !reflect.DeepEqual(hosts, want) {
		t.Errorf("got  %q\nwant %q", hosts, want)
	}
	wantProblems := []string{"@host[4].mac=00:11:22:33:44", "warning @host[5].mac=00:11:22:*:*:*", "@host[6].mac=00:00:00:00:00:00",
		"@host[7].name=two\nlines", "long.name=" + strings.Repeat("x", 256), "@host[9].name=\xff"}
	if got := found(problems); !reflect.DeepEqual(got, wantProblems) {
		t.Errorf("problems\ngot  %q\nwant %q", got, wantProblems)
	}
}

// TestOverrides: each reader takes the file that stands instead of the installed one.
func TestOverrides(t *testing.T) {
	in := etc(t, map[string]string{
		"pakon": "nonsense\n", "+pakon": "config monitor 'monitor'\n\toption mode 'wrong'\n\tlist interface 'br-iot'\n",
		"dhcp": "nonsense\n", "+dhcp": "config host\n\toption name 'tv'\n\toption mac '00:11:22:33:44:55'\n\nconfig dnsmasq\n\toption leasefile '/tmp/other'\n",
		"fstab": "nonsense\n", "+fstab": "config mount\n\toption enabled '1'\n\toption target '/srv'\n",
	})
	cfg, problems, err := Read(in)
	if err != nil || !slices.Equal(cfg.Monitor.Interfaces, []string{"br-iot"}) {
		t.Errorf("interfaces %v, %v", cfg.Monitor.Interfaces, err)
	}
	if len(problems) != 1 || problems[0].File != filepath.Join(in.Override, "pakon") {
		t.Errorf("problems %v", problems)
	}
	if hosts, _, err := ReadHosts(in); err != nil || len(hosts) != 1 || hosts[0].Name != "tv" {
		t.Errorf("hosts %v, %v", hosts, err)
	}
	if leases, err := ReadLeaseFiles(in); err != nil || !slices.Contains(leases, "/tmp/other") {
		t.Errorf("leases %v, %v", leases, err)
	}
	if mounts, err := ReadMounts(in); err != nil || !slices.Equal(mounts, []string{"/srv"}) {
		t.Errorf("mounts %v, %v", mounts, err)
	}
}

func TestReadHostsMissing(t *testing.T) {
	if hosts, problems, err := ReadHosts(Folders{t.TempDir(), t.TempDir(), t.TempDir()}); hosts != nil || problems != nil || err != nil {
		t.Error(hosts, problems, err)
	}
	in := etc(t, map[string]string{"dhcp": "host\n"})
	var parse *ParseError
	if hosts, _, err := ReadHosts(in); hosts != nil || !errors.As(err, &parse) {
		t.Error(hosts, err)
	}
}
