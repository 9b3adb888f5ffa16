package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"
)

// figure is one measured value.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"goal"` // "" if there is none
	OK    bool    `json:"ok"`
}

type goal struct {
	text string
	met  func(float64) bool
}

var none = goal{"", func(float64) bool { return true }}

func below(limit float64) goal {
	return goal{fmt.Sprintf("< %g", limit), func(v float64) bool { return v < limit }}
}

func exactly(want float64) goal {
	return goal{fmt.Sprintf("%g", want), func(v float64) bool { return v == want }}
}

type report struct{ figures []figure }

func (r *report) add(name string, value float64, unit string, g goal) {
	r.figures = append(r.figures, figure{name, value, unit, g.text, g.met(value)})
}

func (r *report) print(w io.Writer) {
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

// save writes the figures to the file, in place of those of the same names.
func (r *report) save(path string) error {
	var all []figure
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the figures of earlier runs: %w", err)
	}
	for _, f := range r.figures {
		if i := slices.IndexFunc(all, func(o figure) bool { return o.Name == f.Name }); i >= 0 {
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

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // the arguments are constant
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
