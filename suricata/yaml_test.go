package suricata

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestYAMLDependsOnTheSettingsAlone(t *testing.T) {
	t.Parallel()
	a := YAML(Settings{Interfaces: []string{"br-lan", "br-guest", "br-lan"}, RunDir: "/var/run/pakon", Major: 7})
	b := YAML(Settings{Interfaces: []string{"br-guest", "br-lan"}, RunDir: "/var/run/pakon", Major: 7})
	if !bytes.Equal(a, b) {
		t.Error("order and repetition of interfaces matter")
	}
	for name, s := range map[string]Settings{
		"interfaces": {Interfaces: []string{"br-lan"}, RunDir: "/var/run/pakon", Major: 7},
		"folder":     {Interfaces: []string{"br-guest", "br-lan"}, RunDir: "/run/pakon", Major: 7},
		"major":      {Interfaces: []string{"br-guest", "br-lan"}, RunDir: "/var/run/pakon", Major: 8},
		"version":    {Interfaces: []string{"br-guest", "br-lan"}, RunDir: "/var/run/pakon", Major: 7, Version: "7.0.10"},
		"NFLOG":      {NFLOGGroup: 5, Interfaces: []string{"br-guest", "br-lan"}, RunDir: "/var/run/pakon", Major: 7},
	} {
		if bytes.Equal(a, YAML(s)) {
			t.Errorf("%s: no difference", name)
		}
	}
}

func TestValid(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"br-lan": true, "br-guest_turris": true, "wlan0-1.sta3": true, `a"b\c'#{`: true, "é": true, "\x01": true,
		"": false, "0123456789abcdef": false, "a/b": false, "\xff": false, "a\x00b": false,
	} {
		if got := Valid(name); got != want {
			t.Errorf("Valid(%q) = %v", name, got)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                    `""`,
		"br-lan":              `"br-lan"`,
		`a"b\c`:               `"a\"b\\c"`,
		"no: # [x]\n\t\x7f":   `"no: # [x]\x0a\x09\x7f"`,
		"é\u0085\u2028\ufeff": `"é\x85\u2028\ufeff"`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}

// dumpConfig returns the settings as the real suricata understands the file, "a.b.0.c = value" a line.
func dumpConfig(t *testing.T, s Settings) map[string]string {
	t.Helper()
	binary, err := Find("")
	if err != nil {
		t.Skip("needs a real suricata: ", err)
	}
	path := filepath.Join(t.TempDir(), ConfigFile)
	if err := os.WriteFile(path, YAML(s), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "--dump-config", "-c", path).CombinedOutput()
	if err != nil {
		t.Fatalf("suricata --dump-config: %v: %s", err, out)
	}
	conf := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\n"), " = "); ok {
			conf[k] = v
		}
	}
	return conf
}

func TestYAMLAsSuricataReadsIt(t *testing.T) {
	t.Parallel()
	names := []string{"br-lan", "yes", "~", "0x10", `a"b'c\d#e`, "&x*y!z|{}[]", "%@`,-?", "é€", "default", "\x02\x7f\u0085"}
	dir := `/tmp/a "run" dir: #1`
	for _, major := range []int{7, 8} {
		conf := dumpConfig(t, Settings{Interfaces: names, RunDir: dir, Major: major})
		want := map[string]string{
			"suricata-version":                                           fmt.Sprintf("%d.0", major),
			"default-log-dir":                                            dir,
			"outputs.0.eve-log.filename":                                 dir + "/eve.sock",
			"outputs.0.eve-log.filetype":                                 "unix_stream",
			"outputs.0.eve-log.ethernet":                                 "yes",
			"outputs.0.eve-log.types.0.dns.requests":                     "no",
			"outputs.0.eve-log.types.0.dns.responses":                    "yes",
			"outputs.0.eve-log.types.3":                                  "http2",
			"app-layer.protocols.http2.enabled":                          "yes",
			"logging.outputs.1.file.filename":                            dir + "/suricata.log",
			"logging.outputs.1.file.format":                              "%d: %M",
			"app-layer.protocols.tls.encryption-handling":                "bypass",
			"capture.disable-offloading":                                 "false",
			"defrag.prealloc":                                            "no",
			"stats.interval":                                             "10",
			"flow-timeouts.tcp.bypassed":                                 "30",
			"stream.reassembly.depth":                                    "64kb",
			"app-layer.protocols.http.libhtp.default-config.personality": "IDS",
		}
		sorted := Settings{Interfaces: names}.captured()
		if len(sorted) != len(names) {
			t.Fatalf("%d of %d names are valid", len(sorted), len(names))
		}
		ids := map[string]bool{}
		for i, n := range sorted {
			want[fmt.Sprintf("af-packet.%d.interface", i)] = n
			want[fmt.Sprintf("af-packet.%d.tpacket-v3", i)] = "yes"
			ids[conf[fmt.Sprintf("af-packet.%d.cluster-id", i)]] = true
		}
		if len(ids) != len(names) {
			t.Errorf("%d cluster ids for %d interfaces", len(ids), len(names))
		}
		for k, v := range want {
			if conf[k] != v {
				t.Errorf("major %d: %s is %q, want %q", major, k, conf[k], v)
			}
		}
	}
	conf := dumpConfig(t, Settings{NFLOGGroup: 5, RunDir: dir, Major: 8})
	for k, v := range map[string]string{"nflog.0.group": "5", "nflog.0.qthreshold": "1", "outputs.0.eve-log.ethernet": "no"} {
		if conf[k] != v {
			t.Errorf("NFLOG: %s is %q, want %q", k, conf[k], v)
		}
	}
	if _, ok := conf["af-packet.0.interface"]; ok {
		t.Error("NFLOG: captures from interfaces too")
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"br-lan", "a\"b\\", "\n", "é\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := quote(s)
		if len(q) < 2 || q[0] != '"' || q[len(q)-1] != '"' {
			t.Fatalf("quote(%q) = %s", s, q)
		}
		for i := 1; i < len(q)-1; i++ {
			switch {
			case q[i] == '\\':
				i++
				if i == len(q)-1 {
					t.Fatalf("quote(%q) = %s: the closing quote is escaped", s, q)
				}
			case q[i] == '"' || q[i] < ' ':
				t.Fatalf("quote(%q) = %s: bare %q", s, q, q[i])
			}
		}
	})
}
