package uci

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
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
func realUCI(t *testing.T, uci string, in Folders, args ...string) (out, complaint string) {
	t.Helper()
	args = append([]string{"-c", in.Config, "-C", in.Override, "-t", in.Staged}, args...)
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
	"dhcp.monitor.mode='x'\n", "pakon.nobody.mode='x'\n", "pakon.@archive_rule[0].window='1'\n", "pakon.a-b.c='x'\n", "pakon.monitor.a-b='x'\n", "pakon.a.b.c='x'\n", "pakon.monitor.\x01='x'\n", "pakon.monitor.bell='\x01'\n", "|pakon.monitor.mode='more'\n", "|pakon.monitor='x'\n", "|pakon.monitor.interface=''\n", "~pakon.monitor.mode='tap'\n", "!pakon.monitor.mode='x'\n", ";\n", "'\n", "\n", "=\n", "pakon.monitor.inter", "pakon.monitor.note='br-", "|", "+pakon.x.y='z'\n", "-pakon.nobody\n", "@pakon.monitor.interface='ifs'\n", "pakon.extra='two words'\n", "-pakon.monitor.interface='0'\n-pakon.monitor.interface='0'\n",
}

const stagedBase = "config monitor 'monitor'\n\toption notify '0'\n\tlist interface 'br-lan'\n\tlist interface 'br-guest'\n\nconfig archive 'archive'\n\toption keep '4w'\n\nconfig archive_rule\n\toption up_to '1d'\n\nconfig archive_rule\n\toption up_to '3d'\n"

// An oddCase is a file and what is staged for it, with what OpenWrt's uci made of
// it: its export, without and with the names of anonymous sections, or its
// complaint.
type oddCase struct{ File, Staged, Export, Named, Complaint string }

func (c *oddCase) ask(t *testing.T, uci string) {
	in := etc(t, map[string]string{"pakon": c.File, ".pakon": c.Staged})
	c.Export, c.Complaint = realUCI(t, uci, in, "-N", "export", "pakon")
	c.Named, _ = realUCI(t, uci, in, "-n", "export", "pakon")
}

func (c *oddCase) check(t *testing.T) {
	t.Helper()
	in := etc(t, map[string]string{"pakon": c.File, ".pakon": c.Staged})
	pkg, err := Load(in, "pakon")
	var parse *ParseError
	switch {
	case c.Complaint != "":
		if !errors.As(err, &parse) {
			t.Errorf("%q %q\ngot %v\nwant %s", c.File, c.Staged, err, c.Complaint)
		} else if got := fmt.Sprintf("Parse error (%s) at line %d, byte %d", parse.Msg, parse.Line, parse.Byte); got != c.Complaint {
			t.Errorf("%q %q\ngot %s\nwant %s", c.File, c.Staged, got, c.Complaint)
		}
	case err != nil:
		t.Errorf("%q %q\ngot %v\nwant %q", c.File, c.Staged, err, c.Export)
	case export(pkg) != c.Export:
		t.Errorf("%q %q\ngot %q\nwant %q", c.File, c.Staged, export(pkg), c.Export)
	case exportNamed(pkg) != c.Named:
		t.Errorf("%q %q\ngot %q\nwant %q", c.File, c.Staged, exportNamed(pkg), c.Named)
	}
}

// oddCases makes n cases of each kind.
func oddCases(rnd *rand.Rand, n int) []oddCase {
	var cases []oddCase
	for range n {
		cases = append(cases,
			oddCase{File: "config host\n" + oddText(rnd, filePieces, 10)},
			oddCase{File: oddLines(rnd)},
			oddCase{File: stagedBase, Staged: oddText(rnd, stagedPieces, 10)},
		)
	}
	return cases
}

// TestAgainstUCI compares Load with OpenWrt's own uci on files made at random.
func TestAgainstUCI(t *testing.T) {
	uci, err := exec.LookPath("uci")
	if err != nil {
		t.Skip("needs OpenWrt's uci in PATH; the recorded cases are tested without")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, c := range oddCases(rand.New(rand.NewPCG(seed, 0)), 200) {
		c.ask(t, uci)
		c.check(t)
	}
}

const oddFile = "testdata/odd.json"

var record = flag.Bool("record", false, "write "+oddFile+" again, with OpenWrt's uci in PATH")

// TestOdd compares Load with what uci made of such files when they were
// recorded.
func TestOdd(t *testing.T) {
	if *record {
		recordOdd(t)
	}
	cases := readJSON[[]oddCase](t, oddFile)
	if len(cases) < 200 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		c.check(t)
	}
}

func recordOdd(t *testing.T) {
	uci, err := exec.LookPath("uci")
	if err != nil {
		t.Fatal(err)
	}
	cases := oddCases(rand.New(rand.NewPCG(1, 0)), 60)
	for _, staged := range stagedPieces {
		cases = append(cases, oddCase{File: stagedBase, Staged: staged})
	}
	for i := range cases {
		c := &cases[i]
		// JSON holds text only.
		c.File, c.Staged = strings.ToValidUTF8(c.File, "?"), strings.ToValidUTF8(c.Staged, "?")
		c.ask(t, uci)
	}
	b, err := json.MarshalIndent(cases, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(oddFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
