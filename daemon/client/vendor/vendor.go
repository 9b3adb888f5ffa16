// Package vendor tells who made a device, by its MAC, from a file that is made of
// the registry of the IEEE (see SOURCE.md; daemon/client/vendorgen makes the file
// and decides what a vendor is called). What else a device is called is left to
// package client.
package vendor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"sort"
	"unicode"
	"unicode/utf8"

	"pakon/uci/regular"
)

// The file, all numbers little-endian: a header, for each length of prefix a table,
// and the names, sorted, in blocks of blockLen.
//
//	header  magic, entries of the three tables, names, bytes of the blocks (uint32
//	        each), CRC-32 of all this and of the rest
//	table   for each first byte of a prefix the number of the first entry that has
//	        it or a larger one, and the number of all entries (uint32 each)
//	entry   the other bytes of the prefix, the number of the name (uint16); sorted
//	index   for each block where it begins in the blocks (uint32)
//	blocks  for each name how many bytes of the one before it in the block it begins
//	        with (a byte below maxSame), and its other bytes, none of which is so low
const (
	magic      = "pakonmac"
	headerSize = len(magic) + 6*4
	firstSize  = 257 * 4
	blockLen   = 16
	maxSame    = ' '
	maxName    = 64      // bytes
	maxFile    = 4 << 20 // bytes
)

// prefixBits are the lengths of the prefixes that the IEEE gives out, in the order
// of the tables.
var prefixBits = [...]int{24, 28, 36}

// Table is an open file of vendors. Almost nothing of it is in memory. It may be
// used by several goroutines at once. A nil Table knows no vendor.
type Table struct {
	f       *os.File
	tables  [len(prefixBits)]section
	names   int
	index   int64 // where it begins
	blocks  int64
	fileEnd int64
}

type section struct {
	at   int64
	n    int64 // entries
	rest int   // bytes of a prefix after the first
}

// Open opens a file of vendors and checks all of it, so that a file that is
// damaged or cut off is an error.
func Open(path string) (*Table, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open vendors: %w", err)
	}
	t := &Table{f: f}
	if err := t.check(); err != nil {
		return nil, errors.Join(fmt.Errorf("read vendors %s: %w", path, err), f.Close())
	}
	return t, nil
}

func (t *Table) check() error {
	info, err := t.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < int64(headerSize) || info.Size() > maxFile {
		return fmt.Errorf("not a file of %d to %d bytes", headerSize, maxFile)
	}
	header := make([]byte, headerSize)
	if _, err := t.f.ReadAt(header, 0); err != nil {
		return err
	}
	if string(header[:len(magic)]) != magic {
		return errors.New("not a file of vendors")
	}
	var number [6]int64
	for i := range number {
		number[i] = int64(binary.LittleEndian.Uint32(header[len(magic)+4*i:]))
	}
	at := int64(headerSize)
	for i, bits := range prefixBits {
		t.tables[i] = section{at: at, n: number[i], rest: (bits+7)/8 - 1}
		at += firstSize + number[i]*int64(t.tables[i].rest+2)
	}
	t.names = int(min(number[3], maxFile))
	t.index = at
	t.blocks = at + (number[3]+blockLen-1)/blockLen*4
	t.fileEnd = t.blocks + number[4]
	if t.fileEnd != info.Size() {
		return fmt.Errorf("%d bytes, but its header says %d", info.Size(), t.fileEnd)
	}
	sum := checksum(header)
	if _, err := io.Copy(sum, io.NewSectionReader(t.f, int64(headerSize), t.fileEnd-int64(headerSize))); err != nil {
		return err
	}
	if int64(sum.Sum32()) != number[5] {
		return errors.New("damaged: its checksum is wrong")
	}
	return nil
}

// checksum returns a sum that has the header, without the sum that is in it.
func checksum(header []byte) hash.Hash32 {
	sum := crc32.NewIEEE()
	sum.Write(header[:headerSize-4])
	return sum
}

// Close closes the file. A closed Table knows no vendor.
func (t *Table) Close() error {
	if t == nil {
		return nil
	}
	return t.f.Close()
}

// Lookup returns what the vendor of a device is called, at most 64 bytes of UTF-8
// without control characters, by the longest prefix of its MAC that the IEEE gave
// out. It is "" if that is not known, and for addresses that the IEEE does not give
// out: of groups, and those that devices choose themselves.
func (t *Table) Lookup(mac [6]byte) string {
	const group, local = 1, 2
	if t == nil || mac[0]&(group|local) != 0 {
		return ""
	}
	for i := len(prefixBits) - 1; i >= 0; i-- {
		name, found, err := t.find(t.tables[i], prefix(mac, prefixBits[i]))
		if err != nil {
			return "" // a shorter prefix may be of another vendor
		}
		if found {
			return name
		}
	}
	return ""
}

// prefix returns the first bits of a MAC, in whole bytes that end with zeros.
func prefix(mac [6]byte, bits int) []byte {
	p := mac[:(bits+7)/8]
	if bits%8 != 0 {
		p[len(p)-1] &= 0xf0
	}
	return p
}

func (t *Table) find(s section, prefix []byte) (name string, found bool, err error) {
	bounds := make([]byte, 8)
	if _, err := t.f.ReadAt(bounds, s.at+int64(prefix[0])*4); err != nil {
		return "", false, fmt.Errorf("read vendors: %w", err)
	}
	from, to := int64(binary.LittleEndian.Uint32(bounds)), int64(binary.LittleEndian.Uint32(bounds[4:]))
	if from > to || to > s.n {
		return "", false, errDamaged
	}
	entry := make([]byte, s.rest+2)
	compare := func(i int) int {
		if err != nil {
			return 0
		}
		if _, err = t.f.ReadAt(entry, s.at+firstSize+(from+int64(i))*int64(len(entry))); err != nil {
			err = fmt.Errorf("read vendors: %w", err)
			return 0
		}
		return bytes.Compare(prefix[1:], entry[:s.rest])
	}
	i, found := sort.Find(int(to-from), compare)
	if !found || compare(i) != 0 || err != nil {
		return "", false, err
	}
	name, err = t.name(int(binary.LittleEndian.Uint16(entry[s.rest:])))
	return name, true, err
}

var errDamaged = errors.New("read vendors: damaged")

// name reads the name of a number.
func (t *Table) name(n int) (string, error) {
	if n >= t.names {
		return "", errDamaged
	}
	bounds := make([]byte, 8)
	at := t.index + int64(n/blockLen)*4
	if at+8 > t.blocks {
		bounds = bounds[:4] // the last one, which ends with the file
	}
	if _, err := t.f.ReadAt(bounds, at); err != nil {
		return "", fmt.Errorf("read a vendor's name: %w", err)
	}
	from, to := int64(binary.LittleEndian.Uint32(bounds)), t.fileEnd-t.blocks
	if len(bounds) == 8 {
		to = int64(binary.LittleEndian.Uint32(bounds[4:]))
	}
	if from > to || to > t.fileEnd-t.blocks || to-from > blockLen*(1+maxName) {
		return "", errDamaged
	}
	block := make([]byte, to-from)
	if _, err := t.f.ReadAt(block, t.blocks+from); err != nil {
		return "", fmt.Errorf("read a vendor's name: %w", err)
	}
	var name []byte
	for range n%blockLen + 1 {
		if len(block) == 0 || int(block[0]) > len(name) || block[0] >= maxSame {
			return "", errDamaged
		}
		rest := bytes.IndexFunc(block[1:], func(r rune) bool { return r < maxSame })
		if rest < 0 {
			rest = len(block) - 1
		}
		name = append(name[:block[0]], block[1:1+rest]...)
		block = block[1+rest:]
	}
	if !showable(name) {
		return "", errDamaged
	}
	return string(name), nil
}

func showable(name []byte) bool {
	bad := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }
	return len(name) <= maxName && utf8.Valid(name) && !bytes.ContainsFunc(name, bad)
}
