package lease

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"pakon/uci"
)

// named is a host with one MAC.
func named(name string, last int) uci.Host {
	return uci.Host{Name: name, MACs: []string{fmt.Sprintf("00:11:22:33:44:%02x", last)}}
}

func TestReadHosts(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"ethers": "# mine\n00:11:22:33:44:01 one\nnonsense\n00:11:22:33:44:02\ttwo\n",
		"file":   "# mine\n\n00:11:22:33:44:03,three # of mine\n00:11:22:33:44:04,\"four\",1h\n00:11:22:33:44:0g,bad\n00:11:22:33:44:05,set:iot\n",
		"d/b":    "00:11:22:33:44:06,six\n", "d/a": "00:11:22:33:44:07,seven\n",
		"d/.hidden": "00:11:22:33:44:08,eight\n", "d/old~": "00:11:22:33:44:09,nine\n", "d/#edited#": "00:11:22:33:44:0a,ten\n", "d/sub/c": "00:11:22:33:44:0b,eleven\n",
		"empty/.keep": "",
	} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, fifo := range []string{"d/fifo", "fifo"} {
		if err := unix.Mkfifo(at(fifo), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hosts, skipped, err := ReadHosts(at("ethers"), []string{at("file"), at("d"), at("empty"), at("missing")})
	want := []uci.Host{named("one", 1), named("two", 2), named("three", 3), named("four", 4), named("", 5), named("seven", 7), named("six", 6)}
	if !reflect.DeepEqual(hosts, want) || skipped != 2 || err != nil {
		t.Errorf("got  %+v, skipped %d, error %v\nwant %+v", hosts, skipped, err, want)
	}
	// What can not be read does not keep the others from being read.
	hosts, _, err = ReadHosts(at("d"), []string{at("fifo"), at("d/b")})
	if !reflect.DeepEqual(hosts, want[6:]) || err == nil || !strings.Contains(err.Error(), at("fifo")) || !strings.Contains(err.Error(), at("d")+":") {
		t.Errorf("got %+v, error %v", hosts, err)
	}
}

func TestHostsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	var b strings.Builder
	for i := range maxHosts + 3 {
		fmt.Fprintf(&b, "02:00:00:00:%02x:%02x,name%d\n", i>>8, i&255, i)
	}
	b.WriteString("02:00:00:00:ff:ff," + strings.Repeat("x", maxLine) + "\n")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if hosts, skipped, err := ReadHosts("", []string{path}); len(hosts) != maxHosts || skipped != 4 || err != nil {
		t.Errorf("%d hosts, skipped %d, error %v", len(hosts), skipped, err)
	}
}

// FuzzHosts: whatever a line says, its host is as uci.Host promises.
func FuzzHosts(f *testing.F) {
	for _, line := range []string{"00:11:22:33:44:03,three # x", "\"a\",1.2.3.4", "id:00:03,[fd00::1],b,infinite", "06-0:1:2:3:4:5 c", "00:11:22:33:44:55 192.168.1.1"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, parse := range []func(string) (uci.Host, bool){parseHost, uci.ParseEthers} {
			h, ok := parse(line)
			if !ok {
				continue
			}
			if !utf8.ValidString(h.Name) || len(h.Name) > maxName || strings.ContainsFunc(h.Name, unicode.IsControl) {
				t.Errorf("name %q", h.Name)
			}
			for _, m := range h.MACs {
				if _, ok := parseMAC(m); !ok || len(m) != 17 {
					t.Errorf("MAC %q", m)
				}
			}
			for _, id := range h.IDs {
				if b, ok := parseOctets(id, maxID); !ok || formatOctets(b) != id && len(id) > 2 {
					t.Errorf("client identifier %q", id)
				}
			}
			for _, a := range h.Addrs {
				if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
					t.Errorf("address %v", a)
				}
			}
		}
	})
}
