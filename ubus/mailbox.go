package ubus

import (
	"runtime/debug"
	"sync"
)

// How much a callback may be behind before messages to it are dropped.
const (
	maxMail      = 1024
	maxMailBytes = 2 << 20
)

// mailbox calls a callback with one message after the other, in a goroutine that lives as long as there are any.
type mailbox struct {
	c    *Client
	what string // for the log
	f    func(name string, data Table)

	mu      sync.Mutex
	running bool
	closed  bool
	told    bool
	bytes   int
	mail    []mail
}

type mail struct {
	name string
	blob []byte
}

func (b *mailbox) post(name string, blob []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if len(b.mail) >= maxMail || b.bytes+len(blob) > maxMailBytes {
		if !b.told {
			b.told = true
			b.c.log.Warn("callback is behind, dropping messages", "of", b.what, "waiting", len(b.mail))
		}
		return
	}
	b.mail = append(b.mail, mail{name, blob})
	b.bytes += len(blob)
	if !b.running {
		b.running = true
		b.c.work.wg.Go(b.deliver)
	}
}

func (b *mailbox) deliver() {
	for {
		b.mu.Lock()
		if len(b.mail) == 0 || b.closed {
			b.running, b.told = false, false
			b.mail = nil
			b.mu.Unlock()
			return
		}
		m := b.mail[0]
		b.mail[0] = mail{}
		b.mail = b.mail[1:]
		b.bytes -= len(m.blob)
		b.mu.Unlock()
		b.call(m)
	}
}

func (b *mailbox) call(m mail) {
	defer func() {
		if p := recover(); p != nil {
			b.c.log.Error("a callback panicked", "of", b.what, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	data, err := Decode(m.blob)
	if err != nil {
		b.c.log.Debug("message that is no blobmsg", "of", b.what, "name", m.name, "error", err)
		return
	}
	b.f(m.name, data)
}

func (b *mailbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mail, b.bytes = nil, 0
	b.mu.Unlock()
}
