package tests

import (
	"bufio"
	"fmt"
	"testing"
	"time"

	"pakon/tests/rig"
)

// aHead begins an event of a connection from a device to a port of a far end.
func aHead(ago time.Duration, id int, mac, client, remote, proto string, port int) string {
	return fmt.Sprintf(`{"timestamp":%q,"flow_id":%d,"in_iface":"br-lan","src_ip":%q,"src_port":%d,"dest_ip":%q,"dest_port":%d,"proto":%q,"ether":{"src_mac":%q,"dest_mac":"d8:58:d7:00:00:01"}`,
		eventTime(ago), id, client, 10_000+id%50_000, remote, port, proto, mac)
}

// anAnswer is the event of an answer of the DNS to a device.
func anAnswer(ago time.Duration, id int, mac, client, name, address string) string {
	return aHead(ago, id, mac, client, "192.168.1.1", "UDP", 53) +
		fmt.Sprintf(`,"event_type":"dns","dns":{"version":2,"type":"answer","id":1,"rrname":%q,"rrtype":"A","rcode":"NOERROR","answers":[{"rrname":%[1]q,"rrtype":"A","ttl":86400,"rdata":%q}]}}`, name, address) + "\n"
}

// TestMadeUpClientsTakeNoNames: clients that are made up, with a question each or with
// many, take from those of the house none of the names that they know by the DNS.
func TestMadeUpClientsTakeNoNames(t *testing.T) {
	t.Parallel()
	s := newSystem(t, rig.Here, nil)
	startDaemon(t, s, "--no-suricata")
	const address = "203.0.113.80"
	type client struct{ mac, addr, name string }
	house := []client{
		{"3c:06:30:0d:00:01", "192.168.1.11", "since-yesterday.example.org"}, // has asked for much, and asks again
		{"3c:06:30:0d:00:02", "192.168.1.12", "just-now.example.org"},        // came before the others
	}
	tell(t, s, func(w *bufio.Writer) {
		id := 1
		answer := func(ago time.Duration, c client, address string) {
			w.WriteString(anAnswer(ago, id, c.mac, c.addr, c.name, address))
			id++
		}
		answer(3*time.Hour, house[0], address)
		for i := range 400 {
			answer(10*time.Minute, client{house[0].mac, house[0].addr, fmt.Sprintf("n%d.example.org", i)}, fmt.Sprintf("203.0.%d.%d", 114+i>>8, i&0xff))
		}
		answer(5*time.Minute, house[1], address)
		for i := range 2000 {
			answer(4*time.Minute, client{fmt.Sprintf("fe:00:00:00:%02x:%02x", i>>8, i&0xff), fmt.Sprintf("192.168.1.%d", 100+i%100), "made-up.example"}, address)
		}
		for i := range 20_000 {
			answer(3*time.Minute, client{fmt.Sprintf("fe:00:01:00:00:%02x", i%32), fmt.Sprintf("192.168.1.%d", 50+i%32), "made-up.example"}, fmt.Sprintf("198.51.%d.%d", i>>8, i&0xff))
		}
		for _, c := range house {
			w.WriteString(aHead(time.Second, id, c.mac, c.addr, address, "UDP", 443) +
				`,"event_type":"flow","app_proto":"failed","flow":{"pkts_toserver":9,"pkts_toclient":9,"bytes_toserver":9000,"bytes_toclient":9000,` +
				fmt.Sprintf(`"start":%q,"end":%[1]q,"state":"established"}}`, eventTime(time.Second)) + "\n")
			id++
		}
	})
	awaitFlows(t, s, len(house))
	flows, _, err := s.Query(t.Context(), map[string]any{"filter": false})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, f := range flows {
		got[f.MAC] = f.Hostname
	}
	for _, c := range house {
		if got[c.mac] != c.name {
			t.Errorf("%s talked to %q, want %q", c.mac, got[c.mac], c.name)
		}
	}
}
