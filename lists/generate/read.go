package main

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"pakon/lists"
)

// The files of lists/data.
const (
	servicesFile = "services.txt"
	hiddenFile   = "hidden.txt"
	importedFile = "imported.txt"
	suffixFile   = "public_suffix_list.txt"
)

const (
	maxLabel = 40  // characters of what a service is called
	maxName  = 253 // bytes of a domain (RFC 1035, section 2.3.4, as text)
	maxRule  = 8   // labels of a rule of the public suffix list
)

// part is a service of services.txt or a category of hidden.txt.
type part struct {
	lists.Service          // of a category: only its key, the category
	sources       []string // "v2fly:facebook"
	own           []string // domains by hand
	without       []string // what a source has of these and below them is not taken
	shown         []string // shown in spite of being below a hidden one
}

// catalogue is what people have written.
type catalogue struct {
	services, hidden []part
	groups           map[string]string // own domain -> key of its service
	categories       map[string]string // own domain -> hidden category; "" shows it
}

// readData reads what the lists are compiled of. Errors name the file and line.
func readData(fsys fs.FS) (lists.Data, error) {
	c, err := readCatalogue(fsys)
	if err != nil {
		return lists.Data{}, err
	}
	d := lists.Data{Groups: c.groups, Hidden: c.categories}
	for _, s := range c.services {
		d.Services = append(d.Services, s.Service)
	}
	if err := c.readImported(fsys); err != nil {
		return lists.Data{}, err
	}
	prune(d.Groups)
	prune(d.Hidden)
	for _, s := range c.services {
		if strings.Contains(s.Key, ".") { // a domain is of its service by itself, a word is not
			delete(d.Groups, s.Key)
		}
	}
	d.Suffixes, err = readSuffixes(fsys)
	return d, err
}

// prune leaves out what changes nothing: a domain of which the same is said as
// of the next longest one that it is below.
func prune(said map[string]string) {
	var same []string
	for domain, what := range said {
		above, ok := nearest(said, domain)
		if ok && above == what || !ok && what == "" {
			same = append(same, domain)
		}
	}
	for _, domain := range same {
		delete(said, domain)
	}
}

// nearest is what is said of the longest domain that the given one is below.
func nearest(said map[string]string, domain string) (what string, ok bool) {
	for _, above, more := strings.Cut(domain, "."); more; _, above, more = strings.Cut(above, ".") {
		if what, ok := said[above]; ok {
			return what, true
		}
	}
	return "", false
}

func readCatalogue(fsys fs.FS) (*catalogue, error) {
	c := &catalogue{groups: make(map[string]string), categories: make(map[string]string)}
	if err := c.readServices(fsys); err != nil {
		return nil, err
	}
	return c, c.readHidden(fsys)
}

func (c *catalogue) readServices(fsys fs.FS) error {
	err := eachLine(fsys, servicesFile, func(line string, indented bool) error {
		if indented {
			if len(c.services) == 0 {
				return fmt.Errorf("domains before the first service")
			}
			s := &c.services[len(c.services)-1]
			return s.addDomains(line, false, c.groups)
		}
		s, err := parseService(line)
		if err != nil {
			return err
		}
		c.services = append(c.services, s)
		return nil
	})
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, s := range c.services {
		switch other, ok := c.groups[s.Key]; {
		case seen[s.Key]:
			return fmt.Errorf("%s: service %s is there twice", servicesFile, s.Key)
		case ok && other != s.Key:
			return fmt.Errorf("%s: %s is a domain of %s and a service of its own", servicesFile, s.Key, other)
		}
		seen[s.Key] = true
		c.groups[s.Key] = s.Key
	}
	return nil
}

func parseService(line string) (part, error) {
	fields := strings.Split(line, "|")
	if len(fields) != 4 {
		return part{}, fmt.Errorf("want key | category | label | sources")
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	s := part{Service: lists.Service{Key: fields[0], Category: fields[1], Label: fields[2]}, sources: strings.Fields(fields[3])}
	switch n := utf8.RuneCountInString(s.Label); {
	case !isDomain(s.Key):
		return part{}, fmt.Errorf("key %q is not a domain name", s.Key)
	case !slices.Contains(lists.Categories, s.Category):
		return part{}, fmt.Errorf("there is no category %q", s.Category)
	case n == 0 || n > maxLabel:
		return part{}, fmt.Errorf("label %q has %d characters, want 1 to %d", s.Label, n, maxLabel)
	}
	return s, nil
}

func (c *catalogue) readHidden(fsys fs.FS) error {
	return eachLine(fsys, hiddenFile, func(line string, indented bool) error {
		if indented {
			if len(c.hidden) == 0 {
				return fmt.Errorf("domains before the first category")
			}
			return c.hidden[len(c.hidden)-1].addDomains(line, true, c.categories)
		}
		fields := strings.Fields(line)
		category, ok := strings.CutPrefix(fields[0], "@")
		if !ok {
			return fmt.Errorf("want @category and its sources")
		}
		if !isHiddenCategory(category) {
			return fmt.Errorf("there is no hidden category %q", category)
		}
		for _, h := range c.hidden {
			if h.Key == category {
				return fmt.Errorf("category %s is there twice", category)
			}
		}
		c.hidden = append(c.hidden, part{Service: lists.Service{Key: category}, sources: fields[1:]})
		return nil
	})
}

// isHiddenCategory tells whether a category may be in hidden.txt: not the last,
// which is for what the owner's files hide.
func isHiddenCategory(s string) bool {
	return slices.Contains(lists.HiddenCategories[:len(lists.HiddenCategories)-1], s)
}

// addDomains takes the domains of a line, and says in all whose they are.
func (p *part) addDomains(line string, mayShow bool, all map[string]string) error {
	for _, word := range strings.Fields(line) {
		domain, whose := word, p.Key
		without := word[0] == '-'
		shown := mayShow && word[0] == '!'
		if without || shown {
			domain = word[1:]
		}
		if !isDomain(domain) {
			return fmt.Errorf("%q is not a domain name", word)
		}
		if without {
			p.without = append(p.without, domain)
			continue
		}
		if shown {
			whose = ""
			p.shown = append(p.shown, domain)
		} else {
			p.own = append(p.own, domain)
		}
		if other, ok := all[domain]; ok {
			return fmt.Errorf("%s is already of %q", domain, other)
		}
		all[domain] = whose
	}
	return nil
}

// readImported adds what has been taken from the sources.
func (c *catalogue) readImported(fsys fs.FS) error {
	keys := make(map[string]bool, len(c.services))
	for _, s := range c.services {
		keys[s.Key] = true
	}
	var said map[string]string
	var whose string
	return eachLine(fsys, importedFile, func(line string, indented bool) error {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return fmt.Errorf("want two words")
		}
		if indented {
			switch {
			case said == nil:
				return fmt.Errorf("domains before the first service")
			case !isDomain(fields[0]):
				return fmt.Errorf("%q is not a domain name", fields[0])
			}
			// What we say holds, and may have changed since.
			if _, ok := said[fields[0]]; !ok {
				said[fields[0]] = whose
			}
			return nil
		}
		whose = fields[1]
		switch {
		case fields[0] == "service" && keys[whose]:
			said = c.groups
		case fields[0] == "hidden" && isHiddenCategory(whose):
			said = c.categories
		default:
			return fmt.Errorf("there is no %s %q", fields[0], whose)
		}
		return nil
	})
}

func readSuffixes(fsys fs.FS) ([]string, error) {
	var rules []string
	err := eachLine(fsys, suffixFile, func(line string, _ bool) error {
		if !isRule(line) {
			return fmt.Errorf("%q is not a rule", line)
		}
		rules = append(rules, line)
		return nil
	})
	return rules, err
}

func isRule(s string) bool {
	domain, exception := strings.CutPrefix(s, "!")
	if !exception {
		domain = strings.TrimPrefix(s, "*.")
	}
	labels := strings.Count(domain, ".") + 1
	return isDomain(domain) && labels <= maxRule && (!exception || labels > 1)
}

const suffixHeader = `# The rules of the Public Suffix List, https://publicsuffix.org/list, without comments.
# Written by lists/generate; do not edit.
#
# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this
# file, You can obtain one at https://mozilla.org/MPL/2.0/.
`

// pslRules are the rules of the public suffix list, without comments, sorted and
// as the DNS has them.
func pslRules(text string) ([]byte, error) {
	rules := make(map[string]bool)
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " ")
		if line == "" || strings.HasPrefix(line, "//") {
			continue
		}
		head := ""
		for _, h := range []string{"!", "*."} {
			if rest, ok := strings.CutPrefix(line, h); ok {
				head, line = h, rest
			}
		}
		domain, err := idna.Punycode.ToASCII(strings.ToLower(line))
		if err != nil || !isRule(head+domain) {
			return nil, fmt.Errorf("line %d: %q is not a rule", n+1, line)
		}
		rules[head+domain] = true
	}
	return []byte(suffixHeader + strings.Join(slices.Sorted(maps.Keys(rules)), "\n") + "\n"), nil
}

// eachLine calls f with the lines of a file that say something.
func eachLine(fsys fs.FS, name string, f func(line string, indented bool) error) error {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return fmt.Errorf("reading the lists: %w", err)
	}
	for n, line := range strings.Split(string(text), "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if err := f(trimmed, line[0] == ' ' || line[0] == '\t'); err != nil {
			return fmt.Errorf("%s:%d: %w", name, n+1, err)
		}
	}
	return nil
}

// isDomain tells whether s is a domain name in lower case, as the DNS has it.
func isDomain(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
