package flow

import (
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/name"
)

// extenderMAC is on the frames of the phone and the laptop.
const extenderMAC = "02:aa:00:00:00:20"

// ether is what an event tells of MACs.
var ether = regexp.MustCompile(`"ether":\{[^}]*\},|,"ether":\{[^}]*\}`)

// behindExtender is a home where an extender speaks for the phone and the laptop;
// known: it is known which addresses they have.
func behindExtender(known bool) *lan {
	l := home()
	l.shared = map[client.MAC]bool{mac(extenderMAC): true}
	for i, a := range []string{"192.168.1.10", "192.168.1.11", "2001:db8:1::10"} {
		l.neighbours[netip.MustParseAddr(a)] = mac(extenderMAC)
		if known && i < 2 {
			if l.owners == nil {
				l.owners = make(map[netip.Addr]client.MAC)
			}
			l.owners[netip.MustParseAddr(a)] = mac([]string{phoneMAC, laptopMAC}[i])
		}
	}
	return l
}

// TestNamesBehindExtender: no device behind an extender gets names for which
// another has asked, and none loses its own.
func TestNamesBehindExtender(t *testing.T) {
	phone := with(browse, func(c *conn) { c.srcMAC = extenderMAC })
	laptop := with(phone, func(c *conn) { c.src = "192.168.1.11:50000" })
	sixth := with(phone, func(c *conn) { c.src = "[2001:db8:1::10]:50000" })
	const far = "203.0.113.80"
	for _, tt := range []struct {
		name   string
		events []string
		end    conn
		want   string // where it is not known whose the addresses are
		known  string // and where it is
	}{
		{"its own", []string{phone.answer("a.example", far), laptop.answer("b.example", far)}, phone, "a.example", "a.example"},
		{"the other's", []string{phone.answer("a.example", far), laptop.answer("b.example", far)}, laptop, "b.example", "b.example"},
		{"only the other asked for it", []string{phone.answer("a.example", far), laptop.answer("b.example", "203.0.113.81")}, laptop, "", ""},
		{"when it began", []string{phone.answer("a.example", far), laptop.answer("b.example", far), phone.tls(`"subject":"CN=x.example"`)}, phone, "a.example", "a.example"},
		{"an address that never asks", []string{phone.answer("a.example", far)}, sixth, "a.example", "a.example"},
		{"another address of a device", []string{sixth.answer("a.example", far)}, phone, "a.example", ""},
	} {
		for _, known := range []bool{false, true} {
			for _, marked := range []bool{true, false} {
				end, want := tt.end, tt.want
				if known {
					want = tt.known
				}
				tab, got := newTable(behindExtender(known), Policy{Interfaces: []string{"br-lan"}})
				events := strings.Join(append(tt.events, end.end()), "\n")
				if !marked {
					events = ether.ReplaceAllString(events, "")
				}
				play(t, tab, strings.NewReader(events))
				if len(*got) != 1 || (*got)[0].Name != want || want != "" && (*got)[0].Source != name.DNS {
					t.Errorf("%s, known %v, with MACs %v: got %+v, want %q", tt.name, known, marked, *got, want)
				}
			}
		}
	}
}

// TestOwnerBehindExtender: a connection is of the device that has the address, and is
// not recorded if that is not to be, whoever tells of it.
func TestOwnerBehindExtender(t *testing.T) {
	phone := with(browse, func(c *conn) { c.srcMAC = extenderMAC })
	laptop := with(phone, func(c *conn) { c.src = "192.168.1.11:50000" })
	policy := Policy{Interfaces: []string{"br-lan"}, ExcludeMACs: map[client.MAC]bool{mac(laptopMAC): true}}

	clients := behindExtender(true)
	tab, got := newTable(clients, policy)
	play(t, tab, strings.NewReader(phone.end()+"\n"+laptop.end()))
	if flows := withoutLeftOut(*got); len(flows) != 1 || flows[0].Client != mac(phoneMAC) {
		t.Errorf("by events: %+v", *got)
	}
	left := map[string]uint64{"excluded_client " + laptopMAC: 6000}
	if sums := leftOutOf(*got); !maps.Equal(sums, left) {
		t.Errorf("by events %v are left out, want %v", sums, left)
	}
	if clients.seen[mac(phoneMAC)] == 0 || len(clients.seen) != 1 {
		t.Errorf("seen: %v", clients.seen)
	}

	k := newKernelTable(t, policy)
	k.clients = behindExtender(true)
	for i, src := range []string{"192.168.1.10:50000", "192.168.1.11:50000"} {
		e := k.add(kernelConn(uint32(i+1), TCP, src, https))
		moved(e, 100, 1000)
	}
	// The frames' MAC changes nothing.
	play(t, k.Table, strings.NewReader(phone.tls(`"sni":"a.example"`)+"\n"+laptop.tls(`"sni":"b.example"`)))
	k.after(3 * time.Second)
	if flows := withoutLeftOut(*k.got); len(flows) != 1 || flows[0].Client != mac(phoneMAC) || flows[0].Name != "a.example" {
		t.Errorf("by the kernel: %+v", *k.got)
	}
	left["excluded_client "+laptopMAC] = 1100
	if sums := leftOutOf(*k.got); !maps.Equal(sums, left) {
		t.Errorf("by the kernel %v are left out, want %v", sums, left)
	}
}

// TestOwnerIsKnownLater: what runs when it shows that a MAC is an extender's is given
// to its device, or left out.
func TestOwnerIsKnownLater(t *testing.T) {
	k := newKernelTable(t, Policy{Interfaces: []string{"br-lan"}, ExcludeMACs: map[client.MAC]bool{mac(laptopMAC): true}})
	later := behindExtender(true)
	k.clients = behindExtender(false)
	phone := k.add(kernelConn(1, TCP, "192.168.1.10:50000", https))
	laptop := k.add(kernelConn(2, TCP, "192.168.1.11:50000", https))
	moved(phone, 100, 1000)
	moved(laptop, 200, 2000)
	k.after(3 * time.Second)
	for _, f := range *k.got {
		if f.Client != mac(extenderMAC) {
			t.Errorf("before: %+v", f)
		}
	}
	*k.got = nil
	k.clients = later
	moved(phone, 1, 2)
	moved(laptop, 1, 2)
	k.after(3 * time.Second)
	states := map[State]client.MAC{}
	for _, f := range *k.got {
		states[f.State] = f.Client
	}
	if len(*k.got) != 3 || states[Running] != mac(phoneMAC) || states[LeftOut] != mac(laptopMAC) {
		t.Errorf("after: %+v", *k.got)
	}
	if _, ok := states[Void]; !ok {
		t.Errorf("what was recorded of the laptop stays: %+v", *k.got)
	}
}

// TestForgetBehindExtender: what a device behind an extender asked for is forgotten
// with it, and that of no other.
func TestForgetBehindExtender(t *testing.T) {
	phone := with(browse, func(c *conn) { c.srcMAC = extenderMAC })
	laptop := with(phone, func(c *conn) { c.src = "192.168.1.11:50000" })
	tab, got := newTable(behindExtender(true), Policy{Interfaces: []string{"br-lan"}})
	play(t, tab, strings.NewReader(phone.answer("a.example", "203.0.113.80")+"\n"+laptop.answer("b.example", "203.0.113.80")))
	tab.Forget(1, func(f *Flow) bool { return f.Client == mac(phoneMAC) })
	play(t, tab, strings.NewReader(phone.end()+"\n"+laptop.end()))
	if len(*got) != 2 || (*got)[0].Name != "" || (*got)[1].Name != "b.example" {
		t.Errorf("got %+v", *got)
	}
	*got = nil
	sixth := with(phone, func(c *conn) { c.src = "[2001:db8:1::10]:50000" })
	play(t, tab, strings.NewReader(sixth.end()))
	if len(*got) != 1 || (*got)[0].Name != "b.example" {
		t.Errorf("an address of neither: got %+v", *got)
	}
}
