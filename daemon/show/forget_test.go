package show

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
	"pakon/ubus"
)

func TestForget(t *testing.T) {
	deleted := int64(42)
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) {
		return ubus.Table{{Name: "deleted", Value: deleted}}, ubus.StatusOK
	})
	for _, tt := range []struct{ args, want string }{
		{"--all -y", `{"all":true}`},
		{"-ym Laptop", `{"mac":["Laptop"]}`},
		{"-m 00:01:02:03:04:05 -m Laptop --yes", `{"mac":["00:01:02:03:04:05","Laptop"]}`},
		{"-H example.org -H example.net -y", `{"hostname":["example.org","example.net"]}`},
		{"--before 11-11-2017 -y", `{"before":1510354800}`},
	} {
		status, out, errOut := r.run(t, append([]string{"forget"}, strings.Fields(tt.args)...)...)
		calls := r.take()
		if status != 0 || errOut != "" || out != "42 flows were deleted\n" || len(calls) != 1 || calls[0].method != "forget" || calls[0].args != tt.want {
			t.Errorf("%s: status %d, %q, stderr %q, calls %v", tt.args, status, out, errOut, calls)
		}
	}
	deleted = 1
	if _, out, _ := r.run(t, "forget", "--all", "-y"); out != "1 flow was deleted\n" {
		t.Errorf("prints %q", out)
	}
}

// terminal is one whose user types text.
func terminal(t *testing.T, text string) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	if _, err := master.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return slave
}

func TestForgetAsks(t *testing.T) {
	r := newRig(t, func(string, ubus.Table) (ubus.Table, ubus.Status) {
		return ubus.Table{{Name: "deleted", Value: int64(0)}}, ubus.StatusOK
	})
	defer func(f *os.File) { stdin = f }(stdin)
	for _, tt := range []struct {
		answer string
		status int
	}{{"y\n", 0}, {"Yes\n", 0}, {"\n", 1}, {"n\n", 1}, {"yesterday\n", 1}, {"\x04", 1}} {
		stdin = terminal(t, tt.answer)
		status, out, errOut := r.run(t, "forget", "-m", "evil\x1b[31m")
		if calls := r.take(); status != tt.status || len(calls) != 1-tt.status || (out == "") != (status == 1) ||
			!strings.HasPrefix(errOut, `Delete all flows of evil\x1b[31m for good? [y/N] `) {
			t.Errorf("%q: status %d, %q, stderr %q, calls %v", tt.answer, status, out, errOut, calls)
		}
	}
	// Nobody answers, and the user interrupts.
	stdin = terminal(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	asked := &firstWrite{done: cancel}
	var out bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- Run(ctx, []string{"forget", "--all", "--ubus-socket", r.socket}, &out, asked) }()
	select {
	case status := <-ended:
		if status != 1 || len(r.take()) > 0 || !strings.Contains(asked.String(), "nothing was deleted") {
			t.Errorf("interrupted: status %d, stderr %q", status, asked)
		}
	case <-time.After(limits.For(20 * time.Second)):
		t.Error("it can not be interrupted")
	}
}

// firstWrite calls done when it is first written to.
type firstWrite struct {
	bytes.Buffer
	done func()
}

func (w *firstWrite) Write(p []byte) (int, error) {
	defer w.done()
	return w.Buffer.Write(p)
}
