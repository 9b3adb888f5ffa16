package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"pakon/daemon/flow"
	"pakon/tests/limits"
)

// fakeStore refuses flows while err is set.
type fakeStore struct {
	mu    sync.Mutex
	err   error
	flows []flow.Flow
	calls chan int // sizes of the transactions
}

func (s *fakeStore) Add(_ context.Context, flows []flow.Flow) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.calls <- len(flows):
	default:
	}
	if s.err != nil {
		return s.err
	}
	s.flows = append(s.flows, flows...)
	return nil
}

func (s *fakeStore) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func startWriter(s *fakeStore) (w *writer, end func()) {
	s.calls = make(chan int, 1000)
	w = newWriter(s, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run()
	}()
	return w, func() {
		w.finish()
		<-done
	}
}

func numbered(from, n int) []flow.Flow {
	out := make([]flow.Flow, n)
	for i := range out {
		out[i].Start = int64(from + i)
	}
	return out
}

func inOrder(t *testing.T, got []flow.Flow, from, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%d flows are stored, want %d", len(got), n)
	}
	for i, f := range got {
		if f.Start != int64(from+i) {
			t.Fatalf("flow %d is number %d", from+i, f.Start)
		}
	}
}

func TestWriterStoresAllInOrder(t *testing.T) {
	var s fakeStore
	w, end := startWriter(&s)
	batch := numbered(0, 100)
	for i := range 50 {
		copy(batch, numbered(100*i, 100))
		w.add(batch) // the writer must have copied it before the next round
	}
	end()
	inOrder(t, s.flows, 0, 5000)
}

func TestWriterDoesNotWaitForMore(t *testing.T) {
	var s fakeStore
	w, end := startWriter(&s)
	defer end()
	w.add(numbered(0, 1))
	select {
	case n := <-s.calls:
		if n != 1 {
			t.Errorf("%d flows were stored, want 1", n)
		}
	case <-time.After(limits.For(10 * time.Second)):
		t.Error("a single flow is never stored")
	}
}

func TestWriterRetries(t *testing.T) {
	var s fakeStore
	w, end := startWriter(&s)
	s.refuse(errors.New("disk full"))
	w.add(numbered(0, 10))
	<-s.calls
	w.add(numbered(10, 10))
	<-s.calls
	if w.failure.Load() == nil {
		t.Error("the failure can not be seen")
	}
	s.refuse(nil)
	<-s.calls // tried again without new flows
	end()
	inOrder(t, s.flows, 0, 20)
	if w.lost.Load() != 0 || w.failure.Load() != nil {
		t.Errorf("%d flows lost, failure %v", w.lost.Load(), w.failure.Load())
	}
}

func TestWriterIsBounded(t *testing.T) {
	var s fakeStore
	w, end := startWriter(&s)
	s.refuse(errors.New("disk full"))
	const over = 3000
	for i := 0; i < maxUnstored+over; i += 1000 {
		w.add(numbered(i, min(1000, maxUnstored+over-i)))
	}
	for w.lost.Load() < over {
		<-s.calls
	}
	s.refuse(nil)
	end()
	if w.lost.Load() != over {
		t.Errorf("%d flows are counted as lost, want %d", w.lost.Load(), over)
	}
	inOrder(t, s.flows, over, maxUnstored) // the oldest went
}

func TestWriterFlush(t *testing.T) {
	var s fakeStore
	w, end := startWriter(&s)
	// More than the channel holds, and none of it due yet.
	for i := range 10 {
		w.add(numbered(10*i, 10))
	}
	w.flush(nil)
	s.mu.Lock()
	inOrder(t, s.flows, 0, 100)
	s.mu.Unlock()
	// What the store refuses waits, but for what is to be dropped; what ends a
	// record stays in any case.
	s.refuse(errors.New("disk full"))
	batch := numbered(100, 10)
	batch[9] = flow.Flow{Start: 109, State: flow.Done}
	w.add(batch)
	w.flush(func(f *flow.Flow) bool { return f.Start >= 105 })
	s.refuse(nil)
	w.flush(nil)
	end()
	inOrder(t, s.flows[:105], 0, 105)
	if len(s.flows) != 106 || s.flows[105].State != flow.Done {
		t.Errorf("stored at the end: %+v", s.flows[105:])
	}
	w.flush(nil) // nothing is written any more: it does not wait
}
