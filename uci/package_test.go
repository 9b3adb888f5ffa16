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
func etc(t testing.TB, files map[string]string) (confDir, deltaDir string) {
	t.Helper()
	confDir, deltaDir = t.TempDir(), t.TempDir()
	for name, content := range files {
		path := filepath.Join(confDir, name)
		if staged, ok := strings.CutPrefix(name, "."); ok {
			path = filepath.Join(deltaDir, staged)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return confDir, deltaDir
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
			confDir, deltaDir := etc(t, map[string]string{"pakon": c.File})
			pkg, err := Load(confDir, deltaDir, "pakon")
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
			if got != c.Error || parse.File != filepath.Join(confDir, "pakon") {
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
			confDir, deltaDir := etc(t, map[string]string{"pakon": c.File, ".pakon": c.Delta})
			pkg, err := Load(confDir, deltaDir, "pakon")
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
		confDir, deltaDir := etc(t, map[string]string{"pakon": c.file})
		pkg, err := Load(confDir, deltaDir, "pakon")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := export(pkg); got != c.want {
			t.Errorf("%s: got %q", name, got)
		}
		if uci, err := exec.LookPath("uci"); err == nil {
			if got, complaint := realUCI(t, uci, confDir, deltaDir, "-N", "export", "pakon"); got != c.want {
				t.Errorf("%s: uci itself: %q %s", name, got, complaint)
			}
		}
	}
}

func TestLoadMissing(t *testing.T) {
	confDir, deltaDir := etc(t, map[string]string{".pakon": "pakon.monitor='monitor'\n"})
	if _, err := Load(confDir, deltaDir, "pakon"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	if err := os.Mkdir(filepath.Join(confDir, "dhcp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(confDir, deltaDir, "dhcp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder: got %v", err)
	}
	if _, err := Load(confDir, deltaDir, "../pakon"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path for a name: got %v", err)
	}
}

func TestLoadTooLarge(t *testing.T) {
	confDir, deltaDir := etc(t, map[string]string{
		"pakon": strings.Repeat("# comment\n", maxFile/10+1),
		"dhcp":  "", ".dhcp": strings.Repeat("#", maxFile+1),
	})
	for _, name := range []string{"pakon", "dhcp"} {
		if _, err := Load(confDir, deltaDir, name); err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
