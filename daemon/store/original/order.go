package original

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// How positions are sorted. Memory for a file of N rows: 1 MiB, and 4 KiB for
// each 64 Ki rows.
const (
	runLength    = 1 << 16 // positions sorted in memory
	positionSize = 16      // bytes of one in the file
	readAhead    = 4096    // bytes of each run
)

// order sorts positions. What is more than runLength goes to a file, sorted by
// runs that are merged when they are read.
type order struct {
	dir       string
	runLength int
	run       []Position
	file      *os.File // nil while one run holds all
	runs      int64    // in the file, all full but the last
	count     int64    // positions in the file
	merge     merge
}

func (o *order) add(p Position) error {
	if len(o.run) == o.runLength {
		if err := o.spill(); err != nil {
			return err
		}
	}
	o.run = append(o.run, p)
	return nil
}

// spill writes the run to the file.
func (o *order) spill() error {
	if o.file == nil {
		f, err := os.CreateTemp(o.dir, "pakon-order-*.tmp")
		if err != nil {
			return err
		}
		o.file = f
		// Nameless, it goes with the process.
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	slices.SortFunc(o.run, Position.compare)
	w := bufio.NewWriter(o.file)
	var b [positionSize]byte
	for _, p := range o.run {
		binary.LittleEndian.PutUint64(b[:], uint64(p.Start))
		binary.LittleEndian.PutUint64(b[8:], uint64(p.Row))
		if _, err := w.Write(b[:]); err != nil {
			return fmt.Errorf("write %s: %w", o.file.Name(), err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", o.file.Name(), err)
	}
	o.runs++
	o.count += int64(len(o.run))
	o.run = o.run[:0]
	return nil
}

// sort ends adding: next tells the positions from now on.
func (o *order) sort() error {
	if o.file == nil {
		slices.SortFunc(o.run, Position.compare)
		return nil
	}
	if err := o.spill(); err != nil {
		return err
	}
	o.run = nil
	size := int64(o.runLength) * positionSize
	for i := range o.runs {
		length := min(size, o.count*positionSize-i*size)
		s := &source{r: bufio.NewReaderSize(io.NewSectionReader(o.file, i*size, length), readAhead)}
		ok, err := s.advance()
		if err != nil {
			return err
		}
		if ok {
			o.merge = append(o.merge, s)
		}
	}
	heap.Init(&o.merge)
	return nil
}

// next returns the next position, or false after the last.
func (o *order) next() (Position, bool, error) {
	if o.file == nil {
		if len(o.run) == 0 {
			return Position{}, false, nil
		}
		p := o.run[0]
		o.run = o.run[1:]
		return p, true, nil
	}
	if len(o.merge) == 0 {
		return Position{}, false, nil
	}
	s := o.merge[0]
	p := s.head
	ok, err := s.advance()
	if err != nil {
		return Position{}, false, err
	}
	if ok {
		heap.Fix(&o.merge, 0)
	} else {
		heap.Pop(&o.merge)
	}
	return p, true, nil
}

func (o *order) close() {
	if o.file != nil {
		o.file.Close()
	}
}

// source is what is left of a run in the file.
type source struct {
	r    *bufio.Reader
	head Position
}

// advance goes to the next position, or tells false after the last.
func (s *source) advance() (bool, error) {
	var b [positionSize]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	s.head.Start = int64(binary.LittleEndian.Uint64(b[:]))
	s.head.Row = int64(binary.LittleEndian.Uint64(b[8:]))
	return true, nil
}

// merge is a heap of runs by their heads.
type merge []*source

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return m[i].head.compare(m[j].head) < 0 }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(*source)) }
func (m *merge) Pop() any {
	last := len(*m) - 1
	s := (*m)[last]
	*m = (*m)[:last]
	return s
}
