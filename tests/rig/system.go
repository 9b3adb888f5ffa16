package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"pakon/tests/limits"
)

// System is Pakon on a router: a bus and a daemon that belong to a Root.
type System struct {
	Root  Root
	Pakon string    // the program bin/pakon
	Ubus  string    // the program bin/ubus
	Where Where     // where they run
	Echo  io.Writer // what they say is written here too; may be nil

	Bus    *Process // nil until started
	Daemon *Process // nil until started
}

// startLimit is how long a part may take on a quiet machine until it serves.
const startLimit = 30 * time.Second

// StartBus starts the bus and waits until it serves.
func (s *System) StartBus(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limits.For(startLimit))
	defer cancel()
	if s.Bus, err = Start(s.Where, s.Echo, s.Ubus, "-s", s.Root.Socket(), "broker"); err != nil {
		return err
	}
	return s.Bus.Await(ctx, "bus runs")
}

// StartDaemon starts the daemon and waits until its object is on the bus.
func (s *System) StartDaemon(ctx context.Context, options ...string) (err error) {
	args := append([]string{"daemon", "--root", string(s.Root), "--ubus-socket", s.Root.Socket()}, options...)
	if s.Daemon, err = Start(s.Where, s.Echo, s.Pakon, args...); err != nil {
		return err
	}
	return s.WaitForObject(ctx)
}

// WaitForObject waits until the daemon's object is on the bus.
func (s *System) WaitForObject(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limits.For(startLimit))
	defer cancel()
	waited := make(chan error, 1)
	go func() {
		_, err := Output(ctx, s.Ubus, "-s", s.Root.Socket(), "wait_for", "pakon")
		waited <- err
	}()
	select {
	case err := <-waited:
		if err != nil {
			return fmt.Errorf("waiting for the object pakon: %w; the daemon said:\n%s", err, s.Daemon.Said())
		}
		return nil
	case <-s.Daemon.Done():
		cancel()
		<-waited
		return errors.Join(errors.New("the daemon ended"), s.Daemon.Err())
	}
}

// stopLimit is how long the daemon may take on a quiet machine to end, Suricata
// included.
const stopLimit = 20 * time.Second

// Close ends the daemon and the bus.
func (s *System) Close() error {
	var errs []error
	for _, p := range []*Process{s.Daemon, s.Bus} {
		if p != nil {
			errs = append(errs, p.Stop(limits.For(stopLimit)))
		}
	}
	s.Daemon, s.Bus = nil, nil
	return errors.Join(errs...)
}

// StopDaemon ends the daemon with SIGTERM, as procd does.
func (s *System) StopDaemon() error {
	p := s.Daemon
	s.Daemon = nil
	return p.Stop(limits.For(stopLimit))
}

// Call calls a method of the daemon's object by the command ubus, and decodes
// the reply; with a nil reply, whether there is one or not.
func (s *System) Call(ctx context.Context, method string, args map[string]any, reply any) error {
	if args == nil {
		args = map[string]any{}
	}
	message, err := json.Marshal(args)
	if err != nil {
		return err
	}
	out, err := Output(ctx, s.Ubus, "-s", s.Root.Socket(), "-S", "call", "pakon", method, string(message))
	if err != nil {
		return err
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(out, reply); err != nil {
		return fmt.Errorf("reading the reply of %s: %w", method, err)
	}
	return nil
}

// Flow is a row of the method query.
type Flow struct {
	Start     int64  `json:"start"`
	Duration  int64  `json:"duration"`
	Client    string `json:"client"`
	MAC       string `json:"mac"`
	Hostname  string `json:"hostname"`
	Address   string `json:"address"`
	Group     string `json:"group"`
	Source    string `json:"source"`
	Port      uint16 `json:"port"`
	Proto     string `json:"proto"`
	App       string `json:"app_proto"`
	Direction string `json:"direction"`
	Sent      uint64 `json:"sent"`
	Recvd     uint64 `json:"recvd"`
	Running   bool   `json:"running"`
	Hidden    string `json:"hidden"`
}

// maxPages bounds a query that never ends.
const maxPages = 100_000

// Query asks for all pages of a query. Arguments beside the cursor are as given.
func (s *System) Query(ctx context.Context, args map[string]any) (flows []Flow, pages int, err error) {
	q := map[string]any{}
	for k, v := range args {
		q[k] = v
	}
	for pages = 1; pages <= maxPages; pages++ {
		var page struct {
			Flows []Flow `json:"flows"`
			Next  string `json:"next"`
		}
		if err := s.Call(ctx, "query", q, &page); err != nil {
			return nil, pages, err
		}
		flows = append(flows, page.Flows...)
		if page.Next == "" {
			return flows, pages, nil
		}
		q["cursor"] = page.Next
	}
	return nil, pages, fmt.Errorf("more than %d pages", maxPages)
}

// Device is a row of the method clients.
type Device struct {
	MAC        string   `json:"mac"`
	Name       string   `json:"name"`
	NameSource string   `json:"name_source"`
	Vendor     string   `json:"vendor"`
	Random     bool     `json:"random"`
	Earlier    string   `json:"earlier"`
	Addresses  []string `json:"addresses"`
	Interface  string   `json:"interface"`
	FirstSeen  int64    `json:"first_seen"`
	LastSeen   int64    `json:"last_seen"`
}

// Devices asks for the devices that the daemon knows, by MAC.
func (s *System) Devices(ctx context.Context) (map[string]Device, error) {
	devices := make(map[string]Device)
	for args := map[string]any(nil); ; {
		var reply struct {
			Clients []Device `json:"clients"`
			Next    string   `json:"next"`
		}
		if err := s.Call(ctx, "clients", args, &reply); err != nil {
			return nil, err
		}
		for _, d := range reply.Clients {
			// One that gets another name meanwhile may be on two pages.
			if was, twice := devices[d.MAC]; twice && was.Name == d.Name {
				return nil, fmt.Errorf("%s is twice among the clients", d.MAC)
			}
			devices[d.MAC] = d
		}
		if reply.Next == "" {
			return devices, nil
		}
		args = map[string]any{"cursor": reply.Next}
	}
}

// Status is what tests look at of the method status.
type Status struct {
	Version    string `json:"version"`
	Mode       string `json:"mode"`
	BytesFrom  string `json:"bytes_from"`
	Interfaces []struct {
		Name     string `json:"name"`
		State    string `json:"state"`
		Coverage []struct {
			Compared bool   `json:"compared"`
			Carried  uint64 `json:"carried"`
			Recorded uint64 `json:"recorded"`
			Named    uint64 `json:"named"`
			Other    uint64 `json:"other"`
		} `json:"coverage"`
	} `json:"interfaces"`
	Capture struct {
		Way      string `json:"way"`
		Why      string `json:"why"`
		Offload  string `json:"offload"`
		Restored int    `json:"restored"`
		Error    string `json:"error"`
	} `json:"capture"`
	Conntrack struct {
		Active     bool              `json:"active"`
		Problem    string            `json:"problem"`
		Entries    int               `json:"entries"`
		Lost       uint64            `json:"lost"`
		Zeroed     uint64            `json:"zeroed"`
		Unfollowed uint64            `json:"unfollowed"`
		Fates      map[string]uint64 `json:"fates"`
	} `json:"conntrack"`
	Suricata struct {
		State    string `json:"state"`
		Version  string `json:"version"`
		PID      int    `json:"pid"`
		Restarts int    `json:"restarts"`
		Error    string `json:"error"`
		Drops    uint64 `json:"drops"`
	} `json:"suricata"`
	Events struct {
		Types       map[string]uint64 `json:"types"`
		Fates       map[string]uint64 `json:"fates"`
		Malformed   uint64            `json:"malformed"`
		Dropped     uint64            `json:"dropped"`
		Connections uint64            `json:"connections"`
	} `json:"events"`
	Flows struct {
		Live    int64 `json:"live"`
		Running int64 `json:"running"`
	} `json:"flows"`
	Config struct {
		Error    string   `json:"error"`
		Problems []string `json:"problems"`
	} `json:"config"`
	Warnings []string `json:"warnings"`
}

// Status asks for the daemon's status.
func (s *System) Status(ctx context.Context) (st Status, err error) {
	return st, s.Call(ctx, "status", nil, &st)
}

// AwaitCapture waits until Suricata runs and sees packets, which it does some
// time after it said that it started. Each probe makes a client ask the
// resolver for one name, on an interface that must be seen.
func (s *System) AwaitCapture(ctx context.Context, probes ...func(context.Context) error) error {
	answers := func(ctx context.Context) (uint64, error) {
		st, err := s.Status(ctx)
		return st.Events.Types["dns"], err
	}
	err := s.Until(ctx, startLimit, func(ctx context.Context) (bool, error) {
		st, err := s.Status(ctx)
		return st.Suricata.State == "running" && st.Events.Connections > 0, err
	})
	for _, probe := range probes {
		for attempt := 1; err == nil; attempt++ {
			var before uint64
			if before, err = answers(ctx); err != nil {
				break
			}
			if err = probe(ctx); err != nil {
				break
			}
			seen := s.Until(ctx, 2*time.Second, func(ctx context.Context) (bool, error) {
				now, err := answers(ctx)
				return now > before, err
			})
			if seen == nil {
				break
			}
			if attempt == 10 || !errors.Is(seen, context.DeadlineExceeded) {
				err = fmt.Errorf("no packets are seen: %w", seen)
			}
		}
	}
	if err != nil {
		st, statusErr := s.Status(context.WithoutCancel(ctx))
		return errors.Join(fmt.Errorf("waiting for Suricata, which is %s (%s): %w", st.Suricata.State, st.Suricata.Error, err), statusErr)
	}
	return nil
}

// Until asks again and again until ok is true, at most for limit, which is that of
// a quiet machine. For what no one tells: a program's own outside view. It fails
// at once if the daemon ends.
func (s *System) Until(ctx context.Context, limit time.Duration, ok func(context.Context) (bool, error)) error {
	limit = limits.For(limit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		done, err := ok(ctx)
		if done && err == nil {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-again.C:
		case <-s.Daemon.Done():
			return errors.Join(errors.New("the daemon ended"), s.Daemon.Err())
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", limit, ctx.Err())
		}
	}
}

// Programs finds the programs at the given paths, which must exist.
func Programs(paths ...string) error {
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("%w; `make build` makes it", err)
		}
	}
	return nil
}
