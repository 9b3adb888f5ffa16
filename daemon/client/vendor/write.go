package vendor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
)

// Entry is a range of addresses that the IEEE gave out.
type Entry struct {
	Prefix [6]byte // beyond Bits it does not count
	Bits   int     // 24, 28 or 36
	Name   string  // UTF-8 without control characters, at most 64 bytes
}

// Write writes a file of vendors. Of entries with the same prefix the first
// counts. Entries that are not as Entry says, or too many, are an error.
func Write(w io.Writer, entries []Entry) error {
	numbers := make(map[string]int)
	for _, e := range entries {
		if !slices.Contains(prefixBits[:], e.Bits) || !showable([]byte(e.Name)) {
			return fmt.Errorf("vendor %q of the %d bits of %x: can not be written", e.Name, e.Bits, e.Prefix)
		}
		numbers[e.Name] = 0
	}
	if len(numbers) > math.MaxUint16+1 {
		return fmt.Errorf("%d names of vendors: at most %d can be written", len(numbers), math.MaxUint16+1)
	}
	names := slices.Sorted(maps.Keys(numbers))
	var index, blocks []byte
	for i, name := range names {
		numbers[name] = i
		same := 0
		if i%blockLen == 0 {
			index = binary.LittleEndian.AppendUint32(index, uint32(len(blocks)))
		} else {
			for before := names[i-1]; same < min(len(before), len(name), maxSame-1) && before[same] == name[same]; {
				same++
			}
		}
		blocks = append(append(blocks, byte(same)), name[same:]...)
	}

	header := []byte(magic)
	var tables []byte
	for _, bits := range prefixBits {
		of := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Bits != bits })
		slices.SortStableFunc(of, func(a, b Entry) int {
			return bytes.Compare(prefix(a.Prefix, bits), prefix(b.Prefix, bits))
		})
		of = slices.CompactFunc(of, func(a, b Entry) bool {
			return bytes.Equal(prefix(a.Prefix, bits), prefix(b.Prefix, bits))
		})
		header = binary.LittleEndian.AppendUint32(header, uint32(len(of)))
		for first := range 257 {
			n, _ := slices.BinarySearchFunc(of, first, func(e Entry, first int) int { return int(e.Prefix[0]) - first })
			tables = binary.LittleEndian.AppendUint32(tables, uint32(n))
		}
		for _, e := range of {
			tables = append(tables, prefix(e.Prefix, bits)[1:]...)
			tables = binary.LittleEndian.AppendUint16(tables, uint16(numbers[e.Name]))
		}
	}
	header = binary.LittleEndian.AppendUint32(header, uint32(len(names)))
	header = binary.LittleEndian.AppendUint32(header, uint32(len(blocks)))
	return seal(w, append(header, 0, 0, 0, 0), slices.Concat(tables, index, blocks))
}

// seal writes a file whose header has no checksum yet.
func seal(w io.Writer, header, rest []byte) error {
	sum := checksum(header)
	sum.Write(rest)
	binary.LittleEndian.PutUint32(header[headerSize-4:], sum.Sum32())
	if size := len(header) + len(rest); size > maxFile {
		return fmt.Errorf("vendors of %d bytes: at most %d can be read", size, maxFile)
	}
	_, err := w.Write(append(header, rest...))
	return err
}
