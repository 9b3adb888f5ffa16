package suricata

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// reader drains one connection into the queue.
type reader struct {
	l    *Listener
	conn *net.UnixConn
	buf  []byte // of MaxLine bytes
	n    int    // bytes in buf: the beginning of a line
	skip bool   // the rest of the line is passed over, it is too long
}

// read reads until the writer ends or ctx does; then what the writer has sent
// by then is still read.
func (r *reader) read(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { r.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	from := r.conn.Read
	for {
		n, err := from(r.buf[r.n:])
		r.received(n)
		switch {
		case err == nil && !r.l.late.Load():
			continue
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			from = r.readNow
			continue
		}
		if r.n > 0 {
			r.l.partial.Add(1)
		}
		if err == io.EOF {
			return nil
		}
		return err
	}
}

// readNow reads what is there without waiting, io.EOF if nothing is.
func (r *reader) readNow(b []byte) (n int, err error) {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		for {
			if n, err = syscall.Read(int(fd), b); err != syscall.EINTR {
				return
			}
		}
	})
	switch {
	case ctlErr != nil:
		return 0, ctlErr
	case err == syscall.EAGAIN, err == nil && n == 0:
		return 0, io.EOF
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	}
	return n, nil
}

// received queues the lines that are whole now that n more bytes are in buf,
// and moves the beginning of the next to the front.
func (r *reader) received(n int) {
	from := r.n
	r.n += n
	if r.skip {
		end := bytes.IndexByte(r.buf[from:r.n], '\n')
		if end < 0 {
			r.n = 0
			return
		}
		r.n = copy(r.buf, r.buf[from+end+1:r.n])
		r.skip, from = false, 0
	}
	if end := bytes.LastIndexByte(r.buf[from:r.n], '\n'); end >= 0 {
		end += from + 1
		if dropped := r.l.queue.put(r.buf[:end]); dropped > 0 {
			r.l.lost(dropped)
		}
		r.n = copy(r.buf, r.buf[end:r.n])
	}
	if r.n == len(r.buf) {
		r.l.tooLong.Add(1)
		r.n, r.skip = 0, true
	}
}
