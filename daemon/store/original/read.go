package original

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"pakon/daemon/flow"
)

// slice is how many flows Read yields at a time, at most.
const slice = 1000

// Flow is a flow of the original.
type Flow struct {
	// Flow is of State Whole and Direction Out. Client, ClientAddr, Remote, Proto,
	// Name and App are zero where they are not known, or differed between flows
	// that were merged. What told the name is not known.
	Flow     flow.Flow
	Level    int // of the archive: by how many of its rules it was merged; 0 to 255
	Position Position
}

// Position is a flow's place in the order of Read. The zero Position is before
// all.
type Position struct {
	Start int64 // Unix ms
	Row   int64 // rowid
}

// String is the position as ParsePosition reads it.
func (p Position) String() string { return fmt.Sprintf("%d.%d", p.Start, p.Row) }

// ParsePosition reads what String wrote.
func ParsePosition(s string) (Position, error) {
	a, b, ok := strings.Cut(s, ".")
	start, err1 := strconv.ParseInt(a, 10, 64)
	row, err2 := strconv.ParseInt(b, 10, 64)
	if err := errors.Join(err1, err2); !ok || err != nil {
		return Position{}, fmt.Errorf("position %q: want two numbers like 1500000000000.1", s)
	}
	return Position{start, row}, nil
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Start, q.Start), cmp.Compare(p.Row, q.Row))
}

// Read yields the flows after from, in order of their positions, at most 1000 at a
// time; do must not keep the slice. It ends with the first error of do, as it is.
//
// Rows that have no start or bytes that make sense are left out: see Skipped. Of
// a damaged file all that can be read is yielded, and then the error wraps
// ErrDamaged. The order is made first, so a Read that goes on after an
// interruption looks at all starts again, but only at the other columns of what
// is left.
func (d *Database) Read(ctx context.Context, from Position, do func([]Flow) error) error {
	d.skipped = Skipped{}
	order := order{dir: d.tempDir, runLength: runLength}
	defer order.close()
	gaps, err := d.scan(ctx, func(rowid int64, start any) error {
		ms, ok := millis(start)
		if !ok {
			d.skipped.Start++
			return nil
		}
		if p := (Position{ms, rowid}); from == (Position{}) || p.compare(from) > 0 {
			return order.add(p)
		}
		return nil
	})
	d.skipped.Gaps = gaps
	if err != nil {
		return fmt.Errorf("put the rows of %s in order: %w", d.path, err)
	}
	if err := order.sort(); err != nil {
		return fmt.Errorf("put the rows of %s in order: %w", d.path, err)
	}
	at := make([]Position, 0, slice)
	flows := make([]Flow, 0, slice)
	for {
		at = at[:0]
		for len(at) < slice {
			p, ok, err := order.next()
			if err != nil {
				return fmt.Errorf("order of the rows of %s: %w", d.path, err)
			}
			if !ok {
				break
			}
			at = append(at, p)
		}
		if len(at) == 0 {
			break
		}
		if flows, err = d.rows(ctx, flows[:0], at); err != nil {
			return fmt.Errorf("read %s: %w", d.path, err)
		}
		if len(flows) == 0 {
			continue
		}
		if err := do(flows); err != nil {
			return err
		}
	}
	if d.skipped.Gaps > 0 || d.skipped.Lost > 0 {
		return fmt.Errorf("read %s: %w: %d rows and what was in %d places can not be read",
			d.path, ErrDamaged, d.skipped.Lost, d.skipped.Gaps)
	}
	return nil
}

// rows appends the flows of the rows at the positions.
func (d *Database) rows(ctx context.Context, flows []Flow, at []Position) ([]Flow, error) {
	n := len(flows)
	before := d.skipped
	flows, err := d.rowsAtOnce(ctx, flows, at)
	if !isDamage(err) {
		return flows, err
	}
	d.skipped = before
	if len(at) == 1 {
		d.skipped.Lost++
		return flows[:n], nil
	}
	flows = flows[:n]
	for i := range at {
		if flows, err = d.rows(ctx, flows, at[i:i+1]); err != nil {
			return flows, err
		}
	}
	return flows, nil
}

func (d *Database) rowsAtOnce(ctx context.Context, flows []Flow, at []Position) ([]Flow, error) {
	list := []byte("[")
	for i, p := range at {
		if i > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendInt(list, p.Row, 10)
	}
	list = append(list, ']')
	rows, err := d.conn.QueryContext(ctx, "SELECT j.key, "+d.columns+
		" FROM json_each(?) AS j CROSS JOIN traffic ON traffic.rowid = j.value ORDER BY j.key", string(list))
	if err != nil {
		return flows, err
	}
	defer rows.Close()
	var r row
	var key int64
	dest := append([]any{&key}, r.dest()...)
	missing := int64(len(at))
	for ; rows.Next(); missing-- {
		if err := rows.Scan(dest...); err != nil {
			return flows, err
		}
		if f, ok := r.flow(at[key]); ok {
			flows = append(flows, f)
		} else {
			d.skipped.Bytes++
		}
	}
	if err := rows.Err(); err != nil {
		return flows, err
	}
	d.skipped.Lost += missing // where a damaged page leads a search astray
	return flows, nil
}

// scan calls do with the rowid and the start of all rows that can be read, in
// order of their rowids, and tells how many gaps there are between them.
func (d *Database) scan(ctx context.Context, do func(rowid int64, start any) error) (gaps int64, err error) {
	from := int64(math.MinInt64)
	for {
		end, next, err := d.scanFrom(ctx, from, do)
		if end || err != nil && !isDamage(err) && !errors.Is(err, errOrder) {
			return gaps, err
		}
		gaps++
		if from, end, err = d.afterGap(ctx, next); end || err != nil {
			return gaps, err
		}
	}
}

// errOrder is for rows that a damaged file has in the wrong place.
var errOrder = errors.New("rows are not in order")

// scanFrom calls do for the rows from a rowid on. It tells whether it came to the
// end, else from where to go on.
func (d *Database) scanFrom(ctx context.Context, from int64, do func(int64, any) error) (end bool, next int64, err error) {
	rows, err := d.conn.QueryContext(ctx, "SELECT rowid, "+d.start+" FROM traffic NOT INDEXED WHERE rowid >= ? ORDER BY rowid", from)
	if err != nil {
		return false, from, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var start any
		if err := rows.Scan(&id, &start); err != nil {
			return false, from, err
		}
		if id < from {
			return false, from, errOrder
		}
		if err := do(id, start); err != nil {
			return false, from, err
		}
		if id == math.MaxInt64 {
			return true, from, nil
		}
		from = id + 1
	}
	return rows.Err() == nil, from, rows.Err()
}

// afterGap returns the first rowid from which on rows can be read again, given
// one from which they can not; or tells that there is none.
func (d *Database) afterGap(ctx context.Context, bad int64) (from int64, end bool, err error) {
	good := bad
	for step := int64(1); ; step *= 2 {
		if step < 0 || good > math.MaxInt64-step {
			return 0, true, nil
		}
		good += step
		if ok, err := d.readable(ctx, good); err != nil {
			return 0, false, err
		} else if ok {
			break
		}
		bad = good
	}
	for bad+1 < good {
		middle := bad + (good-bad)/2
		ok, err := d.readable(ctx, middle)
		if err != nil {
			return 0, false, err
		}
		if ok {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, false, nil
}

// readable tells whether the row with the rowid, or the next if there is none,
// can be read, its start too; or that there is none.
func (d *Database) readable(ctx context.Context, rowid int64) (bool, error) {
	rows, err := d.conn.QueryContext(ctx, "SELECT rowid, "+d.start+" FROM traffic NOT INDEXED WHERE rowid >= ? ORDER BY rowid LIMIT 1", rowid)
	if err == nil {
		defer rows.Close()
		id := rowid
		var start any
		if rows.Next() {
			if err := rows.Scan(&id, &start); err != nil {
				return false, err
			}
		}
		if id < rowid {
			return false, nil
		}
		err = rows.Err()
	}
	if isDamage(err) {
		return false, nil
	}
	return err == nil, err
}
