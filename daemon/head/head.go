// Package head keeps nftables rules in force that hand Suricata the head of
// each connection instead of every packet: the first packets, which carry the
// names, all DNS, and the packets that end a TCP connection.
//
// The rules are in tables of our own named "pakon" and only look: they neither
// accept nor drop nor delay, whatever becomes of Suricata. Which way suits a
// router and what Suricata is told is left to the caller; Probe says what the
// machine can do. The rules of NFLOG make the kernel count connections
// (net.netfilter.nf_conntrack_acct); of those that began before, or while
// somebody had it switched off, they see no head.
package head

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Way is how the head of connections reaches Suricata.
type Way uint8

// The ways. NFLOG logs to the netfilter log group Group; it sees what the
// router forwards itself, not what a flowtable forwards in its place. Mirror
// copies to a device for each monitored interface, before any flowtable.
const (
	None Way = iota
	NFLOG
	Mirror
)

var ways = [...]string{None: "", NFLOG: "nflog", Mirror: "mirror"}

func (w Way) String() string {
	if int(w) >= len(ways) {
		return fmt.Sprintf("way %d", uint8(w))
	}
	return ways[w]
}

// Group is the netfilter log group of the NFLOG way.
const Group uint16 = 20545

// Settings say which rules to put in force.
type Settings struct {
	Way Way
	// Interfaces are monitored. They need not exist: NFLOG matches them by
	// name, Mirror takes them in when Apply is called again. Order and
	// repetition do not matter; names that no interface can have are left out.
	Interfaces []string
}

func (s Settings) interfaces() []string {
	names := slices.DeleteFunc(slices.Clone(s.Interfaces), func(n string) bool {
		return n == "" || len(n) >= unix.IFNAMSIZ || strings.ContainsAny(n, "/\x00")
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// State is what is in force.
type State struct {
	Way Way
	// Mirrors are the devices that Suricata is to capture and the monitored
	// interface that each stands for. They are there even while the interface
	// is not.
	Mirrors map[string]string
	// Restored is how often the rules were put back after another program had
	// changed or removed them.
	Restored int
	// Err is why the rules are not as they should be, nil if they are.
	Err error
}

// Head keeps the rules. Its methods may be called at any time, also before and
// after Run.
type Head struct {
	log     *slog.Logger
	changes chan struct{}

	mu       sync.Mutex
	settings Settings
	plan     plan   // in force
	print    string // of the tables as they were written; "" if not known
	restored int
	err      error
}

// New returns a Head without rules. What an earlier process left stays until
// the first Apply or Remove.
func New(log *slog.Logger) *Head { return &Head{log: log, changes: make(chan struct{}, 1)} }

// Changes tells, while Run runs, that a flowtable came, went or changed, which
// may call for another way, and in any case for Apply.
func (h *Head) Changes() <-chan struct{} { return h.changes }

func (h *Head) tellChange() {
	select {
	case h.changes <- struct{}{}:
	default: // it is told already
	}
}

// State is what is in force now.
func (h *Head) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return State{Way: h.plan.way, Mirrors: maps.Clone(h.plan.mirrors()), Restored: h.restored, Err: h.err}
}

// Apply puts the rules in force in one transaction, in place of any that were
// there, whoever left them. With the settings that are in force it only repairs
// what is amiss: call it whenever a link appeared or changed. On an error the
// rules of before stay.
func (h *Head) Apply(s Settings) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settings = Settings{Way: s.Way, Interfaces: s.interfaces()}
	before := h.plan.way
	h.err = h.enforce()
	if h.err == nil && h.plan.way != before && h.plan.way != None {
		h.log.Info("the rules that hand out the head of connections are in force", "way", h.plan.way, "interfaces", h.settings.Interfaces)
	}
	return h.err
}

// Remove removes all rules and mirror devices, also those that an earlier
// process left.
func (h *Head) Remove() error { return h.Apply(Settings{}) }

// Clean removes what an earlier process left, for those who have no Head. A
// kernel without nftables is clean.
func Clean() error {
	if err := writeRules(nil); err != nil && !lacking(err) {
		return fmt.Errorf("remove the nftables tables named %s: %w", tableName, err)
	}
	return removeMirrors(nil)
}

// lacking tells whether the error says that the kernel has no nftables.
func lacking(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) ||
		errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
}

// attempts bounds how often the rules are written anew because a device
// vanished while they were.
const attempts = 3

// enforce makes the rules as the settings want them, and says so if others had
// changed them.
func (h *Head) enforce() error {
	if h.settings.Way == None {
		if err := Clean(); err != nil {
			return err
		}
		h.plan, h.print = plan{}, ""
		return nil
	}
	for try := 1; ; try++ {
		p, err := prepare(h.settings)
		if err != nil {
			return err
		}
		harmed := reflect.DeepEqual(p, h.plan)
		if harmed {
			print, err := fingerprint()
			if err != nil {
				return fmt.Errorf("check the nftables rules: %w", err)
			}
			// None, where they were removed before they were read back, is that of no
			// rules, too.
			if print != "" && print == h.print {
				return nil
			}
		}
		err = writeRules(p.rules())
		if err != nil && try < attempts && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)) {
			continue
		}
		if err != nil {
			err = fmt.Errorf("put the nftables rules of table %s in force: %w", tableName, err)
			return errors.Join(err, removeMirrors(h.plan.mirrors()))
		}
		h.plan = p
		if harmed {
			h.restored++
			h.log.Warn("another program changed or removed the nftables rules that hand Suricata its packets: put back",
				"table", tableName, "way", p.way)
		}
		break
	}
	// Should someone have removed them again already, then the notification of
	// that finds a print that matches nothing.
	var err error
	if h.print, err = h.plan.fingerprint(); err != nil {
		return fmt.Errorf("read the nftables rules back: %w", err)
	}
	// After the rules, which name them.
	return removeMirrors(h.plan.mirrors())
}
