package block

import (
	"fmt"
	"testing"
)

func BenchmarkEncode(b *testing.B) {
	for _, p2p := range []float64{0, .1} {
		b.Run(fmt.Sprintf("p2p=%v", p2p), func(b *testing.B) {
			blocks := ofHousehold(b, day(p2p, 20480), 4096)
			b.ReportAllocs()
			var dst []byte
			flows, bytes := 0, 0
			for i := 0; b.Loop(); i++ {
				from := blocks[i%len(blocks)]
				var err error
				if dst, err = Encode(dst[:0], from); err != nil {
					b.Fatal(err)
				}
				flows, bytes = flows+len(from.Flows), bytes+len(dst)
			}
			b.ReportMetric(float64(bytes)/float64(flows), "bytes/flow")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(flows), "ns/flow")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, p2p := range []float64{0, .1} {
		b.Run(fmt.Sprintf("p2p=%v", p2p), func(b *testing.B) {
			var blocks [][]byte
			for _, from := range ofHousehold(b, day(p2p, 20480), 4096) {
				blocks = append(blocks, encode(b, from))
			}
			b.ReportAllocs()
			to := &Block{}
			flows := 0
			for i := 0; b.Loop(); i++ {
				if err := Decode(to, blocks[i%len(blocks)]); err != nil {
					b.Fatal(err)
				}
				flows += len(to.Flows)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(flows), "ns/flow")
		})
	}
}
