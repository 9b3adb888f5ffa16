package show

import (
	"context"
	"encoding/csv"
	"errors"
	"slices"
	"strconv"
	"strings"

	"pakon/ubus"
)

// summaryRows is how many rows are asked for without --limit.
const summaryRows = 10000

// summary prints sums by the keys of --by.
func (c *command) summary(ctx context.Context, o *showOptions) error {
	args, err := c.arguments(o)
	if err != nil {
		return err
	}
	keys := strings.Split(o.by, ",")
	by := make(ubus.Array, len(keys))
	for i, k := range keys {
		by[i] = k
	}
	limit := int64(summaryRows)
	if o.limit > 0 {
		limit = min(limit, o.limit)
	}
	reply, err := c.call(ctx, "summary", append(args,
		ubus.Field{Name: "by", Value: by}, ubus.Field{Name: "limit", Value: int32(limit)}))
	if err != nil {
		return err
	}
	rows, ok := reply.Array("rows")
	if !ok {
		return errors.New("the daemon's answer has no rows: is it of the same version?")
	}
	heading := append(keys[:len(keys):len(keys)], "flows", "dur", "sent", "recvd", "unnamed")
	hides := o.hidesBytes(keys)
	if hides {
		heading = append(heading, "hidden")
	}
	switch {
	case c.json:
		_, err = c.out.Write(append(appendJSON(nil, rows), '\n'))
	case o.csv:
		err = c.summaryCSV(keys, heading, rows)
	default:
		t := newTable(c.out, "no records to show", heading...)
		for _, v := range rows {
			row, _ := v.(ubus.Table)
			n := readSums(row)
			cells := append(keyCells(row, keys, true), strconv.FormatInt(n.flows, 10), seconds(n.duration), size(n.sent), size(n.recvd), share(n.unnamed, n.sent+n.recvd))
			if hides {
				cells = append(cells, size(n.hidden))
			}
			t.add(cells...)
		}
		err = t.end()
	}
	if err = errors.Join(err, c.tellHidden(o, readHidden(reply))); err != nil {
		return err
	}
	if truncated, _ := reply.Bool("truncated"); truncated {
		_, err = c.errOut.Write([]byte(c.name + ": the rows above are not all, as one answer holds no more: ask for a shorter time or use filters\n"))
	}
	return err
}

// hidesBytes tells whether the sums say how many bytes of each are hidden.
func (o *showOptions) hidesBytes(keys []string) bool {
	return !o.noFilter && slices.Contains(keys, "client") && !slices.Contains(keys, "hostname")
}

func (c *command) summaryCSV(keys, heading []string, rows ubus.Array) error {
	w := csv.NewWriter(c.out)
	w.UseCRLF = true
	err := w.Write(heading)
	for _, v := range rows {
		row, _ := v.(ubus.Table)
		n := readSums(row)
		cells := keyCells(row, keys, false)
		for _, i := range []int64{n.flows, n.duration, n.sent, n.recvd, n.unnamed, n.hidden} {
			cells = append(cells, strconv.FormatInt(i, 10))
		}
		cells = cells[:len(heading)]
		err = errors.Join(err, w.Write(csvCells(cells)))
	}
	w.Flush()
	return errors.Join(err, w.Error())
}

// keyCells are the values of the keys; in a table names are shortened.
func keyCells(row ubus.Table, keys []string, short bool) []string {
	cells := make([]string, len(keys))
	for i, k := range keys {
		s, _ := row.String(k)
		if k == "hostname" && s == "" {
			s = "?"
		}
		if k == "hostname" && short {
			s = shortHost(clean(s))
		}
		cells[i] = s
	}
	return cells
}

// sums are those of a row; unnamed are the bytes, sent and received, to far ends of
// which only address and port are known, hidden those that the lists have left out.
type sums struct{ flows, duration, sent, recvd, unnamed, hidden int64 }

func readSums(row ubus.Table) sums {
	var s sums
	s.flows, _ = row.Int("flows")
	s.duration, _ = row.Int("duration")
	s.sent, _ = row.Int("sent")
	s.recvd, _ = row.Int("recvd")
	s.unnamed, _ = row.Int("unnamed")
	s.hidden, _ = row.Int("hidden")
	return s
}
