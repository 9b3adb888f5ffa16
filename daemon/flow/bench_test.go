package flow

import (
	"bytes"
	"testing"

	"pakon/suricata"
	"pakon/tests/household"
)

// BenchmarkEvent measures decoding alone and with the joining of events to
// flows, by event of a household's mixture.
func BenchmarkEvent(b *testing.B) {
	cfg := household.Default()
	cfg.Events = 50_000
	var events bytes.Buffer
	if err := household.Generate(cfg, &events, nil); err != nil {
		b.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(events.Bytes(), []byte("\n")), []byte("\n"))
	for name, joined := range map[string]bool{"decode": false, "decode and join": true} {
		b.Run(name, func(b *testing.B) {
			tab := New(&lan{}, func([]Flow) {})
			tab.SetPolicy(Policy{Interfaces: []string{"br-lan", "br-guest_turris"}})
			var dec suricata.Decoder
			var ev suricata.Event
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := dec.Decode(lines[i], &ev); err != nil {
					b.Fatal(err)
				}
				if joined {
					tab.Event(&ev)
				}
				if i++; i == len(lines) {
					i = 0
				}
			}
		})
	}
}
