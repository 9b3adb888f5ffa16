package flow

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"testing"

	"pakon/daemon/client"
	"pakon/daemon/name"
	"pakon/suricata"
	"pakon/tests/household"
)

// lan is a router as the table sees it.
type lan struct {
	interfaces map[string]client.Interface
	neighbours map[netip.Addr]client.MAC
	macs       map[client.MAC]bool
	addrs      map[netip.Addr]bool
	seen       map[client.MAC]int64
	owners     map[netip.Addr]client.MAC // of those behind an extender
	shared     map[client.MAC]bool
}

var _ Clients = (*lan)(nil)

func (l *lan) ByAddr(_ string, a netip.Addr) (client.MAC, bool) {
	m, ok := l.neighbours[a]
	return m, ok
}
func (l *lan) Owner(m client.MAC, a netip.Addr) client.MAC {
	if o, ok := l.owners[a]; ok && l.shared[m] {
		return o
	}
	return m
}
func (l *lan) SharesMAC(m client.MAC) bool                 { return l.shared[m] }
func (l *lan) Interface(n string) (client.Interface, bool) { i, ok := l.interfaces[n]; return i, ok }
func (l *lan) RouterMAC(m client.MAC) bool                 { return l.macs[m] }
func (l *lan) RouterAddr(a netip.Addr) bool                { return l.addrs[a] }
func (l *lan) Seen(m client.MAC, _ netip.Addr, _ string, at int64) {
	if l.seen != nil {
		l.seen[m] = at
	}
}

func newTable(clients Clients, p Policy) (*Table, *[]Flow) {
	var got []Flow
	t := New(clients, func(f []Flow) { got = append(got, f...) })
	t.SetPolicy(p)
	return t, &got
}

// play decodes the lines and gives them to the table, and returns their number.
func play(t testing.TB, tab *Table, r io.Reader) int {
	t.Helper()
	var dec suricata.Decoder
	var ev suricata.Event
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		if err := dec.Decode(lines.Bytes(), &ev); err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
		tab.Event(&ev)
		n++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	tab.Flush()
	return n
}

// accounted checks that every event met exactly one fate.
func accounted(t *testing.T, tab *Table, events int) {
	t.Helper()
	sum := 0
	for _, c := range tab.Counts() {
		sum += int(c.Events)
	}
	if sum != events {
		t.Errorf("%d events are accounted for, want %d: %v", sum, events, tab.Counts())
	}
}

// TestHousehold compares the flows of a day with those that an ideal collector
// would have.
func TestHousehold(t *testing.T) {
	for _, format := range []int{7, 8} {
		t.Run(fmt.Sprint("format ", format), func(t *testing.T) {
			cfg := household.Default()
			cfg.Events, cfg.Format, cfg.Queries = 60_000, format, true
			var events bytes.Buffer
			want := make(map[string]int)
			key := func(start, end int64, mac fmt.Stringer, remote netip.Addr, port uint16, proto uint8, in bool, app string, sent, recvd uint64) string {
				return fmt.Sprint(start, end, mac, remote, port, proto, in, app, sent, recvd)
			}
			names := make(map[string][2]string)
			if err := household.Generate(cfg, &events, func(r *household.Row) {
				k := key(r.Start, r.End, r.MAC, r.Remote, r.Port, r.Proto, r.Inbound, r.App, r.Sent, r.Recvd)
				want[k]++
				names[k] = [2]string{r.Name, r.Source}
				if r.Name == "" && !r.Inbound {
					n, source := name.WellKnown(r.Proto, r.Port, r.Remote, false)
					names[k] = [2]string{n, source.String()}
				}
			}); err != nil {
				t.Fatal(err)
			}
			tab, got := newTable(&lan{}, Policy{Interfaces: []string{"br-lan", "br-guest_turris"}})
			accounted(t, tab, play(t, tab, &events))
			wrong := 0
			for _, f := range withoutLeftOut(*got) {
				k := key(f.Start, f.End, f.Client, f.Remote, f.Port, f.Proto, f.Direction == In, f.App, f.Sent, f.Recvd)
				if want[k]--; want[k] == 0 {
					delete(want, k)
				}
				if n := names[k]; f.Name != n[0] || f.Source.String() != n[1] {
					if wrong++; wrong < 10 {
						t.Logf("name %q by %q, want %q by %q", f.Name, f.Source, n[0], n[1])
					}
				}
			}
			shown := 0
			for k, n := range want {
				if shown++; shown < 10 {
					t.Errorf("%+d flow %s", -n, k)
				}
			}
			// Names that share an address can not always be told apart by DNS.
			if limit := len(*got) / 1000; wrong > limit {
				t.Errorf("%d of %d names are wrong, want at most %d", wrong, len(*got), limit)
			}
		})
	}
}

func TestCaptures(t *testing.T) {
	path := "../../../shared/eve/suricata7-captures.json"
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("the recorded events of public captures are not here: %v", err)
	}
	defer f.Close()
	tab, got := newTable(&lan{}, Policy{})
	accounted(t, tab, play(t, tab, f))
	for _, f := range *got {
		if f.State == Done { // to which no tail was added
			continue
		}
		if f.End < f.Start || !worth(true, [2]uint64{f.Sent, f.Recvd}) || f.ClientAddr == broadcast || !f.Remote.IsValid() || !f.ClientAddr.IsValid() {
			t.Errorf("not a flow: %+v", f)
		}
	}
}
