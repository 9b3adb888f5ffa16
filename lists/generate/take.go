package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// ads is the attribute that v2fly gives to what advertises and tracks.
const ads = "ads"

// claim is a domain that is taken, and from which source.
type claim struct{ whose, source string }

// taker takes domains from sources.
type taker struct {
	*catalogue
	src      *sources
	used     map[string]bool // files of v2fly that services name
	suffixes map[string]bool // public suffixes
	report   io.Writer
}

// take returns the text of imported.txt: what services and hidden categories want
// from sources. Conflicts are reported.
func (c *catalogue) take(src *sources, suffixes []string, report io.Writer) ([]byte, error) {
	t := &taker{catalogue: c, src: src, used: make(map[string]bool), suffixes: make(map[string]bool), report: report}
	for _, rule := range suffixes {
		t.suffixes[rule] = true
	}
	for _, s := range c.services {
		for _, source := range s.sources {
			if name, ok := strings.CutPrefix(source, "v2fly:"); ok {
				t.used[name] = true
			}
		}
	}
	services, err := t.takeParts(c.services, c.groups, t.serviceEntries, nil, t.isOther)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", servicesFile, err)
	}
	hidden, err := t.takeParts(c.hidden, c.categories, t.hiddenEntries, t.isVisited(), t.isHidden)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", hiddenFile, err)
	}
	var b bytes.Buffer
	b.WriteString("# What is taken from the lists of others, and from which. SOURCES.md says whose they are.\n" +
		"# Written by lists/generate; do not edit.\n")
	write(&b, "service", services)
	write(&b, "hidden", hidden)
	return b.Bytes(), nil
}

// takeParts takes what parts want. What people have written holds over it, also,
// where known says so, for domains below; except are domains not to be taken.
func (t *taker) takeParts(parts []part, own map[string]string, entries func(source string) ([]entry, error), except map[string]bool, known func(domain, whose string) bool) (map[string]claim, error) {
	taken := make(map[string]claim)
	said := maps.Clone(own)
	for _, p := range parts {
		for _, source := range p.sources {
			from, err := entries(source)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Key, err)
			}
			for _, e := range from {
				switch {
				case isWithin(e.domain, p.without), t.suffixes[e.domain]:
					continue
				case known(e.domain, p.Key):
					continue
				case except[e.domain]:
					fmt.Fprintf(t.report, "%s is visited: not taken as %s from %s\n", e.domain, p.Key, source)
					continue
				}
				if whose, ok := said[e.domain]; ok {
					if c, ok := taken[e.domain]; ok && whose != p.Key {
						fmt.Fprintf(t.report, "%s is of %s by %s, not of %s by %s\n", e.domain, c.whose, c.source, p.Key, source)
					}
					continue
				}
				said[e.domain] = p.Key
				taken[e.domain] = claim{p.Key, source}
			}
		}
	}
	prune(said)
	for domain := range taken {
		if _, ok := said[domain]; !ok {
			delete(taken, domain)
		}
	}
	return taken, nil
}

// serviceEntries are what a source says of a service. Of other files that a
// file of v2fly includes, what another service takes is that service's.
func (t *taker) serviceEntries(source string) ([]entry, error) {
	kind, name, _ := strings.Cut(source, ":")
	switch kind {
	case "v2fly":
		entries, err := t.src.resolve(name, func(file string) bool { return t.used[file] })
		return slices.DeleteFunc(entries, func(e entry) bool { return slices.Contains(e.attrs, ads) }), err
	case "tpw":
		return t.entity(name)
	}
	return nil, fmt.Errorf("there is no source %q", source)
}

func (t *taker) hiddenEntries(source string) ([]entry, error) {
	kind, name, _ := strings.Cut(source, ":")
	switch kind {
	case "v2fly":
		return t.src.resolve(name, nil)
	case "v2fly-attr":
		var out []entry
		for _, file := range slices.Sorted(maps.Keys(t.used)) {
			entries, err := t.src.resolve(file, nil)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if slices.Contains(e.attrs, name) {
					out = append(out, e)
				}
			}
		}
		return out, nil
	case "tpw":
		out := t.src.web(func(e entity) bool { return e.Category == name })
		if len(out) == 0 {
			return nil, fmt.Errorf("third-party-web has no category %q", name)
		}
		return out, nil
	case "tpw-entity":
		return t.entity(name)
	}
	return nil, fmt.Errorf("there is no source %q", source)
}

// entity are the domains of an entity of third-party-web; its name has "_" for
// spaces.
func (t *taker) entity(name string) ([]entry, error) {
	name = strings.ReplaceAll(name, "_", " ")
	out := t.src.web(func(e entity) bool { return e.Name == name })
	if len(out) == 0 {
		return nil, fmt.Errorf("third-party-web has no entity %q", name)
	}
	return out, nil
}

// isVisited are the domains that people visit, and all they are below: no source
// hides them, only we do.
func (t *taker) isVisited() map[string]bool {
	visited := make(map[string]bool)
	for domain := range t.groups {
		for more := true; more; _, domain, more = strings.Cut(domain, ".") {
			visited[domain] = true
		}
	}
	return visited
}

// isOther tells whether a domain is below one that is, by hand, of another service.
// On clouds and content networks everybody has domains.
func (t *taker) isOther(domain, key string) bool {
	other, ok := nearest(t.groups, domain)
	if !ok || other == key {
		return false
	}
	i := slices.IndexFunc(t.services, func(s part) bool { return s.Key == other })
	return t.services[i].Category != "cloud" && t.services[i].Category != "cdn"
}

// isHidden tells whether a domain is below one that we hide: we know for what.
func (t *taker) isHidden(domain, _ string) bool {
	category, ok := nearest(t.categories, domain)
	return ok && category != ""
}

// isWithin tells whether a domain is one of a list or below one.
func isWithin(domain string, list []string) bool {
	return slices.ContainsFunc(list, func(d string) bool {
		return domain == d || strings.HasSuffix(domain, "."+d)
	})
}

func write(b *bytes.Buffer, kind string, taken map[string]claim) {
	domains := slices.SortedFunc(maps.Keys(taken), func(x, y string) int {
		if c := strings.Compare(taken[x].whose, taken[y].whose); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
	whose := ""
	for _, d := range domains {
		c := taken[d]
		if c.whose != whose {
			whose = c.whose
			fmt.Fprintf(b, "\n%s %s\n", kind, whose)
		}
		fmt.Fprintf(b, "  %s %s\n", d, c.source)
	}
}
