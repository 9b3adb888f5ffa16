package show

import (
	"context"
	"errors"
	"strings"

	"pakon/ubus"
)

// clients is the command `pakon clients`.
func (c *command) clients(ctx context.Context, args []string) error {
	options := append([]option{
		flag('j', "json", "print JSON: an array with an object for each device", &c.json),
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
	reply, err := c.call(ctx, "clients", nil)
	if err != nil {
		return err
	}
	clients, ok := reply.Array("clients")
	if !ok {
		return errors.New("the daemon's answer has no clients: is it of the same version?")
	}
	if c.json {
		_, err := c.out.Write(append(appendJSON(nil, clients), '\n'))
		return err
	}
	t := newTable(c.out, "no devices seen yet", "name", "MAC", "vendor", "address", "interface", "last seen", "sent", "recvd")
	for _, v := range clients {
		row, _ := v.(ubus.Table)
		t.add(c.clientCells(row)...)
	}
	if err := t.end(); err != nil {
		return err
	}
	if truncated, _ := reply.Bool("truncated"); truncated {
		_, err = c.out.WriteString("... and more than one answer can hold\n")
	}
	return err
}

func (c *command) clientCells(t ubus.Table) []string {
	name, _ := t.String("name")
	mac, _ := t.String("mac")
	if mac == "" {
		mac = "?" // all devices whose address is not known
	}
	vendor, _ := t.String("vendor")
	source, _ := t.String("name_source")
	random, _ := t.Bool("random")
	switch {
	case source == "vendor":
		vendor = "" // the name begins with it
	case vendor == "" && random:
		vendor = "(random MAC)"
	}
	iface, _ := t.String("interface")
	list, _ := t.Array("addresses")
	var addresses []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			addresses = append(addresses, s)
		}
	}
	last, seen := t.Int("last_seen")
	lastSeen := ""
	if seen && last > 0 {
		lastSeen = dateTime(last, c.loc)
	}
	sent, _ := t.Int("sent")
	recvd, _ := t.Int("recvd")
	return []string{name, mac, vendor, strings.Join(addresses, " "), iface, lastSeen, size(sent), size(recvd)}
}
