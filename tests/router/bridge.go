package router

import "fmt"

// bridgeCommands are those of ip(8) that make the network's bridge, without
// ports.
func (n Network) bridgeCommands() []string {
	return []string{
		fmt.Sprintf("link add %s address %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0", n.Bridge, n.MAC),
		fmt.Sprintf("addr add %s dev %s", n.V4, n.Bridge),
		fmt.Sprintf("addr add %s dev %s nodad", n.V6, n.Bridge),
		"link set " + n.Bridge + " up",
	}
}

// RecreateBridge deletes a network's bridge and makes it again with the same
// name, addresses and ports, as a reload of the network does. The device is
// another then: only its name is the same.
func (r *Router) RecreateBridge(network string) error {
	n, err := findNetwork(network)
	if err != nil {
		return err
	}
	commands := append([]string{"link del " + n.Bridge}, n.bridgeCommands()...)
	for _, c := range r.clients {
		if c.network == n {
			commands = append(commands, fmt.Sprintf("link set %s master %s", c.port, n.Bridge))
		}
	}
	return r.router.ip(commands...)
}

// FilterVLANs moves the addresses of a network to a device of their own, which is
// called as OpenWrt calls the VLAN of a bridge that filters VLANs, and returns its
// name. (It is a cable to a port of the bridge: not every kernel has VLANs.)
func (r *Router) FilterVLANs(network string) (string, error) {
	n, err := findNetwork(network)
	if err != nil {
		return "", err
	}
	vlan := n.Bridge + ".1"
	return vlan, r.router.ip(
		fmt.Sprintf("addr flush dev %s scope global", n.Bridge),
		fmt.Sprintf("link set %s address 02:00:5e:00:ff:01", n.Bridge),
		fmt.Sprintf("link add %s address %s type veth peer name vlanport", vlan, n.MAC),
		fmt.Sprintf("link set vlanport master %s", n.Bridge),
		"link set vlanport up",
		fmt.Sprintf("link set %s up", vlan),
		fmt.Sprintf("addr add %s dev %s", n.V4, vlan),
		fmt.Sprintf("addr add %s dev %s nodad", n.V6, vlan),
	)
}

func findNetwork(bridge string) (*Network, error) {
	for i := range Networks {
		if Networks[i].Bridge == bridge {
			return &Networks[i], nil
		}
	}
	return nil, fmt.Errorf("network %q: want %s or %s", bridge, LAN, Guest)
}

// SetUp switches a network's bridge on or off. Off, it loses its IPv6 addresses.
func (r *Router) SetUp(network string, up bool) error {
	state := "down"
	if up {
		state = "up"
	}
	return r.router.ip("link set " + network + " " + state)
}
