package store

import (
	"context"
	"database/sql"
	"fmt"
)

// cleanSlice is how many rows the cleaner looks at in one step.
const cleanSlice = 2000

// A cleaner deletes the names, endpoints and apps that no flow refers to any
// more. It works in steps, one with each batch of flows, so that no batch waits
// long: first it marks what the flows refer to, from the oldest to the newest
// (batches added meanwhile mark what they use themselves), then it deletes what
// is not marked.
type cleaner struct {
	deleted int64 // flows deleted since the last run began
	stage   int   // 0: does not run, 1: marks, from 2: sweeps dictionary stage-2
	at      int64 // the last row of the table in work that was looked at
	marks   *sql.Stmt
}

// marker is the part of a dictionary that the cleaner needs.
type marker interface {
	startMarking()
	mark(id int64)
	sweep(ctx context.Context, after int64, n int) (int64, error)
	stopMarking()
}

// overdue, as the number of flows deleted, makes a run due.
const overdue = 1 << 62

// due tells whether a run is worth its cost. Only deleting flows makes garbage.
func (c *cleaner) due(flows int64) bool { return c.deleted >= max(1000, flows) }

// cleanStep does the next slice of work, if there is any.
func (w *writer) cleanStep(ctx context.Context, flows int64) error {
	c := &w.cleaner
	all := []marker{&w.names, &w.endpoints, &w.apps}
	switch {
	case c.stage == 0 && c.due(flows):
		c.deleted, c.stage, c.at = 0, 1, -1
		for _, d := range all {
			d.startMarking()
		}
	case c.stage == 0:
	case c.stage == 1:
		n, err := w.markSlice(ctx)
		if err != nil {
			return fmt.Errorf("find names in use: %w", err)
		}
		if n < cleanSlice {
			c.stage, c.at = 2, 0
		}
	default:
		var err error
		if c.at, err = all[c.stage-2].sweep(ctx, c.at, cleanSlice); err != nil {
			return fmt.Errorf("delete unused names: %w", err)
		}
		if c.at == 0 {
			c.stage++
		}
		if c.stage-2 == len(all) {
			w.stopCleaning()
		}
	}
	return nil
}

// abortCleaning ends a run that is not done, so that another will be.
func (w *writer) abortCleaning() {
	if w.cleaner.stage != 0 {
		w.cleaner.deleted = overdue
		w.stopCleaning()
	}
}

func (w *writer) stopCleaning() {
	w.cleaner.stage = 0
	for _, d := range []marker{&w.names, &w.endpoints, &w.apps} {
		d.stopMarking()
	}
}

func (w *writer) markSlice(ctx context.Context) (n int, err error) {
	rows, err := w.cleaner.marks.QueryContext(ctx, w.cleaner.at, cleanSlice)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var name, app sql.NullInt64
	var endpoint int64
	for ; rows.Next(); n++ {
		if err := rows.Scan(&w.cleaner.at, &name, &endpoint, &app); err != nil {
			return 0, err
		}
		w.names.mark(name.Int64)
		w.endpoints.mark(endpoint)
		w.apps.mark(app.Int64)
	}
	return n, rows.Err()
}
