package uci

import (
	"errors"
	"reflect"
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
	confDir, deltaDir := etc(t, map[string]string{"dhcp": file, ".dhcp": "+dhcp.cfg0b1234='host'\ndhcp.cfg0b1234.name='staged'\ndhcp.cfg0b1234.mac='00:11:22:33:44:aa'\n"})
	hosts, problems, err := ReadHosts(confDir, deltaDir)
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

func TestReadHostsMissing(t *testing.T) {
	if hosts, problems, err := ReadHosts(t.TempDir(), t.TempDir()); hosts != nil || problems != nil || err != nil {
		t.Error(hosts, problems, err)
	}
	confDir, deltaDir := etc(t, map[string]string{"dhcp": "host\n"})
	var parse *ParseError
	if hosts, _, err := ReadHosts(confDir, deltaDir); hosts != nil || !errors.As(err, &parse) {
		t.Error(hosts, err)
	}
}
