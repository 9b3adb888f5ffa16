package suricata

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

func TestCommonNames(t *testing.T) {
	for dn, want := range map[string]string{
		"CN=example.test": "example.test",
		"C=US, ST=California, L=San Francisco, O=GitHub, Inc., CN=www.github.com":                               "www.github.com",
		"C=XX, CN=mamzon.ru, L=XX, O=XX, Email=webmaster@mamzon.ru, subjectAltName=*.mamzon.ru www.mamzon.ru":   "mamzon.ru",
		"C=US, O=NetScreen Technologies, Inc., OU=Security Team, CN=sigdb.secteam.netscreen.com, Email=a@b.com": "sigdb.secteam.netscreen.com",
		"CN=www.energia.example, C=HU, L=Budapest, O=Példa Energia Zrt., Inc., OU=Tanúsítvány=kiadó (A+B)":      "www.energia.example",
		"streetAddress=, postalCode=6565, CN=localhost":                                                         "localhost",
		"DC=org, CN=Users, CN=last.example":                                                                     "Users|last.example",
		"OU=a + CN=b.example":                                                                                   "b.example",
		"CN=a.example+OU=b":                                                                                     "a.example",
		`O=Evil\, CN=bank.example, CN=a.example`:                                                                "a.example",
		`O=Evil\+CN=bank.example,cn=a.example`:                                                                  "a.example",
		`CN=a\, b.example`:                                                                                      `a\, b.example`,
		`O=\\, CN=a.example`:                                                                                    "a.example",
		"OCN=x, O=no name":                                                                                      "",
		"":                                                                                                      "",
		"CN=":                                                                                                   "",
		`CN=a\`:                                                                                                 `a\`,
		strings.Repeat(",", 60000) + "CN=a":                                                                     "a",
	} {
		if got := string(bytes.Join(CommonNames(nil, []byte(dn)), []byte("|"))); got != want {
			t.Errorf("%.80q: %q, want %q", dn, got, want)
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "0.0.0.0", "256.1.1.1", "01.2.3.4", "1.2.3", "::", "::1", "1::", "2001:db8::1:2",
		"2001:0db8:000f:0000:0000:0000:0000:0080", "0000:0000:0000:0000:0000:ffff:c000:0201", "::ffff:192.0.2.1",
		"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:8:9", "1:::2", "fe80::1%eth0", "12345::", "1:2:3:4:5:6:1.2.3.4", ":1::", "::1:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := netip.ParseAddr(s)
		ok := err == nil && want.Zone() == ""
		if got, gotOK := ParseAddr([]byte(s)); gotOK != ok || ok && got != want.Unmap() {
			t.Errorf("%q: %v, %v; want %v, %v", s, got, gotOK, want, err)
		}
	})
}
