package lists

import (
	"strings"
	"testing"
	"testing/fstest"
)

func owner(replace, ignore string) fstest.MapFS {
	return fstest.MapFS{
		"domains_replace/mine.conf":  {Data: []byte(replace)},
		"domains_ignore/mine.txt":    {Data: []byte(ignore)},
		"domains_ignore/notes.bak":   {Data: []byte("google.com")},
		"domains_replace/sub/x.conf": {Data: []byte(`"a.b" : "c.d"`)},
	}
}

func TestClassify(t *testing.T) {
	l, problems := Load(owner(`# comment
"corp.example" : "Work.example"
"video.corp.example" : "tv.example",
"fragment" : "frag.example"
".dotted." : "dot.example"
"scdn.co" : "music.example"
`, `# comment
tracker.example
.dotted.example
!ok.tracker.example
`))
	if len(problems) != 0 {
		t.Fatalf("problems: %v", problems)
	}
	tests := []struct {
		name, group string
		hidden      bool
	}{
		{"scontent.fprg1-1.fna.fbcdn.net", "facebook.com", false},
		{"fbcdn.net", "facebook.com", false},
		{"FBCDN.net.", "facebook.com", false},
		// A domain is matched by whole labels only.
		{"notfbcdn.net", "", false},
		{"fbcdn.net.example", "", false},
		{"notfacebook.com", "", false},
		{"mvk.com", "", false},
		// Hiding looks at the name as it was seen, whatever it is grouped to.
		{"graph.facebook.com", "", true},
		{"stats.g.doubleclick.net", "", true},
		{"connectivitycheck.gstatic.com", "google.com", true},
		{"fonts.gstatic.com", "google.com", false},
		// Shared platforms hide nobody.
		{"d1234.cloudfront.net", "", false},
		{"bucket.s3.amazonaws.com", "", false},
		// The owner's lists.
		{"www.corp.example", "work.example", false},
		{"video.corp.example", "tv.example", false},
		{"hd.video.corp.example", "tv.example", false},
		{"i.scdn.co", "music.example", false},
		{"www.fragment.example", "frag.example", false},
		{"fragment.example", "frag.example", false},
		{"www.fragments.example", "", false},
		{"www.example.fragment", "", false},
		{"a.dotted.b", "dot.example", false},
		{"tracker.example", "", true},
		{"x.tracker.example", "", true},
		{"ok.tracker.example", "", false},
		{"www.dotted.example", "dot.example", true},
		{"", "", false},
		{".", "", false},
		{"...", "", false},
		{"localhost", "", false},
	}
	for _, tt := range tests {
		group, hidden := l.Classify(tt.name)
		if group != tt.group || hidden != tt.hidden {
			t.Errorf("Classify(%q) = %q, %v; want %q, %v", tt.name, group, hidden, tt.group, tt.hidden)
		}
	}
}

func TestLoadOwnData(t *testing.T) {
	l, problems := Load(fstest.MapFS{})
	for _, p := range problems {
		t.Error(p)
	}
	if groups, hidden := l.Len(); groups == 0 || hidden == 0 {
		t.Errorf("own data: %d groups, %d hidden", groups, hidden)
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
		{"empty key", `"" : "c.d"`, "", "domains_replace/mine.conf:1: not a domain name"},
		{"empty label", `"a..b" : "c.d"`, "", "domains_replace/mine.conf:1: not a domain name"},
		{"second line", "", "good.example\nbad name\n", "domains_ignore/mine.txt:2: not a domain name"},
		{"comment not in column 1", "", "good.example # why", "domains_ignore/mine.txt:1: not a domain name"},
		{"control character", "", "a\x01b.example", "domains_ignore/mine.txt:1: not a domain name"},
		{"not UTF-8", "", "a\xffb.example", "domains_ignore/mine.txt:1: not UTF-8"},
		{"long name", "", strings.Repeat("a", 256), "domains_ignore/mine.txt:1: not a domain name"},
		{"long line", "", "a.example\n" + strings.Repeat("a", 5000), "domains_ignore/mine.txt:2: line is longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, problems := Load(owner(tt.replace, tt.ignore))
			if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), tt.want) {
				t.Errorf("problems %v, want one that begins with %q", problems, tt.want)
			}
			if group, _ := l.Classify("fbcdn.net"); group != "facebook.com" {
				t.Errorf("the rest does not hold: fbcdn.net is %q", group)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(`"a.b" : "c.d"`, "a.b\n!c.a.b", "x.a.b")
	f.Add(`"frag" : "c.d",`, "# no\n.x", "x.frag.y")
	f.Fuzz(func(t *testing.T, replace, ignore, name string) {
		l, _ := Load(owner(replace, ignore))
		group, hidden := l.Classify(name)
		if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
			return // the case of other scripts is not always reversible
		}
		if g, h := l.Classify(strings.ToUpper(name) + "."); !strings.HasSuffix(name, ".") && (g != group || h != hidden) {
			t.Errorf("%q: %q, %v; in upper case: %q, %v", name, group, hidden, g, h)
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	l, _ := Load(fstest.MapFS{})
	for b.Loop() {
		l.Classify("scontent.fprg1-1.fna.fbcdn.net")
	}
}
