package show

import (
	"bytes"
	"strings"
	"testing"
	"time"

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
	for deadline := time.Now().Add(20 * time.Second); !r.object.HasSubscribers(); time.Sleep(time.Millisecond) {
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
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
	if want := "pakon-show: 7 flows are missing here: the bus dropped their notification\n"; errOut.String() != want {
		t.Errorf("stderr %q, want %q", errOut, want)
	}
	if len(out.c) != 4 || !strings.Contains(<-out.c, `["1970-01-01 01:00:01", 0, "", "", "", "?", 0, 0]`) {
		t.Errorf("%d lines", len(out.c)+1)
	}
}
