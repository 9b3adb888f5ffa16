package original

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pakon/daemon/client"
	"pakon/daemon/name"
)

func zip(t testing.TB, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const dnsCache = `{"00:01:02:03:04:ab:203.0.113.80": "www.Example.org", "00:01:02:03:04:AC:2001:db8::1": "v6.example.org", ":203.0.113.81": "a.example.org"}`

func TestReadDNS(t *testing.T) {
	three := []Name{
		{mac("00:01:02:03:04:ab"), netip.MustParseAddr("203.0.113.80"), "www.example.org"},
		{mac("00:01:02:03:04:ac"), netip.MustParseAddr("2001:db8::1"), "v6.example.org"},
		{client.MAC{}, netip.MustParseAddr("203.0.113.81"), "a.example.org"},
	}
	many := "{" + strings.Repeat(`":203.0.113.1":"a.example",`, maxDNSNames) + `":203.0.113.2":"b.example"}`
	tests := []struct {
		name    string
		b       []byte
		want    []Name
		damaged bool
	}{
		{"as written", zip(t, dnsCache), three, false},
		{"none", zip(t, "{}"), nil, false},
		{"senseless entries", zip(t, `{"": "a", ":": "a", "::1": "a.example", "a": "b", "00:01:02:03:04:zz:203.0.113.80": "a", "00:01:02:03:04:ab:host": "a",
			":203.0.113.1": null, ":203.0.113.2": 7, ":203.0.113.3": ["a"], ":203.0.113.4": {"a": {"b": []}}, ":203.0.113.5": "", ":203.0.113.6": "203.0.113.6",
			":203.0.113.7": "a\u0000b", ":203.0.113.8": "`+strings.Repeat("a", 256)+`", ":203.0.113.9": "b.example"}`),
			[]Name{{client.MAC{}, netip.MustParseAddr("203.0.113.9"), "b.example"}}, false},
		{"cut off", zip(t, dnsCache[:len(dnsCache)-10]), three[:2], true},
		{"gzip cut off", zip(t, dnsCache)[:40], nil, true},
		{"no gzip", []byte(dnsCache), nil, true},
		{"empty", nil, nil, true},
		{"list", zip(t, `["a"]`), nil, true},
		{"text", zip(t, "text"), nil, true},
		{"nothing", zip(t, ""), nil, true},
		{"deep", zip(t, `{"a":`+strings.Repeat("[", 1_000_000)), nil, true},
		{"long", zip(t, `{":203.0.113.80":"`+strings.Repeat("a", maxDNSBytes)+`"}`), nil, true},
		{"many", zip(t, many), slices.Repeat([]Name{{client.MAC{}, netip.MustParseAddr("203.0.113.1"), "a.example"}}, maxDNSNames), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadDNS(write(t, tt.b))
			if errors.Is(err, ErrDamaged) != tt.damaged || err != nil && !tt.damaged {
				t.Errorf("the error is %v", err)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %d: %.500s\nwant %d: %.500s", len(got), fmt.Sprint(got), len(tt.want), fmt.Sprint(tt.want))
			}
		})
	}
	if _, err := ReadDNS(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: the error is %v", err)
	}
}

func FuzzReadDNS(f *testing.F) {
	f.Add([]byte(dnsCache), true)
	f.Add(zip(f, dnsCache), false)
	f.Add([]byte(`{":1.2.3.4": {"a": ["b"]}, ":1.2.3.4": 7, ":::1": "a.example"`), true)
	f.Fuzz(func(t *testing.T, b []byte, compress bool) {
		if compress {
			b = zip(t, string(b))
		}
		names, _ := readDNS(bytes.NewReader(b))
		for _, n := range names {
			if !n.Address.IsValid() || n.Name == "" || len(n.Name) > name.MaxLen || !utf8.ValidString(n.Name) {
				t.Errorf("got %+v", n)
			}
		}
	})
}
