package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/lists"
	"pakon/uci"
)

// settings is what the files of the owner say, as one: configuration, static
// hosts and lists.
type settings struct {
	config   uci.Config
	hosts    []client.Host
	lists    *lists.Lists
	loaded   time.Time
	refused  error    // why a configuration file was refused; what it last said is in force
	earlier  bool     // config is not what its file says now
	problems []string // what else is to be said of the files, one line each
	wrong    bool     // some of it is more than a warning
}

// readSettings reads everything anew. Where a file is refused by UCI, what
// last holds: the settings in force before, or those saved by an earlier run.
func readSettings(p paths, last *settings) *settings {
	s := &settings{loaded: time.Now()}
	config, problems, err := uci.Read(p.config, p.staged)
	s.config = config
	s.note(problems)
	if err != nil {
		s.refused, s.earlier = err, true
		if last != nil {
			s.config = last.config
		} else if saved, err := loadConfig(p.saved); err == nil {
			s.config = saved
		}
	}
	hosts, problems, err := uci.ReadHosts(p.config, p.staged)
	s.note(problems)
	switch {
	case err == nil:
		s.hosts = toHosts(hosts)
	case last != nil:
		s.hosts = last.hosts
	}
	if s.refused != nil && err != nil {
		err = fmt.Errorf("%w; %w", s.refused, err) // one line
	}
	s.refused = cmp.Or(err, s.refused)
	var wrong []lists.Problem
	s.lists, wrong = lists.Load(os.DirFS(p.lists))
	for _, w := range wrong {
		s.problems = append(s.problems, w.Error())
		s.wrong = true
	}
	return s
}

func (s *settings) note(problems []uci.Problem) {
	for _, p := range problems {
		s.problems = append(s.problems, p.Error())
		s.wrong = s.wrong || !p.Warning
	}
}

// tell logs what is wrong with the settings, unless the ones before said the
// same.
func (s *settings) tell(log *slog.Logger, last *settings) {
	if s.refused != nil && (last == nil || last.refused == nil || last.refused.Error() != s.refused.Error()) {
		log.Error("configuration refused, the last good one stays in force", "err", s.refused)
	}
	told := make(map[string]bool)
	if last != nil {
		for _, p := range last.problems {
			told[p] = true
		}
	}
	for _, p := range s.problems {
		if !told[p] {
			log.Warn(p)
		}
	}
}

// policy is what of the traffic is recorded.
func (s *settings) policy() flow.Policy {
	m := s.config.Monitor
	p := flow.Policy{Interfaces: m.Interfaces, ExcludeMACs: make(map[client.MAC]bool), ExcludeAddrs: make(map[netip.Addr]bool)}
	for _, c := range m.ExcludeClients {
		if mac, err := client.ParseMAC(c); err == nil {
			p.ExcludeMACs[mac] = true
			continue
		}
		for _, h := range s.hosts {
			if strings.EqualFold(h.Name, c) {
				for _, mac := range h.MACs {
					p.ExcludeMACs[mac] = true
				}
			}
		}
	}
	var names []string
	for _, h := range m.ExcludeHostnames {
		if a, err := netip.ParseAddr(h); err == nil {
			p.ExcludeAddrs[a.Unmap()] = true
			continue
		}
		names = append(names, h)
	}
	if len(names) > 0 {
		p.ExcludeNames = func(name string) bool {
			for _, h := range names {
				if name == h || strings.HasSuffix(name, "."+h) {
					return true
				}
			}
			return false
		}
	}
	return p
}

func toHosts(in []uci.Host) []client.Host {
	out := make([]client.Host, 0, len(in))
	for _, h := range in {
		host := client.Host{Name: h.Name}
		for _, m := range h.MACs {
			if mac, err := client.ParseMAC(m); err == nil {
				host.MACs = append(host.MACs, mac)
			}
		}
		if len(host.MACs) > 0 {
			out = append(out, host)
		}
	}
	return out
}

// saveConfig keeps a good configuration, for a start that finds a refused one.
func saveConfig(path string, c uci.Config) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("save the configuration in force: %w", err)
	}
	if old, err := os.ReadFile(path); err == nil && string(old) == string(b) {
		return nil
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return fmt.Errorf("save the configuration in force: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("save the configuration in force: %w", err)
	}
	return nil
}

func loadConfig(path string) (uci.Config, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return uci.Config{}, err
	}
	if err != nil {
		return uci.Config{}, fmt.Errorf("read the configuration of the last run: %w", err)
	}
	var c uci.Config
	if err := json.Unmarshal(b, &c); err != nil {
		return uci.Config{}, fmt.Errorf("read the configuration of the last run, %s: %w", path, err)
	}
	return c, nil
}
