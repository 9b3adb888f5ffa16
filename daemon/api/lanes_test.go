package api

import (
	"context"
	"os"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/store"
	"pakon/tests/limits"
	"pakon/ubus"
)

// slowStore is asked questions that take until the test ends.
type slowStore struct {
	asked chan string
	end   chan struct{}
}

func (s *slowStore) ask(ctx context.Context, what string) error {
	s.asked <- what
	select {
	case <-s.end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slowStore) Flows(ctx context.Context, _ store.Query) (store.Page, error) {
	return store.Page{}, s.ask(ctx, "query")
}

func (s *slowStore) Count(context.Context, store.Filter) (wanted, hidden store.Count, err error) {
	return wanted, hidden, nil
}

func (s *slowStore) LeftOut(context.Context, int64) ([]store.LeftOut, error) { return nil, nil }

func (s *slowStore) Summary(ctx context.Context, _ store.SummaryQuery) ([]store.SummaryRow, store.Count, error) {
	return nil, store.Count{}, s.ask(ctx, "summary")
}

func (s *slowStore) Totals(ctx context.Context, _ int64, _ func(client.ID) bool) (store.Totals, error) {
	return store.Totals{}, s.ask(ctx, "clients")
}

// TestLanes: who asks for much keeps one place of two, however many calls it makes; and
// no method but those that read flows waits for any of them.
func TestLanes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("of another user than root, all are one caller")
	}
	s := &slowStore{asked: make(chan string, 100), end: make(chan struct{})}
	r := newRig(t, Config{
		Store:  s,
		Status: func(context.Context) Status { return Status{} },
		Reload: func(context.Context) error { return nil },
		Archive: func(context.Context) (store.ArchiveRun, error) {
			return store.ArchiveRun{}, nil
		},
		Backup: func(context.Context) (store.BackupRun, error) { return store.BackupRun{}, nil },
		Forget: func(context.Context, store.Forgetting) (int64, error) { return 0, nil },
	})
	ctx, cancel := context.WithTimeout(t.Context(), limits.For(20*time.Second))
	defer cancel()
	asked := func() string {
		t.Helper()
		select {
		case what := <-s.asked:
			return what
		case <-ctx.Done():
			t.Fatal("the store is not asked")
			return ""
		}
	}
	answered := make(chan error, 100)
	ask := func(c *ubus.Client, method string, args ubus.Table) {
		go func() {
			_, err := c.Call(ctx, Path, method, args)
			answered <- err
		}()
	}
	byClient := ubus.Table{{Name: "by", Value: ubus.Array{"client"}}}
	const floods = 30
	for range floods / 3 {
		ask(r.caller, "query", nil)
		ask(r.caller, "summary", byClient)
		ask(r.caller, "clients", nil)
	}
	asked()
	other, err := ubus.Dial(ctx, r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ask(other, "summary", byClient)
	if what := asked(); what != "summary" {
		t.Errorf("the other caller's call is not served: %s", what)
	}
	for _, c := range []*ubus.Client{r.caller, other} {
		for method, args := range map[string]ubus.Table{
			"status": nil, "reload": nil, "archive": nil, "backup": nil, "forget": {{Name: "all", Value: true}},
		} {
			if _, err := c.Call(ctx, Path, method, args); err != nil {
				t.Errorf("%s: %v", method, err)
			}
		}
	}
	if n := len(s.asked); n > 0 {
		t.Errorf("%d questions are read beside the two", n)
	}
	close(s.end)
	for range floods + 1 {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}
