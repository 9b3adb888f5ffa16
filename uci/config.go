package uci

import (
	"fmt"
	"slices"
	"time"

	"pakon/lists/hostname"
)

// Config is Pakon's configuration: /etc/config/pakon.
type Config struct {
	Monitor Monitor
	Archive Archive
	Rules   []Rule // how the archive is merged, from the finest level to the coarsest; at least 1, at most 16
}

// Monitor is what is watched and recorded: section `config monitor 'monitor'`.
type Monitor struct {
	Enabled          bool     // whether anything is recorded at all
	Mode             string   // how packets reach Suricata: "tap", "filter" or "auto"
	Interfaces       []string // the networks that are watched; they need not exist
	NotifyNewDevices bool     // whether the owner is told of a device never seen before by the router's own notifications
	NotifyMute       []string // devices that nobody is told of: MACs, names or, for all of a network, interfaces
	ShowCategories   []string // categories of names that are shown though the lists hide them: lower case
	DatabaseLimit    int64    // flows kept of the last day, at least 1
	ExcludeClients   []string // never recorded: MACs as aa:bb:cc:dd:ee:ff, addresses, or names as they are written
	ExcludeHostnames []string // never recorded, subdomains included: as hostname.Parse returns them
}

// Archive is where and how long older flows are kept: section
// `config archive 'archive'`.
type Archive struct {
	Path           string        // the archive's file, absolute; the backup is put beside it
	Keep           time.Duration // how long a flow is kept, more than 0
	DatabaseLimit  int64         // flows kept, at least 1
	BackupInterval time.Duration // between copies of the last day's flows to the archive's disk, more than 0
}

// Rule is one `config archive_rule`: what happens to flows older than UpTo.
type Rule struct {
	UpTo          time.Duration // more than 0
	Window        time.Duration // flows less than this apart are merged; 0 merges only those that overlap
	SizeThreshold int64         // what has fewer bytes after merging is dropped; 0 drops nothing
}

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Default is the configuration where the file says nothing else.
func Default() Config {
	return Config{
		Monitor: Monitor{
			Enabled:       true,
			Mode:          "tap",
			Interfaces:    []string{"br-lan", "br-guest_turris"},
			DatabaseLimit: 3_000_000,
		},
		Archive: Archive{
			Path:           "/srv/pakon/pakon-archive.db",
			Keep:           4 * week,
			DatabaseLimit:  10_000_000,
			BackupInterval: 2 * time.Hour,
		},
		Rules: []Rule{
			{UpTo: 1 * day, Window: 60 * time.Second, SizeThreshold: 4096},
			{UpTo: 3 * day, Window: 900 * time.Second, SizeThreshold: 8192},
			{UpTo: 7 * day, Window: 1800 * time.Second},
			{UpTo: 14 * day, Window: 3600 * time.Second},
		},
	}
}

// Valid reports whether the configuration is one that Read returns.
func (c *Config) Valid() bool {
	m, a := &c.Monitor, &c.Archive
	mode, path := []string{m.Mode}, []string{a.Path}
	right := all(mode, parseMode) && all(m.Interfaces, parseInterface) && all(m.NotifyMute, parseMute) &&
		all(m.ShowCategories, parseCategory) && all(m.ExcludeClients, parseClient) &&
		all(m.ExcludeHostnames, hostname.Parse) && all(path, parsePath)
	for _, r := range c.Rules {
		right = right && r.UpTo > 0 && r.Window >= 0 && r.SizeThreshold >= 0
	}
	return right && len(m.Interfaces) > 0 && m.DatabaseLimit > 0 && a.DatabaseLimit > 0 && a.Keep > 0 && a.BackupInterval > 0 &&
		len(c.Rules) > 0 && len(c.Rules) <= maxRules
}

// all reports whether all values are as parse returns them.
func all(values []string, parse func(string) (string, bool)) bool {
	return !slices.ContainsFunc(values, func(s string) bool {
		v, ok := parse(s)
		return !ok || v != s
	})
}

// maxRules bounds the levels of the archive.
const maxRules = 16

// configFile is the name of Pakon's configuration.
const configFile = "pakon"

// known is what the sections of Pakon's configuration may hold.
var known = map[string][]string{
	"monitor":      {"enabled", "mode", "interface", "notify_new_devices", "notify_mute", "show_category", "database_limit", "exclude_client", "exclude_hostname"},
	"archive":      {"path", "keep", "database_limit", "backup_interval"},
	"archive_rule": {"up_to", "window", "size_threshold"},
}

// Read reads Pakon's configuration with what is staged for it. A missing file,
// section or option means the default. A wrong value is a Problem, and the
// default holds for that option; in a list, only the wrong entry is left out,
// and the default holds if nothing else is in it. Sections and options that
// mean nothing to Pakon are Problems that are only warnings. err is a file that
// could not be read, as a rule a [*ParseError]; cfg then is the default.
func Read(in Folders) (cfg Config, problems []Problem, err error) {
	cfg = Default()
	s, err := open(in, configFile)
	if s == nil || err != nil {
		return cfg, nil, err
	}
	s.checkNames()
	if key, ok := s.only("monitor"); ok {
		s.readMonitor(key, &cfg.Monitor)
	}
	if key, ok := s.only("archive"); ok {
		s.readArchive(key, &cfg.Archive)
	}
	if keys := s.keys("archive_rule"); len(keys) > 0 {
		cfg.Rules = s.readRules(keys, cfg.Rules)
	}
	return cfg, s.problems, nil
}

func (s *settings) readMonitor(key string, m *Monitor) {
	s.boolean(key, "enabled", &m.Enabled)
	one(s, key, "mode", &m.Mode, parseMode, wantMode)
	s.list(key, "interface", &m.Interfaces, split, parseInterface, wantInterface)
	s.boolean(key, "notify_new_devices", &m.NotifyNewDevices)
	s.list(key, "notify_mute", &m.NotifyMute, splitOption, parseMute, wantMute)
	s.list(key, "show_category", &m.ShowCategories, split, parseCategory, wantCategory)
	one(s, key, "database_limit", &m.DatabaseLimit, parseLimit, wantLimit)
	s.list(key, "exclude_client", &m.ExcludeClients, splitOption, parseClient, wantClient)
	s.list(key, "exclude_hostname", &m.ExcludeHostnames, split, hostname.Parse, hostname.Want)
}

func (s *settings) readArchive(key string, a *Archive) {
	one(s, key, "path", &a.Path, parsePath, wantPath)
	one(s, key, "keep", &a.Keep, parsePositive, wantPositive)
	one(s, key, "database_limit", &a.DatabaseLimit, parseLimit, wantLimit)
	one(s, key, "backup_interval", &a.BackupInterval, parsePositive, wantPositive)
}

// readRules reads the rules that replace the default ones. For a wrong value
// in the nth rule, the nth default rule's holds, so that a slip of the pen
// leaves the archive its levels; without one, the rule is left out.
func (s *settings) readRules(keys []string, defaults []Rule) []Rule {
	var rules []Rule
	for i, key := range keys {
		if i == maxRules {
			s.warn(key, "", "", fmt.Sprintf("at most %d sections of type archive_rule: this one and those behind it are not used", maxRules))
			break
		}
		r := Rule{UpTo: -1, Window: -1}
		if i < len(defaults) {
			r = defaults[i]
		}
		if !s.has(key, "size_threshold") {
			r.SizeThreshold = 0
		}
		s.must(key, "up_to", wantPositive)
		s.must(key, "window", wantDuration)
		one(s, key, "up_to", &r.UpTo, parsePositive, wantPositive)
		one(s, key, "window", &r.Window, parseDuration, wantDuration)
		one(s, key, "size_threshold", &r.SizeThreshold, parseBytes, wantBytes)
		if r.UpTo < 0 || r.Window < 0 {
			continue
		}
		if n := len(rules); n > 0 && r.UpTo <= rules[n-1].UpTo {
			s.warn(key, "up_to", s.text(key, "up_to"), "more than the rule before has: rules go from the youngest flows to the oldest")
		}
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return slices.Clone(defaults)
	}
	return rules
}
