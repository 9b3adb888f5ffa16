package figures

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSave: what other benchmarks have saved stays, what is measured again is
// replaced.
func TestSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	var first, second Report
	first.Add("one", 1, "s", Below(2))
	first.Add("two", 2, "s", None)
	second.Add("one", 3, "s", Below(2))
	second.Add("three", 0, "", Exactly(0))
	for _, r := range []*Report{&first, &second} {
		if err := r.Save(file); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"value": 3`, `"ok": false`, `"two"`, `"three"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if n := strings.Count(string(got), `"name"`); n != 3 {
		t.Errorf("%d figures in\n%s", n, got)
	}
	var table strings.Builder
	second.Print(&table)
	if !strings.Contains(table.String(), "NO") {
		t.Errorf("a goal is not reached, but the table is\n%s", table.String())
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Save(file); err == nil {
		t.Error("a file that holds something else was replaced")
	}
}
