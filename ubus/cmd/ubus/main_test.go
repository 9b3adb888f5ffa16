package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pakon/tests/limits"
	"pakon/ubus"
	"pakon/ubus/broker"
)

// patience bounds how long a test waits for what must come.
var patience = limits.For(30 * time.Second)

// startBus runs a bus with an object for the commands to use, and returns its socket.
func startBus(t *testing.T) (socket string, object *ubus.Object) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "bus.sock")
	b, err := broker.Listen(socket, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	background(t, b.Run)
	return socket, populate(t, socket)
}

// original names a program of the C implementation, in the directory that UBUS_TOOLS names.
func original(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("UBUS_TOOLS")
	if dir == "" {
		t.Skip("UBUS_TOOLS is not set: no original to compare with")
	}
	return filepath.Join(dir, name)
}

// startOriginalBus is startBus with ubusd.
func startOriginalBus(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "bus.sock")
	cmd := exec.Command(original(t, "sbin/ubusd"), "-s", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	populate(t, socket)
	return socket
}

func populate(t *testing.T, socket string) (object *ubus.Object) {
	t.Helper()
	object = &ubus.Object{Path: "thing", Methods: []ubus.Method{
		{Name: "echo", Args: []ubus.Arg{{Name: "n", Type: ubus.TypeInt32}, {Name: "s", Type: ubus.TypeString},
			{Name: "b", Type: ubus.TypeBool}, {Name: "a", Type: ubus.TypeArray}, {Name: "t", Type: ubus.TypeTable},
			{Name: "d", Type: ubus.TypeDouble}, {Name: "l", Type: ubus.TypeInt64}},
			Handler: func(_ context.Context, r *ubus.Request) { r.Reply(r.Args) }},
		{Name: "twice", Handler: func(_ context.Context, r *ubus.Request) { r.Reply(r.Args); r.Reply(r.Args) }},
		{Name: "fail", Args: []ubus.Arg{{Name: "code", Type: ubus.TypeInt32}}, Handler: func(_ context.Context, r *ubus.Request) {
			code, _ := r.Args.Int("code")
			r.Done(ubus.Status(code))
		}},
		{Name: "silent", Handler: func(ctx context.Context, _ *ubus.Request) { <-ctx.Done() }},
	}}
	publish(t, socket, object)
	publish(t, socket, &ubus.Object{Path: "thing.other"})
	return object
}

// background runs a task until the test ends.
func background(t *testing.T, task func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- task(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func publish(t *testing.T, socket string, o *ubus.Object) {
	t.Helper()
	c := ubus.New(socket, slog.New(slog.DiscardHandler))
	if err := c.Publish(o); err != nil {
		t.Fatal(err)
	}
	background(t, c.Run)
	select {
	case <-c.Ready():
	case <-time.After(patience):
		t.Fatalf("%s is not published", o.Path)
	}
}

// ids are drawn at random. usages differ in what they offer: the cases only say that the usage is printed.
var (
	ids    = regexp.MustCompile(`@[0-9a-f]{8}`)
	usages = regexp.MustCompile(`(?s)Usage: .*\n\n`)
)

const usage = "(usage)"

// TestCommands checks what commands print and return; with the originals at hand, also that their bus answers this
// command, and their command prints and returns, the same.
func TestCommands(t *testing.T) {
	t.Run("on our bus", func(t *testing.T) {
		socket, _ := startBus(t)
		testCommands(t, socket, func(t *testing.T, c commandCase, args []string) (code int, out, stderr string) {
			var o, e bytes.Buffer
			return run(t.Context(), args, &o, &e, c.terminal), o.String(), e.String()
		})
	})
	t.Run("on the original bus", func(t *testing.T) {
		testCommands(t, startOriginalBus(t), func(t *testing.T, c commandCase, args []string) (code int, out, stderr string) {
			var o, e bytes.Buffer
			return run(t.Context(), args, &o, &e, c.terminal), o.String(), e.String()
		})
	})
	t.Run("original on our bus", func(t *testing.T) {
		tool := original(t, "bin/ubus")
		socket, _ := startBus(t)
		testCommands(t, socket, func(t *testing.T, c commandCase, args []string) (code int, out, stderr string) {
			if c.terminal || c.ours {
				t.Skip("not for the original")
			}
			var o, e bytes.Buffer
			cmd := exec.CommandContext(t.Context(), tool, args...)
			cmd.Stdout, cmd.Stderr = &o, &e
			if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
				t.Fatal(err)
			}
			return cmd.ProcessState.ExitCode(), o.String(), e.String()
		})
	})
}

type commandCase struct {
	args     []string
	code     int
	out, err string
	terminal bool
	ours     bool // the original has no such command, or leaves the options to the C library
}

func testCommands(t *testing.T, socket string, run func(t *testing.T, c commandCase, args []string) (code int, out, stderr string)) {
	const list = `'thing' @ID
	"echo":{"n":"Integer","s":"String","b":"Boolean","a":"Array","t":"Table","d":"(unknown)","l":"(unknown)"}
	"twice":{}
	"fail":{"code":"Integer"}
	"silent":{}
`
	for _, c := range []commandCase{
		{args: nil, code: 1, err: usage},
		{args: []string{"-x"}, code: 1, ours: true, err: "ubus: unrecognized option: x\n" + usage},
		{args: []string{"-t"}, code: 1, ours: true, err: "ubus: option requires an argument: t\n" + usage},
		{args: []string{"-t", "x", "list"}, code: 1, ours: true, err: "ubus: option -t: \"x\" is no number of seconds\n" + usage},
		{args: []string{"nosuch"}, code: 254, err: usage},
		{args: []string{"-s", "/nosuch", "list"}, code: 255, err: "Failed to connect to ubus\n"},
		{args: []string{"-Ss/nosuch", "list"}, code: 255},

		{args: []string{"list"}, out: "thing\nthing.other\n"},
		{args: []string{"list", "thing"}, out: "thing\n"},
		{args: []string{"list", "th*"}, out: "thing\nthing.other\n"},
		{args: []string{"list", "nosuch"}, code: 4, err: "Command failed: Not found\n"},
		{args: []string{"-S", "list", "nosuch*"}, code: 4},
		{args: []string{"list", ""}, code: 2, err: "Command failed: Invalid argument\n"},
		{args: []string{"list", "a", "b"}, code: 254, err: usage},
		{args: []string{"-v", "list", "thing"}, out: list},
		{args: []string{"-v", "list"}, out: list + "'thing.other' @ID\n"},
		{args: []string{"-vS", "list", "thing"}, out: "thing\n"},

		{args: []string{"call"}, code: 254, err: usage},
		{args: []string{"call", "thing", "echo", "{}", "x"}, code: 254, err: usage},
		{args: []string{"call", "thing", "echo"}, out: "{\n\t\n}\n"},
		{args: []string{"-S", "call", "thing", "echo", "{}"}, out: "{}\n"},
		{args: []string{"call", "thing", "echo", `{"n":1,"l":4294967296,"d":1.5,"b":true,"a":[1,"x"],"t":{"u":null}}`},
			out: "{\n\t\"n\": 1,\n\t\"l\": 4294967296,\n\t\"d\": 1.500000,\n\t\"b\": true,\n\t\"a\": [\n\t\t1,\n\t\t\"x\"\n\t],\n\t\"t\": {\n\t\t\"u\": null\n\t}\n}\n"},
		{args: []string{"-S", "call", "thing", "twice", `{"n":1}`}, out: "{\"n\":1}\n{\"n\":1}\n"},
		{args: []string{"-S", "call", "thin*", "echo", `{"n":1}`}, code: 3},
		{args: []string{"call", "nosuch", "echo"}, code: 4, err: "Command failed: Not found\n"},
		{args: []string{"-S", "call", "nosuch", "echo"}, code: 4},
		{args: []string{"call", "", "echo"}, code: 2, err: "Command failed: Invalid argument\n"},
		{args: []string{"call", "thing", "nosuch"}, code: 253, err: "Command failed: ubus call thing nosuch (Method not found)\n"},
		{args: []string{"-S", "call", "thing", "nosuch"}, code: 3},
		{args: []string{"call", "thing", "nosuch"}, terminal: true, code: 3, err: "Command failed: Method not found\n"},
		{args: []string{"call", "thing", "fail", `{"code":4}`}, code: 252, err: "Command failed: ubus call thing fail {\"code\":4} (Not found)\n"},
		{args: []string{"call", "thing", "fail", `{"code":2}`}, code: 254, err: "Command failed: ubus call thing fail {\"code\":2} (Invalid argument)\n" + usage},
		{args: []string{"-S", "call", "thing", "fail", `{"code":2}`}, code: 2},
		{args: []string{"call", "thing", "fail", `{"code":99}`}, code: 157, err: "Command failed: ubus call thing fail {\"code\":99} (Unknown error: 99)\n"},
		{args: []string{"call", "thing", "fail", `{"code":-1}`}, code: 1, err: "Command failed: ubus call thing fail {\"code\":-1} (Unknown error: -1)\nCommand failed: Invalid command\n"},
		{args: []string{"-t", "1", "call", "thing", "silent"}, code: 249, err: "Command failed: ubus call thing silent (Request timed out)\n"},
		{args: []string{"call", "thing", "echo", "{bad"}, code: 244, err: "Command failed: ubus call thing echo {bad (Parsing message data failed)\n"},
		{args: []string{"-S", "call", "thing", "echo", "[1]"}, code: 12},

		{args: []string{"send"}, code: 254, err: usage},
		{args: []string{"send", "a", "{}", "c"}, code: 254, err: usage},
		{args: []string{"send", "x", `{"y":1}`}},
		{args: []string{"send", "x"}},
		{args: []string{"send", "x", "{bad"}, code: 12, err: "Command failed: Parsing message data failed\n"},
		{args: []string{"send", "ubus.x"}, code: 6, err: "Command failed: Permission denied\n"},
		{args: []string{"-S", "send", "ubus.x"}, code: 6},

		{args: []string{"-t1", "listen", "quiet"}},
		{args: []string{"-t1", "listen", "quiet", ""}, code: 255, err: "Error while registering for event '': Permission denied\n"},
		{args: []string{"-S", "listen", ""}, code: 255},
		{args: []string{"subscribe"}, code: 255, err: "You need to specify an object to subscribe to\n"},
		{args: []string{"-S", "subscribe"}, code: 255},
		{args: []string{"-t1", "subscribe", "thing", "thing.other"}},
		{args: []string{"-t1", "subscribe", "thing", "nosuch"}, code: 255, err: "Error while registering for event 'thing': Not found\n"},
		{args: []string{"-S", "subscribe", "nosuch"}, code: 255},
		{args: []string{"wait_for"}, code: 254, err: usage},
		{args: []string{"wait_for", "thing", "thing.other", "thing"}},
		{args: []string{"-t1", "wait_for", "thing", "nosuch"}, code: 7, err: "Command failed: Request timed out\n"},
		{args: []string{"-S", "-t1", "wait_for", "nosuch"}, code: 7},
		{args: []string{"broker", "x"}, code: 254, ours: true, err: usage},
	} {
		t.Run(fmt.Sprint(c.args), func(t *testing.T) {
			t.Parallel()
			args := c.args
			if args != nil && !strings.Contains(strings.Join(args, " "), "/nosuch") {
				args = append([]string{"-s", socket}, args...)
			}
			code, out, stderr := run(t, c, args)
			out, stderr = ids.ReplaceAllString(out, "@ID"), usages.ReplaceAllString(stderr, usage)
			if code != c.code || out != c.out || stderr != c.err {
				t.Errorf("exit %d, stdout %q, stderr %q;\nwant %d, %q, %q", code, out, stderr, c.code, c.out, c.err)
			}
		})
	}
}

// running is a command that goes on until the test is done with it.
type running struct {
	t     *testing.T
	lines *bufio.Reader
	stop  context.CancelFunc
	code  chan int
}

func start(t *testing.T, socket string, args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	r := &running{t: t, lines: bufio.NewReader(out), stop: stop, code: make(chan int, 1)}
	go func() {
		code := run(ctx, append([]string{"-s", socket}, args...), in, io.Discard, false)
		in.Close()
		r.code <- code
	}()
	t.Cleanup(func() { stop(); out.Close() })
	return r
}

func (r *running) line() string {
	r.t.Helper()
	timer := time.AfterFunc(patience, r.stop)
	defer timer.Stop()
	line, err := r.lines.ReadString('\n')
	if err != nil {
		r.t.Fatalf("waiting for a line: %v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (r *running) end() int {
	r.t.Helper()
	r.stop()
	return r.wait()
}

func (r *running) wait() int {
	r.t.Helper()
	select {
	case code := <-r.code:
		return code
	case <-time.After(patience):
		r.t.Fatal("the command does not end")
	}
	return 0
}

// monitor sees what goes over the bus.
type monitor struct {
	t *testing.T
	r *ubus.Reader
}

func watch(t *testing.T, socket string) *monitor {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	body := ubus.AppendString(ubus.AppendUint32(nil, ubus.AttrObjID, ubus.ObjectMonitor), ubus.AttrMethod, "add")
	if _, err := conn.Write((&ubus.Message{Type: ubus.MsgInvoke, Seq: 1, Peer: ubus.ObjectMonitor, Body: body}).Append(nil)); err != nil {
		t.Fatal(err)
	}
	m := &monitor{t, ubus.NewReader(bufio.NewReader(conn), ubus.MaxForwarded)}
	for {
		if f := m.next(); f.Type == ubus.MsgStatus {
			return m
		}
	}
}

func (m *monitor) next() ubus.Message {
	m.t.Helper()
	var f ubus.Message
	if err := m.r.Read(&f); err != nil {
		m.t.Fatalf("monitor: %v", err)
	}
	return f
}

// until waits for a message of the type that a client has sent, n times, and the broker's answer to the last of them.
func (m *monitor) until(typ ubus.MessageType, content string, n int) {
	m.t.Helper()
	for found := false; ; {
		f := m.next()
		var got ubus.MessageType
		sent := false
		ubus.WalkAttrs(f.Body, func(id ubus.AttrID, v []byte) {
			switch id {
			case ubus.MonitorType:
				got = ubus.MessageType(v[3])
			case ubus.MonitorSend:
				sent = v[0] == 1
			}
		})
		if found && sent && got == ubus.MsgStatus {
			if n--; n == 0 {
				return
			}
			found = false
		}
		if !sent && got == typ && bytes.Contains(f.Body, []byte(content)) {
			found = true
		}
	}
}

func TestListen(t *testing.T) {
	socket, _ := startBus(t)
	bus := watch(t, socket)
	some := start(t, socket, "listen", "a.*", "a.b", "c")
	bus.until(ubus.MsgInvoke, "register", 3)
	all := start(t, socket, "-S", "listen")
	bus.until(ubus.MsgInvoke, "register", 1)
	for _, args := range [][]string{{"a.b", `{"n":1,"l":[1.5,"x\"",{}]}`}, {"b"}, {"c", `{}`}} {
		if code := run(t.Context(), append([]string{"-s", socket, "send"}, args...), io.Discard, io.Discard, false); code != 0 {
			t.Fatalf("send %v: %d", args, code)
		}
	}
	for _, want := range []string{`{ "a.b": {"n":1,"l":[1.500000,"x\"",{}]} }`, `{ "b": {} }`, `{ "c": {} }`} {
		if got := all.line(); got != want {
			t.Errorf("listen: %s, want %s", got, want)
		}
	}
	if got := []string{some.line(), some.line()}; got[0] != `{ "a.b": {"n":1,"l":[1.500000,"x\"",{}]} }` || got[1] != `{ "c": {} }` {
		t.Errorf("listen a.* a.b c: %q", got)
	}
	if a, b := all.end(), some.end(); a != 0 || b != 0 {
		t.Errorf("exit %d, %d", a, b)
	}
}

func TestSubscribe(t *testing.T) {
	socket, object := startBus(t)
	bus := watch(t, socket)
	sub := start(t, socket, "subscribe", "thing")
	bus.until(ubus.MsgSubscribe, "", 1)
	// The publisher has heard of its subscriber when it answers a call that came after.
	if code := run(t.Context(), []string{"-s", socket, "call", "thing", "echo"}, io.Discard, io.Discard, false); code != 0 {
		t.Fatalf("call: %d", code)
	}
	if err := object.Notify("changed", ubus.Table{{Name: "n", Value: int32(1)}}); err != nil {
		t.Fatal(err)
	}
	if got, want := sub.line(), `{ "changed": {"n":1} }`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if code := sub.end(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestWaitFor(t *testing.T) {
	socket, _ := startBus(t)
	bus := watch(t, socket)
	w := start(t, socket, "wait_for", "late", "thing", "later")
	bus.until(ubus.MsgLookup, "", 1)
	publish(t, socket, &ubus.Object{Path: "late"})
	publish(t, socket, &ubus.Object{Path: "later"})
	if code := w.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// The broker of `ubus broker` serves until it is interrupted.
func TestBroker(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "run", "bus.sock")
	out, in := io.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"-s", socket, "broker"}, io.Discard, in, false)
		in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, socket) {
		t.Fatalf("%q %v", line, err)
	}
	go io.Copy(io.Discard, out)
	publish(t, socket, &ubus.Object{Path: "thing"})
	var list bytes.Buffer
	if rc := run(t.Context(), []string{"-s", socket, "list"}, &list, io.Discard, false); rc != 0 || list.String() != "thing\n" {
		t.Errorf("list: %d %q", rc, list.String())
	}
	var second bytes.Buffer
	if rc := run(t.Context(), []string{"-s", socket, "broker"}, io.Discard, &second, false); rc != 255 || !strings.Contains(second.String(), "running there already") {
		t.Errorf("second broker: %d %q", rc, second.String())
	}
	stop()
	if rc := <-code; rc != 0 {
		t.Errorf("exit %d", rc)
	}
}
