package router

import (
	"errors"
	"fmt"
	"strings"
)

// forward is a port forward: what arrives at the router's port of wan goes to
// a client.
type forward struct {
	port, toPort uint16
	to           *Client
}

// Firewall does what fw4 does on a router: the table `inet fw4` with connection
// tracking, IPv4 masqueraded on wan, and accounting on, as OpenWrt sets it.
// Without it nothing tracks connections, unless a rule of somebody else does.
func (r *Router) Firewall() error {
	if err := r.Sysctl("netfilter/nf_conntrack_acct", "1"); err != nil {
		return err
	}
	return r.ReloadFirewall()
}

// Forward makes what arrives by TCP at a port of the router's wan address go to
// a client. IPv6 needs none: clients have addresses of their own.
func (r *Router) Forward(port uint16, to *Client, toPort uint16) error {
	r.forwards = append(r.forwards, forward{port, toPort, to})
	return r.ReloadFirewall()
}

// ReloadFirewall empties fw4's table and writes it again, as `fw4 reload` does,
// and leaves other tables alone.
func (r *Router) ReloadFirewall() error {
	var forwards strings.Builder
	for _, f := range r.forwards {
		fmt.Fprintf(&forwards, "\t\tmeta nfproto ipv4 iifname \"wan\" tcp dport %d dnat ip to %s:%d\n", f.port, f.to.V4, f.toPort)
	}
	before, table, offload := "", "", ""
	if r.offloading {
		before = "delete flowtable inet fw4 ft\n"
	}
	if f := r.flowtable; f != nil {
		counter := ""
		if f.counter {
			counter = "counter; "
		}
		table = fmt.Sprintf("\tflowtable ft {\n\t\thook ingress priority filter; devices = { %s }; %s\n\t}\n", strings.Join(f.devices, ", "), counter)
		offload = "\t\tmeta l4proto { tcp, udp } flow offload @ft\n"
	}
	if err := r.router.nft(fmt.Sprintf(fw4, before, table, offload, forwards.String())); err != nil {
		return err
	}
	r.offloading = r.flowtable != nil
	return nil
}

// flowtable is what forwards connections in the router's place.
type flowtable struct {
	devices []string
	counter bool
}

// Offload lets a flow table forward what comes in by the devices, as fw4 does
// with the option flow_offloading: by the bridges and wan, with a counter. Of
// before 2023-03 it has none, of before 2024-03 the bridges' ports instead. Not
// every kernel can.
func (r *Router) Offload(counter bool, devices ...string) error {
	r.flowtable = &flowtable{devices, counter}
	if err := r.ReloadFirewall(); err != nil {
		r.flowtable = nil
		return errors.Join(err, r.ReloadFirewall())
	}
	return nil
}

// FlushRuleset removes everybody's tables, as an administrator may. Masqueraded
// connections cannot go on until Firewall is called, and what sends before then
// is reset: the server sees the client's own address.
func (r *Router) FlushRuleset() error { return r.router.nft("flush ruleset\n") }

// Sysctl sets a value below /proc/sys/net in the router's namespace, like
// "netfilter/nf_conntrack_acct".
func (r *Router) Sysctl(key, value string) error { return r.router.sysctl(key, value) }

const fw4 = `table inet fw4
flush table inet fw4
%stable inet fw4 {
%s	chain input {
		type filter hook input priority filter; policy accept;
		iifname "lo" accept
		ct state vmap { established : accept, related : accept }
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
%s		ct state vmap { established : accept, related : accept }
	}
	chain output {
		type filter hook output priority filter; policy accept;
		oifname "lo" accept
		ct state vmap { established : accept, related : accept }
	}
	chain dstnat {
		type nat hook prerouting priority dstnat; policy accept;
%s	}
	chain srcnat {
		type nat hook postrouting priority srcnat; policy accept;
		meta nfproto ipv4 oifname "wan" masquerade
	}
}
`
