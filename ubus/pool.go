package ubus

import (
	"log/slog"
	"sync"
)

// How many calls of the client's methods are served at once, and how many wait for that.
const (
	maxServing      = 16
	maxWaiting      = 256
	maxWaitingBytes = 4 << 20
)

// pool runs calls in goroutines that live as long as there are any.
type pool struct {
	log *slog.Logger
	wg  sync.WaitGroup // also of the mailboxes

	mu      sync.Mutex
	serving int
	waiting []job
	bytes   int // of those waiting
	told    bool
	onIdle  []chan struct{}
}

type job struct {
	bytes int
	run   func()
}

// submit has run called soon; false if too many wait already. bytes is the memory that it holds.
func (p *pool) submit(bytes int, run func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.serving < maxServing {
		p.serving++
		p.wg.Go(func() { p.serve(run) })
		return true
	}
	if len(p.waiting) >= maxWaiting || p.bytes+bytes > maxWaitingBytes {
		if !p.told {
			p.told = true
			p.log.Warn("too many calls at once, refusing some", "waiting", len(p.waiting), "bytes", p.bytes)
		}
		return false
	}
	p.waiting = append(p.waiting, job{bytes, run})
	p.bytes += bytes
	return true
}

func (p *pool) serve(run func()) {
	for {
		run()
		p.mu.Lock()
		if len(p.waiting) == 0 {
			p.serving--
			p.told = false
			if p.serving == 0 {
				for _, ch := range p.onIdle {
					close(ch)
				}
				p.onIdle = nil
			}
			p.mu.Unlock()
			return
		}
		next := p.waiting[0]
		p.waiting[0] = job{}
		p.waiting = p.waiting[1:]
		p.bytes -= next.bytes
		p.mu.Unlock()
		run = next.run
	}
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
