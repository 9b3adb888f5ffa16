package head

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Ability is what this machine can do. An error says for the owner what is
// missing; nil is fine.
type Ability struct {
	NFLOG, Mirror error
	Flowtables    []Flowtable
}

// Flowtable is what forwards packets in the router's place. Those that come in
// by its devices and belong to a known connection pass no forward chain, and
// with Hardware not even the processor.
type Flowtable struct {
	Family, Table, Name string
	Devices             []string
	Hardware            bool
	Counter             bool // it keeps connection tracking's counters right
}

var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
}

// Flowtables lists those of all tables.
func Flowtables() ([]Flowtable, error) {
	list, err := flowtables()
	if err != nil {
		return nil, fmt.Errorf("list flowtables: %w", err)
	}
	return list, nil
}

func flowtables() ([]Flowtable, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	return listFlowtables(c)
}

func listFlowtables(c *nftables.Conn) ([]Flowtable, error) {
	tables, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	var list []Flowtable
	for _, t := range tables {
		family, ok := familyNames[t.Family]
		if !ok {
			continue // those of other families have none
		}
		found, err := c.ListFlowtables(t)
		if err != nil {
			return nil, fmt.Errorf("list flowtables of %s %s: %w", family, t.Name, err)
		}
		for _, f := range found {
			list = append(list, Flowtable{
				Family: family, Table: t.Name, Name: f.Name, Devices: deviceNames(f.Devices),
				Hardware: f.Flags&nftables.FlowtableFlagsHWOffload != 0,
				Counter:  f.Flags&nftables.FlowtableFlagsCounter != 0,
			})
		}
	}
	return list, nil
}

// probeName is of what is never there to stay.
const probeName = "pakon_probe"

// Probe tries what the rules need, on the interfaces that are there, in
// transactions that leave nothing. It fails only if nftables can not be asked.
// Links do not change: it may be called at every change of one.
func Probe(interfaces []string) (Ability, error) {
	var a Ability
	var err error
	if a.Flowtables, err = flowtables(); err != nil {
		return Ability{}, fmt.Errorf("ask nftables: %w", err)
	}
	names := Settings{Interfaces: interfaces}.interfaces()
	a.NFLOG = probeLog(names)
	a.Mirror = probeMirror(names, a.Flowtables)
	return a, nil
}

// step is a table to try, and what the kernel lacks if it refuses it.
type step struct {
	rules *ruleset
	lacks string
}

func try(steps []step) error {
	for _, s := range steps {
		c, err := dial()
		if err != nil {
			return err
		}
		s.rules.table.Name = probeName
		if err := s.rules.queue(c); err != nil {
			return err
		}
		c.DelTable(s.rules.table)
		if err := c.Flush(); err != nil {
			return fmt.Errorf("%s: %w", s.lacks, err)
		}
	}
	return nil
}

func probeLog(interfaces []string) error {
	p := plan{way: NFLOG}
	for _, name := range interfaces {
		p.networks = append(p.networks, network{name: name})
	}
	part := func(exprs ...[]expr.Any) *ruleset {
		r := &ruleset{table: &nftables.Table{Family: nftables.TableFamilyINet}}
		r.baseChain("forward", nftables.ChainHookForward, logPriority, "").add(exprs...)
		return r
	}
	return try([]step{
		{part(), "the kernel lacks nftables for inet (kmod-nft-core)"},
		{part(counted(expr.CtKeyPKTS, expr.CmpOpGt, 0)), "the kernel lacks connection tracking for nftables (kmod-nft-core, kmod-nf-conntrack)"},
		{part(logged), "the kernel lacks nf_log netlink (kmod-nfnetlink-log)"},
		{p.logRules(), "the kernel refuses the rules"},
	})
}

func probeMirror(interfaces []string, tables []Flowtable) (err error) {
	c, err := dialLinks()
	if err != nil {
		return err
	}
	defer c.Close()
	links, err := c.list()
	if err != nil {
		return err
	}
	// A rule may name any device: the mirrors need not be there yet.
	p := plan{way: Mirror}
	for _, name := range interfaces {
		n := network{name: name, mirror: device{"lo", 1}}
		n.hooks, n.mac = hooks(name, links, tables)
		p.networks = append(p.networks, n)
	}
	once(p.networks)
	hook := "lo"
	for _, n := range p.networks {
		for _, d := range n.hooks {
			hook = d.name
		}
	}
	if hook == "lo" {
		p.networks = append(p.networks, network{name: hook, mirror: device{hook, 1}, hooks: []device{{hook, 1}}})
	}
	part := func(to *nftables.ChainHook, exprs ...[]expr.Any) *ruleset {
		r := &ruleset{table: &nftables.Table{Family: nftables.TableFamilyNetdev}}
		r.baseChain("hook", to, mirrorPriority, hook).add(exprs...)
		return r
	}
	if err := try([]step{
		{part(nftables.ChainHookIngress), "the kernel lacks nftables for devices (kmod-nft-netdev)"},
		{part(nftables.ChainHookEgress), "the kernel lacks nftables' egress hook (Linux 5.16 and later have it)"},
		{part(nftables.ChainHookIngress, duplicate(device{"lo", 1})), "the kernel lacks nftables' dup for devices (kmod-nft-netdev)"},
		{p.mirrorRules(), "the kernel refuses the rules"},
	}); err != nil {
		return err
	}
	return c.probeDevice()
}

// probeDevice asks for a mirror device with an address that none can have. A
// kernel that knows the kind refuses the address.
func (c linkConn) probeDevice() error {
	var errs []error
	for _, kind := range mirrorKinds {
		err := c.create(probeName, kind, func(ae *netlink.AttributeEncoder) { ae.Bytes(unix.IFLA_ADDRESS, []byte{0}) })
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("the kernel has no devices to mirror to (kmod-dummy): %w", errors.Join(errs...))
}

// deviceNames cuts each name at its end, as the library does not.
func deviceNames(names []string) []string {
	for i, n := range names {
		names[i], _, _ = strings.Cut(n, "\x00")
	}
	return names
}
