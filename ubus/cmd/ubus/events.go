package main

import (
	"context"
	"errors"
	"fmt"

	"pakon/ubus"
)

// printEvent prints an event or a notification on one line.
func (c *command) printEvent(name string, data ubus.Table) {
	fmt.Fprintf(c.out, "{ \"%s\": %s }\n", name, ubus.AppendJSON(nil, data, false))
}

func (c *command) listen(ctx context.Context, args []string) error {
	h, err := hear(ctx, c.socket, c.printEvent)
	if err != nil {
		return err
	}
	defer h.close()
	if len(args) == 0 {
		args = []string{"*"}
	}
	for _, pattern := range args {
		if err := h.register(ctx, pattern); err != nil {
			return c.notRegistered(pattern, err)
		}
	}
	return c.hear(ctx, h)
}

func (c *command) subscribe(ctx context.Context, args []string) error {
	h, err := hear(ctx, c.socket, c.printEvent)
	if err != nil {
		return err
	}
	defer h.close()
	if len(args) == 0 {
		if !c.simple {
			fmt.Fprintln(c.err, "You need to specify an object to subscribe to")
		}
		return errFailed
	}
	for _, path := range args {
		if err := h.subscribe(ctx, path); err != nil {
			return c.notRegistered(args[0], err)
		}
	}
	return c.hear(ctx, h)
}

func (c *command) notRegistered(what string, err error) error {
	var status ubus.Status
	if !errors.As(err, &status) {
		return err
	}
	if !c.simple {
		fmt.Fprintf(c.err, "Error while registering for event '%s': %s\n", what, statusText(int32(status)))
	}
	return errFailed
}

// hear prints what comes as long as -t says, else until the command is interrupted.
func (c *command) hear(ctx context.Context, h *hearer) error {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	return h.listen(ctx)
}

// waitFor waits until objects of all the paths have been on the bus.
func (c *command) waitFor(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	missing := make(map[string]bool)
	for _, path := range args {
		missing[path] = true
	}
	// Nobody waits any more once the last has come.
	found := func(path string) {
		if delete(missing, path); len(missing) == 0 {
			cancel()
		}
	}
	h, err := hear(ctx, c.socket, func(_ string, data ubus.Table) {
		if path, ok := data.String("path"); ok {
			found(path)
		}
	})
	if err != nil {
		return err
	}
	defer h.close()
	err = h.register(ctx, "ubus.object.add")
	if err == nil {
		err = h.paths(ctx, found)
	}
	if err == nil {
		err = h.listen(ctx)
	}
	switch {
	case len(missing) == 0:
		return nil
	case err == nil:
		return ubus.StatusTimeout
	}
	return err
}
