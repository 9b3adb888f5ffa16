package uci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// export writes a package as `uci export` does, so that it can be compared
// with what uci printed.
func export(p *Package) string {
	var b strings.Builder
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	fmt.Fprintf(&b, "package %s\n", p.Name)
	for _, s := range p.Sections {
		fmt.Fprintf(&b, "\nconfig %s", strings.ReplaceAll(s.Type, "'", `'\''`))
		if !s.Anonymous {
			fmt.Fprintf(&b, " %s", quote(s.Name))
		}
		b.WriteString("\n")
		for _, o := range s.Options {
			word := "option"
			if o.List {
				word = "list"
			}
			for _, v := range o.Values {
				fmt.Fprintf(&b, "\t%s %s %s\n", word, o.Name, quote(v))
			}
		}
	}
	b.WriteString("\n")
	return b.String()
}

func readJSON[T any](t testing.TB, path string) (v T) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// etc makes a router's two folders from the content of files: "pakon" and
// "dhcp" in the configuration, ".pakon" and ".dhcp" staged.
func etc(t testing.TB, files map[string]string) Folders {
	t.Helper()
	in := Folders{Config: t.TempDir(), Override: t.TempDir(), Staged: t.TempDir()}
	for name, content := range files {
		path := filepath.Join(in.Config, name)
		if staged, ok := strings.CutPrefix(name, "."); ok {
			path = filepath.Join(in.Staged, staged)
		} else if name, ok := strings.CutPrefix(name, "+"); ok {
			path = filepath.Join(in.Override, name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

// TestLoadFiles compares with what OpenWrt's uci made of each file.
func TestLoadFiles(t *testing.T) {
	type recorded struct {
		Name, File, Export, Error string
		OK                        bool
	}
	cases := readJSON[[]recorded](t, "testdata/files.json")
	if len(cases) < 30 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			in := etc(t, map[string]string{"pakon": c.File})
			pkg, err := Load(in, "pakon")
			if c.OK {
				if err != nil {
					t.Fatal(err)
				}
				if got := export(pkg); got != c.Export {
					t.Errorf("got\n%s\nwant\n%s", got, c.Export)
				}
				return
			}
			var parse *ParseError
			if !errors.As(err, &parse) {
				t.Fatalf("got %v, want a ParseError: %s", err, c.Error)
			}
			got := fmt.Sprintf("Parse error (%s) at line %d, byte %d", parse.Msg, parse.Line, parse.Byte)
			if got != c.Error || parse.File != filepath.Join(in.Config, "pakon") {
				t.Errorf("got %s in %s, want %s", got, parse.File, c.Error)
			}
		})
	}
}

// TestLoadStaged compares with what OpenWrt's uci made of each file and the
// changes staged for it.
func TestLoadStaged(t *testing.T) {
	type recorded struct{ Name, File, Delta, Export string }
	cases := readJSON[[]recorded](t, "testdata/staged.json")
	if len(cases) < 12 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			in := etc(t, map[string]string{"pakon": c.File, ".pakon": c.Delta})
			pkg, err := Load(in, "pakon")
			if err != nil {
				t.Fatal(err)
			}
			if got := export(pkg); got != c.Export {
				t.Errorf("got\n%s\nwant\n%s", got, c.Export)
			}
		})
	}
}

// TestLoadZeros: what a power cut leaves of a file reads as uci reads it.
func TestLoadZeros(t *testing.T) {
	sound := "config monitor 'monitor'\n\toption mode 'tap'\n"
	for name, c := range map[string]struct{ file, want string }{
		"only zeros": {strings.Repeat("\x00", 4096), "package pakon\n\n"},
		"a tail":     {sound + strings.Repeat("\x00", 4096), "package pakon\n\nconfig monitor 'monitor'\n\toption mode 'tap'\n\n"},
	} {
		in := etc(t, map[string]string{"pakon": c.file})
		pkg, err := Load(in, "pakon")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := export(pkg); got != c.want {
			t.Errorf("%s: got %q", name, got)
		}
		if uci, err := exec.LookPath("uci"); err == nil {
			if got, complaint := realUCI(t, uci, in, "-N", "export", "pakon"); got != c.want {
				t.Errorf("%s: uci itself: %q %s", name, got, complaint)
			}
		}
	}
}

// TestLoadOverride: a file in the folder of overrides stands instead of the
// one that is installed, for uci itself (where it is one that has such a folder) too.
func TestLoadOverride(t *testing.T) {
	const installed, override = "config monitor 'monitor'\n\toption mode 'tap'\n", "config monitor 'monitor'\n\toption mode 'filter'\n"
	exported := func(mode string) string {
		return "package pakon\n\nconfig monitor 'monitor'\n\toption mode '" + mode + "'\n\n"
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string // "" where uci finds or takes none
	}{
		"none":                 {map[string]string{"pakon": installed}, exported("tap")},
		"instead":              {map[string]string{"pakon": installed, "+pakon": override}, exported("filter")},
		"alone":                {map[string]string{"+pakon": override}, exported("filter")},
		"of another file":      {map[string]string{"pakon": installed, "+dhcp": override}, exported("tap")},
		"empty":                {map[string]string{"pakon": installed, "+pakon": ""}, "package pakon\n\n"},
		"with staged changes":  {map[string]string{"pakon": installed, "+pakon": override, ".pakon": "pakon.monitor.mode='auto'\n"}, exported("auto")},
		"refused":              {map[string]string{"pakon": installed, "+pakon": "nonsense\n"}, ""},
		"a folder, not a file": {map[string]string{"pakon": installed, "+pakon/x": ""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := etc(t, c.files)
			pkg, err := Load(in, "pakon")
			got := ""
			if err == nil {
				got = export(pkg)
			}
			if got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
			var parse *ParseError
			if errors.As(err, &parse) && parse.File != filepath.Join(in.Override, "pakon") {
				t.Errorf("the error is of %s", parse.File)
			}
			if uci, err := exec.LookPath("uci"); err == nil {
				if got, complaint := realUCI(t, uci, in, "-N", "export", "pakon"); got != c.want {
					t.Errorf("uci itself: %q %s", got, complaint)
				}
			}
		})
	}
}

func TestLoadMissing(t *testing.T) {
	in := etc(t, map[string]string{".pakon": "pakon.monitor='monitor'\n"})
	if _, err := Load(in, "pakon"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	if err := os.Mkdir(filepath.Join(in.Config, "dhcp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(in, "dhcp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder: got %v", err)
	}
	if _, err := Load(in, "../pakon"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path for a name: got %v", err)
	}
}

func TestLoadTooLarge(t *testing.T) {
	in := etc(t, map[string]string{
		"pakon": strings.Repeat("# comment\n", maxFile/10+1),
		"dhcp":  "", ".dhcp": strings.Repeat("#", maxFile+1),
	})
	for _, name := range []string{"pakon", "dhcp"} {
		if _, err := Load(in, name); err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
