package tests

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"testing"
	"time"

	"pakon/lists"
	"pakon/tests/household"
	"pakon/tests/rig"
)

// tell writes events to the daemon's socket, as Suricata would.
func tell(t *testing.T, s *rig.System, write func(w *bufio.Writer)) {
	t.Helper()
	conn, err := net.Dial("unix", s.Root.Path("var/run/pakon/eve.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w := bufio.NewWriter(conn)
	write(w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// feed tells of a household's events, and returns the flows that must come of them.
func feed(t *testing.T, s *rig.System, cfg household.Config) (rows []household.Row) {
	t.Helper()
	tell(t, s, func(w *bufio.Writer) {
		if err := household.Generate(cfg, w, func(r *household.Row) { rows = append(rows, *r) }); err != nil {
			t.Fatal(err)
		}
	})
	return rows
}

// awaitFlows waits until so many flows are recorded.
func awaitFlows(t *testing.T, s *rig.System, n int) {
	t.Helper()
	err := s.Until(t.Context(), time.Minute, func(ctx context.Context) (bool, error) {
		st, err := s.Status(ctx)
		return st.Flows.Live >= int64(n), err
	})
	if err != nil {
		t.Fatalf("%d flows: %v; status: %+v", n, err, status(t, s))
	}
}

func householdOf(events, format int) household.Config {
	cfg := household.Default()
	cfg.Events, cfg.Format, cfg.Seed = events, format, uint64(format)
	cfg.Days, cfg.End = 0.8, time.Now()
	return cfg
}

// TestHouseholdIsRecorded feeds the events of a whole house, and walks over all
// pages of a query: they must be the flows of an ideal collector, and the sums by
// far end those of these flows.
func TestHouseholdIsRecorded(t *testing.T) {
	t.Parallel()
	known, problems := lists.Load(os.DirFS("../files/usr/share/pakon-light"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, format := range []int{7, 8} {
		t.Run(fmt.Sprintf("format %d", format), func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, rig.Here, nil)
			startDaemon(t, s, "--no-suricata")
			rows := feed(t, s, householdOf(40_000, format))
			awaitFlows(t, s, len(rows))
			flows, pages, err := s.Query(t.Context(), map[string]any{"start": "-7d", "direction": "both", "filter": false, "limit": 700})
			if err != nil {
				t.Fatal(err)
			}
			if want := len(rows)/700 + 1; pages < want {
				t.Errorf("%d pages, want at least %d", pages, want)
			}
			var got, want []string
			for _, f := range flows {
				if f.Direction == "" {
					f.Direction = "out"
				}
				got = append(got, fmt.Sprintf("%d +%d %s of %q ", f.Start, f.Duration, f.Direction, f.Group)+
					shown("", f.MAC, f.Hostname, f.Source, f.Address, f.Port, f.Proto, f.App, f.Sent, f.Recvd))
			}
			wantSums, sources := sums{}, map[string]int{}
			for _, r := range rows {
				called, source := r.Called()
				group := known.Classify(called).Group
				sources[source]++
				farEnd, unnamed := group, uint64(0)
				if called == "" {
					farEnd = r.Remote.String()
				}
				if called == "" || source == "port" {
					unnamed = r.Sent + r.Recvd
				}
				wantSums.add(farEnd, amount{r.Sent, r.Recvd, unnamed, 1})
				direction, proto := "out", "tcp"
				if r.Inbound {
					direction = "in"
				}
				if r.Proto == household.UDP {
					proto = "udp"
				}
				want = append(want, fmt.Sprintf("%d +%d %s of %q ", r.Start/1000, r.End/1000-r.Start/1000, direction, group)+
					shown("", r.MAC.String(), called, source, r.Remote.String(), r.Port, proto, r.App, r.Sent, r.Recvd))
			}
			diff(t, want, got)
			for _, source := range []string{"tls", "quic", "http", "dns", "port", ""} {
				if sources[source] == 0 {
					t.Errorf("no flow that is named by %q: %v", source, sources)
				}
			}
			if gotSums := sumUp(t, s); !maps.Equal(gotSums, wantSums) {
				for k := range wantSums {
					if gotSums[k] != wantSums[k] {
						t.Errorf("%q sums up to %+v, want %+v", k, gotSums[k], wantSums[k])
					}
				}
				t.Errorf("%d far ends in the sums, want %d", len(gotSums), len(wantSums))
			}
			st := status(t, s)
			if st.Events.Malformed > 0 || st.Events.Dropped > 0 || st.Events.Fates["recorded"] != uint64(len(rows)) {
				t.Errorf("events: %+v", st.Events)
			}
		})
	}
}

// amount is what flows amount to: bytes, those of them to far ends without a name,
// and how many flows.
type amount struct{ sent, recvd, unnamed, flows uint64 }

// sums are amounts by far end: a group, or an address that has no name.
type sums map[string]amount

func (s sums) add(farEnd string, a amount) {
	o := s[farEnd]
	s[farEnd] = amount{o.sent + a.sent, o.recvd + a.recvd, o.unnamed + a.unnamed, o.flows + a.flows}
}

// sumUp asks for the sums of all flows.
func sumUp(t *testing.T, s *rig.System) sums {
	t.Helper()
	var reply struct {
		Rows []struct {
			Hostname                    string
			Sent, Recvd, Unnamed, Flows uint64
		}
	}
	args := map[string]any{"by": "hostname", "start": "-7d", "direction": "both", "filter": false, "limit": 10_000}
	if err := s.Call(t.Context(), "summary", args, &reply); err != nil {
		t.Fatal(err)
	}
	all := sums{}
	for _, r := range reply.Rows {
		all.add(r.Hostname, amount{r.Sent, r.Recvd, r.Unnamed, r.Flows})
	}
	return all
}

// TestPagesAreSorted walks over pages in other orders.
func TestPagesAreSorted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	startDaemon(t, s, "--no-suricata")
	rows := feed(t, s, householdOf(8_000, 7))
	awaitFlows(t, s, len(rows))
	key := map[string]func(rig.Flow) uint64{
		"time":   func(f rig.Flow) uint64 { return uint64(f.Start) },
		"recvd":  func(f rig.Flow) uint64 { return f.Recvd },
		"-total": func(f rig.Flow) uint64 { return -(f.Sent + f.Recvd) },
	}
	for sort, of := range key {
		flows, _, err := s.Query(t.Context(), map[string]any{"start": "-7d", "direction": "both", "filter": false, "limit": 333, "sort": sort})
		if err != nil {
			t.Fatal(err)
		}
		if len(flows) != len(rows) {
			t.Errorf("sorted by %s: %d flows, want %d", sort, len(flows), len(rows))
		}
		for i := 1; i < len(flows); i++ {
			if of(flows[i]) < of(flows[i-1]) {
				t.Fatalf("sorted by %s, %+v comes after %+v", sort, flows[i], flows[i-1])
			}
		}
	}
}
