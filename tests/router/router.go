package router

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
)

// The bridges of the router.
const (
	LAN   = "br-lan"
	Guest = "br-guest_turris"
)

// Network is a bridge of the router with its own addresses on it.
type Network struct {
	Bridge string
	V4, V6 netip.Prefix
	MAC    string
}

// Networks are the router's bridges.
var Networks = []Network{
	{LAN, netip.MustParsePrefix("192.168.1.1/24"), netip.MustParsePrefix("2001:db8:1::1/64"), "02:00:5e:00:01:01"},
	{Guest, netip.MustParsePrefix("192.168.2.1/24"), netip.MustParsePrefix("2001:db8:2::1/64"), "02:00:5e:00:02:01"},
}

// The wan link.
const (
	wanRouter4, wanServer4 = "203.0.113.1", "203.0.113.2"
	wanRouter6, wanServer6 = "2001:db8:f::1", "2001:db8:f::2"
)

// Device is a machine to put behind a bridge.
type Device struct {
	Name    string   // as the router's owner calls it; "" if nobody named it
	Network string   // LAN or Guest
	MAC     string   // of the interface it uses
	Vendor  string   // who made it, "" if that does not show in the MAC
	Others  []string // of further interfaces, which the owner wrote down too
	DHCP    bool     // it has no address of IPv4 before it asks for one, see Client.Lease
}

// Household is a set of devices that has one of each: named, with two
// interfaces, unnamed, guests.
func Household() []Device {
	return []Device{
		{Name: "Annas-phone", Network: LAN, MAC: "3c:06:30:0a:00:01"},
		{Name: "Work-laptop", Network: LAN, MAC: "00:1b:21:0a:00:02", Others: []string{"00:1b:21:0a:00:12"}},
		{Name: "Living-room-TV", Network: LAN, MAC: "50:c7:bf:0a:00:03"},
		{Network: LAN, MAC: "d8:0d:17:0a:00:04", Vendor: "TP-Link"},
		{Name: "Guest-tablet", Network: Guest, MAC: "3c:06:30:0a:00:05"},
		{Network: Guest, MAC: "fe:9a:2c:0a:00:06"},
	}
}

// Router is a running router with its clients and its internet.
type Router struct {
	router, internet *namespace
	clients          []*Client
	web              *web
	offloads         bool
	forwards         []forward
	flowtable        *flowtable     // nil: the router is to forward by itself
	offloading       bool           // there is a flow table
	closers          []func() error // in reverse order
}

// ErrUnable is returned by Start without the right to make namespaces, and without
// the programs that make what is in them.
var ErrUnable = errors.New("making a router needs root (network namespaces, bridges and raw sockets) and the commands ip and nft")

// Start makes a router with devices behind it, and waits until all of it
// answers. Close removes it.
func Start(devices []Device, options ...Option) (*Router, error) {
	if os.Geteuid() != 0 {
		return nil, ErrUnable
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnable, err)
		}
	}
	r := &Router{}
	for _, o := range options {
		o(r)
	}
	if err := r.start(devices); err != nil {
		return nil, errors.Join(fmt.Errorf("making a router: %w", err), r.Close())
	}
	return r, nil
}

func (r *Router) start(devices []Device) error {
	var err error
	if r.router, err = r.namespace("router"); err != nil {
		return err
	}
	if r.internet, err = r.namespace("internet"); err != nil {
		return err
	}
	if err := r.connect(); err != nil {
		return err
	}
	for i, d := range devices {
		if err := r.attach(d, i); err != nil {
			return fmt.Errorf("attaching device %q (%s): %w", d.Name, d.MAC, err)
		}
	}
	if err := r.serveNames(); err != nil {
		return err
	}
	if err := r.serveIdle(); err != nil {
		return err
	}
	return r.serveWeb()
}

// namespace makes one with duplicate address detection off: it would take a
// second until an IPv6 address can be used.
func (r *Router) namespace(name string) (*namespace, error) {
	ns, err := newNamespace(name)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, ns.close)
	if name == "router" {
		r.closers = append(r.closers, killProcesses(ns))
	}
	for _, s := range [][2]string{
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
	} {
		if err := ns.sysctl(s[0], s[1]); err != nil {
			return nil, err
		}
	}
	return ns, ns.ip("link set lo up")
}

// connect makes the bridges and the wan link.
func (r *Router) connect() error {
	var commands []string
	for _, n := range Networks {
		commands = append(commands, n.bridgeCommands()...)
	}
	commands = append(commands,
		"link add wan type veth peer name eth0 netns "+r.internet.path(),
		"addr add "+wanRouter4+"/24 dev wan",
		"addr add "+wanRouter6+"/64 dev wan nodad",
		"link set wan up")
	if err := r.router.ip(commands...); err != nil {
		return err
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := r.router.sysctl(key, "1"); err != nil {
			return err
		}
	}
	commands = []string{
		"addr add " + wanServer4 + "/24 dev eth0",
		"addr add " + wanServer6 + "/64 dev eth0 nodad",
	}
	for _, a := range siteAddrs() {
		if a.Is4() {
			commands = append(commands, fmt.Sprintf("addr add %s/24 dev eth0", a))
		} else {
			commands = append(commands, fmt.Sprintf("addr add %s/64 dev eth0 nodad", a))
		}
	}
	commands = append(commands, "link set eth0 up",
		"route add default via "+wanRouter4, "route add default via "+wanRouter6)
	if err := r.internet.ip(commands...); err != nil {
		return err
	}
	return r.cable("wan", r.internet)
}

// cable makes the packets between a device of the router and the eth0 at its
// other end as large as on a cable, unless that is not wanted.
func (r *Router) cable(device string, other *namespace) error {
	if r.offloads {
		return nil
	}
	return errors.Join(r.router.wireSized(device), other.wireSized("eth0"))
}

// attach puts a device behind its bridge.
func (r *Router) attach(d Device, i int) error {
	network, err := findNetwork(d.Network)
	if err != nil {
		return err
	}
	ns, err := r.namespace(fmt.Sprintf("device %d", i))
	if err != nil {
		return err
	}
	port := fmt.Sprintf("port%d", i)
	c := &Client{
		Device: d, ns: ns, network: network, port: port, web: func() *web { return r.web }, answers: map[netip.Addr]string{},
		V4: nth(network.V4, 10+i), V6: nth(network.V6, 0x10+i),
	}
	if d.DHCP {
		c.V4 = netip.Addr{}
	}
	if err := r.router.ip(
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", port, d.MAC, ns.path()),
		fmt.Sprintf("link set %s master %s", port, network.Bridge),
		"link set "+port+" up",
	); err != nil {
		return err
	}
	commands := append([]string{"link set eth0 up"}, c.addressCommands(c.V6, network.V6)...)
	if !d.DHCP {
		commands = append(commands, c.addressCommands(c.V4, network.V4)...)
	}
	if err := ns.ip(commands...); err != nil {
		return err
	}
	if err := r.cable(port, ns); err != nil {
		return err
	}
	r.clients = append(r.clients, c)
	return nil
}

// nth is the nth address of a network.
func nth(p netip.Prefix, n int) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] = byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Clients are the devices, in the order in which they were given.
func (r *Router) Clients() []*Client { return r.clients }

// Do runs f on a thread in the router's namespace: sockets that it opens and
// processes that it starts belong to the router.
func (r *Router) Do(f func() error) error { return r.router.do(f) }

// Close ends what runs on the router and removes everything.
func (r *Router) Close() error {
	var errs []error
	for _, c := range r.Clients() {
		errs = append(errs, c.close())
	}
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// killProcesses ends what is left in a namespace: a process there would keep
// it alive.
func killProcesses(ns *namespace) func() error {
	return func() error {
		for _, pid := range ns.processes() {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("ending process %d in namespace %s: %w", pid, ns.name, err)
			}
		}
		return nil
	}
}
