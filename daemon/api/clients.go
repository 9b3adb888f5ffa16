package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
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
	// byAddress is the source of the name of a client without a MAC that has no other.
	byAddress = "address"
)

// clients lists the devices that were seen lately and the clients with flows in the
// last 24 hours; the named ones first. One without a MAC is its address.
func (a *API) clients(ctx context.Context, args ubus.Table, b *ubus.Builder) error {
	left, err := limit(args)
	if err != nil {
		return err
	}
	all, err := boolean(args, "folded", false)
	if err != nil {
		return err
	}
	after, err := readClientsCursor(args)
	if err != nil {
		return err
	}
	out, err := a.Store.LeftOut(ctx, a.now().AddDate(0, 0, 1-leftOutDays).UnixMilli())
	if err != nil {
		return fmt.Errorf("reading what was not recorded of clients: %w", err)
	}
	leftOut := make(map[client.ID][]store.LeftOut)
	for _, l := range out {
		leftOut[l.Client] = append(leftOut[l.Client], l)
	}
	devices := a.Clients.Devices()
	seen := make(map[client.MAC]bool, len(devices))
	for i := range devices {
		seen[devices[i].MAC] = true
	}
	totals, err := a.Store.Totals(ctx, a.now().Add(-traffic).UnixMilli(), func(id client.ID) bool { return seen[id.MAC] || leftOut[id] != nil })
	if err != nil {
		return fmt.Errorf("summing clients' traffic: %w", err)
	}
	for id := range leftOut {
		if _, has := totals.Of[id]; !has {
			totals.Of[id] = store.Total{}
		}
	}
	for id, t := range totals.Of {
		if seen[id.MAC] {
			continue
		}
		d := client.Device{MAC: id.MAC, Random: id.MAC.IsLocal() && !id.MAC.IsGroup(), FirstSeen: t.First, LastSeen: t.Last}
		d.Name, d.NameSource = a.Clients.NameAt(id.MAC, id.Addr)
		if id.Addr.IsValid() {
			d.Addresses = []netip.Addr{id.Addr}
			if d.Name == "" {
				d.Name, d.NameSource = id.Addr.String(), byAddress
			}
		}
		devices = append(devices, d)
	}
	folded := 0
	rows := make([]clientRow, 0, len(devices))
	for i := range devices {
		if d := &devices[i]; d.Folded && !all {
			folded++
		} else {
			rows = append(rows, clientRow{keyOf(d), d})
		}
	}
	slices.SortFunc(rows, func(x, y clientRow) int { return x.compare(&y.clientKey) })
	next := ""
	b.Array("clients")
	for i := range rows {
		r := &rows[i]
		if after != nil && r.compare(after) <= 0 {
			continue
		}
		if left == 0 || b.Len() >= replyBytes {
			next = rows[i-1].cursor()
			break
		}
		id := client.IDOf(r.device.MAC, r.device.Address())
		a.appendClient(b, r.device, totals.Of[id], leftOut[id])
		left--
	}
	b.Close()
	if folded > 0 {
		b.Int("folded", int64(folded))
	}
	if totals.Others > 0 { // whom nobody knows, and who have fewer bytes than those
		b.Table("others")
		b.Int("clients", int64(totals.Others))
		b.Int("sent", count(totals.Sent))
		b.Int("recvd", count(totals.Recvd))
		b.Close()
	}
	if next != "" {
		b.String("next", next)
	}
	return nil
}

// clientRow is a row of the method clients.
type clientRow struct {
	clientKey
	device *client.Device
}

// clientKey is a row's place in the order.
type clientKey struct {
	name string // in lower case; "" if it has none, or its address is
	mac  client.MAC
	addr netip.Addr // of one without a MAC
}

func keyOf(d *client.Device) clientKey {
	k := clientKey{mac: d.MAC}
	if d.MAC.IsZero() {
		k.addr = d.Address()
	}
	if d.NameSource != byAddress {
		k.name = strings.ToLower(bounded(d.Name))
	}
	return k
}

func (k *clientKey) compare(o *clientKey) int {
	return cmp.Or(cmp.Compare(b2i(k.name == ""), b2i(o.name == "")), strings.Compare(k.name, o.name),
		bytes.Compare(k.mac[:], o.mac[:]), k.addr.Compare(o.addr))
}

// cursor is the key as text, for the rows after it.
func (k *clientKey) cursor() string {
	text := fmt.Sprintf("%s|%s|%s", k.mac, k.addr, k.name)
	if !k.addr.IsValid() {
		text = fmt.Sprintf("%s||%s", k.mac, k.name)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// readClientsCursor is the reverse of cursor; nil if there is none.
func readClientsCursor(args ubus.Table) (*clientKey, error) {
	v, ok := given(args, "cursor")
	if !ok {
		return nil, nil
	}
	s, _ := v.(string)
	k, err := parseClientKey(s[:min(len(s), maxCursor)])
	if err != nil {
		return nil, wrong("cursor", v, "next of the last reply of clients")
	}
	return &k, nil
}

func parseClientKey(cursor string) (k clientKey, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return k, err
	}
	parts := strings.SplitN(string(text), "|", 3)
	if len(parts) != 3 {
		return k, errors.New("want a MAC, an address and a name")
	}
	k.name = parts[2]
	if parts[0] != "" {
		if k.mac, err = client.ParseMAC(parts[0]); err != nil {
			return k, err
		}
	}
	if parts[1] != "" {
		k.addr, err = netip.ParseAddr(parts[1])
	}
	return k, err
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
