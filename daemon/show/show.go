// Package show is the command line: `pakon show` (also called pakon-show),
// `pakon status`, `pakon clients` and `pakon forget`. They ask the daemon over the bus and print
// what it answers as text, JSON or CSV. What is recorded, which flows match and
// how they are sorted is the daemon's business.
package show

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"pakon/daemon/api/timespec"
	"pakon/ubus"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// object is the name of the daemon's object on the bus.
const object = "pakon"

// callTimeout bounds one call of the daemon, as that of the command ubus does.
const callTimeout = 30 * time.Second

// sockets are where the bus may be, below the root.
var sockets = []string{"/var/run/ubus/ubus.sock", "/var/run/ubus.sock"}

// bus is what the commands need of ubus.Client.
type bus interface {
	Call(ctx context.Context, path, method string, args ubus.Table) (ubus.Table, error)
	Subscribe(path string, f func(typ string, data ubus.Table)) (stop func())
	Lookup(ctx context.Context, pattern string) ([]ubus.ObjectInfo, error)
	Close() error
}

// command is one run of a command.
type command struct {
	name   string
	in     io.Reader
	out    *bufio.Writer
	errOut io.Writer
	now    time.Time
	loc    *time.Location // set by connect
	bus    bus            // set by connect
	root   string
	socket string
	help   bool
	json   bool
}

// stdin is where answers come from.
var stdin = os.Stdin

// Run runs the command args[0], one of "show", "status", "clients" and "forget",
// with the options that follow. It returns the exit status: 0, 1 after an error, 2 after
// wrong usage; either has then been told on stderr in one line.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	commands := map[string]struct {
		name string
		run  func(*command, context.Context, []string) error
	}{
		"show":    {"pakon-show", (*command).show},
		"status":  {"pakon status", (*command).status},
		"clients": {"pakon clients", (*command).clients},
		"forget":  {"pakon forget", (*command).forget},
	}
	if len(args) == 0 {
		fmt.Fprintln(stderr, "pakon: no command: want show, status, clients or forget")
		return exitUsage
	}
	cmd, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "pakon: unknown command %q: want show, status, clients or forget\n", args[0])
		return exitUsage
	}
	c := &command{name: cmd.name, in: stdin, out: bufio.NewWriterSize(stdout, 32<<10), errOut: stderr, now: time.Now()}
	err := cmd.run(c, ctx, args[1:])
	if c.bus != nil {
		err = errors.Join(err, c.bus.Close())
	}
	if flushErr := c.out.Flush(); err == nil && flushErr != nil {
		err = fmt.Errorf("writing the output: %w", flushErr)
	}
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%s: %s (%s --help lists the options)\n", c.name, clean(usage.msg), c.name)
		return exitUsage
	case errors.Is(err, syscall.EPIPE): // whoever read the output has seen enough
		return exitError
	}
	fmt.Fprintf(stderr, "%s: %s\n", c.name, clean(err.Error()))
	return exitError
}

// common are the options that every command has.
func (c *command) common() []option {
	return []option{
		flag('h', "help", "show this help and exit", &c.help),
		{long: "ubus-socket", value: "PATH", help: "socket of the bus (default " + sockets[0] + ")", set: func(s string) error {
			if s == "" {
				return usagef("option --ubus-socket: want the path of a socket")
			}
			c.socket = s
			return nil
		}},
		{long: "root", value: "DIR", help: "folder below which the system's files are", set: func(s string) error {
			c.root = s
			return nil
		}},
	}
}

// connect finds the bus and the time zone.
func (c *command) connect(ctx context.Context) error {
	c.loc = timespec.Location(c.root)
	path := c.socket
	if path == "" {
		path = filepath.Join(c.root, sockets[0])
		if other := filepath.Join(c.root, sockets[1]); !exists(path) && exists(other) {
			path = other
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, err := ubus.Dial(ctx, path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("may not use the bus at %s: run this as root", path)
	case errors.Is(err, ubus.ErrSilent):
		return fmt.Errorf("the bus at %s: %w", path, ubus.ErrSilent)
	case err != nil:
		return fmt.Errorf("no bus at %s (%s): is ubusd running? Then start Pakon with /etc/init.d/pakon start", path, rootCause(err))
	}
	c.bus = client
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// rootCause is what an error was in the end.
func rootCause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// call calls a method of the daemon.
func (c *command) call(ctx context.Context, method string, args ubus.Table) (ubus.Table, error) {
	return c.callWithin(ctx, callTimeout, method, args)
}

// callWithin is call with a bound of its own.
func (c *command) callWithin(ctx context.Context, bound time.Duration, method string, args ubus.Table) (ubus.Table, error) {
	limited, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	reply, err := c.bus.Call(limited, object, method, args)
	switch {
	case err == nil:
		return reply, nil
	case ctx.Err() != nil:
		return nil, errors.New("interrupted")
	}
	var status ubus.Status
	if errors.As(err, &status) {
		switch status {
		case ubus.StatusNotFound:
			return nil, errAbsent
		case ubus.StatusMethodNotFound:
			return nil, fmt.Errorf("the running daemon does not know %q: restart it with /etc/init.d/pakon restart", method)
		case ubus.StatusInvalidArgument:
			if said, _ := reply.String("error"); said != "" {
				return nil, errors.New("the daemon refused an " + said)
			}
			return nil, errors.New("the daemon refused an argument; the system log says which (logread -e pakon)")
		case ubus.StatusPermissionDenied:
			return nil, errors.New("may not call the daemon: run this as root")
		case ubus.StatusTimeout:
			return nil, errors.New("the daemon did not answer in time; its state: /etc/init.d/pakon status")
		case ubus.StatusNoMemory:
			return nil, errors.New("the daemon is asked too much at once; try again later")
		case ubus.StatusConnectionFailed:
			return nil, errors.New("the bus has gone; once ubusd is back: /etc/init.d/pakon start")
		case ubus.StatusUnknownError:
			return nil, errors.New("the daemon failed; the system log says why (logread -e pakon)")
		}
	}
	return nil, fmt.Errorf("asking the daemon: %w", err)
}

var errAbsent = errors.New("pakon is not running: start it with /etc/init.d/pakon start")
