package uci

import (
	"errors"
	"slices"
	"testing"
)

func TestReadHostsFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		file string
		want []string
	}{
		"none":           {"config dnsmasq\n", nil},
		"no file at all": {"", nil},
		"a file":         {"config dnsmasq\n\toption dhcphostsfile '/etc/hosts.dhcp'\n", []string{"/etc/hosts.dhcp"}},
		"a folder":       {"config dnsmasq\n\toption dhcphostsfile '/etc/hosts.d/'\n", []string{"/etc/hosts.d"}},
		"of two servers": {"config dnsmasq a\n\toption dhcphostsfile '/etc/b'\nconfig dnsmasq b\n\toption dhcphostsfile '/etc/a'\nconfig dnsmasq c\n\toption dhcphostsfile '/etc/b'\n", []string{"/etc/b", "/etc/a"}},
		"no path":        {"config dnsmasq\n\toption dhcphostsfile 'hosts'\n", nil},
	} {
		files := map[string]string{}
		if tt.file != "" {
			files["dhcp"] = tt.file
		}
		if got, err := ReadHostsFiles(etc(t, files)); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tt.want)
		}
	}
}

func TestReadLeaseFiles(t *testing.T) {
	for _, tt := range []struct {
		name, file, staged string
		want               []string
	}{
		{"nothing", "", "", []string{"/tmp/dhcp.leases", "/tmp/hosts/odhcpd"}},
		{
			"OpenWrt's own",
			"config dnsmasq\n\toption leasefile '/tmp/dhcp.leases'\nconfig odhcpd 'odhcpd'\n\toption leasefile '/tmp/odhcpd.leases'\n\toption hostsdir '/tmp/hosts'\n",
			"",
			[]string{"/tmp/dhcp.leases", "/tmp/odhcpd.leases"},
		},
		{
			"two of dnsmasq",
			"config dnsmasq 'lan'\n\toption leasefile '/tmp/lan//leases'\nconfig dnsmasq 'guest'\n",
			"",
			[]string{"/tmp/dhcp.leases", "/tmp/hosts/odhcpd", "/tmp/lan/leases"},
		},
		{
			"one file for both",
			"config dnsmasq\n\toption leasefile '/tmp/leases'\nconfig odhcpd\n\toption leasefile '/tmp/leases'\n",
			"",
			[]string{"/tmp/leases"},
		},
		{
			"wrong",
			"config dnsmasq\n\toption leasefile 'dhcp.leases'\nconfig odhcpd\n\toption leasefile '/tmp/\x01'\n",
			"",
			[]string{"/tmp/dhcp.leases", "/tmp/hosts/odhcpd"},
		},
		{
			"staged",
			"config dnsmasq 'd'\n\toption leasefile '/tmp/dhcp.leases'\n",
			"dhcp.d.leasefile='/srv/dhcp.leases'\n",
			[]string{"/srv/dhcp.leases", "/tmp/hosts/odhcpd"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{}
			if tt.file != "" {
				files["dhcp"] = tt.file
			}
			if tt.staged != "" {
				files[".dhcp"] = tt.staged
			}
			in := etc(t, files)
			got, err := ReadLeaseFiles(in)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	in := etc(t, map[string]string{"dhcp": "host\n"})
	var parse *ParseError
	if paths, err := ReadLeaseFiles(in); paths != nil || !errors.As(err, &parse) {
		t.Error(paths, err)
	}
}
