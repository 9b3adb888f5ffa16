package show

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pakon/daemon/api/timespec"
	"pakon/ubus"
)

// forgetTimeout bounds the deletion of flows: the archive's files are written
// anew, on a drive that may be slow.
const forgetTimeout = 30 * time.Minute

// forget is the command `pakon forget`.
func (c *command) forget(ctx context.Context, args []string) error {
	var macs, hosts ubus.Array
	var before string
	var all, yes bool
	options := append([]option{
		{'m', "mac", "MAC", "all flows of the device with this MAC address or name, or\nof the one without a MAC that has this address;\nmay be repeated", listOption("mac", &macs)},
		{'H', "hostname", "NAME", "all flows to this host, its subdomains or its group;\nmay be repeated", listOption("hostname", &hosts)},
		{0, "before", "TIME", "all flows that began before", c.timeOption(&before)},
		flag(0, "all", "all flows", &all),
		flag('y', "yes", "do not ask", &yes),
	}, c.common()...)
	if err := parse(args, options); err != nil {
		return err
	}
	if c.help {
		return printHelp(c.out, "pakon forget -m MAC | -H NAME | --before TIME | --all [option...]",
			"Deletes recorded flows for good: of the last day, of the archive and of the backup.", options,
			"TIME is one of "+timespec.Forms+".\n")
	}
	kinds := 0
	for _, given := range []bool{macs != nil, hosts != nil, before != "", all} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return usagef("want one of --mac, --hostname, --before and --all")
	}
	if !yes && !c.terminal() {
		return usagef("there is no terminal to ask on: want --yes")
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	what, call := "all flows", ubus.Table{{Name: "all", Value: true}}
	switch {
	case macs != nil:
		what, call = "all flows of "+words(macs), ubus.Table{{Name: "mac", Value: macs}}
	case hosts != nil:
		what, call = "all flows to "+words(hosts), ubus.Table{{Name: "hostname", Value: hosts}}
	case before != "":
		ms, err := timespec.ParseTime(before, c.now, c.loc)
		if err != nil {
			return usagef("%v", err)
		}
		what, call = "all flows that began before "+dateTime(ms/1000, c.loc), ubus.Table{{Name: "before", Value: ms / 1000}}
	}
	if !yes {
		if err := c.confirm(ctx, "Delete "+what+" for good?"); err != nil {
			return err
		}
	}
	reply, err := c.callWithin(ctx, forgetTimeout, "forget", call)
	if err != nil {
		return err
	}
	deleted, ok := reply.Int("deleted")
	if !ok {
		return errors.New("the daemon's answer does not say what was deleted: is it of the same version?")
	}
	flows := "flows were"
	if deleted == 1 {
		flows = "flow was"
	}
	_, err = fmt.Fprintf(c.out, "%d %s deleted\n", deleted, flows)
	return err
}

// words is a list as people write it.
func words(list ubus.Array) string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = fmt.Sprint(v)
	}
	return strings.Join(s, ", ")
}

// terminal tells whether there is somebody to be asked.
func (c *command) terminal() bool {
	f, ok := c.in.(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// confirm asks a question; anything but yes is an error.
func (c *command) confirm(ctx context.Context, question string) error {
	fmt.Fprintf(c.errOut, "%s [y/N] ", clean(question))
	answer := make(chan string, 1)
	go func() { // which ends with the command: a terminal can not be read with a bound
		line, _ := bufio.NewReader(c.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return errors.New("interrupted: nothing was deleted")
	case a := <-answer:
		if a != "y" && a != "yes" {
			return errors.New("nothing was deleted")
		}
		return nil
	}
}
