package lists

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
	"unsafe"

	"pakon/lists/hostname"
)

const (
	ownFile      = "lists"           // the project's own, in the compact form
	replaceDir   = "domains_replace" // *.conf: "key" : "value" a line
	ignoreDir    = "domains_ignore"  // *.txt: a domain a line, "!" in front shows it again
	maxLine      = 1024              // bytes
	maxFragments = 4096
	maxProblems  = 5        // lines of a file that are told to be wrong
	maxOwn       = 16 << 20 // bytes
	maxSize      = 32 << 20 // bytes of the owner's files, all together
)

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
	errHostName    = fmt.Errorf("want domains such as ads.example.org: letters, digits, dots, - and _, at most %d", maxName)
	errUTF8        = errors.New("not UTF-8")
	errFragments   = fmt.Errorf("more than %d names without a dot; the rest is left out", maxFragments)
	errLarge       = fmt.Errorf("the lists are larger than %d MiB together; the rest is left out", maxSize>>20)
	errLong        = fmt.Errorf("line is longer than %d bytes", maxLine)
)

// Load reads the project's own lists, the file lists of fsys, and then the
// owner's, whose entries hold over ours, from the folders domains_replace and
// domains_ignore, in the order of the files' names. A missing folder is an empty
// one. What is wrong is returned and left out; the rest holds.
//
// A line of domains_replace says "name" : "group". A name with a dot inside is a
// domain: it and what is below it belongs to the group. One without, or with dots
// around it (the original Pakon looked for such text anywhere, even inside of
// other words) is a label: it may stand anywhere in a name but at the end, and
// holds where no domain does. A line of domains_ignore is a domain that is hidden
// with what is below it; "!" in front of it shows it again.
func Load(fsys fs.FS) (*Lists, []Problem) {
	return new(Lists).Reload(fsys)
}

// Reload is Load, but where the project's own lists can not be read, those that l
// was made with hold on.
func (l *Lists) Reload(fsys fs.FS) (*Lists, []Problem) {
	own, err := readOwn(fsys)
	if err != nil {
		own = l.own
	}
	n, problems := load(own, fsys)
	if err != nil {
		problems = append([]Problem{{File: ownFile, Err: err}}, problems...)
	}
	return n, problems
}

func readOwn(fsys fs.FS) (table, error) {
	f, err := fsys.Open(ownFile)
	if err != nil {
		return table{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return table{}, err
	}
	if info.Size() > maxOwn {
		return table{}, fmt.Errorf("%w: it is larger than %d bytes", errForm, maxOwn)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return table{}, err
	}
	return openTable(unsafeString(b))
}

func load(base table, fsys fs.FS) (*Lists, []Problem) {
	r := reader{base: base, left: maxSize, fragments: make(map[string]string)}
	r.size = sizeOf(fsys, replaceDir, ".conf") + sizeOf(fsys, ignoreDir, ".txt")
	r.readAll(fsys, replaceDir, ".conf", r.replaceLine)
	r.readAll(fsys, ignoreDir, ".txt", r.ignoreLine)
	l := &Lists{own: base, table: base, fragments: r.fragments}
	if r.b == nil {
		return l, r.problems // there is nothing of the owner's
	}
	data, err := r.b.compile()
	if err == nil {
		l.table, err = openTable(unsafeString(data))
	}
	if err != nil {
		l.table = base
		r.problems = append(r.problems, Problem{File: "the owner's lists", Err: err})
	}
	for label, group := range l.fragments {
		l.fragments[label] = l.Classify(group).Group
	}
	return l, r.problems
}

// reader reads the owner's files.
type reader struct {
	base      table
	size      int64    // bytes of the files, as they say
	left      int64    // bytes that may still be read
	b         *builder // nil until there is an entry
	fragments map[string]string
	problems  []Problem
}

// builder is that which has our entries already.
func (r *reader) builder() (*builder, error) {
	if r.b != nil {
		return r.b, nil
	}
	b := newBuilder()
	b.grow(&r.base, int(min(r.size, maxSize)))
	if err := b.addAll(&r.base); err != nil {
		return nil, err
	}
	r.b = b
	return b, nil
}

// sizeOf is how many bytes the files in a folder have.
func sizeOf(fsys fs.FS, dir, suffix string) (size int64) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return 0 // readAll tells why
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && !e.IsDir() && strings.HasSuffix(e.Name(), suffix) && size+info.Size() <= maxSize {
			size += info.Size()
		}
	}
	return size
}

func (r *reader) readAll(fsys fs.FS, dir, suffix string, line func(string) error) {
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		r.problems = append(r.problems, Problem{File: dir, Err: err})
		return
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		name := path.Join(dir, e.Name())
		f, err := fsys.Open(name)
		if err != nil {
			r.problems = append(r.problems, Problem{File: name, Err: err})
			continue
		}
		r.problems = append(r.problems, r.readFile(name, f, line)...)
		f.Close()
	}
}

// readFile reads a file, unless it is too large.
func (r *reader) readFile(name string, f fs.File, line func(string) error) []Problem {
	tooLarge := Problem{File: name, Err: errLarge}
	if info, err := f.Stat(); err == nil && info.Size() > r.left {
		return []Problem{tooLarge}
	}
	in := &io.LimitedReader{R: f, N: r.left + 1}
	problems := read(name, in, func(text string) error {
		if in.N == 0 {
			return nil // it may be a part of a line
		}
		return line(text)
	})
	if in.N == 0 { // it grows, or its size is not what it said
		problems = append(problems, tooLarge)
	}
	r.left = max(in.N-1, 0)
	return problems
}

// read hands each line that says something to line. Of a file that is wrong
// throughout, the first lines are told.
func read(name string, r io.Reader, line func(string) error) (problems []Problem) {
	in := bufio.NewReaderSize(r, maxLine)
	wrong := 0
	for n := 1; ; n++ {
		text, long, err := in.ReadLine()
		if err == io.EOF {
			break
		}
		if err != nil {
			return append(problems, Problem{name, n, err})
		}
		switch {
		case long:
			for long && err == nil { // the rest of it
				_, long, err = in.ReadLine()
			}
			err = errLong
		case len(text) == 0 || text[0] == '#' || len(bytes.TrimSpace(text)) == 0:
			continue
		case !utf8.Valid(text):
			err = errUTF8
		default:
			err = line(unsafeString(text)) // which keeps nothing of it
		}
		if err == nil {
			continue
		}
		if wrong++; wrong <= maxProblems {
			problems = append(problems, Problem{name, n, err})
		}
		if errors.Is(err, errMany) || errors.Is(err, errFragments) {
			break
		}
	}
	if more := wrong - maxProblems; more > 0 {
		problems = append(problems, Problem{File: name, Err: fmt.Errorf("%d more lines are wrong", more)})
	}
	return problems
}

// replaceLine reads `"key" : "value"`.
func (r *reader) replaceLine(text string) error {
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
	key, value = hostname.Normalise(strings.Trim(key, ".")), hostname.Normalise(value)
	key = strings.TrimPrefix(key, "*.") // what is below it is meant in any case
	if !isHostName(key) || !isHostName(value) || isAddress(value) {
		return errHostName
	}
	b, err := r.builder()
	if err != nil {
		return err
	}
	service, err := b.serviceOf(value)
	switch {
	case err != nil:
		return err
	case strings.Contains(key, "."):
		return b.group(key, service)
	case len(r.fragments) >= maxFragments:
		return errFragments
	}
	r.fragments[strings.Clone(key)] = b.services[service].Key
	return nil
}

func (r *reader) ignoreLine(text string) error {
	text, shown := strings.CutPrefix(strings.TrimSpace(text), "!")
	category := ignored
	if shown {
		category = shownAgain
	}
	domain := hostname.Normalise(strings.TrimPrefix(strings.TrimPrefix(text, "*"), "."))
	if !isHostName(domain) {
		return errHostName
	}
	b, err := r.builder()
	if err != nil {
		return err
	}
	return b.hide(domain, category)
}

// quoted returns what stands between the double quotes that s begins with.
func quoted(s string) (value, rest string, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimSpace(s), `"`)
	if !ok {
		return "", "", false
	}
	return strings.Cut(s, `"`)
}

// unsafeString is b as a string, which is good as long as nobody changes b.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
