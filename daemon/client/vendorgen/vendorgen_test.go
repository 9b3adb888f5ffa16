package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pakon/daemon/client/vendor"
)

func TestShorten(t *testing.T) {
	for name, want := range map[string]string{
		"Private":                                "",
		"Apple, Inc.":                            "Apple",
		"Samsung Electronics Co.,Ltd":            "Samsung Electronics",
		"HUAWEI TECHNOLOGIES CO.,LTD":            "Huawei",
		"Huawei Device Co., Ltd.":                "Huawei",
		"Hon Hai Precision IND.CO.,LTD":          "Foxconn",
		"TP-LINK TECHNOLOGIES CO.,LTD.":          "TP-Link",
		"Xiaomi Communications Co Ltd":           "Xiaomi",
		"CZ.NIC, z.s.p.o.":                       "Turris (CZ.NIC)",
		"Hewlett Packard":                        "HP",
		"Hewlett Packard Enterprise":             "HPE",
		"Murata Manufacturing Co., Ltd.":         "Murata",
		"zte corporation":                        "ZTE",
		"Tesla,Inc.":                             "Tesla",
		"TESLA, a.s.":                            "Tesla",
		"ABB S.p.A.":                             "ABB",
		"JABLOTRON ALARMS a.s.":                  "Jablotron Alarms",
		"Mikrotikls SIA":                         "Mikrotikls",
		"Albentia Systems S.A.":                  "Albentia Systems",
		"Nokia Siemens Networks GmbH & Co. KG.":  "Nokia Siemens Networks",
		"BFI Industrie-Elektronik GmbH & Co.KG":  "BFI Industrie-Elektronik",
		"DEUTA-WERKE GmbH":                       "Deuta-Werke",
		"Hitron Technologies. Inc":               "Hitron Technologies",
		"ALPSALPINE CO,.LTD":                     "Alpsalpine",
		"SHENZHEN FOO ELECTRONIC CO.，LTD":        "Shenzhen FOO Electronic",
		"Renesas Electronics (Penang) Sdn. Bhd.": "Renesas Electronics",
		"SAMSIN(THAILAND)":                       "Samsin",
		"Alphion India Private Limited":          "Alphion India",
		"DOMO sp. z o.o.":                        "DOMO",
		"ZAO NPK RoTeK":                          "NPK RoTeK",
		"NIPPON TELEGRAPH AND TELEPHONE":         "Nippon Telegraph and Telephone",
		"B2C2, INC.":                             "B2C2",
		"AB":                                     "AB",
		"Co., Ltd.":                              "Co.",
		"(only) (brackets)":                      "(only)",
		"  Foo\t\u200bBar  ":                     "Foo Bar",
		"Prüftechnik ÄÖÜÄÖ AG":                   "Prüftechnik Äöüäö",
		"Application Technologies and Engineering Research Laboratory": "Application Technologies and Engineering",
		strings.Repeat("ä", 30): strings.Repeat("ä", 20),
		"Foo (unclosed":         "Foo",
	} {
		if got := shorten(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func FuzzShorten(f *testing.F) {
	for _, s := range []string{"Apple, Inc.", "SHENZHEN (CHINA) CO.，LTD", "(((", "ltd ltd", "ZAO \xff", ") .inc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := shorten(name)
		if !utf8.ValidString(name) {
			return
		}
		if len(got) > maxName || !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
	})
}

func TestNames(t *testing.T) {
	for line := range strings.Lines(namesText) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, name, found := strings.Cut(line, " = ")
		if !found || name == "" || len(name) > maxName || len(words(key)) == 0 {
			t.Errorf("names.txt: %q: want WORDS = NAME", line)
		} else if got := shorten(key + ", Ltd."); got != strings.TrimSpace(name) {
			t.Errorf("names.txt: %q gets %q: is it there twice?", key, got)
		}
	}
}

func TestGenerate(t *testing.T) {
	const head = "Registry,Assignment,Organization Name,Organization Address\n"
	dir := t.TempDir()
	for name, rows := range map[string]string{
		"oui.csv": "MA-L,001122,\"FOOBAR, Inc.\",\"1 Road, Town\"\nMA-L,00112A,IEEE Registration Authority,x\n" +
			"MA-L,00112B,Private,\nMA-L,001122,Second,x\n",
		"mam.csv":   "MA-M,00112A1,Middle GmbH,x\n",
		"oui36.csv": "MA-S,00112A234,Small s.r.o.,x\n",
		"iab.csv":   "IAB,0050C2FFF,Old Block AB,x\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(head+rows), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(dir, "vendors")
	if err := generate(dir, to); err != nil {
		t.Fatal(err)
	}
	table, err := vendor.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	got := make(map[[6]byte]string)
	want := map[[6]byte]string{
		{0x00, 0x11, 0x22, 1, 2, 3}:       "Foobar",
		{0x00, 0x11, 0x2a, 0x1f, 2, 3}:    "Middle",
		{0x00, 0x11, 0x2a, 0x23, 0x4f, 3}: "Small",
		{0x00, 0x11, 0x2a, 0x23, 0x5f, 3}: "",
		{0x00, 0x11, 0x2b, 1, 2, 3}:       "",
		{0x00, 0x50, 0xc2, 0xff, 0xf1, 3}: "Old Block",
	}
	for mac := range want {
		got[mac] = table.Lookup(mac)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, rows := range []string{"MA-L,00112,Foo,x\n", "MA-L,00112g,Foo,x\n", "MA-L,001122,Foo\n", "MA-L,\"001122,Foo,x\n"} {
		if _, err := read(strings.NewReader(head+rows), 24); err == nil {
			t.Errorf("%q is taken", rows)
		}
	}
}
