package hostname

import (
	"strings"
	"testing"

	"golang.org/x/net/idna"
)

func TestParse(t *testing.T) {
	label := strings.Repeat("a", 63)
	for s, want := range map[string]string{
		"example.org":       "example.org",
		"EXAMPLE.Org.":      "example.org",
		" example.org\n":    "example.org",
		"org":               "org",
		"nas":               "nas",
		"-":                 "-",
		"_dmarc.a-b.org":    "_dmarc.a-b.org",
		"*.example.org":     "example.org",
		".example.org":      "example.org",
		"*.Example.ORG.":    "example.org",
		label + ".org":      label + ".org",
		"8.8.example":       "8.8.example",
		"123.example.":      "123.example",
		"háčkyčárky.cz":     "xn--hkyrky-ptac70bc.cz",
		"HÁČKYČÁRKY.CZ":     "xn--hkyrky-ptac70bc.cz",
		"*.müller.example.": "xn--mller-kva.example",
		"xn--Mller-kva.ex":  "xn--mller-kva.ex",
		"例え。テスト":            "xn--r8jz45g.xn--zckzah",
		"例え．テスト｡":           "xn--r8jz45g.xn--zckzah",
		"مثال.إختبار":       "xn--mgbh0fb.xn--kgbechtv",
		"👍🏽.ws":             "xn--on8h5e.ws",

		"https://shop.example/x?y":                   "shop.example",
		"https://shop.example":                       "shop.example",
		"HTTPS://Shop.Example:8443/":                 "shop.example",
		"http://shop.example?a=b//c@d":               "shop.example",
		"http://shop.example#top":                    "shop.example",
		"ftp://anna:pa%20ss@w:o@shop.example:21/a/b": "shop.example",
		"https://www.háčkyčárky.cz/á":                "www.xn--hkyrky-ptac70bc.cz",
		"wss://shop.example:/":                       "shop.example",
		"//shop.example/x":                           "shop.example",
		"shop.example/x?y":                           "shop.example",
		"shop.example/http://x":                      "shop.example",
		"shop.example:443":                           "shop.example",
		"https://203.0.113.7:8443/x":                 "203.0.113.7",
		"https://[2001:DB8::1]:8443/x":               "2001:db8::1",

		"203.0.113.7":        "203.0.113.7",
		"203.0.113.7.":       "203.0.113.7",
		"203.0.113.7:53":     "203.0.113.7",
		"2001:DB8:0:0::1":    "2001:db8::1",
		"[2001:db8::1]":      "2001:db8::1",
		"[2001:db8::1]:443":  "2001:db8::1",
		"::ffff:203.0.113.7": "203.0.113.7",
	} {
		if got, ok := Parse(s); !ok || got != want {
			t.Errorf("Parse(%q) = %q, %v, want %q", s, got, ok, want)
		}
	}
	for _, s := range []string{
		"", " ", ".", "*", "*.", "..", "a..b", "a.*.b", "*.*.example.org", "**.example.org", "example.*", "*a.org",
		"foo bar", "a\tb", "a\x00b", "a,b", "what?!", "a@b.example", "user:pw@shop.example", "shop.example:http", "shop.example:70000",
		"https://", "https:///x", "https:shop.example", "ht tp://shop.example", "a\xff.org", "example–shop.cz", "„shop“.example", "a\u200b.org", "\u202eorg.a", "bu\u0308cher.de",
		"203.0.113.300", "203.0.113", "10", "*.10", ".10", "*.203.0.113.5", "\uff61203.0.113.5", "203.0.113.0/24", "2001:db8::/32", "fe80::1%eth0", "2001:db8::g", "[203", "[x]", "[2001:db8::1]x",
		label + "a.org", strings.Repeat("a.", 128), strings.Repeat("č", 63) + ".cz",
	} {
		if got, ok := Parse(s); ok {
			t.Errorf("Parse(%q) = %q, want none", s, got)
		}
	}
}

// FuzzParse: what is read is in the form in which names are compared, and is read
// as itself.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"https://u:p@háčky.cz:1/x", "*.a.", "[::1]:2", "::ffff:1.2.3.4", "a。b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := Parse(s)
		if !ok {
			if got != "" {
				t.Errorf("Parse(%q) = %q and none", s, got)
			}
			return
		}
		if again, ok := Parse(got); !ok || again != got {
			t.Errorf("Parse(%q) = %q, which is read as %q", s, got, again)
		}
		if got == "" || len(got) > maxName || strings.Trim(got, "abcdefghijklmnopqrstuvwxyz0123456789-_.:") != "" {
			t.Errorf("Parse(%q) = %q", s, got)
		}
	})
}

// TestPunycode compares with a full implementation of IDNA, which is not in the
// program.
func TestPunycode(t *testing.T) {
	for _, s := range []string{
		"bücher.de", "háčkyčárky.cz", "ПРИМЕР.рф", "例え.テスト", "παράδειγμα.ελ", "uni-größe.at", "ελ.a.b", "faß.de",
		"👍.ws", "हिन्दी.in", "مثال.إختبار", "ab-cdé-f.x", "ýýýý.cz", "a.b.c",
	} {
		want, err := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false)).ToASCII(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if got := Normalise(s); got != want {
			t.Errorf("Normalise(%q) = %q, want %q", s, got, want)
		}
	}
}
