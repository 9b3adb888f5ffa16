package uci

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// FuzzLoad: whatever stands in the two files, nothing panics, and a package
// that was read is one that uci could have made: names and types valid, every
// option with values, and reading its export gives it again.
func FuzzLoad(f *testing.F) {
	for _, path := range []string{"testdata/files.json", "testdata/staged.json"} {
		type recorded struct{ File, Delta string }
		for _, c := range readJSON[[]recorded](f, path) {
			f.Add([]byte(c.File), []byte(c.Delta))
		}
	}
	for _, staged := range stagedPieces {
		f.Add([]byte(stagedBase), []byte(staged))
	}
	confDir, deltaDir := etc(f, nil)
	f.Fuzz(func(t *testing.T, file, staged []byte) {
		write := func(dir string, b []byte) {
			if err := os.WriteFile(filepath.Join(dir, "pakon"), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(confDir, file)
		write(deltaDir, staged)
		pkg, err := Load(confDir, deltaDir, "pakon")
		if err != nil {
			return
		}
		for _, s := range pkg.Sections {
			if !validType(s.Type) || !validName(s.Name, false) {
				t.Fatalf("section %q of type %q", s.Name, s.Type)
			}
			for _, o := range s.Options {
				if !validName(o.Name, false) || len(o.Values) == 0 || !o.List && (len(o.Values) != 1 || o.Values[0] == "") {
					t.Fatalf("option %+v", o)
				}
			}
		}
		if _, _, err := Read(confDir, deltaDir); err != nil {
			t.Fatalf("loaded, but not read: %v", err)
		}
		if renamed(pkg) {
			return
		}
		exported := export(pkg)
		write(confDir, []byte(exported))
		write(deltaDir, nil)
		again, err := Load(confDir, deltaDir, "pakon")
		if err != nil {
			t.Fatalf("what uci would write is refused: %v\n%s", err, exported)
		}
		if got := export(again); got != exported {
			t.Fatalf("got\n%s\nwant\n%s", got, exported)
		}
		if len(staged) == 0 && !reflect.DeepEqual(pkg.Sections, again.Sections) {
			t.Fatalf("got %+v\nwant %+v", again.Sections, pkg.Sections)
		}
	})
}

// renamed tells whether two sections, or two options of one, have one name, as
// staged renames can bring about; an export of that reads as one.
func renamed(pkg *Package) bool {
	sections := map[string]bool{}
	for _, s := range pkg.Sections {
		if sections[s.Name] {
			return true
		}
		sections[s.Name] = true
		options := map[string]bool{}
		for _, o := range s.Options {
			if options[o.Name] {
				return true
			}
			options[o.Name] = true
		}
	}
	return false
}
