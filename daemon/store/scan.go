package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"pakon/daemon/store/block"
)

// scanned is a block of flows as scan gives it.
type scanned struct {
	*block.Block
	live bool            // they are rows of the live database
	free chan<- *scanned // where it goes when it is done with
}

// scan reads all flows that f wants, and others; of live, those of batches up to
// batch. It calls do with one block after the other, of at most blockFlows flows
// and in any order, and uses its memory again for another. An error of do ends the
// scan. Of days that daily wants, one flow may stand for all that belong together.
//
// Archive and live are read at the same time, and while do works on a block.
func (v *view) scan(ctx context.Context, f Filter, batch int64, daily func(span64) bool, do func(*scanned) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	full := make(chan *scanned)
	var sources errgroup.Group
	sources.Go(func() error { return v.scanArchive(ctx, f, daily, newExchange(ctx, full)) })
	sources.Go(func() error { return v.scanLive(ctx, f, batch, newExchange(ctx, full)) })
	var ended error
	go func() {
		ended = sources.Wait()
		close(full)
	}()
	var failed error
	for b := range full {
		if failed == nil {
			if failed = do(b); failed != nil {
				cancel()
			}
		}
		b.free <- b
	}
	return cmp.Or(failed, ended)
}

// exchange is where a source gives the block that it has filled, and gets another.
type exchange struct {
	ctx        context.Context
	full, free chan *scanned
	b          *scanned // to be filled
}

func newExchange(ctx context.Context, full chan *scanned) *exchange {
	free := make(chan *scanned, 2)
	free <- &scanned{Block: new(block.Block), free: free}
	return &exchange{ctx, full, free, &scanned{Block: new(block.Block), free: free}}
}

// give gives the block away; then b is another. The error is that of the context.
func (x *exchange) give() error {
	select {
	case x.full <- x.b:
	case <-x.ctx.Done():
		return x.ctx.Err()
	}
	select {
	case x.b = <-x.free:
		return nil
	case <-x.ctx.Done():
		return x.ctx.Err()
	}
}

// scanLive does what scan does for the live database.
func (v *view) scanLive(ctx context.Context, f Filter, batch int64, to *exchange) error {
	long, err := f.hasLong(ctx, v.live)
	if err != nil {
		return err
	}
	var c condition
	c.and("f.batch <= ?", batch)
	f.whose(&c)
	v.current(&c)
	r := newRowReader(v.live)
	// The second span, if there is one, has the older flows.
	for _, part := range slices.Backward(f.spans(0, noBound, long)) {
		query, args := selectFlows(columns, "", []span{part}, c)
		r.begin(query+" ORDER BY id", args)
		for {
			ok, err := r.next(ctx, to.b.Block)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			to.b.live = true
			if err := to.give(); err != nil {
				return errors.Join(err, r.close())
			}
		}
	}
	return nil
}

// rowReader makes blocks of rows of flows. What they refer to is looked up once
// for all flows of a block.
type rowReader struct {
	tx        querier
	query     string
	args      []any
	rows      *sql.Rows // nil before the first and after the last
	ended     bool
	endpoints refers[block.Endpoint]
	names     refers[string]
	apps      refers[string]
}

func newRowReader(tx querier) *rowReader {
	text := func(rows *sql.Rows) (i id, s string, err error) {
		err = rows.Scan(&i, &s)
		return i, s, err
	}
	return &rowReader{
		tx:    tx,
		names: newRefers("SELECT id, name FROM names", text),
		apps:  newRefers("SELECT id, name FROM apps", text),
		endpoints: newRefers("SELECT id, client, address, interface FROM endpoints", func(rows *sql.Rows) (i id, e block.Endpoint, err error) {
			var owner, address sql.RawBytes
			err = rows.Scan(&i, &owner, &address, &e.Interface)
			e.MAC, e.Address = mac(owner), addr(address)
			return i, e, err
		}),
	}
}

// readLive makes a reader of the flows for which a condition over f (flows)
// holds, in order of their ids.
func readLive(tx querier, where string, args ...any) *rowReader {
	r := newRowReader(tx)
	r.begin("SELECT "+columns+" FROM flows AS f WHERE "+where+" ORDER BY f.id", args)
	return r
}

// begin has it read what a query finds, in order of id.
func (r *rowReader) begin(query string, args []any) {
	r.query, r.args, r.rows, r.ended = query, args, nil, false
}

// close ends reading before the last block.
func (r *rowReader) close() error {
	r.ended = true
	if r.rows == nil {
		return nil
	}
	rows := r.rows
	r.rows = nil
	return rows.Close()
}

// next fills b with the next flows, at most blockFlows. It returns false if there
// are no more. Until it does, or fails, or close is called, the transaction is
// being read from.
func (r *rowReader) next(ctx context.Context, b *block.Block) (ok bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read flows: %w", errors.Join(err, r.close()))
		}
	}()
	b.Reset()
	b.Endpoints = append(b.Endpoints, block.Endpoint{}) // of number 0, as in the others
	r.endpoints.reset()
	r.names.reset()
	r.apps.reset()
	if r.ended {
		return false, nil
	}
	if r.rows == nil {
		if r.rows, err = r.tx.QueryContext(ctx, r.query, r.args...); err != nil {
			return false, err
		}
	}
	if err := r.flows(b); err != nil {
		return false, err
	}
	if len(b.Flows) < blockFlows {
		if err := r.close(); err != nil {
			return false, err
		}
	}
	if len(b.Flows) == 0 {
		return false, nil
	}
	if b.Endpoints, err = r.endpoints.read(ctx, r.tx, b.Endpoints); err != nil {
		return false, err
	}
	if b.Names, err = r.names.read(ctx, r.tx, b.Names); err != nil {
		return false, err
	}
	if b.Apps, err = r.apps.read(ctx, r.tx, b.Apps); err != nil {
		return false, err
	}
	return true, r.hours(ctx, b)
}

func (r *rowReader) flows(b *block.Block) error {
	f := block.Flow{Flows: 1}
	var facts, sent, recvd int64
	var ref references
	var remote sql.RawBytes
	into := []any{&f.ID, &f.Duration, &ref.endpoint, &ref.name, &facts, &ref.app, &remote, &sent, &recvd}
	for len(b.Flows) < blockFlows && r.rows.Next() {
		if err := r.rows.Scan(into...); err != nil {
			return err
		}
		f.Sent, f.Recvd = uint64(sent), uint64(recvd)
		f.Port, f.Proto = uint16(facts>>12), uint8(facts>>4)
		f.Source, f.Direction = uint8(facts>>1&7), uint8(facts&1)
		f.Endpoint, f.Name, f.App = r.endpoints.number(ref.endpoint), r.names.number(ref.name), r.apps.number(ref.app)
		f.Remote = b.Remote(addr(remote))
		b.Flows = append(b.Flows, f)
	}
	return r.rows.Err()
}

func (r *rowReader) hours(ctx context.Context, b *block.Block) error {
	flows := b.Flows
	rows, err := r.tx.QueryContext(ctx, "SELECT flow, hour, sent, recvd FROM hours WHERE flow BETWEEN ? AND ? ORDER BY flow, hour",
		flows[0].ID, flows[len(flows)-1].ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var flow, sent, recvd int64
		var h block.Hour
		if err := rows.Scan(&flow, &h.Start, &sent, &recvd); err != nil {
			return err
		}
		if h.Start <= flow>>idShift || h.Start%(hourLong/4) != 0 {
			continue // of a clock that was set: it counts into the first hour
		}
		for len(flows) > 0 && flows[0].ID < flow {
			flows = flows[1:]
		}
		if len(flows) == 0 || flows[0].ID != flow || flows[0].HourCount == 1<<16-1 {
			continue // of a flow that was not asked for
		}
		f := &flows[0]
		if f.HourCount == 0 {
			f.FirstHour = uint32(len(b.Hours))
		}
		f.HourCount++
		h.Sent, h.Recvd = uint64(sent), uint64(recvd)
		b.Hours = append(b.Hours, h)
	}
	return errors.Join(rows.Err(), rows.Close())
}

// maxRefers bounds the rows of a table that a scan remembers.
const maxRefers = 1 << 14

// refers are the rows of a table that flows refer to.
type refers[V any] struct {
	query   string // for all rows, the column id first
	scan    func(*sql.Rows) (id, V, error)
	known   map[id]V
	numbers map[id]uint32 // of those that are referred to in this block, from 1 on
	ids     []id          // the same, by number - 1
	lacking []id
}

func newRefers[V any](query string, scan func(*sql.Rows) (id, V, error)) refers[V] {
	return refers[V]{query: query, scan: scan, known: make(map[id]V), numbers: make(map[id]uint32)}
}

func (r *refers[V]) reset() {
	clear(r.numbers)
	r.ids = r.ids[:0]
}

// number is that of a row in this block, from 1 on; 0 for NULL.
func (r *refers[V]) number(i id) uint32 {
	if i == 0 {
		return 0
	}
	n, ok := r.numbers[i]
	if !ok {
		r.ids = append(r.ids, i)
		n = uint32(len(r.ids))
		r.numbers[i] = n
	}
	return n
}

// read appends the rows in order of their numbers. Of one that is not there, the
// zero value: what the cleaner deletes is shown by nobody.
func (r *refers[V]) read(ctx context.Context, tx querier, to []V) ([]V, error) {
	r.lacking = r.lacking[:0]
	for _, i := range r.ids {
		if _, ok := r.known[i]; !ok {
			r.lacking = append(r.lacking, i)
		}
	}
	if len(r.known)+len(r.lacking) > maxRefers {
		clear(r.known)
		r.lacking = append(r.lacking[:0], r.ids...)
	}
	if len(r.lacking) > 0 {
		if err := r.lookUp(ctx, tx); err != nil {
			return nil, err
		}
	}
	for _, i := range r.ids {
		to = append(to, r.known[i])
	}
	return to, nil
}

func (r *refers[V]) lookUp(ctx context.Context, tx querier) error {
	ids, err := json.Marshal(r.lacking)
	if err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, r.query+" WHERE id IN (SELECT value FROM json_each(?))", string(ids))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		i, v, err := r.scan(rows)
		if err != nil {
			return err
		}
		r.known[i] = v
	}
	return errors.Join(rows.Err(), rows.Close())
}
