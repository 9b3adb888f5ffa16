package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// routerZone returns the time zone of the router below root. OpenWrt keeps it
// as a POSIX rule ("CET-1CEST,M3.5.0,M10.5.0/3") in /etc/TZ, and as a rule is
// all there is without the zoneinfo packages, which Go looks for. The variable
// TZ is respected as usual.
func routerZone(root string) (*time.Location, error) {
	rule := os.Getenv("TZ")
	if rule == "" {
		b, err := os.ReadFile(filepath.Join(root, "etc/TZ"))
		if err != nil {
			return time.Local, nil // not OpenWrt: Go finds /etc/localtime by itself
		}
		rule = strings.TrimSpace(string(b))
	}
	if _, err := time.LoadLocation(rule); err == nil {
		return time.Local, nil // the name of a zone, which Go has found too
	}
	loc, err := ruleZone(rule)
	if err != nil {
		return time.UTC, fmt.Errorf("read time zone %q: %w; times are shown in UTC", rule, err)
	}
	return loc, nil
}

// ruleZone makes a location of a POSIX rule. The time package reads such rules
// only as the last line of a zoneinfo file (RFC 8536, section 3.3), so it is
// given one that has nothing else.
func ruleZone(rule string) (*time.Location, error) {
	name, offset, err := standardTime(rule)
	if err != nil {
		return nil, err
	}
	header := func(b []byte, types, chars uint32) []byte {
		b = append(b, "TZif2"...)
		b = append(b, make([]byte, 15)...)
		for _, n := range []uint32{0, 0, 0, 0, types, chars} { // isut, isstd, leap, transitions, types, chars
			b = binary.BigEndian.AppendUint32(b, n)
		}
		return b
	}
	block := func(b []byte) []byte {
		b = binary.BigEndian.AppendUint32(b, uint32(int32(offset)))
		b = append(b, 0, 0) // not daylight saving time; name at 0
		return append(append(b, name...), 0)
	}
	chars := uint32(len(name) + 1)
	b := block(header(nil, 1, chars))
	b = block(header(b, 1, chars))
	b = append(b, '\n')
	b = append(b, rule...)
	b = append(b, '\n')
	return time.LoadLocationFromTZData(rule, b)
}

// standardTime reads the name and the offset east of UTC, in seconds, that a
// POSIX rule begins with.
func standardTime(rule string) (name string, offset int, err error) {
	bad := fmt.Errorf("not a time zone rule like CET-1CEST,M3.5.0,M10.5.0/3")
	if strings.ContainsAny(rule, "\n\x00") {
		return "", 0, bad
	}
	rest := ""
	if strings.HasPrefix(rule, "<") {
		end := strings.IndexByte(rule, '>')
		if end < 0 {
			return "", 0, bad
		}
		name, rest = rule[1:end], rule[end+1:]
	} else {
		end := strings.IndexFunc(rule, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' })
		if end < 0 {
			return "", 0, bad
		}
		name, rest = rule[:end], rule[end:]
	}
	if len(name) < 3 || len(name) > 16 {
		return "", 0, bad
	}
	sign := -1 // POSIX counts west of UTC
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		if rest[0] == '-' {
			sign = 1
		}
		rest = rest[1:]
	}
	for unit := 3600; ; unit /= 60 {
		n := 0
		digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 0 {
			digits = len(rest)
		}
		if digits < 1 || digits > 3 {
			return "", 0, bad
		}
		for _, c := range rest[:digits] {
			n = 10*n + int(c-'0')
		}
		offset += sign * n * unit
		if rest = rest[digits:]; unit == 1 || !strings.HasPrefix(rest, ":") {
			break
		}
		rest = rest[1:]
	}
	if offset < -25*3600 || offset > 25*3600 {
		return "", 0, bad
	}
	return name, offset, nil
}
