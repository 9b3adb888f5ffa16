package flow

// What DNS moves in one connection at most. What moves more is a tunnel through
// port 53 or through DNS itself, or a resolver of its own, and is recorded.
const (
	maxDNSBytes   = 64 << 10
	maxDNSPackets = 1000
)

// isDNS reports whether a connection that Suricata says to be app ("": it has
// said nothing) is DNS itself, which is read for names and not recorded.
func isDNS(app string, d Direction, clientPort, remotePort uint16) bool {
	return app == "dns" || app == "" && (remotePort == 53 || clientPort == 53 && d == In)
}

// exceedsDNS reports whether a connection has moved more than DNS does.
func exceedsDNS(bytes, packets uint64) bool { return bytes > maxDNSBytes || packets > maxDNSPackets }

// isDNS reports whether the connection is DNS by all that is known of it.
func (c *tracked) isDNS() bool {
	return !c.notDNS && isDNS(c.app, c.direction, c.client.Port(), c.remote.Port())
}

// open reports whether the connection is recorded, or may turn out to be one
// that is.
func (c *tracked) open() bool { return c.fate == Recorded || c.fate == DNSFlow }

// judge decides anew whether a connection is DNS: more of it has come, or
// Suricata has said what it is. One that turns out to be none is recorded from
// its first byte.
func (t *Table) judge(c *tracked) {
	total := c.total()
	c.notDNS = c.notDNS || exceedsDNS(total[0]+total[1], c.packetsBefore+c.packets)
	switch dns := c.isDNS(); {
	case dns && c.fate == Recorded:
		t.void(c, DNSFlow)
	case !dns && c.fate == DNSFlow:
		c.fate = Recorded
		t.kernel.serial++ // an earlier record of it may have been deleted
		c.serial = t.kernel.serial
		sum := total[0] + total[1]
		if left := max(c.before[0]+c.before[1], c.named); left < sum {
			for _, iface := range []string{c.iface, c.far} {
				t.coverage.turn(iface, sum-left)
			}
		}
		t.touch(c)
	}
}
