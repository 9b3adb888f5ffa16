package block

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzDecode decodes what nobody encoded: as it is, with the right checksum,
// and as the sections of a block before they are compressed.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 10, 100} {
		data := encode(f, random(r, n))
		f.Add(data)
		f.Add(data[:len(data)/2])
		f.Add(unpack(f, data))
	}
	b := &Block{}
	f.Fuzz(func(t *testing.T, data []byte) {
		sound(t, b, data)
		sealed := slices.Clone(data)
		seal(sealed)
		sound(t, b, sealed)
		sound(t, b, pack(data))
	})
}

// unpack is a block without compression: the number of flows, and sections
// with two bytes of length in front.
func unpack(t testing.TB, data []byte) []byte {
	t.Helper()
	_, n := binary.Uvarint(data[5:])
	d := decoders.New().(*decoder)
	d.in = data[5+n:]
	out := slices.Clone(data[5 : 5+n])
	for len(d.in) > 0 {
		s, err := d.section()
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.LittleEndian.AppendUint16(out, uint16(len(s))), s...)
	}
	return out
}

// pack makes a block of what unpack gives, or of anything.
func pack(data []byte) []byte {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	flows, n := binary.Uvarint(data)
	data = data[max(n, 0):]
	e.dst, e.size = binary.AppendUvarint([]byte{version, 0, 0, 0, 0}, flows), 0
	for len(data) >= 2 {
		n := min(int(binary.LittleEndian.Uint16(data)), len(data)-2)
		e.raw = append(e.raw[:0], data[2:2+n]...)
		if e.section() != nil {
			break
		}
		data = data[2+n:]
	}
	out := e.dst
	seal(out)
	return out
}

// TestPack makes sure that the fuzzer gets behind the compression.
func TestPack(t *testing.T) {
	want := random(rand.New(rand.NewPCG(2, 2)), 30)
	same(t, decode(t, pack(unpack(t, encode(t, want)))), want)
}

func FuzzEncodeDecode(f *testing.F) {
	f.Add(uint64(1), uint16(3))
	f.Add(uint64(2), uint16(150))
	b := &Block{}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		want := random(rand.New(rand.NewPCG(seed, 0)), int(n%200))
		data := encode(t, want)
		if err := Decode(b, data); err != nil {
			t.Fatal(err)
		}
		same(t, b, want)
	})
}
