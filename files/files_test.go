// Package files_test checks what is installed on the router: that it is
// complete, sound in form, and that the init scripts do what they are for.
package files_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const shebang = "#!/bin/sh /etc/rc.common\n"

var scripts = []string{"etc/init.d/pakon", "etc/init.d/pakon-monitor", "etc/init.d/suricata-pakon"}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// binary tells whether a file is no text.
func binary(path string) bool {
	return slices.Contains([]string{"usr/share/pakon-light/lists", "usr/share/pakon-light/vendors"}, path)
}

func TestLayout(t *testing.T) {
	for _, path := range append(slices.Clone(scripts), "etc/config/pakon", "usr/share/rpcd/acl.d/pakon.json",
		"usr/share/pakon-light/lists", "usr/share/pakon-light/vendors") {
		if info, err := os.Stat(path); err != nil {
			t.Error(err)
		} else if !info.Mode().IsRegular() {
			t.Errorf("%s: not a file", path)
		}
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) == ".go" {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := read(t, path)
		executable := strings.HasPrefix(content, "#!")
		if executable != (info.Mode()&0o111 == 0o111) || info.Mode()&0o022 != 0 {
			t.Errorf("%s: mode %v", path, info.Mode())
		}
		if strings.Contains(content, "\r") && !binary(path) {
			t.Errorf("%s: has carriage returns", path)
		}
		if filepath.Ext(path) == ".json" && !json.Valid([]byte(content)) {
			t.Errorf("%s: not JSON", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestScriptsParse(t *testing.T) {
	entries, err := os.ReadDir("etc/init.d")
	if err != nil || len(entries) < len(scripts) {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		path := filepath.Join("etc/init.d", e.Name())
		if !strings.HasPrefix(read(t, path), shebang) {
			t.Errorf("%s: does not begin with %q", path, shebang)
		}
		if out, err := exec.Command("sh", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}

func TestShellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("needs shellcheck in PATH")
	}
	if out, err := exec.Command(shellcheck, scripts...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestACL(t *testing.T) {
	type access struct {
		Ubus map[string][]string
		UCI  []string
	}
	var groups map[string]struct {
		Description string
		Read, Write access
	}
	if err := json.Unmarshal([]byte(read(t, "usr/share/rpcd/acl.d/pakon.json")), &groups); err != nil {
		t.Fatal(err)
	}
	pakon, ok := groups["pakon"]
	if !ok || len(groups) != 1 || pakon.Description == "" {
		t.Fatalf("groups: %v", groups)
	}
	for _, c := range []struct {
		name string
		got  access
		want string
	}{
		{"read", pakon.Read, "query summary clients status"},
		{"write", pakon.Write, "forget archive backup reload"},
	} {
		if got := strings.Join(c.got.Ubus["pakon"], " "); got != c.want || len(c.got.Ubus) != 1 {
			t.Errorf("%s: got %v, want %s", c.name, c.got.Ubus, c.want)
		}
		if !slices.Equal(c.got.UCI, []string{"pakon"}) {
			t.Errorf("%s: uci %v", c.name, c.got.UCI)
		}
	}
}

// rcCommon stands for OpenWrt's: it loads a script and runs an action, and
// writes down, instead of doing it, what the script asks of procd.
const rcCommon = `
log() { echo "$*" >>"$LOG"; }
procd_open_instance() { :; }
procd_close_instance() { :; }
procd_set_param() { log "param $*"; }
procd_add_reload_trigger() { log "trigger $*"; }
procd_open_validate() { :; }
procd_close_validate() { log "validation of$types"; }
uci_validate_section() { types="$types $1.$2"; }
start() { :; }
stop() { :; }
reload() { restart; }
restart() { stop; start; }
shutdown() { stop; }
. "$1"
if [ -n "$USE_PROCD" ]; then
	start() { start_service; service_triggers; log "procd set"; }
	stop() { stop_service; if [ -e "$RESTART" ]; then log "procd delete for a restart of $(cat "$RESTART")"; else log "procd delete"; fi; service_stopped; }
	reload() { reload_service; }
fi
PROG=pakon
PIDFILE=$LOG.pid
RESTART=$LOG.restart
"$2"
`

// run runs an action of a script with everything outside of it replaced, and
// returns what it asked for. answers is whether the daemon is on the bus, left
// what an interrupted restart has left.
func run(t *testing.T, script, action string, answers bool, left string) string {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	status := "1"
	if answers {
		status = "0"
	}
	write("log", "")
	write("log.pid", "4711\n")
	if left != "" {
		write("log.restart", left)
	}
	write("ubus", "#!/bin/sh\necho ubus \"$@\" >>\"$LOG\"\nexit "+status+"\n")
	write("flock", "#!/bin/sh\necho wait >>\"$LOG\"\n")
	write("pakon", "#!/bin/sh\necho pakon \"$@\" >>\"$LOG\"\n")
	write("rc.common", rcCommon)
	write("script", strings.ReplaceAll(read(t, "etc/init.d/"+script), "/etc/init.d/pakon", filepath.Join(dir, "pakon")))
	cmd := exec.Command("sh", filepath.Join(dir, "rc.common"), filepath.Join(dir, "script"), action)
	cmd.Env = []string{"LOG=" + log, "PATH=" + dir + ":" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s %s: %v %s", script, action, err, out)
	}
	if _, err := os.Stat(log + ".restart"); err == nil && action != "start" {
		t.Errorf("%s %s leaves the sign of a restart", script, action)
	}
	return read(t, log)
}

func TestScripts(t *testing.T) {
	const (
		set = "param command pakon daemon\n" +
			"param respawn 3600 5 0\n" +
			"param term_timeout 60\n" +
			"param stdout 1\nparam stderr 1\n" +
			"trigger pakon dhcp\n" +
			"validation of pakon.monitor pakon.archive pakon.archive_rule\n" +
			"procd set\n"
		ended      = "procd delete\nwait\n"
		cleaned    = "pakon daemon --clean\n"
		noSuricata = "ubus call service delete {\"name\":\"suricata-pakon\"}\n"
		askReload  = "ubus call pakon reload\n"
	)
	for _, c := range []struct {
		script, action string
		answers        bool
		want           string
	}{
		{"pakon", "start", true, set},
		{"pakon", "stop", true, ended + noSuricata + cleaned},
		{"pakon", "shutdown", true, ended + noSuricata + cleaned},
		{"pakon", "stop", false, ended + noSuricata + cleaned},
		{"pakon", "restart", true, "procd delete for a restart of 4711\nwait\n" + set},
		{"pakon", "reload", true, askReload},
		{"pakon", "reload", false, askReload + set},
		{"pakon-monitor", "start", true, "pakon start\n"},
		{"pakon-monitor", "stop", true, "pakon stop\n"},
		{"pakon-monitor", "restart", true, "pakon restart\n"},
		{"pakon-monitor", "reload", true, "pakon reload\n"},
		{"pakon-monitor", "status", true, "pakon status\n"},
		{"suricata-pakon", "start", true, "pakon reload\n"},
		{"suricata-pakon", "stop", true, noSuricata},
		{"suricata-pakon", "stop", false, noSuricata},
		{"suricata-pakon", "restart", true, noSuricata + "pakon reload\n"},
		{"suricata-pakon", "reload", true, "pakon reload\n"},
		{"suricata-pakon", "status", true, "pakon status\n"},
		{"suricata-pakon", "running", true, ""}, // run prints nothing, either
	} {
		if got := run(t, c.script, c.action, c.answers, ""); got != c.want {
			t.Errorf("%s %s, answers %v:\ngot\n%s\nwant\n%s", c.script, c.action, c.answers, got, c.want)
		}
	}
	// Of a restart that was interrupted before or after the daemon ended.
	for _, left := range []string{"4711\n", "815\n"} {
		for action, want := range map[string]string{
			"stop": ended + noSuricata + cleaned, "shutdown": ended + noSuricata + cleaned,
			"restart": "procd delete for a restart of 4711\nwait\n" + set, "start": set,
		} {
			if got := run(t, "pakon", action, true, left); got != want {
				t.Errorf("%s after an interrupted restart:\ngot\n%s\nwant\n%s", action, got, want)
			}
		}
	}
	if !strings.Contains(read(t, "etc/init.d/pakon"), "\nPROG=/usr/bin/pakon\n") {
		t.Error("the init script starts another program")
	}
}
