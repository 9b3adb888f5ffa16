package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// TestMadeUpDevices: who makes up devices pushes out none of the house and floods
// nobody with notices, and who takes a name of another's is not that one.
func TestMadeUpDevices(t *testing.T) {
	t.Parallel()
	const phone, intruder, tv, camera, old = "3c:06:30:0c:00:01", "fe:9a:2c:0c:00:02", "3c:06:30:0c:00:03", "d8:0d:17:0c:00:04", "fe:9a:2c:0c:00:05"
	r, s := home(t, []router.Device{{Network: router.LAN, MAC: phone}, {Network: router.LAN, MAC: intruder}}, []rig.Host{{Name: "TV", MACs: []string{tv}}})
	notices := listen(t, s)

	// The list of devices is full of made-up ones that were seen after those of the house.
	const kept, limit = "srv/pakon/devices.json", 4096
	const day = 24 * time.Hour
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	lines := []string{
		fmt.Sprintf(`{"mac":%q,"first":%d,"last":%[2]d,"told":true}`, tv, ago(300*day)),
		fmt.Sprintf(`{"mac":%q,"first":%d,"last":%d,"told":true}`, camera, ago(50*day), ago(40*day)),
		fmt.Sprintf(`{"mac":%q,"first":%d,"last":%d,"told":true}`, old, ago(200*day), ago(100*day)),
		fmt.Sprintf(`{"mac":%q,"first":%d,"last":%d,"lease":"Annas-phone","told":true}`, phone, ago(50*day), ago(2*time.Hour)),
	}
	for i := len(lines); i < limit; i++ {
		lines = append(lines, fmt.Sprintf(`{"mac":"3c:06:30:f0:%02x:%02x","first":%d,"last":%[3]d,"told":true}`, i>>8, i&0xff, ago(time.Hour)))
	}
	if err := os.Mkdir(s.Root.Path("srv/pakon"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Root.Write(kept, "{\"devices\":[\n"+strings.Join(lines, ",\n")+"\n]}\n"); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, "--no-suricata")

	leases := ""
	give := func(mac string, address fmt.Stringer, name string) {
		leases += fmt.Sprintf("%d %s %v %s *\n", time.Now().Add(time.Hour).Unix(), mac, address, name)
	}
	write := func() {
		t.Helper()
		if err := s.Root.Write(leaseFile, leases); err != nil {
			t.Fatal(err)
		}
	}
	// The intruder asks first, and the file of leases is new.
	give(intruder, r.Clients()[1].V4, "Annas-phone")
	write()
	for _, c := range r.Clients() {
		if _, err := c.Fetch(t.Context(), router.Request{Site: "www.example.org", Protocol: router.HTTP, Receive: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	const called = "Annas-phone 00:02"
	awaitDevice(t, s, intruder, func(d rig.Device) bool { return d.Name == called })
	awaitFlows(t, s, 2)
	give(phone, r.Clients()[0].V4, "Annas-phone")
	const many = 60
	address := r.Clients()[0].V4
	for i := range many {
		address = address.Next()
		give(fmt.Sprintf("3c:06:30:f1:00:%02x", i), address, "*")
	}
	write()

	// All are told, or counted, once the list says so.
	if err := s.Until(t.Context(), 2*nameTime, func(context.Context) (bool, error) {
		text, err := os.ReadFile(s.Root.Path(kept))
		if err != nil {
			return false, err
		}
		var list struct {
			Devices []struct {
				MAC  string
				Told bool
			}
		}
		if err := json.Unmarshal(text, &list); err != nil {
			return false, err
		}
		told := 0
		for _, d := range list.Devices {
			if strings.HasPrefix(d.MAC, "3c:06:30:f1:") && d.Told {
				told++
			}
		}
		return told == many, nil
	}); err != nil {
		t.Fatal(err)
	}
	known := devicesOf(t, s)
	if len(known) != limit-1 { // one is folded away
		t.Errorf("%d devices are shown", len(known))
	}
	if _, shown := known[old]; shown {
		t.Error("a random MAC that was not seen for 100 days is shown among the others")
	}
	for mac, name := range map[string]string{tv: "TV", camera: "TP-Link 00:04", phone: "Annas-phone", intruder: called} {
		if d := known[mac]; d.Name != name {
			t.Errorf("%s is %+v, want %q", mac, d, name)
		}
	}

	for name, mac := range map[string]string{"annas-phone": phone, called: intruder, strings.ReplaceAll(phone, ":", ""): phone} {
		flows, _, err := s.Query(t.Context(), map[string]any{"filter": false, "mac": []string{name}})
		if err != nil || len(flows) != 1 || flows[0].MAC != mac {
			t.Errorf("by %q there are %+v: %v", name, flows, err)
		}
	}
	out, err := exec.CommandContext(t.Context(), s.Pakon, "forget", "-y", "-m", "Annas-phone", "--ubus-socket", s.Root.Socket()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "1 flow was deleted") {
		t.Errorf("forget: %v, %s", err, out)
	}
	if left, _, err := s.Query(t.Context(), map[string]any{"filter": false}); err != nil || len(left) != 1 || left[0].MAC != intruder {
		t.Errorf("left are %+v: %v", left, err)
	}

	// At the end, what was held back is told in one.
	if err := s.StopDaemon(); err != nil {
		t.Fatal(err)
	}
	got, err := notices.now()
	if err != nil {
		t.Fatal(err)
	}
	byHook := got[1]
	const most = 10
	if len(byHook) != most+1 || !slices.Contains(byHook, intruder+"|"+called+"||"+r.Clients()[1].V4.String()+"|"+router.LAN+"||0") {
		t.Fatalf("%d notices:\n%s", len(byHook), strings.Join(byHook, "\n"))
	}
	if want := fmt.Sprintf("||%d", 1+many-most-1); !strings.HasSuffix(byHook[most], want) {
		t.Errorf("the last notice is %q, want %q at its end", byHook[most], want)
	}
}
