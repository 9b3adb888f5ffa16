package ubus

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Lane is a queue of calls. Calls of one lane never wait for those of another. Methods of one client may share a lane.
type Lane struct {
	AtOnce    int // calls that are served at the same time
	PerCaller int // of these, those of one caller; 0: all
	Waiting   int // calls that wait at most
	// Patience is how long after it came a call is over, waiting or served: the bus does not say that a caller has
	// left. 0: never.
	Patience time.Duration
}

// common is the lane of methods that name none.
var common = &Lane{AtOnce: 16, Waiting: 256}

// maxWaitingBytes is what the calls that wait in one lane may amount to.
const maxWaitingBytes = 4 << 20

// pool runs calls in goroutines that live as long as there are any.
type pool struct {
	log *slog.Logger
	wg  sync.WaitGroup // also of the mailboxes

	mu      sync.Mutex
	lanes   map[*Lane]*queue
	serving int
	onIdle  []chan struct{}
}

// queue holds the calls of a lane.
type queue struct {
	*Lane
	serving int
	callers map[string]*caller // those with a call that waits or is served
	waiting []*job             // in the order in which they came
	bytes   int                // of these
	turn    int                // calls that were taken so far
	told    bool
}

// caller is who is served in turn with others.
type caller struct {
	name    string
	serving int
	waiting int
	held    int // bytes of those that wait, and frameCost for each
	last    int // the turn in which one of its calls was last taken
}

type job struct {
	caller *caller
	bytes  int
	over   *time.Timer // nil if it may wait for ever
	run    func()
	refuse func(Status)
}

// submit has run called soon, or refuse if the call is dropped before that. bytes is the memory that the call holds.
func (p *pool) submit(l *Lane, from string, bytes int, run func(), refuse func(Status)) {
	for _, dropped := range p.enter(l, from, &job{bytes: bytes, run: run, refuse: refuse}) {
		dropped.refuse(StatusNoMemory)
	}
}

func (p *pool) enter(l *Lane, from string, j *job) (dropped []*job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queue(l)
	if j.caller = q.callers[from]; j.caller == nil {
		j.caller = &caller{name: from}
		q.callers[from] = j.caller
	}
	if q.serving < q.AtOnce && q.mayServe(j.caller) {
		p.serving++
		q.begin(j)
		p.wg.Go(func() { p.serve(q, j) })
		return nil
	}
	q.add(j)
	if q.Patience > 0 {
		j.over = time.AfterFunc(q.Patience, func() { p.expire(q, j) })
	}
	for len(q.waiting) > q.Waiting || q.bytes > maxWaitingBytes {
		if !q.told {
			q.told = true
			p.log.Warn("too many calls at once, refusing some", "waiting", len(q.waiting)-1, "bytes", q.bytes-j.bytes)
		}
		dropped = append(dropped, q.drop())
	}
	return dropped
}

// queue is that of a lane. p.mu is held.
func (p *pool) queue(l *Lane) *queue {
	q := p.lanes[l]
	if q == nil {
		q = &queue{Lane: l, callers: make(map[string]*caller)}
		if p.lanes == nil {
			p.lanes = make(map[*Lane]*queue)
		}
		p.lanes[l] = q
	}
	return q
}

// expire ends a call that has waited for too long.
func (p *pool) expire(q *queue, j *job) {
	p.mu.Lock()
	i := slices.Index(q.waiting, j)
	if i >= 0 {
		q.remove(i)
		q.leave(j.caller)
	}
	p.mu.Unlock()
	if i >= 0 {
		j.refuse(StatusTimeout)
	}
}

// serve runs a call and then those that wait, as long as one of them may be served.
func (p *pool) serve(q *queue, j *job) {
	for j != nil {
		j.run()
		j = p.next(q, j)
	}
}

// next ends a call and takes the next one; nil if there is none.
func (p *pool) next(q *queue, done *job) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	q.serving--
	done.caller.serving--
	i := q.choose()
	q.leave(done.caller)
	if i >= 0 {
		j := q.remove(i)
		q.begin(j)
		return j
	}
	if p.serving--; p.serving == 0 {
		for _, ch := range p.onIdle {
			close(ch)
		}
		p.onIdle = nil
	}
	return nil
}

func (q *queue) mayServe(c *caller) bool { return q.PerCaller == 0 || c.serving < q.PerCaller }

// begin notes that a call is served now.
func (q *queue) begin(j *job) {
	q.turn++
	q.serving++
	j.caller.serving++
	j.caller.last = q.turn
}

// leave forgets a caller that has no more calls.
func (q *queue) leave(c *caller) {
	if c.serving == 0 && c.waiting == 0 {
		delete(q.callers, c.name)
	}
	if len(q.callers) == 0 {
		q.told = false
	}
}

func (q *queue) add(j *job) {
	q.waiting = append(q.waiting, j)
	q.bytes += j.bytes
	j.caller.waiting++
	j.caller.held += j.bytes + frameCost
}

// remove takes a call out of those that wait.
func (q *queue) remove(i int) *job {
	j := q.waiting[i]
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.bytes -= j.bytes
	j.caller.waiting--
	j.caller.held -= j.bytes + frameCost
	if j.over != nil {
		j.over.Stop()
	}
	return j
}

// choose returns the number of the call that is served next, -1 if none may be. It is the oldest one of the caller
// that was served longest ago. Where patience is bounded, every second time it is the newest one of all: most of many
// old calls may be of callers that have left, and who comes now does not wait until all of these are over.
func (q *queue) choose() int {
	newest := q.Patience > 0 && q.turn%2 == 1
	chosen := -1
	for i, j := range q.waiting {
		if q.mayServe(j.caller) && (chosen < 0 || newest || j.caller.last < q.waiting[chosen].caller.last) {
			chosen = i
		}
	}
	return chosen
}

// drop takes out a call of the caller that holds most: its oldest, which is the first that nobody waits for any more;
// where patience has no bound, its newest.
func (q *queue) drop() *job {
	dropped := 0
	for i, j := range q.waiting {
		most := q.waiting[dropped].caller
		if j.caller.held > most.held || j.caller == most && q.Patience == 0 {
			dropped = i
		}
	}
	j := q.remove(dropped)
	q.leave(j.caller)
	return j
}

// idle is closed once no call is served.
func (p *pool) idle() <-chan struct{} {
	ch := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.serving == 0 {
		close(ch)
	} else {
		p.onIdle = append(p.onIdle, ch)
	}
	return ch
}

// wait returns when nothing runs any more.
func (p *pool) wait() { p.wg.Wait() }
