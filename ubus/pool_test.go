package ubus

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"
)

// forever is patience that no test uses up.
const forever = time.Hour

// TestTurns: who is served when, and who is dropped, once the call that is served has ended. A call is named by its
// caller and a number.
func TestTurns(t *testing.T) {
	many := []string{"a1", "a2", "a3", "a4", "b1", "c1"}
	tests := []struct {
		name            string
		lane            Lane
		calls           []string
		served, dropped []string
	}{
		{"in turn", Lane{AtOnce: 1, Waiting: 6}, many, []string{"a1", "b1", "c1", "a2", "a3", "a4"}, nil},
		{"every second the newest", Lane{AtOnce: 1, Waiting: 6, Patience: forever}, many,
			[]string{"c1", "a1", "b1", "a2", "a4", "a3"}, nil},
		{"one by one, of who has most the newest", Lane{AtOnce: 1, Waiting: 4}, many,
			[]string{"a1", "b1", "c1", "a2"}, []string{"a4", "a3"}},
		{"the newest of all", Lane{AtOnce: 1, Waiting: 2}, []string{"a1", "a2", "a3", "a4"}, []string{"a1", "a2"}, []string{"a3", "a4"}},
		{"of who has most, what has waited longest", Lane{AtOnce: 1, Waiting: 4, Patience: forever}, many,
			[]string{"c1", "a3", "b1", "a4"}, []string{"a1", "a2"}},
		{"of many the one that has waited longest", Lane{AtOnce: 1, Waiting: 2, Patience: forever}, []string{"a1", "b1", "c1"},
			[]string{"c1", "b1"}, []string{"a1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pool{log: slog.New(slog.DiscardHandler)}
			release := make(chan struct{})
			var served, dropped []string // the latter by this goroutine, the former by the one that serves
			p.submit(&tt.lane, "first", 0, func() { <-release }, nil)
			for _, c := range tt.calls {
				p.submit(&tt.lane, c[:1], 0, func() { served = append(served, c) }, func(s Status) {
					if s != StatusNoMemory {
						t.Errorf("%s: %v", c, s)
					}
					dropped = append(dropped, c)
				})
			}
			close(release)
			p.wait()
			if !reflect.DeepEqual(served, tt.served) || !reflect.DeepEqual(dropped, tt.dropped) {
				t.Errorf("served %v, want %v; dropped %v, want %v", served, tt.served, dropped, tt.dropped)
			}
			if q := p.lanes[&tt.lane]; len(q.callers) > 0 || q.bytes != 0 || q.serving != 0 || p.serving != 0 {
				t.Errorf("left: %+v", q)
			}
		})
	}
}

// TestPerCaller: a caller with many calls does not keep another from being served, and its own are served again once
// it has a place.
func TestPerCaller(t *testing.T) {
	lane := &Lane{AtOnce: 3, PerCaller: 2, Waiting: 10}
	p := pool{log: slog.New(slog.DiscardHandler)}
	started, release := make(chan string, 10), make(chan struct{})
	submit := func(caller string) {
		p.submit(lane, caller, 0, func() { started <- caller; <-release }, func(s Status) { t.Errorf("%s: %v", caller, s) })
	}
	for range 5 {
		submit("many")
	}
	submit("one")
	got := map[string]int{}
	for range 3 {
		got[wait(t, "call", started)]++
	}
	if got["many"] != 2 || got["one"] != 1 {
		t.Errorf("served at once: %v", got)
	}
	select {
	case c := <-started:
		t.Errorf("%s is served beside them", c)
	default:
	}
	close(release)
	p.wait()
	if len(started) != 3 {
		t.Errorf("%d more were served, want 3", len(started))
	}
}

// TestPatience: a call that waits for too long is told so at once, as is one whose handler takes too long, however
// that takes it; the handler's context ends then.
func TestPatience(t *testing.T) {
	lane := &Lane{AtOnce: 1, Waiting: 10, Patience: 50 * time.Millisecond}
	started, ended, release := make(chan struct{}, 2), make(chan error, 2), make(chan struct{})
	o := &Object{Path: "pakon", Methods: []Method{
		{Name: "slow", Lane: lane, Handler: func(ctx context.Context, r *Request) {
			started <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			<-release
			r.Done(StatusOK)
		}},
		{Name: "other", Handler: func(context.Context, *Request) {}},
	}}
	_, p, logs := provide(t, o)
	p.invoke(1, 1, 0x1000, "slow", nil)
	wait(t, "handler", started)
	p.invoke(2, 1, 0x1000, "slow", nil)
	p.invoke(3, 2, 0x1000, "other", nil)
	p.wantStatus(3, 2, 0x1000, StatusOK) // of another lane
	if err := wait(t, "end of the handler", ended); err != context.DeadlineExceeded {
		t.Error(err)
	}
	late := map[uint16]bool{}
	for range 2 {
		m, a := p.expect(MsgStatus)
		if s, _ := a.Uint32(AttrStatus); Status(s) == StatusTimeout {
			late[m.Seq] = true
		}
	}
	if !late[1] || !late[2] || len(started) > 0 {
		t.Errorf("%v are over, %d were served after the first", late, len(started))
	}
	close(release)
	p.invoke(4, 1, 0x1000, "slow", nil) // there is room again
	if m, _ := p.expect(MsgStatus); m.Seq != 4 {
		t.Errorf("call %d is answered", m.Seq)
	}
	if n := logs.count("level="); n > 0 {
		t.Errorf("the log has %d lines", n)
	}
}

// TestCallers: who is one caller.
func TestCallers(t *testing.T) {
	args := func(t Table) []byte {
		b, err := t.Append(nil)
		if err != nil {
			panic(err)
		}
		return b
	}
	session := args(Table{{sessionArg, "0123"}})
	for i, tt := range []struct {
		user string
		peer uint32
		args []byte
		want string
	}{
		{"root", 7, nil, "peer 7"},
		{"", 7, nil, "peer 7"},
		{"root", 7, session, "session 0123"},
		{"root", 7, args(Table{{sessionArg, "forged"}, {"x", Table{{sessionArg, "inner"}}}, {sessionArg, "0123"}}), "session 0123"},
		{"root", 7, args(Table{{sessionArg, int32(5)}}), "peer 7"},
		{"root", 7, append(args(Table{{"x", "y"}}), session[:8]...), "peer 7"},
		{"guest", 7, session, "user guest"},
	} {
		if got := (&Request{User: tt.user, peer: tt.peer}).caller(tt.args); got != tt.want {
			t.Errorf("%d: %q, want %q", i, got, tt.want)
		}
	}
}

// TestAllAnswered: every call of many callers is answered once, whatever becomes of it.
func TestAllAnswered(t *testing.T) {
	lane := &Lane{AtOnce: 2, PerCaller: 1, Waiting: 20, Patience: 20 * time.Millisecond}
	o := &Object{Path: "pakon", Methods: []Method{{Name: "some", Lane: lane, Handler: func(ctx context.Context, r *Request) {
		if n, _ := r.Args.Int("n"); n%3 == 0 {
			<-ctx.Done()
		}
	}}}}
	_, p, _ := provide(t, o)
	const calls = 300
	for n := range calls {
		p.invoke(uint16(n), uint32(n%7), 0x1000, "some", Table{{"n", int32(n)}})
	}
	got := map[string]int{}
	for range calls {
		m, _ := p.expect(MsgStatus)
		got[fmt.Sprint(m.Seq, m.Peer)]++
	}
	if len(got) != calls {
		t.Errorf("%d calls were answered, want %d", len(got), calls)
	}
}
