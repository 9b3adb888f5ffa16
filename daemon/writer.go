package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pakon/daemon/flow"
)

const (
	writeDelay  = 250 * time.Millisecond // from the first waiting flow to its commit
	retryDelay  = time.Second            // after the store refused
	writeBatch  = 1024                   // flows in a transaction
	maxUnstored = 16384                  // flows kept while the store refuses them
)

// adder stores flows, all of them or none.
type adder interface {
	Add(context.Context, []flow.Flow) error
}

// writer stores flows in batches: a transaction costs far more than a flow.
// Flows that the store refuses wait within a bound and are tried again with
// the next ones.
type writer struct {
	store   adder
	stored  func([]flow.Flow) // is told of flows once they are stored
	log     *slog.Logger
	in      chan []flow.Flow
	flushes chan flush
	ended   chan struct{} // closed when nothing is written any more
	free    sync.Pool
	lost    atomic.Uint64
	failure atomic.Pointer[string] // why the store refuses; nil if it does not
}

// flush asks to store what waits now, and to leave out what then still waits if
// it matches.
type flush struct {
	drop func(*flow.Flow) bool
	done chan struct{}
}

func newWriter(store adder, log *slog.Logger) *writer {
	return &writer{
		store: store, stored: func([]flow.Flow) {}, log: log, in: make(chan []flow.Flow, 4),
		flushes: make(chan flush), ended: make(chan struct{}),
	}
}

// add hands flows over; it copies them. It waits while the writer is behind,
// and must not be called after finish.
func (w *writer) add(flows []flow.Flow) {
	b, _ := w.free.Get().(*[]flow.Flow)
	if b == nil {
		b = new([]flow.Flow)
	}
	w.in <- append((*b)[:0], flows...)
}

// finish tells that no more flows come; run then stores what is left and ends.
func (w *writer) finish() { close(w.in) }

// flush stores what was added before, and returns when that is done. What the
// store refuses goes on waiting but for what matches drop, which may be nil.
func (w *writer) flush(drop func(*flow.Flow) bool) {
	f := flush{drop, make(chan struct{})}
	select {
	case w.flushes <- f:
		<-f.done
	case <-w.ended:
	}
}

// run stores flows until finish. It does not end with the daemon's context, so
// that what was seen before is stored.
func (w *writer) run() {
	defer close(w.ended)
	waiting := make([]flow.Flow, 0, writeBatch)
	var due <-chan time.Time
	for {
		select {
		case b, ok := <-w.in:
			if !ok {
				w.lost.Add(uint64(len(w.write(waiting))))
				return
			}
			waiting = w.take(waiting, b)
			if due == nil {
				due = time.After(writeDelay)
			}
			if len(waiting) < writeBatch {
				continue
			}
		case f := <-w.flushes:
			waiting = w.flushed(waiting, f)
			close(f.done)
			if len(waiting) == 0 {
				due = nil
			}
			continue
		case <-due:
		}
		due = nil
		if waiting = w.write(waiting); len(waiting) > 0 {
			due = time.After(retryDelay)
		}
	}
}

// take appends flows that were added.
func (w *writer) take(waiting, added []flow.Flow) []flow.Flow {
	waiting = append(waiting, added...)
	clear(added)
	w.free.Put(&added)
	return waiting
}

// flushed stores what waits and what was added before.
func (w *writer) flushed(waiting []flow.Flow, f flush) []flow.Flow {
	for n := len(w.in); n > 0; n-- {
		b, ok := <-w.in
		if !ok {
			break // run will see it, too
		}
		waiting = w.take(waiting, b)
	}
	waiting = w.write(waiting)
	if f.drop == nil {
		return waiting
	}
	// What says that a record is complete, or is to be deleted, stays.
	return slices.DeleteFunc(waiting, func(o flow.Flow) bool { return o.State < flow.Done && f.drop(&o) })
}

// write stores the flows and returns those that still wait.
func (w *writer) write(flows []flow.Flow) []flow.Flow {
	for len(flows) > 0 {
		n := min(len(flows), writeBatch)
		if err := w.store.Add(context.Background(), flows[:n]); err != nil {
			return w.refused(flows, err)
		}
		if w.failure.Swap(nil) != nil {
			w.log.Info("flows are stored again")
		}
		w.stored(flows[:n])
		flows = flows[:copy(flows, flows[n:])]
	}
	return flows
}

func (w *writer) refused(flows []flow.Flow, err error) []flow.Flow {
	text := fmt.Sprint(err)
	if w.failure.Swap(&text) == nil {
		w.log.Error("flows can not be stored; they wait in memory", "limit", maxUnstored, "err", err)
	}
	if over := len(flows) - maxUnstored; over > 0 {
		w.lost.Add(uint64(over))
		// The oldest go; but what says that a record is complete, or is to be
		// deleted, must not.
		flows = slices.DeleteFunc(flows, func(f flow.Flow) bool {
			if over == 0 || f.State >= flow.Done {
				return false
			}
			over--
			return true
		})
	}
	return flows
}
