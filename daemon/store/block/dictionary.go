package block

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// MaxText is how long a name, an application protocol or the name of an
// interface may be, in bytes.
const MaxText = 255

// NewDictionary is a dictionary of empty entries only. The zero Dictionary
// becomes one when something is added.
func NewDictionary() *Dictionary {
	d := &Dictionary{}
	d.Reset()
	return d
}

// Reset forgets all but the empty entries, and keeps the memory.
func (d *Dictionary) Reset() {
	empty(d.endpoints, &d.Endpoints)
	empty(d.names, &d.Names, "")
	empty(d.apps, &d.Apps, "")
	empty(d.remotes, &d.Remotes, netip.Addr{})
}

// empty leaves only what follows in list, and in the map to it.
func empty[K comparable](numbers map[K]uint32, list *[]K, first ...K) {
	clear(*list) // so that strings are free
	*list = append((*list)[:0], first...)
	clear(numbers)
	if numbers != nil {
		for i, v := range first {
			numbers[v] = uint32(i)
		}
	}
}

// Endpoint is the number of e, which gets one if it has none. The zone of an
// address is not kept.
func (d *Dictionary) Endpoint(e Endpoint) uint32 {
	d.ready()
	e.Address = e.Address.WithZone("")
	if n, ok := d.endpoints[e]; ok {
		return n
	}
	e.Interface = text(e.Interface)
	return intern(&d.endpoints, &d.Endpoints, e)
}

// Name is the number of a name, which gets one if it has none. What is no UTF-8
// is replaced in it, and what is beyond MaxText is cut off.
func (d *Dictionary) Name(name string) uint32 {
	d.ready()
	if n, ok := d.names[name]; ok {
		return n
	}
	return intern(&d.names, &d.Names, text(name))
}

// App is the number of an application protocol, as Name is that of a name.
func (d *Dictionary) App(app string) uint32 {
	d.ready()
	if n, ok := d.apps[app]; ok {
		return n
	}
	return intern(&d.apps, &d.Apps, text(app))
}

// Remote is the number of an address, which gets one if it has none. Its zone
// is not kept.
func (d *Dictionary) Remote(a netip.Addr) uint32 {
	d.ready()
	return intern(&d.remotes, &d.Remotes, a.WithZone(""))
}

// ready adds what the zero Dictionary lacks.
func (d *Dictionary) ready() {
	if len(d.Names) == 0 {
		d.Names = append(d.Names, "")
	}
	if len(d.Apps) == 0 {
		d.Apps = append(d.Apps, "")
	}
	if len(d.Remotes) == 0 {
		d.Remotes = append(d.Remotes, netip.Addr{})
	}
}

// intern is the number of v in list, which numbers knows. It is nil if nothing
// was asked since Decode.
func intern[K comparable](numbers *map[K]uint32, list *[]K, v K) uint32 {
	if *numbers == nil {
		*numbers = make(map[K]uint32, len(*list)+1)
		for i, v := range *list {
			(*numbers)[v] = uint32(i)
		}
	}
	if n, ok := (*numbers)[v]; ok {
		return n
	}
	n := uint32(len(*list))
	*list = append(*list, v)
	(*numbers)[v] = n
	return n
}

// text is s as an entry of a dictionary: a copy, so that it does not hold what
// it is part of.
func text(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) > MaxText {
		n := MaxText
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.Clone(s)
}

// Reset empties the block, and keeps the memory.
func (b *Block) Reset() {
	b.Dictionary.Reset()
	b.Flows, b.Hours = b.Flows[:0], b.Hours[:0]
}

// HoursOf are the entries of a flow of b in b.Hours.
func (b *Block) HoursOf(f *Flow) []Hour {
	first, n := int(f.FirstHour), int(f.HourCount)
	if n == 0 {
		return nil
	}
	return b.Hours[first : first+n : first+n]
}

// Importer copies flows of a block to another one. It remembers the numbers
// there of what the flows refer to.
type Importer struct {
	to, from                        *Block
	endpoints, names, apps, remotes []uint32 // the number plus 1, 0 if not known yet
}

// NewImporter is an Importer of from's flows to the end of to. It is of use
// until one of them is reset or decoded anew; then Reset makes it ready again.
func NewImporter(to, from *Block) *Importer {
	im := &Importer{}
	im.Reset(to, from)
	return im
}

// Reset makes it an importer of from's flows to the end of to.
func (im *Importer) Reset(to, from *Block) {
	im.to, im.from = to, from
	to.ready()
	im.endpoints = zeroed(im.endpoints, len(from.Endpoints))
	im.names = zeroed(im.names, len(from.Names))
	im.apps = zeroed(im.apps, len(from.Apps))
	im.remotes = zeroed(im.remotes, len(from.Remotes))
}

// Add appends a copy of f, a flow of from, with its hours. What it returns is
// good until something is appended again. Whether the order of ids holds is the
// caller's business.
func (im *Importer) Add(f *Flow) *Flow {
	to, from := im.to, im.from
	to.Flows = append(to.Flows, *f)
	c := &to.Flows[len(to.Flows)-1]
	n := &im.endpoints[f.Endpoint]
	if *n == 0 {
		*n = to.Endpoint(from.Endpoints[f.Endpoint]) + 1
	}
	c.Endpoint = *n - 1
	if f.Name != 0 {
		n = &im.names[f.Name]
		if *n == 0 {
			*n = to.Name(from.Names[f.Name]) + 1
		}
		c.Name = *n - 1
	}
	if f.App != 0 {
		n = &im.apps[f.App]
		if *n == 0 {
			*n = to.App(from.Apps[f.App]) + 1
		}
		c.App = *n - 1
	}
	if f.Remote != 0 {
		n = &im.remotes[f.Remote]
		if *n == 0 {
			*n = to.Remote(from.Remotes[f.Remote]) + 1
		}
		c.Remote = *n - 1
	}
	c.FirstHour = uint32(len(to.Hours))
	to.Hours = append(to.Hours, from.HoursOf(f)...)
	return c
}

// zeroed is a slice of n zeros in the memory of s, if it is enough.
func zeroed(s []uint32, n int) []uint32 {
	if cap(s) < n {
		return make([]uint32, n)
	}
	s = s[:n]
	clear(s)
	return s
}
