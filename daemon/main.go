// Command pakon is the network monitor of a home router: a daemon that records
// which device talked to what, and the commands that ask it. This package is
// wiring only: it parses the command line, builds the parts and runs them.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"pakon/daemon/show"
)

// version is set by the linker.
var version = "devel"

const usage = `usage: pakon COMMAND [OPTION...]

commands:
  daemon    run the monitor (what /etc/init.d/pakon starts)
  show      show recorded flows, also called pakon-show
  status    show how the monitor is doing
  clients   show the devices of the network
  forget    delete recorded flows
  check     read configuration and lists and say what they mean

"pakon COMMAND --help" tells the options of a command; "pakon --version" the version.
`

func main() {
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// run is the command without its process; it returns the exit status.
func run(argv []string, stdout, stderr io.Writer) int {
	args := argv[1:]
	if filepath.Base(argv[0]) == "pakon-show" {
		args = append([]string{"show"}, args...)
	}
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	switch args[0] {
	case "daemon":
		return daemonCommand(ctx, args[1:], stdout, stderr)
	case "check":
		return checkCommand(args[1:], stdout, stderr)
	case "show", "status", "clients", "forget":
		return show.Run(ctx, args, stdout, stderr)
	case "--version", "-V", "version":
		fmt.Fprintf(stdout, "pakon %s\n", version)
		return 0
	case "--help", "-h", "help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "pakon: unknown command %q; \"pakon --help\" lists the commands\n", args[0])
	return 2
}
