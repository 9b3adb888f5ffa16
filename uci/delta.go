package uci

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// A change is one staged change: a line `[COMMAND]package.section[.option][=value]`
// of the file that uci keeps until uci commit.
type change struct {
	command                 byte // one of "+-@^|~", 0 to set
	pkg, section, option    string
	value                   string
	hasValue, addressOption bool
}

// applyStaged applies the lines of a staging file, in order. As uci does, it
// passes over what is malformed, belongs to another package or names what does
// not exist.
func (p *Package) applyStaged(text []byte) {
	r := reader{rest: text}
	for r.next() {
		if c, ok := parseChange(&r); ok && c.pkg == p.Name {
			p.apply(c)
		}
	}
}

// parseChange reads one change; false if uci would not accept it.
func parseChange(r *reader) (c change, ok bool) {
	line, err := r.arg()
	if err != nil || r.cur() != 0 {
		return change{}, false
	}
	if line != "" && strings.IndexByte("+-@^|~", line[0]) >= 0 {
		c.command = line[0]
		line = line[1:]
	}
	var address string
	address, c.value, c.hasValue = strings.Cut(line, "=")
	parts := strings.Split(address, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return change{}, false
	}
	c.pkg, c.section = parts[0], parts[1]
	if !validName(c.pkg, true) || !validName(c.section, false) || !validText(c.value) {
		return change{}, false
	}
	if len(parts) == 3 {
		c.option, c.addressOption = parts[2], true
		if !validName(c.option, false) {
			return change{}, false
		}
	}
	if !c.hasValue && c.command != '-' {
		return change{}, false
	}
	switch c.command {
	case '^':
		return c, !c.addressOption
	case '@':
		return c, validName(c.value, false)
	case '|', '~':
		return c, c.addressOption
	}
	return c, true
}

// validText tells whether s may be staged as a value.
func validText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' })
}

func (p *Package) apply(c change) {
	s := p.section(c.section)
	switch c.command {
	case '+', 0:
		p.applySet(s, c)
		return
	}
	if s == nil {
		return
	}
	switch c.command {
	case '-':
		p.applyDelete(s, c)
	case '@':
		s.applyRename(c)
	case '^':
		p.reorder(s, position(c.value))
	case '|':
		s.add(c.option, c.value)
	case '~':
		if o := s.option(c.option); o != nil && o.List {
			o.Values = slices.DeleteFunc(o.Values, func(v string) bool { return v == c.value })
		}
	}
}

// applySet sets an option, or the type of a section, which it makes if need
// be; '+' makes it anonymous. An empty value deletes.
func (p *Package) applySet(s *Section, c change) {
	switch {
	case c.addressOption:
		if s == nil {
			return
		}
		if c.value == "" {
			s.deleteOption(c.option)
		} else {
			s.set(c.option, c.value)
		}
	case c.value == "":
		p.deleteSection(s)
	case !validType(c.value):
	case s == nil:
		p.Sections = append(p.Sections, Section{Type: c.value, Name: c.section, Anonymous: c.command == '+'})
	default:
		// Of a type of another length libuci makes a new section, which is
		// not anonymous.
		if len(s.Type) != len(c.value) {
			s.Anonymous = false
		}
		s.Type = c.value
		if c.command == '+' {
			s.Anonymous = true
		}
	}
}

// applyDelete deletes a section, an option, or the value of a list whose index
// is given.
func (p *Package) applyDelete(s *Section, c change) {
	if !c.addressOption {
		p.deleteSection(s)
		return
	}
	o := s.option(c.option)
	if o == nil {
		return
	}
	if !o.List || c.value == "" {
		s.deleteOption(c.option)
		return
	}
	if i, ok := leadingInt(c.value); ok && i >= 0 && i < int64(len(o.Values)) {
		o.Values = slices.Delete(o.Values, int(i), int(i)+1)
	}
}

func (s *Section) applyRename(c change) {
	if !c.addressOption {
		s.Name, s.Anonymous = c.value, false
	} else if o := s.option(c.option); o != nil {
		o.Name = c.value
	}
}

// reorder moves a section to a place among the others, counted from 0.
func (p *Package) reorder(s *Section, place int) {
	moved := *s
	p.deleteSection(s)
	p.Sections = slices.Insert(p.Sections, min(place, len(p.Sections)), moved)
}

// deleteSection deletes exactly the section s points to; nothing if it is nil.
func (p *Package) deleteSection(s *Section) {
	for i := range p.Sections {
		if s == &p.Sections[i] {
			p.Sections = slices.Delete(p.Sections, i, i+1)
			return
		}
	}
}

func (s *Section) deleteOption(name string) {
	for i := range s.Options {
		if s.Options[i].Name == name {
			s.Options = slices.Delete(s.Options, i, i+1)
			return
		}
	}
}

// position reads the place of a reorder as libuci does with C's strtoul: what
// is no number, negative or out of range means the first place.
func position(s string) int {
	n, ok := leadingInt(s)
	if !ok || n < 0 || n > math.MaxInt32 {
		return 0
	}
	return int(n)
}

// leadingInt reads the decimal number that s begins with, white space and a
// sign before it allowed, as C does; false if there is none.
func leadingInt(s string) (int64, bool) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && (s[0] == '-' || s[0] == '+')) {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	return n, err == nil
}
