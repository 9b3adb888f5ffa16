package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

var (
	macA = [6]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55}
	none [6]byte
)

func at(s string) netip.Addr { return netip.MustParseAddr(s) }

// dnsmasqFile is as dnsmasq 2.90 and later write it.
const dnsmasqFile = `1790000000 00:11:22:33:44:55 192.168.1.10 Pixel-7 01:00:11:22:33:44:55
0 02:aa:bb:cc:dd:ee 192.168.1.11 * *
1790000001 06-00:11:22:33:44:55 192.168.1.12 tv ff:AA:bb:cc:dd:00:03:00:01:00:11:22:33:44:55
1790000002 20-00:11:22:33:44:55:66:77 192.168.1.13 firewire *
1790000003 00- 192.168.1.14 modem 00:41
43200 00:11:22:33:44:55 192.168.1.15 no-clock *
duid 00:01:00:01:2b:c3:6d:5e:d8:58:d7:00:11:22
1790000004 287454020 fd00::10 laptop 00:01:00:01:2b:c3:6d:5e:00:11:22:33:44:55
1790000005 T287454020 fd00::11 laptop 00:03:00:01:00:11:22:33:44:55
1790000006 1 fd00::12 * 00:04:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10
agent-info 192.168.1.10 01:02
vendorclass 192.168.1.10 61:6e:64:72:6f:69:64
`

var dnsmasqLeases = []Lease{
	{macA, at("192.168.1.10"), "Pixel-7", "01:00:11:22:33:44:55", 1790000000},
	{[6]byte{2, 0xaa, 0xbb, 0xcc, 0xdd, 0xee}, at("192.168.1.11"), "", "", 0},
	{macA, at("192.168.1.12"), "tv", "ff:aa:bb:cc:dd:00:03:00:01:00:11:22:33:44:55", 1790000001},
	{none, at("192.168.1.13"), "firewire", "", 1790000002},
	{none, at("192.168.1.14"), "modem", "00:41", 1790000003},
	{macA, at("192.168.1.15"), "no-clock", "", 0},
	{macA, at("fd00::10"), "laptop", "00:01:00:01:2b:c3:6d:5e:00:11:22:33:44:55", 1790000004},
	{macA, at("fd00::11"), "laptop", "00:03:00:01:00:11:22:33:44:55", 1790000005},
	{none, at("fd00::12"), "", "00:04:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10", 1790000006},
}

// odhcpdFile is as odhcpd of OpenWrt 19.07 to 24.10 writes it, except for the lines
// from br-new on, which are as of 25.12.
const odhcpdFile = "fd00::20\tphone.lan\tphone\n" +
	"2001:db8::20\tphone.lan\tphone\n" +
	"# br-lan 000100012bc36d5e001122334455 123abc phone 1790000000 20 128 fd00::20/128 2001:db8::20/128\n" +
	"# br-lan 0004000102030405060708090a0b0c0d0e0f 1 - -1 30 128 fd00::30/128\n" +
	"# br-lan 00030001001122334455 2 router 1790000000 40 62 fd00:0:0:40::/62\n" +
	"# br-lan 00030001001122334455 3 phone 0 50 128\n" +
	"192.168.1.20\ttablet\n" +
	"# br-lan 001122334455 ipv4 tablet 1790000001 c0a80114 32 192.168.1.20/32\n" +
	"# br-lan 001122334455 ipv4 broken\\x20Jan's phone 1790000002 c0a80115 32 192.168.1.21/32\n" +
	"# br-new 00:11:22:33:44:56 ipv4 - -1 c0a80116 32 192.168.1.22/32\n" +
	"# br-new 0:11:22:33:44:57 ipv4 broken\\x20- 1790000003 c0a80117 32 192.168.1.23/32\n" +
	"# br-new 00:11:22:33:44:58 ipv4 broken\\x20Jan\\x27s\\x20phone 1790000004 c0a80118 32 192.168.1.24/32\n" +
	"# br-new 00030001001122334455 4 - 1790000005 60 128 fd00::60/128\n"

var odhcpdLeases = []Lease{
	{macA, at("fd00::20"), "phone", "00:01:00:01:2b:c3:6d:5e:00:11:22:33:44:55", 1790000000},
	{macA, at("2001:db8::20"), "phone", "00:01:00:01:2b:c3:6d:5e:00:11:22:33:44:55", 1790000000},
	{none, at("fd00::30"), "", "00:04:00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f", 0},
	{macA, at("192.168.1.20"), "tablet", "", 1790000001},
	{macA, at("192.168.1.21"), "", "", 1790000002},
	{[6]byte{0, 0x11, 0x22, 0x33, 0x44, 0x56}, at("192.168.1.22"), "", "", 0},
	{[6]byte{0, 0x11, 0x22, 0x33, 0x44, 0x57}, at("192.168.1.23"), "", "", 1790000003},
	{[6]byte{0, 0x11, 0x22, 0x33, 0x44, 0x58}, at("192.168.1.24"), "", "", 1790000004},
	{macA, at("fd00::60"), "", "00:03:00:01:00:11:22:33:44:55", 1790000005},
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for name, text := range map[string]string{"dhcp.leases": dnsmasqFile, "odhcpd": odhcpdFile, "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"dhcp.leases", "missing", "empty", "odhcpd"} {
		paths = append(paths, filepath.Join(dir, name))
	}
	leases, skipped, err := Read(paths)
	if skipped != 0 || err != nil {
		t.Errorf("skipped %d, error %v", skipped, err)
	}
	compare(t, leases, append(append([]Lease{}, dnsmasqLeases...), odhcpdLeases...))

	// What can not be read does not keep the others from being read.
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	leases, _, err = Read([]string{dir, fifo, paths[3]})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fifo) || errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	compare(t, leases, odhcpdLeases)
}

// parse reads the leases of a file.
func parse(text string, leases *[]Lease) (skipped int, err error) {
	f := reading{leases: leases}
	skipped, err = eachLine(strings.NewReader(text), f.line)
	return skipped + f.finish(), err
}

func compare(t *testing.T, got, want []Lease) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing %+v", want[i])
		case i >= len(want):
			t.Errorf("besides %+v", got[i])
		case !reflect.DeepEqual(got[i], want[i]):
			t.Errorf("got  %+v\nwant %+v", got[i], want[i])
		}
	}
}

func TestWrongLines(t *testing.T) {
	for _, line := range []string{
		"x",
		"1790000000 00:11:22:33:44:55 192.168.1.10 name",
		"1790000000 00:11:22:33:44:55 192.168.1.10 name * more",
		"-5 00:11:22:33:44:55 192.168.1.10 name *",
		"99999999999999999999 00:11:22:33:44:55 192.168.1.10 name *",
		"1790000000 00:11:22:33:44:5g 192.168.1.10 name *",
		"1790000000 00:11:22:33:44:055 192.168.1.10 name *",
		"1790000000 x-00:11:22:33:44:55 192.168.1.10 name *",
		"1790000000 00:11:22:33:44:55 192.168.1.256 name *",
		"1790000000 1 fe80::1%br-lan name *",
		"192.168.1.10",
		"#",
		"# br-lan",
		"# br-lan 001122334455 ipv4 name 1790000000 c0a80114 192.168.1.20/32",
		"# br-lan 00112233445 ipv4 name 1790000000 c0a80114 32 192.168.1.20/32",
		"# br-lan 001122334455 ipv4 name soon c0a80114 32 192.168.1.20/32",
		"# br-lan 001122334455 ipv4 name -2 c0a80114 32 192.168.1.20/32",
		"# br-lan 001122334455 ipv4 name 1790000000 c0a80114 32 192.168.1.20/24",
		"# br-lan 001122334455 ipv4 name 1790000000 c0a80114 32 fd00::1/128",
		"# br-lan duid 1 name 1790000000 20 128 fd00::1/128",
		"# br-lan 0003 1 name 1790000000 20 129 fd00::1/128",
		"# br-lan 0003 1 name 1790000000 20 128 fd00::1/128 x/128",
	} {
		var leases []Lease
		skipped, err := parse(line+"\n"+dnsmasqFile, &leases)
		if skipped != 1 || err != nil {
			t.Errorf("%s: skipped %d, error %v", line, skipped, err)
		}
		compare(t, leases, dnsmasqLeases)
	}
}

func TestCleanName(t *testing.T) {
	long := strings.Repeat("x", 255)
	for name, want := range map[string]string{
		"Pixel-7":           "Pixel-7",
		"pixel.lan.":        "pixel.lan",
		"Mámina_televize":   "Mámina_televize",
		"be-ef":             "be-ef",
		"2":                 "2",
		"-x":                "-x",
		long:                long,
		long + "x":          "",
		"":                  "",
		"*":                 "",
		"-":                 "",
		".":                 "",
		"a\x01b":            "",
		"a\u202eb":          "",
		"a\u2028b":          "",
		"\xff":              "",
		`broken\x20name`:    "",
		"192.168.1.1":       "",
		"fd00::1":           "",
		"00-11-22-33-44-55": "",
		"00:11:22:33:44:55": "",
		"0-1-2-3-4-5":       "",
		"001122334455":      "",
		"001122-334455":     "",
		"0011-2233-4455":    "",
		"0011.2233.4455":    "",
		"HP001122334455":    "HP001122334455",
	} {
		if got := cleanName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestMACOfDUID(t *testing.T) {
	for duid, want := range map[string][6]byte{
		"00030001001122334455":         macA,
		"00030006001122334455":         none, // other hardware
		"00030001011122334455":         none, // a group
		"0003000100112233445566":       none,
		"000300010011223344":           none,
		"00030001":                     none,
		"000100012bc36d5e001122334455": macA,
		"000100012bc36d5e":             none,
		"00010001":                     none,
		"000200000009001122334455":     none,
		"00":                           none,
	} {
		b, ok := parseOctets(duid, maxID)
		if got := macOfDUID(b); !ok || got != want {
			t.Errorf("%s: got %x, want %x", duid, got, want)
		}
	}
}

func TestBounds(t *testing.T) {
	fill := func(b *strings.Builder, size int) { // with empty lines
		for b.Len() < size {
			b.WriteString(strings.Repeat(" ", min(size-b.Len(), maxLine)-1) + "\n")
		}
	}
	line := func(i int) string {
		return fmt.Sprintf("0 00:11:22:33:44:55 10.0.%d.%d name *\n", i>>8, i&255)
	}
	for _, tt := range []struct {
		name            string
		text            func(b *strings.Builder)
		leases, skipped int
	}{
		{"as many as there may be", func(b *strings.Builder) {
			for i := range maxLeases {
				b.WriteString(line(i))
			}
		}, maxLeases, 0},
		{"two more", func(b *strings.Builder) {
			for i := range maxLeases + 2 {
				b.WriteString(line(i))
			}
		}, maxLeases, 2},
		{"two addresses where there is room for one", func(b *strings.Builder) {
			for i := range maxLeases - 1 {
				b.WriteString(line(i))
			}
			b.WriteString("# br-lan 00030001001122334455 1 - -1 1 128 fd00::1/128 fd00::2/128\n")
		}, maxLeases, 1},
		{"a long line", func(b *strings.Builder) {
			b.WriteString(line(1) + strings.Repeat("x ", maxLine) + "\n" + line(2))
		}, 2, 1},
		{"a line that begins as a right one", func(b *strings.Builder) {
			b.WriteString(line(1)[:len(line(1))-1] + strings.Repeat(" ", maxLine) + "\n" + line(2))
		}, 1, 1},
		{"no end of the last line", func(b *strings.Builder) { b.WriteString(strings.TrimSpace(line(1))) }, 1, 0},
		{"a large file", func(b *strings.Builder) {
			b.WriteString(line(1))
			fill(b, maxFile-10)
			b.WriteString(line(2))
		}, 1, 1},
		{"as large as it may be", func(b *strings.Builder) {
			b.WriteString(line(1))
			fill(b, maxFile-len(line(2)))
			b.WriteString(line(2))
		}, 2, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			tt.text(&b)
			var leases []Lease
			skipped, err := parse(b.String(), &leases)
			if len(leases) != tt.leases || skipped != tt.skipped || err != nil {
				t.Errorf("%d leases, skipped %d, error %v; want %d, %d", len(leases), skipped, err, tt.leases, tt.skipped)
			}
		})
	}
}

// TestForgedLines: a device whose name has newlines says nothing of others, however it
// goes on and whatever the server writes behind it.
func TestForgedLines(t *testing.T) {
	const (
		rest   = " 1790000000 c0a80109 32 192.168.1.9/32\n" // what odhcpd writes behind a name
		victim = "# br-lan 001122334455 ipv4 Anna 1790000000 c0a8010a 32 192.168.1.10/32\n"
		other  = "# br-lan 0a1122334455 ipv4 tv 1790000000 c0a8010b 32 192.168.1.11/32\n"
		of     = "# br-lan 021122334455 ipv4 broken\\x20" // the beginning of the attacker's
		forged = "# br-lan 001122334455 ipv4 Evil 1790000000 c0a8010c 32 192.168.1.12/32\n"
		own    = " 1790000000 c0a80108 32 192.168.1.8/32\n" // as if it were the end of its own
	)
	anna := Lease{macA, at("192.168.1.10"), "Anna", "", 1790000000}
	tv := Lease{[6]byte{0x0a, 0x11, 0x22, 0x33, 0x44, 0x55}, at("192.168.1.11"), "tv", "", 1790000000}
	attacker := func(addr string) Lease {
		return Lease{[6]byte{2, 0x11, 0x22, 0x33, 0x44, 0x55}, at(addr), "", "", 1790000000}
	}
	for _, tt := range []struct {
		name, text string
		want       []Lease
		skipped    int
	}{
		{"no newline", of + "Anna's phone" + rest + other + victim, []Lease{attacker("192.168.1.9"), tv, anna}, 0},
		{"a line between two pieces", victim + of + "x\n" + forged + "x" + rest, []Lease{anna}, 3},
		{"nobody else of whom it is", of + "x\n" + forged + "x" + rest, nil, 3},
		{"its end is the server's", victim + of + "x\n# br-lan 001122334455 ipv4 Evil" + rest, []Lease{anna}, 2},
		{"ends as a line does", victim + of + "x" + own + "# br-lan 001122334455 ipv4 Evil" + rest, []Lease{anna, attacker("192.168.1.8")}, 1},
		{"the other comes later", of + "x" + own + "# br-lan 001122334455 ipv4 Evil" + rest + strings.Repeat("\n", 256) + victim, []Lease{attacker("192.168.1.8"), anna}, 1},
		{"of the same name", victim + of + "x" + own + "# br-lan 001122334455 ipv4 Anna" + rest, []Lease{anna, attacker("192.168.1.8")}, 1},
		{"another's address", victim + of + "x" + own + "# br-lan 041122334455 ipv4 Evil 1790000000 c0a8010a 32 192.168.1.10/32\nx" + rest, []Lease{anna, attacker("192.168.1.8")}, 2},
		{"the newline is the last", victim + of + strings.Repeat("x", maxName-len(broken)-1) + "\n" + rest, []Lease{anna}, 2},
		{"of IPv6", "# br-lan 00030001001122334455 1 Anna 1790000000 a 128 fd00::a/128\n# br-lan 00030001021122334455 1 broken\\x20x 1790000000 b 128 fd00::b/128\n" +
			"# br-lan 00030001001122334455 1 Evil 1790000000 c 128 fd00::c/128\n", []Lease{
			{macA, at("fd00::a"), "Anna", "00:03:00:01:00:11:22:33:44:55", 1790000000},
			{[6]byte{2, 0x11, 0x22, 0x33, 0x44, 0x55}, at("fd00::b"), "", "00:03:00:01:02:11:22:33:44:55", 1790000000},
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []Lease
			skipped, err := parse(tt.text, &got)
			if err != nil || skipped != tt.skipped {
				t.Errorf("skipped %d, %v; want %d", skipped, err, tt.skipped)
			}
			compare(t, got, tt.want)
		})
	}
}

func FuzzDnsmasq(f *testing.F) {
	f.Add(dnsmasqFile)
	for line := range strings.Lines(dnsmasqFile) {
		f.Add(line)
	}
	f.Fuzz(sound)
}

func FuzzOdhcpd(f *testing.F) {
	f.Add(odhcpdFile)
	f.Add("# br-lan 021122334455 ipv4 broken\\x20x\n# br-lan 001122334455 ipv4 Evil 1 c0a80109 32 192.168.1.9/32\n# br-lan 001122334455 ipv4 Anna 1 c0a8010a 32 192.168.1.10/32\n")
	for line := range strings.Lines(odhcpdFile) {
		f.Add(line)
	}
	f.Fuzz(sound)
}

// sound checks that whatever a file says, its leases are as Lease promises.
func sound(t *testing.T, text string) {
	var leases []Lease
	skipped, err := parse(text, &leases)
	if err != nil || skipped > strings.Count(text, "\n")+1 || len(leases) > maxLeases {
		t.Fatalf("%d leases, skipped %d, error %v", len(leases), skipped, err)
	}
	bad := func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Bidi_Control, r)
	}
	for _, l := range leases {
		if !l.Addr.IsValid() || l.Addr.Zone() != "" || l.Addr.Is4In6() || l.Expires < 0 || l.MAC[0]&1 != 0 {
			t.Errorf("%+v", l)
		}
		if len(l.Name) > 255 || !utf8.ValidString(l.Name) || strings.ContainsFunc(l.Name, bad) || l.Name == "-" || l.Name == "*" {
			t.Errorf("name %q", l.Name)
		}
		if b, ok := parseOctets(l.ClientID, maxID); l.ClientID != "" && (!ok || formatOctets(b) != l.ClientID) {
			t.Errorf("client-id %q", l.ClientID)
		}
	}
}

// FuzzID: whatever a device calls itself for the DHCP server, only one that is made
// of the MAC of one device is taken for that.
func FuzzID(f *testing.F) {
	for _, id := range []string{"01:00:11:22:33:44:55", "ff:00:00:00:01:00:03:00:01:00:11:22:33:44:55", "000300010011223344FF",
		"00:01:00:01:2b:c3:6d:5e:00:11:22:33:44:55", "0:3:0:1:0:11:22:33:44:55", "00:03:00:01:01:00:5e:00:00:01", "01", ":", ""} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		mac := MACOfID(id)
		if mac == [6]byte{} {
			return
		}
		b, ok := parseOctets(id, maxID)
		if !ok || mac[0]&1 != 0 || [6]byte(b[max(0, len(b)-6):]) != mac {
			t.Fatalf("%x, of %x", mac, b)
		}
		// As a lease has it, whichever way it was written.
		if again := MACOfID(formatOctets(b)); again != mac {
			t.Errorf("written as %s, it is %x", formatOctets(b), again)
		}
	})
}
