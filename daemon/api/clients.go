package api

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/store"
	"pakon/ubus"
)

const (
	// traffic is the time over which clients' bytes are summed.
	traffic = 24 * time.Hour
	// leftOutDays is for how many days, with today, it is told what was not recorded.
	leftOutDays = 7
)

// clients lists the devices that were seen lately and the clients with flows in the
// last 24 hours; the named ones first. One without a MAC is its address.
func (a *API) clients(ctx context.Context, _ ubus.Table, b *ubus.Builder) error {
	totals, err := a.Store.Totals(ctx, a.now().Add(-traffic).UnixMilli())
	if err != nil {
		return fmt.Errorf("summing clients' traffic: %w", err)
	}
	out, err := a.Store.LeftOut(ctx, a.now().AddDate(0, 0, 1-leftOutDays).UnixMilli())
	if err != nil {
		return fmt.Errorf("reading what was not recorded of clients: %w", err)
	}
	leftOut := make(map[client.ID][]store.LeftOut)
	for _, l := range out {
		leftOut[l.Client] = append(leftOut[l.Client], l)
		if _, known := totals[l.Client]; !known {
			totals[l.Client] = store.Total{}
		}
	}
	devices := a.Clients.Devices()
	seen := make(map[client.MAC]bool, len(devices))
	for _, d := range devices {
		seen[d.MAC] = true
	}
	for id, t := range totals {
		if seen[id.MAC] {
			continue
		}
		d := client.Device{MAC: id.MAC, Random: id.MAC.IsLocal() && !id.MAC.IsGroup(), FirstSeen: t.First, LastSeen: t.Last}
		d.Name, d.NameSource = a.Clients.NameAt(id.MAC, id.Addr)
		if id.Addr.IsValid() {
			d.Addresses = []netip.Addr{id.Addr}
		}
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(x, y client.Device) int {
		return cmp.Or(cmp.Compare(b2i(x.Name == ""), b2i(y.Name == "")),
			strings.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name)), bytes.Compare(x.MAC[:], y.MAC[:]), x.Address().Compare(y.Address()))
	})
	b.Array("clients")
	for i := range devices {
		if b.Len() >= replyBytes {
			b.Close()
			b.Bool("truncated", true)
			return nil
		}
		id := client.IDOf(devices[i].MAC, devices[i].Address())
		a.appendClient(b, &devices[i], totals[id], leftOut[id])
	}
	b.Close()
	return nil
}

func (a *API) appendClient(b *ubus.Builder, d *client.Device, t store.Total, out []store.LeftOut) {
	first, last := d.FirstSeen, max(d.LastSeen, t.Last)
	if t.First > 0 && (first == 0 || t.First < first) {
		first = t.First // what is known for good may have come from the drive later
	}
	b.Table("")
	b.String("mac", d.MAC.String())
	b.String("name", bounded(d.Name))
	b.String("name_source", bounded(d.NameSource))
	b.String("vendor", bounded(d.Vendor))
	b.Bool("random", d.Random)
	b.String("earlier", d.Earlier.String())
	b.Array("addresses")
	for _, addr := range d.Addresses {
		b.String("", addr.String())
	}
	b.Close()
	b.String("interface", bounded(d.Interface))
	b.Int("first_seen", floorSecond(first))
	b.Int("last_seen", floorSecond(last))
	b.Int("sent", count(t.Sent))
	b.Int("recvd", count(t.Recvd))
	a.appendLeftOut(b, out)
	b.Close()
}

// appendLeftOut appends what was not recorded, by day and why, if anything was.
func (a *API) appendLeftOut(b *ubus.Builder, out []store.LeftOut) {
	if len(out) == 0 {
		return
	}
	b.Array("left_out")
	for _, l := range out {
		b.Table("")
		b.String("day", date(l.Day, a.Location()))
		b.String("why", l.Why)
		b.Int("sent", count(l.Sent))
		b.Int("recvd", count(l.Recvd))
		b.Close()
	}
	b.Close()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
