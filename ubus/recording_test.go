package ubus

import (
	"bufio"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorded is one line of a recording; see testdata/README.md.
type recorded struct {
	T       int    `json:"t"`
	Dir     string `json:"dir"`
	Conn    int    `json:"conn"`
	Hex     string `json:"hex"`
	Event   string `json:"ev"`
	Partial bool   `json:"partial"`
	frame   []byte
}

// fromClient says that a client sent it.
func (r *recorded) fromClient() bool { return r.Dir == "c2s" }

// recording reads testdata/NAME.jsonl, or its compressed form.
func recording(t testing.TB, name string) []recorded {
	t.Helper()
	var r io.Reader
	path := filepath.Join("testdata", name+".jsonl")
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		f, err = os.Open(path + ".gz")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r = f
	if strings.HasSuffix(f.Name(), ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	var all []recorded
	for d := json.NewDecoder(bufio.NewReader(r)); ; {
		var rec recorded
		if err := d.Decode(&rec); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if rec.frame, err = hex.DecodeString(rec.Hex); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, rec)
	}
}

// recordings are the names of all of them.
func recordings(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.jsonl*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	var names []string
	for _, p := range paths {
		name, _, _ := strings.Cut(filepath.Base(p), ".")
		if name != "p_json" {
			names = append(names, name)
		}
	}
	return names
}
