package main

import (
	"context"
	"fmt"

	"pakon/tests/router"
)

// capturer is what watches the router.
type capturer interface {
	// pids are its processes; 0 for what it does not have.
	pids(context.Context) (suricata, daemon int, err error)
	// names is how many of the connections it has found, under the right name.
	names(context.Context, []router.Connection) (int, error)
	// stop ends it, and tells the packets that it missed.
	stop(context.Context) (drops uint64, err error)
}

func startCapturer(ctx context.Context, o options, n *network, mode string) (capturer, error) {
	switch mode {
	case modeNone:
		return nobody{}, nil
	case modeStock:
		return startStock(ctx, n)
	case modeTap, modeFilter:
		return startPakon(ctx, o, n, mode)
	}
	return nil, fmt.Errorf("no such mode: %q", mode)
}

// nobody watches.
type nobody struct{}

func (nobody) pids(context.Context) (int, int, error)                  { return 0, 0, nil }
func (nobody) names(context.Context, []router.Connection) (int, error) { return 0, nil }
func (nobody) stop(context.Context) (uint64, error)                    { return 0, nil }
