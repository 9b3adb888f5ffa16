// Package uci reads OpenWrt's configuration: any file of /etc/config as the uci
// command itself reads it, staged changes of /tmp/.uci and files of /var/run/uci
// that stand instead included ([Load]), and from it the settings of Pakon ([Read])
// and the names that the administrator gave to devices ([ReadHosts]).
//
// It only reads. Changing the configuration is left to uci and its users, and
// what the settings mean to the daemon package.
//
// The format is the one of libuci (https://openwrt.org/docs/guide-user/base-system/uci),
// its corners included: a file that uci accepts is accepted here with the same
// values, and what uci refuses is refused with the same message.
package uci

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"pakon/uci/regular"
)

// maxFile bounds a configuration file and the staged changes to it, in bytes.
const maxFile = 1 << 20

// Package is one configuration file: its sections, in order.
type Package struct {
	Name     string
	Sections []Section
}

// Section is one `config TYPE ['NAME']` with its options, in order. An
// anonymous section has the name that uci generates for it (cfgXXYYYY: XX is
// its position in the file, in hexadecimal, YYYY a hash of its type).
type Section struct {
	Type, Name string
	Anonymous  bool
	Options    []Option
}

// Option is one option of a section. An `option` has exactly one value, a
// `list` one or more.
type Option struct {
	Name   string
	List   bool
	Values []string
}

// ParseError says where and why uci refuses a file.
type ParseError struct {
	File string // the path of the file
	Line int    // as uci counts: a last line without a newline is not counted
	Byte int    // offset in the line, or in the lines that a value extends over
	Msg  string // uci's own words
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("%s: parse error (%s) at line %d, byte %d", e.File, e.Msg, e.Line, e.Byte)
}

// Folders are where uci keeps configurations.
type Folders struct {
	Config   string // of the files, /etc/config
	Override string // of files that stand instead of those in Config, /var/run/uci
	Staged   string // of changes that are not committed, /tmp/.uci
}

// Path is the file that uci reads, and uci commit writes, for a configuration.
// What is in Override hides the file in Config even if it can not be read.
func (f Folders) Path(name string) string {
	if path := filepath.Join(f.Override, name); f.Override != "" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(f.Config, name)
}

// Load reads the configuration name and applies the changes that are staged
// for it, as uci does. It returns a [*ParseError] where uci refuses the file,
// and an error that is [fs.ErrNotExist] where there is none.
// Staged changes are never refused: a line that uci cannot use is left out.
func Load(in Folders, name string) (*Package, error) {
	if !validName(name, true) {
		return nil, fmt.Errorf("reading configuration %q: want a name of letters, digits, '_' and '-'", name)
	}
	path := in.Path(name)
	text, unlock, err := readLocked(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", name, err)
	}
	// uci commit holds the lock of the file while it moves the staged changes
	// into it: until unlock, both are read in the same state.
	defer unlock()
	pkg, err := parseFile(name, text)
	if err != nil {
		var parse *ParseError
		if errors.As(err, &parse) {
			parse.File = path
		}
		return nil, err
	}
	staged, unlockStaged, err := readLocked(filepath.Join(in.Staged, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading staged changes of %s: %w", name, err)
	default:
		unlockStaged()
		pkg.applyStaged(staged)
	}
	pkg.dropEmptyLists()
	return pkg, nil
}

// readLocked returns the content of a regular file and what gives up the
// shared lock on it. As for uci, anything but a regular file does not exist.
func readLocked(path string) (text []byte, unlock func(), err error) {
	f, err := regular.Open(path)
	if errors.Is(err, regular.ErrNotRegular) {
		err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := lock(f); err != nil {
		return nil, nil, fmt.Errorf("locking %s: %w", path, err)
	}
	text, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxFile {
		return nil, nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return text, func() { f.Close() }, nil
}

// The lock of a file is asked for again every lockRetry, for lockPatience. Of uci,
// it takes milliseconds until it is free; but whoever may read a file can keep it.
const (
	lockRetry    = 20 * time.Millisecond
	lockPatience = time.Second
)

// lock takes the shared lock of a file.
func lock(f *os.File) error {
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockRetry) {
		var locked error
		c, err := f.SyscallConn()
		if err == nil {
			err = c.Control(func(fd uintptr) { locked = unix.Flock(int(fd), unix.LOCK_SH|unix.LOCK_NB) })
		}
		switch err = cmp.Or(err, locked); {
		case errors.Is(err, unix.ENOSYS):
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case time.Now().After(end):
			return fmt.Errorf("another program holds its lock for over %s", lockPatience)
		}
	}
}

// index finds the first section of a name; -1 if there is none.
func (p *Package) index(name string) int {
	for i := range p.Sections {
		if p.Sections[i].Name == name {
			return i
		}
	}
	return -1
}

// section finds the first section of a name; nil if there is none.
func (p *Package) section(name string) *Section {
	if i := p.index(name); i >= 0 {
		return &p.Sections[i]
	}
	return nil
}

// option finds an option by name; nil if there is none.
func (s *Section) option(name string) *Option {
	for i := range s.Options {
		if s.Options[i].Name == name {
			return &s.Options[i]
		}
	}
	return nil
}

// set makes an option of the only value v, in the place where a former option
// or list of that name stood.
func (s *Section) set(name, v string) {
	if o := s.option(name); o != nil {
		o.List, o.Values = false, []string{v}
		return
	}
	s.Options = append(s.Options, Option{Name: name, Values: []string{v}})
}

// setUnlessEmpty is what an `option` line of a file does: without a value it
// changes nothing.
func (s *Section) setUnlessEmpty(name, v string) {
	if v != "" {
		s.set(name, v)
	}
}

// add appends v to a list; a former option becomes the list's first value.
func (s *Section) add(name, v string) {
	if o := s.option(name); o != nil {
		o.List, o.Values = true, append(o.Values, v)
		return
	}
	s.Options = append(s.Options, Option{Name: name, List: true, Values: []string{v}})
}

// anonymousName is the name of the nth section of a file (from 1) when it has
// none of its own; the hash is djb2 of the type.
func anonymousName(n int, typ string) string {
	hash := uint32(5381)
	for i := range len(typ) {
		hash = hash*33 + uint32(typ[i])
	}
	return fmt.Sprintf("cfg%02x%04x", n, hash&0xffff)
}

// dropEmptyLists removes the lists that staged changes left without values:
// uci neither exports nor shows them.
func (p *Package) dropEmptyLists() {
	for i := range p.Sections {
		s := &p.Sections[i]
		s.Options = slices.DeleteFunc(s.Options, func(o Option) bool { return len(o.Values) == 0 })
	}
}

// validName tells whether s may name a section or option; the name of a
// package may contain '-', too.
func validName(s string, pkg bool) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && !('0' <= c && c <= '9') && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && !(pkg && c == '-') {
			return false
		}
	}
	return s != ""
}

// validType tells whether s may be the type of a section.
func validType(s string) bool {
	return s != "" && !bytes.ContainsFunc([]byte(s), func(r rune) bool { return r < 33 || r > 126 })
}
