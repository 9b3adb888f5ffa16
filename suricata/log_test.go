package suricata

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestParseLogLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line  string
		level slog.Level
		text  string
	}{
		// As our configuration makes them.
		{"Notice: This is Suricata version 7.0.10 RELEASE running in SYSTEM mode", slog.LevelInfo, "This is Suricata version 7.0.10 RELEASE running in SYSTEM mode"},
		{"Error: br-x: failed to find interface: No such device", slog.LevelError, "br-x: failed to find interface: No such device"},
		{"Warning: 7 events were dropped due to slow or disconnected socket", slog.LevelWarn, "7 events were dropped due to slow or disconnected socket"},
		{"Info: x", slog.LevelInfo, "x"}, {"Perf: x", slog.LevelDebug, "x"}, {"Config: x", slog.LevelDebug, "x"}, {"Debug: x", slog.LevelDebug, "x"},
		// Before the configuration is read, and with the formats of 7 and 8.
		{"E: conf-yaml-loader: Failed to parse configuration file at line 3: did not find expected key", slog.LevelError, "conf-yaml-loader: Failed to parse configuration file at line 3: did not find expected key"},
		{"W: af-packet: x", slog.LevelWarn, "af-packet: x"}, {"i: threads: x", slog.LevelInfo, "threads: x"}, {"d: x", slog.LevelDebug, "x"},
		{"[4131] Notice: suricata: x", slog.LevelInfo, "suricata: x"},
		{"[4131 - Suricata-Main] 2026-11-22 17:00:00 Notice: suricata: x", slog.LevelInfo, "suricata: x"},
		{"22/11/2026 -- 17:00:00 - <Warning> - [ERRCODE: SC_ERR_X(1)] - x", slog.LevelWarn, "[ERRCODE: SC_ERR_X(1)] - x"},
		// Not Suricata's.
		{"Error loading shared library libjansson.so.4: No such file or directory", slog.LevelError, "Error loading shared library libjansson.so.4: No such file or directory"},
		{"", slog.LevelError, ""},
		// From the network, in a message.
		{"Warning: a\x1b[31mb\tc\xff", slog.LevelWarn, "a\ufffd[31mb c\ufffd"},
	} {
		if got := ParseLogLine(c.line); got != (LogLine{c.level, c.text}) {
			t.Errorf("%q: got %+v, want %v %q", c.line, got, c.level, c.text)
		}
	}
}

func TestLogMeaning(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]logMeaning{
		"Notice: This is Suricata version 8.0.7 RELEASE running in SYSTEM mode":                                                {begins: true, routine: true},
		"i: suricata: This is Suricata version 7.0.10 RELEASE running in SYSTEM mode":                                          {begins: true, routine: true},
		"Notice: Threads created -> W: 1 FM: 1 FR: 1   Engine started.":                                                        {engine: true, routine: true},
		"Notice: Signal Received.  Stopping engine.":                                                                           {ends: true, routine: true},
		"Warning: 405 events were dropped due to slow or disconnected socket":                                                  {drops: Drops{Events: 405}},
		"Notice: br-lan: packets: 9, drops: 0 (0.00%), invalid chksum: 0":                                                      {routine: true},
		`Notice: br"g's,#\é{: packets: 99, drops: 12 (12.12%), invalid chksum: 0`:                                              {drops: Drops{Packets: 12}},
		"Notice: br-lan: packets: 9, drops: 99999999999999999999999 (0.00%), invalid chksum: 0":                                {routine: true},
		"Warning: br-lan: NIC offloading: SG: SET, GRO: unset, LRO: unset, TSO: SET, GSO: SET. Run: ethtool -K br-lan gro off": {routine: true},
		"Warning: br-lan: using AF_PACKET with offloads enabled leads to capture problems":                                     {routine: true},
		"Notice: (W#01-20545) Pkts 1961, Bytes 1100648":                                                                        {routine: true},
		"Error: br-lan: failed to find interface: No such device":                                                              {},
	} {
		if got := ParseLogLine(line).meaning(); got != want {
			t.Errorf("%q: got %+v, want %+v", line, got, want)
		}
	}
}

func TestLogRelayBoundsAFlood(t *testing.T) {
	t.Parallel()
	buf := &logBuffer{t: t}
	now := time.Unix(1000, 0)
	r := newLogRelay(slog.New(slog.NewTextHandler(buf, nil)), func() time.Time { return now })
	for range 1000 {
		r.add(LogLine{slog.LevelWarn, "the same"})
	}
	if n := buf.count("the same"); n != 1 {
		t.Errorf("the same message %d times", n)
	}
	for i := range 1000 {
		r.add(LogLine{slog.LevelWarn, fmt.Sprintf("another %d", i)})
	}
	if n := buf.count("another"); n != maxLogBurst-1 {
		t.Errorf("%d others, want %d", n, maxLogBurst-1)
	}
	now = now.Add(logWindow)
	r.add(LogLine{slog.LevelError, "later"})
	for _, want := range []string{"times=999", fmt.Sprintf("lines=%d", 1000-maxLogBurst+1), "later"} {
		if buf.count(want) != 1 {
			t.Errorf("no %q", want)
		}
	}
}

func readAll(t *testing.T, tail *logTail) string {
	t.Helper()
	var lines []string
	for more := true; more; {
		var err error
		if more, err = tail.read(func(l string) { lines = append(lines, l) }); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(lines, "|")
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	tail := &logTail{path: path}
	defer tail.close()
	step := func(want string) {
		t.Helper()
		if got := readAll(t, tail); got != want {
			t.Errorf("got %.200q, want %.200q", got, want)
		}
	}
	step("") // not there
	appendTo(t, path, "one\ntwo\r\n\nthr")
	step("one|two")
	appendTo(t, path, "ee\n")
	step("three")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	step("")
	appendTo(t, path, "four\n")
	step("four")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path, "five\n")
	step("five")
	appendTo(t, path, strings.Repeat("x", 3*maxLogLine)+"\nsix\n")
	step(strings.Repeat("x", maxLogLine) + "|six")

	// More than it may hold: emptied once read, and what is appended then is not lost.
	line := strings.Repeat("y", 1023)
	appendTo(t, path, strings.Repeat(line+"\n", 2*maxLogFile/1024))
	if n := strings.Count(readAll(t, tail), line); n != 2*maxLogFile/1024 {
		t.Errorf("%d lines of %d", n, 2*maxLogFile/1024)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != 0 {
		t.Errorf("the read log has %d bytes, %v", st.Size(), err)
	}
	appendTo(t, path, "seven\n")
	step("seven")
}

func TestLogTailFromEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	appendTo(t, path, strings.Repeat("old line\n", 10000)+"last\n")
	tail := &logTail{path: path}
	defer tail.close()
	if err := tail.fromEnd(); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, tail)
	if len(got) > maxLogOld || !strings.HasPrefix(got, "old line|") || !strings.HasSuffix(got, "|last") {
		t.Errorf("%d bytes, from %.20q", len(got), got)
	}
}

func FuzzParseLogLine(f *testing.F) {
	for _, s := range []string{"Notice: x", "E: a: b", "[1 - M] 2026-11-22 17:00:00 Info: x", "22/11/2026 -- 17:00:00 - <Notice> - x",
		"Notice: a: packets: 1, drops: 2 (3.00%), invalid chksum: 0", "Warning: 1 events were dropped due to slow or disconnected socket"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l := ParseLogLine(s)
		if len(l.Message) > maxLogText || !utf8.ValidString(l.Message) {
			t.Errorf("%q: message %q", s, l.Message)
		}
		for _, r := range l.Message {
			if !unicode.IsPrint(r) {
				t.Errorf("%q: message %q holds %U", s, l.Message, r)
			}
		}
		l.meaning()
	})
}

func FuzzInotify(f *testing.F) {
	f.Add(make([]byte, 16), "x")
	f.Fuzz(func(t *testing.T, b []byte, name string) { inotifyNames(b, name) })
}
