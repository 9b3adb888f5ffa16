package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/client/lease"
	"pakon/daemon/flow"
	"pakon/daemon/store"
	"pakon/lists"
	"pakon/uci"
	"pakon/uci/regular"
)

// settings is what the files of the owner say, as one: configuration, static
// hosts and lists.
type settings struct {
	config     uci.Config
	written    []client.Host // the hosts in files of UCI
	hosts      []client.Host // these, and those in the files of hosts
	leases     []string      // the files of the DHCP servers' leases
	hostsFiles []string      // the files and folders of hosts outside of UCI, /etc/ethers first
	resolvers  []netip.Addr  // to which the DHCP servers send the devices
	mounts     []string      // the folders at which drives are to be mounted
	lists      *lists.Lists
	loaded     time.Time
	refused    error    // why a configuration file was refused; what it last said is in force
	problems   []string // what else is to be said of the files of UCI, one line each
	wrong      bool     // some of it is more than a warning

	hostProblems []string // likewise, of the files of hosts, and of who is to be left out by them
	listProblems []string // likewise, of the lists
	listFiles    string   // which files of lists there were
}

// readSettings reads everything anew. Where a file is refused by UCI, what it
// last said holds: in the settings in force before, or as saved by an earlier
// run.
func readSettings(p paths, last *settings) *settings {
	s := &settings{loaded: time.Now()}
	before := func() saved {
		if last != nil {
			return saved{last.config, last.written, last.leases, last.hostsFiles, last.resolvers}
		}
		return loadSaved(p.saved)
	}
	config, problems, err := uci.Read(p.uci)
	s.note(problems)
	s.config = config
	if err != nil {
		s.refused = err
		s.config = before().Config
	}
	hosts, problems, err := uci.ReadHosts(p.uci)
	s.note(problems)
	s.written = toHosts(hosts)
	leases, leasesErr := uci.ReadLeaseFiles(p.uci)
	hostsFiles, hostsFilesErr := uci.ReadHostsFiles(p.uci)
	for _, path := range leases {
		s.leases = append(s.leases, filepath.Join(p.root, path))
	}
	for _, path := range append([]string{lease.Ethers}, hostsFiles...) {
		s.hostsFiles = append(s.hostsFiles, filepath.Join(p.root, path))
	}
	resolvers, resolversErr := uci.ReadResolvers(p.uci)
	s.resolvers = resolvers
	if err = cmp.Or(err, leasesErr, hostsFilesErr, resolversErr); err != nil { // all of the same file
		last := before()
		s.written, s.leases, s.resolvers = last.Hosts, last.Leases, last.Resolvers
		if len(last.HostsFiles) > 0 {
			s.hostsFiles = last.HostsFiles
		}
	}
	s.readHosts(p)
	if s.refused != nil && err != nil {
		err = fmt.Errorf("%w; %w", s.refused, err) // one line
	}
	s.refused = cmp.Or(err, s.refused)
	if s.mounts, err = uci.ReadMounts(p.uci); err != nil {
		s.problems = append(s.problems, fmt.Sprintf("where drives are to be mounted is not known: %v", err))
	}
	for _, c := range s.config.Monitor.ShowCategories {
		if !slices.Contains(lists.HiddenCategories, c) {
			s.problems = append(s.problems, fmt.Sprintf("%s: show_category '%s': want one of %s",
				p.uci.Path("pakon"), c, strings.Join(lists.HiddenCategories, ", ")))
			s.wrong = true
		}
	}
	s.lists = new(lists.Lists)
	if last != nil {
		s.lists = last.lists
	}
	s.readLists(p)
	return s
}

// readHosts reads the files of hosts anew, and looks whether the hosts now are those
// who are to be left out.
func (s *settings) readHosts(p paths) {
	hosts, skipped, err := lease.ReadHosts(s.hostsFiles[0], s.hostsFiles[1:])
	s.hosts = slices.Concat(s.written, toHosts(hosts))
	s.hostProblems = nil
	if err != nil {
		s.hostProblems = append(s.hostProblems, "the names of some devices are not known: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if skipped > 0 {
		s.hostProblems = append(s.hostProblems, fmt.Sprintf("%d lines of %s are not understood: want a MAC address and a name",
			skipped, strings.Join(s.hostsFiles, ", ")))
	}
	for _, c := range s.config.Monitor.ExcludeClients {
		problem := ""
		if !s.names(c) {
			problem = fmt.Sprintf("no host of %s has this name, so nobody is left out", p.uci.Path("dhcp"))
		} else if h := s.hostAt(c); h != nil {
			problem = fmt.Sprintf("want the MAC or the name of %s, which has this address: an address means a client without a MAC",
				cmp.Or(h.Name, "the host"))
		} else {
			continue
		}
		s.hostProblems = append(s.hostProblems, fmt.Sprintf("%s: exclude_client '%s': %s", p.uci.Path("pakon"), c, problem))
		s.wrong = true
	}
}

// readLists reads the lists anew. Those that can not be read stay as they are.
func (s *settings) readLists(p paths) {
	s.listFiles = filesIn(p.listFolders())
	var wrong []lists.Problem
	s.lists, wrong = s.lists.Reload(regular.DirFS(p.lists))
	s.listProblems = nil
	for _, w := range wrong {
		w.File = filepath.Join(p.lists, w.File)
		s.listProblems = append(s.listProblems, w.Error())
	}
	s.lists = s.lists.Showing(s.config.Monitor.ShowCategories)
}

// filesIn tells the files of lists in folders, and of each what tells it from what
// it was.
func filesIn(folders []string) string {
	var b strings.Builder
	for _, folder := range folders {
		entries, err := regular.ReadDir(folder)
		if err != nil {
			continue // whoever reads them says why
		}
		for _, e := range entries {
			if n := e.Name(); n != "lists" && filepath.Ext(n) != ".conf" && filepath.Ext(n) != ".txt" {
				continue
			}
			if info, err := e.Info(); err == nil && !e.IsDir() {
				fmt.Fprintln(&b, folder, e.Name(), info.Size(), info.ModTime().UnixNano())
			}
		}
	}
	return b.String()
}

// said is all that is to be said of the files.
func (s *settings) said() []string { return slices.Concat(s.problems, s.hostProblems, s.listProblems) }

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
		for _, p := range last.said() {
			told[p] = true
		}
	}
	for _, p := range s.said() {
		if !told[p] {
			log.Warn(p)
		}
	}
}

// policy is what of the traffic is recorded.
func (s *settings) policy() flow.Policy {
	m := s.config.Monitor
	p := flow.Policy{Off: !m.Enabled, Interfaces: m.Interfaces, Resolvers: s.resolvers, ExcludeMACs: make(map[client.MAC]bool),
		ExcludePeers: make(map[netip.Addr]bool), ExcludeAddrs: make(map[netip.Addr]bool)}
	for _, c := range m.ExcludeClients {
		for _, id := range s.clientsOf(c) {
			if id.MAC.IsZero() {
				p.ExcludePeers[id.Addr] = true
			} else {
				p.ExcludeMACs[id.MAC] = true
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

// keeping is what is kept, where and for how long.
func (s *settings) keeping(p paths) keeping {
	a := s.config.Archive
	k := keeping{
		archive:  store.ArchiveConfig{Path: filepath.Join(p.root, a.Path), Keep: a.Keep, MaxFlows: a.DatabaseLimit},
		interval: a.BackupInterval,
	}
	for _, r := range s.config.Rules {
		k.archive.Rules = append(k.archive.Rules, store.Rule{UpTo: r.UpTo, Window: r.Window, Threshold: r.SizeThreshold})
	}
	for _, m := range s.mounts {
		k.mounts = append(k.mounts, filepath.Join(p.root, m))
	}
	policy := s.policy()
	// The original's databases have the names of ours, so they were set aside.
	folder := filepath.Dir(k.archive.Path)
	k.imports = store.ImportConfig{
		Live: p.live + ".original", Backup: filepath.Join(folder, "pakon.db.xz"), Archive: k.archive.Path + ".original",
		DNS: filepath.Join(folder, "dns_cache.json.gz"), Temp: p.run,
		Exclude: policy.Excludes,
	}
	return k
}

// names tells whether a client is given by its MAC or address, or by a name of the
// owner's.
func (s *settings) names(c string) bool {
	_, ok := client.ParseID(c)
	return ok || slices.ContainsFunc(s.hosts, func(h client.Host) bool { return strings.EqualFold(h.Name, c) })
}

// hostAt returns the host that the owner has given an address, if it surely has a MAC,
// as one that the DHCP server knows; else nil.
func (s *settings) hostAt(address string) *client.Host {
	id, _ := client.ParseID(address)
	i := slices.IndexFunc(s.hosts, func(h client.Host) bool {
		return id.Addr.IsValid() && len(h.MACs)+len(h.IDs) > 0 && slices.Contains(h.Addrs, id.Addr)
	})
	if i < 0 {
		return nil
	}
	return &s.hosts[i]
}

// clientsOf are the clients that are meant by a MAC or an address, or by a name that
// the owner gave to MACs or to the address of a client whose MAC is not known.
func (s *settings) clientsOf(c string) []client.ID {
	if id, ok := client.ParseID(c); ok {
		return []client.ID{id}
	}
	var ids []client.ID
	for _, h := range s.hosts {
		if strings.EqualFold(h.Name, c) {
			for _, m := range h.MACs {
				ids = append(ids, client.ID{MAC: m})
			}
			if len(h.MACs) == 0 {
				for _, a := range h.Addrs {
					ids = append(ids, client.ID{Addr: a})
				}
			}
		}
	}
	return ids
}

func toHosts(in []uci.Host) []client.Host {
	out := make([]client.Host, 0, len(in))
	for _, h := range in {
		host := client.Host{Name: h.Name, IDs: h.IDs, Addrs: h.Addrs}
		for _, m := range h.MACs {
			if mac, err := client.ParseMAC(m); err == nil {
				host.MACs = append(host.MACs, mac)
			}
		}
		out = append(out, host)
	}
	return out
}

// maxSaved bounds what is saved, in bytes: the files that it is made of are smaller.
const maxSaved = 4 << 20

// saved is what the owner's files say, kept for a start that finds one refused.
type saved struct {
	Config     uci.Config
	Hosts      []client.Host
	Leases     []string
	HostsFiles []string
	Resolvers  []netip.Addr
}

// save keeps the settings in force.
func (s *settings) save(path string) error {
	b, err := json.Marshal(saved{s.config, s.written, s.leases, s.hostsFiles, s.resolvers})
	if err != nil {
		return fmt.Errorf("save the configuration in force: %w", err)
	}
	if old, err := regular.Read(path, maxSaved); err == nil && string(old) == string(b) {
		return nil
	}
	temp := path + ".new"
	f, err := regular.Create(temp)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return fmt.Errorf("save the configuration in force: %w", err)
	}
	return nil
}

// loadSaved returns what an earlier run of this boot saved; the defaults if
// there is none, or it can not be read.
func loadSaved(path string) saved {
	b, err := regular.Read(path, maxSaved)
	if err != nil {
		return saved{Config: uci.Default()}
	}
	return parseSaved(b)
}

func parseSaved(b []byte) saved {
	// An option that a Pakon of another version did not know has its default.
	s := saved{Config: uci.Default()}
	if err := json.Unmarshal(b, &s); err != nil || !s.Config.Valid() {
		return saved{Config: uci.Default()}
	}
	return s
}
