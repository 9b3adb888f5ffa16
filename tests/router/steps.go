package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"golang.org/x/sys/unix"
)

// A connection that is used step by step begins as HTTP, which it leaves by an
// upgrade. Each step is then a header, `send` bytes from the client, `receive`
// bytes from the server, and one byte which says that the step is done.
const (
	stepsPath     = "/steps"
	stepsProtocol = "steps"
	stepHeader    = 24      // send, receive, rate in bytes a second (0: unchanged); 8 bytes each
	maxStep       = 1 << 40 // bytes
	stepBlock     = 128 << 10
)

// stepServer is the server's side.
type stepServer struct{ conns connSet }

func (s *stepServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusUpgradeRequired)
		return
	}
	s.conns.serve(conn, func(conn net.Conn) {
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", stepsProtocol)
		if rw.Flush() == nil {
			_ = serveSteps(conn) // a client that ends the connection, however it does, ends the steps
		}
	})
}

func serveSteps(conn net.Conn) error {
	block := make([]byte, stepBlock)
	for {
		var header [stepHeader]byte
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return err
		}
		send, receive := binary.BigEndian.Uint64(header[:]), binary.BigEndian.Uint64(header[8:])
		if send > maxStep || receive > maxStep {
			return errors.New("a step is too large")
		}
		if rate := binary.BigEndian.Uint64(header[16:]); rate > 0 {
			if err := pace(conn, rate); err != nil {
				return err
			}
		}
		if err := discard(conn, int64(send), block); err != nil {
			return err
		}
		if err := fill(conn, int64(receive)+1); err != nil {
			return err
		}
	}
}

var nothing [stepBlock]byte

// fill writes n zeros.
func fill(w io.Writer, n int64) error {
	for n > 0 {
		m, err := w.Write(nothing[:min(n, stepBlock)])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// discard reads n bytes into the block, again and again.
func discard(r io.Reader, n int64, block []byte) error {
	for n > 0 {
		m, err := r.Read(block[:min(n, int64(len(block)))])
		n -= int64(m)
		if n > 0 && err != nil {
			return err
		}
	}
	return nil
}

// pace makes the kernel send at most so many bytes a second.
func pace(conn net.Conn, rate uint64) error {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("pacing a %T", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate)
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("setting the pace of a connection: %w", err)
	}
	return nil
}
