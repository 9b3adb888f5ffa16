package suricata

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWiden(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("enlarging a socket's buffer beyond the system's limit needs root")
	}
	path := filepath.Join(t.TempDir(), "eve.sock")
	l, err := Listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := l.ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := widen(conn); err != nil {
		t.Fatal(err)
	}
	raw, err := other.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	if err := raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || size < sendBuffer {
		t.Errorf("the writer's buffer has %d bytes (%v), want %d", size, err, sendBuffer)
	}
}
