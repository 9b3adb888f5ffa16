package show

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pakon/tests/limits"
	"pakon/ubus"
	"pakon/ubus/broker"
)

// rig is a bus, and on it an object that answers what the test says.
type rig struct {
	socket string
	object *ubus.Object
	mu     sync.Mutex
	calls  []call
}

type call struct {
	method, args string // arguments as JSON
}

// newRig starts a bus. answer is the daemon: it returns a reply for a call; nil
// means that there is no daemon.
func newRig(t testing.TB, answer func(method string, args ubus.Table) (ubus.Table, ubus.Status)) *rig {
	t.Helper()
	r := &rig{socket: filepath.Join(t.TempDir(), "ubus.sock")}
	t.Setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
	b, err := broker.Listen(r.socket, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { b.Run(ctx) })
	t.Cleanup(func() { cancel(); tasks.Wait() })
	if answer == nil {
		return r
	}
	r.object = &ubus.Object{Path: "pakon"}
	for _, name := range []string{"query", "summary", "clients", "status", "forget"} {
		r.object.Methods = append(r.object.Methods, ubus.Method{Name: name, Handler: func(_ context.Context, q *ubus.Request) {
			r.mu.Lock()
			r.calls = append(r.calls, call{name, string(ubus.AppendJSON(nil, q.Args, false))})
			r.mu.Unlock()
			reply, status := answer(name, q.Args)
			if reply != nil {
				if err := q.Reply(reply); err != nil {
					t.Error(err)
				}
			}
			q.Done(status)
		}})
	}
	publish(t, r.socket, r.object)
	return r
}

// publish puts an object on the bus.
func publish(t testing.TB, socket string, o *ubus.Object) {
	t.Helper()
	client, err := ubus.Dial(context.Background(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.Publish(o); err != nil {
		t.Fatal(err)
	}
}

// take returns the calls since the last time.
func (r *rig) take() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

// run runs a command on the bus of the rig.
func (r *rig) run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limits.For(20*time.Second))
	defer cancel()
	var out, errOut bytes.Buffer
	status = Run(ctx, append(args[:1:1], append([]string{"--ubus-socket", r.socket}, args[1:]...)...), &out, &errOut)
	return status, out.String(), errOut.String()
}

// golden compares output with a file of testdata. UPDATE=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

// fromJSON reads a reply from JSON.
func fromJSON(t *testing.T, json string) ubus.Table {
	t.Helper()
	v, err := ubus.FromJSON([]byte(json))
	if err != nil {
		t.Fatalf("%v: %s", err, json)
	}
	return v
}

// flowsReply holds a flow of every kind; the first is the manual's.
const flowsReply = `{"flows":[
{"start":1567561062,"duration":81,"client":"00:01:02:03:04:05","mac":"00:01:02:03:04:05","hostname":"www.google.com","address":"203.0.113.1","group":"google.com","port":443,"proto":"udp","app_proto":"","sent":35840,"recvd":429056,"running":false},
{"start":1567561070,"duration":0,"client":"laptop","hostname":"a-very-long-name-of-a-host.cdn.some-provider.example.org","address":"203.0.113.2","group":"","port":443,"proto":"tcp","app_proto":"tls","sent":0,"recvd":1023},
{"start":1567561080,"duration":100000,"client":"laptop","hostname":"","address":"2001:db8::7","group":"","port":22,"proto":"tcp","app_proto":"ssh","sent":1024,"recvd":1048576},
{"start":1567561090,"duration":7,"client":"tv","hostname":"háčky.example","address":"203.0.113.3","group":"","port":65535,"proto":"tcp","app_proto":"http","sent":5368709120,"recvd":1125899906842624,"direction":"in"},
{"start":1567561100,"duration":1,"client":"=cmd()|a","hostname":"evil\u001b[31m\u009b\u202ename\u0007","address":"203.0.113.4","group":"","port":80,"proto":"tcp","app_proto":"+x","sent":1,"recvd":1}
]}`
