package show

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// clean makes text harmless for a terminal: whatever is not printable (control
// characters, escape sequences, changes of the writing direction, invalid
// UTF-8) becomes a visible escape. Names come from the network.
func clean(s string) string {
	ok := true
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			ok = false
			break
		}
	}
	if ok {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r) && r != utf8.RuneError:
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += n
	}
	return b.String()
}

// cell is text for a table, in which only the table's own bars stand.
func cell(s string) string { return strings.ReplaceAll(clean(s), "|", `\x7c`) }

// shortHost keeps the last 40 characters of a long host name.
func shortHost(s string) string {
	const keep = 40
	n := utf8.RuneCountInString(s)
	if n <= keep {
		return s
	}
	for ; n > keep; n-- {
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
	return "..." + s
}

// size is a number of bytes in the largest unit of 1024 that leaves no
// fraction below 1, right-aligned to three digits so that units line up.
func size(n int64) string {
	f := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 1024 {
			return fmt.Sprintf("%3.0f%s", f, unit)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.0fTiB", f)
}

// plainSize is size in the middle of a line.
func plainSize(n int64) string { return strings.TrimSpace(size(n)) }

// share is how much n is of all, in percent: only nothing is 0%.
func share(n, all int64) string {
	switch p := 100 * float64(n) / float64(max(all, 1)); {
	case n <= 0:
		return "0%"
	case p < 1:
		return "<1%"
	default:
		return fmt.Sprintf("%.0f%%", p)
	}
}

// seconds is the duration of a flow.
func seconds(n int64) string {
	if n <= 0 {
		return "<1s"
	}
	return strconv.FormatInt(n, 10) + "s"
}

// span is a longer duration in its two largest units.
func span(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case s >= 86400:
		return fmt.Sprintf("%dd %dh", s/86400, s%86400/3600)
	case s >= 3600:
		return fmt.Sprintf("%dh %dm", s/3600, s%3600/60)
	case s >= 60:
		return fmt.Sprintf("%dm %ds", s/60, s%60)
	}
	return fmt.Sprintf("%ds", s)
}

// dateTime is a moment as the log shows it.
func dateTime(unix int64, loc *time.Location) string {
	return time.Unix(unix, 0).In(loc).Format("2006-01-02 15:04:05")
}

// services are the ports that are shown by the service's name.
var services = map[string]string{
	"22/tcp": "ssh", "25/tcp": "smtp", "53/tcp": "dns", "53/udp": "dns", "80/tcp": "http",
	"110/tcp": "pop3", "143/tcp": "imap", "443/tcp": "https", "465/tcp": "smtps",
	"587/tcp": "smtp", "993/tcp": "imaps", "995/tcp": "pop3s",
}

// portName is a port and its protocol, or the service that is known for them.
// Where merged flows differed in one of them, that one is left out.
func portName(port int64, proto string) string {
	s := strconv.FormatInt(port, 10)
	if port == 0 {
		s = ""
	}
	if proto != "" {
		s += "/" + proto
	}
	if name, ok := services[s]; ok {
		return name
	}
	return s
}
