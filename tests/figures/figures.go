// Package figures keeps what a benchmark has measured: each value beside its
// goal, printed as a table and saved in a file that several benchmarks share.
package figures

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"text/tabwriter"
)

// Figure is one measured value.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"goal"` // "" if there is none
	OK    bool    `json:"ok"`
}

// Goal is what a value is to reach.
type Goal struct {
	text string
	met  func(float64) bool
}

// None is no goal.
var None = Goal{"", func(float64) bool { return true }}

// Below is met by values below the limit.
func Below(limit float64) Goal {
	return Goal{fmt.Sprintf("< %g", limit), func(v float64) bool { return v < limit }}
}

// Exactly is met by one value.
func Exactly(want float64) Goal {
	return Goal{fmt.Sprintf("%g", want), func(v float64) bool { return v == want }}
}

// Report is a list of figures; it is empty at first.
type Report struct{ figures []Figure }

// Add adds a figure.
func (r *Report) Add(name string, value float64, unit string, g Goal) {
	r.figures = append(r.figures, Figure{name, value, unit, g.text, g.met(value)})
}

// Print prints a table.
func (r *Report) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "name\tvalue\tunit\tgoal\tok\t")
	for _, f := range r.figures {
		ok := "yes"
		switch {
		case f.Goal == "":
			ok = "-"
		case !f.OK:
			ok = "NO"
		}
		fmt.Fprintf(t, "%s\t%.2f\t%s\t%s\t%s\t\n", f.Name, f.Value, f.Unit, f.Goal, ok)
	}
	t.Flush()
}

// Save writes the figures to the file, in place of those of the same names.
func (r *Report) Save(path string) error {
	var all []Figure
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the figures of earlier runs: %w", err)
	}
	for _, f := range r.figures {
		if i := slices.IndexFunc(all, func(o Figure) bool { return o.Name == f.Name }); i >= 0 {
			all[i] = f
		} else {
			all = append(all, f)
		}
	}
	if b, err = json.MarshalIndent(all, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
