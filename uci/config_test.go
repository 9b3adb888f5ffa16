package uci

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// found is a problem without the parts that are the same everywhere.
func found(problems []Problem) []string {
	var out []string
	for _, p := range problems {
		s := p.Section
		if p.Option != "" {
			s += "." + p.Option
		}
		s += "=" + p.Value
		if p.Warning {
			s = "warning " + s
		}
		out = append(out, s)
	}
	return out
}

// with is the default configuration after f.
func with(f func(c *Config)) Config {
	c := Default()
	f(&c)
	return c
}

// TestValidation: what procd is told of the options names all of them.
func TestValidation(t *testing.T) {
	script, err := os.ReadFile("../files/etc/init.d/pakon")
	if err != nil {
		t.Fatal(err)
	}
	for typ, options := range known {
		_, validation, ok := strings.Cut(string(script), "uci_validate_section pakon "+typ+" ''")
		if !ok {
			t.Errorf("no validation of %s", typ)
		}
		validation, _, _ = strings.Cut(validation, "\n\tuci_")
		validation, _, _ = strings.Cut(validation, "\n\tprocd_")
		for _, o := range options {
			if !strings.Contains(validation, "'"+o+":") {
				t.Errorf("%s.%s is not validated", typ, o)
			}
		}
		if got := strings.Count(validation, "\t'"); got != len(options) {
			t.Errorf("%s: %d options validated, want %d", typ, got, len(options))
		}
	}
}

// TestReferenceFile: what is installed says in words what holds without it, but
// for the mode, which stays what it was for those who have a file from before.
func TestReferenceFile(t *testing.T) {
	content, err := os.ReadFile("../files/etc/config/pakon")
	if err != nil {
		t.Fatal(err)
	}
	in := etc(t, map[string]string{"pakon": string(content)})
	cfg, problems, err := Read(in)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	want := Default()
	want.Monitor.Mode = "auto"
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got %+v\nwant %+v", cfg, want)
	}
	pkg, err := Load(in, "pakon")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range pkg.Sections {
		for _, o := range known[s.Type] {
			if !strings.Contains(string(content), " "+o+" ") {
				t.Errorf("%s.%s is not in the file, not even in a comment", s.Type, o)
			}
		}
	}
}

func TestRead(t *testing.T) {
	monitor := "config monitor 'monitor'\n"
	archive := "config archive 'archive'\n"
	for name, c := range map[string]struct {
		file, staged string
		want         Config
		problems     []string
	}{
		"empty": {want: Default()},
		"the original's file": {
			file: monitor + "option notify_new_devices '1'\nlist interface 'br-lan'\noption mode 'filter'\noption database_limit '1000'\n" +
				archive + "option keep '2w'\noption path '/mnt/pakon.db'\noption database_limit '5'\nconfig archive_rule\noption up_to '1h'\noption window '10'\noption size_threshold '1'\n",
			want: with(func(c *Config) {
				c.Monitor.NotifyNewDevices, c.Monitor.Interfaces = true, []string{"br-lan"}
				c.Monitor.Mode, c.Monitor.DatabaseLimit = "filter", 1000
				c.Archive.Keep, c.Archive.Path, c.Archive.DatabaseLimit = 2*week, "/mnt/pakon.db", 5
				c.Rules = []Rule{{time.Hour, 10 * time.Second, 1}}
			}),
		},
		"interfaces in one option": {
			file: monitor + "option interface 'br-lan br-iot'\n",
			want: with(func(c *Config) { c.Monitor.Interfaces = []string{"br-lan", "br-iot"} }),
		},
		"one interface": {
			file: monitor + "option interface br-lan\n",
			want: with(func(c *Config) { c.Monitor.Interfaces = []string{"br-lan"} }),
		},
		"interfaces twice": {
			file: monitor + "list interface br-lan\nlist interface 'br-iot br-lan'\n",
			want: with(func(c *Config) { c.Monitor.Interfaces = []string{"br-lan", "br-iot"} }),
		},
		"one wrong interface": {
			file:     monitor + "list interface br-lan\nlist interface br/iot\nlist interface a-name-too-long1\nlist interface ..\n",
			want:     with(func(c *Config) { c.Monitor.Interfaces = []string{"br-lan"} }),
			problems: []string{"monitor.interface=br/iot", "monitor.interface=a-name-too-long1", "monitor.interface=.."},
		},
		"only wrong interfaces": {
			file: monitor + "list interface eth0:1\n", want: Default(), problems: []string{"monitor.interface=eth0:1"},
		},
		"booleans": {
			file: monitor + "option enabled disabled\noption notify_new_devices yes\n",
			want: with(func(c *Config) { c.Monitor.Enabled, c.Monitor.NotifyNewDevices = false, true }),
		},
		"wrong values": {
			file: monitor + "option enabled maybe\noption mode TAP\noption database_limit 0\n" +
				archive + "option path relative.db\noption keep 4y\noption database_limit 99999999999999999999\noption backup_interval 0\n",
			want: Default(),
			problems: []string{"monitor.enabled=maybe", "monitor.mode=TAP", "monitor.database_limit=0",
				"archive.path=relative.db", "archive.keep=4y", "archive.database_limit=99999999999999999999", "archive.backup_interval=0"},
		},
		"the rest holds": {
			file:     monitor + "option mode nfqueue\noption database_limit 7\n",
			want:     with(func(c *Config) { c.Monitor.DatabaseLimit = 7 }),
			problems: []string{"monitor.mode=nfqueue"},
		},
		"a list for a single value": {
			file: monitor + "list mode tap\nlist mode filter\n", want: Default(), problems: []string{"monitor.mode=tap filter"},
		},
		"exclusions": {
			file: monitor + "list exclude_client 00-11-22-AA-bb-cc\nlist exclude_client 'My PC'\nlist exclude_client 'aa:bb:cc'\nlist exclude_client \"a\tb\"\n" +
				"list exclude_client 10.8.0.2\nlist exclude_client FD00:8:0::2\nlist exclude_client ::ffff:10.8.0.3\nlist exclude_client fe80::1%wg0\n" +
				"option exclude_hostname '*.Example.ORG. 2001:DB8::1 bad..name bücher.de https://shop.example/x?y - 203.0.113.0/24'\n",
			want: with(func(c *Config) {
				c.Monitor.ExcludeClients = []string{"00:11:22:aa:bb:cc", "My PC", "10.8.0.2", "fd00:8::2", "10.8.0.3"}
				c.Monitor.ExcludeHostnames = []string{"example.org", "2001:db8::1", "xn--bcher-kva.de", "shop.example", "-"}
			}),
			problems: []string{"monitor.exclude_client=aa:bb:cc", "monitor.exclude_client=a\tb", "monitor.exclude_client=fe80::1%wg0",
				"monitor.exclude_hostname=bad..name", "monitor.exclude_hostname=203.0.113.0/24"},
		},
		"muted": {
			file: monitor + "list notify_mute 00-11-22-AA-bb-cc\nlist notify_mute 'My PC'\nlist notify_mute br-guest_turris\nlist notify_mute 'br:1'\nlist notify_mute 192.168.1.9\nlist notify_mute fd00::9\n",
			want: with(func(c *Config) {
				c.Monitor.NotifyMute = []string{"00:11:22:aa:bb:cc", "My PC", "br-guest_turris"}
			}),
			problems: []string{"monitor.notify_mute=br:1", "monitor.notify_mute=192.168.1.9", "monitor.notify_mute=fd00::9"},
		},
		"muted in one option": {
			file: monitor + "option notify_mute 'br-guest_turris phone'\n",
			want: with(func(c *Config) { c.Monitor.NotifyMute = []string{"br-guest_turris", "phone"} }),
		},
		"shown categories": {
			file:     monitor + "list show_category 'Time'\nlist show_category 'cdn browser'\nlist show_category 'a1'\n",
			want:     with(func(c *Config) { c.Monitor.ShowCategories = []string{"time", "cdn", "browser"} }),
			problems: []string{"monitor.show_category=a1"},
		},
		"clients in one option": {
			file: monitor + "option exclude_client 'phone 00:11:22:33:44:55'\n",
			want: with(func(c *Config) { c.Monitor.ExcludeClients = []string{"phone", "00:11:22:33:44:55"} }),
		},
		"unknown names": {
			file:     monitor + "option interfaces br-lan\nconfig cache\noption size 5\n" + archive,
			want:     Default(),
			problems: []string{"warning monitor.interfaces=br-lan", "warning @cache[0]="},
		},
		"two monitors": {
			file:     "config monitor\noption mode auto\n" + monitor + "option mode filter\nconfig archive 'a'\noption keep 1d\n",
			want:     with(func(c *Config) { c.Monitor.Mode, c.Archive.Keep = "filter", day }),
			problems: []string{"warning @monitor[0]="},
		},
		"rules": {
			file: "config archive_rule\noption up_to 7d\noption window 1h\nconfig archive_rule 'extra'\noption up_to 2w\noption window 0\noption size_threshold 10\n",
			want: with(func(c *Config) { c.Rules = []Rule{{7 * day, time.Hour, 0}, {2 * week, 0, 10}} }),
		},
		"wrong in rules": {
			file: "config archive_rule\noption up_to x\noption window 5\nconfig archive_rule\noption up_to 0\noption size_threshold -1\nconfig archive_rule\noption up_to 8d\noption window 1.5h\n",
			want: with(func(c *Config) {
				c.Rules = []Rule{{day, 5 * time.Second, 0}, {3 * day, 900 * time.Second, 8192}, {8 * day, 1800 * time.Second, 0}}
			}),
			problems: []string{"@archive_rule[0].up_to=x", "@archive_rule[1].window=", "@archive_rule[1].up_to=0", "@archive_rule[1].size_threshold=-1", "@archive_rule[2].window=1.5h"},
		},
		"a fifth rule without a default": {
			file: strings.Repeat("config archive_rule\noption up_to 30d\noption window 60\n", 4) + "config archive_rule\noption window 60\n",
			want: with(func(c *Config) {
				r := Rule{30 * day, time.Minute, 0}
				c.Rules = []Rule{r, r, r, r}
			}),
			problems: []string{"warning @archive_rule[1].up_to=30d", "warning @archive_rule[2].up_to=30d", "warning @archive_rule[3].up_to=30d", "@archive_rule[4].up_to="},
		},
		"too many rules": {
			file: strings.Repeat("config archive_rule\noption up_to 1h\noption window 60\n", maxRules+2),
			want: with(func(c *Config) {
				c.Rules = slices.Repeat([]Rule{{time.Hour, time.Minute, 0}}, maxRules)
			}),
			problems: func() (all []string) {
				for i := 1; i < maxRules; i++ {
					all = append(all, fmt.Sprintf("warning @archive_rule[%d].up_to=1h", i))
				}
				return append(all, fmt.Sprintf("warning @archive_rule[%d]=", maxRules))
			}(),
		},
		"staged": {
			file: monitor + "list interface br-lan\n" + archive + "config archive_rule\noption up_to 1d\noption window 60\n",
			staged: "pakon.monitor.interface='br-iot'\n|pakon.monitor.interface='br-dmz'\npakon.archive.keep='8w'\n-pakon.cfg03d93e\n" +
				"@pakon.monitor='renamed'\npakon.archive.back", // cut off while it was written
			want: with(func(c *Config) {
				c.Monitor.Interfaces, c.Archive.Keep = []string{"br-iot", "br-dmz"}, 8*week
			}),
		},
		"sections of one name": {
			file:   monitor + "option mode filter\n" + archive,
			staged: "@pakon.archive='monitor'\n",
			want:   with(func(c *Config) { c.Monitor.Mode = "filter" }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := etc(t, map[string]string{"pakon": c.file, ".pakon": c.staged})
			cfg, problems, err := Read(in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(cfg, c.want) {
				t.Errorf("got  %+v\nwant %+v", cfg, c.want)
			}
			if got := found(problems); !reflect.DeepEqual(got, c.problems) {
				t.Errorf("problems\ngot  %q\nwant %q", got, c.problems)
			}
			for _, p := range problems {
				if p.File != filepath.Join(in.Config, "pakon") || p.Want == "" {
					t.Errorf("incomplete: %+v", p)
				}
			}
		})
	}
}

func TestReadMissing(t *testing.T) {
	cfg, problems, err := Read(Folders{Config: filepath.Join(t.TempDir(), "none"), Staged: t.TempDir()})
	if err != nil || problems != nil || !reflect.DeepEqual(cfg, Default()) {
		t.Error(cfg, problems, err)
	}
}

func TestReadRefused(t *testing.T) {
	in := etc(t, map[string]string{"pakon": "config monitor\n\toption mode filter\n\toption mode 'x\n"})
	cfg, _, err := Read(in)
	var parse *ParseError
	if !errors.As(err, &parse) || parse.Line != 3 || !reflect.DeepEqual(cfg, Default()) {
		t.Error(cfg, err)
	}
}

func TestProblemOnOneLine(t *testing.T) {
	p := Problem{File: "/etc/config/pakon", Section: "monitor", Option: "mode", Value: "a\nb\x1b[31m" + strings.Repeat("é", 300), Want: wantMode}
	got := p.Error()
	want := `/etc/config/pakon: monitor.mode="a\nb\x1b[31m`
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, ": want tap, filter or auto") || len(got) > 300 || strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("got %s", got)
	}
}

func TestManyProblems(t *testing.T) {
	in := etc(t, map[string]string{"pakon": strings.Repeat("config nonsense\n", 3*maxProblems)})
	_, problems, err := Read(in)
	if err != nil || len(problems) != maxProblems {
		t.Error(len(problems), err)
	}
}

var durations = []struct {
	s    string
	want time.Duration
	ok   bool
}{
	{"60", time.Minute, true}, {"60s", time.Minute, true}, {"5m", 5 * time.Minute, true}, {"2h", 2 * time.Hour, true},
	{"1d", 24 * time.Hour, true}, {"4w", 28 * 24 * time.Hour, true}, {"0", 0, true}, {"0w", 0, true}, {"007", 7 * time.Second, true},
	{"9223372036", 9223372036 * time.Second, true}, {"9223372037", 0, false}, {"15250w", 15250 * week, true}, {"15251w", 0, false},
	{"9223372036854775807", 0, false}, {"18446744073709551616", 0, false}, {"99999999999999999999999w", 0, false},
	{"", 0, false}, {"s", 0, false}, {"-1", 0, false}, {"+1", 0, false}, {"1.5h", 0, false}, {"1h30m", 0, false}, {" 1", 0, false},
	{"1 s", 0, false}, {"1D", 0, false}, {"1y", 0, false}, {"0x10", 0, false}, {"1_000", 0, false}, {"é", 0, false},
}

func TestParseDuration(t *testing.T) {
	for _, c := range durations {
		got, err := ParseDuration(c.s)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: got %v, %v; want %v", c.s, got, err, c.want)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, c := range durations {
		f.Add(c.s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if d < 0 || err != nil && d != 0 {
			t.Fatalf("%q: %v, %v", s, d, err)
		}
		if err != nil {
			return
		}
		if d%time.Second != 0 {
			t.Fatalf("%q: %v is not whole seconds", s, d)
		}
		if again, err := ParseDuration(fmt.Sprint(int64(d / time.Second))); err != nil || again != d {
			t.Fatalf("%q: %v, and in seconds %v, %v", s, d, again, err)
		}
	})
}

func TestParseBytes(t *testing.T) {
	if n, ok := parseBytes(fmt.Sprint(int64(math.MaxInt64))); !ok || n != math.MaxInt64 {
		t.Error(n, ok)
	}
	if _, ok := parseBytes(fmt.Sprint(uint64(math.MaxInt64) + 1)); ok {
		t.Error("a number beyond 63 bits")
	}
}
