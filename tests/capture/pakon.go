package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// pakon is the daemon, with the Suricata that it runs.
type pakon struct {
	dir    string
	system *rig.System
}

func startPakon(ctx context.Context, o options, n *network, mode string) (_ *pakon, err error) {
	p := &pakon{}
	if p.dir, err = os.MkdirTemp("", "pakon-capture-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_, stopErr := p.stop(ctx)
			err = errors.Join(err, stopErr)
		}
	}()
	root, err := rig.NewRoot(p.dir, nil)
	if err != nil {
		return nil, err
	}
	if err := root.Write("etc/config/pakon", config(mode)); err != nil {
		return nil, err
	}
	p.system = &rig.System{Root: root, Pakon: o.pakon, Ubus: o.ubus, Where: n.router.Do}
	if err := p.system.StartBus(ctx); err != nil {
		return nil, err
	}
	if err := p.system.StartDaemon(ctx); err != nil {
		return nil, err
	}
	if err := p.system.AwaitCapture(ctx, n.probes()...); err != nil {
		return nil, err
	}
	st, err := p.system.Status(ctx)
	if err != nil {
		return nil, err
	}
	if st.Mode != mode {
		return nil, fmt.Errorf("the daemon was asked for the mode %s and uses %q; it says: %s", mode, st.Mode, strings.Join(st.Warnings, " "))
	}
	return p, nil
}

// config is the /etc/config/pakon that asks for a mode.
func config(mode string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "config monitor 'monitor'\n\toption enabled '1'\n\toption mode '%s'\n", mode)
	for _, i := range rig.Interfaces {
		fmt.Fprintf(&b, "\tlist interface '%s'\n", i)
	}
	return b.String()
}

func (p *pakon) pids(ctx context.Context) (suricata, daemon int, err error) {
	b, err := os.ReadFile(p.system.Root.Path("var/run/pakon/pakon.pid"))
	if err != nil {
		return 0, 0, err
	}
	if daemon, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
		return 0, 0, err
	}
	st, err := p.system.Status(ctx)
	return st.Suricata.PID, daemon, err
}

func (p *pakon) names(ctx context.Context, made []router.Connection) (int, error) {
	type key struct {
		mac, name string
		remote    netip.AddrPort
	}
	return settled(ctx, len(made), func(ctx context.Context) (int, error) {
		flows, _, err := p.system.Query(ctx, map[string]any{
			"start": made[0].Start.Unix() - 1, "hostname": []string{router.BurstDomain}, "filter": false,
		})
		if err != nil {
			return 0, err
		}
		told := map[key]int{}
		for _, f := range flows {
			if a, err := netip.ParseAddr(f.Address); err == nil {
				told[key{f.MAC, f.Hostname, netip.AddrPortFrom(a, f.Port)}]++
			}
		}
		right := 0
		for _, c := range made {
			if told[key{c.Client.MAC, c.Name, c.Remote}] == 1 {
				right++
			}
		}
		return right, nil
	})
}

func (p *pakon) stop(ctx context.Context) (drops uint64, err error) {
	var errs []error
	if p.system != nil {
		if p.system.Daemon != nil {
			st, err := p.system.Status(context.WithoutCancel(ctx))
			drops, errs = st.Suricata.Drops, append(errs, err)
		}
		errs = append(errs, p.system.Close())
	}
	return drops, errors.Join(append(errs, os.RemoveAll(p.dir))...)
}
