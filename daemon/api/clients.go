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

// traffic is the time over which clients' bytes are summed.
const traffic = 24 * time.Hour

// clients lists the devices that were seen lately and the clients with flows in the
// last 24 hours; the named ones first. One without a MAC is its address.
func (a *API) clients(ctx context.Context, _ ubus.Table, b *ubus.Builder) error {
	totals, err := a.Store.Totals(ctx, a.now().Add(-traffic).UnixMilli())
	if err != nil {
		return fmt.Errorf("summing clients' traffic: %w", err)
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
		appendClient(b, &devices[i], totals[client.IDOf(devices[i].MAC, devices[i].Address())])
	}
	b.Close()
	return nil
}

func appendClient(b *ubus.Builder, d *client.Device, t store.Total) {
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
	b.Close()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
