package router

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// NobodyAddr is an address of the internet where nobody is.
var NobodyAddr = netip.MustParseAddr("203.0.113.199")

// The flags of TCP.
const (
	FIN = 1
	SYN = 2
	RST = 4
)

// FloodTCP sends n TCP packets with the flags given and nothing else to a port of
// NobodyAddr, each from another port.
func (c *Client) FloodTCP(flags byte, port uint16, n int) error {
	src, dst := c.local(NobodyAddr).As4(), NobodyAddr.As4()
	return c.ns.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return fmt.Errorf("%s opening a raw socket: %w", c, err)
		}
		defer unix.Close(fd)
		for i := range n {
			b := make([]byte, 20)
			binary.BigEndian.PutUint16(b, uint16(1024+i%60000))
			binary.BigEndian.PutUint16(b[2:], port)
			b[12], b[13] = 5<<4, flags
			sum := uint32(unix.IPPROTO_TCP + len(b))
			for _, part := range [][]byte{src[:], dst[:], b} {
				for j := 0; j < len(part); j += 2 {
					sum += uint32(binary.BigEndian.Uint16(part[j:]))
				}
			}
			sum = sum&0xffff + sum>>16
			binary.BigEndian.PutUint16(b[16:], ^uint16(sum+sum>>16))
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: dst}); err != nil {
				return fmt.Errorf("%s flooding %v: %w", c, NobodyAddr, err)
			}
		}
		return nil
	})
}
