package suricata

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// household makes n events out of the recorded ones of a version of Suricata,
// in the proportions of a household: half flows, a quarter DNS answers, then
// TLS, QUIC and a little HTTP, with addresses, ports, names and counts varied.
func household(b *testing.B, version string, n int) [][]byte {
	templates := map[Kind][]string{}
	var d Decoder
	var ev Event
	for _, line := range readLines(b, "testdata/eve/router-"+version+"-afpacket.json") {
		if err := d.Decode(line, &ev); err != nil {
			b.Fatal(err)
		}
		named := len(ev.Name) > 0 || len(ev.DNS.Answers) > 0 || ev.Kind == Flow
		if named {
			templates[ev.Kind] = append(templates[ev.Kind], string(line))
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	var lines [][]byte
	for range n {
		kind := Flow
		switch p := r.IntN(100); {
		case p < 23:
			kind = DNS
		case p < 37:
			kind = TLS
		case p < 47:
			kind = QUIC
		case p < 49:
			kind = HTTP
		}
		line := templates[kind][r.IntN(len(templates[kind]))]
		for old, new := range map[string]string{
			"203.0.113.80":  fmt.Sprintf("%d.%d.%d.%d", 1+r.IntN(220), r.IntN(256), r.IntN(256), r.IntN(256)),
			"192.168.1.10":  fmt.Sprintf("192.168.1.%d", 2+r.IntN(250)),
			":0080":         fmt.Sprintf(":%04x", r.IntN(1<<16)),
			"example.test":  strings.Repeat("ab", 1+r.IntN(8)) + ".example",
			`"src_port":5`:  fmt.Sprintf(`"src_port":%d`, 1+r.IntN(5)),
			`client":1`:     fmt.Sprintf(`client":%d`, 1+r.IntN(1<<r.IntN(20))),
			"02:aa:00:00:0": fmt.Sprintf("02:%02x:00:00:0", r.IntN(256)),
			"T12:41:":       fmt.Sprintf("T%02d:%02d:", r.IntN(24), r.IntN(60)),
		} {
			line = strings.ReplaceAll(line, old, new)
		}
		lines = append(lines, []byte(line))
	}
	return lines
}

func BenchmarkDecode(b *testing.B) {
	for _, version := range []string{"7", "8"} {
		b.Run("suricata="+version, func(b *testing.B) { benchmarkDecode(b, household(b, version, 20000)) })
	}
	if path := os.Getenv("EVE_FILE"); path != "" {
		b.Run("file", func(b *testing.B) { benchmarkDecode(b, readLines(b, path)) })
	}
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
