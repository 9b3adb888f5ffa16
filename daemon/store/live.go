package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"pakon/daemon/store/block"
)

// liveReader reads flows of the live database into blocks, in order of their
// ids.
type liveReader struct {
	tx    querier
	where string // a condition over f (flows)
	args  []any
	after int64 // the id of the last flow read

	// What the flows refer to, by its id in the database.
	endpoints map[id]block.Endpoint
	names     map[id]string
	apps      map[id]string
	refs      []references
}

// readLive makes a reader of the flows for which a condition over f (flows)
// holds, and whose ids are lo or greater.
func readLive(tx querier, lo int64, where string, args ...any) *liveReader {
	return &liveReader{
		tx: tx, where: where, args: args, after: lo - 1,
		endpoints: make(map[id]block.Endpoint), names: make(map[id]string), apps: make(map[id]string),
	}
}

// next fills b with the next flows, at most blockFlows. It returns false if
// there are no more.
func (r *liveReader) next(ctx context.Context, b *block.Block) (bool, error) {
	b.Reset()
	r.refs = r.refs[:0]
	if err := r.flows(ctx, b); err != nil {
		return false, fmt.Errorf("read live flows: %w", err)
	}
	if len(b.Flows) == 0 {
		return false, nil
	}
	if err := r.resolve(ctx, b); err != nil {
		return false, fmt.Errorf("read what live flows refer to: %w", err)
	}
	first := b.Flows[0].ID
	r.after = b.Flows[len(b.Flows)-1].ID
	if err := r.hours(ctx, b, first, r.after); err != nil {
		return false, fmt.Errorf("read the hours of live flows: %w", err)
	}
	return true, nil
}

func (r *liveReader) flows(ctx context.Context, b *block.Block) error {
	args := append([]any{r.after}, r.args...)
	rows, err := r.tx.QueryContext(ctx, `SELECT f.id, f.duration, f.endpoint, f.name, f.facts, f.app, f.remote, f.sent, f.recvd
		FROM flows AS f WHERE f.id > ? AND `+r.where+` ORDER BY f.id LIMIT ?`, append(args, blockFlows)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var f block.Flow
	var facts, sent, recvd int64
	var ref references
	var remote sql.RawBytes
	columns := []any{&f.ID, &f.Duration, &ref.endpoint, &ref.name, &facts, &ref.app, &remote, &sent, &recvd}
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return err
		}
		f.Sent, f.Recvd, f.Flows = uint64(sent), uint64(recvd), 1
		f.Port, f.Proto = uint16(facts>>12), uint8(facts>>4)
		f.Source, f.Direction = uint8(facts>>1&7), uint8(facts&1)
		f.Remote = b.Remote(addr(remote))
		b.Flows = append(b.Flows, f)
		r.refs = append(r.refs, ref)
	}
	return errors.Join(rows.Err(), rows.Close())
}

func (r *liveReader) resolve(ctx context.Context, b *block.Block) error {
	for i := range b.Flows {
		f, ref := &b.Flows[i], r.refs[i]
		e, ok := r.endpoints[ref.endpoint]
		if !ok {
			var owner, address []byte
			err := r.tx.QueryRowContext(ctx, "SELECT client, address, interface FROM endpoints WHERE id = ?", int64(ref.endpoint)).
				Scan(&owner, &address, &e.Interface)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			e.MAC, e.Address = mac(owner), addr(address)
			r.endpoints[ref.endpoint] = e
		}
		name, err := r.text(ctx, r.names, ref.name, "SELECT name FROM names WHERE id = ?")
		if err != nil {
			return err
		}
		app, err := r.text(ctx, r.apps, ref.app, "SELECT name FROM apps WHERE id = ?")
		if err != nil {
			return err
		}
		f.Endpoint, f.Name, f.App = b.Endpoint(e), b.Name(name), b.App(app)
	}
	return nil
}

func (r *liveReader) text(ctx context.Context, known map[id]string, i id, query string) (string, error) {
	if i == 0 {
		return "", nil
	}
	s, ok := known[i]
	if !ok {
		err := r.tx.QueryRowContext(ctx, query, int64(i)).Scan(&s)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return "", err
		}
		known[i] = s
	}
	return s, nil
}

func (r *liveReader) hours(ctx context.Context, b *block.Block, first, last int64) error {
	rows, err := r.tx.QueryContext(ctx, "SELECT flow, hour, sent, recvd FROM hours WHERE flow BETWEEN ? AND ? ORDER BY flow, hour", first, last)
	if err != nil {
		return err
	}
	defer rows.Close()
	at := 0
	for rows.Next() {
		var flow, sent, recvd int64
		var h block.Hour
		if err := rows.Scan(&flow, &h.Start, &sent, &recvd); err != nil {
			return err
		}
		for at < len(b.Flows) && b.Flows[at].ID < flow {
			at++
		}
		if at == len(b.Flows) || b.Flows[at].ID != flow {
			continue // of one that is not meant
		}
		f := &b.Flows[at]
		if f.HourCount == 0 {
			f.FirstHour = uint32(len(b.Hours))
		}
		h.Sent, h.Recvd = uint64(sent), uint64(recvd)
		b.Hours = append(b.Hours, h)
		f.HourCount++
	}
	return errors.Join(rows.Err(), rows.Close())
}
