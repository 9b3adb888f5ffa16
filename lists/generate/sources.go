package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
)

// maxIncludes bounds how deep files of v2fly include one another.
const maxIncludes = 16

// entry is a domain that a source names.
type entry struct {
	domain string
	attrs  []string // of v2fly: "ads", "cn"
}

// include is a file that another includes: only entries with all attributes of
// with, and none of without.
type include struct {
	file          string
	with, without []string
}

// v2flyFile is one of the files of v2fly/domain-list-community.
type v2flyFile struct {
	entries  []entry
	includes []include
}

// entity is one of third-party-web.
type entity struct {
	Name     string
	Category string
	Domains  []string
}

// sources are the lists of others from which domains are taken.
type sources struct {
	v2fly    map[string]*v2flyFile
	entities []entity
}

func openSources(v2fly, web fs.FS) (*sources, error) {
	s := &sources{v2fly: make(map[string]*v2flyFile)}
	files, err := fs.ReadDir(v2fly, "data")
	if err != nil {
		return nil, fmt.Errorf("reading v2fly: %w", err)
	}
	for _, f := range files {
		text, err := fs.ReadFile(v2fly, "data/"+f.Name())
		if err != nil {
			return nil, fmt.Errorf("reading v2fly: %w", err)
		}
		if err := s.addV2fly(f.Name(), string(text)); err != nil {
			return nil, err
		}
	}
	text, err := fs.ReadFile(web, "dist/entities.json")
	if err != nil {
		return nil, fmt.Errorf("reading third-party-web: %w", err)
	}
	if err := json.Unmarshal(text, &s.entities); err != nil {
		return nil, fmt.Errorf("reading third-party-web: %w", err)
	}
	return s, nil
}

func (s *sources) file(name string) *v2flyFile {
	f, ok := s.v2fly[name]
	if !ok {
		f = new(v2flyFile)
		s.v2fly[name] = f
	}
	return f
}

// addV2fly reads a file of v2fly, in the form that its README describes.
// Keywords and expressions are left out: they are no domains.
func (s *sources) addV2fly(name, text string) error {
	f := s.file(name)
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		kind, rule, ok := strings.Cut(strings.ToLower(words[0]), ":")
		if !ok {
			kind, rule = "domain", strings.ToLower(words[0])
		}
		var with, without, also []string
		for _, w := range words[1:] {
			switch a, isAttr := strings.CutPrefix(w, "@"); {
			case isAttr && strings.HasPrefix(a, "-"):
				without = append(without, a[1:])
			case isAttr:
				with = append(with, a)
			case strings.HasPrefix(w, "&"):
				also = append(also, w[1:])
			default:
				return fmt.Errorf("v2fly: %s:%d: %q is no attribute", name, n+1, w)
			}
		}
		switch kind {
		case "include":
			f.includes = append(f.includes, include{rule, with, without})
		case "domain", "full":
			if !isDomain(rule) {
				return fmt.Errorf("v2fly: %s:%d: %q is not a domain name", name, n+1, rule)
			}
			e := entry{rule, with}
			f.entries = append(f.entries, e)
			for _, a := range also {
				other := s.file(strings.ToLower(a))
				other.entries = append(other.entries, e)
			}
		case "keyword", "regexp":
		default:
			return fmt.Errorf("v2fly: %s:%d: there is no %q", name, n+1, kind)
		}
	}
	return nil
}

// resolve are the entries of a file of v2fly and of those it includes, but for
// included files of which skip is true.
func (s *sources) resolve(name string, skip func(file string) bool) ([]entry, error) {
	return s.resolveDeep(name, skip, 0)
}

func (s *sources) resolveDeep(name string, skip func(string) bool, depth int) ([]entry, error) {
	f, ok := s.v2fly[name]
	if !ok {
		return nil, fmt.Errorf("v2fly has no file %q", name)
	}
	if depth > maxIncludes {
		return nil, fmt.Errorf("v2fly: files include one another deeper than %d: %q", maxIncludes, name)
	}
	out := slices.Clone(f.entries)
	for _, i := range f.includes {
		if skip != nil && skip(i.file) {
			continue
		}
		entries, err := s.resolveDeep(i.file, skip, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, e := range entries {
			if i.matches(e) {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func (i include) matches(e entry) bool {
	for _, a := range i.with {
		if !slices.Contains(e.attrs, a) {
			return false
		}
	}
	for _, a := range i.without {
		if slices.Contains(e.attrs, a) {
			return false
		}
	}
	return true
}

// web are the domains of the entities of third-party-web that are wanted.
func (s *sources) web(wanted func(entity) bool) []entry {
	var out []entry
	for _, e := range s.entities {
		if !wanted(e) {
			continue
		}
		for _, d := range e.Domains {
			d = strings.ToLower(strings.TrimPrefix(d, "*."))
			if _, err := netip.ParseAddr(d); err != nil && isDomain(d) {
				out = append(out, entry{domain: d})
			}
		}
	}
	return out
}
