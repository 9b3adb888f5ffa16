package ubus

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// FuzzFrame: whatever comes is read within its limits, and what was read comes out the same.
func FuzzFrame(f *testing.F) {
	for _, name := range []string{"r_raw", "e_subscribe", "g_monitor", "l_fd"} {
		for _, r := range recording(f, name) {
			f.Add(r.frame)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), MaxForwarded)
		var out []byte
		for {
			var m Message
			if r.Read(&m) != nil {
				break
			}
			out = m.Append(out)
			a := m.Attrs()
			if blob, ok := a.Nested(AttrSignature); ok {
				parseSignature(blob)
			}
			for id := range AttrID(attrLast + 1) {
				a.Uint32(id)
				a.Uint8(id)
				a.Nested(id)
				if s, _ := a.String(id); strings.IndexByte(s, 0) >= 0 {
					t.Errorf("NUL in %q", s)
				}
			}
		}
		if !bytes.HasPrefix(b, out) {
			t.Errorf("%x became %x", b, out)
		}
	})
}

// FuzzBlob: what is decoded is encoded to something that decodes to the same; how it prints depends on nothing else.
func FuzzBlob(f *testing.F) {
	for _, name := range []string{"c_provider", "h_errors", "n_procd"} {
		for _, r := range recording(f, name) {
			var m Message
			if NewReader(bytes.NewReader(r.frame), MaxForwarded).Read(&m) != nil {
				continue
			}
			a := m.Attrs()
			for _, id := range []AttrID{AttrData, AttrSignature} {
				if blob, ok := a.Nested(id); ok {
					f.Add(blob)
				}
			}
		}
	}
	f.Add(nest(maxDepth))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, err := Decode(b)
		if err != nil {
			return
		}
		once, err := tab.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := again.Append(nil)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%x, then %x (%v)", once, twice, err)
		}
		if x, y := AppendJSON(nil, tab, true), AppendJSON(nil, again, true); !bytes.Equal(x, y) {
			t.Errorf("%s, then %s", x, y)
		}
	})
}

// FuzzJSON: whatever is typed is refused or becomes a table that can be sent, and all JSON objects are taken.
func FuzzJSON(f *testing.F) {
	b, err := os.ReadFile("testdata/p_json.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var c struct{ JSON string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(c.JSON))
	}
	f.Add([]byte(`{"a":'x', /* c */ "b":[True,NULL,-Infinity,1.],}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, err := FromJSON(b)
		if err != nil {
			var any map[string]any
			if json.Unmarshal(b, &any) == nil && any != nil && bytes.Count(b, []byte("{"))+bytes.Count(b, []byte("[")) < maxJSONDepth {
				t.Errorf("%q is JSON: %v", b, err)
			}
			return
		}
		blob, err := tab.Append(nil)
		if err != nil {
			if len(b) < maxName {
				t.Fatal(err)
			}
			return
		}
		back, err := Decode(blob)
		if err != nil {
			t.Fatal(err)
		}
		AppendJSON(nil, back, true)
	})
}
