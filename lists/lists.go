// Package lists groups names and hides names: which service a host name
// belongs to ("fbcdn.net" is facebook.com), and which names an owner does not
// want to see at first (advertising, connectivity checks). It holds the
// project's own data and reads the owner's files over it. What is done with a
// hidden name is left to its callers.
//
// Names are compared by whole labels from the right, in lower case; the
// longest entry that matches holds.
package lists

import "strings"

// Lists is a set of entries. It is not changed once loaded, so it may be used
// from any goroutine.
type Lists struct {
	groups    map[string]string // domain -> group
	hidden    map[string]bool   // domain -> hidden; false shows it in spite of a shorter entry
	fragments map[string]string // a single label, anywhere in a name -> group
}

// Classify returns the group of a name ("" if no list knows it) and whether it
// is hidden. The two are independent: a name is hidden for what it is, not for
// what it is grouped to.
func (l *Lists) Classify(name string) (group string, hidden bool) {
	name = normalise(name)
	return l.group(name), l.isHidden(name)
}

func (l *Lists) group(name string) string {
	for s := name; s != ""; s = parent(s) {
		if g, ok := l.groups[s]; ok {
			return g
		}
	}
	if len(l.fragments) == 0 {
		return ""
	}
	// The last label is a top-level domain and never names a service.
	for s := name; ; {
		label, rest, more := strings.Cut(s, ".")
		if !more {
			return ""
		}
		if g, ok := l.fragments[label]; ok {
			return g
		}
		s = rest
	}
}

func (l *Lists) isHidden(name string) bool {
	for s := name; s != ""; s = parent(s) {
		if h, ok := l.hidden[s]; ok {
			return h
		}
	}
	return false
}

// Len returns the number of entries that group and that hide.
func (l *Lists) Len() (groups, hidden int) {
	return len(l.groups) + len(l.fragments), len(l.hidden)
}

// parent is the name without its first label.
func parent(s string) string {
	_, rest, _ := strings.Cut(s, ".")
	return rest
}

func normalise(s string) string {
	return strings.ToLower(strings.TrimSuffix(s, "."))
}
