package router

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The commands of SIOCETHTOOL (linux/ethtool.h) that switch offloading.
var offloads = []struct {
	name    string
	command uint32
}{
	{"tx checksums", 0x17},
	{"TSO", 0x1f},
	{"GSO", 0x24},
	{"GRO", 0x2c},
}

// wireSized switches a device's offloading off, so that packets are as large
// as on a cable, and have their checksums.
func (ns *namespace) wireSized(device string) error {
	return ns.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening a socket to set up %s: %w", device, err)
		}
		defer unix.Close(fd)
		for _, o := range offloads {
			value := struct{ command, on uint32 }{o.command, 0}
			var request struct {
				name [unix.IFNAMSIZ]byte
				data unsafe.Pointer
				_    [16]byte // struct ifreq ends with a union larger than a pointer
			}
			copy(request.name[:unix.IFNAMSIZ-1], device)
			request.data = unsafe.Pointer(&value)
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
				return fmt.Errorf("switching %s of %s off in namespace %s: %w", o.name, device, ns.name, errno)
			}
		}
		return nil
	})
}
