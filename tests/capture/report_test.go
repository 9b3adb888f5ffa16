package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pakon/tests/figures"
)

// TestReport: medians of the rounds, and ratios of what was measured in the same
// round.
func TestReport(t *testing.T) {
	r := newResults(allModes)
	for _, speed := range []float64{1, 3, 0.5} { // the machine's, which changes from round to round
		r.add(modeNone, sample{peakRate: 1000 * speed})
		r.add(modeStock, sample{peakRate: 700 * speed, pacedSuricata: 2 / speed})
		r.add(modeTap, sample{peakRate: 800 * speed, pacedSuricata: 1 / speed, named: 99})
		r.add(modeFilter, sample{peakRate: 960 * speed, pacedSuricata: 0.1 / speed, named: 100})
	}
	r.samples[modeTap][2][idleDaemon], r.samples[modeFilter][2][idleDaemon] = 0.5, 1.5
	var table strings.Builder
	r.print(&table)
	if !strings.Contains(table.String(), "to stock") || !strings.Contains(table.String(), "960.000") {
		t.Errorf("the table:\n%s", table.String())
	}
	var report figures.Report
	r.report(&report)
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := report.Save(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var saved []figures.Figure
	if err := json.Unmarshal(b, &saved); err != nil {
		t.Fatal(err)
	}
	got := map[string]figures.Figure{}
	for _, f := range saved {
		f.Value = float64(int(1000*f.Value+0.5)) / 1000
		got[f.Name] = f
	}
	for _, want := range []figures.Figure{
		{Name: "throughput_mbit_none", Value: 1000, Unit: "Mbit/s", OK: true},
		{Name: "throughput_loss_pct_filter", Value: 4, Unit: "%", Goal: "< 5", OK: true},
		{Name: "throughput_loss_pct_stock", Value: 30, Unit: "%", OK: true},
		{Name: "suricata_cpu_s_per_gb_filter", Value: 0.1, Unit: "s/GB", Goal: "< 0.03"},
		{Name: "suricata_cpu_ratio_filter_to_stock", Value: 0.05, Goal: "< 0.04"},
		{Name: "names_pct_tap", Value: 99, Unit: "%", OK: true},
		{Name: "daemon_idle_cpu_pct", Value: 1.5, Unit: "%", Goal: "< 1"},
	} {
		if got[want.Name] != want {
			t.Errorf("got %+v, want %+v", got[want.Name], want)
		}
	}
}

// TestReportOfSome: of modes that were not measured nothing is told.
func TestReportOfSome(t *testing.T) {
	r := newResults([]string{modeTap})
	r.add(modeTap, sample{peakRate: 800, pacedSuricata: 1})
	var report figures.Report
	r.report(&report)
	var text strings.Builder
	r.print(&text)
	report.Print(&text)
	for _, unwanted := range []string{modeStock, modeFilter, "loss", "ratio"} {
		if strings.Contains(text.String(), unwanted) {
			t.Errorf("%q is in\n%s", unwanted, text.String())
		}
	}
}
