package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"pakon/daemon/clock"
	"pakon/daemon/flow"
)

// TestQueriesCancelled: what nobody waits for any more ends with the blocks that are
// being read.
func TestQueriesCancelled(t *testing.T) {
	const blocks = 12
	var classified atomic.Int64
	var seen func()
	s := open(t, Options{Classify: func(name string) (string, bool) {
		classified.Add(1)
		if seen != nil {
			seen()
		}
		return name, false
	}})
	flows := make([]flow.Flow, blocks*blockFlows)
	for i := range flows {
		flows[i] = testFlow(1_700_000_000_000 + int64(i))
		flows[i].Name = fmt.Sprintf("%d.example.org", i)
	}
	add(t, s, flows...)
	all := Filter{Out: true}
	for name, ask := range map[string]func(context.Context) error{
		"summary": func(ctx context.Context) error {
			_, _, err := s.Summary(ctx, SummaryQuery{Filter: all, By: []string{"hostname"}})
			return err
		},
		"counted": func(ctx context.Context) error {
			_, _, err := s.Count(ctx, all)
			return err
		},
		"sorted": func(ctx context.Context) error {
			_, err := s.Flows(ctx, Query{Filter: all, Sort: ByTotal})
			return err
		},
		"aggregated": func(ctx context.Context) error {
			_, err := s.Flows(ctx, Query{Filter: all, Aggregate: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.known.classes.forget()
			classified.Store(0)
			seen = cancel
			err := ask(ctx)
			seen = nil
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			// One is given, one filled, and one more may be given though the context has ended.
			if n := classified.Load(); n == 0 || n > 4*blockFlows {
				t.Errorf("%d names of %d were looked at", n, len(flows))
			}
		})
	}
}

// TestStateWhileQueriesRun: how the store is can be asked for while all queries that may
// read at once do, and while somebody waits for them to end.
func TestStateWhileQueriesRun(t *testing.T) {
	s := openArchived(t, Options{}, ArchiveConfig{})
	add(t, s, testFlow(theNow.UnixMilli()))
	if _, err := s.Archive(t.Context(), theNow, clock.Age{Until: theNow.UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	var views []*view
	for range Queries {
		s.querying.RLock()
		v, err := s.view(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, v)
	}
	go func() { waiting <- s.detachArchive() }()
	defer func() {
		for _, v := range views {
			v.close()
			s.querying.RUnlock()
		}
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}()
	for s.querying.TryRLock() { // until it waits
		s.querying.RUnlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), stall)
	defer cancel()
	asked := make(chan error, 1)
	go func() {
		_, err := s.Stats(ctx)
		if err == nil {
			_, err = s.Storage(ctx)
		}
		if err == nil {
			_, err = s.LeftOutOfAll(ctx, 0)
		}
		asked <- err
	}()
	select {
	case err := <-asked:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("it waits for the queries")
	}
}
