package api

import (
	"maps"
	"slices"

	"pakon/daemon/store"
	"pakon/ubus"
)

// names tells in one reply what the names in it are to people.
type names struct {
	lists  Lists
	groups map[string]bool   // those of the reply
	hidden map[string]string // categories of names
}

// use notes that a group is in the reply.
func (n *names) use(group string) {
	if group == "" || n.groups[group] {
		return
	}
	if n.groups == nil {
		n.groups = make(map[string]bool)
	}
	n.groups[group] = true
}

// appendGroups appends "groups", a table with "label" and "category" of each group
// in the reply that is a service with a name of its own, if there is one.
func (n *names) appendGroups(b *ubus.Builder) {
	opened := false
	for _, key := range slices.Sorted(maps.Keys(n.groups)) {
		s, ok := n.lists.Service(key)
		if !ok || s.Label == key && s.Category == "" {
			continue
		}
		if !opened {
			b.Table("groups")
			opened = true
		}
		b.Table(key)
		b.String("label", s.Label)
		b.String("category", s.Category)
		b.Close()
	}
	if opened {
		b.Close()
	}
}

// appendHidden appends "hidden" to a flow that is: the category for which it is, or
// "hidden" where flows were put together that are for different ones.
func (n *names) appendHidden(b *ubus.Builder, r *store.Row) {
	category, known := n.hidden[r.Name]
	if !known && r.Name != "" {
		category = n.lists.Classify(r.Name).Hidden
		if n.hidden == nil {
			n.hidden = make(map[string]string)
		}
		n.hidden[r.Name] = category
	}
	if category == "" && r.Hidden {
		category = "hidden"
	}
	if category != "" {
		b.String("hidden", category)
	}
}
