package api

import (
	"fmt"
	"slices"
	"strings"

	"pakon/daemon/client"
	"pakon/daemon/store"
	"pakon/lists/hostname"
	"pakon/ubus"
)

// window is a choice of flows as arguments give it.
type window struct {
	store.Filter
	start, end bound
	none       bool // no flow can match, as when an unknown client is asked for
}

// filter reads the arguments that choose flows.
func (a *API) filter(args ubus.Table) (w window, err error) {
	now, loc := a.now(), a.Location()
	if w.start, err = moment(args, "start", now, loc); err != nil {
		return w, err
	}
	if w.end, err = moment(args, "end", now, loc); err != nil {
		return w, err
	}
	w.Start, w.End = w.start.ms, w.end.ms
	w.none = w.End > 0 && w.Start >= w.End
	names, err := list(args, "mac", wantClients, maxString)
	if err != nil {
		return w, err
	}
	for _, name := range names {
		ids := a.clientsOf(name)
		if len(ids) == 0 && misspelt(name) {
			return w, wrong("mac", name, wantClients)
		}
		w.Clients = addClients(w.Clients, ids)
	}
	if len(w.Clients) > maxListed {
		return w, wrong("mac", fmt.Sprintf("%d devices", len(w.Clients)), fmt.Sprintf("at most %d", maxListed))
	}
	w.none = w.none || len(names) > 0 && len(w.Clients) == 0
	if w.Hostnames, err = a.hostnames(args); err != nil {
		return w, err
	}
	hide, err := boolean(args, "filter", true)
	if err != nil {
		return w, err
	}
	w.All = !hide
	direction, err := choice(args, "direction", "out", "out", "in", "both")
	if err != nil {
		return w, err
	}
	w.Out, w.In = direction != "in", direction != "out"
	return w, nil
}

const (
	wantClients = "MAC addresses, names of clients, or addresses of those without a MAC"
	wantHosts   = hostname.Want + ", or the name of a service such as Facebook"
)

// hostnames reads names of far ends. A service that is called so is meant, too.
func (a *API) hostnames(args ubus.Table) ([]string, error) {
	given, err := list(args, "hostname", wantHosts, maxURL)
	if err != nil || given == nil {
		return nil, err
	}
	known := a.Lists()
	var names []string
	for _, g := range given {
		keys := known.ByLabel(g)
		name, ok := hostname.Parse(g)
		if !ok && len(keys) == 0 {
			return nil, wrong("hostname", g, wantHosts)
		}
		if ok {
			names = append(names, name)
		}
		names = append(names, keys...)
	}
	if len(names) > maxListed {
		return nil, wrong("hostname", fmt.Sprintf("%d names", len(names)), fmt.Sprintf("at most %d", maxListed))
	}
	return names, nil
}

// clientsOf are the clients that are meant by a MAC, an address or a name.
func (a *API) clientsOf(name string) []client.ID {
	if id, ok := client.ParseID(name); ok {
		return []client.ID{id}
	}
	return a.Clients.Meant(name)
}

// misspelt reports whether a word that means no client was to be a MAC or an address:
// no name has a colon or a slash, or is made of digits alone.
func misspelt(word string) bool {
	return strings.ContainsAny(word, ":/") || strings.Trim(word, "0123456789.") == ""
}

// addClients appends those that are not there yet.
func addClients(to, ids []client.ID) []client.ID {
	for _, id := range ids {
		if !slices.Contains(to, id) {
			to = append(to, id)
		}
	}
	return to
}

// elsewhere is the error for one who finds nothing by the address of a device, which is
// known by its MAC; nil if none of the clients is given so.
func (a *API) elsewhere(ids []client.ID) error {
	for _, id := range ids {
		if !id.Addr.IsValid() {
			continue
		}
		for _, d := range a.Clients.Devices() {
			if slices.Contains(d.Addresses, id.Addr) && !slices.Contains(ids, client.ID{MAC: d.MAC}) {
				return wrong("mac", id.Addr.String(), wantClients+": this is an address of "+describe(&d))
			}
		}
	}
	return nil
}

// describe tells which device it is.
func describe(d *client.Device) string {
	if d.Name == "" {
		return d.MAC.String()
	}
	return fmt.Sprintf("%s (%s)", d.MAC, bounded(d.Name))
}

// limit reads how many flows or rows are wanted at most.
func limit(args ubus.Table) (int, error) {
	const want = "a number from 1 to 10000"
	n, err := integer(args, "limit", store.DefaultLimit, want)
	if err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, wrong("limit", n, want)
	}
	return int(min(n, store.MaxLimit)), nil
}
