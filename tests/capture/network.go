package main

import (
	"context"
	"errors"

	"pakon/tests/router"
)

// network is the router that is measured, with its clients.
type network struct {
	router  *router.Router
	clients []*router.Client // on both networks in turn
}

func newNetwork(offloads bool) (*network, error) {
	h := router.Household()
	var options []router.Option
	if offloads {
		options = append(options, router.WithOffloads())
	}
	r, err := router.Start([]router.Device{h[0], h[4], h[1], h[5]}, options...)
	if err != nil {
		return nil, err
	}
	if err := r.Firewall(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &network{r, r.Clients()}, nil
}

// probes are signs of life on each network.
func (n *network) probes() []func(context.Context) error {
	return []func(context.Context) error{n.clients[0].Probe, n.clients[1].Probe}
}
