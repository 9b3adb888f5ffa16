package head

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// netlinkTimeout ends what the kernel does not answer.
const netlinkTimeout = 10 * time.Second

const macLength = 6

// link is what is known of an interface.
type link struct {
	device
	kind   string
	master uint32 // the index of the bridge that it is a port of
	lower  uint32 // the index of the link that it is a VLAN of, 0 if it is none
	mac    string // its bytes
	alias  string
	up     bool
}

// ours tells whether the link is a mirror device: the alias comes after the
// name, and a crash may have come between.
func (l link) ours() bool {
	number, ok := strings.CutPrefix(l.name, mirrorPrefix)
	_, err := strconv.ParseUint(number, 10, 16)
	return ok && err == nil && slices.Contains(mirrorKinds, l.kind)
}

// Mirror devices are named pakon0 and so on, and their alias says for whom.
const (
	mirrorPrefix = "pakon"
	mirrorAlias  = "Pakon: head of connections of "
)

// mirrorKinds of devices swallow what they are given, once AF_PACKET has seen
// it. The first is made for that; the second does it for packets that were not
// redirected by tc, and ours are not.
var mirrorKinds = []string{"dummy", "ifb"}

// linkConn lists and changes links.
type linkConn struct{ *netlink.Conn }

func dialLinks() (linkConn, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return linkConn{}, fmt.Errorf("open rtnetlink: %w", err)
	}
	if err := c.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return linkConn{}, errors.Join(fmt.Errorf("set the deadline of rtnetlink: %w", err), c.Close())
	}
	return linkConn{c}, nil
}

func (c linkConn) list() ([]link, error) {
	messages, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump},
		Data:   linkHeader(0, 0),
	})
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return linksOf(messages)
}

// linksOf returns the links that messages tell of.
func linksOf(messages []netlink.Message) ([]link, error) {
	var links []link
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		l, err := parseLink(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		links = append(links, l)
	}
	return links, nil
}

func parseLink(data []byte) (link, error) {
	l := link{
		device: device{index: binary.NativeEndian.Uint32(data[4:])},
		up:     binary.NativeEndian.Uint32(data[8:])&unix.IFF_UP != 0,
	}
	ad, err := netlink.NewAttributeDecoder(data[unix.SizeofIfInfomsg:])
	if err != nil {
		return link{}, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.name = ad.String()
		case unix.IFLA_IFALIAS:
			l.alias = ad.String()
		case unix.IFLA_MASTER:
			l.master = ad.Uint32()
		case unix.IFLA_LINK:
			l.lower = ad.Uint32()
		case unix.IFLA_ADDRESS:
			l.mac = string(ad.Bytes())
		case unix.IFLA_LINKINFO:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					if ad.Type() == unix.IFLA_INFO_KIND {
						l.kind = ad.String()
					}
				}
				return nil
			})
		}
	}
	if l.kind != "vlan" {
		l.lower = 0 // the other end of a cable, or what a tunnel goes through
	}
	return l, ad.Err()
}

// linkHeader is a struct ifinfomsg; flags that are set are changed.
func linkHeader(index uint32, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags)
	return b
}

// change sends a request about a link and waits until it is done.
func (c linkConn) change(typ netlink.HeaderType, flags netlink.HeaderFlags, header []byte, attributes func(*netlink.AttributeEncoder)) error {
	ae := netlink.NewAttributeEncoder()
	if attributes != nil {
		attributes(ae)
	}
	b, err := ae.Encode()
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   append(header, b...),
	})
	return err
}

// wireSize is more than a frame on a cable usually has and less than any packet
// that is worth merging.
const wireSize = 1600

// create makes a device. What GRO merged leaves it as it came from the cable: a
// ring of AF_PACKET has room for that.
func (c linkConn) create(name, kind string, more func(*netlink.AttributeEncoder)) error {
	err := c.change(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, linkHeader(0, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, name)
		ae.Uint32(unix.IFLA_GSO_MAX_SEGS, 1)
		ae.Uint32(unix.IFLA_GSO_MAX_SIZE, wireSize)
		ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.IFLA_INFO_KIND, kind)
			return nil
		})
		if more != nil {
			more(ae)
		}
	})
	if err != nil {
		return fmt.Errorf("make %s device %s: %w", kind, name, err)
	}
	return nil
}

// createMirror makes a device of the first kind that this kernel has.
func (c linkConn) createMirror(name string) error {
	var errs []error
	for _, kind := range mirrorKinds {
		err := c.create(name, kind, nil)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mirror finds or makes the mirror device of an interface. One that is there
// keeps its name, so that Suricata need not be told another.
func (c linkConn) mirror(name string, links *[]link) (device, error) {
	alias := mirrorAlias + name
	i := slices.IndexFunc(*links, func(l link) bool { return l.ours() && l.alias == alias })
	if i >= 0 {
		l := (*links)[i]
		if l.up {
			return l.device, nil // and nobody is told of a change of links
		}
		return l.device, c.bringUp(l.device, alias)
	}
	free := ""
	for n := 0; ; n++ {
		free = mirrorPrefix + strconv.Itoa(n)
		if !slices.ContainsFunc(*links, func(l link) bool { return l.name == free }) {
			break
		}
	}
	if err := c.createMirror(free); err != nil {
		return device{}, err
	}
	made, err := c.list()
	if err != nil {
		return device{}, err
	}
	*links = made
	i = slices.IndexFunc(made, func(l link) bool { return l.name == free })
	if i < 0 {
		return device{}, fmt.Errorf("make device %s: it is gone again: %w", free, unix.ENODEV)
	}
	(*links)[i].alias = alias
	return made[i].device, c.bringUp(made[i].device, alias)
}

// bringUp makes the device ready: without addresses, which would make packets.
func (c linkConn) bringUp(d device, alias string) error {
	// A kernel without IPv6 refuses this, and has no addresses to fear.
	err := c.change(unix.RTM_NEWLINK, 0, linkHeader(d.index, 0), func(ae *netlink.AttributeEncoder) {
		ae.Nested(unix.IFLA_AF_SPEC, func(ae *netlink.AttributeEncoder) error {
			ae.Nested(unix.AF_INET6, func(ae *netlink.AttributeEncoder) error {
				ae.Uint8(unix.IFLA_INET6_ADDR_GEN_MODE, 1) // IN6_ADDR_GEN_MODE_NONE
				return nil
			})
			return nil
		})
	})
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("keep device %s without addresses: %w", d.name, err)
	}
	err = c.change(unix.RTM_NEWLINK, 0, linkHeader(d.index, unix.IFF_UP|unix.IFF_NOARP), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFALIAS, alias)
	})
	if err != nil {
		return fmt.Errorf("bring device %s up: %w", d.name, err)
	}
	return nil
}

// delete deletes a device; one that is not there is deleted.
func (c linkConn) delete(d device) error {
	err := c.change(unix.RTM_DELLINK, 0, linkHeader(d.index, 0), nil)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete device %s: %w", d.name, err)
	}
	return nil
}

// removeMirrors deletes the mirror devices that are not to be kept.
func removeMirrors(keep map[string]string) error {
	c, err := dialLinks()
	if err != nil {
		return err
	}
	defer c.Close()
	links, err := c.list()
	if err != nil {
		return err
	}
	for _, l := range links {
		if _, kept := keep[l.name]; l.ours() && !kept {
			err = errors.Join(err, c.delete(l.device))
		}
	}
	return err
}
