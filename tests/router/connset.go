package router

import (
	"net"
	"sync"
)

// connSet are a server's connections, each with a goroutine that serves it.
type connSet struct {
	mu      sync.Mutex
	conns   map[net.Conn]bool
	closed  bool
	running sync.WaitGroup
}

// serve runs f with the connection in a goroutine, and closes it then. If the
// set is closed it is closed at once.
func (s *connSet) serve(c net.Conn, f func(net.Conn)) {
	if !s.add(c) {
		_ = c.Close()
		return
	}
	go func() {
		defer s.remove(c)
		defer c.Close()
		f(c)
	}()
}

func (s *connSet) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.conns == nil {
		s.conns = map[net.Conn]bool{}
	}
	s.conns[c] = true
	s.running.Add(1)
	return true
}

func (s *connSet) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.running.Done()
}

// close ends all connections and waits for who serves them.
func (s *connSet) close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close() // the one that serves it notices
	}
	s.mu.Unlock()
	s.running.Wait()
}
