package uci

import (
	"fmt"
	"strings"
	"testing"
)

func TestReadResolvers(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"no file", "", "[]"},
		{"the router", "config dhcp 'lan'\n\toption interface 'lan'\n\tlist dhcp_option '3,192.168.1.2'\n\tlist dhcp_option '42,192.168.1.3'\n", "[]"},
		{"list", "config dhcp 'lan'\n\tlist dhcp_option '6,192.168.1.53,192.168.1.54'\n\tlist dhcp_option '42,192.168.1.3'\n", "[192.168.1.53 192.168.1.54]"},
		{"option", "config dhcp 'lan'\n\toption dhcp_option '3,192.168.1.2 6,192.168.1.53'\n", "[192.168.1.53]"},
		{"by name, with tags", "config dhcp 'lan'\n\tlist dhcp_option 'tag:a,tag:b,option:dns-server,192.168.1.53'\n\tlist dhcp_option 'option6:dns-server,[fd00::53],[::]'\n", "[192.168.1.53 fd00::53]"},
		{"odhcpd", "config dhcp 'lan'\n\tlist dns 'fd00::53'\n\tlist dns '2001:db8::53'\n", "[fd00::53 2001:db8::53]"},
		{"of a tag", "config tag 'kids'\n\tlist dhcp_option '6,192.168.1.53'\n\toption force '1'\n", "[192.168.1.53]"},
		{"of dnsmasq", "config dnsmasq\n\tlist dhcp_option_force '6,192.168.1.53'\n", "[192.168.1.53]"},
		{"twice, and no addresses", "config dhcp 'lan'\n\tlist dhcp_option '6,192.168.1.53,x,192.168.1.53,0.0.0.0'\n\tlist dhcp_option '66,192.168.1.9'\n\tlist dhcp_option '6'\n", "[192.168.1.53]"},
		{"many", "config dhcp 'lan'\n" + strings.Join(func() (lines []string) {
			for i := range 100 {
				lines = append(lines, fmt.Sprintf("\tlist dns 'fd00::%x'\n", i+1))
			}
			return lines
		}(), ""), ""},
	} {
		in := etc(t, map[string]string{"dhcp": tt.file})
		got, err := ReadResolvers(in)
		if tt.name == "many" {
			if len(got) != maxResolvers {
				t.Errorf("%d addresses", len(got))
			}
			continue
		}
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.name, got, err, tt.want)
		}
	}
	if got, err := ReadResolvers(etc(t, nil)); got != nil || err != nil {
		t.Error(got, err)
	}
	in := etc(t, map[string]string{"dhcp": "config dhcp 'lan\n"})
	if _, err := ReadResolvers(in); err == nil {
		t.Error("a file that is wrong is read")
	}
}
