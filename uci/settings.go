package uci

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	gouci "github.com/digineo/go-uci/v2"
)

// Problem is a value, option or section of a configuration file that cannot be
// used as it stands. It is an error that fits on one line.
type Problem struct {
	File    string // the path of the file
	Section string // its name, or @type[index] if it is anonymous
	Option  string // empty if the section itself is meant
	Value   string // empty if there is none
	Want    string // what would be right
	Warning bool   // nothing is wrong, but it has no effect, or not the one that one would expect
}

func (p Problem) Error() string {
	at := p.Section
	if p.Option != "" {
		at += "." + p.Option
	}
	if p.Value != "" {
		at += "=" + quoteValue(p.Value)
	}
	return fmt.Sprintf("%s: %s: want %s", p.File, at, p.Want)
}

// quoteValue makes a value fit to be shown in a line: bounded, and without
// anything that a terminal would act upon.
func quoteValue(v string) string {
	const longest = 80
	if len(v) > longest {
		return strconv.Quote(v[:longest]) + "..."
	}
	return strconv.Quote(v)
}

// maxProblems bounds what one file can make Pakon say.
const maxProblems = 100

// settings is a configuration file from which typed values are read. Its values
// are in a tree of go-uci. Load fills it, because go-uci's own reader knows
// only part of the format: what it would refuse or misread, uci accepts.
type settings struct {
	file     string
	pkg      *Package
	tree     gouci.Tree
	problems []Problem
}

// open loads a configuration; nil if there is no such file.
func open(in Folders, name string) (*settings, error) {
	pkg, err := Load(in, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tree, err := newTree(pkg)
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", name, err)
	}
	return &settings{file: in.Path(name), pkg: pkg, tree: tree}, nil
}

// newTree puts a package into a tree of go-uci. The key of a section there is
// its position: with staged renames, names need not be unique.
func newTree(pkg *Package) (gouci.Tree, error) {
	// A tree of a folder that is not there has nothing to load or to save.
	tree := gouci.NewTree("/proc/self/no configuration")
	for i, s := range pkg.Sections {
		key := strconv.Itoa(i)
		if err := tree.AddSection(pkg.Name, key, s.Type); err != nil {
			return nil, err
		}
		for _, o := range s.Options {
			typ := gouci.TypeOption
			if o.List {
				typ = gouci.TypeList
			}
			if err := tree.SetType(pkg.Name, key, o.Name, typ, o.Values...); err != nil {
				return nil, err
			}
		}
	}
	return tree, nil
}

// section is the section of a key.
func (s *settings) section(key string) *Section {
	i, err := strconv.Atoi(key)
	if err != nil || i >= len(s.pkg.Sections) {
		return &Section{}
	}
	return &s.pkg.Sections[i]
}

// label is how uci's users address the section of a key.
func (s *settings) label(key string) string {
	section := s.section(key)
	if !section.Anonymous {
		return section.Name
	}
	return fmt.Sprintf("@%s[%d]", section.Type, slices.Index(s.keys(section.Type), key))
}

// keys are the keys of the sections of a type, in order.
func (s *settings) keys(typ string) []string {
	if len(s.pkg.Sections) == 0 {
		return nil
	}
	keys, err := s.tree.GetSections(s.pkg.Name, typ)
	if err != nil {
		return nil
	}
	return keys
}

// only is the one section of a type that counts: the one named like the type,
// else the first. The others are warned about.
func (s *settings) only(typ string) (key string, ok bool) {
	keys := s.keys(typ)
	if len(keys) == 0 {
		return "", false
	}
	key = keys[0]
	for _, k := range keys {
		if s.section(k).Name == typ {
			key = k
			break
		}
	}
	for _, k := range keys {
		if k != key {
			s.warn(k, "", "", fmt.Sprintf("one section of type %s: %s is used, this one is not", typ, s.label(key)))
		}
	}
	return key, true
}

// checkNames warns about sections and options that mean nothing to Pakon.
func (s *settings) checkNames() {
	for i, section := range s.pkg.Sections {
		key := strconv.Itoa(i)
		options, ok := known[section.Type]
		if !ok {
			s.warn(key, "", "", "a section of type monitor, archive or archive_rule, not "+quoteValue(section.Type))
			continue
		}
		for _, o := range section.Options {
			if !slices.Contains(options, o.Name) {
				s.warn(key, o.Name, s.text(key, o.Name), "one of "+strings.Join(options, ", "))
			}
		}
	}
}

func (s *settings) report(key string, p Problem) {
	if len(s.problems) < maxProblems {
		p.File, p.Section = s.file, s.label(key)
		s.problems = append(s.problems, p)
	}
}

func (s *settings) wrong(key, option, value, want string) {
	s.report(key, Problem{Option: option, Value: value, Want: want})
}

func (s *settings) warn(key, option, value, want string) {
	s.report(key, Problem{Option: option, Value: value, Want: want, Warning: true})
}

func (s *settings) has(key, option string) bool { return len(s.values(key, option)) > 0 }

// must reports an option that is missing.
func (s *settings) must(key, option, want string) {
	if !s.has(key, option) {
		s.wrong(key, option, "", want)
	}
}

func (s *settings) values(key, option string) []string {
	values, _ := s.tree.Get(s.pkg.Name, key, option)
	return values
}

// text is the value of an option; as for OpenWrt's scripts, a list where one
// value is expected is its values with blanks between them.
func (s *settings) text(key, option string) string {
	return strings.Join(s.values(key, option), " ")
}

// boolean reads an option with one of the words that OpenWrt takes for
// booleans.
func (s *settings) boolean(key, option string, into *bool) {
	if !s.has(key, option) {
		return
	}
	v, ok := s.tree.GetBool(s.pkg.Name, key, option)
	if !ok {
		s.wrong(key, option, s.text(key, option), "0 or 1 (also off or on, no or yes, false or true, disabled or enabled)")
		return
	}
	*into = v
}

// one reads an option with one value. If there is none, or it is wrong, into
// keeps what it has.
func one[T any](s *settings, key, option string, into *T, parse func(string) (T, bool), want string) {
	if !s.has(key, option) {
		return
	}
	v, ok := parse(s.text(key, option))
	if !ok {
		s.wrong(key, option, s.text(key, option), want)
		return
	}
	*into = v
}

// How the values of a list are separated, apart from being entries of a `list`.
type separation uint8

const (
	split       separation = iota // by white space everywhere
	splitOption                   // by white space in an `option`; the entries of a `list` may have blanks
)

// list reads the entries of a list, each once. If there is no right one, into
// keeps what it has.
func (s *settings) list(key, option string, into *[]string, sep separation, parse func(string) (string, bool), want string) {
	var right []string
	for _, entry := range s.entries(key, option, sep) {
		v, ok := parse(entry)
		if !ok {
			s.wrong(key, option, entry, want)
		} else if !slices.Contains(right, v) {
			right = append(right, v)
		}
	}
	if len(right) > 0 {
		*into = right
	}
}

func (s *settings) entries(key, option string, sep separation) []string {
	values := s.values(key, option)
	if o := s.section(key).option(option); sep == splitOption && o != nil && o.List {
		return values
	}
	var entries []string
	for _, v := range values {
		entries = append(entries, strings.Fields(v)...)
	}
	return entries
}
