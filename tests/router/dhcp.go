package router

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"time"
)

// leased is what udhcpc says when it was given an address.
var leased = regexp.MustCompile(`lease of ([0-9.]+) obtained`)

// Lease asks the DHCP server of the client's network for an address of IPv4, by
// udhcpc, and takes it. The client tells its name and its identifier, as
// hexadecimal octets, and without one the usual, which is its MAC; "" for no name.
func (c *Client) Lease(ctx context.Context, name, id string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	args := []string{"-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "eth0", "-s", "/bin/true"}
	if name != "" {
		args = append(args, "-x", "hostname:"+name)
	}
	if id != "" {
		args = append(args, "-x", "0x3d:"+id)
	}
	var said bytes.Buffer
	err := c.ns.do(func() error {
		cmd := exec.CommandContext(ctx, "udhcpc", args...)
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Second
		return cmd.Run()
	})
	if err != nil {
		return fmt.Errorf("%s asking for an address: %w; udhcpc said:\n%s", c, err, &said)
	}
	found := leased.FindSubmatch(said.Bytes())
	if found == nil {
		return fmt.Errorf("%s asking for an address: udhcpc told of none:\n%s", c, &said)
	}
	a, err := netip.ParseAddr(string(found[1]))
	if err != nil {
		return fmt.Errorf("%s asking for an address: %w", c, err)
	}
	if a == c.V4 {
		return nil
	}
	c.V4 = a
	return c.ns.ip(append([]string{"addr flush dev eth0 to " + c.network.V4.Masked().String()}, c.addressCommands(a, c.network.V4)...)...)
}

// SetMAC gives the client another MAC, as a phone makes one up. Until its next
// Lease it has no address of IPv4, and all that it had open is gone.
func (c *Client) SetMAC(mac string) error {
	c.MAC, c.V4 = mac, netip.Addr{}
	return c.ns.ip(append([]string{
		"link set eth0 down", "addr flush dev eth0", "link set eth0 address " + mac, "link set eth0 up",
	}, c.addressCommands(c.V6, c.network.V6)...)...)
}

// Speak has the client speak with another address of IPv4, and keep those that it has,
// as an extender does for a device behind it.
func (c *Client) Speak(a netip.Addr) error {
	c.V4 = a
	return c.ns.ip(fmt.Sprintf("addr replace %v/%d dev eth0", a, c.network.V4.Bits()))
}

// addressCommands are those of ip(8) that give the client an address in a network,
// and the way out of it.
func (c *Client) addressCommands(a netip.Addr, network netip.Prefix) []string {
	nodad := ""
	if a.Is6() {
		nodad = " nodad"
	}
	return []string{
		fmt.Sprintf("addr add %s/%d dev eth0%s", a, network.Bits(), nodad),
		fmt.Sprintf("route add default via %s", network.Addr()),
	}
}
