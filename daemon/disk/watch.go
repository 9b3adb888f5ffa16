package disk

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Watch calls changed once it watches, and then after mounts of this process have
// changed, until ctx ends. Several changes may be told by one call. It returns nil
// once ctx has ended.
func Watch(ctx context.Context, changed func()) (err error) {
	mounts, err := unix.Open(mountInfo, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch the mounts: open %s: %w", mountInfo, err)
	}
	defer func() { err = errors.Join(err, unix.Close(mounts)) }()
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch the mounts: %w", err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		// It can not fail: the counter is far from full.
		_, _ = unix.Write(end, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-ended // it uses the descriptor
		}
		err = errors.Join(err, unix.Close(end))
	}()
	changed()
	for {
		fds := []unix.PollFd{{Fd: int32(mounts), Events: unix.POLLPRI | unix.POLLERR}, {Fd: int32(end), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("watch the mounts: %w", err)
		case fds[1].Revents != 0:
			return nil
		case fds[0].Revents&unix.POLLNVAL != 0:
			return fmt.Errorf("watch the mounts: %s has gone", mountInfo)
		case fds[0].Revents != 0:
			changed()
		}
	}
}
