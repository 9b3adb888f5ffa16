package lists

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pakon/lists/hostname"
)

// Data is what lists are made of.
type Data struct {
	Services []Service
	Groups   map[string]string // domain -> key of its service
	Hidden   map[string]string // domain -> one of HiddenCategories; "" shows it in spite of a shorter entry
	Suffixes []string          // rules of the public suffix list: "com", "*.ck", "!www.ck"
}

// Compile returns the compact form of data: the same for the same data. Errors
// name what is wrong.
func Compile(d Data) ([]byte, error) {
	b := newBuilder()
	for _, s := range d.Services {
		if err := b.addService(s); err != nil {
			return nil, err
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(d.Groups)) {
		key := d.Groups[domain]
		i, ok := b.keys[key]
		if !ok {
			return nil, fmt.Errorf("domain %s: there is no service %q", domain, key)
		}
		if err := b.group(domain, i); err != nil {
			return nil, err
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(d.Hidden)) {
		h := uint8(shownAgain)
		if c := d.Hidden[domain]; c != "" {
			i := slices.Index(HiddenCategories, c)
			if i < 0 {
				return nil, fmt.Errorf("hidden domain %s: there is no category %q", domain, c)
			}
			h = uint8(i + 1)
		}
		if err := b.hide(domain, h); err != nil {
			return nil, err
		}
	}
	for _, rule := range d.Suffixes {
		if err := b.suffix(rule); err != nil {
			return nil, err
		}
	}
	return b.compile()
}

// builder gathers entries for a table.
type builder struct {
	text     []byte // the domains, one after the other
	items    []item
	services []Service
	keys     map[string]int // number of a service by its key
}

// maxGroupChain bounds how often a group is said to be of another.
const maxGroupChain = 16

// item is something that is said of a domain.
type item struct {
	at      uint32 // in text
	length  uint8
	flags   uint8 // hiddenOwn and a category, or serviceOwn, or neither
	suffix  uint8 // with suffixOwn, or 0
	service int32
}

func newBuilder() *builder { return &builder{keys: make(map[string]int)} }

var (
	errName = fmt.Errorf("not a domain name of at most %d bytes", maxName)
	errMany = fmt.Errorf("more than %d domains or %d services; the rest is left out", maxEntries, maxServices)
)

func (b *builder) addService(s Service) error {
	key := hostname.Normalise(s.Key)
	switch {
	case !isName(key):
		return fmt.Errorf("service %q: %w", s.Key, errName)
	case s.Label == "" || len(s.Label) > maxName:
		return fmt.Errorf("service %q: its label is empty or longer than %d bytes", s.Key, maxName)
	case s.Category != "" && slices.Index(Categories, s.Category) < 0:
		return fmt.Errorf("service %q: there is no category %q", s.Key, s.Category)
	}
	if _, ok := b.keys[key]; ok {
		return fmt.Errorf("service %q is there twice", s.Key)
	}
	if len(b.services) >= maxServices {
		return errMany
	}
	s.Key = key
	b.keys[key] = len(b.services)
	b.services = append(b.services, s)
	return nil
}

// serviceOf is the number of the service with a key (normalised), which is made
// if there is none.
func (b *builder) serviceOf(key string) (int, error) {
	if i, ok := b.keys[key]; ok {
		return i, nil
	}
	key = strings.Clone(key)
	err := b.addService(Service{Key: key, Label: key})
	return len(b.services) - 1, err
}

func (b *builder) group(domain string, service int) error {
	return b.add(domain, item{flags: serviceOwn, service: int32(service)})
}

func (b *builder) hide(domain string, category uint8) error {
	return b.add(domain, item{flags: hiddenOwn | category})
}

// suffix adds a rule of the public suffix list: https://publicsuffix.org/list.
func (b *builder) suffix(rule string) error {
	domain, labels := rule, strings.Count(rule, ".")+1
	if d, ok := strings.CutPrefix(rule, "*."); ok {
		domain = d
	} else if d, ok := strings.CutPrefix(rule, "!"); ok {
		domain, labels = d, labels-1
	}
	if labels < 1 || labels > suffixBits || strings.Contains(domain, "*") {
		return fmt.Errorf("public suffix %q: not a rule that is understood", rule)
	}
	return b.add(domain, item{suffix: suffixOwn | uint8(labels)})
}

func (b *builder) add(domain string, i item) error {
	domain = hostname.Normalise(domain)
	if !isName(domain) {
		return errName
	}
	if len(b.items) >= maxEntries {
		return errMany
	}
	i.at, i.length = uint32(len(b.text)), uint8(len(domain))
	b.text = appendReversedTo(b.text, domain)
	b.items = append(b.items, i)
	return nil
}

func appendReversedTo(dst []byte, name string) []byte {
	var buf [maxName]byte
	return append(dst, appendReversed(buf[:0], name)...)
}

// grow makes room for what a table holds and for files of so many bytes.
func (b *builder) grow(t *table, size int) {
	const domain = 20 // bytes, about
	b.text = slices.Grow(b.text, domain*t.entries+size)
	b.items = slices.Grow(b.items, t.entries+t.entries/8+size/domain)
}

// addAll adds what a table holds.
func (b *builder) addAll(t *table) error {
	for i := range t.services {
		if err := b.addService(t.service(i)); err != nil {
			return err
		}
	}
	t.all(func(domain []byte, e entry) {
		i := item{at: uint32(len(b.text)), length: uint8(len(domain)), service: int32(e.service)}
		b.text = append(b.text, domain...)
		// Service and hiding may come from different files, and be changed apart.
		if e.flags&serviceOwn != 0 {
			i.flags = serviceOwn
			b.items = append(b.items, i)
		}
		if e.flags&hiddenOwn != 0 {
			i.flags = e.flags & (hiddenOwn | hiddenBits)
			b.items = append(b.items, i)
		}
		if e.suffix&suffixOwn != 0 {
			i.flags, i.suffix = 0, e.suffix
			b.items = append(b.items, i)
		}
	})
	return nil
}

func (b *builder) domain(i *item) []byte { return b.text[i.at : i.at+uint32(i.length)] }

// compile returns the compact form. Of what is said of a domain more than once,
// the last holds.
func (b *builder) compile() ([]byte, error) {
	if err := b.groupGroups(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(b.items, func(x, y item) int { return bytes.Compare(b.domain(&x), b.domain(&y)) })

	order := make([]int, len(b.services)) // in order of keys
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return cmp.Compare(b.services[x].Key, b.services[y].Key) })
	place := make([]uint32, len(order))
	for n, i := range order {
		place[i] = uint32(n)
	}

	entries := 0
	for range b.merged() {
		entries++
	}
	blocks := (entries + blockEntries - 1) / blockEntries
	size := headerBytes + 4*(blocks+len(b.services))
	out := make([]byte, size, size+len(b.text)/2+4*entries)
	copy(out, magic)
	for i, n := range []int{entries, blocks, len(b.services)} {
		binary.LittleEndian.PutUint32(out[8+4*i:], uint32(n))
	}
	for n, i := range order {
		binary.LittleEndian.PutUint32(out[headerBytes+4*(blocks+n):], uint32(len(out)))
		out = appendService(out, b.services[i])
	}
	n := 0
	var before []byte
	for domain, e := range b.merged() {
		if n%blockEntries == 0 {
			binary.LittleEndian.PutUint32(out[headerBytes+4*(n/blockEntries):], uint32(len(out)))
			before = nil
		}
		if len(out) > 1<<30 {
			return nil, errors.New("the lists are too large")
		}
		shared := 0
		for shared < min(len(before), len(domain)) && before[shared] == domain[shared] {
			shared++
		}
		out = append(out, byte(shared), byte(len(domain)-shared))
		out = append(out, domain[shared:]...)
		out = append(out, e.flags, e.suffix)
		if e.flags&hasService != 0 {
			out = appendUvarint(out, place[e.service])
		}
		before = domain
		n++
	}
	return out, nil
}

func appendService(out []byte, s Service) []byte {
	for _, text := range []string{s.Key, s.Label} {
		out = append(append(out, byte(len(text))), text...)
	}
	return append(out, byte(slices.Index(Categories, s.Category)+1))
}

// groupGroups sees to it that the group of a group is itself. A service's key is
// a domain of it, unless it is of another by an entry of its own: then all that is
// of the one is of the other.
func (b *builder) groupGroups() error {
	own := make(map[int]int, len(b.services))
	var buf [maxName]byte
	keys := make(map[string]int, len(b.services))
	for i, s := range b.services {
		keys[string(appendReversed(buf[:0], s.Key))] = i
	}
	for i := range b.items {
		if it := &b.items[i]; it.flags&serviceOwn != 0 {
			if s, ok := keys[string(b.domain(it))]; ok {
				own[s] = int(it.service)
			}
		}
	}
	for i := range b.services {
		if _, ok := own[i]; ok || !strings.Contains(b.services[i].Key, ".") {
			continue
		}
		if err := b.group(b.services[i].Key, i); err != nil {
			return err
		}
	}
	// end is the last of the services that are said to be of one another.
	end := func(service int) (last int, ok bool) {
		for range maxGroupChain {
			next, ok := own[service]
			if !ok || next == service {
				return service, true
			}
			service = next
		}
		return service, false
	}
	for i := range b.services {
		if _, ok := end(i); !ok { // they are in a circle: this one is itself
			own[i] = i
		}
	}
	for i := range b.items {
		it := &b.items[i]
		if it.flags&serviceOwn == 0 {
			continue
		}
		if s, ok := keys[string(b.domain(it))]; ok && own[s] == s {
			it.service = int32(s)
		}
		last, _ := end(int(it.service))
		it.service = int32(last)
	}
	return nil
}

// merged are the entries in order, with what each inherits.
func (b *builder) merged() func(yield func([]byte, entry) bool) {
	return func(yield func([]byte, entry) bool) {
		type above struct {
			domain []byte
			entry
		}
		var stack []above
		for i := 0; i < len(b.items); {
			domain := b.domain(&b.items[i])
			for len(stack) > 0 && !isBelow(domain, stack[len(stack)-1].domain) {
				stack = stack[:len(stack)-1]
			}
			e := entry{suffix: defaultSuffix}
			if len(stack) > 0 {
				e = stack[len(stack)-1].entry
				e.flags &^= hiddenOwn | serviceOwn
				e.suffix &^= suffixOwn
			}
			for ; i < len(b.items) && bytes.Equal(b.domain(&b.items[i]), domain); i++ {
				it := &b.items[i]
				switch {
				case it.flags&serviceOwn != 0:
					e.flags |= serviceOwn | hasService
					e.service = int(it.service)
				case it.flags&hiddenOwn != 0:
					e.flags = e.flags&^hiddenBits | it.flags
				default:
					e.suffix = it.suffix
				}
			}
			stack = append(stack, above{domain, e})
			if !yield(domain, e) {
				return
			}
		}
	}
}

// isBelow tells whether a domain is below another, both reversed.
func isBelow(domain, above []byte) bool {
	return len(domain) > len(above) && domain[len(above)] == separator && bytes.HasPrefix(domain, above)
}
