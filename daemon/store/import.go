package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pakon/daemon/flow"
	"pakon/daemon/store/block"
	"pakon/daemon/store/original"
)

// ImportConfig says what the original Pakon has left, and where. Files need not
// exist.
type ImportConfig struct {
	Live    string // its live database
	Backup  string // the xz copy of it, for when that is gone
	Archive string // its archive
	DNS     string // its DNS cache
	Temp    string // a folder for temporary files
	// Answers is given what clients called addresses, as was known at a time, in
	// Unix ms.
	Answers func(names []original.Name, at int64)
	// Exclude tells of flows that are not to be recorded; nil: none.
	Exclude func(*flow.Flow) bool
}

// ImportRun tells what an import has done, in rows.
type ImportRun struct {
	Live, Archive int64 // taken over
	Skipped       int64 // that made no sense, could not be read or are excluded
}

// Import takes over what the original Pakon has recorded, each file once. It goes
// on where it was interrupted. A file that has been taken over is renamed to end
// in .imported. One that is damaged is taken over as far as it can be read, and
// left as it is; the error says so once.
func (s *Store) Import(ctx context.Context, c ImportConfig) (run ImportRun, err error) {
	s.running.Lock()
	defer s.running.Unlock()
	defer s.storage.importing.Store(nil)
	var errs []error
	live, err := s.importLive(ctx, c, c.Live, original.Open, &run)
	errs = append(errs, err)
	if ctx.Err() == nil {
		if live {
			// The backup is an older copy of what has been taken over.
			errs = append(errs, renameImported(c.Backup))
		} else {
			_, err := s.importLive(ctx, c, c.Backup, original.OpenXZ, &run)
			errs = append(errs, err)
		}
	}
	if ctx.Err() == nil {
		errs = append(errs, s.importArchive(ctx, c, &run), s.importDNS(ctx, c))
	}
	return run, errors.Join(errs...)
}

// importing is a file of the original that is being read.
type importing struct {
	db    *original.Database
	key   string // in the tables imports
	total int64
	path  string
}

type openOriginal func(ctx context.Context, path, temp string) (*original.Database, error)

// fileKey tells a file from others that may come to be at its path.
func fileKey(path string) (string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix(filepath.Base(path), ".original")
	return fmt.Sprintf("%s %d %d", name, fi.Size(), fi.ModTime().UnixNano()), nil
}

// What a table imports says of files that are not to be looked at again.
const (
	imported = "done"
	broken   = "damaged"
)

// importFile reads a file of the original from the position in a table imports
// on. take stores flows and, in the same transaction, the position after them.
// found tells that there is such a file, whole that all of it has been stored.
func (s *Store) importFile(ctx context.Context, c ImportConfig, path string, open openOriginal, position querier,
	take func(in *importing, flows []original.Flow, position string) error, run *ImportRun) (found, whole bool, err error) {
	key, err := fileKey(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("import %s: %w", path, err)
	}
	in := &importing{key: key, path: path}
	var from original.Position
	var text string
	err = position.QueryRowContext(ctx, "SELECT position FROM imports WHERE file = ?", key).Scan(&text)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return false, false, fmt.Errorf("import %s: %w", path, err)
	case text == imported:
		return true, true, nil
	case text == broken:
		return false, false, nil
	default:
		if from, err = original.ParsePosition(text); err != nil {
			return false, false, fmt.Errorf("import %s: %w", path, err)
		}
	}
	if in.db, err = open(ctx, path, c.Temp); errors.Is(err, original.ErrDamaged) {
		return false, false, fmt.Errorf("import %s, which is left as it is: %w", path, errors.Join(err, take(in, nil, broken)))
	}
	if err != nil {
		return false, false, fmt.Errorf("import %s: %w", path, err)
	}
	defer in.db.Close()
	if in.total, err = in.db.Count(ctx); err != nil && !errors.Is(err, original.ErrDamaged) {
		return false, false, fmt.Errorf("import %s: %w", path, err)
	}
	s.log.Info("the original Pakon's records are taken over", "path", path, "rows", in.total)
	began, done := time.Now(), int64(0)
	err = in.db.Read(ctx, from, func(flows []original.Flow) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := flows[len(flows)-1].Position.String()
		wanted := flows[:0]
		for i := range flows {
			if c.Exclude == nil || !c.Exclude(&flows[i].Flow) {
				wanted = append(wanted, flows[i])
			}
		}
		run.Skipped += int64(len(flows) - len(wanted))
		done += int64(len(flows))
		s.storage.importing.Store(&Progress{Done: done, Total: max(in.total, done)})
		return take(in, wanted, last)
	})
	skipped := in.db.Skipped()
	run.Skipped += skipped.Start + skipped.Bytes + skipped.Lost
	if err != nil && !errors.Is(err, original.ErrDamaged) {
		return false, false, fmt.Errorf("import %s: %w", path, err)
	}
	end := imported
	if err != nil {
		end = broken
	}
	if e := take(in, nil, end); e != nil {
		return false, false, fmt.Errorf("import %s: %w", path, errors.Join(err, e))
	}
	s.log.Info("the original Pakon's records have been taken over", "path", path, "rows", done,
		"skipped", skipped.Start+skipped.Bytes+skipped.Lost, "took", time.Since(began).Round(time.Millisecond))
	if err != nil {
		return done > 0, false, fmt.Errorf("import %s, which is left as it is: %w", path, err)
	}
	return true, true, nil
}

// renameImported gives a file that has been taken over another name. A file that
// is not there is no error.
func renameImported(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	to, err := freePath(strings.TrimSuffix(path, ".original") + ".imported")
	if err != nil {
		return err
	}
	for _, ext := range []string{"-wal", "-journal", ""} {
		if err := os.Rename(path+ext, to+ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rename what has been imported: %w", err)
		}
	}
	return nil
}

// importLive takes a file over into live, and backs that up before the file gets
// its other name. It tells whether the file has been taken over.
func (s *Store) importLive(ctx context.Context, c ImportConfig, path string, open openOriginal, run *ImportRun) (bool, error) {
	found, whole, err := s.importFile(ctx, c, path, open, s.read, func(in *importing, flows []original.Flow, position string) error {
		var b block.Block
		for i := range flows {
			appendOriginal(&b, &flows[i].Flow)
		}
		run.Live += int64(len(flows))
		return s.addBlock(context.WithoutCancel(ctx), &b, func(c *sql.Conn) error {
			_, err := c.ExecContext(ctx, "INSERT OR REPLACE INTO imports VALUES (?, ?)", in.key, position)
			return err
		})
	}, run)
	if err != nil || !whole {
		return found, err
	}
	if _, err := s.backup(ctx); err != nil {
		return true, fmt.Errorf("back up what has been imported: %w", err)
	}
	return true, renameImported(path)
}

// appendOriginal adds a flow to the end of a block.
func appendOriginal(b *block.Block, f *flow.Flow) {
	start := min(max(f.Start, 0), maxTime)
	b.Flows = append(b.Flows, block.Flow{
		ID: start << idShift, Duration: min(max(f.End-start, 0), maxTime), Sent: min(f.Sent, maxBytes), Recvd: min(f.Recvd, maxBytes),
		Endpoint: b.Endpoint(block.Endpoint{MAC: f.Client, Address: f.ClientAddr.WithZone(""), Interface: f.Interface}),
		Name:     b.Name(f.Name), App: b.App(f.App), Remote: b.Remote(f.Remote), Flows: 1,
		Port: f.Port, Proto: f.Proto, Source: uint8(f.Source), Direction: uint8(f.Direction),
	})
}

// importFlows is how many rows are put into the archive at once.
const importFlows = 4 * blockFlows

// importArchive takes the original's archive over into ours.
func (s *Store) importArchive(ctx context.Context, c ImportConfig, run *ImportRun) error {
	if c.Archive == "" {
		return nil
	}
	if _, err := os.Lstat(c.Archive); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	a, err := s.attachArchive(ctx, true)
	if err != nil {
		return err
	}
	r := &archiver{s: s, a: a, config: *s.config.Load(), location: s.location(), hour: s.hourStart()}
	if r.days, err = a.days(ctx, a.write); err != nil {
		return err
	}
	var waiting arriving
	_, whole, err := s.importFile(ctx, c, c.Archive, original.Open, a.read, func(in *importing, flows []original.Flow, position string) error {
		for i := range flows {
			waiting.add(&flows[i])
		}
		run.Archive += int64(len(flows))
		end := position == imported || position == broken
		for waiting.len() >= importFlows || waiting.len() > 0 && end {
			n, err := r.importDay(ctx, in, &waiting)
			if err != nil {
				return err
			}
			waiting.drop(n)
		}
		if !end {
			return nil
		}
		return r.step(ctx, func(c *sql.Conn) error {
			_, err := c.ExecContext(ctx, "INSERT OR REPLACE INTO imports VALUES (?, ?)", in.key, position)
			return err
		})
	}, run)
	if err = errors.Join(err, r.unsettled); err != nil || !whole {
		return err
	}
	return renameImported(c.Archive)
}

// arriving are flows of the original's archive that wait for others of their day.
type arriving struct {
	b         block.Block
	levels    []int
	positions []original.Position
}

func (w *arriving) len() int { return len(w.b.Flows) }

func (w *arriving) add(f *original.Flow) {
	appendOriginal(&w.b, &f.Flow)
	w.levels, w.positions = append(w.levels, f.Level), append(w.positions, f.Position)
}

// drop forgets the first n.
func (w *arriving) drop(n int) {
	var left block.Block
	im := block.NewImporter(&left, &w.b)
	for i := n; i < len(w.b.Flows); i++ {
		im.Add(&w.b.Flows[i])
	}
	w.b = left
	w.levels = w.levels[:copy(w.levels, w.levels[n:])]
	w.positions = w.positions[:copy(w.positions, w.positions[n:])]
}

// importDay puts the first of some flows into the archive: those of one day that
// belong on one level. It returns how many.
func (r *archiver) importDay(ctx context.Context, in *importing, w *arriving) (int, error) {
	first := w.b.Flows[0].ID
	today := r.dayOf(first >> idShift)
	level := w.levels[0]
	if level > len(r.config.Rules) {
		level = 0
	}
	// Levels do not overlap with those of flows that are there.
	end := today.to << idShift
	var before, after sql.NullInt64
	err := r.a.write.QueryRowContext(ctx, `SELECT (SELECT level FROM blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1),
		(SELECT level FROM blocks WHERE last >= ?1 ORDER BY first LIMIT 1)`, first).Scan(&before, &after)
	if err != nil {
		return 0, fmt.Errorf("find the levels: %w", err)
	}
	if before.Valid {
		level = min(level, int(before.Int64))
	}
	if after.Valid {
		level = max(level, int(after.Int64))
		var lower sql.NullInt64
		if err := r.a.write.QueryRowContext(ctx, "SELECT min(first) FROM blocks WHERE last >= ? AND level < ?", first, level).Scan(&lower); err != nil {
			return 0, fmt.Errorf("find the levels: %w", err)
		}
		if lower.Valid {
			end = min(end, lower.Int64)
		}
	}
	n := 0
	for n < w.len() && w.b.Flows[n].ID < end && (w.levels[n] == w.levels[0] || w.levels[n] > len(r.config.Rules)) {
		n++
	}
	given := false
	fresh := &blockStream{next: func(_ context.Context, to *block.Block) (bool, error) {
		if given {
			return false, nil
		}
		given = true
		*to = w.b
		to.Flows = w.b.Flows[:n]
		return true, nil
	}}
	return n, r.step(ctx, func(c *sql.Conn) error {
		if err := r.rebuild(ctx, c, rebuilding{day: today, level: level, from: level, end: end}, fresh); err != nil {
			return fmt.Errorf("import flows from %d: %w", first>>idShift, err)
		}
		_, err := c.ExecContext(ctx, "INSERT OR REPLACE INTO imports VALUES (?, ?)", in.key, w.positions[n-1].String())
		return err
	})
}

// importDNS hands on what the original's DNS cache holds.
func (s *Store) importDNS(ctx context.Context, c ImportConfig) error {
	if c.DNS == "" || c.Answers == nil {
		return nil
	}
	key, err := fileKey(c.DNS)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("import %s: %w", c.DNS, err)
	}
	var done bool
	if err := s.read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM imports WHERE file = ?)", key).Scan(&done); err != nil || done {
		return err
	}
	fi, err := os.Stat(c.DNS)
	if err != nil {
		return fmt.Errorf("import %s: %w", c.DNS, err)
	}
	names, err := original.ReadDNS(c.DNS)
	if err != nil && !errors.Is(err, original.ErrDamaged) {
		return err
	}
	c.Answers(names, fi.ModTime().UnixMilli())
	if err == nil {
		return renameImported(c.DNS)
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	_, e := s.w.conn.ExecContext(ctx, "INSERT INTO imports VALUES (?, ?)", key, broken)
	return errors.Join(fmt.Errorf("import %s, which is left as it is: %w", c.DNS, err), e)
}
