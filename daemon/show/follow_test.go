package show

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pakon/tests/limits"
	"pakon/ubus"
)

// What the bus has lost is told; a daemon that was started again is none of it.
func TestFollowTellsWhatIsMissing(t *testing.T) {
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return nil, ubus.StatusOK })
	out, errOut := &lines{c: make(chan string, 100)}, &bytes.Buffer{}
	status := make(chan int, 1)
	go func() {
		status <- Run(t.Context(), []string{"show", "-j", "--follow", "--limit=4", "--ubus-socket", r.socket}, out, errOut)
	}()
	for deadline := time.Now().Add(limits.For(20 * time.Second)); !r.object.HasSubscribers(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no subscriber")
		}
	}
	for _, n := range []struct{ typ, data string }{
		{"suricata", `{"state":"running"}`},
		{"flows", `{"before":100,"flows":[{"start":1},{"start":2,"hidden":"time"}]}`},
		{"flows", `{"before":102,"flows":[{"start":3}]}`},
		{"flows", `{"before":110,"flows":[{"start":4}]}`},
		{"flows", `{}`},
		{"flows", `{"before":0,"flows":["nonsense"]}`},
	} {
		if err := r.object.Notify(n.typ, fromJSON(t, n.data)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case s := <-status:
		if s != 0 {
			t.Errorf("status %d", s)
		}
	case <-time.After(limits.For(20 * time.Second)):
		t.Fatal("does not end")
	}
	want := "pakon-show: 7 flows are missing here: the bus dropped their notification\n" +
		"pakon-show: hidden by the lists: 1 flow, 0B (--no-filter shows them)\n"
	if errOut.String() != want {
		t.Errorf("stderr %q, want %q", errOut, want)
	}
	if len(out.c) != 4 || !strings.Contains(<-out.c, `["1970-01-01 01:00:01", 0, "", "", "", "?", 0, 0]`) {
		t.Errorf("%d lines", len(out.c)+1)
	}
}

// Whether words mean anything is asked of what runs now, not of all that is recorded.
func TestFollowAsksForNow(t *testing.T) {
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) { return nil, ubus.StatusInvalidArgument })
	before := time.Now().Unix()
	if status, _, errOut := r.run(t, "show", "--follow", "-m", "tv"); status != 1 {
		t.Errorf("status %d, stderr %q", status, errOut)
	}
	if len(r.calls) != 1 {
		t.Fatalf("calls %q", r.calls)
	}
	args := fromJSON(t, r.calls[0].args)
	start, _ := args.Int("start")
	if limit, _ := args.Int("limit"); limit != 1 || start < before || start > time.Now().Unix() {
		t.Errorf("asked for %s", r.calls[0].args)
	}
}

// What a word of the owner's means is the same as in the method query.
func TestFollowMatches(t *testing.T) {
	for _, tt := range []struct {
		option, value, flow string
		want                bool
	}{
		{"-m", "printer", `{"client":"Printer","mac":"00:01:02:03:04:05"}`, true},
		{"-m", "printer", `{"client":"printer 04:06","mac":"00:01:02:03:04:06"}`, false},
		{"-m", "PRINTER 04:06", `{"client":"printer 04:06","mac":"00:01:02:03:04:06"}`, true},
		{"-m", "kp115", `{"client":"KP115 04:06","mac":"00:01:02:03:04:06"}`, false},
		{"-m", "0001.0203.0406", `{"client":"x","mac":"00:01:02:03:04:06"}`, true},
		{"-m", "000102030406", `{"client":"x","mac":"00:01:02:03:04:06"}`, true},
		{"-m", "-", `{"client":"x","mac":""}`, false},
		{"-m", "00-01-02-03-04-06", `{"client":"x","mac":"00:01:02:03:04:06"}`, true},
		{"-m", "::ffff:10.8.0.2", `{"client":"10.8.0.2","mac":""}`, true},
		{"-m", "FD00:8:0::2", `{"client":"fd00:8::2","mac":""}`, true},
		{"-m", "10.8.0.2", `{"client":"Peer","mac":"","alias":"10.8.0.2"}`, true},
		{"-m", "peer", `{"client":"Peer","mac":"","alias":"10.8.0.2"}`, true},
		{"-m", "10.8.0.3", `{"client":"10.8.0.2","mac":""}`, false},
		{"-m", "10.8.0.2", `{"client":"10.8.0.2","mac":"00:01:02:03:04:06"}`, false},
		{"-H", "*.háčkyčárky.cz", `{"hostname":"www.xn--hkyrky-ptac70bc.cz"}`, true},
		{"-H", "https://shop.example/x?y", `{"hostname":"www.shop.example"}`, true},
		{"-H", "SHOP.example.", `{"hostname":"shop.example"}`, true},
		{"-H", "shop.example", `{"hostname":"workshop.example"}`, false},
		{"-H", "Amazon Web Services", `{"hostname":"a.example","group":"amazonaws.com"}`, true},
		{"-H", "foo bar", `{"hostname":"foo"}`, false},
		{"-H", "2001:DB8::7", `{"hostname":"","address":"2001:db8::7"}`, true},
	} {
		o := &showOptions{}
		if err := parse([]string{tt.option, tt.value}, (&command{}).showOptions(o)); err != nil {
			t.Fatal(err)
		}
		groups := fromJSON(t, `{"amazonaws.com":{"label":"Amazon Web Services"}}`)
		if got := o.matches(fromJSON(t, tt.flow), groups); got != tt.want {
			t.Errorf("%s %s: %s is shown: %v", tt.option, tt.value, tt.flow, got)
		}
	}
}
