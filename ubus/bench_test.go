package ubus

import (
	"testing"
)

// buildFlows builds what a page of n flows is.
func buildFlows(b *Builder, n int) {
	b.Reset()
	b.Array("flows")
	for i := range n {
		b.Table("")
		b.Int("start", 1_700_000_000+int64(i))
		b.Int("duration", int64(i%3600))
		b.String("client", "living-room-tv")
		b.String("mac", "02:00:00:00:00:01")
		b.String("hostname", "video-edge-12.cdn.example.org")
		b.String("group", "example.org")
		b.String("source", "sni")
		b.Int("port", 443)
		b.String("proto", "tcp")
		b.String("app_proto", "tls")
		b.Int("sent", int64(i)*1000)
		b.Int("recvd", int64(i)*5_000_000)
		b.Bool("running", i%100 == 0)
		b.Close()
	}
	b.Close()
	b.String("next", "0123456789abcdef")
}

// BenchmarkBuilderFlows encodes a page of 1000 flows and frames it, as a reply is.
func BenchmarkBuilderFlows(b *testing.B) {
	var build Builder
	buildFlows(&build, 1000)
	b.SetBytes(int64(build.Len()))
	b.ReportAllocs()
	for b.Loop() {
		buildFlows(&build, 1000)
	}
	if err := build.Err(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkTableFlows(b *testing.B) {
	var build Builder
	buildFlows(&build, 1000)
	t, err := Decode(build.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.SetBytes(int64(build.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = t.Append(buf[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeFlows(b *testing.B) {
	var build Builder
	buildFlows(&build, 1000)
	b.SetBytes(int64(build.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(build.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJSONFlows(b *testing.B) {
	var build Builder
	buildFlows(&build, 1000)
	t, err := Decode(build.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.SetBytes(int64(build.Len()))
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendJSON(buf[:0], t, false)
	}
}
