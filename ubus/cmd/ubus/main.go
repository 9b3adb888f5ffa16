// Command ubus talks to the message bus as OpenWrt's command of the same name does, with its output and its exit
// statuses, for machines that have none; and, where there is no bus either, runs one for development: `ubus broker`.
//
// It leaves out `monitor`, and when the bus ends, so do the commands that listen, where the original goes deaf.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pakon/ubus"
)

const defaultSocket = "/var/run/ubus/ubus.sock"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, err == nil)
	stop()
	os.Exit(code)
}

// command is one invocation.
type command struct {
	out, err io.Writer
	terminal bool // errors go to one

	socket  string
	timeout time.Duration // 0: none was given
	simple  bool
	verbose bool
}

// Outcomes of a command that are no status. The original's are -1 and -2.
var (
	errFailed  = errors.New("failed, and said so")
	errUsage   = errors.New("wrong usage")
	errConnect = errors.New("no bus")
)

// run carries out the command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) int {
	c := &command{out: stdout, err: stderr, terminal: terminal, socket: defaultSocket}
	args, ok := c.options(args)
	if !ok || len(args) == 0 {
		c.usage()
		return 1
	}
	return c.exit(c.do(ctx, args[0], args[1:]))
}

// options reads the options, which end at the first argument that is none, and returns what follows.
func (c *command) options(args []string) (rest []string, ok bool) {
	for len(args) > 0 {
		arg := args[0]
		if len(arg) < 2 || arg[0] != '-' {
			return args, true
		}
		args = args[1:]
		if arg == "--" {
			return args, true
		}
		for letters := arg[1:]; letters != ""; {
			letter := letters[0]
			letters = letters[1:]
			switch letter {
			case 'S':
				c.simple = true
			case 'v':
				c.verbose = true
			case 's', 't':
				value := letters
				if value == "" {
					if len(args) == 0 {
						fmt.Fprintf(c.err, "ubus: option requires an argument: %c\n", letter)
						return nil, false
					}
					value, args = args[0], args[1:]
				}
				letters = ""
				if !c.option(letter, value) {
					return nil, false
				}
			default:
				fmt.Fprintf(c.err, "ubus: unrecognized option: %c\n", letter)
				return nil, false
			}
		}
	}
	return nil, true
}

func (c *command) option(letter byte, value string) bool {
	if letter == 's' {
		c.socket = value
		return true
	}
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		fmt.Fprintf(c.err, "ubus: option -t: %q is no number of seconds\n", value)
	}
	c.timeout = time.Duration(seconds) * time.Second
	return err == nil
}

func (c *command) do(ctx context.Context, name string, args []string) error {
	switch name {
	case "list":
		return c.list(ctx, args)
	case "call":
		return c.call(ctx, args)
	case "send":
		return c.send(ctx, args)
	case "listen":
		return c.listen(ctx, args)
	case "subscribe":
		return c.subscribe(ctx, args)
	case "wait_for":
		return c.waitFor(ctx, args)
	case "broker":
		return c.broker(ctx, args)
	}
	return errUsage
}

// exit says what is to be said about the outcome and returns the exit status for it.
func (c *command) exit(err error) int {
	var refused *callError
	var status ubus.Status
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		c.usage()
		return 254
	case errors.Is(err, errConnect):
		if !c.simple {
			fmt.Fprintln(c.err, "Failed to connect to ubus")
		}
		return 255
	case errors.Is(err, errFailed):
		return 255
	case errors.As(err, &refused):
		return c.exitCall(refused)
	case errors.As(err, &status):
		return c.exitStatus(int32(status))
	}
	fmt.Fprintln(c.err, "Command failed:", err)
	return 255
}

func (c *command) exitStatus(status int32) int {
	if status > 0 && !c.simple {
		fmt.Fprintln(c.err, "Command failed:", statusText(status))
	}
	if status == -2 {
		c.usage()
	}
	return int(uint8(status))
}

// exitCall ends a call that failed. In scripts and at a terminal the exit status is the call's; else a line names the
// call, and the exit status is the negative of the call's.
func (c *command) exitCall(e *callError) int {
	if c.simple || c.terminal {
		return c.exitStatus(int32(e.status))
	}
	fmt.Fprintf(c.err, "Command failed: ubus call %s (%s)\n", strings.Join(e.args, " "), statusText(int32(e.status)))
	return c.exitStatus(-int32(e.status))
}

func statusText(status int32) string {
	if status < 0 || status > int32(ubus.StatusSystemError) {
		return fmt.Sprintf("Unknown error: %d", status)
	}
	return ubus.Status(status).Error()
}

func (c *command) usage() {
	fmt.Fprint(c.err, `Usage: ubus [<options>] <command> [arguments...]
Options:
 -s <socket>:		Set the unix domain socket to connect to
 -t <timeout>:		Set the timeout (in seconds) for a command to complete
 -S:			Use simplified output (for scripts)
 -v:			More verbose output

Commands:
 - list [<path>]			List objects
 - call <path> <method> [<message>]	Call an object method
 - subscribe <path> [<path>...]	Subscribe to object(s) notifications
 - listen [<path>...]			Listen for events
 - send <type> [<message>]		Send an event
 - wait_for <object> [<object>...]	Wait for multiple objects to appear on ubus
 - broker				Run a bus, for development

`)
}
