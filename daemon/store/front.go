package store

import "slices"

// front keeps those sums of many that come first in an order after a position.
type front struct {
	limit      int
	sort       Key
	descending bool
	after      position
	heap       []place // the last of them on top
	sums       []sum
}

// place is a sum's place in the order.
type place struct {
	key, id int64
	at      int // in sums
}

// compare tells which of two comes first.
func (f *front) compare(a, b place) int {
	c := 0
	switch {
	case a.key != b.key && a.key < b.key, a.key == b.key && a.id < b.id:
		c = -1
	case a.key != b.key || a.id != b.id:
		c = 1
	}
	if f.descending {
		return -c
	}
	return c
}

// wants tells whether one with this place would be kept.
func (f *front) wants(key, id int64) bool {
	p := place{key: key, id: id}
	if !f.after.first && f.compare(p, place{key: f.after.key, id: f.after.id}) <= 0 {
		return false
	}
	return len(f.heap) < f.limit || f.compare(p, f.heap[0]) < 0
}

// offer keeps a copy of s if it is one of the first.
func (f *front) offer(s *sum) {
	key := s.key(f.sort)
	if !f.wants(key, s.id) {
		return
	}
	p := place{key, s.id, len(f.sums)}
	if len(f.heap) < f.limit {
		f.sums = append(f.sums, *s)
		f.heap = append(f.heap, p)
		f.up(len(f.heap) - 1)
		return
	}
	p.at = f.heap[0].at
	f.sums[p.at] = *s
	f.heap[0] = p
	f.down()
}

func (f *front) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if f.compare(f.heap[parent], f.heap[i]) >= 0 {
			return
		}
		f.heap[parent], f.heap[i] = f.heap[i], f.heap[parent]
		i = parent
	}
}

func (f *front) down() {
	for i := 0; ; {
		last := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(f.heap); c++ {
			if f.compare(f.heap[c], f.heap[last]) > 0 {
				last = c
			}
		}
		if last == i {
			return
		}
		f.heap[last], f.heap[i] = f.heap[i], f.heap[last]
		i = last
	}
}

// sorted returns those that were kept, in order. It must not be used any more.
func (f *front) sorted() []sum {
	slices.SortFunc(f.sums, func(a, b sum) int {
		return f.compare(place{key: a.key(f.sort), id: a.id}, place{key: b.key(f.sort), id: b.id})
	})
	return f.sums
}
