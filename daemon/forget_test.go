package main

import (
	"net/netip"
	"testing"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store"
)

func TestForgets(t *testing.T) {
	laptop, phone := client.MAC{1}, client.MAC{2}
	classify := func(name string) (string, bool) {
		if name == "x.fbcdn.net" {
			return "facebook.com", false
		}
		return "", false
	}
	named := func(n string) *flow.Flow { return &flow.Flow{Name: n, Remote: netip.MustParseAddr("203.0.113.7")} }
	for _, tt := range []struct {
		what  store.Forgetting
		flow  *flow.Flow
		match bool
	}{
		{store.Forgetting{All: true}, &flow.Flow{}, true},
		{store.Forgetting{Before: 5000}, &flow.Flow{Start: 4999, End: 6000}, true},
		{store.Forgetting{Before: 5000}, &flow.Flow{Start: 5000}, false},
		{store.Forgetting{MACs: []client.MAC{laptop, phone}}, &flow.Flow{Client: phone}, true},
		{store.Forgetting{MACs: []client.MAC{laptop}}, &flow.Flow{Client: phone}, false},
		{store.Forgetting{MACs: []client.MAC{laptop}}, &flow.Flow{}, false},
		{store.Forgetting{MACs: []client.MAC{{}}}, &flow.Flow{}, true},
		{store.Forgetting{Hostnames: []string{"a.test", "b.test"}}, named("b.test"), true},
		{store.Forgetting{Hostnames: []string{"b.test"}}, named("www.b.test"), true},
		{store.Forgetting{Hostnames: []string{"b.test"}}, named("bb.test"), false},
		{store.Forgetting{Hostnames: []string{"www.b.test"}}, named("b.test"), false},
		{store.Forgetting{Hostnames: []string{"facebook.com"}}, named("x.fbcdn.net"), true},
		{store.Forgetting{Hostnames: []string{"fbcdn.net"}}, named("x.fbcdn.net"), true},
		{store.Forgetting{Hostnames: []string{"203.0.113.7"}}, named("b.test"), false},
		{store.Forgetting{Hostnames: []string{"203.0.113.7"}}, named(""), true},
		{store.Forgetting{Hostnames: []string{"::ffff:203.0.113.7"}}, named(""), true},
		{store.Forgetting{Hostnames: []string{"203.0.113.8"}}, named(""), false},
	} {
		if got := forgets(tt.what, classify)(tt.flow); got != tt.match {
			t.Errorf("%+v forgets %+v: %v", tt.what, tt.flow, got)
		}
	}
}
