package router

import "fmt"

// Lossy makes the client's link lose packets of both ways, before and behind the
// router, as a bad radio link does; 0 ends it. nft does it in the client's own
// namespace: netem is not in every kernel, and the router's rules are left alone.
func (c *Client) Lossy(percent float64) error {
	const script = `table netdev lossy
delete table netdev lossy
`
	if percent == 0 {
		return c.ns.nft(script)
	}
	return c.ns.nft(script + fmt.Sprintf(`table netdev lossy {
	chain up {
		type filter hook egress device "eth0" priority 0; policy accept;
		numgen random mod 10000 < %[1]d drop
	}
	chain down {
		type filter hook ingress device "eth0" priority 0; policy accept;
		numgen random mod 10000 < %[1]d drop
	}
}
`, int(percent*100)))
}
