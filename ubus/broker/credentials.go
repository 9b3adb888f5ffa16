package broker

import (
	"fmt"
	"net"
	"os/user"
	"strconv"
	"syscall"
)

// peerCredentials names the user and the group of the process that opened the connection; by number if they have no name.
func peerCredentials(conn *net.UnixConn) (userName, groupName string, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return "", "", fmt.Errorf("reading the credentials of a bus client: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return "", "", fmt.Errorf("reading the credentials of a bus client: %w", err)
	}
	if credErr != nil {
		return "", "", fmt.Errorf("reading the credentials of a bus client: %w", credErr)
	}
	userName = strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(userName); err == nil {
		userName = u.Username
	}
	groupName = strconv.FormatUint(uint64(cred.Gid), 10)
	if g, err := user.LookupGroupId(groupName); err == nil {
		groupName = g.Name
	}
	return userName, groupName, nil
}
