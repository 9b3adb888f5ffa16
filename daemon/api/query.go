package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store"
	"pakon/ubus"
)

// A reply ends early, with a cursor, once it has replyBytes. Flows are fetched
// in chunks, so it exceeds that by one chunk at most: 300 flows of at most five
// strings of 255 bytes stay below the limit of the bus of 1 MiB.
const (
	replyBytes = 512 << 10
	chunkFlows = 300
)

// sortKeys are the keys by which flows are sorted; "-" in front: descending.
var sortKeys = []struct {
	name string
	key  store.Key
}{
	{"time", store.ByTime},
	{"sent", store.BySent},
	{"recvd", store.ByRecvd},
	{"total", store.ByTotal},
	{"duration", store.ByDuration},
}

func (a *API) query(ctx context.Context, args ubus.Table, b *ubus.Builder) error {
	q, w, err := a.readQuery(args)
	if err != nil {
		return err
	}
	left, err := limit(args)
	if err != nil {
		return err
	}
	counted, err := boolean(args, "count", false)
	if err != nil {
		return err
	}
	first := q.Cursor == ""
	next, empty := "", first
	n := names{lists: a.Lists()}
	b.Array("flows")
	for !w.none {
		q.Limit = min(left, chunkFlows)
		page, err := a.Store.Flows(ctx, q)
		if errors.Is(err, store.ErrCursor) {
			return wrongCursor(args)
		}
		if err != nil {
			return fmt.Errorf("reading flows: %w", err)
		}
		for i := range page.Rows {
			r := &page.Rows[i]
			a.appendFlow(b, r)
			if q.Aggregate {
				b.Int("flows", r.Flows)
			}
			if q.All {
				n.appendHidden(b, r)
			}
			b.Close()
			n.use(r.Group)
		}
		empty = empty && len(page.Rows) == 0
		next, q.Cursor = page.Next, page.Next
		left -= len(page.Rows)
		if next == "" || len(page.Rows) == 0 || left <= 0 || b.Len() >= replyBytes {
			break
		}
	}
	if empty {
		if err := a.elsewhere(w.Clients); err != nil {
			return err
		}
	}
	b.Close()
	n.appendGroups(b)
	if next != "" {
		b.String("next", w.cursor(next))
	}
	// To count takes all flows to be read: it is done unasked where they were anyway.
	if counted || first && next == "" && !q.All {
		return a.appendCounts(ctx, b, &w, counted)
	}
	return nil
}

// appendCounts appends what there is of all that matches, if total is set, and what
// of it is hidden.
func (a *API) appendCounts(ctx context.Context, b *ubus.Builder, w *window, total bool) error {
	var wanted, hidden store.Count
	if !w.none {
		var err error
		if wanted, hidden, err = a.Store.Count(ctx, w.Filter); err != nil {
			return fmt.Errorf("counting flows: %w", err)
		}
	}
	if total {
		b.Table("total")
		b.Int("flows", wanted.Flows)
		b.Int("sent", count(wanted.Sent))
		b.Int("recvd", count(wanted.Recvd))
		b.Close()
	}
	if !w.All {
		appendHiddenCount(b, hidden)
	}
	return nil
}

// appendHiddenCount appends what the lists have left out.
func appendHiddenCount(b *ubus.Builder, hidden store.Count) {
	b.Table("hidden")
	b.Int("flows", hidden.Flows)
	b.Int("bytes", count(hidden.Sent+hidden.Recvd))
	b.Close()
}

// readQuery reads the arguments of query but the limit.
func (a *API) readQuery(args ubus.Table) (q store.Query, w window, err error) {
	if w, err = a.filter(args); err != nil {
		return q, w, err
	}
	if v, ok := given(args, "cursor"); ok {
		s, _ := v.(string)
		if q.Cursor, ok = w.resume(s); !ok {
			return q, w, wrongCursor(args)
		}
	}
	q.Filter = w.Filter
	if q.Aggregate, err = boolean(args, "aggregate", false); err != nil {
		return q, w, err
	}
	q.Sort, q.Descending, err = sorting(args)
	return q, w, err
}

func wrongCursor(args ubus.Table) error {
	v, _ := args.Get("cursor")
	return wrong("cursor", v, "next of the last reply to a query with the same arguments")
}

// cursor makes a cursor of the store's. Where the window moves with the clock,
// it says which window the first page was of: all others are of the same.
func (w *window) cursor(next string) string {
	if !w.start.relative && !w.end.relative {
		return next
	}
	return fmt.Sprintf("%d:%d:%s", w.Start, w.End, next)
}

// resume is the reverse of cursor: it returns the store's and takes over the
// bounds that move.
func (w *window) resume(cursor string) (next string, ok bool) {
	if len(cursor) > maxCursor {
		return "", false
	}
	if !w.start.relative && !w.end.relative {
		return cursor, cursor != ""
	}
	start, rest, ok1 := strings.Cut(cursor, ":")
	end, next, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 {
		return "", false
	}
	for _, b := range []struct {
		text string
		from bound
		to   *int64
	}{{start, w.start, &w.Start}, {end, w.end, &w.End}} {
		ms, err := strconv.ParseInt(b.text, 10, 64)
		if err != nil || ms < 0 {
			return "", false
		}
		if b.from.relative {
			*b.to = ms
		}
	}
	return next, next != ""
}

// sorting reads the order of flows.
func sorting(args ubus.Table) (key store.Key, descending bool, err error) {
	v, ok := given(args, "sort")
	if !ok {
		return store.ByTime, false, nil
	}
	s, _ := v.(string)
	name, descending := strings.CutPrefix(strings.ToLower(s), "-")
	for _, k := range sortKeys {
		if k.name == name {
			return k.key, descending, nil
		}
	}
	return 0, false, wrong("sort", v, "time, sent, recvd, total or duration, with - in front for descending order")
}

// appendFlow opens a table in the array that is open and puts a flow in it.
func (a *API) appendFlow(b *ubus.Builder, r *store.Row) {
	name, _ := a.Clients.NameAt(r.Client, r.ClientAddr)
	b.Table("")
	b.Int("start", floorSecond(r.Start))
	b.Int("duration", r.Duration)
	b.String("client", bounded(clientLabel(name, r.Client, r.ClientAddr)))
	b.String("mac", r.Client.String())
	b.String("hostname", bounded(r.Name))
	b.String("address", address(r))
	b.String("group", bounded(r.Group))
	b.String("source", r.Source.String())
	b.Int("port", int64(r.Port))
	b.String("proto", protocol(r.Proto))
	b.String("app_proto", bounded(r.App))
	b.Int("sent", count(r.Sent))
	b.Int("recvd", count(r.Recvd))
	b.Bool("running", r.State == flow.Running)
	if r.Direction == flow.In {
		b.String("direction", r.Direction.String())
	}
}

// clientLabel is what a client is called in lists: its name, else its MAC, else
// its address.
func clientLabel(name string, mac client.MAC, addr netip.Addr) string {
	switch {
	case name != "":
		return name
	case !mac.IsZero():
		return mac.String()
	case addr.IsValid():
		return addr.String()
	}
	return ""
}

// address is the far end's, "" where flows to several were merged.
func address(r *store.Row) string {
	if !r.Remote.IsValid() {
		return ""
	}
	return r.Remote.String()
}

// protocol is the transport protocol as users write it; "" where flows of both
// were merged.
func protocol(p uint8) string {
	switch p {
	case flow.TCP:
		return "tcp"
	case flow.UDP:
		return "udp"
	case 0:
		return ""
	}
	return fmt.Sprint(p)
}

// floorSecond is the Unix second of a time in milliseconds.
func floorSecond(ms int64) int64 {
	s := ms / 1000
	if ms%1000 < 0 {
		s--
	}
	return s
}

// count is a number of bytes as the bus can carry it.
func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// bounded cuts a string to what rows have room for. Names are shorter already.
func bounded(s string) string {
	if len(s) > maxString {
		return strings.ToValidUTF8(s[:maxString], "")
	}
	return s
}
