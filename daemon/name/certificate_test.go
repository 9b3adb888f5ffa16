package name

import (
	"fmt"
	"strings"
	"testing"
)

func list(names string) (out [][]byte) {
	for n := range strings.FieldsFuncSeq(names, func(r rune) bool { return r == '|' }) {
		out = append(out, []byte(n))
	}
	return out
}

func TestCertificateNames(t *testing.T) {
	for _, tt := range []struct{ common, alt, want string }{
		{"a.example", "", "a.example"},
		{"A.Example.", "b.example", "a.example"},
		{"*.a.example", "", "a.example"},
		{"Users|a.example", "", "a.example"},
		{"a.example|Users", "", "a.example"},
		{"a.example|b.example", "", "b.example"},
		{"", "mail.example.net", "mail.example.net"},
		{"", "*.example.net|example.net", "example.net"},
		{"example nas default", "a.example", "a.example"},
		{"example nas default", "", ""},
		{"192.0.2.1", "192.0.2.1|[192, 0, 2, 1]|a.example", "a.example"},
		{"nas", "", "nas"},
		{"nas", "a.example", "a.example"},
		{"", "nas", "nas"},
		{"localhost", "", ""},
		{"localhost", "localhost.localdomain|a.example", "a.example"},
		{"invalid2.invalid", "", ""},
		{"No SNI provided; please fix your client.", "", ""},
		{"anna@a.example", "", ""},
		{"", "RFC822Name(anna@a.example)|anna@a.example|https://a.example/|spiffe://a.example|b.example", "b.example"},
		{"*", "*.*.a.example|a*.example|b.example", "b.example"},
		{`a\, b.example`, "", ""},
		{"", "", ""},
	} {
		c := CertificateNames{list(tt.common), list(tt.alt)}
		if got := string(c.Name(nil)); got != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.common, tt.alt, got, tt.want)
		}
	}
}

func TestCertificateCovers(t *testing.T) {
	c := CertificateNames{list("A.example"), list("*.b.example|c.example|*.")}
	for n, want := range map[string]bool{
		"a.example": true, "x.a.example": false, "x.b.example": true, "b.example": false, "x.y.b.example": false,
		"c.example": true, "d.example": false, "example": false, "": false,
	} {
		if got := c.Covers(n); got != want {
			t.Errorf("%q: %v", n, got)
		}
	}
}

func TestCovers(t *testing.T) {
	for n := range covers {
		if got := string(Clean(nil, []byte(n))); got != n {
			t.Errorf("%q is stored as %q, so it is never found", n, got)
		}
	}
	if !IsCover("cloudflare-ech.com") || IsCover("cloudflare.com") || IsCover("") {
		t.Error("the wrong names are covers")
	}
}

// BenchmarkCertificate is of a certificate of a thousand names.
func BenchmarkCertificate(b *testing.B) {
	var c CertificateNames
	for i := range 1000 {
		c.Alt = append(c.Alt, fmt.Appendf(nil, "%d.example.org", i))
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = c.Name(buf[:0])
		c.Covers("www.example.net")
	}
}

// FuzzCertificate: whatever a certificate has for names, what it names a server is a
// name as it is kept.
func FuzzCertificate(f *testing.F) {
	for _, names := range [][2]string{
		{"a.example", ""}, {"Users|*.A.Example.", "b.example"}, {"nas default", "anna@a.example|https://a.example/|*.b.example"},
		{"192.0.2.1", "localhost|nas"}, {"h\u00e1\u010dky.example", "xn--hky-5la9j.example\n|a.example\x00.b.example"},
	} {
		f.Add(names[0], names[1])
	}
	f.Fuzz(func(t *testing.T, common, alt string) {
		c := CertificateNames{list(common), list(alt)}
		const before = "before"
		got := c.Name([]byte(before))
		if got == nil {
			return
		}
		n, ok := strings.CutPrefix(string(got), before)
		if !ok || n == "" || len(n) > MaxLen || string(Clean(nil, []byte(n))) != n || isPlaceholder(n) {
			t.Fatalf("%q, %q: %q", common, alt, got)
		}
		for _, raw := range append(c.Common, c.Alt...) {
			if string(raw) == n && !c.Covers(n) || string(raw) == "*."+n && !c.Covers("www."+n) {
				t.Errorf("%q, %q do not cover %q", common, alt, n)
			}
		}
	})
}
