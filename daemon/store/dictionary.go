package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// cacheSize bounds the entries of one generation of a dictionary's cache.
const cacheSize = 2048

// A dictionary gives what repeats in flows a number: the id of its row in a
// table. What was used last is remembered, in two generations: when the newer
// is full, the older is forgotten.
type dictionary[K comparable] struct {
	table     string
	newer     map[K]int64
	older     map[K]int64
	find      *sql.Stmt
	insert    *sql.Stmt
	key       func(K) []any // the arguments of find
	row       func(K) []any // the arguments of insert
	used      bitmap        // what the cleaner has seen in use; nil while it does not run
	remove    *sql.Stmt
	following *sql.Stmt
}

// prepare makes the dictionary ready; find and insert are the statements that
// look up and add a row.
func (d *dictionary[K]) prepare(ctx context.Context, w *writer, find, insert string) (err error) {
	d.forget()
	for _, s := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&d.find, find},
		{&d.insert, insert},
		{&d.remove, "DELETE FROM " + d.table + " WHERE id = ?"},
		{&d.following, "SELECT id FROM " + d.table + " WHERE id > ? ORDER BY id LIMIT ?"},
	} {
		if *s.to, err = w.statement(ctx, s.sql); err != nil {
			return err
		}
	}
	return nil
}

// id is the number of k, which gets one if it has none.
func (d *dictionary[K]) id(ctx context.Context, k K) (int64, error) {
	if id, ok := d.newer[k]; ok {
		return id, nil
	}
	id, ok := d.older[k]
	if !ok {
		var err error
		if id, err = d.lookUp(ctx, k); err != nil {
			return 0, fmt.Errorf("number in %s: %w", d.table, err)
		}
	}
	if len(d.newer) >= cacheSize {
		d.older, d.newer = d.newer, make(map[K]int64)
	}
	d.newer[k] = id
	return id, nil
}

func (d *dictionary[K]) lookUp(ctx context.Context, k K) (id int64, err error) {
	err = d.find.QueryRowContext(ctx, d.key(k)...).Scan(&id)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	r, err := d.insert.ExecContext(ctx, d.row(k)...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// forget empties the cache: ids in it may have been rolled back or deleted.
func (d *dictionary[K]) forget() {
	d.newer, d.older = make(map[K]int64), nil
}

// mark says that a flow refers to id.
func (d *dictionary[K]) mark(id int64) {
	if d.used != nil {
		d.used.set(id)
	}
}

// startMarking begins a run of the cleaner.
func (d *dictionary[K]) startMarking() { d.used = bitmap{} }

// stopMarking ends a run of the cleaner.
func (d *dictionary[K]) stopMarking() { d.used = nil }

// sweep deletes those of the next n rows above id after that are not marked.
// It returns the last row looked at, or 0 if there are no more.
func (d *dictionary[K]) sweep(ctx context.Context, after int64, n int) (last int64, err error) {
	rows, err := d.following.QueryContext(ctx, after, n)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var unused []int64
	seen := 0
	for ; rows.Next(); seen++ {
		if err := rows.Scan(&last); err != nil {
			return 0, err
		}
		if !d.used.has(last) {
			unused = append(unused, last)
		}
	}
	if err := rows.Close(); err != nil {
		return 0, err
	}
	for _, id := range unused {
		if _, err := d.remove.ExecContext(ctx, id); err != nil {
			return 0, err
		}
	}
	if len(unused) > 0 {
		d.forget()
	}
	if seen < n {
		return 0, rows.Err()
	}
	return last, rows.Err()
}

// bitmap is a set of small positive numbers.
type bitmap map[int64]uint64

func (b bitmap) set(n int64)      { b[n>>6] |= 1 << (n & 63) }
func (b bitmap) has(n int64) bool { return b[n>>6]&(1<<(n&63)) != 0 }
