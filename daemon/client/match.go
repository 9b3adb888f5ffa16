package client

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"path"
	"strings"
)

// A phone makes up a MAC for each network, and now and then another one. It is
// known again by what it tells the DHCP server: the identifier of the client, or
// else its name, if just one device with a random MAC has told that before. Both
// must not be there at once: if the one that it is taken for is heard well after it
// has appeared, in the minute for which that is looked at, they are two.

// generic are names that many devices have, as path.Match patterns.
var generic = []string{
	"android", "android-dhcp*", "iphone", "ipad", "ipod", "ipod-touch", "mac", "macbook*", "imac", "apple-tv", "appletv", "apple-watch", "homepod", "watch",
	"galaxy", "samsung", "pixel", "huawei", "honor", "xiaomi", "redmi", "oneplus", "phone", "smartphone", "mobile", "tablet", "laptop", "notebook", "desktop",
	"computer", "pc", "windows", "linux", "ubuntu", "debian", "fedora", "arch", "raspberrypi", "openwrt", "localhost*", "unknown", "none", "(none)", "null",
	"undefined", "default", "device", "client", "user", "guest", "host", "hostname", "network-device", "dhcpcd*", "udhcpc*", "wlan0", "eth0",
	"espressif", "esp32*", "esp8266", "esp", "lwip*", "wifi", "wlan", "tv", "smart-tv", "camera", "printer", "?", "??",
}

// isGeneric tells whether a name does not tell a device from others.
func isGeneric(name string) bool {
	if name == "" {
		return true
	}
	name = strings.ToLower(name)
	if i := strings.IndexByte(name, '.'); i > 0 {
		name = name[:i]
	}
	for _, pattern := range generic {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// identifier is what of a DHCP client identifier stays when the device makes up
// another MAC; "" if that is nothing.
func identifier(clientID string, m MAC) string {
	id, err := hex.DecodeString(strings.ReplaceAll(clientID, ":", ""))
	if err != nil {
		return strings.ToLower(clientID) // not a client identifier as servers write it
	}
	const node, iaid = 0xff, 4
	if len(id) > 1+iaid && id[0] == node { // RFC 4361
		if id = id[1+iaid:]; bytes.Contains(id, m[:]) {
			return ""
		}
		return "duid " + string(id)
	}
	// Few bytes tell nothing: some devices send zeros.
	if len(bytes.Trim(id, "\x00")) < 2 || bytes.Contains(id, m[:]) || bytes.Contains(bytes.ToLower(id), []byte(hex.EncodeToString(m[:]))) {
		return ""
	}
	return string(id)
}

// match finds the earlier MAC of a new device with a random one. The caller holds
// t.mu.
func (t *Table) match(d *device) {
	r := &t.registry
	if !r.known || d.told || !d.Random || !d.Earlier.IsZero() {
		return
	}
	id := identifier(d.clientID, d.MAC)
	named := !isGeneric(d.lease)
	if id == "" && !named {
		return
	}
	var byID, byName candidates
	for _, o := range t.devices.Values() {
		if o == d || !o.Random || o.number > d.number {
			continue
		}
		its := identifier(o.clientID, o.MAC)
		switch {
		case id != "" && its == id:
			byID.add(t.identity(o.MAC), o)
		case id != "" && its != "": // another device of the same name
		case named && strings.EqualFold(o.lease, d.lease):
			byName.add(t.identity(o.MAC), o)
		}
	}
	found := byID
	if found.latest == nil {
		found = byName
	}
	if found.latest == nil || found.several {
		return
	}
	d.Earlier = found.latest.MAC
	if t.together(d) {
		d.Earlier = MAC{}
		return
	}
	for _, o := range t.devices.Values() {
		if o != d && t.identity(o.MAC) == found.identity {
			d.FirstSeen = earlier(d.FirstSeen, o.FirstSeen)
		}
	}
	r.suspects[d.Earlier] = true
	t.wake(d.noted.Add(sameAfter))
}

// candidates are devices that one may have been before.
type candidates struct {
	identity MAC
	latest   *device // that was seen last; nil if there are none
	several  bool    // they are not one device
}

func (c *candidates) add(identity MAC, d *device) {
	switch {
	case c.latest == nil:
		c.identity, c.latest = identity, d
	case c.identity != identity:
		c.several = true
	case cmp.Or(cmp.Compare(d.LastSeen, c.latest.LastSeen), bytes.Compare(d.MAC[:], c.latest.MAC[:])) > 0:
		c.latest = d
	}
}

// identity is the first MAC that a device is known to have had.
func (t *Table) identity(m MAC) MAC {
	for range maxDevices { // a file may say that they go round in a circle
		d, ok := t.devices.Peek(m)
		if !ok || d.Earlier.IsZero() {
			break
		}
		m = d.Earlier
	}
	return m
}

// together tells whether a device with a random MAC is there at the same time as
// one of those that it is taken for.
func (t *Table) together(d *device) bool {
	identity, gone := t.identity(d.Earlier), d.appeared+lingers.Milliseconds()
	for _, o := range t.devices.Values() {
		if o != d && o.heard > gone && o.number < d.number && t.identity(o.MAC) == identity {
			return true
		}
	}
	return false
}
