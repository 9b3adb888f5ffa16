package name

// Interner gives equal strings the same memory. It forgets everything when it
// is full, so its memory is bounded whatever the network says. It is not safe
// for concurrent use.
type Interner struct {
	m    map[string]string
	size int
}

// NewInterner returns an Interner of at most size strings.
func NewInterner(size int) *Interner {
	return &Interner{m: make(map[string]string), size: size}
}

// String returns b as a string, without allocating where it is known.
func (in *Interner) String(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := in.m[string(b)]; ok {
		return s
	}
	if len(in.m) >= in.size {
		clear(in.m)
	}
	s := string(b)
	in.m[s] = s
	return s
}
