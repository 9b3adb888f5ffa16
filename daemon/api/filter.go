package api

import (
	"fmt"
	"slices"

	"pakon/daemon/client"
	"pakon/daemon/store"
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
	names, err := list(args, "mac", "MAC addresses or names of clients")
	if err != nil {
		return w, err
	}
	w.MACs = a.macs(names)
	if len(w.MACs) > maxListed {
		return w, wrong("mac", fmt.Sprintf("%d devices", len(w.MACs)), fmt.Sprintf("at most %d", maxListed))
	}
	w.none = w.none || len(names) > 0 && len(w.MACs) == 0
	if w.Hostnames, err = hostnames(args); err != nil {
		return w, err
	}
	known := a.Lists()
	for _, h := range w.Hostnames {
		w.Hostnames = append(w.Hostnames, known.ByLabel(h)...)
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

// hostnames reads names of far ends.
func hostnames(args ubus.Table) ([]string, error) {
	names, err := list(args, "hostname", "host names")
	if slices.Contains(names, ".") {
		err = wrong("hostname", ".", "host names")
	}
	return names, err
}

// macs are the addresses of clients given by address or name, each once.
func (a *API) macs(names []string) []client.MAC {
	var macs []client.MAC
	for _, n := range names {
		found := a.Clients.ByName(n)
		if m, err := client.ParseMAC(n); err == nil {
			found = []client.MAC{m}
		}
		for _, m := range found {
			if !slices.Contains(macs, m) {
				macs = append(macs, m)
			}
		}
	}
	return macs
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
