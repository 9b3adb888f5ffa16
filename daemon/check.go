package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
)

// checkCommand reads what the daemon would read and says what it means. It
// returns 1 if anything is wrong with it.
func checkCommand(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("pakon check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", "/", "read the files below `DIR`")
	asJSON := flags.Bool("json", false, "print the configuration in force as JSON")
	if err := flags.Parse(args); err != nil {
		return usageStatus(err)
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "pakon check: unknown argument %q\n", flags.Arg(0))
		return 2
	}
	s := readSettings(pathsBelow(*root), nil)
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(s.config); err != nil {
			fmt.Fprintf(stderr, "pakon check: %v\n", err)
			return 1
		}
	} else {
		describe(stdout, s)
	}
	if s.refused != nil {
		fmt.Fprintf(stderr, "pakon check: %v\n", s.refused)
	}
	for _, problem := range s.problems {
		fmt.Fprintf(stderr, "pakon check: %s\n", problem)
	}
	if s.refused != nil || s.wrong {
		return 1
	}
	return 0
}

func describe(w io.Writer, s *settings) {
	m, a := s.config.Monitor, s.config.Archive
	if !m.Enabled {
		fmt.Fprintln(w, "monitoring is disabled")
	}
	fmt.Fprintf(w, "interfaces: %s (mode %s)\n", strings.Join(m.Interfaces, ", "), m.Mode)
	if n := len(m.ExcludeClients) + len(m.ExcludeHostnames); n > 0 {
		fmt.Fprintf(w, "never recorded: %s\n", strings.Join(append(append([]string(nil), m.ExcludeClients...), m.ExcludeHostnames...), ", "))
	}
	fmt.Fprintf(w, "live database: at most %d flows\n", m.DatabaseLimit)
	fmt.Fprintf(w, "archive: %s, kept %s, at most %d flows, backup every %s\n", a.Path, a.Keep, a.DatabaseLimit, a.BackupInterval)
	for i, r := range s.config.Rules {
		fmt.Fprintf(w, "  level %d: after %s, flows less than %s apart are merged, under %d bytes dropped\n", i+1, r.UpTo, r.Window, r.SizeThreshold)
	}
	groups, hidden := s.lists.Len()
	fmt.Fprintf(w, "named clients: %d\nlists: %d groups, %d hidden\n", len(s.hosts), groups, hidden)
}
