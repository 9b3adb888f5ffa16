package lists

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
)

// The compact form of lists, which is searched as it is:
//
//	magic            8 bytes
//	entries          uint32, how many
//	blocks           uint32, how many
//	services         uint32, how many
//	block offsets    a uint32 for each block
//	service offsets  a uint32 for each service, in order of their keys
//	service records  key, label (each a length of one byte and text), category (a byte)
//	blocks
//
// Numbers are little endian, offsets from the beginning. Entries are sorted by
// their domain with its labels in reverse (see appendReversed), as bytes. A block holds blockEntries of
// them (the last may hold fewer), each as
//
//	shared   byte, how many bytes of the domain before in the block it begins with
//	length   byte, of the rest
//	rest
//	flags    byte: hidden category in four bits (0: none, 15: shown again), then flags
//	suffix   byte: how many labels of the domain, and of names below it, are a public
//	         suffix (of a name that has as many); with suffixOwn if it is a rule itself
//	service  unsigned varint, number of the service; only with hasService
//
// Category, service and suffix are those that hold for the domain: its own, or
// inherited from the longest other that it is below. So one entry answers all.
const (
	magic        = "pakonL1\n"
	blockEntries = 16
	headerBytes  = 8 + 3*4

	hiddenBits = 0x0f
	shownAgain = 0x0f
	hiddenOwn  = 0x10 // not inherited
	hasService = 0x20
	serviceOwn = 0x40 // not inherited

	suffixBits = 0x0f
	suffixOwn  = 0x10 // a rule of the public suffix list
)

// defaultSuffix is how many labels are a public suffix where no rule says so.
const defaultSuffix = 1

// keyBits is how many bits of table.keys there are for each service.
const keyBits = 16

// maxServices and maxEntries bound a table.
const (
	maxServices = 1 << 20
	maxEntries  = 1 << 21
)

var errForm = errors.New("not lists in the compact form")

// value is what a table says of a domain.
type value struct {
	service int // -1: none
	hidden  uint8
	suffix  uint8
}

type table struct {
	data                      string
	entries, blocks, services int
	// keys tells most texts that are no key of a service at once: it has a bit for
	// the hash of each key.
	keys []uint64
	seed maphash.Seed
}

// entry is one of a table, as it is stored.
type entry struct {
	flags, suffix byte
	service       int
}

func (e entry) value() value {
	v := value{service: -1, hidden: e.flags & hiddenBits, suffix: e.suffix & suffixBits}
	if e.flags&hasService != 0 {
		v.service = e.service
	}
	return v
}

// openTable checks data throughout, so that nothing later has to.
func openTable(data string) (table, error) {
	t := table{data: data}
	if len(data) < headerBytes || data[:len(magic)] != magic {
		return table{}, errForm
	}
	entries, blocks, services := t.uint32(8), t.uint32(12), t.uint32(16)
	if entries > maxEntries || services > maxServices || blocks != (entries+blockEntries-1)/blockEntries ||
		headerBytes+4*(int(blocks)+int(services)) > len(data) {
		return table{}, errForm
	}
	t.entries, t.blocks, t.services = int(entries), int(blocks), int(services)
	t.seed, t.keys = maphash.MakeSeed(), make([]uint64, 1+t.services*keyBits/64)
	for i := range t.services {
		if err := t.checkService(i); err != nil {
			return table{}, err
		}
		word, bit := t.keyBit(t.service(i).Key)
		*word |= bit
	}
	for b := range t.blocks {
		if err := t.checkBlock(b); err != nil {
			return table{}, err
		}
	}
	return t, nil
}

func (t *table) checkService(i int) error {
	at := int(t.uint32(t.serviceOffset(i)))
	for range 2 { // key and label
		if at < 0 || at >= len(t.data) || int(t.data[at]) >= len(t.data)-at-1 {
			return fmt.Errorf("%w: service %d", errForm, i)
		}
		at += 1 + int(t.data[at])
	}
	if int(t.data[at]) > len(Categories) {
		return fmt.Errorf("%w: category of service %d", errForm, i)
	}
	return nil
}

func (t *table) checkBlock(b int) error {
	wrong := fmt.Errorf("%w: block %d", errForm, b)
	at := int(t.uint32(headerBytes + 4*b))
	before := 0
	for i := range t.inBlock(b) {
		if at < 0 || at > len(t.data)-2 {
			return wrong
		}
		shared, rest := int(t.data[at]), int(t.data[at+1])
		if shared > before || i == 0 && shared > 0 || shared+rest > maxName || at+2+rest+2 > len(t.data) {
			return wrong
		}
		before = shared + rest
		at += 2 + rest
		flags := t.data[at]
		if h := flags & hiddenBits; h != shownAgain && int(h) > len(HiddenCategories) {
			return wrong
		}
		at += 2
		if flags&hasService != 0 {
			n, size := uvarint(t.data[at:])
			if size == 0 || n >= uint32(t.services) {
				return wrong
			}
			at += size
		}
	}
	return nil
}

func (t *table) uint32(at int) uint32 {
	return uint32(t.data[at]) | uint32(t.data[at+1])<<8 | uint32(t.data[at+2])<<16 | uint32(t.data[at+3])<<24
}

// uvarint reads a number of at most 21 bits; size is 0 if there is none.
func uvarint(s string) (n uint32, size int) {
	for i := 0; i < len(s) && i < 3; i++ {
		n |= uint32(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return n, i + 1
		}
	}
	return 0, 0
}

func appendUvarint(b []byte, n uint32) []byte { return binary.AppendUvarint(b, uint64(n)) }

func (t *table) serviceOffset(i int) int { return headerBytes + 4*(t.blocks+i) }

func (t *table) inBlock(b int) int { return min(blockEntries, t.entries-b*blockEntries) }

func (t *table) service(i int) Service {
	at := int(t.uint32(t.serviceOffset(i)))
	key := t.data[at+1 : at+1+int(t.data[at])]
	at += 1 + len(key)
	s := Service{Key: key, Label: t.data[at+1 : at+1+int(t.data[at])]}
	if c := t.data[at+1+len(s.Label)]; c > 0 {
		s.Category = Categories[c-1]
	}
	return s
}

// keyBit is the bit in keys for a text.
func (t *table) keyBit(s string) (word *uint64, bit uint64) {
	h := maphash.String(t.seed, s)
	return &t.keys[h>>6%uint64(len(t.keys))], 1 << (h & 63)
}

// serviceByKey is the number of the service with a key.
func (t *table) serviceByKey(key string) (int, bool) {
	if t.services == 0 {
		return 0, false
	}
	if word, bit := t.keyBit(key); *word&bit == 0 {
		return 0, false
	}
	lo, hi := 0, t.services
	for lo < hi {
		mid := (lo + hi) / 2
		at := int(t.uint32(t.serviceOffset(mid)))
		switch k := t.data[at+1 : at+1+int(t.data[at])]; {
		case k == key:
			return mid, true
		case k < key:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false
}

// find is what holds for a name, which is in the form of appendReversed.
func (t *table) find(name []byte) value {
	for len(name) > 0 {
		e, length, common := t.floor(name)
		if length > 0 && length == common && (length == len(name) || name[length] == separator) {
			return e.value()
		}
		// An entry that matches is before the one found, and begins both it and
		// the name.
		for common > 0 && (common >= len(name) || name[common] != separator) {
			common--
		}
		name = name[:common]
	}
	return value{service: -1, suffix: defaultSuffix}
}

// floor is the last entry that is not after a name; length is that of its domain,
// 0 if there is none, and common is how many bytes both begin with.
func (t *table) floor(name []byte) (e entry, length, common int) {
	lo, hi := 0, t.blocks // the block is before hi
	for lo < hi {
		mid := (lo + hi) / 2
		at := int(t.uint32(headerBytes + 4*mid))
		if t.data[at+2:at+2+int(t.data[at+1])] <= string(name) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return entry{}, 0, 0
	}
	at := int(t.uint32(headerBytes + 4*(lo-1)))
	for range t.inBlock(lo - 1) {
		shared, rest := int(t.data[at]), t.data[at+2:at+2+int(t.data[at+1])]
		// The entry before is not after name, and has common bytes in common with it.
		if shared < common {
			break // it differs from the one before where that is as name is
		}
		n := common
		if shared == common {
			for n < len(name) && n-shared < len(rest) && name[n] == rest[n-shared] {
				n++
			}
			if n-shared < len(rest) && (n == len(name) || rest[n-shared] > name[n]) {
				break
			}
		}
		length, common = shared+len(rest), n
		at += 2 + len(rest)
		e, at = t.read(at)
	}
	return e, length, common
}

// read reads what follows the domain of an entry.
func (t *table) read(at int) (entry, int) {
	e := entry{flags: t.data[at], suffix: t.data[at+1]}
	at += 2
	if e.flags&hasService != 0 {
		n, size := uvarint(t.data[at:])
		e.service = int(n)
		at += size
	}
	return e, at
}

// all calls f with each entry in order. The domain is good until f returns.
func (t *table) all(f func(domain []byte, e entry)) {
	var domain []byte
	for b := range t.blocks {
		at := int(t.uint32(headerBytes + 4*b))
		for range t.inBlock(b) {
			shared, rest := int(t.data[at]), t.data[at+2:at+2+int(t.data[at+1])]
			domain = append(domain[:shared], rest...)
			var e entry
			e, at = t.read(at + 2 + len(rest))
			f(domain, e)
		}
	}
}
