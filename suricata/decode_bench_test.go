package suricata

import (
	"bytes"
	"os"
	"testing"
)

func BenchmarkDecodeFile(b *testing.B) {
	path := os.Getenv("EVE_FILE")
	if path == "" {
		b.Skip("EVE_FILE names no file of events")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	benchmarkDecode(b, bytes.Split(bytes.TrimSpace(data), []byte{'\n'}))
}

func benchmarkDecode(b *testing.B, lines [][]byte) {
	var d Decoder
	var ev Event
	size := 0
	for _, l := range lines {
		size += len(l)
		if err := d.Decode(l, &ev); err != nil {
			b.Fatalf("%v: %s", err, l)
		}
	}
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := d.Decode(lines[i], &ev); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(lines) {
			i = 0
		}
	}
}
