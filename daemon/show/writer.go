package show

import (
	"bufio"
	"encoding/csv"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"pakon/ubus"
)

// flowWriter prints flows in one of the formats. Only flush and end write; what
// was added before is forgotten then.
type flowWriter interface {
	add(flowRow)
	flush() error
	end() error
}

// layout is which columns there are.
type layout struct {
	loc       *time.Location
	aggregate bool // no date and time
	both      bool // the direction, behind all others
}

func (c *command) flowWriter(o *showOptions) flowWriter {
	l := layout{c.loc, o.aggregate, o.direction == "both"}
	switch {
	case c.json && o.follow:
		return &jsonLines{out: c.out, layout: l}
	case c.json:
		return &jsonFlows{jsonLines{out: c.out, layout: l}, false}
	case o.csv:
		w := csv.NewWriter(c.out)
		w.UseCRLF = true
		return &csvFlows{w: w, layout: l}
	}
	return &flowTable{newTable(c.out, "no records to show", l.heading()...), l}
}

func (l layout) heading() []string {
	h := []string{"datetime", "dur", "src MAC", "hostname", "dst port", "proto", "sent", "recvd"}
	if l.both {
		h = append(h, "dir")
	}
	return h[l.first():]
}

// first is the first column that is shown.
func (l layout) first() int {
	if l.aggregate {
		return 1
	}
	return 0
}

func (l layout) cells(f *flowRow, duration, host, sent, recvd string) []string {
	c := []string{dateTime(f.start, l.loc), duration, f.client, host, portName(f.port, f.proto), f.app, sent, recvd}
	if l.both {
		c = append(c, f.direction())
	}
	return c[l.first():]
}

func (f *flowRow) direction() string {
	if f.in {
		return "in"
	}
	return "out"
}

// flowTable prints the table for people.
type flowTable struct {
	*table
	layout layout
}

func (t *flowTable) add(f flowRow) {
	duration := seconds(f.duration)
	if f.running {
		duration += "+"
	}
	t.table.add(t.layout.cells(&f, duration, shortHost(clean(f.host)), size(f.sent), size(f.recvd))...)
}

// jsonLines prints each flow as a JSON array on a line of its own.
type jsonLines struct {
	out    *bufio.Writer
	layout layout
	buf    []byte
}

func (j *jsonLines) appendFlow(f *flowRow) {
	row := ubus.Array{dateTime(f.start, j.layout.loc), f.duration, f.client, f.host, portName(f.port, f.proto), f.app, f.sent, f.recvd}
	if j.layout.both {
		row = append(row, f.direction())
	}
	j.buf = appendJSON(j.buf, row)
}

func (j *jsonLines) add(f flowRow) {
	j.appendFlow(&f)
	j.buf = append(j.buf, '\n')
}

func (j *jsonLines) flush() error {
	_, err := j.out.Write(j.buf)
	j.buf = j.buf[:0]
	return err
}

func (j *jsonLines) end() error { return j.flush() }

// jsonFlows prints all flows as one JSON array on one line. Nothing is written
// before the first page has come, so that an error leaves no half of an array.
type jsonFlows struct {
	jsonLines
	begun bool
}

func (j *jsonFlows) add(f flowRow) {
	if !j.begun {
		j.buf, j.begun = append(j.buf, '['), true
	} else {
		j.buf = append(j.buf, ", "...)
	}
	j.appendFlow(&f)
}

func (j *jsonFlows) end() error {
	if !j.begun {
		j.buf = append(j.buf, '[')
	}
	j.buf = append(j.buf, "]\n"...)
	return j.flush()
}

// csvFlows prints comma-separated values (RFC 4180) below a heading.
type csvFlows struct {
	w      *csv.Writer
	layout layout
	begun  bool
	err    error
}

func (c *csvFlows) add(f flowRow) {
	c.begin()
	c.write(c.layout.cells(&f, strconv.FormatInt(f.duration, 10), f.host,
		strconv.FormatInt(f.sent, 10), strconv.FormatInt(f.recvd, 10)))
}

func (c *csvFlows) begin() {
	if !c.begun {
		c.begun = true
		c.write(c.layout.heading())
	}
}

func (c *csvFlows) write(cells []string) {
	if err := c.w.Write(csvCells(cells)); c.err == nil {
		c.err = err
	}
}

func (c *csvFlows) flush() error {
	c.w.Flush()
	if c.err == nil {
		c.err = c.w.Error()
	}
	return c.err
}

func (c *csvFlows) end() error {
	c.begin()
	return c.flush()
}

// separators are what spreadsheets may divide a line at instead of a comma, whether
// or not it is quoted; tabs are not printable anyway.
var separators = strings.NewReplacer(";", `\x3b`, "|", `\x7c`)

// csvCells makes cells harmless for terminals and for spreadsheets. These would
// take what begins with one of =+-@, in whatever width, for a formula, also behind
// blanks and quotes, and also in the middle of a cell if they divide it there.
func csvCells(cells []string) []string {
	for i, s := range cells {
		s = separators.Replace(clean(s))
		first, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, " \"'`"))
		if strings.ContainsRune("=+-@\uff1d\uff0b\uff0d\uff20", first) {
			s = "'" + s
		}
		cells[i] = s
	}
	return cells
}
