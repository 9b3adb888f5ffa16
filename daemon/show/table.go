package show

import (
	"io"
	"strings"
	"unicode/utf8"
)

// table writes rows as columns between bars, below a heading and an empty row.
// The rows up to the first flush set the widths, so that what fits one page of
// a reply is aligned as a whole; after that a column only ever gets wider.
type table struct {
	w       io.Writer
	widths  []int
	waiting [][]string
	begun   bool
	line    []byte
	none    string // what is written instead of a table without rows
}

func newTable(w io.Writer, none string, heading ...string) *table {
	t := &table{w: w, none: none, widths: make([]int, len(heading))}
	t.add(heading...)
	t.add(make([]string, len(heading))...)
	return t
}

// add takes a row; each cell is made harmless here.
func (t *table) add(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = cell(c)
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(row[i]))
	}
	t.waiting = append(t.waiting, row)
}

// flush writes the rows that were added, unless there are none yet.
func (t *table) flush() error {
	const headRows = 2
	if !t.begun && len(t.waiting) <= headRows {
		return nil
	}
	t.begun = true
	for _, row := range t.waiting {
		t.line = append(t.line[:0], '|')
		for i, c := range row {
			if i > 0 {
				t.line = append(t.line, " | "...)
			}
			t.line = append(t.line, c...)
			for n := utf8.RuneCountInString(c); n < t.widths[i]; n++ {
				t.line = append(t.line, ' ')
			}
		}
		t.line = append(t.line, "|\n"...)
		if _, err := t.w.Write(t.line); err != nil {
			return err
		}
	}
	t.waiting = t.waiting[:0]
	return nil
}

// end writes what is left.
func (t *table) end() error {
	if err := t.flush(); err != nil || t.begun {
		return err
	}
	_, err := io.WriteString(t.w, strings.TrimSuffix(t.none, "\n")+"\n")
	return err
}
