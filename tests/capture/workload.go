package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"pakon/tests/router"
)

// load is how much is done in each round.
type load struct {
	bulk, paced int64 // bytes
	pace        int64 // bits a second
	connections int
	idle        int
	idleTime    time.Duration
}

// download moves the bytes from the internet over one connection for each
// client, by IPv4 and IPv6, with TLS; at a pace of so many bits a second in all,
// or as fast as it goes if that is 0. It calls began when the connections are
// open, and returns before they are closed.
func (n *network) download(ctx context.Context, bytes, pace int64, began func() error, ended func() error) (err error) {
	each := int64(len(n.clients))
	var open []*router.Transfer
	defer func() {
		for _, t := range open {
			err = errors.Join(err, t.Close())
		}
	}()
	for i, c := range n.clients {
		t, err := c.Open(ctx, "video.example.org", router.TLS13, i >= len(n.clients)/2)
		if err != nil {
			return err
		}
		open = append(open, t)
		if pace > 0 {
			if err := t.Pace(pace / each); err != nil {
				return err
			}
		}
	}
	if err := began(); err != nil {
		return err
	}
	var running errgroup.Group
	for _, t := range open {
		running.Go(func() error { return t.Move(0, bytes/each) })
	}
	if err := running.Wait(); err != nil {
		return err
	}
	return ended()
}

// burst makes short connections from two clients, by IPv4 and IPv6.
func (n *network) burst(ctx context.Context, connections int) ([]router.Connection, error) {
	var made [2][]router.Connection
	running, ctx := errgroup.WithContext(ctx)
	for i := range made {
		running.Go(func() (err error) {
			made[i], err = n.clients[i].Burst(ctx, connections/2, 8, i == 1)
			return err
		})
	}
	err := running.Wait()
	return append(made[0], made[1]...), err
}

// wait is for what has to take its time.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settled asks how many are found until it is all of them, or no more come.
func settled(ctx context.Context, all int, found func(context.Context) (int, error)) (int, error) {
	const (
		step  = time.Second
		quiet = 10 * time.Second
		limit = time.Minute
	)
	began := time.Now()
	most, last := 0, began
	for {
		n, err := found(ctx)
		if err != nil {
			return most, fmt.Errorf("look for names: %w", err)
		}
		if n > most {
			most, last = n, time.Now()
		}
		if most == all || most > 0 && time.Since(last) > quiet || time.Since(began) > limit {
			return most, nil
		}
		if err := wait(ctx, step); err != nil {
			return most, err
		}
	}
}
