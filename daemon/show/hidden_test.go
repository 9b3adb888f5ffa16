package show

import (
	"strings"
	"testing"

	"pakon/ubus"
)

// TestHidden: every table says what the lists have left out, and the forms that
// programs read are as they were.
func TestHidden(t *testing.T) {
	const row = `{"start":1567561062,"client":"laptop","hostname":"a.example","port":443,"proto":"tcp","sent":1,"recvd":2,"unnamed":0,"hidden":5000,"flows":1,"duration":0}`
	const said = "hidden by the lists: 12 flows, 3MiB (--no-filter shows them)\n"
	for _, tt := range []struct {
		rows string
		args []string
		last string // line of the output
		err  bool   // whether it is said on stderr
	}{
		{row, nil, said, false},
		{row, []string{"-A"}, said, false},
		{row, []string{"--by", "hostname"}, said, false},
		{row, []string{"--by", "client"}, said, false},
		{"", nil, said, false},
		{row, []string{"-j"}, "]]\n", true},
		{"", []string{"-j"}, "[]\n", true},
		{row, []string{"--csv"}, ",1,2\r\n", true},
		{row, []string{"--csv", "--by", "hostname"}, "a.example,1,0,1,2,0\r\n", true},
		{row, []string{"--csv", "--by", "client"}, "laptop,1,0,1,2,0,5000\r\n", true},
		{row, []string{"-j", "--by", "client"}, "]\n", true},
	} {
		reply := fromJSON(t, `{"flows":[`+tt.rows+`],"rows":[`+tt.rows+`],"hidden":{"flows":12,"bytes":3145728}}`)
		r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return reply, ubus.StatusOK })
		status, out, errOut := r.run(t, append([]string{"show"}, tt.args...)...)
		want := ""
		if tt.err {
			want = "pakon-show: " + said
		}
		if status != 0 || !strings.HasSuffix(out, tt.last) || errOut != want {
			t.Errorf("%v: status %d, prints %q, want %q at the end; stderr %q, want %q", tt.args, status, out, tt.last, errOut, want)
		}
	}
	// Nothing is said of nothing.
	reply := fromJSON(t, `{"flows":[`+row+`],"hidden":{"flows":0,"bytes":0}}`)
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return reply, ubus.StatusOK })
	if _, out, errOut := r.run(t, "show"); strings.Contains(out+errOut, "hidden") {
		t.Errorf("prints %q, stderr %q", out, errOut)
	}
}
