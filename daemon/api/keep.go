package api

import (
	"context"
	"fmt"
	"strings"

	"pakon/daemon/store"
	"pakon/ubus"
)

func (a *API) archive(ctx context.Context, _ ubus.Table, b *ubus.Builder) error {
	run, err := a.Archive(ctx)
	if err != nil {
		return err
	}
	appendRun(b, run)
	return nil
}

func (a *API) backup(ctx context.Context, _ ubus.Table, b *ubus.Builder) error {
	run, err := a.Backup(ctx)
	if err != nil {
		return err
	}
	b.Int("flows", run.Flows)
	b.Int("written", run.Written)
	b.Int("took_ms", run.Took.Milliseconds())
	return nil
}

func (a *API) forget(ctx context.Context, args ubus.Table, b *ubus.Builder) error {
	f, err := a.readForgetting(args)
	if err != nil {
		return err
	}
	deleted, err := a.Forget(ctx, f)
	if err != nil {
		return fmt.Errorf("forgetting flows: %w", err)
	}
	b.Int("deleted", deleted)
	return nil
}

// readForgetting reads what is to be forgotten. A name that no client has is
// wrong: who misspells it is to know that nothing was deleted.
func (a *API) readForgetting(args ubus.Table) (f store.Forgetting, err error) {
	clients, err := list(args, "mac", "MAC addresses or names of clients")
	if err != nil {
		return f, err
	}
	for _, c := range clients {
		macs := a.macs([]string{c})
		if len(macs) == 0 {
			return f, wrong("mac", c, "MAC addresses or names of clients: no client has this name")
		}
		f.MACs = append(f.MACs, macs...)
	}
	if len(f.MACs) > maxListed {
		return f, wrong("mac", fmt.Sprintf("%d devices", len(f.MACs)), fmt.Sprintf("at most %d", maxListed))
	}
	if f.Hostnames, err = hostnames(args); err != nil {
		return f, err
	}
	for i, h := range f.Hostnames {
		f.Hostnames[i] = strings.ToLower(strings.TrimSuffix(h, "."))
	}
	before, err := moment(args, "before", a.now(), a.Location())
	if err != nil {
		return f, err
	}
	f.Before = before.ms
	if f.All, err = boolean(args, "all", false); err != nil {
		return f, err
	}
	var given []string
	for _, g := range []struct {
		name string
		ok   bool
	}{{"mac", f.MACs != nil}, {"hostname", f.Hostnames != nil}, {"before", f.Before > 0}, {"all", f.All}} {
		if g.ok {
			given = append(given, g.name)
		}
	}
	const want = "one of mac, hostname, before, all"
	switch len(given) {
	case 0:
		return f, wrong("all", "nothing given", want)
	case 1:
		return f, nil
	}
	return f, wrong(given[1], "given with "+given[0], want)
}
