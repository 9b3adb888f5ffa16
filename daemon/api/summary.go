package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pakon/daemon/store"
	"pakon/ubus"
)

// timeKey is a period that flows may be summed by.
type timeKey struct {
	name   string
	layout string // of its start in the router's zone, by which it is called
	start  func(*store.SummaryRow) int64
}

var timeKeys = []timeKey{
	{"hour", "2006-01-02 15:04", func(r *store.SummaryRow) int64 { return r.Hour }},
	{"day", "2006-01-02", func(r *store.SummaryRow) int64 { return r.Day }},
	{"week", "2006-01-02", func(r *store.SummaryRow) int64 { return r.Week }},
	{"month", "2006-01", func(r *store.SummaryRow) int64 { return r.Month }},
}

func (a *API) summary(ctx context.Context, args ubus.Table, b *ubus.Builder) error {
	w, err := a.filter(args)
	if err != nil {
		return err
	}
	q := store.SummaryQuery{Filter: w.Filter, Location: a.Location()}
	if q.By, err = summaryKeys(args); err != nil {
		return err
	}
	if q.Limit, err = limit(args); err != nil {
		return err
	}
	var rows []store.SummaryRow
	var hidden store.Count
	if !w.none {
		if rows, hidden, err = a.Store.Summary(ctx, q); err != nil {
			return fmt.Errorf("summing flows: %w", err)
		}
	}
	if len(rows) == 0 {
		if err := a.elsewhere(w.Clients); err != nil {
			return err
		}
	}
	b.Array("rows")
	names := names{lists: a.Lists()}
	n := 0
	for n < len(rows) && b.Len() < replyBytes {
		a.appendSum(b, &rows[n], &q)
		names.use(rows[n].Hostname)
		n++
	}
	b.Close()
	names.appendGroups(b)
	if n < len(rows) {
		b.Bool("truncated", true)
	}
	if !q.All {
		appendHiddenCount(b, hidden)
	}
	return nil
}

// summaryKeys reads by what flows are summed; commas separate like white space.
func summaryKeys(args ubus.Table) ([]string, error) {
	const want = "one or two of client, hostname, hour, day, week, month"
	if s, ok := args.String("by"); ok {
		args = ubus.Table{{Name: "by", Value: strings.ReplaceAll(s, ",", " ")}}
	}
	by, err := list(args, "by", want, maxString)
	if err != nil {
		return nil, err
	}
	if by == nil {
		return []string{"client"}, nil
	}
	for i, k := range by {
		isTime := slices.ContainsFunc(timeKeys, func(t timeKey) bool { return t.name == k })
		if i > 1 || !isTime && k != "client" && k != "hostname" || slices.Contains(by[:i], k) {
			return nil, wrong("by", strings.Join(by, ","), want)
		}
	}
	return by, nil
}

// appendSum appends a row: its keys, with "mac" beside "client" and the Unix
// time "start" beside a period, and its sums.
func (a *API) appendSum(b *ubus.Builder, r *store.SummaryRow, q *store.SummaryQuery) {
	by := q.By
	b.Table("")
	if slices.Contains(by, "client") {
		name, _ := a.Clients.NameAt(r.Client, r.ClientAddr)
		b.String("client", bounded(clientLabel(name, r.Client, r.ClientAddr)))
		b.String("mac", r.Client.String())
	}
	if slices.Contains(by, "hostname") {
		b.String("hostname", bounded(r.Hostname))
	}
	start := int64(0)
	for _, k := range timeKeys {
		if slices.Contains(by, k.name) {
			ms := k.start(r)
			b.String(k.name, time.UnixMilli(ms).In(q.Location).Format(k.layout))
			start = max(start, ms)
		}
	}
	if start > 0 {
		b.Int("start", floorSecond(start))
	}
	b.Int("sent", count(r.Sent))
	b.Int("recvd", count(r.Recvd))
	b.Int("unnamed", count(r.Unnamed))
	if !q.All && slices.Contains(by, "client") && !slices.Contains(by, "hostname") {
		b.Int("hidden", count(r.Hidden))
	}
	b.Int("flows", r.Flows)
	b.Int("duration", r.Duration)
	b.Close()
}
