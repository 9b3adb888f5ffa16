package api

import (
	"context"
	"fmt"

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
	if deleted == 0 {
		if err := a.elsewhere(f.Clients); err != nil {
			return err
		}
	}
	b.Int("deleted", deleted)
	return nil
}

// readForgetting reads what is to be forgotten. A name that no client has is
// wrong: who misspells it is to know that nothing was deleted.
func (a *API) readForgetting(args ubus.Table) (f store.Forgetting, err error) {
	clients, err := list(args, "mac", wantClients, maxString)
	if err != nil {
		return f, err
	}
	for _, c := range clients {
		ids := a.clientsOf(c)
		if len(ids) == 0 {
			return f, wrong("mac", c, wantClients+": no client has this name")
		}
		f.Clients = addClients(f.Clients, ids)
	}
	if len(f.Clients) > maxListed {
		return f, wrong("mac", fmt.Sprintf("%d devices", len(f.Clients)), fmt.Sprintf("at most %d", maxListed))
	}
	if f.Hostnames, err = a.hostnames(args); err != nil {
		return f, err
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
	}{{"mac", f.Clients != nil}, {"hostname", f.Hostnames != nil}, {"before", f.Before > 0}, {"all", f.All}} {
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
