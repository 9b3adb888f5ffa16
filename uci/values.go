package uci

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What would be right, in the words of a Problem.
const (
	wantMode      = "tap, filter or auto"
	wantInterface = "the names of network interfaces such as br-lan: at most 15 bytes, without white space, '/' and ':'"
	wantLimit     = "a number of flows, at least 1"
	wantBytes     = "a number of bytes"
	wantDuration  = "a duration: a number of seconds, or a number with s, m, h, d or w behind it"
	wantPositive  = wantDuration + ", more than 0"
	wantPath      = "the absolute path of a file"
	wantClient    = "a MAC address such as 00:11:22:33:44:55, the name of a client, or the IP address of one without a MAC"
	wantMute      = "a MAC address such as 00:11:22:33:44:55, the name of a client, or a network interface such as br-guest_turris"
	wantCategory  = "a category of hidden names such as advertising"
	wantMAC       = "a MAC address such as 00:11:22:33:44:55"
	wantName      = "a name: UTF-8 without control characters, at most 255 bytes"
)

// maxName bounds the name of a client, in bytes.
const maxName = 255

// ParseDuration reads a duration of the configuration: a number of seconds, or
// a number with one of the units s, m, h, d and w behind it. There are no
// fractions, no signs and no combinations; the longest is about 292 years.
func ParseDuration(s string) (time.Duration, error) {
	unit := time.Second
	number := s
	if s != "" {
		number = s[:len(s)-1]
		switch s[len(s)-1] {
		case 's':
		case 'm':
			unit = time.Minute
		case 'h':
			unit = time.Hour
		case 'd':
			unit = day
		case 'w':
			unit = week
		default:
			number = s
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n > uint64(math.MaxInt64/unit) {
		return 0, fmt.Errorf("duration %s: want %s", quoteValue(s), wantDuration)
	}
	return time.Duration(n) * unit, nil
}

func parseDuration(s string) (time.Duration, bool) {
	d, err := ParseDuration(s)
	return d, err == nil
}

func parsePositive(s string) (time.Duration, bool) {
	d, err := ParseDuration(s)
	return d, err == nil && d > 0
}

func parseMode(s string) (string, bool) {
	switch s {
	case "tap", "filter", "auto":
		return s, true
	}
	return "", false
}

// parseCategory reads a word; which there are, the lists say.
func parseCategory(s string) (string, bool) {
	s = strings.ToLower(s)
	return s, s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") == ""
}

func parseLimit(s string) (int64, bool) {
	n, ok := parseBytes(s)
	return n, ok && n > 0
}

func parseBytes(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}

// parseInterface takes what Linux takes as the name of a network interface
// (dev_valid_name in net/core/dev.c).
func parseInterface(s string) (string, bool) {
	bad := func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r) }
	ok := s != "" && len(s) <= 15 && s != "." && s != ".." && utf8.ValidString(s) && !strings.ContainsFunc(s, bad)
	return s, ok
}

func parsePath(s string) (string, bool) {
	const longest = 4095 // PATH_MAX without its NUL
	ok := filepath.IsAbs(s) && len(s) <= longest && !strings.HasSuffix(s, "/") && showable(s, longest)
	return filepath.Clean(s), ok
}

// parseFolder takes the absolute path of a file or a folder.
func parseFolder(s string) (string, bool) { return parsePath(filepath.Clean(s)) }

func parseName(s string) (string, bool) { return s, showable(s, maxName) }

func parseClient(s string) (string, bool) {
	if mac, ok := parseMAC(s); ok {
		return mac, true
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return addr.Unmap().String(), true
	}
	// With a colon, a MAC or an address was meant: no name of a client has one.
	return s, !strings.Contains(s, ":") && showable(s, maxName)
}

// parseMute takes what parseClient does but addresses: who is new has a MAC.
func parseMute(s string) (string, bool) {
	s, ok := parseClient(s)
	_, err := netip.ParseAddr(s)
	return s, ok && err != nil
}

// parseMAC takes six octets with ':' or '-' between them, not all zero, and
// returns them in lower case with ':'.
func parseMAC(s string) (string, bool) {
	const length = len("00:11:22:33:44:55")
	mac, err := net.ParseMAC(s)
	if err != nil || len(s) != length || [6]byte(mac) == [6]byte{} {
		return "", false
	}
	return mac.String(), true
}

// showable tells whether s can be shown: not empty, not longer than
// longest, UTF-8 without control characters.
func showable(s string, longest int) bool {
	return s != "" && len(s) <= longest && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
