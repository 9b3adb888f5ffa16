package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"pakon/tests/rig"
)

// await waits until all connections are recorded, and says how far it is. After
// limit it tells which are missing.
func (s *shown) await(ctx context.Context, want []expected, limit time.Duration) error {
	if err := covered(want); err != nil {
		return err
	}
	lacking, told := want, len(want)
	begun := time.Now()
	err := s.Until(ctx, limit, func(ctx context.Context) (bool, error) {
		flows, _, err := s.Query(ctx, map[string]any{"start": "-86400", "filter": false})
		if err != nil {
			return false, err
		}
		if lacking = missing(want, flows); len(lacking) != told {
			told = len(lacking)
			s.say("  %3.0f s: %d of %d connections recorded", time.Since(begun).Seconds(), len(want)-told, len(want))
		}
		return len(lacking) == 0, nil
	})
	if err == nil {
		return nil
	}
	var b strings.Builder
	for _, e := range lacking {
		fmt.Fprintf(&b, "\n  %s", e)
	}
	flows, _, queryErr := s.Query(context.WithoutCancel(ctx), map[string]any{"start": "-86400", "filter": false})
	b.WriteString("\nrecorded were:")
	for _, f := range flows {
		fmt.Fprintf(&b, "\n  %+v", f)
	}
	return errors.Join(fmt.Errorf("%w; %d connections were not recorded:%s", err, len(lacking), &b), queryErr)
}

// program is how a command is typed on a router, and where it is here.
type program struct {
	typed string
	path  string
	args  []string // that a router does not need: where this one's bus is
}

func (s *shown) pakonShow() program {
	return program{"pakon-show", s.System.Pakon, []string{"show", "--ubus-socket", s.Root.Socket()}}
}

func (s *shown) ubusCall() program {
	return program{"ubus", s.System.Ubus, []string{"-s", s.Root.Socket()}}
}

// command shows a command as typed on a router, and what it prints.
func (s *shown) command(ctx context.Context, p program, args ...string) (string, error) {
	s.say("\n# %s", typed(p.typed, args))
	out, err := rig.Output(ctx, p.path, append(p.args, args...)...)
	fmt.Fprint(s.out, string(out))
	return string(out), err
}

func typed(name string, args []string) string {
	words := []string{name}
	for _, a := range args {
		if strings.ContainsAny(a, ` {}"`) {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// show shows what the owner of the router sees, and checks that all of it is
// in the table.
func (s *shown) show(ctx context.Context, want []expected) error {
	s.say("\nThis is what the router's owner sees, typing on the router:")
	table, err := s.command(ctx, s.pakonShow(), "-s", "-1d")
	if err != nil {
		return err
	}
	s.say("  (Both networks. Devices that nobody has named are called by their vendor, or show their address.)")
	if err := inTable(want, table); err != nil {
		return err
	}
	for _, c := range []struct {
		program
		args []string
		note string
	}{
		{s.pakonShow(), []string{"-s", "-1d", "-m", "guest-tablet", "-H", "example.com"}, "One device, by the name its owner gave it, and one site with what belongs to it."},
		{s.pakonShow(), []string{"-s", "-1d", "-A", "-m", "Annas-phone"}, "Totals of a device."},
		{s.ubusCall(), []string{"call", "pakon", "query", `{"start":"-1d","sort":"-recvd","limit":2}`}, "The same for programs, with what told the name (source)."},
	} {
		if _, err := s.command(ctx, c.program, c.args...); err != nil {
			return err
		}
		s.say("  (%s)", c.note)
	}
	return nil
}

// inTable checks that each connection has a line of its own in the table of
// pakon-show, which shows the group of its name.
func inTable(want []expected, table string) error {
	lines := strings.Split(table, "\n")
	for _, e := range want {
		at := slices.IndexFunc(lines, func(line string) bool {
			cells := strings.Split(line, "|")
			return len(cells) > 7 && strings.TrimSpace(cells[3]) == e.Client && strings.TrimSpace(cells[4]) == registered(e.Hostname) && strings.TrimSpace(cells[6]) == e.App
		})
		if at < 0 {
			return fmt.Errorf("pakon-show did not show %v", e)
		}
		lines = slices.Delete(lines, at, at+1)
	}
	return nil
}

// registered is the group of a site of the demo, which no list knows: its last two
// labels.
func registered(name string) string {
	labels := strings.Split(name, ".")
	return strings.Join(labels[max(0, len(labels)-2):], ".")
}

// follow shows new flows until the context ends.
func (s *shown) follow(ctx context.Context) error {
	p := s.pakonShow()
	s.say("\n# %s\n  (New flows as they are recorded. Ctrl-C ends.)", typed(p.typed, []string{"--follow"}))
	cmd := exec.CommandContext(ctx, p.path, append(p.args, "--follow")...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("pakon-show --follow ended: %w", err)
}
