package show

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"pakon/lists/hostname"
	"pakon/ubus"
)

// The daemon tells of flows as they are stored in notifications of its object
// (see package api): type flowsStored, with the flows in the form of the method
// query and the number of flows told before.
const flowsStored = "flows"

// maxNotifications is how many notifications wait while the output is slow.
const maxNotifications = 64

// follow prints flows as the daemon stores them, until ctx ends or as many as
// the limit were printed.
func (c *command) follow(ctx context.Context, o *showOptions) error {
	ctx, cancel := context.WithCancel(ctx) // ends a notification that waits below
	defer cancel()
	lookup, cancelLookup := context.WithTimeout(ctx, callTimeout)
	defer cancelLookup()
	found, err := c.bus.Lookup(lookup, object)
	if err != nil || len(found) == 0 {
		return errAbsent
	}
	if o.macs != nil || o.hosts != nil { // the daemon knows whether they mean anything
		args, err := c.arguments(o)
		if err != nil {
			return err
		}
		// Of what runs now alone: to find that nothing else matches takes long.
		args = append(args, ubus.Field{Name: "start", Value: c.now.Unix()}, ubus.Field{Name: "limit", Value: int32(1)})
		if _, err := c.call(ctx, "query", args); err != nil {
			return err
		}
	}
	told := make(chan ubus.Table, maxNotifications)
	stop := c.bus.Subscribe(object, func(typ string, data ubus.Table) {
		if typ != flowsStored {
			return
		}
		select {
		case told <- data:
		case <-ctx.Done():
		}
	})
	defer stop()
	w := c.flowWriter(o)
	var hidden hiddenFlows
	left, expected := o.limit, int64(-1)
	if left == 0 {
		left = -1
	}
	for {
		select {
		case <-ctx.Done():
			return c.tellHidden(o, hidden)
		case data := <-told:
			before, _ := data.Int("before")
			if missed := before - expected; expected >= 0 && missed > 0 {
				fmt.Fprintf(c.errOut, "%s: %d flows are missing here: the bus dropped their notification\n", c.name, missed)
			}
			flows, _ := data.Array("flows")
			groups, _ := data.Table("groups")
			expected = before + int64(len(flows))
			for _, v := range flows {
				t, _ := v.(ubus.Table)
				if !o.matches(t, groups) {
					continue
				}
				f := readFlow(t, o.detail)
				if category, _ := t.String("hidden"); category != "" && !o.noFilter {
					if !f.running { // which it is told of again
						hidden.flows++
						hidden.bytes += f.sent + f.recvd
					}
					continue
				}
				w.add(f)
				if left--; left == 0 { // never without a limit
					break
				}
			}
			err := w.flush()
			if left == 0 {
				err = errors.Join(err, c.tellHidden(o, hidden))
			}
			if err = errors.Join(err, c.out.Flush()); err != nil || left == 0 {
				return err
			}
		}
	}
}

// octets leaves of a MAC address what is the same in all spellings.
var octets = strings.NewReplacer(":", "", "-", "", ".", "")

// matches tells whether the options ask for a flow unless it is hidden, as the
// method query would; groups are those of the notification.
func (o *showOptions) matches(t, groups ubus.Table) bool {
	direction, _ := t.String("direction")
	switch o.direction {
	case "", "out":
		if direction == "in" {
			return false
		}
	case "in":
		if direction != "in" {
			return false
		}
	}
	client, _ := t.String("client")
	alias, _ := t.String("alias")
	mac, _ := t.String("mac")
	if !matchesAny(o.macs, func(s string) bool {
		if addr, err := netip.ParseAddr(s); err == nil {
			s = addr.Unmap().String()
			return mac == "" && (s == client || s == alias)
		}
		return strings.EqualFold(s, client) || strings.EqualFold(s, alias) || mac != "" && strings.EqualFold(octets.Replace(s), octets.Replace(mac))
	}) {
		return false
	}
	name, _ := t.String("hostname")
	group, _ := t.String("group")
	address, _ := t.String("address")
	source, _ := t.String("source")
	service, _ := groups.Table(group)
	label, _ := service.String("label")
	return matchesAny(o.hosts, func(s string) bool {
		if label != "" && strings.EqualFold(s, label) {
			return true
		}
		s, ok := hostname.Parse(s)
		return ok && (s == name || s == group || strings.HasSuffix(name, "."+s) || (name == "" || source == byPort) && s == address)
	})
}

// matchesAny tells whether f holds for one of the values; of none, always.
func matchesAny(values ubus.Array, f func(string) bool) bool {
	for _, v := range values {
		if s, _ := v.(string); f(s) {
			return true
		}
	}
	return len(values) == 0
}
