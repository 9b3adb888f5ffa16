// Package lists says what host names are to people: which service a name
// belongs to ("fbcdn.net" is facebook.com, Facebook, social), and which names an
// owner does not want to see at first (advertising, connectivity checks). It
// reads the project's own lists, which the command in the folder generate makes,
// and the owner's files over them. What is done with a hidden name is left to its
// callers.
//
// Names are compared by whole labels from the right, whatever their case; of the
// entries that match, the longest holds. That a name is hidden and that it
// belongs to a service are independent of each other: hiding looks at the name
// as it was seen.
package lists

import (
	"net/netip"
	"slices"
	"strings"

	"pakon/lists/hostname"
)

// Class is what is said of a name.
type Class struct {
	// Group is the key of the service that the name belongs to; where no list
	// knows it, the domain that somebody registered: www.example.co.uk is of
	// example.co.uk. It is "" for what is no host name: nothing, or an address.
	// The group of a group is itself.
	Group string
	// Category of the service, one of Categories; "" where no list knows it.
	Category string
	// Hidden is the category for which the name is hidden, one of
	// HiddenCategories; "" if it is shown.
	Hidden string
}

// Service is what people know by one name.
type Service struct {
	Key      string // the domain that stands for all of its domains; or a word
	Label    string // "Facebook"; the key where an owner's file made it
	Category string // one of Categories, or ""
}

// Lists is a set of entries. It is not changed once loaded, so it may be used
// from any goroutine.
type Lists struct {
	own       table             // the project's
	table     table             // with the owner's
	fragments map[string]string // a single label, anywhere in a name -> group
	shown     uint16            // hidden categories that are not hidden, a bit each
}

// Classify says what a name is. What is longer than a host name can be is none.
func (l *Lists) Classify(name string) Class {
	var buf [2 * maxName]byte
	r := appendReversed(buf[:0], name)
	if len(r) == 0 || len(r) > maxName || isAddress(name) {
		return Class{}
	}
	v := l.table.find(r)
	c := Class{Hidden: l.hidden(v.hidden)}
	switch {
	case v.service >= 0:
		s := l.table.service(v.service)
		c.Group, c.Category = s.Key, s.Category
	default:
		if c.Group = l.fragment(name); c.Group == "" {
			c.Group = registrable(name, r, int(v.suffix))
		} else if s, ok := l.Service(c.Group); ok {
			c.Category = s.Category
		}
	}
	return c
}

// Service is the service with a key, if there is one.
func (l *Lists) Service(key string) (Service, bool) {
	i, ok := l.table.serviceByKey(key)
	if !ok {
		return Service{}, false
	}
	return l.table.service(i), true
}

// ByLabel returns the keys of the services that are called so, whatever its case.
func (l *Lists) ByLabel(label string) (keys []string) {
	for i := range l.table.services {
		if s := l.table.service(i); strings.EqualFold(s.Label, label) {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// Showing returns the same lists, but for hidden categories that are to be shown.
func (l *Lists) Showing(categories []string) *Lists {
	c := *l
	for _, s := range categories {
		if i := slices.Index(HiddenCategories, s); i >= 0 {
			c.shown |= 1 << i
		}
	}
	return &c
}

// Len returns the number of domains that are known and of services.
func (l *Lists) Len() (domains, services int) {
	return l.table.entries + len(l.fragments), l.table.services
}

func (l *Lists) hidden(h uint8) string {
	if h == 0 || h == shownAgain || l.shown>>(h-1)&1 != 0 {
		return ""
	}
	return HiddenCategories[h-1]
}

// fragment is the group of the first label that is a fragment. The last label is
// a top-level domain and never names a service.
func (l *Lists) fragment(name string) string {
	if len(l.fragments) == 0 {
		return ""
	}
	for s := hostname.Normalise(name); ; {
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

// registrable is what was registered of a name, of which so many labels are a
// public suffix; reversed is the name in the form of appendReversed.
func registrable(name string, reversed []byte, suffix int) string {
	n := len(reversed)
	for i, labels := 0, 0; i < n; i++ {
		if reversed[i] == separator {
			if labels++; labels > suffix {
				n = i
			}
		}
	}
	s := hostname.Normalise(name)
	// What is left out are whole labels in front.
	return s[len(s)-n:]
}

// isAddress tells whether something is an address, not a name: no top-level
// domain is a number.
func isAddress(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if strings.IndexByte(name, ':') >= 0 {
		_, err := netip.ParseAddr(strings.Trim(name, "[]"))
		return err == nil
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return last != "" && strings.Trim(last, "0123456789") == ""
}
