package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pakon/tests/rig"
)

// TestDemoWithoutRoot: the demo plays its capture file through Suricata and
// shows all that is in it.
func TestDemoWithoutRoot(t *testing.T) {
	if _, err := exec.LookPath("suricata"); err != nil {
		t.Skipf("needs Suricata: %v", err)
	}
	demo := func(capture string) (string, error) {
		out, err := rig.Output(t.Context(), filepath.Join(programs, "demo"), "-once", "-replay", "-capture", capture,
			"-pakon", filepath.Join(programs, "pakon"), "-ubus", filepath.Join(programs, "ubus"))
		return string(out), err
	}
	out, err := demo("testdata/demo")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"# pakon-show -s -1d", "Guest-tablet", "weather.test", "# ubus call pakon query"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
	// One that must not succeed: a capture in which something is lacking.
	list, err := os.ReadFile("testdata/demo.json")
	if err != nil {
		t.Fatal(err)
	}
	lacking := filepath.Join(t.TempDir(), "lacking")
	changed := strings.Replace(string(list), "weather.test", "elsewhere.test", 1)
	capture, err := os.ReadFile("testdata/demo.pcap")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{lacking + ".json": changed, lacking + ".pcap": string(capture)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := demo(lacking); err == nil || !strings.Contains(err.Error(), "elsewhere.test") {
		t.Errorf("the demo did not say that elsewhere.test is missing: %v\n%s", err, out)
	}
}
