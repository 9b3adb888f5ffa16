package store

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// countdown is a context that ends when it is asked the nth time whether it
// has.
type countdown struct {
	context.Context
	end  context.CancelFunc
	left atomic.Int64
}

func newCountdown(t *testing.T, n int64) *countdown {
	c := new(countdown)
	c.Context, c.end = context.WithCancel(t.Context())
	c.left.Store(n)
	return c
}

func (c *countdown) count() {
	if c.left.Add(-1) == 0 {
		c.end()
	}
}

func (c *countdown) Done() <-chan struct{} { c.count(); return c.Context.Done() }
func (c *countdown) Err() error            { c.count(); return c.Context.Err() }

// TestOpenCancelled ends the opening of a new and of an existing database at
// each point where it can be ended: as a stop right after a start does.
func TestOpenCancelled(t *testing.T) {
	dir := t.TempDir()
	existing := filepath.Join(dir, "existing.db")
	ours(t, existing)
	ends := 0
	for _, path := range []string{existing, filepath.Join(dir, "new.db")} {
		for n := int64(1); ; n++ {
			c := newCountdown(t, n)
			s, err := Open(c, Options{Path: path, Classify: func(string) (string, bool) { return "", false }, Log: slog.New(slog.DiscardHandler)})
			over, ended := c.left.Load() > 0, c.Context.Err() != nil
			c.end()
			if err == nil {
				err = s.Close()
				ended = false
			}
			if ended {
				ends++
			} else if err != nil {
				t.Errorf("%s, to be ended at %d: %v", path, n, err)
			}
			if over {
				break
			}
		}
	}
	if ends < 10 {
		t.Errorf("the opening was ended at %d points only", ends)
	}
	if aside, err := filepath.Glob(filepath.Join(dir, "*.damaged*")); err != nil || aside != nil {
		t.Errorf("taken for damaged: %v, %v", aside, err)
	}
	s := open(t, Options{Path: existing})
	if got, err := s.Stats(t.Context()); err != nil || got.Flows != 1 {
		t.Errorf("the existing database holds %d flows, %v", got.Flows, err)
	}
}
