package api

import (
	"maps"
	"slices"

	"pakon/daemon/store"
	"pakon/lists"
	"pakon/ubus"
)

// names tells in one reply what the names in it are to people.
type names struct {
	lists  Lists
	groups map[string]lists.Service // those of the reply that are services
	hidden map[string]string        // categories of names
}

// use notes that a group is in the reply.
func (n *names) use(group string) {
	if group == "" {
		return
	}
	if _, ok := n.groups[group]; ok {
		return
	}
	s, ok := n.lists.Service(group)
	if !ok || s.Label == group && s.Category == "" {
		return
	}
	if n.groups == nil {
		n.groups = make(map[string]lists.Service)
	}
	n.groups[group] = s
}

// appendGroups appends "groups", a table with "label" and "category" of each group
// in the reply that is a service with a name of its own, if there is one.
func (n *names) appendGroups(b *ubus.Builder) {
	if len(n.groups) == 0 {
		return
	}
	b.Table("groups")
	for _, key := range slices.Sorted(maps.Keys(n.groups)) {
		b.Table(key)
		b.String("label", n.groups[key].Label)
		b.String("category", n.groups[key].Category)
		b.Close()
	}
	b.Close()
}

// appendHidden appends "hidden" to a flow that is: the category for which it is, or
// "hidden" where flows were put together that are for different ones.
func (n *names) appendHidden(b *ubus.Builder, r *store.Row) {
	if category := n.hiddenFor(r); category != "" {
		b.String("hidden", category)
	}
}

func (n *names) hiddenFor(r *store.Row) string {
	if r.Large {
		return ""
	}
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
	return category
}
