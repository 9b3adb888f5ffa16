package main

import (
	"context"
	"fmt"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// visit is one connection of a device of router.Household.
type visit struct {
	device int
	router.Request
}

// visits are what the devices do: in each network something that is named by
// HTTP, by TLS, by QUIC, and by DNS alone because TLS did not say the name.
var visits = []visit{
	{0, router.Request{Site: "video.example.org", Protocol: router.HTTP3, Receive: 9000}},
	{0, router.Request{Site: "shop.example.com", Protocol: router.TLS13, Receive: 4200, Send: 700}},
	{0, router.Request{Site: "www.example.org", Protocol: router.HTTP, Receive: 3100}},
	{1, router.Request{Site: "mail.example.com", Protocol: router.TLS13, IPv6: true, Receive: 1500, Send: 5000}},
	{1, router.Request{Site: "photos.test", Protocol: router.TLS12, Receive: 6400}},
	{2, router.Request{Site: "play.example.org", Protocol: router.HTTP3, IPv6: true, Receive: 12000}},
	{2, router.Request{Site: "updates.test", Protocol: router.HTTP, Receive: 2048}},
	{3, router.Request{Site: "weather.test", Protocol: router.TLS13, NoSNI: true, Receive: 640}},
	{4, router.Request{Site: "www.example.org", Protocol: router.HTTP, IPv6: true, Receive: 2900}},
	{4, router.Request{Site: "shop.example.com", Protocol: router.HTTP3, Receive: 5100}},
	{4, router.Request{Site: "mail.example.com", Protocol: router.TLS12, Receive: 1200}},
	{4, router.Request{Site: "photos.test", Protocol: router.TLS13, IPv6: true, NoSNI: true, DNSOverTCP: true, Receive: 3300}},
	{5, router.Request{Site: "video.example.org", Protocol: router.TLS13, IPv6: true, Receive: 8000}},
	{5, router.Request{Site: "weather.test", Protocol: router.HTTP3, IPv6: true, Receive: 800}},
	{5, router.Request{Site: "updates.test", Protocol: router.TLS13, NoSNI: true, Receive: 700}},
	{5, router.Request{Site: "photos.test", Protocol: router.TLS12, NoSNI: true, NoLookup: true, Receive: 900}},
}

// browseAll lets the devices do it and returns what must be shown.
func browseAll(ctx context.Context, r *router.Router) ([]expected, error) {
	var all []expected
	for _, v := range visits {
		made, err := r.Clients()[v.device].Fetch(ctx, v.Request)
		if err != nil {
			return nil, err
		}
		all = append(all, expect(made))
	}
	return all, nil
}

// hosts are the devices' sections of the configuration.
func hosts() []rig.Host {
	var list []rig.Host
	for _, d := range router.Household() {
		if d.Name != "" {
			list = append(list, rig.Host{Name: d.Name, MACs: append([]string{d.MAC}, d.Others...)})
		}
	}
	return list
}

// expected is a connection as it must be shown.
type expected struct {
	Network  string `json:"network"`
	Client   string `json:"client"`
	MAC      string `json:"mac"`
	Hostname string `json:"hostname"`
	Source   string `json:"source"`
	Address  string `json:"address"`
	Port     uint16 `json:"port"`
	Proto    string `json:"proto"`
	App      string `json:"app_proto"`
	Sent     int64  `json:"sent"`  // at least: what the application moved
	Recvd    int64  `json:"recvd"` // likewise
}

func expect(c router.Connection) expected {
	proto := "tcp"
	if c.App == "quic" {
		proto = "udp"
	}
	return expected{
		Network: c.Client.Network, Client: c.Client.String(), MAC: c.Client.MAC,
		Hostname: c.Name, Source: c.Source, Address: c.Remote.Addr().String(), Port: c.Remote.Port(),
		Proto: proto, App: c.App, Sent: c.Sent, Recvd: c.Recvd,
	}
}

func (e expected) String() string {
	return fmt.Sprintf("%s in %s: %s named by %q, %s port %d/%s", e.Client, e.Network, e.Hostname, e.Source, e.Address, e.Port, e.Proto)
}

// is tells whether a flow is the connection.
func (e expected) is(f rig.Flow) bool {
	return f.Client == e.Client && f.MAC == e.MAC && f.Hostname == e.Hostname && f.Source == e.Source &&
		f.Address == e.Address && f.Port == e.Port && f.Proto == e.Proto && f.App == e.App &&
		f.Sent > uint64(e.Sent) && f.Recvd > uint64(e.Recvd)
}

// missing are those of want that no flow is; each flow counts once.
func missing(want []expected, flows []rig.Flow) []expected {
	used := make([]bool, len(flows))
	var lacking []expected
next:
	for _, e := range want {
		for i, f := range flows {
			if !used[i] && e.is(f) {
				used[i] = true
				continue next
			}
		}
		lacking = append(lacking, e)
	}
	return lacking
}

// covered checks that each network has a connection named by each means, so
// that a change of the visits does not make the demo prove less.
func covered(all []expected) error {
	has := map[[2]string]bool{}
	for _, e := range all {
		has[[2]string{e.Network, e.Source}] = true
	}
	for _, n := range rig.Interfaces {
		for _, source := range []string{"dns", "http", "tls", "quic"} {
			if !has[[2]string{n, source}] {
				return fmt.Errorf("no connection from %s that is named by %s", n, source)
			}
		}
	}
	return nil
}
