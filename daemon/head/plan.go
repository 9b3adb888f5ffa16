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
	return p, nil
}

// hooks are the devices that the interface's packets pass before a flowtable
// takes them: the interface or, where a flowtable has a port of it, all its
// ports, of whose frames those from and to mac are the interface's.
func hooks(name string, links []link, tables []Flowtable) (hooks []device, mac string) {
	i := slices.IndexFunc(links, func(l link) bool { return l.name == name })
	if i < 0 {
		return nil, ""
	}
	bridge := links[i]
	offloaded := false
	for _, l := range links {
		if l.master == bridge.index {
			hooks = append(hooks, l.device)
			offloaded = offloaded || slices.ContainsFunc(tables, func(t Flowtable) bool { return slices.Contains(t.Devices, l.name) })
		}
	}
	if !offloaded || len(bridge.mac) != macLength {
		return []device{bridge.device}, ""
	}
	slices.SortFunc(hooks, func(a, b device) int { return strings.Compare(a.name, b.name) })
	return hooks, bridge.mac
}
