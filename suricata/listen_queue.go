package suricata

import (
	"bytes"
	"sync"
	"time"
)

const (
	chunkSize = MaxLine // so that any line fits
	maxChunks = 8       // 512 KiB; the socket holds more, see widen
	keepFree  = 2       // chunks kept for reuse when the queue is empty
	roomWait  = time.Second
)

// queue holds whole lines, in chunks, between the connections and the one
// goroutine that handles events.
type queue struct {
	ready chan struct{} // capacity 1: there may be lines
	done  chan struct{} // closed: nothing will be put any more

	mu        sync.Mutex
	chunks    [][]byte // oldest first; the last may take more lines
	free      [][]byte
	used      int           // in chunks, or popped and not released yet
	room      chan struct{} // closed when there is room; nil if nobody waits
	fullSince time.Time     // zero: there was room since
	abandoned bool          // nobody pops any more
}

func newQueue() *queue {
	return &queue{ready: make(chan struct{}, 1), done: make(chan struct{})}
}

// put queues lines, each with its newline and none longer than MaxLine. If the
// queue is full it waits until it has been full for roomWait; then it drops the
// rest and returns how many lines that were.
func (q *queue) put(lines []byte) (dropped uint64) {
	for {
		q.mu.Lock()
		lines = lines[q.take(lines):]
		if len(lines) == 0 {
			q.mu.Unlock()
			q.wake()
			return 0
		}
		if q.abandoned {
			q.mu.Unlock()
			return countLines(lines)
		}
		now := time.Now()
		if q.fullSince.IsZero() {
			q.fullSince = now
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room, wait := q.room, roomWait-now.Sub(q.fullSince)
		q.mu.Unlock()
		q.wake()
		if wait <= 0 || !waitFor(room, wait) {
			return countLines(lines)
		}
	}
}

// take copies as many of lines as there is room for, and returns their length.
func (q *queue) take(lines []byte) (n int) {
	for {
		if last := len(q.chunks) - 1; last >= 0 {
			c := q.chunks[last]
			part := lines[n:]
			if room := cap(c) - len(c); len(part) > room {
				part = part[:bytes.LastIndexByte(part[:room], '\n')+1]
			}
			q.chunks[last] = append(c, part...)
			n += len(part)
		}
		if n == len(lines) || q.used == maxChunks || q.abandoned {
			return n
		}
		q.used++
		q.chunks = append(q.chunks, q.empty())
	}
}

func (q *queue) empty() []byte {
	if last := len(q.free) - 1; last >= 0 {
		c := q.free[last]
		q.free = q.free[:last]
		return c
	}
	return make([]byte, 0, chunkSize)
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// pop returns the oldest chunk, which must be released; nil if there is none.
func (q *queue) pop() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.chunks) == 0 {
		// A burst is over. While one lasts, all its chunks are used again.
		if len(q.free) > keepFree {
			clear(q.free[keepFree:])
			q.free = q.free[:keepFree]
		}
		return nil
	}
	c := q.chunks[0]
	q.chunks = q.chunks[:copy(q.chunks, q.chunks[1:])]
	return c
}

// release gives back a chunk.
func (q *queue) release(c []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used--
	q.free = append(q.free, c[:0])
	q.makeRoom()
}

func (q *queue) makeRoom() {
	q.fullSince = time.Time{}
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// abandon drops what is queued and all that is put from now on, and returns how
// many lines were queued.
func (q *queue) abandon() (dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.chunks {
		dropped += countLines(c)
	}
	q.chunks, q.abandoned = nil, true
	q.makeRoom()
	return dropped
}

// waitFor tells whether c was closed within limit.
func waitFor(c <-chan struct{}, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

func countLines(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }
