package lists

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// sample is a small set of entries in place of the project's own.
var sample = Data{
	Services: []Service{
		{"facebook.com", "Facebook", "social"},
		{"google.com", "Google", "search"},
		{"youtube.com", "YouTube", "video"},
		{"spotify.com", "Spotify", "music"},
		{"amazonaws.com", "Amazon Web Services", "cloud"},
		{"ntp", "Time (NTP)", "other"},
	},
	Groups: map[string]string{
		"fbcdn.net": "facebook.com", "gstatic.com": "google.com", "googleapis.com": "google.com",
		"youtubei.googleapis.com": "youtube.com", "scdn.co": "spotify.com",
		"ntp": "ntp", "háček.cz": "google.com",
	},
	Hidden: map[string]string{
		"graph.facebook.com": "tracking", "doubleclick.net": "advertising", "ok.doubleclick.net": "",
		"connectivitycheck.gstatic.com": "connectivity", "ntp": "time",
	},
	Suffixes: []string{"com", "net", "org", "cz", "co", "uk", "co.uk", "*.ck", "!www.ck", "github.io", "io", "compute.amazonaws.com", "*.kawasaki.jp", "jp", "!city.kawasaki.jp"},
}

func compiled(t testing.TB, d Data) table {
	t.Helper()
	b, err := Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	tab, err := openTable(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// installed are the lists that are installed with the program.
func installed(t testing.TB) table {
	t.Helper()
	own, err := readOwn(os.DirFS("../files/usr/share/pakon-light"))
	if err != nil {
		t.Fatal(err)
	}
	return own
}

func owner(replace, ignore string) fstest.MapFS {
	return fstest.MapFS{
		"domains_replace/mine.conf":  {Data: []byte(replace)},
		"domains_ignore/mine.txt":    {Data: []byte(ignore)},
		"domains_ignore/notes.bak":   {Data: []byte("google.com")},
		"domains_replace/sub/x.conf": {Data: []byte(`"a.b" : "c.d"`)},
	}
}

func TestClassify(t *testing.T) {
	l, problems := load(compiled(t, sample), owner(`# comment
"corp.example" : "Work.example"
"video.corp.example" : "tv.example",
"fragment" : "frag.example"
".dotted." : "dot.example"
"scdn.co" : "sounds.example"
"old.example" : "corp.example"
"a.loop" : "b.loop"
"b.loop" : "a.loop"
"household" : "Our stuff.example"
"paper.example" : "news"
"ŽLUŤOUČKÝ.cz" : "kun.example"
"lent.example" : "facebook.com"
`, `# comment
tracker.example
.dotted.example
!ok.tracker.example
!graph.facebook.com
háčky.cz
`))
	if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), "domains_replace/mine.conf:10: ") {
		t.Fatalf("problems: %v", problems)
	}
	tests := []struct{ name, group, category, hidden string }{
		{"scontent.fprg1-1.fna.fbcdn.net", "facebook.com", "social", ""},
		{"fbcdn.net", "facebook.com", "social", ""},
		{"FBCDN.net.", "facebook.com", "social", ""},
		// A domain is matched by whole labels only.
		{"notfbcdn.net", "notfbcdn.net", "", ""},
		{"fbcdn.net.example", "net.example", "", ""},
		{"www.notfacebook.com", "notfacebook.com", "", ""},
		{"facebook.co", "facebook.co", "", ""},
		{"facebook.com-x.org", "com-x.org", "", ""},
		// The longest holds.
		{"youtubei.googleapis.com", "youtube.com", "video", ""},
		{"x.youtubei.googleapis.com", "youtube.com", "video", ""},
		{"www.googleapis.com", "google.com", "search", ""},
		// Hiding looks at the name as it was seen, whatever it is grouped to.
		{"stats.g.doubleclick.net", "doubleclick.net", "", "advertising"},
		{"ok.doubleclick.net", "doubleclick.net", "", ""},
		{"a.ok.doubleclick.net", "doubleclick.net", "", ""},
		{"connectivitycheck.gstatic.com", "google.com", "search", "connectivity"},
		{"fonts.gstatic.com", "google.com", "search", ""},
		{"bucket.s3.amazonaws.com", "amazonaws.com", "cloud", ""},
		{"ntp", "ntp", "other", "time"},
		// What no list knows: public suffixes, with their wildcards and exceptions.
		{"www.example.co.uk", "example.co.uk", "", ""},
		{"co.uk", "co.uk", "", ""},
		{"uk", "uk", "", ""},
		{"a.b.c.ck", "b.c.ck", "", ""},
		{"b.c.ck", "b.c.ck", "", ""},
		{"c.ck", "c.ck", "", ""},
		{"a.www.ck", "www.ck", "", ""},
		{"x.y.z.kawasaki.jp", "y.z.kawasaki.jp", "", ""},
		{"x.y.city.kawasaki.jp", "city.kawasaki.jp", "", ""},
		{"me.github.io", "me.github.io", "", ""},
		{"a.b.unheard-of", "b.unheard-of", "", ""},
		// Other scripts, as the DNS has them and as people write them.
		{"www.xn--hek-ela4t.cz", "google.com", "search", ""},
		{"www.HÁČEK.cz", "google.com", "search", ""},
		{"xn--hky-ela4t.cz", "xn--hky-ela4t.cz", "", "ignored"},
		{"www.xn--luouk-uva4it5a4g.cz", "kun.example", "", ""},
		// The owner's lists.
		{"www.corp.example", "work.example", "", ""},
		{"video.corp.example", "tv.example", "", ""},
		{"hd.video.corp.example", "tv.example", "", ""},
		{"i.scdn.co", "sounds.example", "", ""},
		{"lent.example", "facebook.com", "social", ""},
		{"graph.facebook.com", "facebook.com", "social", ""},
		{"www.fragment.example", "frag.example", "", ""},
		{"fragment.example", "frag.example", "", ""},
		{"www.fragments.example", "fragments.example", "", ""},
		{"www.example.fragment", "example.fragment", "", ""},
		{"www.fragment.fbcdn.net", "facebook.com", "social", ""},
		{"a.dotted.b", "dot.example", "", ""},
		{"paper.example", "news", "", ""},
		{"www.old.example", "work.example", "", ""},
		{"tracker.example", "tracker.example", "", "ignored"},
		{"x.tracker.example", "tracker.example", "", "ignored"},
		{"ok.tracker.example", "tracker.example", "", ""},
		{"www.dotted.example", "dot.example", "", "ignored"},
		// What is no host name.
		{"", "", "", ""}, {".", "", "", ""}, {"...", "", "", ""}, {"a..b", "", "", ""}, {".a.b", "", "", ""},
		{"203.0.113.5", "", "", ""}, {"2001:db8::1", "", "", ""}, {"[2001:db8::1]", "", "", ""},
		{strings.Repeat("a.", 200) + "com", "", "", ""},
		{"localhost", "localhost", "", ""},
	}
	for _, tt := range tests {
		if got, want := l.Classify(tt.name), (Class{tt.group, tt.category, tt.hidden}); got != want {
			t.Errorf("Classify(%q) = %+v; want %+v", tt.name, got, want)
		}
	}
	if s, ok := l.Service("facebook.com"); !ok || s != sample.Services[0] {
		t.Errorf("Service(facebook.com) = %v, %v", s, ok)
	}
	if s, ok := l.Service("facebook.org"); ok {
		t.Errorf("Service(facebook.org) = %v", s)
	}
}

func TestShowing(t *testing.T) {
	l, _ := load(compiled(t, sample), owner("", "x.example\n"))
	s := l.Showing([]string{"advertising", "ignored", "no such"})
	for name, want := range map[string]string{"a.doubleclick.net": "", "x.example": "", "graph.facebook.com": "tracking"} {
		if got := s.Classify(name).Hidden; got != want {
			t.Errorf("%s is hidden as %q, want %q", name, got, want)
		}
	}
	if l.Classify("a.doubleclick.net").Hidden == "" {
		t.Error("the lists themselves have changed")
	}
}

// TestAgainstOracle compares the compact form with the plain meaning of random
// entries.
func TestAgainstOracle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	labels := []string{"a", "b", "ab", "a-b", "-", "aa", "com", "co"}
	random := func() string {
		parts := make([]string, 1+rnd.IntN(5))
		for i := range parts {
			parts[i] = labels[rnd.IntN(len(labels))]
		}
		return strings.Join(parts, ".")
	}
	for round := range 300 {
		d := Data{Groups: make(map[string]string), Hidden: make(map[string]string)}
		for i := range 5 {
			d.Services = append(d.Services, Service{Key: fmt.Sprintf("s%d.test", i), Label: "x"})
		}
		rules := make(map[string]bool)
		for range rnd.IntN(60) {
			d.Groups[random()] = d.Services[rnd.IntN(5)].Key
			d.Hidden[random()] = []string{"", "advertising", "cdn"}[rnd.IntN(3)]
			rule := random()
			switch rnd.IntN(4) {
			case 0:
				rule = "*." + rule
			case 1:
				if strings.Contains(rule, ".") {
					rule = "!" + rule
				}
			}
			// The list has no domain with two rules but a wildcard's own.
			if bare := strings.TrimLeft(rule, "*.!"); !rules[bare] {
				rules[bare] = true
				d.Suffixes = append(d.Suffixes, rule)
			}
		}
		l := &Lists{table: compiled(t, d)}
		for range 200 {
			name := random()
			want := Class{}
			for s := name; s != ""; _, s, _ = strings.Cut(s, ".") {
				if g, ok := d.Groups[s]; ok {
					want.Group = g
					break
				}
			}
			for s := name; s != ""; _, s, _ = strings.Cut(s, ".") {
				if h, ok := d.Hidden[s]; ok {
					want.Hidden = h
					break
				}
			}
			if want.Group == "" {
				want.Group = registrableByRules(name, d.Suffixes)
			}
			if got := l.Classify(name); got != want {
				t.Fatalf("round %d: Classify(%q) = %+v; want %+v\n%v", round, name, got, want, d)
			}
		}
	}
}

// registrableByRules follows the algorithm of the public suffix list to the
// letter, but that of rules that overlap the nearest to the name holds: the list
// has none that contradict each other.
func registrableByRules(name string, rules []string) string {
	labels := strings.Split(name, ".")
	suffix := 1
	for from := range labels {
		rest := strings.Join(labels[from:], ".")
		n := len(labels) - from
		switch {
		case slices.Contains(rules, "!"+rest):
			suffix = n - 1
		case slices.Contains(rules, "*."+rest):
			suffix = n + 1
		case slices.Contains(rules, rest):
			suffix = n
		default:
			continue
		}
		break
	}
	if suffix >= len(labels) {
		return name
	}
	return strings.Join(labels[len(labels)-suffix-1:], ".")
}

// TestMergedTable: what the owner adds leaves all else as it was.
func TestMergedTable(t *testing.T) {
	base := installed(t)
	l, problems := load(base, owner(`"zzz.example" : "zzz.example"`, ""))
	if problems != nil {
		t.Fatal(problems)
	}
	n := 0
	base.all(func(domain []byte, e entry) {
		n++
		if got := l.table.find(domain); base.describe(got) == l.table.describe(e.value()) {
			return
		} else if want := e.value(); base.describe(want) != l.table.describe(got) {
			t.Errorf("%s is %s, want %s", domain, l.table.describe(got), base.describe(want))
		}
	})
	if n != base.entries || n == 0 {
		t.Errorf("%d entries of %d", n, base.entries)
	}
}

func (t *table) describe(v value) string {
	s := Service{}
	if v.service >= 0 {
		s = t.service(v.service)
	}
	return fmt.Sprint(s, v.hidden, v.suffix)
}

// TestOwnLists: without the project's own lists, or with damaged ones, the owner's
// hold.
func TestOwnLists(t *testing.T) {
	good, err := Compile(sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		own     []byte
		group   string // of fbcdn.net
		problem string
	}{
		{"good", good, "facebook.com", ""},
		{"none", nil, "fbcdn.net", "lists: open lists: file does not exist"},
		{"empty", []byte{}, "fbcdn.net", "lists: not lists in the compact form"},
		{"cut", good[:len(good)-3], "fbcdn.net", "lists: not lists in the compact form: block 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := owner(`"x.example" : "y.example"`, "")
			if tt.own != nil {
				files["lists"] = &fstest.MapFile{Data: tt.own}
			}
			l, problems := Load(files)
			if said := fmt.Sprint(problems); tt.problem == "" && problems != nil || tt.problem != "" && said != "["+tt.problem+"]" {
				t.Errorf("problems %s, want %s", said, tt.problem)
			}
			if g := l.Classify("www.fbcdn.net").Group; g != tt.group {
				t.Errorf("fbcdn.net is of %q, want %q", g, tt.group)
			}
			if g := l.Classify("www.x.example").Group; g != "y.example" {
				t.Errorf("the owner's are not in force: %q", g)
			}
		})
	}
}

func TestLoadProblems(t *testing.T) {
	tests := []struct {
		name, replace, ignore, want string
	}{
		{"no colon", `"a.b" "c.d"`, "", `domains_replace/mine.conf:1: want "name" : "group"`},
		{"no quotes", "ok\n", "", `domains_replace/mine.conf:1: want`},
		{"open quote", "\"a.b\" : \"c.d\n", "", `domains_replace/mine.conf:1: want`},
		{"text behind", `"a.b" : "c.d" # why`, "", `domains_replace/mine.conf:1: want`},
		{"empty key", `"" : "c.d"`, "", "domains_replace/mine.conf:1: want domains such as"},
		{"empty label", `"a..b" : "c.d"`, "", "domains_replace/mine.conf:1: want domains such as"},
		{"space in the group", `"a.b" : "c d"`, "", "domains_replace/mine.conf:1: want domains such as"},
		{"second line", "", "good.example\nbad name\n", "domains_ignore/mine.txt:2: want domains such as"},
		{"comment not in column 1", "", "good.example # why", "domains_ignore/mine.txt:1: want domains such as"},
		{"control character", "", "a\x01b.example", "domains_ignore/mine.txt:1: want domains such as"},
		{"URL", "", "https://good.example/", "domains_ignore/mine.txt:1: want domains such as"},
		{"rule of another program", "", "||good.example^", "domains_ignore/mine.txt:1: want domains such as"},
		{"not UTF-8", "", "a\xffb.example", "domains_ignore/mine.txt:1: not UTF-8"},
		{"long name", "", strings.Repeat("a", 256), "domains_ignore/mine.txt:1: want domains such as"},
		{"long line", "", "a.example\n" + strings.Repeat("a", 5000), "domains_ignore/mine.txt:2: line is longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, problems := load(compiled(t, sample), owner(tt.replace, tt.ignore))
			if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), tt.want) {
				t.Errorf("problems %v, want one that begins with %q", problems, tt.want)
			}
			if c := l.Classify("fbcdn.net"); c.Group != "facebook.com" {
				t.Errorf("the rest does not hold: fbcdn.net is %q", c.Group)
			}
		})
	}
}

// TestManyProblems: of a file that is wrong throughout, the first lines are told,
// and what is right in it holds.
func TestManyProblems(t *testing.T) {
	l, problems := load(compiled(t, sample), owner("", strings.Repeat("bad name\n", 7)+strings.Repeat("a", 3*maxLine)+"\n*.good.example\n"))
	var said []string
	for _, p := range problems {
		said = append(said, strings.TrimPrefix(p.Error(), "domains_ignore/mine.txt"))
	}
	if len(said) != maxProblems+1 || !strings.HasPrefix(said[4], ":5: want") || said[5] != ": 3 more lines are wrong" {
		t.Errorf("problems %q", said)
	}
	if c := l.Classify("www.good.example"); c.Hidden != "ignored" {
		t.Errorf("what follows a long line is %+v", c)
	}
}

// TestReload: while the project's own lists can not be read, the last ones hold.
func TestReload(t *testing.T) {
	good, err := Compile(sample)
	if err != nil {
		t.Fatal(err)
	}
	files := owner(`"x.example" : "y.example"`, "")
	files["lists"] = &fstest.MapFile{Data: good}
	l, problems := Load(files)
	if problems != nil {
		t.Fatal(problems)
	}
	for _, own := range [][]byte{nil, good[:20], {}} {
		delete(files, "lists")
		if own != nil {
			files["lists"] = &fstest.MapFile{Data: own}
		}
		files["domains_replace/mine.conf"] = &fstest.MapFile{Data: []byte(`"x.example" : "z.example"`)}
		if l, problems = l.Reload(files); len(problems) != 1 {
			t.Errorf("problems %v", problems)
		}
		if a, b := l.Classify("fbcdn.net").Group, l.Classify("x.example").Group; a != "facebook.com" || b != "z.example" {
			t.Errorf("fbcdn.net is of %q, x.example of %q", a, b)
		}
	}
}

func TestByLabel(t *testing.T) {
	l := &Lists{table: compiled(t, sample)}
	if got := l.ByLabel("amazon web services"); !slices.Equal(got, []string{"amazonaws.com"}) {
		t.Errorf("%q", got)
	}
	if got := l.ByLabel("Face"); got != nil {
		t.Errorf("%q", got)
	}
}

func TestCompileProblems(t *testing.T) {
	s := []Service{{"a.b", "A", ""}}
	tests := []struct {
		name string
		d    Data
	}{
		{"service twice", Data{Services: append(s, s...)}},
		{"no label", Data{Services: []Service{{"a.b", "", ""}}}},
		{"unknown category", Data{Services: []Service{{"a.b", "A", "nothing"}}}},
		{"key that is no name", Data{Services: []Service{{"a b", "A", ""}}}},
		{"unknown service", Data{Groups: map[string]string{"x.y": "z.z"}}},
		{"domain that is no name", Data{Services: s, Groups: map[string]string{"x..y": "a.b"}}},
		{"unknown hidden category", Data{Hidden: map[string]string{"x.y": "nothing"}}},
		{"wildcard inside", Data{Suffixes: []string{"a.*.b"}}},
		{"exception of nothing", Data{Suffixes: []string{"!com"}}},
	}
	for _, tt := range tests {
		if _, err := Compile(tt.d); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
}

// TestBounds: the largest lists that are promised, and what they cost.
func TestBounds(t *testing.T) {
	l, problems := load(installed(t), owner("", many(200_000)))
	if problems != nil {
		t.Fatal(problems)
	}
	if domains, _ := l.Len(); domains < 200_000 {
		t.Errorf("%d domains", domains)
	}
	if n := len(l.table.data); n > 6<<20 {
		t.Errorf("200,000 domains take %d bytes", n)
	}
	for i := 0; i < 200_000; i += 997 {
		if n := manyName(i); l.Classify("x."+n).Hidden != "ignored" || l.Classify("x"+n).Hidden != "" {
			t.Errorf("%s is not told from others", n)
		}
	}
}

func manyName(i int) string {
	const words = "adsrvtrackpixelmediastatcdnmetriccount"
	return fmt.Sprintf("%s%d.%s-%x.%s", words[i%30:i%30+4], i, words[i%17:i%17+6], i*7919, []string{"com", "net", "de", "co.uk", "cz"}[i%5])
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(manyName(i))
		b.WriteByte('\n')
	}
	return b.String()
}

func FuzzLoad(f *testing.F) {
	f.Add(`"a.b" : "c.d"`, "a.b\n!c.a.b", "x.a.b")
	f.Add(`"frag" : "c.d",`, "# no\n.x", "x.frag.y")
	f.Add("\"a.b\" : \"c.d\"\n\"c.d\" : \"a.b\"", "", "a.b")
	f.Add("\"á.b\" : \"č\"\n\"č\" : \"google.com\"", "č", "á.b")
	base := compiled(f, sample)
	f.Fuzz(func(t *testing.T, replace, ignore, name string) {
		l, _ := load(base, owner(replace, ignore))
		c := l.Classify(name)
		if g := l.Classify(c.Group); g.Group != c.Group {
			t.Errorf("the group of %q is %q, whose group is %q", name, c.Group, g.Group)
		}
		if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
			return // the case of other scripts is not always reversible
		}
		if u := l.Classify(strings.ToUpper(name) + "."); !strings.HasSuffix(name, ".") && u != c {
			t.Errorf("%q: %+v; in upper case: %+v", name, c, u)
		}
	})
}

// FuzzTable: a damaged table is refused, or answers something.
func FuzzTable(f *testing.F) {
	b, err := Compile(sample)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, "www.facebook.com")
	f.Add(bytes.Replace(b, []byte("facebook"), []byte("zzzzzzzz"), 1), "a.zzzzzzzz.com")
	f.Add(b[:len(b)-1], "uk")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		tab, err := openTable(string(b))
		if err != nil {
			return
		}
		l := &Lists{table: tab}
		l.Classify(name)
		l.Service(name)
		tab.all(func([]byte, entry) {})
	})
}

func BenchmarkClassify(b *testing.B) {
	for _, n := range []int{0, 200_000} {
		l, _ := load(installed(b), owner("", many(n)))
		for _, name := range []string{"scontent.fprg1-1.fna.fbcdn.net", "www.some-shop.co.uk", "a.b.c.d.e.f.g.example.org"} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					l.Classify(name)
				}
			})
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	own, files := installed(b), owner("", many(200_000))
	b.ReportAllocs()
	for b.Loop() {
		load(own, files)
	}
}

// TestTooLarge: a file that is too large, alone or with those before it, is left out as
// a whole, one that says to be smaller than it is from there on; the others hold.
func TestTooLarge(t *testing.T) {
	comment := "#" + strings.Repeat(" ", 998) + "\n"
	files := func(sizes ...int) fstest.MapFS {
		all := fstest.MapFS{"domains_ignore/z.txt": {Data: []byte("last.example\n")}}
		for i, n := range sizes {
			text := fmt.Sprintf("first%d.example\n", i) + strings.Repeat(comment, n/len(comment)) + fmt.Sprintf("end%d.example\n", i)
			all[fmt.Sprintf("domains_ignore/%d.txt", i)] = &fstest.MapFile{Data: []byte(text)}
		}
		return all
	}
	for name, tt := range map[string]struct {
		files  fs.FS
		hidden []string
		said   string
	}{
		"large":        {files(maxSize / 2), []string{"first0", "end0", "last"}, ""},
		"too large":    {files(1000, maxSize+1000), []string{"first0", "end0", "last"}, "domains_ignore/1.txt: the lists are larger than"},
		"one too many": {files(maxSize/2, maxSize/2, 5000), []string{"first0", "end0", "first1", "end1", "last"}, "domains_ignore/2.txt"},
		"grows":        {lying{files(maxSize + 1000)}, []string{"first0"}, "domains_ignore/0.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			l, problems := load(compiled(t, sample), tt.files)
			if tt.said == "" && problems != nil || tt.said != "" && (len(problems) == 0 || !strings.HasPrefix(problems[0].Error(), tt.said)) {
				t.Errorf("problems %v", problems)
			}
			var hidden []string
			for _, n := range []string{"first0", "end0", "first1", "end1", "last"} {
				if l.Classify(n+".example").Hidden == "ignored" {
					hidden = append(hidden, n)
				}
			}
			if !reflect.DeepEqual(hidden, tt.hidden) {
				t.Errorf("hidden are %v, want %v", hidden, tt.hidden)
			}
		})
	}
}

// lying has files that say that they are empty.
type lying struct{ fs.FS }

func (l lying) Open(name string) (fs.File, error) {
	f, err := l.FS.Open(name)
	if _, folder := f.(fs.ReadDirFile); folder || err != nil {
		return f, err
	}
	return lyingFile{f}, nil
}

type lyingFile struct{ fs.File }

func (f lyingFile) Stat() (fs.FileInfo, error) {
	info, err := f.File.Stat()
	return emptyInfo{info}, err
}

type emptyInfo struct{ fs.FileInfo }

func (emptyInfo) Size() int64 { return 0 }
