package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pakon/lists"
)

// files makes a folder of lists; what is not given says little.
func files(changed map[string]string) fstest.MapFS {
	all := map[string]string{
		servicesFile: "# comment\na.example | video | A | v2fly:a\n  a.net\n\nb.example | cdn | B |\n",
		hiddenFile:   "@advertising\n  ads.example\n",
		importedFile: "service a.example\n  a.org v2fly:a\n\nhidden advertising\n  x.example tpw:ad\n",
		suffixFile:   "example\n",
	}
	maps.Copy(all, changed)
	fsys := make(fstest.MapFS)
	for name, text := range all {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestReadData(t *testing.T) {
	d, err := readData(files(map[string]string{
		servicesFile: "a.example | video | A | v2fly:a\n  a.net www.a.example b.a.net\n" +
			"b.example | social | B |\n  x.a.net -y.example\n  # comment\nword | other | A word |\n",
		hiddenFile: "@advertising tpw:ad\n  ads.example x.ads.example !ok.ads.example -site.example\n" +
			"@time\n  time.ads.example\n  !shown.example\n",
		importedFile: "service b.example\n  a.net v2fly:b\n  b.x.a.net v2fly:b\n  b.org v2fly:b\n\n" +
			"hidden time\n  ads.example v2fly:t\n  t.example v2fly:t\n",
		suffixFile: "# rules\nexample\n*.ck\n!www.ck\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	services := []lists.Service{
		{Key: "a.example", Category: "video", Label: "A"},
		{Key: "b.example", Category: "social", Label: "B"},
		{Key: "word", Category: "other", Label: "A word"},
	}
	if !slices.Equal(d.Services, services) {
		t.Errorf("services: %v, want %v", d.Services, services)
	}
	groups := map[string]string{"a.net": "a.example", "x.a.net": "b.example", "b.org": "b.example", "word": "word"}
	if !maps.Equal(d.Groups, groups) {
		t.Errorf("groups: %v, want %v", d.Groups, groups)
	}
	hidden := map[string]string{"ads.example": "advertising", "ok.ads.example": "", "time.ads.example": "time", "t.example": "time"}
	if !maps.Equal(d.Hidden, hidden) {
		t.Errorf("hidden: %v, want %v", d.Hidden, hidden)
	}
	if want := []string{"example", "*.ck", "!www.ck"}; !slices.Equal(d.Suffixes, want) {
		t.Errorf("suffixes: %q, want %q", d.Suffixes, want)
	}
}

func TestReadDataErrors(t *testing.T) {
	long := strings.Repeat("x", maxLabel+1)
	tests := []struct{ name, file, text, want string }{
		{"domain first", servicesFile, "# c\n  a.net\n", "services.txt:2: domains before the first service"},
		{"fields", servicesFile, "a.example | video | A\n", "services.txt:1: want key"},
		{"key", servicesFile, "A.example | video | A |\n", `services.txt:1: key "A.example" is not`},
		{"category", servicesFile, "a.example | films | A |\n", `services.txt:1: there is no category "films"`},
		{"no label", servicesFile, "a.example | video | |\n", `services.txt:1: label "" has 0`},
		{"long label", servicesFile, "a.example | video | " + long + " |\n", "services.txt:1: label"},
		{"key twice", servicesFile, "a.example | video | A |\na.example | video | A |\n", "services.txt: service a.example is there twice"},
		{"domain twice", servicesFile, "a.example | video | A |\n  c.net\nb.example | video | A |\n  c.net\n", `services.txt:4: c.net is already of "a.example"`},
		{"domain and key", servicesFile, "a.example | video | A |\n  b.example\nb.example | video | A |\n", "services.txt: b.example is a domain of a.example"},
		{"not a domain", servicesFile, "a.example | video | A |\n  a..net\n", `services.txt:2: "a..net" is not`},
		{"only a minus", servicesFile, "a.example | video | A |\n  -\n", `services.txt:2: "-" is not`},
		{"shown service", servicesFile, "a.example | video | A |\n  !a.net\n", `services.txt:2: "!a.net" is not`},
		{"hidden domain first", hiddenFile, "  a.net\n", "hidden.txt:1: domains before the first category"},
		{"no category", hiddenFile, "advertising\n", "hidden.txt:1: want @category"},
		{"hidden category", hiddenFile, "@video\n", `hidden.txt:1: there is no hidden category "video"`},
		{"the owner's category", hiddenFile, "@ignored\n", `hidden.txt:1: there is no hidden category "ignored"`},
		{"category twice", hiddenFile, "@time\n@time\n", "hidden.txt:2: category time is there twice"},
		{"hidden twice", hiddenFile, "@time\n  a.net\n@cdn\n  a.net\n", `hidden.txt:4: a.net is already of "time"`},
		{"imported words", importedFile, "service a.example\n  a.net\n", "imported.txt:2: want two words"},
		{"imported first", importedFile, "  a.net v2fly:a\n", "imported.txt:1: domains before"},
		{"imported service", importedFile, "service c.example\n", `imported.txt:1: there is no service "c.example"`},
		{"imported category", importedFile, "hidden video\n", `imported.txt:1: there is no hidden "video"`},
		{"imported domain", importedFile, "service a.example\n  a_/net v2fly:a\n", "imported.txt:2: \"a_/net\" is not"},
		{"exception", suffixFile, "!ck\n", `public_suffix_list.txt:1: "!ck" is not a rule`},
		{"rule", suffixFile, "com\n*.*.ck\n", `public_suffix_list.txt:2: "*.*.ck" is not a rule`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readData(files(map[string]string{tt.file: tt.text}))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error %v, want one that begins with %q", err, tt.want)
			}
		})
	}
	missing := files(nil)
	delete(missing, importedFile)
	if _, err := readData(missing); err == nil {
		t.Error("no error without " + importedFile)
	}
}

func TestPSLRules(t *testing.T) {
	got, err := pslRules("// ===BEGIN ICANN DOMAINS===\ncom\n\n*.ck\n!www.ck  // why\nрф\n// ===BEGIN PRIVATE DOMAINS===\ngithub.io\ncom\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := suffixHeader + "!www.ck\n*.ck\ncom\ngithub.io\nxn--p1ai\n"; string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if _, err := pslRules("com\n*..x\n"); err == nil || !strings.HasPrefix(err.Error(), "line 2:") {
		t.Errorf("error %v, want one of line 2", err)
	}
}

// theirs are small sources.
func theirs(t *testing.T) *sources {
	t.Helper()
	s, err := openSources(
		fstest.MapFS{
			"data/a": {Data: []byte("include:b\ninclude:c @-cn # comment\nfull:www.a.org\nDomain:A.org @cn\nkeyword:a\nregexp:^a$\n" +
				"ads.a.org @ads\nq.example &b\nother.example\nc.b.net\nx.cloud.net\ngithub.io\n")},
			"data/b":   {Data: []byte("b.org @ads\nb.info\n")},
			"data/c":   {Data: []byte("c.org @cn\nc.info\n")},
			"data/ads": {Data: []byte("include:b @ads\nads.net\nvisited.example\nx.tracker.example\n")},
		},
		fstest.MapFS{"dist/entities.json": {Data: []byte(`[
			{"name":"B one","category":"ad","domains":["*.B1.net","10.0.0.1","a.org","ads.net","b1.net"]},
			{"name":"C","category":"cdn","domains":["c1.net"]}]`)}},
	)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTake(t *testing.T) {
	fsys := files(map[string]string{
		servicesFile: "a.example | video | A | v2fly:a\n  a.net\nb.example | social | B | v2fly:b tpw:B_one\n  b.net -info\n" +
			"cloud.example | cloud | C |\n  cloud.net\nvisited.example | news | V |\n",
		hiddenFile: "@advertising v2fly:ads v2fly-attr:ads tpw:ad\n  own.example\n@tracking tpw-entity:B_one\n  tracker.example\n",
		suffixFile: "github.io\n",
	})
	c, err := readCatalogue(fsys)
	if err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	got, err := c.take(theirs(t), []string{"github.io"}, &report)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(got), "\n\n")
	want := `service a.example
  a.org v2fly:a
  c.info v2fly:a
  other.example v2fly:a
  q.example v2fly:a
  x.cloud.net v2fly:a

service b.example
  ads.net tpw:B_one
  b1.net tpw:B_one

hidden advertising
  a.org tpw:ad
  ads.net v2fly:ads
  b.org v2fly:ads
  b1.net tpw:ad
`
	if text != want {
		t.Errorf("taken:\n%swant:\n%s", text, want)
	}
	for _, line := range []string{
		"a.org is of a.example by v2fly:a, not of b.example by tpw:B_one\n",
		"visited.example is visited: not taken as advertising from v2fly:ads\n",
		"b1.net is of advertising by tpw:ad, not of tracking by tpw-entity:B_one\n",
	} {
		if !strings.Contains(report.String(), line) {
			t.Errorf("report has no line %q:\n%s", line, report.String())
		}
	}
}

func TestTakeErrors(t *testing.T) {
	tests := []struct{ service, hidden, want string }{
		{"v2fly:none", "", `services.txt: a.example: v2fly has no file "none"`},
		{"tpw:None", "", "services.txt: a.example: third-party-web has no entity"},
		{"other:a", "", `services.txt: a.example: there is no source "other:a"`},
		{"", "v2fly:none", "hidden.txt: time: v2fly has no file"},
		{"", "tpw:none", "hidden.txt: time: third-party-web has no category"},
		{"", "tpw-entity:none", "hidden.txt: time: third-party-web has no entity"},
		{"", "other:a", "hidden.txt: time: there is no source"},
	}
	for _, tt := range tests {
		c, err := readCatalogue(files(map[string]string{
			servicesFile: "a.example | video | A | " + tt.service + "\n",
			hiddenFile:   "@time " + tt.hidden + "\n",
		}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.take(theirs(t), nil, new(strings.Builder)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("error %v, want one that begins with %q", err, tt.want)
		}
	}
}

func TestV2flyErrors(t *testing.T) {
	for _, text := range []string{"a..b\n", "a.b ads\n", "magic:a.b\n"} {
		s := &sources{v2fly: make(map[string]*v2flyFile)}
		if err := s.addV2fly("x", "\n"+text); err == nil || !strings.HasPrefix(err.Error(), "v2fly: x:2: ") {
			t.Errorf("%q: error %v, want one of line 2", text, err)
		}
	}
	s := &sources{v2fly: make(map[string]*v2flyFile)}
	if err := s.addV2fly("x", "include:x\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.resolve("x", nil); err == nil {
		t.Error("a file that includes itself is resolved")
	}
}

func FuzzReadData(f *testing.F) {
	f.Add("a.example | video | A | v2fly:a\n  a.net -b.net\n", "@time tpw:ad\n  b.net !c.b.net -d\n", "service a.example\n  a.org v2fly:a\n", "com\n*.ck\n!www.ck\n")
	f.Add("|||", "@", "hidden time\n  x y", "*.")
	f.Fuzz(func(t *testing.T, services, hidden, imported, suffixes string) {
		d, err := readData(files(map[string]string{servicesFile: services, hiddenFile: hidden, importedFile: imported, suffixFile: suffixes}))
		if err != nil {
			return
		}
		if _, err := lists.Compile(d); err != nil {
			t.Errorf("what was read is not compiled: %v", err)
		}
	})
}

func FuzzV2fly(f *testing.F) {
	f.Add("include:b @ads @-cn\nfull:a.b @cn &b # x\nkeyword:x\n")
	f.Add("a\n&\n@")
	f.Fuzz(func(t *testing.T, text string) {
		s := &sources{v2fly: make(map[string]*v2flyFile)}
		if s.addV2fly("a", text) != nil {
			return
		}
		entries, err := s.resolve("a", nil)
		if err != nil {
			return
		}
		for _, e := range entries {
			if !isDomain(e.domain) {
				t.Errorf("%q is no domain", e.domain)
			}
		}
	})
}

func FuzzPSLRules(f *testing.F) {
	f.Add("// c\ncom\n*.ck\n!www.ck\nрф\n")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := pslRules(text)
		if err != nil {
			return
		}
		if _, err := readSuffixes(fstest.MapFS{suffixFile: {Data: rules}}); err != nil {
			t.Errorf("what was written is not read: %v", err)
		}
	})
}
