package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"pakon/daemon/store/block"
)

// rowOf is what the row of a block says of its flows and of their data.
func rowOf(flows []block.Flow, data []byte) blockRow {
	m := blockRow{first: flows[0].ID, last: flows[len(flows)-1].ID, ends: latest(flows), flows: int64(len(flows))}
	m.mark = markOf(m, data)
	return m
}

// markOf is the mark of a block: the CRC of its data, and above it one of that and
// of what the row says of the data.
func markOf(m blockRow, data []byte) int64 {
	of := crc32.ChecksumIEEE(data)
	b := binary.LittleEndian.AppendUint32(nil, of)
	for _, n := range []int64{m.first, m.last, m.ends, m.flows} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return int64(uint64(crc32.ChecksumIEEE(b))<<32 | uint64(of))
}

// right reports whether a row says of its data what was written. Marks had been of
// the data alone: then that is not known, and holds.
func (m blockRow) right(data []byte) bool {
	mark := markOf(m, data)
	return m.mark == mark || m.mark == mark&(1<<32-1)
}

// check looks for what a damaged disk may have made of an archive whose pages are
// those of a database: rows that say something else of a block than is in it, by
// which flows would be passed over, and sums of other days. The blocks' own data has
// the truth, of which both are made anew.
func (a *archive) check(ctx context.Context) error {
	wrong, err := a.wrongBlocks(ctx)
	if err != nil {
		return fmt.Errorf("check the blocks: %w", err)
	}
	sums, err := a.rightSums(ctx)
	if err != nil {
		return fmt.Errorf("check the sums: %w", err)
	}
	if len(wrong) == 0 && sums {
		return nil
	}
	if a.readOnly {
		a.log.Error("the archive is damaged: flows may be lacking until it can be written to", "path", a.path)
		return nil
	}
	a.log.Warn("what a damaged disk has changed in the archive is made anew", "path", a.path, "blocks", len(wrong), "sums", !sums)
	err = a.transaction(ctx, func(c *sql.Conn) error {
		for first, m := range wrong {
			if _, err := c.ExecContext(ctx, "UPDATE blocks SET first = ?, last = ?, ends = ?, flows = ?, mark = ? WHERE first = ?",
				m.first, m.last, m.ends, m.flows, m.mark, first); err != nil {
				return err
			}
		}
		if sums {
			return nil
		}
		_, err := c.ExecContext(ctx, "DELETE FROM sums") // the next run makes them
		return err
	})
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return nil
}

// wrongBlocks returns what is right of the blocks whose rows say something else, by
// what they say to be the first id. Blocks of which the data is damaged are not among
// them: that is found when they are read.
func (a *archive) wrongBlocks(ctx context.Context) (wrong map[int64]blockRow, err error) {
	rows, err := a.read.QueryContext(ctx, "SELECT first, last, ends, flows, mark, data FROM blocks")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	wrong = make(map[int64]blockRow)
	var b block.Block
	var data sql.RawBytes
	for rows.Next() {
		var m blockRow
		if err := rows.Scan(&m.first, &m.last, &m.ends, &m.flows, &m.mark, &data); err != nil {
			return nil, err
		}
		if m.right(data) || block.Decode(&b, data) != nil || len(b.Flows) == 0 {
			continue
		}
		wrong[m.first] = rowOf(b.Flows, data)
	}
	return wrong, rows.Err()
}

// rightSums reports whether the sums are of days, each with all its parts up to the
// last. Days of any zone begin and end with a quarter of an hour: no bit of such a
// time can be another without that showing.
func (a *archive) rightSums(ctx context.Context) (bool, error) {
	const quarter = hourLong / 4
	var said string
	if err := a.read.QueryRowContext(ctx, "PRAGMA integrity_check(sums)").Scan(&said); err != nil || said != "ok" {
		return false, err
	}
	rows, err := a.read.QueryContext(ctx, "SELECT day, part, until FROM sums NOT INDEXED ORDER BY day, part")
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var d span64
	parts := int64(0)
	for rows.Next() {
		var from, part, until int64
		if err := rows.Scan(&from, &part, &until); err != nil {
			return false, err
		}
		if part == 0 {
			if from < d.to || from%quarter != 0 || until%quarter != 0 || until <= from || until-from > dayLong {
				return false, nil
			}
			d, parts = span64{from, until}, 0
		}
		if part != parts || from != d.from || until != d.to {
			return false, nil
		}
		parts++
	}
	return true, rows.Err()
}
