package store

import (
	"net/netip"
	"testing"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
)

// TestForgettingMatcher: what is not stored yet is told by the same rules.
func TestForgettingMatcher(t *testing.T) {
	laptop, phone := client.MAC{1}, client.MAC{2}
	peer := client.ID{Addr: netip.MustParseAddr("10.8.0.2")}
	classify := func(name string) (string, bool) {
		if name == "x.fbcdn.net" {
			return "facebook.com", false
		}
		return "", false
	}
	named := func(n string) *flow.Flow { return &flow.Flow{Name: n, Remote: netip.MustParseAddr("203.0.113.7")} }
	for _, tt := range []struct {
		what  Forgetting
		flow  *flow.Flow
		match bool
	}{
		{Forgetting{All: true}, &flow.Flow{}, true},
		{Forgetting{Before: 5000}, &flow.Flow{Start: 4999, End: 6000}, true},
		{Forgetting{Before: 5000}, &flow.Flow{Start: 5000}, false},
		{Forgetting{Clients: []client.ID{{MAC: laptop}, {MAC: phone}}}, &flow.Flow{Client: phone}, true},
		{Forgetting{Clients: []client.ID{{MAC: laptop}}}, &flow.Flow{Client: phone}, false},
		{Forgetting{Clients: []client.ID{{MAC: laptop}}}, &flow.Flow{}, false},
		{Forgetting{Clients: []client.ID{{}}}, &flow.Flow{}, true},
		{Forgetting{Clients: []client.ID{peer}}, &flow.Flow{ClientAddr: netip.MustParseAddr("10.8.0.2")}, true},
		{Forgetting{Clients: []client.ID{peer}}, &flow.Flow{ClientAddr: netip.MustParseAddr("10.8.0.3")}, false},
		{Forgetting{Clients: []client.ID{peer}}, &flow.Flow{Client: phone, ClientAddr: netip.MustParseAddr("10.8.0.2")}, false},
		{Forgetting{Clients: []client.ID{{Addr: netip.MustParseAddr("fe80::2")}}}, &flow.Flow{ClientAddr: netip.MustParseAddr("fe80::2%wg0")}, true},
		{Forgetting{Hostnames: []string{"a.test", "b.test"}}, named("b.test"), true},
		{Forgetting{Hostnames: []string{"b.test"}}, named("www.b.test"), true},
		{Forgetting{Hostnames: []string{"b.test"}}, named("bb.test"), false},
		{Forgetting{Hostnames: []string{"www.b.test"}}, named("b.test"), false},
		{Forgetting{Hostnames: []string{"facebook.com"}}, named("x.fbcdn.net"), true},
		{Forgetting{Hostnames: []string{"fbcdn.net"}}, named("x.fbcdn.net"), true},
		{Forgetting{Hostnames: []string{"203.0.113.7"}}, named("b.test"), false},
		{Forgetting{Hostnames: []string{"203.0.113.7"}}, named(""), true},
		{Forgetting{Hostnames: []string{"::ffff:203.0.113.7"}}, named(""), true},
		{Forgetting{Hostnames: []string{"203.0.113.8"}}, named(""), false},
		{Forgetting{Hostnames: []string{"203.0.113.7"}}, &flow.Flow{Name: "wireguard", Source: name.Port, Remote: netip.MustParseAddr("203.0.113.7")}, true},
		{Forgetting{Hostnames: []string{"wireguard"}}, &flow.Flow{Name: "wireguard", Source: name.Port, Remote: netip.MustParseAddr("203.0.113.7")}, true},
		{Forgetting{Hostnames: []string{"2001:DB8::7"}}, named("2001:db8:0::7"), true},
	} {
		if got := tt.what.Matcher(classify)(tt.flow); got != tt.match {
			t.Errorf("%+v forgets %+v: %v", tt.what, tt.flow, got)
		}
	}
}
