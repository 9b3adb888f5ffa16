package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"pakon/ubus"
	"pakon/ubus/broker"
)

// defaultTimeout is that of calls and of wait_for.
const defaultTimeout = 30 * time.Second

func (c *command) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.timeout == 0 {
		return context.WithTimeout(ctx, defaultTimeout)
	}
	return context.WithTimeout(ctx, c.timeout)
}

func (c *command) dial(ctx context.Context) (*ubus.Client, error) {
	client, err := ubus.Dial(ctx, c.socket)
	if err != nil {
		return nil, errConnect
	}
	return client, nil
}

// list prints the objects' paths; with -v their ids and methods too.
func (c *command) list(ctx context.Context, args []string) error {
	if len(args) > 1 {
		return errUsage
	}
	pattern := ""
	if len(args) == 1 {
		if pattern = args[0]; pattern == "" {
			return ubus.StatusInvalidArgument
		}
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	objects, err := client.Lookup(ctx, pattern)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if c.simple || !c.verbose {
			fmt.Fprintln(c.out, o.Path)
			continue
		}
		fmt.Fprintf(c.out, "'%s' @%08x\n", o.Path, o.ID)
		for _, m := range o.Methods {
			fmt.Fprintf(c.out, "\t%s\n", signature(m))
		}
	}
	return nil
}

// signature is a method as the list shows it: "name":{"argument":"Type",...}
func signature(m ubus.MethodInfo) []byte {
	var args ubus.Table
	for _, a := range m.Args {
		args = append(args, ubus.Field{Name: a.Name, Value: typeName(a.Type)})
	}
	b := ubus.AppendJSON(nil, ubus.Table{{Name: m.Name, Value: args}}, false)
	return b[1 : len(b)-1]
}

func typeName(t ubus.Type) string {
	switch t {
	case ubus.TypeArray:
		return "Array"
	case ubus.TypeTable:
		return "Table"
	case ubus.TypeString:
		return "String"
	case ubus.TypeInt32:
		return "Integer"
	case ubus.TypeBool:
		return "Boolean"
	}
	return "(unknown)"
}

// callError is the status of a call that reached its object, or could not be made of what was given.
type callError struct {
	args   []string
	status ubus.Status
}

func (e *callError) Error() string { return "call: " + strconv.FormatUint(uint64(e.status), 10) }

func (c *command) call(ctx context.Context, args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errUsage
	}
	var message ubus.Table
	if len(args) == 3 {
		var err error
		if message, err = ubus.FromJSON([]byte(args[2])); err != nil {
			return &callError{args, ubus.StatusParseError}
		}
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	path, err := find(ctx, client, args[0])
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	err = client.CallAll(ctx, path, args[1], message, func(reply ubus.Table) error {
		fmt.Fprintf(c.out, "%s\n", ubus.AppendJSON(nil, reply, !c.simple))
		return nil
	})
	var status ubus.Status
	if errors.As(err, &status) {
		return &callError{args, status}
	}
	return err
}

// find looks for the object before it is called: one that is not there is told differently from a method that says "not
// found". A path may end in '*', and means the last object that it fits then.
func find(ctx context.Context, client *ubus.Client, path string) (string, error) {
	if path == "" {
		return "", ubus.StatusInvalidArgument
	}
	objects, err := client.Lookup(ctx, path)
	if err != nil {
		return "", err
	}
	if len(objects) == 0 {
		return "", ubus.StatusNotFound
	}
	return objects[len(objects)-1].Path, nil
}

func (c *command) send(ctx context.Context, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errUsage
	}
	var message ubus.Table
	if len(args) == 2 {
		var err error
		if message, err = ubus.FromJSON([]byte(args[1])); err != nil {
			return err
		}
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Send(ctx, args[0], message)
}

// broker runs a bus until it is interrupted.
func (c *command) broker(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return errUsage
	}
	log := slog.New(slog.NewTextHandler(c.err, nil))
	b, err := broker.Listen(c.socket, log)
	if err != nil {
		return err
	}
	log.Info("bus runs", "socket", c.socket)
	return b.Run(ctx)
}
