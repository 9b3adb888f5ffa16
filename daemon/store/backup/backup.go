// Package backup keeps the backup of the live database: a folder of segment
// files, each with a header and blocks of flows. Together they hold what live
// held when the last one was written.
//
// A file is written under another name and renamed when it is on the disk, so
// that a crash at any moment leaves the folder as it was before or as it should
// be afterwards. Which flows a segment holds, and what is made of them, is the
// business of package store.
package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pakon/daemon/store/block"
)

// ErrDamaged is wrapped by the error about a segment that is not, or not in all
// of its parts, what was written.
var ErrDamaged = errors.New("backup is damaged")

// ErrNewer is wrapped by the error about a segment in a form that is not known
// yet.
var ErrNewer = errors.New("backup was made by a newer Pakon")

// Header is what a segment says about itself.
type Header struct {
	Identity int64 // of the live database that it was made of
	Number   int64 // of the segment, from 1; later ones have higher numbers
	Slice    int64 // how far the archive had come
	Written  int64 // Unix ms
	// Replaced are the ids of flows of earlier segments that are no more or that
	// this one has anew, in strictly increasing order, at most MaxReplaced.
	Replaced []int64
}

// Info is what is known of a segment without reading it.
type Info struct {
	Number int64
	// Zero if Err is not nil.
	Identity, Slice, Written int64
	Replaced                 int   // how many flows of earlier segments it replaces
	Size                     int64 // bytes of the file
	// Err tells that the header cannot be used: it wraps ErrDamaged, ErrNewer or
	// what reading the file failed with.
	Err error
}

// Dir is a folder of segments. Its methods may be called from several
// goroutines, but not those that change something from a function that was
// passed to one of them.
type Dir struct {
	path string
	fs   FS
	log  *slog.Logger

	change sync.Mutex // held by what changes the folder
	last   int64      // the highest number that was used; change protects it

	mu       sync.Mutex // protects the rest
	segments []Info     // in order of number
	aside    []string   // names of files that were set aside, in order
}

// A segment's file name has digits decimal digits.
const (
	namePrefix = "pakon-backup-"
	digits     = 8
	nameSuffix = ".pakon"
	lastNumber = 99_999_999

	newSuffix   = ".new"
	asideSuffix = ".damaged"
)

func fileName(number int64) string {
	return fmt.Sprintf("%s%0*d%s", namePrefix, digits, number, nameSuffix)
}

// parseName splits the name of a file of ours; the suffix is what is behind the
// name of the segment.
func parseName(name string) (number int64, suffix string, ok bool) {
	rest, ok := strings.CutPrefix(name, namePrefix)
	if !ok || len(rest) < digits {
		return 0, "", false
	}
	n, err := strconv.ParseUint(rest[:digits], 10, 32)
	suffix, ok = strings.CutPrefix(rest[digits:], nameSuffix)
	if err != nil || n == 0 || !ok {
		return 0, "", false
	}
	switch suffix {
	case "", newSuffix, asideSuffix:
		return int64(n), suffix, true
	}
	again, ok := strings.CutPrefix(suffix, asideSuffix+"-")
	_, err = strconv.ParseUint(again, 10, 32)
	return int64(n), asideSuffix, ok && err == nil
}

// Open reads which segments are in the folder and removes what an interrupted
// write has left there. A folder that does not exist is an empty one; Write makes
// it, and the one around it. The log is told what was removed or dropped.
func Open(path string, f FS, log *slog.Logger) (*Dir, error) { return look(path, f, log, true) }

// Look does what Open does, but changes nothing: while others may write.
func Look(path string, f FS, log *slog.Logger) (*Dir, error) { return look(path, f, log, false) }

func look(path string, f FS, log *slog.Logger, clear bool) (*Dir, error) {
	d := &Dir{path: path, fs: f, log: log}
	entries, err := f.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open backup %s: %w", path, err)
	}
	for _, e := range entries {
		number, suffix, ok := parseName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		d.last = max(d.last, number)
		switch suffix {
		case "":
			d.segments = append(d.segments, d.inspect(number))
		case asideSuffix:
			d.aside = append(d.aside, e.Name())
		case newSuffix:
			if !clear {
				continue
			}
			if err := f.Remove(d.join(e.Name())); err != nil {
				// It is tried again before anything is written.
				log.Warn("what is left of an unfinished backup cannot be removed", "path", d.join(e.Name()), "error", err)
				continue
			}
			log.Info("what was left of an unfinished backup is removed", "path", d.join(e.Name()))
		}
	}
	sortSegments(d.segments)
	slices.Sort(d.aside)
	return d, nil
}

func sortSegments(s []Info) {
	slices.SortFunc(s, func(a, b Info) int { return int(a.Number - b.Number) }) // both have 8 digits
}

func (d *Dir) join(name string) string { return filepath.Join(d.path, name) }

// inspect reads the fixed part of a segment's header.
func (d *Dir) inspect(number int64) Info {
	info := Info{Number: number}
	file, err := d.fs.Open(d.join(fileName(number)))
	if err != nil {
		info.Err = err
		return info
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		info.Err = err
		return info
	}
	info.Size = fi.Size()
	h, err := readFixed(file, number)
	if err != nil {
		info.Err = err
		return info
	}
	info.Identity, info.Slice, info.Written, info.Replaced = h.Identity, h.Slice, h.Written, int(h.count)
	return info
}

// Segments are the segments of the folder in order of number.
func (d *Dir) Segments() []Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.segments)
}

// Aside are the names of the files that were set aside.
func (d *Dir) Aside() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.aside)
}

// put has the segment listed, instead of what was listed with its number.
func (d *Dir) put(info Info) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.segments = append(without(d.segments, info.Number), info)
	sortSegments(d.segments)
}

func without(s []Info, number int64) []Info {
	return slices.DeleteFunc(s, func(i Info) bool { return i.Number == number })
}

// clear lists the folder and removes what an interrupted write has left.
func (d *Dir) clear() ([]fs.DirEntry, error) {
	entries, err := d.fs.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		number, suffix, ok := parseName(e.Name())
		if !ok {
			continue
		}
		d.last = max(d.last, number)
		if suffix == newSuffix {
			if err := d.fs.Remove(d.join(e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return entries, nil
}

// makeFolder makes the folder. The one around it must be there: it may be a drive
// that is not mounted.
func (d *Dir) makeFolder() error {
	err := d.fs.Mkdir(d.path, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.fs.SyncDir(filepath.Dir(d.path))
}

// Write adds a segment. Its number is the one after the highest that the folder
// has seen, whatever h says. The function blocks passes each encoded block, of at
// most MaxBlock bytes, to write, which does not keep it; a segment may have none.
// The bytes are those written to the disk, also if there is an error.
//
// After an error the folder is as it was, and what blocks returned is wrapped.
// Only if the new segment could neither be made sure to stay nor be removed is it
// among the segments in spite of the error.
func (d *Dir) Write(h Header, blocks func(write func(encoded []byte) error) error) (written int64, err error) {
	d.change.Lock()
	defer d.change.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("write backup to %s: %w", d.path, err)
		}
	}()
	_, err = d.clear()
	if errors.Is(err, fs.ErrNotExist) {
		err = d.makeFolder()
	}
	if err != nil {
		return 0, err
	}
	h.Number = d.last + 1
	if h.Number > lastNumber {
		return 0, errors.New("its files have used up all numbers")
	}
	header, err := encodeHeader(h)
	if err != nil {
		return 0, err
	}
	w, err := d.create(fileName(h.Number))
	if err != nil {
		return 0, err
	}
	if err := w.write(header); err != nil {
		return w.abandon(err)
	}
	if err := blocks(w.block); err != nil {
		return w.abandon(err)
	}
	if err := w.finish(); err != nil {
		return w.abandon(err)
	}
	d.last = h.Number // also if it does not stay: the disk may still have it
	info := Info{Number: h.Number, Identity: h.Identity, Slice: h.Slice, Written: h.Written,
		Replaced: len(h.Replaced), Size: w.written}
	if err := d.fs.SyncDir(d.path); err != nil {
		if d.fs.Remove(d.join(fileName(h.Number))) != nil {
			d.put(info)
		}
		return w.written, err
	}
	d.put(info)
	return w.written, nil
}

// writer writes a segment file under another name.
type writer struct {
	d       *Dir
	name    string // that it gets when it is finished
	file    File
	buf     *bufio.Writer
	written int64 // bytes that reached the file
	blocks  uint32
	err     error
}

func (d *Dir) create(name string) (*writer, error) {
	file, err := d.fs.Create(d.join(name + newSuffix))
	if err != nil {
		return nil, err
	}
	w := &writer{d: d, name: name, file: file}
	w.buf = bufio.NewWriterSize(counter{w}, 64<<10)
	return w, nil
}

// counter counts what its writer has written.
type counter struct{ w *writer }

func (c counter) Write(b []byte) (int, error) {
	n, err := c.w.file.Write(b)
	c.w.written += int64(n)
	return n, err
}

func (w *writer) write(b []byte) error {
	if w.err == nil {
		_, w.err = w.buf.Write(b)
	}
	return w.err
}

// block writes an encoded block.
func (w *writer) block(encoded []byte) error {
	if w.err != nil {
		return w.err
	}
	if len(encoded) > MaxBlock {
		w.err = fmt.Errorf("a block has %d bytes: at most %d are possible", len(encoded), MaxBlock)
		return w.err
	}
	var frame [frameSize]byte
	w.write(appendFrame(frame[:0], blockMagic, w.blocks, encoded))
	w.blocks++
	return w.write(encoded)
}

// finish gives the file its name when it is on the disk.
func (w *writer) finish() error {
	var frame [frameSize]byte
	if err := w.write(appendFrame(frame[:0], endMagic, w.blocks, nil)); err != nil {
		return err
	}
	if err := w.buf.Flush(); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	file := w.file
	w.file = nil
	if err := file.Close(); err != nil {
		return err
	}
	return w.d.fs.Rename(w.d.join(w.name+newSuffix), w.d.join(w.name))
}

// abandon removes the unfinished file. Should that fail, the next change of the
// folder does it.
func (w *writer) abandon(err error) (int64, error) {
	if w.file != nil {
		w.file.Close()
	}
	if e := w.d.fs.Remove(w.d.join(w.name + newSuffix)); e != nil {
		w.d.log.Warn("an unfinished backup cannot be removed", "path", w.d.join(w.name+newSuffix), "error", e)
	}
	return w.written, err
}

// Header reads the whole header of a segment. Its error wraps ErrDamaged,
// ErrNewer or what reading the file failed with.
func (d *Dir) Header(number int64) (Header, error) {
	s, err := openSegment(d.fs, d.join(fileName(number)), number)
	if err != nil {
		return Header{}, fmt.Errorf("read backup %s: %w", d.join(fileName(number)), err)
	}
	defer s.close()
	return s.header, nil
}

// Read passes each block of a segment to do, which may use it until it returns.
// Damaged blocks are left out; when all others were passed, the error wraps
// ErrDamaged and says what is lost. If already the header cannot be used, nothing
// is passed. An error of do ends it and is returned as it is.
func (d *Dir) Read(number int64, do func(b *block.Block) error) error {
	wrap := func(err error) error { return fmt.Errorf("read backup %s: %w", d.join(fileName(number)), err) }
	s, err := openSegment(d.fs, d.join(fileName(number)), number)
	if err != nil {
		return wrap(err)
	}
	defer s.close()
	var b block.Block
	for given := int64(0); ; {
		encoded, err := s.block()
		switch {
		case err == io.EOF:
			if err := s.lost(given); err != nil {
				return wrap(err)
			}
			return nil
		case err != nil:
			return wrap(err)
		case block.Decode(&b, encoded) != nil:
			continue
		}
		given++
		if err := do(&b); err != nil {
			return err
		}
	}
}

// Rewrite passes each block of a segment to edit, which may change it, and says
// whether it has. A changed block is written anew, not at all if it has no flows
// left; the others and the header stay as they are. Damaged blocks go, and the log
// is told. If nothing is to be changed, nothing is written. The bytes are those
// written to the disk, also if there is an error.
//
// After an error the segment is as it was, or, if the error came at the very end,
// as it should be, but it is not sure that the disk has it: then doing it again
// is harmless. What edit returned is wrapped. A segment whose header cannot be
// used is left alone.
func (d *Dir) Rewrite(number int64, edit func(b *block.Block) (changed bool, err error)) (written int64, err error) {
	d.change.Lock()
	defer d.change.Unlock()
	path := d.join(fileName(number))
	defer func() {
		if err != nil {
			err = fmt.Errorf("rewrite backup %s: %w", path, err)
		}
	}()
	if _, err := d.clear(); err != nil {
		return 0, err
	}
	s, err := openSegment(d.fs, path, number)
	if err != nil {
		return 0, err
	}
	defer s.close()
	r := rewriter{d: d, segment: s, same: s.offset}
	written, err = r.run(edit)
	if err != nil || r.w == nil {
		return written, err
	}
	d.put(Info{Number: number, Identity: s.header.Identity, Slice: s.header.Slice, Written: s.header.Written,
		Replaced: len(s.header.Replaced), Size: written})
	if r.lost != nil {
		d.log.Warn("damaged parts of a backup are dropped", "path", path, "error", r.lost)
	}
	return written, d.fs.SyncDir(d.path)
}

// rewriter begins to write at the first difference.
type rewriter struct {
	d       *Dir
	segment *segment
	w       *writer // nil as long as the new file would be like the old one
	same    int64   // bytes of the file up to which they are alike
	blocks  uint32  // in these
	lost    error   // what is dropped because it is damaged
}

func (r *rewriter) run(edit func(b *block.Block) (changed bool, err error)) (int64, error) {
	err := r.copy(edit)
	if err == nil && r.w != nil {
		err = r.w.finish()
	}
	switch {
	case r.w == nil:
		return 0, err
	case err != nil:
		return r.w.abandon(err)
	}
	return r.w.written, nil
}

func (r *rewriter) copy(edit func(b *block.Block) (changed bool, err error)) error {
	s := r.segment
	var b block.Block
	var buf []byte
	for given := int64(0); ; {
		encoded, err := s.block()
		if err == io.EOF {
			r.lost = s.lost(given)
			if r.w == nil && (r.lost != nil || s.start != r.same || s.offset != s.size) {
				return r.begin()
			}
			return nil
		}
		if err != nil {
			return err
		}
		if block.Decode(&b, encoded) != nil {
			continue
		}
		given++
		flows := len(b.Flows)
		changed, err := edit(&b)
		if err != nil {
			return err
		}
		changed = changed || len(b.Flows) != flows
		if r.w == nil {
			if !changed && s.start == r.same && s.index == int64(r.blocks) {
				r.same = s.offset
				r.blocks++
				continue
			}
			if err := r.begin(); err != nil {
				return err
			}
		}
		if changed {
			if len(b.Flows) == 0 {
				continue
			}
			if buf, err = block.Encode(buf[:0], &b); err != nil {
				return err
			}
			encoded = buf
		}
		if err := r.w.block(encoded); err != nil {
			return err
		}
	}
}

// begin creates the new file with what is the same in the old one.
func (r *rewriter) begin() error {
	name := fileName(r.segment.header.Number)
	old, err := r.d.fs.Open(r.d.join(name))
	if err != nil {
		return err
	}
	defer old.Close()
	if r.w, err = r.d.create(name); err != nil {
		return err
	}
	r.w.blocks = r.blocks
	_, err = io.CopyN(r.w.buf, old, r.same)
	return err
}

// SetAside renames a segment so that it is none any more, but can be looked at:
// to NAME.damaged, or the first of NAME.damaged-2, NAME.damaged-3 ... that is free.
// Its number is not used again as long as it is there.
func (d *Dir) SetAside(number int64) error {
	d.change.Lock()
	defer d.change.Unlock()
	name := fileName(number)
	wrap := func(err error) error { return fmt.Errorf("set backup %s aside: %w", d.join(name), err) }
	entries, err := d.clear()
	if err != nil {
		return wrap(err)
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	to := name + asideSuffix
	for n := 2; taken(to); n++ {
		to = fmt.Sprintf("%s%s-%d", name, asideSuffix, n)
	}
	if err := d.fs.Rename(d.join(name), d.join(to)); err != nil {
		return wrap(err)
	}
	d.mu.Lock()
	d.segments = without(d.segments, number)
	d.aside = append(d.aside, to)
	slices.Sort(d.aside)
	d.mu.Unlock()
	if err := d.fs.SyncDir(d.path); err != nil {
		return wrap(err)
	}
	return nil
}

// Remove deletes a segment. One that is not there is no error.
func (d *Dir) Remove(number int64) error {
	d.change.Lock()
	defer d.change.Unlock()
	if err := d.remove(fileName(number)); err != nil {
		return err
	}
	d.mu.Lock()
	d.segments = without(d.segments, number)
	d.mu.Unlock()
	return d.removed()
}

// RemoveAside deletes a file that was set aside, by its name in Aside.
func (d *Dir) RemoveAside(name string) error {
	d.change.Lock()
	defer d.change.Unlock()
	if !slices.Contains(d.Aside(), name) {
		return fmt.Errorf("remove %q: it is no backup that was set aside", name)
	}
	if err := d.remove(name); err != nil {
		return err
	}
	d.mu.Lock()
	d.aside = slices.DeleteFunc(d.aside, func(s string) bool { return s == name })
	d.mu.Unlock()
	return d.removed()
}

func (d *Dir) remove(name string) error {
	if err := d.fs.Remove(d.join(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove backup %s: %w", d.join(name), err)
	}
	return nil
}

// removed makes sure that what was removed stays so.
func (d *Dir) removed() error {
	if err := d.fs.SyncDir(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from backup %s: %w", d.path, err)
	}
	return nil
}
