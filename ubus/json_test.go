package ubus

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// TestRecordedJSON: each argument that was given to `ubus call` becomes the same bytes, and those the same text.
func TestRecordedJSON(t *testing.T) {
	b, err := os.ReadFile("testdata/p_json.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		var c struct {
			JSON string
			RC   int
			Blob string
			Out  string
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		n++
		tab, err := FromJSON([]byte(c.JSON))
		if c.RC != 0 {
			if !errors.Is(err, StatusParseError) {
				t.Errorf("%s: %v, %v; want an error", c.JSON, tab, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.JSON, err)
			continue
		}
		blob, err := tab.Append(nil)
		if err != nil || hex.EncodeToString(blob) != c.Blob {
			t.Errorf("%s: becomes %x (%v), want %s", c.JSON, blob, err, c.Blob)
		}
		back, err := Decode(blob)
		if err != nil {
			t.Errorf("%s: %v", c.JSON, err)
		}
		if got := string(AppendJSON(nil, back, false)); got != c.Out {
			t.Errorf("%s: printed as %s, want %s", c.JSON, got, c.Out)
		}
	}
	if n < 90 {
		t.Errorf("only %d cases", n)
	}
}

func TestAppendJSON(t *testing.T) {
	tab := Table{
		{"i8", Int8(100)}, {"i16", int16(-5)}, {"list", Array{int32(1), "x\x00y"}}, {"empty", Array{}},
		{"t", Table{{"a", nil}, {"a", true}}}, {"raw", "\xff/\x7f"},
	}
	const line = `{"i8":true,"i16":-5,"list":[1,"x\u0000y"],"empty":[],"t":{"a":null,"a":true},"raw":"` + "\xff/\x7f" + `"}`
	if got := string(AppendJSON(nil, tab, false)); got != line {
		t.Errorf("got  %s\nwant %s", got, line)
	}
	indented := strings.Join([]string{
		`{`, `	"i8": true,`, `	"i16": -5,`, `	"list": [`, `		1,`, `		"x\u0000y"`, `	],`, `	"empty": [`, `		`, `	],`,
		`	"t": {`, `		"a": null,`, `		"a": true`, `	},`, `	"raw": "` + "\xff/\x7f" + `"`, `}`,
	}, "\n")
	if got := string(AppendJSON([]byte("x"), tab, true)); got != "x"+indented {
		t.Errorf("got\n%s\nwant\n%s", got, indented)
	}
}

func TestFromJSONOddities(t *testing.T) {
	many := "{"
	for i := range 40 {
		many += `"k` + string(rune('a'+i%26)) + `":` + string(rune('0'+i%10)) + ","
	}
	for in, want := range map[string]string{
		`{"a":1e}`:                   `{"a":1.000000}`,
		`{"a":-.5}`:                  `{"a":-0.500000}`,
		`{"a":1/* * / ***/}`:         `{"a":1}`,
		"{\"a\":1}// x\ny":           `{"a":1}`,
		`{"a":1}/* `:                 `{"a":1}`,
		`{"a":1}//`:                  `{"a":1}`,
		`{"a":'"'}`:                  `{"a":"\""}`,
		`{"a":"\ud800\u0041"}`:       `{"a":"` + "\ufffdA" + `"}`,
		`{"a":"\ud800\ud83d\ude00"}`: `{"a":"` + "\ufffd😀" + `"}`,
		`{"b":1,"a":2,"b":3}`:        `{"b":3,"a":2}`,
		many + "}":                   `{"ka":6,"kb":7,"kc":8,"kd":9,"ke":0,"kf":1,"kg":2,"kh":3,"ki":4,"kj":5,"kk":6,"kl":7,"km":8,"kn":9,"ko":4,"kp":5,"kq":6,"kr":7,"ks":8,"kt":9,"ku":0,"kv":1,"kw":2,"kx":3,"ky":4,"kz":5}`,
	} {
		tab, err := FromJSON([]byte(in))
		if got := string(AppendJSON(nil, tab, false)); err != nil || got != want {
			t.Errorf("%s: %s (%v), want %s", in, got, err, want)
		}
	}
	for _, in := range []string{
		`{"a":-}`, `{"a":1.2.3}`, `{"a":tru}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"x`, `{"a":"\`, `{"a" 1}`, `{"a":1 "b":2}`,
		`{"a":/***/1}`, "{\v}", `{"a":1}/x`, `{"a":1}/`, `{"a":1}/**//`, `{"a":'\''}`,
		`{,}`, `[`, `/* x`, `// x`, `/`, `{"a":[,]}`, `{"a":[1}`, `{"a":}`, `{"a":--1}`, `{"a":1-2}`,
	} {
		if tab, err := FromJSON([]byte(in)); !errors.Is(err, StatusParseError) {
			t.Errorf("%s: %v, %v", in, tab, err)
		}
	}
}
