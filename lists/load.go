package lists

import (
	"bufio"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

const (
	replaceDir = "domains_replace" // *.conf: "key" : "value" a line
	ignoreDir  = "domains_ignore"  // *.txt: a domain a line, "!" in front shows it again
	maxLine    = 1024              // bytes
	maxEntries = 1_000_000         // of all files together
	maxName    = 255               // bytes
)

//go:embed data
var data embed.FS

// Problem is a line, or a file, that could not be used.
type Problem struct {
	File string
	Line int // 0: the whole file
	Err  error
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %v", p.File, p.Err)
	}
	return fmt.Sprintf("%s:%d: %v", p.File, p.Line, p.Err)
}

func (p Problem) Unwrap() error { return p.Err }

var (
	errReplaceLine = errors.New(`want "name" : "group"`)
	errDomain      = fmt.Errorf("not a domain name of at most %d bytes", maxName)
	errUTF8        = errors.New("not UTF-8")
	errLong        = fmt.Errorf("line is longer than %d bytes", maxLine)
	errMany        = fmt.Errorf("more than %d entries; the rest is left out", maxEntries)
)

// Load reads the project's own lists and then the owner's, whose entries hold
// over ours, from the folders domains_replace and domains_ignore of fsys, in
// the order of the files' names. A missing folder is an empty one. What is
// wrong is returned and left out; the rest holds.
func Load(fsys fs.FS) (*Lists, []Problem) {
	l := &Lists{groups: make(map[string]string), hidden: make(map[string]bool), fragments: make(map[string]string)}
	own, err := fs.Sub(data, "data")
	if err != nil {
		panic(err) // the folder is embedded
	}
	var problems []Problem
	for _, f := range []fs.FS{own, fsys} {
		problems = append(problems, l.readAll(f, replaceDir, ".conf", l.replaceLine)...)
		problems = append(problems, l.readAll(f, ignoreDir, ".txt", l.ignoreLine)...)
	}
	return l, problems
}

func (l *Lists) readAll(fsys fs.FS, dir, suffix string, line func(string) error) []Problem {
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []Problem{{File: dir, Err: err}}
	}
	var problems []Problem
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		name := path.Join(dir, e.Name())
		f, err := fsys.Open(name)
		if err != nil {
			problems = append(problems, Problem{File: name, Err: err})
			continue
		}
		problems = append(problems, l.read(name, f, line)...)
		f.Close()
	}
	return problems
}

// read hands each line that says something to line. Of a file that is wrong
// throughout, one problem is enough: the first of its lines.
func (l *Lists) read(name string, r io.Reader, line func(string) error) []Problem {
	var problems []Problem
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for sc.Scan() {
		n++
		text := sc.Text()
		if strings.HasPrefix(text, "#") || strings.TrimSpace(text) == "" {
			continue
		}
		err := errUTF8
		if utf8.ValidString(text) {
			err = line(text)
		}
		if err != nil && len(problems) == 0 {
			problems = append(problems, Problem{name, n, err})
		}
		if errors.Is(err, errMany) {
			break
		}
	}
	switch err := sc.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		problems = append(problems, Problem{name, n + 1, errLong})
	case err != nil:
		problems = append(problems, Problem{name, n + 1, err})
	}
	return problems
}

// replaceLine reads `"key" : "value"`. A key with a dot inside is a domain; one
// without, or with dots around it, is a label that may stand anywhere.
func (l *Lists) replaceLine(text string) error {
	key, rest, ok := quoted(text)
	if !ok {
		return errReplaceLine
	}
	rest, ok = strings.CutPrefix(strings.TrimSpace(rest), ":")
	if !ok {
		return errReplaceLine
	}
	value, rest, ok := quoted(rest)
	if rest = strings.TrimSpace(rest); !ok || rest != "" && rest != "," {
		return errReplaceLine
	}
	key, value = strings.Trim(normalise(key), "."), normalise(value)
	if !isName(key) || !isName(value) {
		return errDomain
	}
	if err := l.room(); err != nil {
		return err
	}
	if strings.Contains(key, ".") {
		l.groups[key] = value
	} else {
		l.fragments[key] = value
	}
	return nil
}

func (l *Lists) ignoreLine(text string) error {
	text, shown := strings.CutPrefix(strings.TrimSpace(text), "!")
	text = strings.TrimPrefix(normalise(text), ".")
	if !isName(text) {
		return errDomain
	}
	if err := l.room(); err != nil {
		return err
	}
	l.hidden[text] = !shown
	return nil
}

func (l *Lists) room() error {
	if groups, hidden := l.Len(); groups+hidden >= maxEntries {
		return errMany
	}
	return nil
}

// quoted returns what stands between the double quotes that s begins with.
func quoted(s string) (value, rest string, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimSpace(s), `"`)
	if !ok {
		return "", "", false
	}
	return strings.Cut(s, `"`)
}

// isName tells whether s can be (a part of) a host name. Spaces and control
// characters can not; anything else may be in a name that someone made up.
func isName(s string) bool {
	if s == "" || len(s) > maxName || strings.Contains(s, "..") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}
