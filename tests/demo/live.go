package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"pakon/tests/router"
)

// told is how long it may take until all connections are recorded with their
// names: the kernel's are listed every few seconds.
const told = time.Minute

// browse is the demonstration with a router at work.
func browse(ctx context.Context, s *shown) (err error) {
	s.say("A router in network namespaces: %d devices behind %s and %s, web servers behind wan.", len(router.Household()), router.LAN, router.Guest)
	r, err := router.Start(router.Household())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	s.Where = r.Do
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := r.Firewall(); err != nil {
		return err
	}
	if err := s.Root.Write("tmp/.uci/pakon", "pakon.monitor.mode='auto'\n"); err != nil { // as it is installed
		return err
	}
	if err := s.StartBus(ctx); err != nil {
		return err
	}
	if err := s.StartDaemon(ctx); err != nil {
		return err
	}
	if err := s.AwaitCapture(ctx, r.Clients()[0].Probe, r.Clients()[5].Probe); err != nil {
		return err
	}
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	s.say("Pakon runs on it, with Suricata %s, in mode %s.", st.Suricata.Version, st.Mode)
	all, err := browseAll(ctx, r)
	if err != nil {
		return err
	}
	s.say("The devices made %d connections over HTTP, TLS 1.2, TLS 1.3 and QUIC, IPv4 and IPv6.", len(all))
	if st.Mode == "filter" {
		s.say("Suricata is handed the head of each, which names it; the kernel counts the bytes.")
	}
	if err := s.await(ctx, all, told); err != nil {
		return err
	}
	if err := s.show(ctx, all); err != nil {
		return err
	}
	if s.once {
		return nil
	}
	return s.goOn(ctx, r)
}

// goOn lets the devices browse on while new flows are shown.
func (s *shown) goOn(ctx context.Context, r *router.Router) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error {
		defer cancel()
		return s.follow(ctx)
	})
	g.Go(func() error {
		next := time.NewTicker(3 * time.Second)
		defer next.Stop()
		for i := 0; ; i++ {
			select {
			case <-next.C:
			case <-ctx.Done():
				return nil
			}
			v := visits[i%len(visits)]
			if _, err := r.Clients()[v.device].Fetch(ctx, v.Request); err != nil && ctx.Err() == nil {
				cancel()
				return err
			}
		}
	})
	return g.Wait()
}
