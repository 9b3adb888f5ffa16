package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pakon/tests/household"
	"pakon/ubus"
)

// status asks for the method status.
func (d *daemon) status(ctx context.Context) (ubus.Table, error) {
	return d.client.Call(ctx, "pakon", "status", nil)
}

// table is a table within tables.
func table(t ubus.Table, path ...string) (ubus.Table, bool) {
	ok := true
	for _, name := range path {
		if t, ok = t.Table(name); !ok {
			break
		}
	}
	return t, ok
}

// number is a number within tables, 0 if there is none.
func number(t ubus.Table, path ...string) int64 {
	t, _ = table(t, path[:len(path)-1]...)
	n, _ := t.Int(path[len(path)-1])
	return n
}

// live is the number of flows that the daemon has stored.
func (d *daemon) live(ctx context.Context) (int64, error) {
	s, err := d.status(ctx)
	if err != nil {
		return 0, err
	}
	flows, _ := s.Table("flows")
	n, ok := flows.Int("live")
	if !ok {
		return 0, errors.New("status does not tell the flows")
	}
	return n, nil
}

func (d *daemon) dropped(ctx context.Context) (int, error) {
	s, err := d.status(ctx)
	if err != nil {
		return 0, err
	}
	e, _ := s.Table("events")
	n, ok := e.Int("dropped")
	if !ok {
		return 0, errors.New("status does not tell the dropped events")
	}
	return int(n), nil
}

// written is how many bytes the daemon says it has written to disk.
func (d *daemon) written(ctx context.Context) (int64, error) {
	s, err := d.status(ctx)
	if err != nil {
		return 0, err
	}
	w, _ := s.Table("written")
	days, ok := w.Array("days")
	if !ok {
		return 0, errors.New("status does not tell what was written")
	}
	sum := int64(0)
	for _, e := range days {
		if day, ok := e.(ubus.Table); ok {
			sum += number(day, "bytes")
		}
	}
	return sum, nil
}

// archive has the archive run.
func (d *daemon) archive(ctx context.Context) (ubus.Table, error) {
	run, err := d.client.Call(ctx, "pakon", "archive", nil)
	if err != nil {
		return nil, d.explain(fmt.Errorf("run the archive: %w", err))
	}
	d.moved += number(run, "moved")
	return run, nil
}

// backup has live backed up.
func (d *daemon) backup(ctx context.Context) (ubus.Table, error) {
	run, err := d.client.Call(ctx, "pakon", "backup", nil)
	if err != nil {
		return nil, d.explain(fmt.Errorf("back up: %w", err))
	}
	return run, nil
}

// query is what flows are asked for, all clients' unless it says otherwise.
type query struct {
	start     time.Time // zero: from the first
	mac       household.MAC
	aggregate bool
	both      bool // directions
}

// args are the query's arguments, and others.
func (q query) args(more ...ubus.Field) ubus.Table {
	args := append(ubus.Table{{Name: "filter", Value: false}}, more...)
	if !q.start.IsZero() {
		args = append(args, ubus.Field{Name: "start", Value: q.start.Unix()})
	}
	if q.mac != (household.MAC{}) {
		args = append(args, ubus.Field{Name: "mac", Value: q.mac.String()})
	}
	if q.aggregate {
		args = append(args, ubus.Field{Name: "aggregate", Value: true})
	}
	if q.both {
		args = append(args, ubus.Field{Name: "direction", Value: "both"})
	}
	return args
}

// page reads a page of flows, and returns the cursor of the next.
func (d *daemon) page(ctx context.Context, q query, cursor string) (rows ubus.Array, next string, err error) {
	args := q.args()
	if cursor != "" {
		args = append(args, ubus.Field{Name: "cursor", Value: cursor})
	}
	reply, err := d.client.Call(ctx, "pakon", "query", args)
	if err != nil {
		return nil, "", fmt.Errorf("query flows: %w", err)
	}
	rows, ok := reply.Array("flows")
	if !ok {
		return nil, "", errors.New("the reply to a query has no flows")
	}
	next, _ = reply.String("next")
	return rows, next, nil
}

// firstPage is how long the first page takes.
func (d *daemon) firstPage(ctx context.Context, q query) (time.Duration, error) {
	return medianOf(5, func() error {
		_, _, err := d.page(ctx, q, "")
		return err
	})
}

// walk reads all flows page by page, and tells how long the first page and all
// of them took and how many flows there were. each, which may be nil, is given
// the flows.
func (d *daemon) walk(ctx context.Context, q query, each func(ubus.Table) error) (first, all time.Duration, flows int, err error) {
	began := time.Now()
	for cursor := ""; ; {
		rows, next, err := d.page(ctx, q, cursor)
		if err != nil {
			return 0, 0, 0, err
		}
		if first == 0 {
			first = time.Since(began)
		}
		flows += len(rows)
		for _, r := range rows {
			if each == nil {
				break
			}
			row, _ := r.(ubus.Table)
			if err := each(row); err != nil {
				return 0, 0, 0, err
			}
		}
		if next == "" {
			return first, time.Since(began), flows, nil
		}
		cursor = next
	}
}

// summary sums flows up, by one key or two.
func (d *daemon) summary(ctx context.Context, q query, by ...string) (ubus.Array, error) {
	args := q.args(ubus.Field{Name: "by", Value: strings.Join(by, " ")}, ubus.Field{Name: "limit", Value: int32(10_000)})
	reply, err := d.client.Call(ctx, "pakon", "summary", args)
	if err != nil {
		return nil, fmt.Errorf("sum up by %s: %w", strings.Join(by, " and "), err)
	}
	rows, ok := reply.Array("rows")
	if !ok {
		return nil, errors.New("the reply has no sums")
	}
	return rows, nil
}

// clientTotals sums up by client.
func (d *daemon) clientTotals(ctx context.Context, q query) (totals, error) {
	rows, err := d.summary(ctx, q, "client")
	if err != nil {
		return nil, err
	}
	t := make(totals)
	for _, r := range rows {
		row, _ := r.(ubus.Table)
		t.addRow(row)
	}
	return t, nil
}

// totals are what each client, by its MAC, sent and received.
type totals map[string]traffic

type traffic struct{ sent, recvd int64 }

func (t totals) add(mac string, sent, recvd int64) {
	s := t[mac]
	s.sent += sent
	s.recvd += recvd
	t[mac] = s
}

// addRow adds a row of a reply.
func (t totals) addRow(row ubus.Table) {
	mac, _ := row.String("mac")
	t.add(mac, number(row, "sent"), number(row, "recvd"))
}
