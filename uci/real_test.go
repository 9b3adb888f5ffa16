package uci

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// exportNamed is `uci export` with the names of anonymous sections.
func exportNamed(p *Package) string {
	named := Package{Name: p.Name}
	for _, s := range p.Sections {
		s.Anonymous = false
		named.Sections = append(named.Sections, s)
	}
	return export(&named)
}

// realUCI runs OpenWrt's uci on the two folders. It returns what uci printed,
// or its complaint.
func realUCI(t *testing.T, uci, confDir, deltaDir string, args ...string) (out, complaint string) {
	t.Helper()
	args = append([]string{"-c", confDir, "-C", "/nonexistent", "-t", deltaDir}, args...)
	cmd := exec.Command(uci, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		_, complaint, _ := strings.Cut(strings.TrimSpace(stderr.String()), ": ") // behind the name of the program
		return "", complaint
	}
	return stdout.String(), ""
}

// oddText strings together pieces of the format, sound and broken ones.
func oddText(rnd *rand.Rand, pieces []string, n int) string {
	var b strings.Builder
	for range rnd.IntN(n) {
		b.WriteString(pieces[rnd.IntN(len(pieces))])
	}
	return b.String()
}

// oddLines (no NUL in them: what libuci makes of one depends on how much its
// buffer happens to hold) makes lines whose words are odd, but which uci mostly accepts.
func oddLines(rnd *rand.Rand) string {
	b := "config host\n"
	for range rnd.IntN(8) {
		b += lineStarts[rnd.IntN(len(lineStarts))] + oddText(rnd, valuePieces, 5) + lineEnds[rnd.IntN(len(lineEnds))]
	}
	return b
}

var (
	lineStarts  = []string{"option name ", "\tlist mac\t", "  option\tmac ", "list name '", "option x \"", "option 'y'  ", "o \"z\" ", "l m ", "config host ", "c rule #"}
	valuePieces = []string{"a", "b'", "'", "'c d'", "\"e f\"", "\"", "\\", "\\\n", "\\\r\n", "\\ ", "\\'", "\\\"", "#", ";", "\n", "\r", "á", "\v", "''"}
	lineEnds    = []string{"\n", "\n", "\n", "'\n", "\"\n", "\r\n", " # comment\n", ";\n", " ; ", "';"}
)

var filePieces = []string{
	"config ", "config ", "\nconfig host\n", "\nconfig host 'a'\n", "config archive_rule\n", "option ", "\toption name x\n", "\toption name 'y'\n", "\tlist mac 'z'\n",
	"list ", "package ", "package pakon\n", "c ", "o ", "l ", "p ", "option", "config", "a", "b1", "host", "monitor", "'", "'", "\"", "\"", "\\", "#", ";", " ; ", " ", "\t", "\n", "\n", "\r\n", "\r", "\\\n", "\\\r\n",
	"''", "\"\"", "'it'\\''s'", "\"a\\\"b\"", "'two\nlines'", "\"two\\\nlines\"", "x#y", "x;y", "'x';", "á", "\xff", "\v", "\f", "\x01", "a-b", "a.b", "=", "@", "cfg01", strings.Repeat("long", 40),
	"\nconfig host 'cfg02f9ac'\n", "option a ''\n", "list a ''\n", "option a\n", "list a\n", "config ''\n", "config host ''\n", "config host a b\n", "config host a ''\n", "option a 'b';option c d\n", "option a b;option c d\n", "option a b ;list c d # e\n",
}

var stagedPieces = []string{
	"pakon.monitor.mode='tap'\n", "pakon.monitor.interface='br-iot'\n", "|pakon.monitor.interface='br-iot'\n", "~pakon.monitor.interface='br-lan'\n", "~pakon.monitor.interface='br-iot'\n", "-pakon.monitor.interface\n", "-pakon.monitor.interface='0'\n", "-pakon.monitor.interface='1x'\n", "-pakon.monitor.interface='-1'\n",
	"-pakon.archive\n", "-pakon.archive.keep\n", "-pakon.archive.keep='x'\n", "@pakon.archive='store'\n", "@pakon.archive.keep='hold'\n", "@pakon.archive.keep='a-b'\n", "^pakon.archive='0'\n", "^pakon.archive='2'\n", "^pakon.archive='99'\n", "^pakon.archive='-1'\n", "^pakon.monitor='x'\n", "^pakon.cfg03d93e='1'\n",
	"+pakon.cfg05d93e='archive_rule'\n", "pakon.cfg05d93e.up_to='7d'\n", "pakon.cfg03d93e.window='1'\n", "-pakon.cfg03d93e\n", "-pakon.cfg04d93e\n", "pakon.cfg04d93e='archive_rule'\n", "@pakon.cfg04d93e='named'\n", "pakon.extra='archive_rule'\n", "pakon.extra='other'\n", "pakon.extra.up_to='14d'\n", "pakon.extra=''\n", "+pakon.extra='x'\n", "+pakon.monitor='monitor'\n", "+pakon.monitor='minotor'\n", "pakon.monitor='m'\n",
	"pakon.monitor.mode=''\n", "pakon.monitor.mode\n", "pakon.monitor\n", "pakon\n", "pakon.monitor.mode='it'\\''s'\n", "pakon.monitor.note='a # b = c'\n", "pakon.monitor.note='two\nlines'\n", "pakon.monitor.note=\"double\"\n", "pakon.monitor.note=bare\n", "pakon.monitor.note=bare words\n", "pakon.monitor.note='x' \n", "pakon.monitor.note='x'#\n", "pakon.monitor.note='x'\r\n",
	"dhcp.monitor.mode='x'\n", "pakon.nobody.mode='x'\n", "pakon.@archive_rule[0].window='1'\n", "pakon.a-b.c='x'\n", "pakon.monitor.a-b='x'\n", "pakon.a.b.c='x'\n", "pakon.monitor.\x01='x'\n", "pakon.monitor.bell='\x01'\n", "|pakon.monitor.mode='more'\n", "|pakon.monitor='x'\n", "|pakon.monitor.interface=''\n", "~pakon.monitor.mode='tap'\n", "!pakon.monitor.mode='x'\n", ";\n", "'\n", "\n", "=\n", "pakon.monitor.inter", "pakon.monitor.note='br-", "|", "+pakon.x.y='z'\n", "-pakon.nobody\n", "@pakon.monitor.interface='ifs'\n",
}

const stagedBase = "config monitor 'monitor'\n\toption notify '0'\n\tlist interface 'br-lan'\n\tlist interface 'br-guest'\n\nconfig archive 'archive'\n\toption keep '4w'\n\nconfig archive_rule\n\toption up_to '1d'\n\nconfig archive_rule\n\toption up_to '3d'\n"

// TestAgainstUCI compares Load with OpenWrt's own uci on files made at random.
func TestAgainstUCI(t *testing.T) {
	uci, err := exec.LookPath("uci")
	if err != nil {
		t.Skip("needs OpenWrt's uci in PATH; the recorded cases are tested without")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	refused := 0
	for i := range 600 {
		files := map[string]string{"pakon": "config host\n" + oddText(rnd, filePieces, 10)}
		switch i % 4 {
		case 1:
			files = map[string]string{"pakon": oddLines(rnd)}
		case 2, 3:
			files = map[string]string{"pakon": stagedBase, ".pakon": oddText(rnd, stagedPieces, 10)}
		}
		confDir, deltaDir := etc(t, files)
		want, complaint := realUCI(t, uci, confDir, deltaDir, "-N", "export", "pakon")
		wantNamed, _ := realUCI(t, uci, confDir, deltaDir, "-n", "export", "pakon")
		pkg, err := Load(confDir, deltaDir, "pakon")
		var parse *ParseError
		switch {
		case complaint != "":
			refused++
			if !errors.As(err, &parse) {
				t.Errorf("%q\ngot %v\nwant %s", files, err, complaint)
			} else if got := fmt.Sprintf("Parse error (%s) at line %d, byte %d", parse.Msg, parse.Line, parse.Byte); got != complaint {
				t.Errorf("%q\ngot %s\nwant %s", files, got, complaint)
			}
		case err != nil:
			t.Errorf("%q\ngot %v\nwant %q", files, err, want)
		case export(pkg) != want:
			t.Errorf("%q\ngot %q\nwant %q", files, export(pkg), want)
		case exportNamed(pkg) != wantNamed:
			t.Errorf("%q\ngot %q\nwant %q", files, exportNamed(pkg), wantNamed)
		}
	}
	t.Logf("%d files were refused", refused)
}
