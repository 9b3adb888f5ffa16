package client

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"
)

// A phone makes up a MAC for each network, and now and then another one. It is
// known again by what it tells the DHCP server: the identifier of the client, or
// else its name, if just one device with a random MAC has told that before. Both
// must not be there at once: if they are both heard for a while they are two,
// however long ago they were taken for one. A name is what anybody may take while
// its device is away: who is known by that alone is announced, and gets neither
// the name of the other nor its history.

// generic are names that many devices have; with a * those that begin so.
var generic = []string{
	"android", "android-dhcp*", "iphone", "ipad", "ipod", "ipod-touch", "mac", "macbook*", "imac", "apple-tv", "appletv", "apple-watch", "homepod", "watch",
	"samsung", "pixel", "phone", "smartphone", "mobile", "tablet", "laptop", "notebook", "desktop",
	"computer", "pc", "windows", "linux", "ubuntu", "debian", "fedora", "arch", "raspberrypi", "openwrt", "localhost*", "unknown", "none", "(none)", "null",
	"undefined", "default", "device", "client", "user", "guest", "host", "hostname", "network-device", "dhcpcd*", "udhcpc*", "wlan0", "eth0",
	"espressif", "esp32*", "esp8266", "esp", "lwip*", "wifi", "wlan", "tv", "smart-tv", "camera", "printer",
	// Models: a house often has two of one.
	"galaxy*", "sm-*", "pixel-*", "huawei*", "honor*", "xiaomi*", "redmi*", "poco*", "mi-*", "oneplus*", "moto*", "nokia*", "oppo*", "vivo*", "realme*",
	"xperia*", "iphone-0*", "iphone-1*", "iphone-2*", "iphone-se*", "iphone-x*", "ipad-air*", "ipad-pro*", "ipad-mini*",
}

var genericNames, genericStarts = func() (names map[string]bool, starts []string) {
	names = make(map[string]bool)
	for _, g := range generic {
		if start, ok := strings.CutSuffix(g, "*"); ok {
			starts = append(starts, start)
		} else {
			names[g] = true
		}
	}
	return names, starts
}()

// isGeneric tells whether a name, in lower case, does not tell a device from others.
func isGeneric(name string) bool {
	if i := strings.IndexByte(name, '.'); i > 0 {
		name = name[:i]
	}
	return utf8.RuneCountInString(name) < 3 || genericNames[name] ||
		slices.ContainsFunc(genericStarts, func(start string) bool { return strings.HasPrefix(name, start) })
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

// says notes what a device has told the DHCP server. It is not in the kinship then.
func (d *device) says(name, clientID string) {
	if !strings.EqualFold(name, d.lease) {
		d.holds = false
	}
	d.lease, d.clientID = name, clientID
	if !d.Random {
		return
	}
	d.id = identifier(clientID, d.MAC)
	if d.alias = strings.ToLower(name); isGeneric(d.alias) {
		d.alias = ""
	}
}

// kinship finds devices that may be one.
type kinship struct {
	byID, byAlias map[string][]*device // those with a random MAC
	byRoot        map[MAC][]*device    // those that had another MAC, by the first
}

func (k *kinship) add(d *device) {
	if d.id != "" {
		k.byID[d.id] = append(k.byID[d.id], d)
	}
	if d.alias != "" {
		k.byAlias[d.alias] = append(k.byAlias[d.alias], d)
	}
	if !d.root.IsZero() {
		k.byRoot[d.root] = append(k.byRoot[d.root], d)
	}
}

func (k *kinship) remove(d *device) {
	without(k.byID, d.id, d)
	without(k.byAlias, d.alias, d)
	without(k.byRoot, d.root, d)
}

func without[K comparable](lists map[K][]*device, key K, d *device) {
	list := lists[key]
	i := slices.Index(list, d)
	switch {
	case i < 0:
	case len(list) == 1:
		delete(lists, key)
	default:
		lists[key] = slices.Delete(list, i, i+1)
	}
}

// match finds the earlier MAC of a new device with a random one. The caller holds
// t.mu.
func (t *Table) match(d *device) {
	r := &t.registry
	if !r.known || d.told || d.alone || !d.Random || !d.Earlier.IsZero() {
		return
	}
	found := among(t.kinship.byID[d.id], d, func(*device) bool { return true })
	if found.latest == nil {
		// Those with other identifiers are other devices of the same name.
		found = among(t.kinship.byAlias[d.alias], d, func(o *device) bool { return d.id == "" || o.id == "" })
	}
	o := found.latest
	if o == nil || found.several {
		return
	}
	if t.together(d, o) {
		return
	}
	d.Earlier, d.root = o.MAC, o.identity()
	t.kinship.byRoot[d.root] = append(t.kinship.byRoot[d.root], d)
	r.suspects[d.Earlier] = true
	if t.byNameAlone(d) {
		t.wake(t.now())
		return
	}
	if o.FirstSeen != 0 {
		d.FirstSeen, d.ourFirst = o.FirstSeen, o.ourFirst
	}
	t.renameSoon() // one device may have one name
	t.wake(d.noted.Add(sameAfter))
}

// byNameAlone reports whether nothing but its name shows that a device had another
// MAC before. The caller holds t.mu.
func (t *Table) byNameAlone(d *device) bool {
	o, ok := t.devices.Peek(d.Earlier)
	return d.id == "" || ok && o.id != d.id
}

// candidates are devices that one may have been before.
type candidates struct {
	latest  *device // that was seen last; nil if there are none
	several bool    // they are not one device
}

// maxFresh is how many new devices may tell the same for it to tell them from
// others: nobody has as many at once, but whoever makes up devices does.
const maxFresh = 16

// among looks for those that were there before d.
func among(list []*device, d *device, may func(o *device) bool) (c candidates) {
	fresh := 0
	for _, o := range list {
		if !o.told {
			if fresh++; fresh > maxFresh {
				return candidates{d, true}
			}
		}
		switch {
		case o == d || o.number > d.number || !may(o):
		case c.latest == nil:
			c.latest = o
		case c.latest.identity() != o.identity():
			c.several = true
			return c
		case cmp.Or(cmp.Compare(o.LastSeen, c.latest.LastSeen), bytes.Compare(o.MAC[:], c.latest.MAC[:])) > 0:
			c.latest = o
		}
	}
	return c
}

// kin are the devices that a device is or was taken for, with itself.
func (t *Table) kin(d *device) []*device {
	list := t.kinship.byRoot[d.identity()]
	if first, ok := t.devices.Peek(d.identity()); ok && first.root.IsZero() && len(list) > 0 {
		return append(list[:len(list):len(list)], first)
	}
	return list
}

// relate finds out the first MAC of each device.
func (t *Table) relate() {
	clear(t.kinship.byRoot)
	devices := t.devices.Values()
	for _, d := range devices {
		d.root = MAC{}
	}
	on := make(map[*device]bool)
	for _, d := range devices {
		clear(on)
		var root MAC
		for o := d; ; {
			if root = o.identity(); !o.root.IsZero() || o.Earlier.IsZero() {
				break
			}
			on[o] = true
			next, ok := t.devices.Peek(o.Earlier)
			if !ok {
				root = o.Earlier
				break
			}
			if on[next] { // a file may say that they go round in a circle
				o.Earlier = MAC{}
				delete(on, o)
				break
			}
			o = next
		}
		for o := range on {
			o.root = root
			t.kinship.byRoot[root] = append(t.kinship.byRoot[root], o)
		}
	}
}

// together tells whether a new device with a random MAC is there at the same time
// as another that it is taken for, or was before.
func (t *Table) together(d, other *device) bool {
	gone := d.noted.Add(lingers)
	return slices.ContainsFunc(t.kin(other), func(o *device) bool { return o != d && o.number < d.number && o.heard.After(gone) })
}

// part looks whether a device that was just heard is there at the same time as one
// that it was taken for or that is taken for it: then the later of them is new. The
// caller holds t.mu.
func (t *Table) part(d *device) {
	for _, o := range t.kin(d) {
		if o == d || !bothThere(d, o) {
			continue
		}
		later := d
		if d.Earlier.IsZero() || !o.Earlier.IsZero() && (o.Earlier == d.MAC || d.Earlier != o.MAC && o.appeared > d.appeared) {
			later = o
		}
		t.separate(later)
		later.told = false
		t.registry.waiting[later.MAC] = true
		t.wake(t.now())
		return
	}
}

// bothThere tells whether two devices were heard over the same time, for longer
// than the kernel may take for there the one that the other was before.
func bothThere(a, b *device) bool {
	since, until := a.there, a.heard
	if b.there.After(since) {
		since = b.there
	}
	if b.heard.Before(until) {
		until = b.heard
	}
	return until.Sub(since) > lingers
}

// separate tells a device from the one that it was taken for.
func (t *Table) separate(d *device) {
	d.Earlier, d.alone = MAC{}, true
	d.FirstSeen, d.ourFirst = d.appeared, d.ourAppeared
	if d.appeared == 0 {
		d.FirstSeen, d.ourFirst = d.LastSeen, d.ourLast
	}
	if d.number == 0 {
		t.begin(d)
	}
	t.registry.unsaved = true
	t.relate()
	t.inherit(d)
	t.renameSoon()
}

// inherit has those that are taken for a device share its first time.
func (t *Table) inherit(d *device) {
	firsts := make(map[MAC]MAC)
	for _, o := range t.kinship.byRoot[d.MAC] {
		if t.firstMAC(firsts, o.MAC) == d.MAC {
			o.FirstSeen, o.ourFirst = d.FirstSeen, d.ourFirst
		}
	}
}
