package name

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	label := strings.Repeat("a", 63)
	tests := []struct{ raw, want string }{
		{"Example.ORG", "example.org"},
		{"example.org.", "example.org"},
		{"example.org..", "example.org"},
		{"example.org:8080", "example.org"},
		{"example.org.:8080", "example.org"},
		{"example.org:", "example.org"},
		{"xn--hkyrky-ptac70bc.fi", "xn--hkyrky-ptac70bc.fi"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"例え。テスト", "xn--r8jz45g.xn--zckzah"},
		{"ไทย.example", "xn--o3cw4h.example"},
		{"नी\u200c.example", "xn--l2b2c624h.example"},
		{"_dmarc.example.org", "_dmarc.example.org"},
		{"r3---sn-4g5e6nez.example", "r3---sn-4g5e6nez.example"},
		{"-a-.example", "-a-.example"},
		{"1e100.net", "1e100.net"},
		{"4.3.2.1.in-addr.arpa", "4.3.2.1.in-addr.arpa"},
		{"0x7f.example", "0x7f.example"},
		{"nas", "nas"},
		{label + ".example", label + ".example"},
		{strings.Repeat("ü", 50) + ".example", "xn--tdaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example"},
		// What a request may have around it.
		{" lead.example", "lead.example"},
		{"\ttrail.example \r\n", "trail.example"},
		{"a.example, b.example", "a.example"},
		{"a.example,b.example", "a.example"},
		{"a.example , b example", "a.example"},
		{"a.example:80, b.example:80", "a.example"},
		{"http://url.example/x", "url.example"},
		{"HTTPS://url.example:8443", "url.example"},
		{"http://url.example?a=b c", "url.example"},
		{"http://url.example#x", "url.example"},
		{`http://url.example\x`, "url.example"},
		{"//url.example/x", "url.example"},
		{"anna@cam.example", "cam.example"},
		{"anna:geheim@cam.example:8080", "cam.example"},
		{"anna:ge@heim@cam.example", "cam.example"},
		{"anna:ge/heim@cam.example", "cam.example"},
		{"anna:1234@cam.example", "cam.example"},
		{"http://anna:geheim@cam.example/x", "cam.example"},
		// Neither a user nor a password.
		{"anna:geheim", ""},
		{"anna:geheim@", ""},
		{"geheim@:80", ""},
		{"geheim@192.0.2.1", ""},
		{"geheim@[2001:db8::1]:80", ""},
		{"anna:1234/x@cam.example", "cam.example"},
		{"geheim,x@cam.example", ""},
		{"http://geheim/x@cam.example", ""},
		{"http://geheim,x@cam.example", ""},
		{"http://geheim#x@cam.example", ""},
		{"x.example, anna:geheim@cam.example", ""},
		// No names.
		{"", ""},
		{" ", ""},
		{".", ""},
		{"..", ""},
		{",", ""},
		{"@", ""},
		{"http://", ""},
		{"://x.example", ""},
		{"1://x.example", ""},
		{":80", ""},
		{"-", ""},
		{"_", ""},
		{"*", ""},
		{"*.example.org", ""},
		{".example.org", ""},
		{"a..example", ""},
		{"a.example。", ""},
		{"example nas default", ""},
		{"a.example b.example", ""},
		{"a.example\u00a0b", ""},
		{"a.example;b.example", ""},
		{"a.example/x", ""},
		{"a.example?x", ""},
		{"ex%61mple.org", ""},
		{"a.example:http", ""},
		{"a.example:80:80", ""},
		{"<img src=x onerror=alert(1)>", ""},
		{"a');alert(3)//", ""},
		{"user＠host.example", ""},
		{"(null)", ""},
		{strings.Repeat("a", 64) + ".example", ""},
		{strings.Repeat("ü", 60) + ".example", ""},
		{strings.Repeat("a.", 127) + "aa", ""},
		{"a\x00b", ""},
		{"a\nb", ""},
		{"a\x1b[2Jb", ""},
		{"a\x7fb", ""},
		{"a\u0085b", ""},
		{"a\u202eb", ""},
		{"a\u2028b", ""},
		{"a\xffb", ""},
		{"a\ufffdb", ""},
		// Addresses.
		{"192.0.2.1", ""},
		{"192.0.2.1.", ""},
		{"192.0.2.1:8080", ""},
		{"192.0.2", ""},
		{"3221225985", ""},
		{"0xc0000201", ""},
		{"0xc0.0.0x2.0x1", ""},
		{"192.0.2.0x1", ""},
		{"0x", ""},
		{"www.example.123", ""},
		{"2001:db8::1", ""},
		{"[2001:db8::1]:443", ""},
		{"[2001:db8::1]", ""},
		{"[fe80::1%25eth0]", ""},
		{"::ffff:192.0.2.1", ""},
	}
	for _, tt := range tests {
		if got := string(Clean(nil, []byte(tt.raw))); got != tt.want {
			t.Errorf("Clean(%q) = %q, want %q", tt.raw, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"a.b", "A.B.:1", "[::1]:5", "\xff", "ǅ.example", "a\u202eb", "u:p@h.example:80", "http://u@h/x", "a, b", "例え。テスト"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := Clean([]byte("before"), raw)
		if got == nil {
			return
		}
		got = bytes.TrimPrefix(got, []byte("before"))
		if len(got) == 0 || len(got) > MaxLen || !utf8.Valid(got) {
			t.Errorf("Clean(%q) = %q", raw, got)
		}
		if _, err := netip.ParseAddr(string(got)); err == nil {
			t.Errorf("Clean(%q) = %q, an address", raw, got)
		}
		for label := range strings.SplitSeq(string(got), ".") {
			if n := len(label); n == 0 || n > maxLabel {
				t.Errorf("Clean(%q) = %q with a label of %d characters", raw, got, n)
			}
			for _, r := range label {
				if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", r) {
					t.Errorf("Clean(%q) = %q holds %q", raw, got, r)
				}
			}
		}
		if again := Clean(nil, got); !bytes.Equal(again, got) {
			t.Errorf("Clean(%q) = %q, and of that %q", raw, got, again)
		}
		// What stands before an '@' is no part of a name.
		if user := append([]byte("geheim@"), raw...); bytes.Contains(Clean(nil, user), []byte("geheim")) && !bytes.Contains(bytes.ToLower(raw), []byte("geheim")) {
			t.Errorf("Clean(%q) = %q", user, Clean(nil, user))
		}
	})
}

func TestSourceString(t *testing.T) {
	for s, want := range map[Source]string{None: "", Certificate: "cert", DNS: "dns", HTTP: "http", QUIC: "quic", TLS: "tls", Address: "address", Port: "port", 99: "source(99)"} {
		if got := s.String(); got != want {
			t.Errorf("Source %d is %q, want %q", s, got, want)
		}
	}
}

// TestSourceValues: they are stored.
func TestSourceValues(t *testing.T) {
	for i, s := range []Source{None, Certificate, DNS, HTTP, QUIC, TLS, Address, Port} {
		if int(s) != i {
			t.Errorf("%q is %d, want %d", s, s, i)
		}
		if want := s != None && s != Port; s.Named() != want {
			t.Errorf("%q names the far end: %v", s, s.Named())
		}
	}
}

func TestInternerIsBounded(t *testing.T) {
	in := NewInterner(10)
	for i := range 1000 {
		if got := in.String([]byte{'a' + byte(i%26), byte(i / 26)}); len(got) != 2 {
			t.Fatalf("String returned %q", got)
		}
		if len(in.m) > 10 {
			t.Fatalf("%d strings are kept, want at most 10", len(in.m))
		}
	}
}
