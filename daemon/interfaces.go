package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pakon/daemon/client"
	"pakon/ubus"
	"pakon/uci"
)

// watched is what is monitored of the interfaces that the configuration names,
// which are not always those that carry the network.
type watched struct {
	devices []string            // each once, in the order of the configuration
	of      map[string][]string // the devices that are monitored for a name of the configuration
	// aliases are names by which packets of a monitored device may be reported.
	aliases map[string]string
	notes   []string // what would be right in the configuration, each a sentence
	uplinks []string // the links by which this machine reaches the internet, or did last
}

// plainly is what is monitored if each name is taken as it is.
func plainly(names []string) *watched {
	w := &watched{of: make(map[string][]string)}
	for _, name := range names {
		w.add(name, name)
	}
	return w
}

func (w *watched) add(name string, devices ...string) {
	w.of[name] = devices
	for _, d := range devices {
		if !slices.Contains(w.devices, d) {
			w.devices = append(w.devices, d)
		}
	}
}

func (w *watched) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// named returns the names of the configuration for which a device is monitored.
func (w *watched) named(device string) []string {
	var names []string
	for name, devices := range w.of {
		if slices.Contains(devices, device) {
			names = append(names, name)
		}
	}
	return names
}

// network is one of netifd's.
type network struct {
	name    string
	device  string // that carries its addresses, or would; "" if it has none
	lower   string // the device below that: of pppoe-wan it may be wan
	outside bool   // it has a default route
}

// surroundings are what the names of the configuration are compared with.
type surroundings struct {
	links    map[string]client.Interface
	uplink   func(link string) bool // this machine reaches the internet by it
	networks []network              // nil where netifd can not be asked
	tap      bool                   // the owner wants Suricata to read every packet of the interfaces
}

// watch finds the devices that carry the networks that the names stand for.
// While one is away, as during a restart of the network, it stays what it was in
// last.
func watch(names []string, s surroundings, last *watched) *watched {
	w := &watched{of: make(map[string][]string), aliases: make(map[string]string)}
	for link := range s.links {
		if s.uplink(link) {
			w.uplinks = append(w.uplinks, link)
		}
	}
	if w.uplinks == nil && last != nil {
		w.uplinks = last.uplinks
	}
	s.uplink = func(link string) bool { return slices.Contains(w.uplinks, link) }
	var outside, missing []string
	for _, name := range names {
		_, there := s.links[name]
		switch {
		case s.leadsOutside(name), last.keptOut(name) && s.partial():
			outside = append(outside, name)
		case there && s.replace(w, name), s.find(w, name), last.stays(w, name):
		case there:
			w.add(name, name)
		default:
			w.add(name, name)
			missing = append(missing, name)
		}
	}
	for _, name := range missing {
		w.note("Interface %s does not exist; it is monitored once it appears.%s", name, s.offer(w))
	}
	for _, name := range outside {
		// With nothing else to monitor, it may be that the owner knows better.
		if len(w.devices) == 0 || slices.Contains(w.devices, name) {
			w.add(name, name)
			w.note("Interface %s leads to the internet: devices of the house are not behind it.%s", name, s.offer(w))
			continue
		}
		w.of[name] = nil
		w.note("Interface %s leads to the internet, and is not monitored: devices of the house are not behind it. Take it out of pakon.monitor.interface.", name)
	}
	return w
}

// leadsOutside reports whether a name is that of the way to the internet on a
// machine that routes. (One that only bridges reaches the internet by the bridge
// of its clients.)
func (s *surroundings) leadsOutside(name string) bool {
	device := name
	for _, n := range s.networks {
		if _, there := s.links[name]; n.outside && (n.lower == name || !there && n.name == strings.TrimPrefix(name, "@")) {
			device = n.device
		}
	}
	link := s.links[device]
	if !s.uplink(device) || link.Bridge || slices.ContainsFunc(s.bridges(), func(b string) bool { return s.isVLAN(device, b) }) {
		return false
	}
	return slices.ContainsFunc(s.inside(), func(other string) bool { return other != device })
}

// keptOut reports whether a name was not monitored, as it led to the internet.
func (w *watched) keptOut(name string) bool {
	if w == nil {
		return false
	}
	devices, known := w.of[name]
	return known && len(devices) == 0
}

// partial reports whether the way to the internet or the house is away, so that
// it can not be told what leads where.
func (s *surroundings) partial() bool {
	if len(s.inside()) == 0 {
		return true
	}
	for name := range s.links {
		if s.uplink(name) {
			return false
		}
	}
	return true
}

// inside returns the links with a network that do not lead to the internet, in
// the order of their names.
func (s *surroundings) inside() []string {
	var names []string
	for name, link := range s.links {
		if link.HasNetwork() && !s.uplink(name) && name != "lo" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// bridgeOf returns the name of the bridge with an index, "" if there is none.
func (s *surroundings) bridgeOf(index int) string {
	for name, link := range s.links {
		if index != 0 && link.Index == index && link.Bridge {
			return name
		}
	}
	return ""
}

// bridges returns the names of all bridges.
func (s *surroundings) bridges() []string {
	var names []string
	for name, link := range s.links {
		if link.Bridge {
			names = append(names, name)
		}
	}
	return names
}

// isVLAN reports whether a link is a VLAN on a device: made as one, or called as
// netifd calls one.
func (s *surroundings) isVLAN(name, device string) bool {
	if number, ok := strings.CutPrefix(name, device+"."); ok {
		_, err := strconv.ParseUint(number, 10, 12)
		return err == nil
	}
	lower := s.links[device].Index
	return lower != 0 && s.links[name].Lower == lower
}

// replace monitors a device that is there, or those that carry its network. It
// returns false if nothing does.
func (s *surroundings) replace(w *watched, name string) bool {
	if link := s.links[name]; link.HasNetwork() {
		w.add(name, name)
		return true
	}
	device, why := name, "has no network of its own, as VLAN filtering is on"
	if bridge := s.bridgeOf(s.links[name].Master); bridge != "" {
		device, why = bridge, "is a port of the bridge "+bridge
	}
	if vlans := s.vlans(name); s.tap && device == name && s.links[name].Bridge && len(vlans) > 0 {
		w.add(name, name)
		w.note("Interface %s %s: mode 'tap' reads all its VLANs, and Suricata counts the bytes.%s", name, why, instead(name, vlans))
		return true
	}
	chosen, left := []string{device}, []string(nil)
	if link := s.links[device]; !link.HasNetwork() {
		if chosen, left = s.choose(device, s.vlans(device)); len(chosen) == 0 {
			return false
		}
	}
	w.add(name, chosen...)
	stand := name
	if len(chosen) == 1 {
		stand = chosen[0]
	}
	w.aliases[name], w.aliases[device] = stand, stand
	w.note("Interface %s %s: %s monitored in its place.%s%s", name, why, enumerated(chosen), s.unwatched(left), instead(name, chosen))
	return true
}

// vlans returns the VLANs on a device that have a network, those that lead to
// the internet only if there are no others.
func (s *surroundings) vlans(device string) []string {
	var inside, outside []string
	for name, link := range s.links {
		switch {
		case !s.isVLAN(name, device), !link.HasNetwork():
		case s.uplink(name):
			outside = append(outside, name)
		default:
			inside = append(inside, name)
		}
	}
	if inside == nil {
		inside = outside
	}
	slices.SortFunc(inside, func(a, b string) int { return s.links[a].Index - s.links[b].Index })
	return inside
}

// choose picks of the VLANs on a bridge the one whose network the bridge is
// named after; without such a one, they are all meant.
func (s *surroundings) choose(bridge string, vlans []string) (chosen, left []string) {
	for _, n := range s.networks {
		if i := slices.Index(vlans, n.device); i >= 0 && "br-"+n.name == bridge {
			return vlans[i : i+1 : i+1], slices.Delete(slices.Clone(vlans), i, i+1)
		}
	}
	return vlans, nil
}

// find monitors the device of the network that a name stands for. It returns
// false if no network is known by it.
func (s *surroundings) find(w *watched, name string) bool {
	if _, there := s.links[name]; there {
		return false
	}
	for _, n := range s.networks {
		if _, there := s.links[n.device]; !there {
			continue
		}
		switch name {
		case n.name, "@" + n.name:
			w.add(name, n.device)
			w.note("Interface %s is the name of a network: its device %s is monitored.%s", name, n.device, instead(name, w.of[name]))
			return true
		case "br-" + n.name:
			w.add(name, n.device)
			w.note("Interface %s does not exist: %s is monitored, which has the network %s.%s", name, n.device, n.name, instead(name, w.of[name]))
			return true
		}
	}
	return false
}

// stays monitors what was monitored for a name that nothing stands for now, if
// that was not the name itself: it is away for a moment.
func (w *watched) stays(now *watched, name string) bool {
	if w == nil || len(w.of[name]) == 0 || slices.Equal(w.of[name], []string{name}) {
		return false
	}
	now.add(name, w.of[name]...)
	for alias, device := range w.aliases {
		if alias == name || slices.Contains(w.of[name], device) {
			now.aliases[alias] = device
		}
	}
	now.note("Interface %s has no network at the moment; %s monitored once it is back.", name, enumerated(w.of[name]))
	return true
}

// offer names devices with a network that are not monitored.
func (s *surroundings) offer(w *watched) string {
	left := slices.DeleteFunc(s.inside(), func(d string) bool { return slices.Contains(w.devices, d) })
	if len(left) == 0 {
		return ""
	}
	return fmt.Sprintf(" Names of devices are expected, of which these have a network: %s.", strings.Join(s.withNetworks(left), ", "))
}

func (s *surroundings) unwatched(devices []string) string {
	if len(devices) == 0 {
		return ""
	}
	return fmt.Sprintf(" Not monitored: %s.", strings.Join(s.withNetworks(devices), ", "))
}

// withNetworks adds to the names of devices those of their networks.
func (s *surroundings) withNetworks(devices []string) []string {
	out := slices.Clone(devices)
	for i, d := range devices {
		for _, n := range s.networks {
			if n.device == d {
				out[i] = fmt.Sprintf("%s (%s)", d, n.name)
				break
			}
		}
	}
	return out
}

func enumerated(devices []string) string {
	if len(devices) == 1 {
		return devices[0] + " is"
	}
	last := len(devices) - 1
	return strings.Join(devices[:last], ", ") + " and " + devices[last] + " are"
}

// instead says what would be right in the configuration, which may name others
// beside this one.
func instead(name string, devices []string) string {
	return fmt.Sprintf(" In pakon.monitor.interface, write %s instead of %s.", strings.Join(devices, " "), name)
}

// netifd's object on the bus.
const (
	netifdObject  = "network.interface"
	netifdTimeout = 3 * time.Second
	maxNetworks   = 256 // more than a router has
)

// caller is what asking netifd needs of the bus.
type caller interface {
	Call(ctx context.Context, path, method string, args ubus.Table) (ubus.Table, error)
}

// askNetifd lists the networks that netifd knows.
func askNetifd(ctx context.Context, bus caller) ([]network, error) {
	ctx, cancel := context.WithTimeout(ctx, netifdTimeout)
	defer cancel()
	reply, err := bus.Call(ctx, netifdObject, "dump", nil)
	if errors.Is(err, ubus.StatusTimeout) {
		return nil, fmt.Errorf("list the networks: the bus does not answer within %s", netifdTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("list the networks: %w", err)
	}
	list, _ := reply.Array("interface")
	var networks []network
	for _, v := range list[:min(len(list), maxNetworks)] {
		t, _ := v.(ubus.Table)
		var n network
		n.name, _ = t.String("interface")
		n.lower, _ = t.String("device")
		n.device, _ = t.String("l3_device")
		if n.device == "" {
			n.device = n.lower
		}
		routes, _ := t.Array("route")
		for _, r := range routes {
			route, _ := r.(ubus.Table)
			target, _ := route.String("target")
			mask, some := route.Int("mask")
			n.outside = n.outside || some && mask == 0 && (target == "0.0.0.0" || target == "::")
		}
		if n.name != "" {
			networks = append(networks, n)
		}
	}
	// Of two networks on one device (lan and its alias), the first is named.
	return networks, nil
}

// unclear reports whether netifd is to be asked what the names stand for.
func (s *surroundings) unclear(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		link, there := s.links[name]
		return !there || !link.HasNetwork()
	})
}

// linksOnly are the surroundings as far as links tell.
func linksOnly(m uci.Monitor, clients *client.Table) surroundings {
	return surroundings{links: clients.Interfaces(), uplink: clients.Uplink, tap: m.Mode == "tap"}
}

// lookFor looks at what the names may stand for. What netifd does not say, links
// tell most of: an error is no reason to give up.
func lookFor(ctx context.Context, m uci.Monitor, clients *client.Table, bus caller) (surroundings, error) {
	s := linksOnly(m, clients)
	if !s.unclear(m.Interfaces) {
		return s, nil
	}
	var err error
	s.networks, err = askNetifd(ctx, bus)
	return s, err
}

// lookAround finds out what is to be monitored, and puts it in force if that is
// not what was.
func (d *daemon) lookAround(ctx context.Context) {
	monitor := d.settings.Load().config.Monitor
	names := monitor.Interfaces
	around, err := lookFor(ctx, monitor, d.clients, d.bus)
	if err != nil {
		d.log.Debug("what networks there are is not known", "err", err)
	}
	d.looking.Lock()
	defer d.looking.Unlock()
	before := d.watched.Load()
	now := watch(names, around, before)
	d.watched.Store(now)
	for _, name := range names {
		if devices := now.of[name]; !slices.Equal(devices, before.of[name]) && !slices.Equal(devices, []string{name}) {
			d.log.Info("an interface of the configuration is not what carries the network", "interface", name, "monitored", devices)
		}
	}
	if slices.Equal(before.devices, now.devices) && maps.Equal(before.aliases, now.aliases) {
		return
	}
	d.enforce()
}
