package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"pakon/daemon/client"
	"pakon/lists"
	"pakon/ubus"
	"pakon/uci"
)

// checkCommand reads what the daemon would read and says what it means. It
// returns 1 if anything is wrong with it.
func checkCommand(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("pakon check", flag.ContinueOnError)
	root := flags.String("root", "/", "read the files below `DIR`")
	asJSON := flags.Bool("json", false, "print the configuration in force as JSON")
	if status, ok := parseFlags(flags, args, stdout, stderr); !ok {
		return status
	}
	p := pathsBelow(*root)
	s := readSettings(p, nil)
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(inForce(s.config)); err != nil {
			fmt.Fprintf(stderr, "pakon check: %v\n", err)
			return 1
		}
	} else {
		describe(stdout, s, p)
	}
	if s.refused != nil {
		fmt.Fprintf(stderr, "pakon check: %v\n", s.refused)
	}
	for _, problem := range s.said() {
		fmt.Fprintf(stderr, "pakon check: %s\n", problem)
	}
	if s.refused != nil || s.wrong || len(s.listProblems) > 0 {
		return 1
	}
	return 0
}

func describe(w io.Writer, s *settings, p paths) {
	m, a := s.config.Monitor, s.config.Archive
	if !m.Enabled {
		fmt.Fprintln(w, "monitoring is disabled")
	}
	fmt.Fprintf(w, "interfaces: %s (mode %s)\n", strings.Join(m.Interfaces, ", "), m.Mode)
	for _, note := range checkInterfaces(m, p.ubus) {
		fmt.Fprintf(w, "  %s\n", note)
	}
	if n := len(m.ExcludeClients) + len(m.ExcludeHostnames); n > 0 {
		fmt.Fprintf(w, "never recorded: %s\n", strings.Join(append(append([]string(nil), m.ExcludeClients...), m.ExcludeHostnames...), ", "))
	}
	shown := slices.DeleteFunc(slices.Clone(m.ShowCategories), func(c string) bool { return !slices.Contains(lists.HiddenCategories, c) })
	if len(shown) > 0 {
		fmt.Fprintf(w, "shown although the lists hide them: %s\n", strings.Join(shown, ", "))
	}
	if len(m.NotifyMute) > 0 {
		fmt.Fprintf(w, "new devices not told of: %s\n", strings.Join(m.NotifyMute, ", "))
	}
	fmt.Fprintf(w, "last day: at most %d flows\n", m.DatabaseLimit)
	interval := backupInterval(a.BackupInterval, lookAt(s.keeping(p).archive.Path))
	fmt.Fprintf(w, "archive: %s, kept for %s, at most %d flows, backup every %s\n", a.Path, period(a.Keep), a.DatabaseLimit, period(interval))
	if interval != a.BackupInterval {
		fmt.Fprintf(w, "  it is on the router's own flash, so not every %s as configured\n", period(a.BackupInterval))
	}
	for i, r := range s.config.Rules {
		fmt.Fprintf(w, "  level %d: after %s, flows less than %s apart are merged", i+1, period(r.UpTo), period(r.Window))
		if r.SizeThreshold > 0 {
			fmt.Fprintf(w, ", those under %d bytes are dropped", r.SizeThreshold)
		}
		fmt.Fprintln(w)
	}
	domains, services := s.lists.Len()
	named := 0
	for _, h := range s.hosts {
		if h.Name != "" {
			named++
		}
	}
	fmt.Fprintf(w, "named devices: %d\nlists: %d domains, %d services\n", named, domains, services)
}

// checkInterfaces says what would be right of the interfaces of the
// configuration, as the daemon would.
func checkInterfaces(m uci.Monitor, socket string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), netifdTimeout)
	defer cancel()
	clients := client.New(slog.New(slog.DiscardHandler))
	if err := clients.Look(); err != nil {
		return []string{fmt.Sprintf("whether they exist is not known: %v", err)}
	}
	bus, err := ubus.Dial(ctx, socket)
	if err != nil {
		// No bus, no netifd.
		return watch(m.Interfaces, linksOnly(m, clients), nil).notes
	}
	defer bus.Close()
	// Without netifd's word, what the links tell is said.
	around, _ := lookFor(ctx, m, clients, bus)
	return watch(m.Interfaces, around, nil).notes
}

// period writes a duration as the configuration does: 4w, 90s.
func period(d time.Duration) string {
	for _, unit := range []struct {
		name   string
		length time.Duration
	}{
		{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute},
	} {
		if d >= unit.length && d%unit.length == 0 {
			return fmt.Sprintf("%d%s", d/unit.length, unit.name)
		}
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// inForce is a configuration under the names of /etc/config/pakon, with
// durations in seconds.
func inForce(c uci.Config) any {
	type rule struct {
		UpTo          int64 `json:"up_to"`
		Window        int64 `json:"window"`
		SizeThreshold int64 `json:"size_threshold"`
	}
	var out struct {
		Monitor struct {
			Enabled          bool     `json:"enabled"`
			Mode             string   `json:"mode"`
			Interface        []string `json:"interface"`
			NotifyNewDevices bool     `json:"notify_new_devices"`
			NotifyMute       []string `json:"notify_mute"`
			ShowCategory     []string `json:"show_category"`
			DatabaseLimit    int64    `json:"database_limit"`
			ExcludeClient    []string `json:"exclude_client"`
			ExcludeHostname  []string `json:"exclude_hostname"`
		} `json:"monitor"`
		Archive struct {
			Path           string `json:"path"`
			Keep           int64  `json:"keep"`
			DatabaseLimit  int64  `json:"database_limit"`
			BackupInterval int64  `json:"backup_interval"`
		} `json:"archive"`
		Rules []rule `json:"archive_rule"`
	}
	list := func(l []string) []string { return append([]string{}, l...) } // [], never null
	m, a := &out.Monitor, &out.Archive
	m.Enabled, m.Mode, m.Interface = c.Monitor.Enabled, c.Monitor.Mode, list(c.Monitor.Interfaces)
	m.ShowCategory = list(c.Monitor.ShowCategories)
	m.NotifyNewDevices, m.NotifyMute, m.DatabaseLimit = c.Monitor.NotifyNewDevices, list(c.Monitor.NotifyMute), c.Monitor.DatabaseLimit
	m.ExcludeClient, m.ExcludeHostname = list(c.Monitor.ExcludeClients), list(c.Monitor.ExcludeHostnames)
	a.Path, a.Keep = c.Archive.Path, int64(c.Archive.Keep/time.Second)
	a.DatabaseLimit, a.BackupInterval = c.Archive.DatabaseLimit, int64(c.Archive.BackupInterval/time.Second)
	out.Rules = make([]rule, len(c.Rules))
	for i, r := range c.Rules {
		out.Rules[i] = rule{int64(r.UpTo / time.Second), int64(r.Window / time.Second), r.SizeThreshold}
	}
	return out
}
