package original

import (
	"database/sql"
	"math"
	"net/netip"
	"strings"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/name"
)

// Bounds of what is believed.
const (
	maxStart    = 7_258_118_400                // 2200-01-01, Unix seconds
	maxDuration = 10 * 366 * 24 * 3600         // seconds
	maxBytes    = 1 << 48                      // one way
	maxLevel    = 255                          // there is one per archive rule
	maxText     = name.MaxLen + len(":65535.") // a name as the original may have stored it
	maxApp      = 32                           // bytes
)

// The columns that are read beside the start, in the order of row.
var (
	numbers = []string{"duration", "dest_port", "bytes_send", "bytes_received", "details"}
	texts   = []string{"src_mac", "src_ip", "dest_ip", "proto", "app_proto", "app_hostname"}
)

// row is a row as SQLite gives it.
type row struct {
	duration, port, sent, recvd, details any // int64, float64, or nil for what is not a number
	mac, addr, remote, proto, app, name  sql.NullString
}

func (r *row) dest() []any {
	return []any{&r.duration, &r.port, &r.sent, &r.recvd, &r.details,
		&r.mac, &r.addr, &r.remote, &r.proto, &r.app, &r.name}
}

// flow makes a flow of the row; it tells false if its bytes make no sense. What
// else makes no sense is taken as unknown.
func (r *row) flow(at Position) (Flow, bool) {
	sent, ok := bytesOf(r.sent)
	recvd, ok2 := bytesOf(r.recvd)
	if !ok || !ok2 {
		return Flow{}, false
	}
	f := Flow{Position: at, Level: int(within(r.details, maxLevel)), Flow: flow.Flow{
		Start:      at.Start,
		End:        at.Start + within(r.duration, maxDuration)*1000,
		ClientAddr: addr(r.addr.String),
		Remote:     addr(r.remote.String),
		Port:       uint16(within(r.port, math.MaxUint16)),
		Name:       hostname(r.name.String, r.remote.String),
		App:        app(r.app.String),
		Sent:       sent,
		Recvd:      recvd,
	}}
	switch strings.ToUpper(r.proto.String) {
	case "TCP":
		f.Flow.Proto = flow.TCP
	case "UDP":
		f.Flow.Proto = flow.UDP
	}
	if m, err := client.ParseMAC(r.mac.String); err == nil && !m.IsGroup() {
		f.Flow.Client = m
	}
	return f, true
}

// millis is the Unix time in milliseconds of one in seconds.
func millis(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v * 1000, 0 <= v && v < maxStart
	case float64:
		if 0 <= v && v < maxStart {
			return int64(math.Round(v * 1000)), true
		}
	}
	return 0, false
}

// bytesOf is a number of bytes; none, of a flow that had not ended, are 0.
func bytesOf(v any) (uint64, bool) {
	switch v := v.(type) {
	case int64:
		return uint64(v), 0 <= v && v <= maxBytes
	case float64:
		if 0 <= v && v <= maxBytes {
			return uint64(v), true
		}
		return 0, false
	}
	return 0, true
}

// within is the whole part of a number from 0 to most, else 0.
func within(v any, most int64) int64 {
	switch v := v.(type) {
	case int64:
		if 0 <= v && v <= most {
			return v
		}
	case float64:
		if 0 <= v && v <= float64(most) {
			return int64(v)
		}
	}
	return 0
}

// addr is the address that a text spells, or the zero one.
func addr(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// hostname is a name as it is stored. It may be that of a certificate, which has
// a star, or the far end's address, which is no name.
func hostname(s, remote string) string {
	if s == remote {
		return ""
	}
	return string(name.Clean(nil, []byte(strings.TrimPrefix(s, "*."))))
}

// app is an application protocol as Suricata names it. The original writes "?"
// where it is not known.
func app(s string) string {
	if s == "?" || s == "failed" || len(s) > maxApp {
		return ""
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return ""
		}
	}
	return strings.ToLower(s)
}
