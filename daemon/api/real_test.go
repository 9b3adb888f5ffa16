package api

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pakon/daemon/flow"
	"pakon/tests/limits"
	"pakon/ubus"
)

// TestRealUbus calls the object with OpenWrt's own tool through its own broker,
// where they are: UBUS_TOOLS names a directory with sbin/ubusd and bin/ubus.
func TestRealUbus(t *testing.T) {
	dir := os.Getenv("UBUS_TOOLS")
	if dir == "" {
		t.Skip("UBUS_TOOLS is not set: no real ubusd to talk to")
	}
	socket := filepath.Join(t.TempDir(), "ubus.sock")
	broker := exec.Command(filepath.Join(dir, "sbin/ubusd"), "-s", socket)
	broker.Stderr = os.Stderr
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Process.Kill(); broker.Wait() })
	for deadline := time.Now().Add(limits.For(10 * time.Second)); ; time.Sleep(time.Millisecond) {
		if c, err := ubus.Dial(t.Context(), socket); err == nil {
			c.Close()
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	var flows []flow.Flow
	for i := range 5000 {
		flows = append(flows, aFlow(20*time.Hour-time.Duration(i)*time.Second, func(f *flow.Flow) {
			f.Name = fmt.Sprintf("%0*d.fbcdn.net", 200, i)
		}))
	}
	r := newRigOn(t, socket, Config{Store: openStore(t, flows...)})
	// call runs `ubus call`: the reply, and the status as -S tells it.
	call := func(method, args string) (reply ubus.Table, status int) {
		t.Helper()
		cmd := exec.Command(filepath.Join(dir, "bin/ubus"), "-s", socket, "-S", "call", "pakon", method, args)
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if len(out) > 0 {
			if reply, err = ubus.FromJSON(out); err != nil {
				t.Fatalf("%s %s: %v: %.200s", method, args, err, out)
			}
		}
		return reply, 0
	}
	for args, want := range map[string]int{
		`{}`:                                     1000,
		`{"limit":"7","mac":["laptop"]}`:         7,
		`{"limit":7,"start":"-7d","filter":"0"}`: 7,
		`{"mac":"nobody"}`:                       0,
		`{"start":99999999999}`:                  0,
		`{"aggregate":true,"hostname":"fbcdn.net","direction":"both"}`: 1,
	} {
		reply, status := call("query", args)
		if rows, _ := reply.Array("flows"); status != 0 || len(rows) != want {
			t.Errorf("query %s: status %d, %d flows, want %d", args, status, len(rows), want)
		}
	}
	total, cursor := 0, ""
	for page := 0; page == 0 || cursor != ""; page++ {
		reply, status := call("query", `{"limit":10000,"start":"-1d","cursor":"`+cursor+`"}`)
		if status != 0 {
			t.Fatalf("page %d: status %d", page, status)
		}
		rows, _ := reply.Array("flows")
		total += len(rows)
		cursor, _ = reply.String("next")
	}
	if total != len(flows) {
		t.Errorf("%d flows in all pages, want %d", total, len(flows))
	}
	if _, status := call("query", `{"start":"soon"}`); status != int(ubus.StatusInvalidArgument) {
		t.Errorf("wrong argument: status %d", status)
	}
	if log := r.log.take(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "argument=start") {
		t.Errorf("log:\n%s", log)
	}
	if _, status := call("dance", `{}`); status != int(ubus.StatusMethodNotFound) {
		t.Errorf("a method that is not there: status %d", status)
	}
	list, err := exec.Command(filepath.Join(dir, "bin/ubus"), "-s", socket, "-v", "list", "pakon").Output()
	if err != nil || !strings.Contains(string(list), `"query":{"start":"String","end":"String","mac":"Array"`) {
		t.Errorf("ubus -v list: %v\n%s", err, list)
	}
}
