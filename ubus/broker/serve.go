package broker

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"pakon/ubus"
)

// serve reads what a client sends until it goes or sends what is no frame, and then forgets it.
func (b *Broker) serve(c *client) {
	var writer sync.WaitGroup
	writer.Go(func() { c.write() })
	err := b.read(c)
	if !ended(err) {
		b.log.Warn("bus client thrown out", "user", c.user, "client", c.id, "err", err)
	}
	b.leave(c)
	// What it asked before that is answered.
	c.conn.SetWriteDeadline(time.Now().Add(lastWords))
	c.out.finish()
	writer.Wait()
	c.out.close()
	c.conn.Close()
}

// lastWords is how long a client that leaves may take to read what is still queued for it.
const lastWords = time.Second

// ended says whether an error is only the end of a connection, whoever ended it.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed)
}

func (b *Broker) read(c *client) error {
	r := ubus.NewReader(bufio.NewReader(c.conn), ubus.MaxMessage)
	for {
		var m ubus.Message
		if err := r.Read(&m); err != nil {
			return err
		}
		b.handle(c, &m)
	}
}

func (c *client) write() {
	for {
		frame, ok := c.out.first()
		if !ok {
			return
		}
		if _, err := c.conn.Write(frame); err != nil {
			// The reader sees the end of the connection too, and ends the client.
			c.out.close()
			c.conn.Close()
			return
		}
		c.out.written()
	}
}
