package uci

import (
	"errors"
	"net/netip"
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
		{Name: "laptop", MACs: []string{"00:11:22:33:44:55", "00:11:22:33:44:66"}, Addrs: addrs("192.168.1.5")},
		{Name: "Mámina televize", MACs: []string{"00:11:22:aa:bb:cc"}},
		{Name: "pattern", MACs: []string{"00:11:22:33:44:88"}},
		{Name: "staged", MACs: []string{"00:11:22:33:44:aa"}},
	}
	if !reflect.DeepEqual(hosts, want) {
		t.Errorf("got  %+v\nwant %+v", hosts, want)
	}
	wantProblems := []string{"@host[4].mac=00:11:22:33:44", "warning @host[5].mac=00:11:22:*:*:*", "@host[6].mac=00:00:00:00:00:00",
		"@host[7].name=two\nlines", "long.name=" + strings.Repeat("x", 256), "@host[9].name=\xff"}
	if got := found(problems); !reflect.DeepEqual(got, wantProblems) {
		t.Errorf("problems\ngot  %q\nwant %q", got, wantProblems)
	}
}

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// TestHostForms: what OpenWrt's DHCP servers take in a section is taken, each form
// for the device that it means, and none of them is a mistake.
func TestHostForms(t *testing.T) {
	mac := []string{"3c:06:30:00:00:10"}
	for name, c := range map[string]struct {
		section string
		want    []Host
	}{
		"client identifier":         {"host\noption name pi\noption mac '3c:06:30:00:00:10 id:01:3C:06:30:0:0:10'\noption ip 192.168.1.10", []Host{{"pi", mac, []string{"01:3c:06:30:00:00:10"}, addrs("192.168.1.10")}}},
		"client identifier as text": {"host\noption name pi\nlist mac id:pi", []Host{{Name: "pi", IDs: []string{"70:69"}}}},
		"no client identifier":      {"host\noption name pi\nlist mac 3c:06:30:00:00:10\nlist mac id:*", []Host{{Name: "pi", MACs: mac}}},
		"type of hardware":          {"host\noption name pi\nlist mac 06-3c:06:30:00:00:10\nlist mac 01-3c:06:30:00:00:11", []Host{{Name: "pi", MACs: []string{"3c:06:30:00:00:10", "3c:06:30:00:00:11"}}}},
		"other hardware":            {"host\noption name pi\nlist mac 20-00:11:22:33:44:55:66:77\nlist mac 3c:06:30:00:00:10", []Host{{Name: "pi", MACs: mac}}},
		"capitals and dashes":       {"host\noption name pi\noption mac 3C-06-30-00-00-10", []Host{{Name: "pi", MACs: mac}}},
		"digits left out":           {"host\noption name pi\noption mac 3c:6:30:0:0:10", []Host{{Name: "pi", MACs: mac}}},
		"commas":                    {"host\noption name pi\noption mac 3c:06:30:00:00:10,set:iot,3c:06:30:00:00:11", []Host{{Name: "pi", MACs: []string{"3c:06:30:00:00:10", "3c:06:30:00:00:11"}}}},
		"tags and a lease time":     {"host\noption name pi\noption mac 'tag:lan 3c:06:30:00:00:10 net:x infinite 12h 3600'", []Host{{Name: "pi", MACs: mac}}},
		"DUID":                      {"host\noption name pi\noption duid 000300013C0630000010", []Host{{Name: "pi", IDs: []string{"00:03:00:01:3c:06:30:00:00:10"}}}},
		"DUIDs with IAID":           {"host\noption name pi\nlist duid 00030001aa%1\nlist duid 00030001bb%2", []Host{{Name: "pi", IDs: []string{"00:03:00:01:aa", "00:03:00:01:bb"}}}},
		"address without a name":    {"host\noption mac 3c:06:30:00:00:10\noption ip 192.168.1.10", []Host{{MACs: mac, Addrs: addrs("192.168.1.10")}}},
		"no address":                {"host\noption name pi\noption mac 3c:06:30:00:00:10\noption ip ignore", []Host{{Name: "pi", MACs: mac}}},
		"disabled":                  {"host\noption name pi\noption mac 3c:06:30:00:00:10\noption enable 0", nil},
		"domain":                    {"domain\noption name nas.lan\noption ip 192.168.1.9", []Host{{Name: "nas.lan", Addrs: addrs("192.168.1.9")}}},
		"domain with several names": {"domain\nlist name nas\nlist name files\noption ip 2001:db8::9", []Host{{Name: "nas", Addrs: addrs("2001:db8::9")}}},
		"domain without an address": {"domain\noption name nas\noption ip ''", nil},
		"host record":               {"hostrecord\nlist name nas\nlist ip 192.168.1.9\nlist ip fd00:1::9", []Host{{Name: "nas", Addrs: addrs("192.168.1.9", "fd00:1::9")}}},
	} {
		t.Run(name, func(t *testing.T) {
			hosts, problems, err := ReadHosts(etc(t, map[string]string{"dhcp": "config " + c.section + "\n"}))
			if err != nil || len(problems) > 0 || !reflect.DeepEqual(hosts, c.want) {
				t.Errorf("got %+v, problems %v, error %v; want %+v", hosts, problems, err, c.want)
			}
		})
	}
}

// TestParseHost: a line of a file of dnsmasq's hosts.
func TestParseHost(t *testing.T) {
	mac := []string{"3c:06:30:00:00:10"}
	for line, want := range map[string]Host{
		"3c:06:30:00:00:10,192.168.1.10,phone":                                 {"phone", mac, nil, addrs("192.168.1.10")},
		"set:known, 3C:06:30:00:00:10 , phone , 12h":                           {Name: "phone", MACs: mac},
		"phone,id:00:03:00:01:3c:06:30:00:00:10,[2001:db8::10],[::beef],1h":    {"phone", nil, []string{"00:03:00:01:3c:06:30:00:00:10"}, addrs("2001:db8::10")},
		"3c:06:30:00:00:10,3c:06:30:00:00:11,ignore,phone":                     {Name: "phone", MACs: []string{"3c:06:30:00:00:10", "3c:06:30:00:00:11"}},
		"phone,192.168.1.10,infinite":                                          {Name: "phone", Addrs: addrs("192.168.1.10")},
		"3c:06:30:00:00:10,192.168.1.10":                                       {MACs: mac, Addrs: addrs("192.168.1.10")},
		"3c:06:30:00:00:10,set:iot":                                            {MACs: mac},
		"11-00:11:22:33:44:55,3c:06:30:00:00:*,3c:06:30:00:00:10,id:*,7sw,60s": {Name: "7sw", MACs: mac},
	} {
		if h, ok := ParseHost(line); !ok || !reflect.DeepEqual(h, want) {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", line, h, ok, want)
		}
	}
	for _, line := range []string{"3c:06:30:00:00,phone", "3c:06:30:00:00:1g,phone", "id:zz:1,phone", "3c:06:30:00:00:10,a,b", "3c:06:30:00:00:10,a b", "x-3c:06:30:00:00:10,phone", "3c:06:30:00:00:10,a\x01"} {
		if h, ok := ParseHost(line); ok {
			t.Errorf("%q is taken for %+v", line, h)
		}
	}
}

func TestParseEthers(t *testing.T) {
	mac := []string{"3c:06:30:00:00:10"}
	for line, want := range map[string]Host{
		"3C:06:30:00:00:10 phone":           {Name: "phone", MACs: mac},
		" 3c:6:30:0:0:10\tphone.lan # mine": {Name: "phone.lan", MACs: mac},
		"3c:06:30:00:00:10 192.168.1.10":    {MACs: mac, Addrs: addrs("192.168.1.10")},
		"# 3c:06:30:00:00:10 phone":         {},
		"+ 3c:06:30:00:00:10 phone":         {},
		"":                                  {},
	} {
		if h, ok := ParseEthers(line); !ok || !reflect.DeepEqual(h, want) {
			t.Errorf("%q\ngot  %+v, %v\nwant %+v", line, h, ok, want)
		}
	}
	for _, line := range []string{"phone", "3c:06:30:00:00:10", "phone 3c:06:30:00:00:10", "3c:06:30:*:*:* phone", "3c:06:30:00:00:10 a\x01"} {
		if h, ok := ParseEthers(line); ok {
			t.Errorf("%q is taken for %+v", line, h)
		}
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
