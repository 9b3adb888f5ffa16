package head

import (
	"fmt"
	"slices"
	"strings"
)

// device is an interface at a time: one that was deleted and made anew has
// another index.
type device struct {
	name  string
	index uint32
}

// network is a monitored interface.
type network struct {
	name   string
	mirror device   // where to copy to; only with Mirror
	hooks  []device // where to copy from; only with Mirror
	mac    string   // of the interface, if hooks are its ports: other frames do not concern it
}

// plan is what rules are made from. Equal plans make equal rules.
type plan struct {
	way      Way
	networks []network
}

// mirrors are the devices to capture and their networks.
func (p plan) mirrors() map[string]string {
	if p.way != Mirror {
		return nil
	}
	m := make(map[string]string, len(p.networks))
	for _, n := range p.networks {
		m[n.mirror.name] = n.name
	}
	return m
}

// prepare looks at the machine, and makes the mirror devices that are missing.
func prepare(s Settings) (plan, error) {
	p := plan{way: s.Way}
	for _, name := range s.Interfaces {
		p.networks = append(p.networks, network{name: name})
	}
	if s.Way != Mirror {
		return p, nil
	}
	c, err := dialLinks()
	if err != nil {
		return plan{}, err
	}
	defer c.Close()
	links, err := c.list()
	if err != nil {
		return plan{}, err
	}
	tables, err := flowtables()
	if err != nil {
		return plan{}, fmt.Errorf("list flowtables: %w", err)
	}
	for i := range p.networks {
		n := &p.networks[i]
		n.hooks, n.mac = hooks(n.name, links, tables)
		if n.mirror, err = c.mirror(n.name, &links); err != nil {
			return plan{}, err
		}
	}
	once(p.networks)
	return p, nil
}

// hooks are the devices that the interface's packets pass before a flowtable
// takes them: the interface or, where a flowtable has what is below it, the
// bridge of a VLAN or all ports of a bridge. Of the frames of those, the ones from
// and to mac are the interface's.
func hooks(name string, links []link, tables []Flowtable) (hooks []device, mac string) {
	i := slices.IndexFunc(links, func(l link) bool { return l.name == name })
	if i < 0 {
		return nil, ""
	}
	top := links[i]
	hooks = []device{top.device}
	if len(top.mac) != macLength {
		return hooks, ""
	}
	for _, level := range below(top, links) {
		if slices.ContainsFunc(level, func(d device) bool { return offloaded(d, tables) }) {
			hooks, mac = level, top.mac
		}
	}
	return hooks, mac
}

// below are the devices below a link, a level after another: the bridge that it
// is a VLAN of, the ports of the bridge.
func below(l link, links []link) (levels [][]device) {
	bridge := l.index
	if l.lower != 0 {
		bridge = l.lower
		if i := slices.IndexFunc(links, func(l link) bool { return l.index == bridge }); i >= 0 {
			levels = append(levels, []device{links[i].device})
		}
	}
	var ports []device
	for _, l := range links {
		if l.master == bridge {
			ports = append(ports, l.device)
		}
	}
	slices.SortFunc(ports, func(a, b device) int { return strings.Compare(a.name, b.name) })
	return append(levels, ports)
}

// offloaded reports whether a flowtable has the device.
func offloaded(d device, tables []Flowtable) bool {
	return slices.ContainsFunc(tables, func(t Flowtable) bool { return slices.Contains(t.Devices, d.name) })
}

// once takes away what is hooked for an earlier network, too: VLANs of a bridge
// have its MAC as a rule, and below the bridge their frames look the same. No
// packet is to be copied twice.
func once(networks []network) {
	type hooked struct {
		device
		mac string
	}
	seen := make(map[hooked]bool)
	for i := range networks {
		n := &networks[i]
		n.hooks = slices.DeleteFunc(n.hooks, func(d device) bool {
			again := seen[hooked{d, n.mac}]
			seen[hooked{d, n.mac}] = true
			return again
		})
	}
}
