package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"pakon/daemon/clock"
	"pakon/daemon/store/block"
)

// ArchiveRun tells what a run of the archive has done: numbers of rows, and
// bytes.
type ArchiveRun struct {
	Moved   int64 // flows that left live
	Merged  int64 // flows that became part of others
	Dropped int64 // flows of fewer bytes than the threshold of their level
	Expired int64 // flows that were too old, or too many
	Written int64 // bytes written to the archive's disk
	Took    time.Duration
}

// mergeFlows bounds the flows that are held in memory to be merged. Of a day
// that has more, those of one part are not merged with those of another.
const mergeFlows = 1 << 15

// deleteSlice is how many flows that have been moved are deleted from live at
// once: flows that come in wait for it.
const deleteSlice = 4000

// Archive moves the flows of live that began more than a day before now to the
// archive, and puts it in the state that its rules demand of flows of their age:
// what is merged, dropped or deleted for it is only what is old at age.Until. It
// goes day by day and level by level; each step is a transaction, so that it can
// end anywhere. Flows are added and queries answered meanwhile. now must be of a
// clock that is set.
func (s *Store) Archive(ctx context.Context, now time.Time, age clock.Age) (run ArchiveRun, err error) {
	s.running.Lock()
	defer s.running.Unlock()
	began := time.Now()
	a, err := s.attachArchive(ctx, true)
	if err != nil {
		s.noteRun(run, err)
		return run, err
	}
	r := &archiver{s: s, a: a, now: now.UnixMilli(), age: age, config: *s.config.Load(), location: s.location(), hour: s.hourStart()}
	err = errors.Join(r.steps(ctx), r.unsettled)
	r.run.Took = time.Since(began)
	if Damaged(err) {
		// It is looked at when it is opened again.
		err = errors.Join(err, s.detachArchive())
	}
	// Also what a run that failed has written is told.
	s.noteRun(r.run, err)
	if err != nil {
		return r.run, fmt.Errorf("archive flows in %s: %w", a.path, err)
	}
	return r.run, nil
}

// hourStart gives the start of the hour in which a time lies, both Unix ms.
func (s *Store) hourStart() func(int64) int64 {
	_, offset := time.Now().In(s.location()).Zone()
	after := ((-int64(offset)*1000)%hourLong + hourLong) % hourLong
	return func(ms int64) int64 { return ms - ((ms-after)%hourLong+hourLong)%hourLong }
}

// archiver is a run.
type archiver struct {
	s        *Store
	a        *archive
	now      int64 // Unix ms
	age      clock.Age
	config   ArchiveConfig
	location *time.Location
	hour     func(int64) int64
	days     []span64
	run      ArchiveRun

	in        block.Block // the block that is being read
	unsettled error       // why what was written last is in the WAL only
}

// span64 is a span of time [from, to), in Unix ms.
type span64 struct{ from, to int64 }

func (r *archiver) steps(ctx context.Context) error {
	if err := r.s.finishSlice(ctx, r.a); err != nil {
		return err
	}
	if err := r.checkLevels(ctx); err != nil {
		return err
	}
	var err error
	if r.days, err = r.a.days(ctx, r.a.write); err != nil {
		return err
	}
	if err := r.repairSums(ctx); err != nil {
		return err
	}
	for more := true; more; {
		if more, err = r.moveSlice(ctx); err != nil {
			return err
		}
	}
	if err := r.sumDays(ctx); err != nil {
		return err
	}
	for level := range r.config.Rules {
		for more := true; more; {
			if more, err = r.raise(ctx, level+1); err != nil {
				return err
			}
		}
	}
	if err := r.expire(ctx); err != nil {
		return err
	}
	if err := r.limit(ctx); err != nil {
		return err
	}
	return r.finish(ctx)
}

// finish notes that the run has come to its end, and forgets what no part of the
// backup needs any more.
func (r *archiver) finish(ctx context.Context) error {
	days := make(map[int64]int64)
	if err := r.s.writtenBy(ctx, r.s.read, days); err != nil {
		return err
	}
	dir, err := r.s.backupDir()
	if err != nil {
		return err
	}
	needed := int64(1<<63 - 1)
	for _, i := range dir.Segments() {
		if i.Err == nil {
			needed = min(needed, i.Slice)
		}
	}
	return r.step(ctx, func(c *sql.Conn) error {
		for d, n := range days {
			_, err := c.ExecContext(ctx, "INSERT INTO written VALUES (?, ?) ON CONFLICT DO UPDATE SET bytes = max(bytes, excluded.bytes)", d, n)
			if err != nil {
				return fmt.Errorf("note what was written: %w", err)
			}
		}
		_, err := c.ExecContext(ctx, "DELETE FROM written WHERE day NOT IN (SELECT day FROM written ORDER BY day DESC LIMIT ?)", writtenDays)
		if err != nil {
			return fmt.Errorf("forget what was written long ago: %w", err)
		}
		// The last is needed until live has followed, which it has.
		_, err = c.ExecContext(ctx, "DELETE FROM moved WHERE slice <= ? AND slice < (SELECT slice FROM state)", needed)
		if err != nil {
			return fmt.Errorf("forget slices: %w", err)
		}
		_, err = c.ExecContext(ctx, "UPDATE state SET ran = ?, aged = ?, boot = ?, uptime = ?", r.now, r.age.Until, r.age.Boot, r.age.Uptime)
		return err
	})
}

// step is one transaction of the run.
func (r *archiver) step(ctx context.Context, f func(*sql.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	before := r.run
	// One that has begun is done in a moment.
	ctx = context.WithoutCancel(ctx)
	err := r.a.transaction(ctx, f)
	if err != nil {
		r.run = before
		return err
	}
	written, err := r.a.settle(ctx)
	r.run.Written += written
	// It is done in any case: what follows from it must be, too.
	r.unsettled = errors.Join(err, r.s.noteWritten(ctx, written))
	return nil
}

// days are the days that have sums, in order.
func (a *archive) days(ctx context.Context, q querier) ([]span64, error) {
	rows, err := q.QueryContext(ctx, "SELECT day, until FROM sums WHERE part = 0 ORDER BY day")
	if err != nil {
		return nil, fmt.Errorf("list days of %s: %w", a.path, err)
	}
	defer rows.Close()
	var days []span64
	for rows.Next() {
		var d span64
		if err := rows.Scan(&d.from, &d.to); err != nil {
			return nil, fmt.Errorf("list days of %s: %w", a.path, err)
		}
		days = append(days, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list days of %s: %w", a.path, err)
	}
	return days, nil
}

// dayOf is the day in which a time lies: one that the archive has, or one of the
// router's zone. The zone may have been another when a day was begun.
func (r *archiver) dayOf(ms int64) span64 {
	i, _ := slices.BinarySearchFunc(r.days, ms, func(d span64, ms int64) int {
		if d.to <= ms {
			return -1
		}
		return 1
	})
	if i < len(r.days) && r.days[i].from <= ms {
		return r.days[i]
	}
	from, to := day.period(time.UnixMilli(ms).In(r.location))
	d := span64{from.UnixMilli(), to.UnixMilli()}
	if i > 0 {
		d.from = max(d.from, r.days[i-1].to)
	}
	if i < len(r.days) {
		d.to = min(d.to, r.days[i].from)
	}
	r.days = slices.Insert(r.days, i, d)
	return d
}

// checkLevels puts all flows back to the lowest level if the rules changed so
// that one does not exist any more.
func (r *archiver) checkLevels(ctx context.Context) error {
	var highest int
	if err := r.a.write.QueryRowContext(ctx, "SELECT coalesce(max(level), 0) FROM blocks").Scan(&highest); err != nil {
		return fmt.Errorf("find the levels: %w", err)
	}
	if highest <= len(r.config.Rules) {
		return nil
	}
	return r.step(ctx, func(c *sql.Conn) error {
		_, err := c.ExecContext(ctx, "UPDATE blocks SET level = 0")
		return err
	})
}

// sumDays makes the sums of days that are over and got none: nothing of them came
// any more when they were.
func (r *archiver) sumDays(ctx context.Context) error {
	summed, err := r.a.days(ctx, r.a.write)
	if err != nil {
		return err
	}
	metas, err := r.a.metas(ctx, r.a.write, 0, 1<<63-1)
	if err != nil {
		return err
	}
	for _, m := range metas {
		d := r.dayOf(m.first >> idShift)
		if _, ok := dayIn(summed, d.from); ok || d.to > r.left() {
			continue
		}
		if err := r.step(ctx, func(c *sql.Conn) error { return r.sumUp(ctx, c, d) }); err != nil {
			return fmt.Errorf("sum up the day from %d: %w", d.from, err)
		}
		if summed, err = r.a.days(ctx, r.a.write); err != nil {
			return err
		}
	}
	return nil
}

// repairSums makes sums anew that were found to be damaged.
func (r *archiver) repairSums(ctx context.Context) error {
	r.a.damage.mu.Lock()
	days := slices.Collect(maps.Keys(r.a.damage.days))
	r.a.damage.mu.Unlock()
	for _, from := range days {
		if err := r.step(ctx, func(c *sql.Conn) error { return r.sumUp(ctx, c, r.dayOf(from)) }); err != nil {
			return fmt.Errorf("repair sums: %w", err)
		}
		r.a.damage.mu.Lock()
		delete(r.a.damage.days, from)
		r.a.damage.mu.Unlock()
	}
	return nil
}

// old is the time before which flows are older than an age for certain, in Unix
// ms.
func (r *archiver) old(age time.Duration) int64 { return r.age.Until - age.Milliseconds() }

// left is the time before which flows leave live, in Unix ms. It follows the wall
// clock, as nothing is lost by it.
func (r *archiver) left() int64 { return r.now - liveFor.Milliseconds() }

// noClock is the time before which no clock that is set can be, Unix ms.
var noClock = clock.Earliest.UnixMilli()

// moveSlice moves the oldest flows of live that are due: those of one day and
// for one level. It returns false if there are none. Flows of a clock that was
// not set stay.
func (r *archiver) moveSlice(ctx context.Context) (bool, error) {
	tx, err := r.s.read.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback() // nothing was written
	due := max(r.left(), 0) << idShift
	var first, batch int64
	err = tx.QueryRowContext(ctx, `SELECT id, (SELECT batch FROM state) FROM flows
		WHERE id >= ? AND id < ? AND NOT EXISTS (SELECT 1 FROM tracked WHERE flow = id) ORDER BY id LIMIT 1`, noClock<<idShift, due).Scan(&first, &batch)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find flows to be moved: %w", err)
	}
	level, end, err := r.place(ctx, first)
	if err != nil {
		return false, err
	}
	end = min(end, due)
	var kept string
	err = tx.QueryRowContext(ctx, "SELECT json_group_array(flow) FROM tracked WHERE flow BETWEEN ? AND ?", first, end-1).Scan(&kept)
	if err != nil {
		return false, fmt.Errorf("find running flows: %w", err)
	}
	err = r.step(ctx, func(c *sql.Conn) error {
		live := readLive(tx, "f.id >= ? AND f.id < ? AND NOT EXISTS (SELECT 1 FROM tracked WHERE flow = f.id)", first, end)
		fresh := &blockStream{next: live.next}
		b := rebuilding{day: r.dayOf(first >> idShift), level: level, from: level, end: end}
		if level > 0 {
			b.threshold = r.config.Rules[level-1].Threshold
		}
		if err := r.rebuild(ctx, c, b, fresh); err != nil {
			return err
		}
		r.run.Moved += fresh.taken
		_, err := c.ExecContext(ctx, "UPDATE state SET identity = ?, slice = slice + 1", r.s.identity)
		if err != nil {
			return fmt.Errorf("number the slice: %w", err)
		}
		_, err = c.ExecContext(ctx, "INSERT INTO moved SELECT slice, ?, ?, ?, ? FROM state", first, end-1, batch, kept)
		if err != nil {
			return fmt.Errorf("note the slice: %w", err)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("move flows from %d: %w", first>>idShift, err)
	}
	tx.Rollback() // what is deleted next is not to be kept for it
	return true, r.s.finishSlice(context.WithoutCancel(ctx), r.a)
}

// place tells on which level a flow of live belongs, and the id up to which,
// not included, those after it do so, too: not beyond its day.
func (r *archiver) place(ctx context.Context, first int64) (level int, end int64, err error) {
	today := r.dayOf(first >> idShift)
	end = today.to << idShift
	later, err := r.a.metas(ctx, r.a.write, first, 1<<63-1)
	if err != nil {
		return 0, 0, err
	}
	if len(later) > 0 {
		// It lasted longer than others that began later. Levels do not overlap.
		level = later[0].level
		for _, m := range later {
			if m.level < level {
				return level, min(end, m.first), nil
			}
		}
		if last := later[len(later)-1].last; last < end && level > 0 {
			// Beyond the newest block its age decides.
			return level, last + 1, nil
		}
		return level, end, nil
	}
	var newest int
	if err := r.a.write.QueryRowContext(ctx, "SELECT coalesce((SELECT level FROM blocks ORDER BY first DESC LIMIT 1), 1)").Scan(&newest); err != nil {
		return 0, 0, fmt.Errorf("find the newest level: %w", err)
	}
	if old := max(r.old(r.config.Rules[0].UpTo), 0) << idShift; newest > 0 && first < old {
		return 1, min(end, old), nil
	}
	return 0, end, nil
}

// raise merges what is due of the level below into a level, of the oldest day
// that has such flows. It returns false if there is none. From the second level
// on a day is due when all of it is older than the rule says.
func (r *archiver) raise(ctx context.Context, level int) (bool, error) {
	rule := r.config.Rules[level-1]
	due := max(r.old(rule.UpTo), 0)
	if level > 1 {
		// Whole days only: else each would be written twice.
		due = r.dayOf(due).from
	}
	due <<= idShift
	var first int64
	err := r.a.write.QueryRowContext(ctx, "SELECT first FROM blocks WHERE level = ? AND first < ? ORDER BY first LIMIT 1", level-1, due).Scan(&first)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find flows to be merged: %w", err)
	}
	today := r.dayOf(first >> idShift)
	err = r.step(ctx, func(c *sql.Conn) error {
		return r.rebuild(ctx, c, rebuilding{day: today, level: level, from: level - 1, end: min(today.to<<idShift, due), threshold: rule.Threshold}, nil)
	})
	if err != nil {
		return false, fmt.Errorf("merge flows from %d to level %d: %w", first>>idShift, level, err)
	}
	return true, nil
}

// rebuilding says which flows are put on a level: those of a day that began
// before an id, on the level itself or the one below (from).
type rebuilding struct {
	day         span64
	level, from int
	end         int64
	threshold   int64
}

// rebuild puts flows on a level, with fresh ones if that is not nil.
func (r *archiver) rebuild(ctx context.Context, c *sql.Conn, b rebuilding, fresh *blockStream) error {
	metas, err := r.a.metas(ctx, c, b.day.from<<idShift, b.end)
	if err != nil {
		return err
	}
	metas = slices.DeleteFunc(metas, func(m blockRow) bool { return m.level != b.level && m.level != b.from })
	summed, err := r.summed(ctx, c, b.day)
	if err != nil {
		return err
	}
	var late *merger
	if fresh != nil && summed {
		// The day's sums are added to; and so that they are right, nothing is dropped.
		b.threshold = 0
		late = newSummer(b.day.to, r.hour, r.s.classify)
		fresh.read = late.addAll
	}
	if fresh != nil && b.level == 0 {
		// Nothing is put together: only blocks between which the fresh ones lie are
		// taken up.
		if metas, err = r.around(ctx, metas, fresh); err != nil {
			return err
		}
	}
	stored := &blockStream{next: func(ctx context.Context, to *block.Block) (bool, error) {
		if len(metas) == 0 {
			return false, nil
		}
		m := metas[0]
		metas = metas[1:]
		return true, r.a.take(ctx, c, m, to)
	}}
	window := int64(-1)
	if b.level > 0 {
		window = r.config.Rules[b.level-1].Window.Milliseconds()
	}
	m := newMerger(window, r.hour, r.s.classify)
	dropped := 0
	put := func() error {
		n := len(m.out.Flows)
		out := m.take(func(f *block.Flow) bool {
			// One that may yet be continued is judged when it can not.
			open := b.end < b.day.to<<idShift && f.End()+window > b.end>>idShift
			return open || f.Sent+f.Recvd >= uint64(b.threshold)
		})
		dropped += n - len(out.Flows)
		err := r.a.put(ctx, c, b.level, out)
		m.reset()
		return err
	}
	taken := int64(0)
	// Of blocks that reach beyond: of the level below, behind; or, where the zone has
	// changed, into the day before.
	rest, before := newMerger(-1, r.hour, r.s.classify), newMerger(-1, r.hour, r.s.classify)
	restLevel := b.level
	for {
		stream, err := earlier(ctx, stored, fresh)
		if err != nil {
			return err
		}
		if stream == nil {
			break
		}
		if stream.filled {
			m.used()
			rest.used()
			before.used()
			stream.filled = false
		}
		f := stream.flow()
		if f.ID >= b.end {
			rest.add(&stream.b, f)
			restLevel = b.from
		} else if f.ID < b.day.from<<idShift {
			before.add(&stream.b, f)
		} else {
			m.add(&stream.b, f)
			taken++
			if m.len() == mergeFlows {
				r.run.Merged += taken - int64(m.len())
				taken = 0
				if err := put(); err != nil {
					return err
				}
			}
		}
		stream.advance()
		if late != nil && late.len() >= mergeFlows {
			if err := r.addSums(ctx, c, b.day, late); err != nil {
				return err
			}
		}
	}
	r.run.Merged += taken - int64(m.len())
	if err := put(); err != nil {
		return err
	}
	if err := r.a.put(ctx, c, b.level, before.take(nil)); err != nil {
		return err
	}
	if err := r.a.put(ctx, c, restLevel, rest.take(nil)); err != nil {
		return err
	}
	r.run.Dropped += int64(dropped)
	if late != nil {
		return r.addSums(ctx, c, b.day, late)
	}
	if summed && dropped == 0 || !summed && b.end < b.day.to<<idShift {
		return nil // the sums are right, or the day is not over
	}
	return r.sumUp(ctx, c, b.day)
}

// summed tells whether a day has sums.
func (r *archiver) summed(ctx context.Context, c *sql.Conn, d span64) (is bool, err error) {
	if err = c.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sums WHERE day = ?)", d.from).Scan(&is); err != nil {
		err = fmt.Errorf("look for sums: %w", err)
	}
	return is, err
}

// around are the blocks between whose flows fresh ones lie.
func (r *archiver) around(ctx context.Context, metas []blockRow, fresh *blockStream) ([]blockRow, error) {
	if ok, err := fresh.ready(ctx); !ok {
		return nil, err
	}
	first := fresh.flow().ID
	return slices.DeleteFunc(metas, func(m blockRow) bool { return m.last < first }), nil
}

// addSums adds to the sums of a day.
func (r *archiver) addSums(ctx context.Context, c *sql.Conn, d span64, late *merger) error {
	var next int
	if err := c.QueryRowContext(ctx, "SELECT max(part) + 1 FROM sums WHERE day = ?", d.from).Scan(&next); err != nil {
		return fmt.Errorf("find the last sums: %w", err)
	}
	_, err := r.putSums(ctx, c, d, next, late)
	return err
}

// sumUp makes the sums of a day anew.
func (r *archiver) sumUp(ctx context.Context, c *sql.Conn, d span64) error {
	metas, err := r.a.metas(ctx, c, d.from<<idShift, d.to<<idShift)
	if err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "DELETE FROM sums WHERE day = ?", d.from); err != nil {
		return fmt.Errorf("delete old sums: %w", err)
	}
	m := newSummer(d.to, r.hour, r.s.classify)
	n := 0
	for _, meta := range metas {
		if err := r.a.readable(ctx, c, meta, &r.in); err != nil {
			return err
		}
		r.in.Flows = slices.DeleteFunc(r.in.Flows, func(f block.Flow) bool { return f.Start() < d.from || f.Start() >= d.to })
		m.addAll(&r.in)
		if m.len() >= mergeFlows {
			if n, err = r.putSums(ctx, c, d, n, m); err != nil {
				return err
			}
		}
	}
	_, err = r.putSums(ctx, c, d, n, m)
	return err
}

// putSums stores the sums of a day that m holds, as parts from the nth on.
func (r *archiver) putSums(ctx context.Context, c *sql.Conn, d span64, n int, m *merger) (int, error) {
	err := inBlocks(m.take(nil), func(flows []block.Flow, data []byte) error {
		if _, err := c.ExecContext(ctx, "INSERT INTO sums (day, part, until, ends, data) VALUES (?, ?, ?, ?, ?)",
			d.from, n, d.to, latest(flows), data); err != nil {
			return fmt.Errorf("add sums: %w", err)
		}
		n++
		return nil
	})
	if err != nil {
		return n, err
	}
	m.reset()
	return n, nil
}

// expire deletes the flows that ended longer ago than they are to be kept, day
// by day.
func (r *archiver) expire(ctx context.Context) error {
	if r.config.Keep <= 0 {
		return nil
	}
	due := max(r.old(r.config.Keep), 0)
	if err := r.s.expireLeftOut(ctx, due); err != nil {
		return err
	}
	metas, err := r.a.metas(ctx, r.a.write, 0, due<<idShift)
	if err != nil {
		return err
	}
	return r.shorten(ctx, metas, func(f *block.Flow) bool { return f.End() >= due })
}

// limit deletes the oldest flows in excess of the limit.
func (r *archiver) limit(ctx context.Context) error {
	var flows int64
	if err := r.a.write.QueryRowContext(ctx, "SELECT coalesce(sum(flows), 0) FROM blocks").Scan(&flows); err != nil {
		return fmt.Errorf("count flows: %w", err)
	}
	excess := flows - r.config.MaxFlows
	if r.config.MaxFlows <= 0 || excess <= 0 {
		return nil
	}
	metas, err := r.a.metas(ctx, r.a.write, 0, 1<<63-1)
	if err != nil {
		return err
	}
	for i, left := 0, excess; i < len(metas); i++ {
		if left -= metas[i].flows; left <= 0 {
			metas = metas[:i+1]
		}
	}
	return r.shorten(ctx, metas, func(*block.Flow) bool {
		excess--
		return excess < 0
	})
}

// shorten deletes the flows of blocks that are not to be kept, of each day at
// once. It asks for each flow in order.
func (r *archiver) shorten(ctx context.Context, metas []blockRow, keep func(*block.Flow) bool) error {
	for len(metas) > 0 {
		today := r.dayOf(metas[0].first >> idShift)
		n := 1
		for n < len(metas) && metas[n].first < today.to<<idShift {
			n++
		}
		if err := r.step(ctx, func(c *sql.Conn) error {
			deleted := int64(0)
			for _, m := range metas[:n] {
				k, err := r.shortenBlock(ctx, c, m, keep)
				if err != nil {
					return err
				}
				deleted += k
			}
			r.run.Expired += deleted
			if deleted == 0 {
				return nil
			}
			return r.sumUp(ctx, c, today)
		}); err != nil {
			return fmt.Errorf("delete old flows: %w", err)
		}
		metas = metas[n:]
	}
	return nil
}

func (r *archiver) shortenBlock(ctx context.Context, c *sql.Conn, m blockRow, keep func(*block.Flow) bool) (deleted int64, err error) {
	err = r.a.load(ctx, c, m.first, &r.in)
	if errors.Is(err, block.ErrDamaged) {
		var none block.Block
		return 0, r.a.take(ctx, c, m, &none)
	}
	if err != nil {
		return 0, err
	}
	left := slices.DeleteFunc(r.in.Flows, func(f block.Flow) bool { return !keep(&f) })
	r.in.Flows = left
	if deleted = m.flows - int64(len(left)); deleted == 0 {
		return 0, nil
	}
	if err := r.a.remove(ctx, c, m.first); err != nil {
		return 0, err
	}
	return deleted, r.a.put(ctx, c, m.level, &r.in)
}

// blockStream gives flows one after another, in order of their ids.
type blockStream struct {
	next   func(context.Context, *block.Block) (bool, error)
	read   func(*block.Block) // if not nil, is given each block that was read
	b      block.Block
	at     int
	filled bool // b holds others than before
	ended  bool
	taken  int64 // how many have been passed
}

// ready tells whether there is a flow.
func (s *blockStream) ready(ctx context.Context) (bool, error) {
	for !s.ended && s.at == len(s.b.Flows) {
		ok, err := s.next(ctx, &s.b)
		if err != nil {
			return false, err
		}
		s.at, s.filled, s.ended = 0, true, !ok
		if ok && s.read != nil {
			s.read(&s.b)
		}
	}
	return !s.ended, nil
}

func (s *blockStream) flow() *block.Flow { return &s.b.Flows[s.at] }

func (s *blockStream) advance() {
	s.at++
	s.taken++
}

// earlier is the one of two streams whose next flow has the lesser id; nil if
// both have ended. The second may be nil.
func earlier(ctx context.Context, a, b *blockStream) (*blockStream, error) {
	first, err := a.ready(ctx)
	if err != nil {
		return nil, err
	}
	second := false
	if b != nil {
		if second, err = b.ready(ctx); err != nil {
			return nil, err
		}
	}
	switch {
	case first && (!second || a.flow().ID <= b.flow().ID):
		return a, nil
	case second:
		return b, nil
	}
	return nil, nil
}
