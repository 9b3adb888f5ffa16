package show

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pakon/ubus"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "  0B", 1: "  1B", 1023: "1023B", 1024: "  1KiB", 35840: " 35KiB", 429056: "419KiB", 1048575: "1024KiB",
		1 << 20: "  1MiB", 1 << 30: "  1GiB", 1 << 40: "1TiB", 3 << 50: "3072TiB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPortName(t *testing.T) {
	for _, tt := range []struct {
		port  int64
		proto string
		want  string
	}{
		{443, "tcp", "https"}, {443, "udp", "443/udp"}, {80, "tcp", "http"}, {22, "tcp", "ssh"}, {53, "udp", "dns"},
		{53, "tcp", "dns"}, {143, "tcp", "imap"}, {993, "tcp", "imaps"}, {25, "tcp", "smtp"}, {587, "tcp", "smtp"},
		{465, "tcp", "smtps"}, {110, "tcp", "pop3"}, {995, "tcp", "pop3s"}, {22, "udp", "22/udp"}, {8080, "tcp", "8080/tcp"},
		{0, "udp", "/udp"}, {443, "", "443"}, {0, "", ""},
	} {
		if got := portName(tt.port, tt.proto); got != tt.want {
			t.Errorf("portName(%d, %q) = %q, want %q", tt.port, tt.proto, got, tt.want)
		}
	}
}

func TestShortHost(t *testing.T) {
	forty := strings.Repeat("ř", 39) + "z"
	for in, want := range map[string]string{"": "", forty: forty, "a" + forty: "..." + forty, "abc" + forty: "..." + forty} {
		if got := shortHost(in); got != want {
			t.Errorf("shortHost(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m 1s", 2 * time.Hour: "2h 0m", 49*time.Hour + time.Minute: "2d 1h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

// No text, whatever it is, gives a terminal a command or a table a bar.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"example.org", "háčky", "\x1b]0;title\a", "a|b", "\x00\xff\xfe", "\u202e\u200b\u2028", "\U000e0001", "\ufffd", "\u009b31m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range cell(s) {
			if !unicode.IsPrint(r) || r == '|' {
				t.Fatalf("cell(%q) = %q", s, cell(s))
			}
		}
		if n := utf8.RuneCountInString(shortHost(clean(s))); n > 43 {
			t.Fatalf("a host of %d characters", n)
		}
		quoted := appendJSONString(nil, s)
		for _, c := range quoted {
			if c < 0x20 || c > 0x7e {
				t.Fatalf("JSON of %q is %q", s, quoted)
			}
		}
		var back string
		if err := json.Unmarshal(quoted, &back); err != nil || utf8.ValidString(s) && back != s {
			t.Fatalf("JSON of %q is %q: %v", s, quoted, err)
		}
		if got := csvCells([]string{s})[0]; got != "" && strings.ContainsRune("=+-@\t\r", rune(got[0])) {
			t.Fatalf("CSV of %q is %q", s, got)
		}
	})
}

// Any arguments are either understood or refused as wrong usage.
func FuzzOptions(f *testing.F) {
	f.Add("-As-7d", "--start=@5", "-m")
	f.Add("--", "-", "--by=client")
	f.Add("--he", "\xff", "--limit=99999999999999999999")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var o showOptions
		cmd := &command{now: time.Unix(1567561062, 0)}
		if err := parse([]string{a, b, c}, cmd.showOptions(&o)); err != nil {
			if _, ok := err.(*usageError); !ok {
				t.Fatalf("%q: %v is no usage error", []string{a, b, c}, err)
			}
			return
		}
		cmd.loc = time.UTC
		if _, err := cmd.arguments(&o); err != nil {
			t.Fatalf("%q passed, but: %v", []string{a, b, c}, err)
		}
	})
}

// TestShareOfWhatIsNotCompared: a share is shown only of what is part of the
// whole.
func TestShareOfWhatIsNotCompared(t *testing.T) {
	for compared, want := range map[bool]string{
		true:  "br-lan since 00:00: carried 1000B, 50 % of it recorded, 10 % not to be recorded; 20 % of the recorded has a name",
		false: "br-lan since 00:00: carried 1000B, recorded 500B; 20 % of the recorded has a name",
	} {
		s := statusText{loc: time.UTC}
		s.coverage(ubus.Table{{Name: "name", Value: "br-lan"}, {Name: "coverage", Value: ubus.Array{ubus.Table{
			{Name: "hour", Value: int64(0)}, {Name: "since", Value: int64(0)}, {Name: "compared", Value: compared}, {Name: "carried", Value: int64(1000)},
			{Name: "recorded", Value: int64(500)}, {Name: "named", Value: int64(100)}, {Name: "other", Value: int64(100)},
		}}}})
		if got := strings.TrimSpace(s.b.String()); got != want {
			t.Errorf("compared %v: %q, want %q", compared, got, want)
		}
	}
}

// TestHungBus: a bus that does not serve is told of in one short line.
func TestHungBus(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ubus.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var stdout, stderr strings.Builder
	status := Run(t.Context(), []string{"status", "--ubus-socket", path}, &stdout, &stderr)
	if want := "pakon status: the bus at " + path + ": it does not answer within 5s\n"; status != exitError || stderr.String() != want {
		t.Errorf("status %d, said %q, want %q", status, stderr.String(), want)
	}
}
