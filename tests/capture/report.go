package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"pakon/tests/figures"
)

// The metrics, as the table calls them.
const (
	peakRate      = "full speed, Mbit/s"
	peakSuricata  = "full speed, Suricata CPU s/GB"
	peakKernel    = "full speed, kernel CPU s/GB"
	pacedRate     = "paced, Mbit/s"
	pacedSuricata = "paced, Suricata CPU s/GB"
	pacedDaemon   = "paced, daemon CPU s/GB"
	pacedKernel   = "paced, kernel CPU s/GB"
	burstRate     = "short, connections/s"
	burstSuricata = "short, Suricata CPU s/2000"
	burstDaemon   = "short, daemon CPU s/2000"
	burstKernel   = "short, kernel CPU s/2000"
	named         = "short, named rightly %"
	drop          = "packets dropped"
	idleDaemon    = "idle, daemon CPU %"
	idleSuricata  = "idle, Suricata CPU %"
)

var metrics = []string{
	peakRate, peakSuricata, peakKernel, pacedRate, pacedSuricata, pacedDaemon, pacedKernel,
	burstRate, burstSuricata, burstDaemon, burstKernel, named, drop, idleDaemon, idleSuricata,
}

// results are the samples of each mode, by round.
type results struct {
	modes   []string
	samples map[string][]sample
}

func newResults(modes []string) *results { return &results{modes, map[string][]sample{}} }

func (r *results) add(mode string, s sample) { r.samples[mode] = append(r.samples[mode], s) }

// value is the median of a metric over the rounds.
func (r *results) value(mode, metric string) (float64, bool) {
	var all []float64
	for _, s := range r.samples[mode] {
		if v, ok := s[metric]; ok {
			all = append(all, v)
		}
	}
	return median(all), len(all) > 0
}

// ratio is the median of a mode's share of another's in the same round.
func (r *results) ratio(mode, other, metric string) (float64, bool) {
	var all []float64
	for i, s := range r.samples[mode] {
		if i >= len(r.samples[other]) {
			break
		}
		a, ok := s[metric]
		b := r.samples[other][i][metric]
		if ok && b > 0 {
			all = append(all, a/b)
		}
	}
	return median(all), len(all) > 0
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// print prints the modes side by side; behind each value its ratio to the one
// without capture and to stock Suricata.
func (r *results) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "median of the rounds\t")
	for _, m := range r.modes {
		fmt.Fprintf(t, "%s\t", m)
		for _, to := range r.yardsticks(m) {
			fmt.Fprintf(t, "to %s\t", to)
		}
	}
	fmt.Fprintln(t)
	for _, metric := range metrics {
		fmt.Fprintf(t, "%s\t", metric)
		for _, m := range r.modes {
			fmt.Fprintf(t, "%s\t", cell(r.value(m, metric)))
			for _, to := range r.yardsticks(m) {
				fmt.Fprintf(t, "%s\t", cell(r.ratio(m, to, metric)))
			}
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

func cell(v float64, ok bool) string {
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.3f", v)
}

// yardsticks are what a mode is compared with, of what was measured.
func (r *results) yardsticks(mode string) []string {
	var to []string
	for _, y := range []string{modeNone, modeStock} {
		if mode == y || mode == modeNone {
			break
		}
		if slices.Contains(r.modes, y) {
			to = append(to, y)
		}
	}
	return to
}

// report names the figures that are saved, for each mode with its name behind.
func (r *results) report(to *figures.Report) {
	for _, f := range []struct {
		name, metric, unit string
		goals              map[string]figures.Goal // by mode
	}{
		{"throughput_mbit_", peakRate, "Mbit/s", nil},
		{"suricata_cpu_s_per_gb_", pacedSuricata, "s/GB", map[string]figures.Goal{modeFilter: figures.Below(0.03)}},
		{"daemon_cpu_s_per_gb_", pacedDaemon, "s/GB", nil},
		{"kernel_cpu_s_per_gb_", pacedKernel, "s/GB", nil},
		{"suricata_cpu_s_per_2000_tls_", burstSuricata, "s", nil},
		{"daemon_cpu_s_per_2000_tls_", burstDaemon, "s", nil},
		{"kernel_cpu_s_per_2000_tls_", burstKernel, "s", nil},
		{"names_pct_", named, "%", nil},
		{"suricata_drops_", drop, "packets", nil},
		{"suricata_idle_cpu_pct_", idleSuricata, "%", nil},
	} {
		for _, mode := range r.modes {
			v, ok := r.value(mode, f.metric)
			if !ok || mode == modeNone && v == 0 || mode == modeStock && (f.metric == pacedDaemon || f.metric == burstDaemon) {
				continue
			}
			goal, ok := f.goals[mode]
			if !ok {
				goal = figures.None
			}
			to.Add(f.name+mode, v, f.unit, goal)
		}
	}
	r.compare(to)
}

// compare adds what is told by comparison, and the daemon's idle cost, for which
// its dearer mode counts.
func (r *results) compare(to *figures.Report) {
	for _, mode := range r.modes {
		kept, ok := r.ratio(mode, modeNone, peakRate)
		if !ok || mode == modeNone {
			continue
		}
		goal := figures.None
		if mode == modeFilter {
			goal = figures.Below(5)
		}
		to.Add("throughput_loss_pct_"+mode, 100*(1-kept), "%", goal)
	}
	if v, ok := r.ratio(modeFilter, modeStock, pacedSuricata); ok {
		to.Add("suricata_cpu_ratio_filter_to_stock", v, "", figures.Below(0.04))
	}
	if v, ok := r.ratio(modeTap, modeStock, pacedSuricata); ok {
		to.Add("suricata_cpu_ratio_tap_to_stock", v, "", figures.None)
	}
	tap, ok1 := r.value(modeTap, idleDaemon)
	filter, ok2 := r.value(modeFilter, idleDaemon)
	if ok1 || ok2 {
		to.Add("daemon_idle_cpu_pct", max(tap, filter), "%", figures.Below(1))
	}
}
