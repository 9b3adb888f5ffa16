package store

import (
	"context"
	"fmt"
	"reflect"
)

// reclassifySlice is how many names are done in one transaction.
const reclassifySlice = 500

// Reclassify asks Options.Classify again for every name, after the lists have
// changed. Batches are added in between.
func (s *Store) Reclassify(ctx context.Context) error {
	for last := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := s.reclassifySlice(context.WithoutCancel(ctx), &last)
		s.known.changed()
		if err != nil {
			return fmt.Errorf("classify the names in %s again: %w", s.path, err)
		}
		if n < reclassifySlice {
			return nil
		}
	}
}

// reclassifySlice does the names that follow the one with the id *last.
func (s *Store) reclassifySlice(ctx context.Context, last *int64) (n int, err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	type named struct {
		id     int64
		name   string
		shown  any
		hidden bool
	}
	names := make([]named, 0, reclassifySlice)
	err = s.w.transaction(ctx, func() error {
		rows, err := s.w.conn.QueryContext(ctx, "SELECT id, name, shown, hidden FROM names WHERE id > ? ORDER BY id LIMIT ?", *last, reclassifySlice)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n named
			if err := rows.Scan(&n.id, &n.name, &n.shown, &n.hidden); err != nil {
				return err
			}
			names = append(names, n)
		}
		if err := rows.Close(); err != nil {
			return err
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, n := range names {
			*last = n.id
			group, hidden := s.classify(n.name)
			shown := shown(n.name, group)
			if hidden == n.hidden && reflect.DeepEqual(shown, n.shown) {
				continue // most are as they were
			}
			_, err := s.w.conn.ExecContext(ctx, "UPDATE names SET shown = ?, hidden = ? WHERE id = ?", shown, hidden, n.id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return len(names), err
}
