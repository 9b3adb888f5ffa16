package ubus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// realBus runs the C broker, where there is one: UBUS_TOOLS names a directory with sbin/ubusd and bin/ubus.
type realBus struct {
	t    *testing.T
	dir  string
	path string
	cmd  *exec.Cmd
}

func newRealBus(t *testing.T) *realBus {
	dir := os.Getenv("UBUS_TOOLS")
	if dir == "" {
		t.Skip("UBUS_TOOLS is not set: no real ubusd to talk to")
	}
	b := &realBus{t: t, dir: dir, path: filepath.Join(t.TempDir(), "ubus.sock")}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *realBus) start() {
	b.t.Helper()
	b.cmd = exec.Command(filepath.Join(b.dir, "sbin", "ubusd"), "-s", b.path)
	b.cmd.Stderr = os.Stderr
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *realBus) stop() {
	if b.cmd != nil {
		b.cmd.Process.Kill()
		b.cmd.Wait()
		b.cmd = nil
	}
}

// ubus runs the C tool.
func (b *realBus) ubus(args ...string) (out string, status int) {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(b.dir, "bin", "ubus"), append([]string{"-s", b.path}, args...)...)
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	return buf.String(), cmd.ProcessState.ExitCode()
}

func realObject(o *Object) *Object {
	o.Path = "pakon"
	o.Methods = []Method{
		{Name: "query", Args: []Arg{{"start", TypeInt32}, {"mac", TypeArray}, {"aggregate", TypeBool}, {"name", TypeString}, {"t", TypeTable}},
			Handler: func(_ context.Context, r *Request) {
				r.Reply(Table{{"args", r.Args}, {"user", r.User}, {"group", r.Group}})
			}},
		{Name: "multi", Handler: func(_ context.Context, r *Request) {
			for i := range int32(3) {
				r.Reply(Table{{"n", i}})
			}
		}},
		{Name: "fail", Handler: func(_ context.Context, r *Request) {
			n, _ := r.Args.Int("code")
			r.Done(Status(n))
		}},
		{Name: "defer", Handler: func(ctx context.Context, r *Request) {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
				r.Reply(Table{{"late", true}})
			}
		}},
		{Name: "big", Handler: func(_ context.Context, r *Request) {
			n, _ := r.Args.Int("size")
			var b Builder
			b.String("s", strings.Repeat("a", int(n)))
			r.ReplyBlob(&b)
		}},
		{Name: "notify", Handler: func(_ context.Context, r *Request) { o.Notify("tick", Table{{"n", int32(1)}}) }},
		{Name: "all", Handler: func(_ context.Context, r *Request) {
			r.Reply(Table{
				{"i", int32(1)}, {"big", int64(5000000000)}, {"s", "x\"y"}, {"b", true}, {"d", 0.5}, {"n", nil}, {"i16", int16(-2)},
				{"a", Array{int32(1), "two", Array{}, Table{}}}, {"t", Table{{"in", Table{}}}}, {"i8", Int8(100)},
			})
		}},
	}
	return o
}

// TestRealBroker: the C broker and tool on one side, ours on the other.
func TestRealBroker(t *testing.T) {
	b := newRealBus(t)
	o := realObject(new(Object))
	p, _ := runClient(t, b.path, func(c *Client) {
		if err := c.Publish(o); err != nil {
			t.Fatal(err)
		}
	})
	wait(t, "ready", p.Ready())
	user := "root"
	for _, c := range []struct {
		args   []string
		out    string
		status int
	}{
		{[]string{"-S", "list"}, "pakon\n", 0},
		{[]string{"-S", "call", "pakon", "query", `{"start":1,"x":[1,"2"]}`},
			`{"args":{"start":1,"x":[1,"2"]},"user":"` + user + `","group":"` + user + `"}` + "\n", 0},
		{[]string{"-S", "call", "pakon", "query"}, `{"args":{},"user":"` + user + `","group":"` + user + `"}` + "\n", 0},
		{[]string{"-S", "call", "pakon", "multi"}, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n", 0},
		{[]string{"-S", "call", "pakon", "fail", `{"code":8}`}, "", 8},
		{[]string{"-S", "call", "pakon", "fail", `{"code":-1}`}, "", 255},
		{[]string{"-S", "call", "pakon", "nosuch"}, "", 3},
		{[]string{"-S", "call", "pakon", "defer"}, "{\"late\":true}\n", 0},
		{[]string{"-S", "-t", "5", "call", "pakon", "big", `{"size":2000000}`}, "", 9},
		{[]string{"-S", "call", "pakon", "big", `{"size":1048551}`}, `{"s":"` + strings.Repeat("a", 1048551) + "\"}\n", 0},
		{[]string{"-S", "call", "pakon", "big", `{"size":1048552}`}, "", 9},
	} {
		out, status := b.ubus(c.args...)
		if out != c.out || status != c.status {
			t.Errorf("ubus %q: %.300q, %d; want %.300q, %d", c.args, out, status, c.out, c.status)
		}
	}
	out, _ := b.ubus("-v", "list", "pakon")
	if i := strings.Index(out, "\n"); !strings.Contains(out, `"query":{"start":"Integer","mac":"Array","aggregate":"Boolean","name":"String","t":"Table"}`) {
		t.Error(out[max(i, 0):])
	}

	// The tool indents as AppendJSON does.
	ctx := testContext(t)
	c, err := Dial(ctx, b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Call(ctx, "pakon", "all", nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := b.ubus("call", "pakon", "all"); out != string(AppendJSON(nil, all, true))+"\n" {
		t.Errorf("ubus prints\n%s, want\n%s", out, AppendJSON(nil, all, true))
	}
	infos, err := c.Lookup(ctx, "pak*")
	if err != nil || len(infos) != 1 || len(infos[0].Methods) != len(o.Methods) ||
		fmt.Sprint(infos[0].Methods[0].Args) != fmt.Sprint(o.Methods[0].Args) {
		t.Errorf("%+v, %v", infos, err)
	}
	n := 0
	if err := c.CallAll(ctx, "pakon", "multi", nil, func(Table) error { n++; return nil }); err != nil || n != 3 {
		t.Error(n, err)
	}
	for _, want := range []struct {
		path, method string
		args         Table
		status       Status
	}{
		{"nosuch", "x", nil, StatusNotFound},
		{"pakon", "nosuch", nil, StatusMethodNotFound},
		{"pakon", "fail", Table{{"code", int32(99)}}, 99},
		{"pakon", "query", Table{{"s", strings.Repeat("x", MaxMessage)}}, StatusInvalidArgument},
	} {
		if _, err := c.Call(ctx, want.path, want.method, want.args); !errors.Is(err, want.status) {
			t.Errorf("%s %s: %v, want %v", want.path, want.method, err, want.status)
		}
	}
	// A call that the broker makes larger than its limit.
	for size := 1048500; size < 1048530; size++ {
		tab, err := c.Call(ctx, "pakon", "fail", Table{{"s", strings.Repeat("x", size)}})
		if err != nil && !errors.Is(err, ErrTooLong) {
			t.Errorf("%d: %v %v", size, tab, err)
		}
	}
	if err := c.Publish(&Object{Path: "pakon"}); !errors.Is(err, StatusInvalidArgument) {
		t.Error("the path is taken:", err)
	}
	if err := c.Send(ctx, "ubus.fake", nil); !errors.Is(err, StatusPermissionDenied) {
		t.Error(err)
	}
}

// TestRealEvents: events, notifications, and all of it again when the broker comes back.
func TestRealEvents(t *testing.T) {
	b := newRealBus(t)
	heard := make(chan string, 100)
	hear := func(what string) func(string, Table) {
		return func(name string, data Table) { heard <- what + " " + name + " " + string(AppendJSON(nil, data, false)) }
	}
	sub, _ := runClient(t, b.path, func(c *Client) {
		c.Listen("pakon.*", hear("event"))
		c.Listen("late", func(name string, _ Table) { heard <- name })
		c.Subscribe("pakon", hear("notification"))
	})
	wait(t, "ready", sub.Ready())
	o := realObject(new(Object))
	start := func() (*Client, context.CancelFunc, chan error) {
		c := New(b.path, sub.log)
		c.Publish(o)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		wait(t, "ready", c.Ready())
		return c, cancel, done
	}
	subscribed := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); o.HasSubscribers() != want; {
			if time.Now().After(deadline) {
				t.Fatalf("subscribers: %v", !want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	tick := func() {
		t.Helper()
		subscribed(true)
		if out, status := b.ubus("-S", "call", "pakon", "notify"); status != 0 {
			t.Error(out, status)
		}
		if got := wait(t, "notification", heard); got != `notification tick {"n":1}` {
			t.Error(got)
		}
	}
	_, cancel, done := start()
	tick()
	if out, status := b.ubus("-S", "send", "pakon.x", `{"a":[1]}`); status != 0 {
		t.Error(out, status)
	}
	if got := wait(t, "event", heard); got != `event pakon.x {"a":[1]}` {
		t.Error(got)
	}
	// The object goes and comes back.
	cancel()
	if err := wait(t, "Run", done); err != nil {
		t.Error(err)
	}
	_, cancel, done = start()
	tick()
	// The broker goes and comes back.
	b.stop()
	subscribed(false)
	b.start()
	back := time.Now()
	tick()
	t.Logf("all is back %v after the broker was started", time.Since(back))
	cancel()
	wait(t, "Run", done)
}
