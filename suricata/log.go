package suricata

import (
	"context"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// LogLine is a line of Suricata's log.
type LogLine struct {
	Level   slog.Level
	Message string // without level, time, process and thread; printable
}

// The forms of Suricata 7 and 8: "Notice: text" (ours), "[12 - Main] 2026-11-22 17:00:00 Notice: sub: text" (its file),
// "[12] Notice: sub: text" and "N: sub: text" (console, before the configuration is read, letters E, W, i, d), and of
// older ones "22/11/2026 -- 17:00:00 - <Notice> - text".
var logForm = regexp.MustCompile(`^(?:\[[^\]]{1,64}\] )?(?:\d[-0-9/]* (?:-- )?[0-9:.]+ )?(?:- )?` +
	`(?:<(Emergency|Alert|Critical|Error|Warning|Notice|Info|Perf|Config|Debug)> - |(Error|Warning|Notice|Info|Perf|Config|Debug|E|W|i|d): )`)

// ParseLogLine splits a line. One in no known form (the dynamic linker's, say) is an error.
func ParseLogLine(line string) LogLine {
	m := logForm.FindStringSubmatch(line)
	if m == nil {
		return LogLine{slog.LevelError, cleanText(line)}
	}
	l := LogLine{Level: slog.LevelDebug, Message: cleanText(line[len(m[0]):])}
	switch m[1] + m[2] {
	case "Emergency", "Alert", "Critical", "Error", "E":
		l.Level = slog.LevelError
	case "Warning", "W":
		l.Level = slog.LevelWarn
	case "Notice", "Info", "i":
		l.Level = slog.LevelInfo
	}
	return l
}

// maxLogText bounds a message, in bytes.
const maxLogText = 512

// cleanText makes s fit for a log: one line of valid, printable UTF-8 of at most maxLogText bytes.
func cleanText(s string) string {
	s = s[:min(len(s), maxLogText)]
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, s)
	return strings.TrimSpace(strings.ToValidUTF8(s[:min(len(s), maxLogText)], ""))
}

// Drops is what Suricata says, when it ends, that it lost.
type Drops struct {
	Events  uint64 // not written to the socket: nobody read, or not fast enough
	Packets uint64 // lost between the kernel and Suricata
}

var (
	startLine  = regexp.MustCompile(`^(?:suricata: )?This is Suricata version (\S+)`)
	engineLine = regexp.MustCompile(`Engine started\.$`)
	eventsLine = regexp.MustCompile(`^(?:output-json: )?(\d+) events were dropped due to slow or disconnected socket`)
	deviceLine = regexp.MustCompile(`^(?:device: )?.{1,15}: packets: \d+, drops: (\d+) \(`)
	// Told at each start for each interface that offloads: what is captured is merged segments, which tpacket-v3 can take.
	offloadLine = regexp.MustCompile(`NIC offloading: |AF_PACKET with offloads enabled`)
	// What a netfilter log has brought, told at the end.
	readLine   = regexp.MustCompile(`\(\S+\) Pkts \d+, Bytes \d+$`)
	socketLine = regexp.MustCompile(`Error connecting to socket .* \(will keep trying\)|on Unix socket .*reconnecting|^Reconnect failed: `)
	ordinary   = regexp.MustCompile(`^Signal Received\.`)
)

// logMeaning is what a line says beyond its text.
type logMeaning struct {
	begins  bool // a Suricata began
	engine  bool // it captures from now on
	ends    bool // it was asked to end
	drops   Drops
	routine bool // told at every start or end: not worth a person's attention
}

func (l LogLine) meaning() logMeaning {
	var m logMeaning
	switch s := l.Message; {
	case startLine.MatchString(s):
		m.begins, m.routine = true, true
	case engineLine.MatchString(s):
		m.engine, m.routine = true, true
	case ordinary.MatchString(s):
		m.ends, m.routine = true, true
	case offloadLine.MatchString(s), readLine.MatchString(s), socketLine.MatchString(s):
		m.routine = true
	default:
		if n := eventsLine.FindStringSubmatch(s); n != nil {
			m.drops.Events = count(n[1])
		} else if n := deviceLine.FindStringSubmatch(s); n != nil {
			m.drops.Packets = count(n[1])
			m.routine = m.drops.Packets == 0
		}
	}
	return m
}

func count(digits string) uint64 {
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil { // more than 64 bits of drops
		return 0
	}
	return n
}

// logRelay passes Suricata's lines on to our log, so that whatever it says cannot flood it: the same message at most
// once in ten minutes, and at most maxLogBurst messages in that time. What was held back is counted, and told with the next line
// or by flush.
type logRelay struct {
	log  *slog.Logger
	now  func() time.Time
	from time.Time      // begin of the running window
	seen map[string]int // messages of the window: how often they were held back
	held int            // in all
}

const (
	logWindow   = 10 * time.Minute
	maxLogBurst = 50
)

func newLogRelay(log *slog.Logger, now func() time.Time) *logRelay {
	return &logRelay{log: log, now: now, seen: map[string]int{}}
}

func (r *logRelay) add(l LogLine) {
	if now := r.now(); now.Sub(r.from) >= logWindow || now.Before(r.from) {
		r.flush()
		r.from = now
	}
	if _, repeated := r.seen[l.Message]; repeated {
		r.seen[l.Message]++
		r.held++
		return
	}
	if len(r.seen) >= maxLogBurst {
		r.held++
		return
	}
	r.seen[l.Message] = 0
	r.log.Log(context.Background(), l.Level, "suricata: "+l.Message)
}

// flush tells what was held back and begins anew.
func (r *logRelay) flush() {
	others := r.held
	for message, n := range r.seen {
		if n > 0 {
			r.log.Info("suricata repeated a message", "message", message, "times", n)
			others -= n
		}
	}
	if others > 0 {
		r.log.Info("suricata logged more than is shown", "lines", others)
	}
	clear(r.seen)
	r.held = 0
}
