package lists_test

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"pakon/lists"
)

const minNames = 300

var categories = strings.Fields(`video music social messaging games shopping
	finance news search mail work cloud storage development updates devices
	education travel transport food health government adult gambling dating
	reference vpn encrypted-dns ai telecom photo sport jobs software cdn other`)

var hiddenCategories = strings.Fields(`advertising tracking telemetry
	certificates connectivity time browser cdn`)

// row is a name and the answers that are right for it, each "" for none.
type row struct {
	line                    int
	name                    string
	group, category, hidden answers
}

type answers []string

func (a answers) accept(got string) bool {
	return slices.Contains(a, "*") || slices.Contains(a, got)
}

func (a answers) String() string {
	words := slices.Clone(a)
	for i := range words {
		words[i] = dash(words[i])
	}
	return strings.Join(words, "|")
}

// TestNames compares the project's own lists with names.txt, which was not made
// from them.
func TestNames(t *testing.T) {
	l, problems := lists.Load(os.DirFS("../files/usr/share/pakon-light"))
	if len(problems) != 0 {
		t.Fatalf("problems: %v", problems)
	}
	rows := readNames(t)
	if len(rows) < minNames {
		t.Errorf("%d names, want at least %d", len(rows), minNames)
	}
	wrong := 0
	for _, r := range rows {
		c := l.Classify(r.name)
		if !r.group.accept(c.Group) || !r.category.accept(c.Category) || !r.hidden.accept(c.Hidden) {
			wrong++
			t.Errorf("names.txt:%d: %s: group %s, category %s, hidden %s; want %s, %s, %s", r.line, r.name,
				dash(c.Group), dash(c.Category), dash(c.Hidden), r.group, r.category, r.hidden)
		}
	}
	if wrong > 0 {
		t.Logf("%d of %d names are wrong", wrong, len(rows))
	}
}

// readNames reads the table. A row that is no use as a check is an error of the
// test: one that is there twice, or has a word that is no category.
func readNames(t *testing.T) []row {
	f, err := os.Open("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []row
	seen := map[string]bool{}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 4 {
			t.Fatalf("names.txt:%d: %d columns, want 4", n, len(fields))
		}
		r := row{line: n, name: fields[0], group: split(fields[1]), category: split(fields[2]), hidden: split(fields[3])}
		if seen[r.name] {
			t.Errorf("names.txt:%d: %s is there twice", n, r.name)
		}
		seen[r.name] = true
		for _, c := range r.category {
			if c != "" && c != "*" && !slices.Contains(categories, c) {
				t.Errorf("names.txt:%d: %q is no category", n, c)
			}
		}
		for _, c := range r.hidden {
			if c != "" && !slices.Contains(hiddenCategories, c) {
				t.Errorf("names.txt:%d: %q is no hidden category", n, c)
			}
		}
		// Of a name that is shown, both the group and the category are.
		if slices.Contains(r.hidden, "") && (slices.Contains(r.group, "*") || slices.Contains(r.category, "*")) {
			t.Errorf("names.txt:%d: %s may be shown but says nothing", n, r.name)
		}
		rows = append(rows, r)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// split reads a column: "a|-" is "a" and none.
func split(s string) answers {
	a := answers(strings.Split(s, "|"))
	for i := range a {
		if a[i] == "-" {
			a[i] = ""
		}
	}
	return a
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
