package show

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pakon/ubus"
)

// clients is the command `pakon clients`.
func (c *command) clients(ctx context.Context, args []string) error {
	all := false
	options := append([]option{
		flag('j', "json", "print JSON: an array with an object for each device", &c.json),
		flag('a', "all", "those too whose random MAC has not been seen for 90 days", &all),
	}, c.common()...)
	if err := parse(args, options); err != nil {
		return err
	}
	if c.help {
		return printHelp(c.out, "pakon clients [option...]",
			"Lists the devices that were seen, with their traffic of the last 24 hours.", options, "")
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	clients, reply, err := c.allClients(ctx, all)
	if err != nil {
		return err
	}
	if c.json {
		_, err := c.out.Write(append(appendJSON(nil, clients), '\n'))
		return err
	}
	heading := []string{"name", "MAC", "vendor", "address", "interface", "first seen", "last seen", "sent", "recvd"}
	leaves := slices.ContainsFunc(clients, func(v any) bool {
		row, _ := v.(ubus.Table)
		_, left := row.Array("left_out")
		return left
	})
	if leaves {
		heading = append(heading, "left out")
	}
	t := newTable(c.out, "no devices seen yet", heading...)
	for _, v := range clients {
		row, _ := v.(ubus.Table)
		cells := c.clientCells(row)
		if leaves {
			cells = append(cells, size(leftOut(row, func(day, _ string) bool { return day == c.day(c.now.Unix()) })))
		}
		t.add(cells...)
	}
	if err := t.end(); err != nil {
		return err
	}
	if leaves {
		if _, err := c.out.WriteString("left out: bytes of today that are not recorded (pakon status says why)\n"); err != nil {
			return err
		}
	}
	if folded, _ := reply.Int("folded"); folded > 0 {
		if _, err := fmt.Fprintf(c.out, "... and %d random MACs that have not been seen for 90 days (--all shows them)\n", folded); err != nil {
			return err
		}
	}
	if others, ok := reply.Table("others"); ok {
		n, _ := others.Int("clients")
		sent, _ := others.Int("sent")
		recvd, _ := others.Int("recvd")
		_, err = fmt.Fprintf(c.out, "... and %d clients with less traffic that nobody knows: sent %s, received %s\n", n, plainSize(sent), plainSize(recvd))
	}
	return err
}

// leftOut is the sum of the bytes in a reply that were left out on certain days for
// certain reasons.
func leftOut(t ubus.Table, want func(day, why string) bool) (bytes int64) {
	list, _ := t.Array("left_out")
	for _, v := range list {
		row, _ := v.(ubus.Table)
		day, _ := row.String("day")
		why, _ := row.String("why")
		sent, _ := row.Int("sent")
		recvd, _ := row.Int("recvd")
		if want(day, why) {
			bytes += sent + recvd
		}
	}
	return bytes
}

// maxClients bounds the rows that are asked for: the daemon remembers fewer.
const maxClients = 20000

// allClients asks for all clients, page by page, and returns the last page, too.
func (c *command) allClients(ctx context.Context, folded bool) (clients ubus.Array, last ubus.Table, err error) {
	args := ubus.Table{{Name: "limit", Value: int32(10000)}, {Name: "folded", Value: folded}}
	for next := ""; ; {
		page := args
		if next != "" {
			page = append(args[:len(args):len(args)], ubus.Field{Name: "cursor", Value: next})
		}
		if last, err = c.call(ctx, "clients", page); err != nil {
			return nil, nil, err
		}
		rows, ok := last.Array("clients")
		if !ok {
			return nil, nil, errors.New("the daemon's answer has no clients: is it of the same version?")
		}
		clients = append(clients, rows...)
		if next, _ = last.String("next"); next == "" || len(rows) == 0 || len(clients) > maxClients {
			return clients, last, nil
		}
	}
}

func (c *command) clientCells(t ubus.Table) []string {
	name, _ := t.String("name")
	mac, _ := t.String("mac")
	vendor, _ := t.String("vendor")
	source, _ := t.String("name_source")
	random, _ := t.Bool("random")
	earlier, _ := t.String("earlier")
	switch {
	case source == "vendor":
		vendor = "" // the name begins with it
	case len(earlier) == len("00:11:22:33:44:55"):
		vendor = "was " + earlier[len("00:11:22:33:"):] // which is in the list, too
	case vendor == "" && random:
		vendor = "random MAC"
	}
	iface, _ := t.String("interface")
	list, _ := t.Array("addresses")
	// One address is enough to know a device by, and one of IPv6 is long.
	address := ""
	for _, v := range list {
		s, _ := v.(string)
		if v4 := !strings.Contains(s, ":"); v4 && strings.Contains(address, ":") || address == "" {
			address = s
		}
	}
	if mac == "" && address == "" {
		address = "?" // of clients of which nothing is known
	}
	first, _ := t.Int("first_seen")
	last, _ := t.Int("last_seen")
	sent, _ := t.Int("sent")
	recvd, _ := t.Int("recvd")
	return []string{name, mac, vendor, address, iface, c.day(first), c.lately(last), size(sent), size(recvd)}
}

// day is the day of a time, "" for 0.
func (c *command) day(unix int64) string {
	if unix <= 0 {
		return ""
	}
	return time.Unix(unix, 0).In(c.loc).Format(time.DateOnly)
}

// lately is the time of day if that is today, else the day.
func (c *command) lately(unix int64) string {
	day := c.day(unix)
	if day == "" || day != c.day(c.now.Unix()) {
		return day
	}
	return time.Unix(unix, 0).In(c.loc).Format("15:04")
}
