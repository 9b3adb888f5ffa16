package name

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	tests := []struct{ raw, want string }{
		{"Example.ORG", "example.org"},
		{"example.org.", "example.org"},
		{"example.org:8080", "example.org"},
		{"xn--hkyrky-ptac70bc.fi", "xn--hkyrky-ptac70bc.fi"},
		{"BÜCHER.example", "bücher.example"},
		{"_dmarc.example.org", "_dmarc.example.org"},
		{"<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"},
		{"a');alert(3)//", "a');alert(3)//"},
		{strings.Repeat("a", 255), strings.Repeat("a", 255)},
		{"1e100.net", "1e100.net"},
		{"", ""},
		{".", ""},
		{":80", ""},
		{strings.Repeat("a", 256), ""},
		{"a\x00b", ""},
		{"a\nb", ""},
		{"a\x1b[2Jb", ""},
		{"a\x7fb", ""},
		{"a\u0085b", ""},
		{"a\u202eb", ""},
		{"a\u2028b", ""},
		{"a\xffb", ""},
		{"192.0.2.1", ""},
		{"192.0.2.1:8080", ""},
		{"2001:db8::1", ""},
		{"[2001:db8::1]:443", ""},
		{"[2001:db8::1]", ""},
	}
	for _, tt := range tests {
		if got := string(Clean(nil, []byte(tt.raw))); got != tt.want {
			t.Errorf("Clean(%q) = %q, want %q", tt.raw, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"a.b", "A.B.:1", "[::1]:5", "\xff", "ǅ.example", "a\u202eb"} {
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
		for _, c := range got {
			if c < ' ' || c == 0x7f {
				t.Errorf("Clean(%q) = %q holds a control character", raw, got)
			}
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
