package uci

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzLoad: whatever stands in the two files, nothing panics, and a package
// that was read is one that uci could have made: names and types valid, every
// option with values, settings in range, and reading its export gives it again.
func FuzzLoad(f *testing.F) {
	for _, path := range []string{"testdata/files.json", "testdata/staged.json"} {
		type recorded struct{ File, Delta string }
		for _, c := range readJSON[[]recorded](f, path) {
			f.Add([]byte(c.File), []byte(c.Delta))
		}
	}
	f.Add([]byte("config archive_rule\noption up_to 1w\noption window 1\nconfig host\noption name n\nlist mac 00:11:22:33:44:55\noption ip ::1\nconfig monitor 'm'\nlist exclude_client a\noption exclude_hostname b.c\nlist interface d\n"), []byte("dhcp.m='x'\n"))
	for _, staged := range stagedPieces {
		f.Add([]byte(stagedBase), []byte(staged))
	}
	in := etc(f, nil)
	f.Fuzz(func(t *testing.T, file, staged []byte) {
		write := func(dir string, b []byte) {
			for _, name := range []string{"pakon", "dhcp", "fstab"} {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(in.Config, file)
		write(in.Staged, staged)
		pkg, err := Load(in, "pakon")
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
		cfg, problems, err := Read(in)
		if err != nil {
			t.Fatalf("loaded, but not read: %v", err)
		}
		if !cfg.Valid() {
			t.Fatalf("out of range: %+v", cfg)
		}
		hosts, more, err := ReadHosts(in)
		if err != nil {
			t.Fatalf("loaded, but hosts not read: %v", err)
		}
		for _, h := range hosts {
			if h.Name != "" && !showable(h.Name, maxName) || !h.useful() {
				t.Fatalf("host %+v", h)
			}
		}
		for _, read := range []func(Folders) ([]string, error){ReadLeaseFiles, ReadHostsFiles, ReadMounts} {
			paths, err := read(in)
			if err != nil {
				t.Fatalf("loaded, but paths not read: %v", err)
			}
			for _, path := range paths {
				if !filepath.IsAbs(path) || path != filepath.Clean(path) {
					t.Fatalf("path %q", path)
				}
			}
		}
		resolvers, err := ReadResolvers(in)
		if err != nil {
			t.Fatalf("loaded, but resolvers not read: %v", err)
		}
		for _, a := range resolvers {
			if !a.IsValid() || a.IsUnspecified() || a.Is4In6() {
				t.Fatalf("resolver %v", a)
			}
		}
		for _, p := range append(problems, more...) {
			if p.Section == "" || p.Want == "" || strings.ContainsAny(p.Error(), "\n\x00\x1b") {
				t.Fatalf("problem %q", p)
			}
		}
		if renamed(pkg) {
			return
		}
		exported := export(pkg)
		write(in.Config, []byte(exported))
		write(in.Staged, nil)
		again, err := Load(in, "pakon")
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
