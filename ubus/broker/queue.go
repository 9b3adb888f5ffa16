package broker

import "sync"

// maxQueued is how many bytes may wait for a client behind the frame that is on its way to it.
const maxQueued = 1 << 20

// queue holds the frames that a client has not taken yet.
type queue struct {
	mu     sync.Mutex
	change *sync.Cond // of frames or closed
	// frames are those that wait, the first of them is being written. bytes is the length of all but the first.
	frames  [][]byte
	bytes   int
	dropped int
	// finishing: nothing is added any more, and when all is taken the queue is closed.
	finishing bool
	closed    bool
}

func newQueue() *queue {
	q := &queue{}
	q.change = sync.NewCond(&q.mu)
	return q
}

// put adds a frame if there is room for it. It says whether this is the first frame that it drops.
func (q *queue) put(frame []byte) (firstDrop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.finishing {
		return false
	}
	if len(q.frames) > 0 {
		if q.bytes+len(frame) > maxQueued {
			q.dropped++
			return q.dropped == 1
		}
		q.bytes += len(frame)
	}
	q.frames = append(q.frames, frame)
	q.change.Broadcast()
	return false
}

// waitEmpty waits until the client has taken everything; false: it never will, the queue is closed.
func (q *queue) waitEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.frames) > 0 && !q.closed {
		q.change.Wait()
	}
	return !q.closed
}

// first waits for a frame and returns it; it stays the first until written is called. False: the queue is closed.
func (q *queue) first() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.frames) == 0 && !q.closed && !q.finishing {
		q.change.Wait()
	}
	if q.closed || len(q.frames) == 0 {
		return nil, false
	}
	return q.frames[0], true
}

// written removes the first frame.
func (q *queue) written() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.frames[0] = nil
	q.frames = q.frames[1:]
	if len(q.frames) == 0 {
		q.frames = nil
	} else {
		q.bytes -= len(q.frames[0])
	}
	q.change.Broadcast()
}

// finish closes the queue as soon as all that is in it is taken.
func (q *queue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finishing = true
	q.change.Broadcast()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.frames = nil
	q.change.Broadcast()
}
