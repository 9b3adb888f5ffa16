package timespec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pakon/uci/regular"
)

// maxZoneFile bounds what is read of a zone file; the largest of the public
// database has under 4 KiB.
const maxZoneFile = 64 << 10

// Location is the time zone of the system whose files are below root ("" or
// "/" for this one): the environment's TZ, else /etc/localtime, else the POSIX
// rule in /etc/TZ, which is all that OpenWrt has when no zone database is
// installed and which the time package does not read. Without any: UTC.
func Location(root string) *time.Location {
	if tz, ok := os.LookupEnv("TZ"); ok {
		if loc, err := parseTZ(tz, root); err == nil {
			return loc
		}
	}
	if data, err := regular.Read(filepath.Join(root, "/etc/localtime"), maxZoneFile); err == nil {
		if loc, err := time.LoadLocationFromTZData("Local", data); err == nil {
			return loc
		}
	}
	if data, err := regular.Read(filepath.Join(root, "/etc/TZ"), maxZoneFile); err == nil {
		if loc, err := parseTZ(strings.TrimSpace(string(data)), root); err == nil {
			return loc
		}
	}
	return time.UTC
}

// parseTZ reads the value of TZ: a path behind a colon, a zone's name, or a
// POSIX rule such as CET-1CEST,M3.5.0,M10.5.0/3.
func parseTZ(tz, root string) (*time.Location, error) {
	tz = strings.TrimPrefix(tz, ":")
	if tz == "" {
		return time.UTC, nil
	}
	if filepath.IsAbs(tz) {
		data, err := regular.Read(filepath.Join(root, tz), maxZoneFile)
		if err != nil {
			return nil, err
		}
		return time.LoadLocationFromTZData("Local", data)
	}
	if loc, err := time.LoadLocation(tz); err == nil {
		return loc, nil
	}
	return posixZone(tz)
}

// posixZone makes a zone of a POSIX TZ rule. The time package knows such rules
// as the footer of a TZif file (RFC 8536) only, so one with nothing else in it
// is made around the rule.
func posixZone(rule string) (*time.Location, error) {
	if len(rule) > 255 || strings.ContainsAny(rule, "\n\x00") || !strings.ContainsAny(rule, "0123456789") {
		return nil, fmt.Errorf("time zone rule %q: want one like CET-1CEST,M3.5.0,M10.5.0/3", rule)
	}
	var b bytes.Buffer
	for range 2 { // the 32-bit block that readers skip, and the 64-bit block
		b.WriteString("TZif2")
		b.Write(make([]byte, 15))
		// isutcnt, isstdcnt, leapcnt, timecnt, typecnt, charcnt
		for _, count := range []uint32{0, 0, 0, 0, 1, 4} {
			b.Write(binary.BigEndian.AppendUint32(nil, count))
		}
		b.Write([]byte{0, 0, 0, 0, 0, 0}) // the one type: offset 0, no summer time, name at 0
		b.WriteString("UTC\x00")
	}
	b.WriteString("\n" + rule + "\n")
	loc, err := time.LoadLocationFromTZData("Local", b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("time zone rule %q: %w", rule, err)
	}
	// A rule that the time package cannot read leaves its placeholder in force.
	if name, _ := time.Unix(0, 0).In(loc).Zone(); name == "UTC" && !strings.HasPrefix(rule, "UTC") {
		return nil, fmt.Errorf("time zone rule %q: want one like CET-1CEST,M3.5.0,M10.5.0/3", rule)
	}
	return loc, nil
}
