package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const netlinkNetfilter = "12" // NETLINK_NETFILTER, linux/netlink.h

// logDrops returns how many packets a process received from a netfilter log and
// how many the kernel dropped because it did not read them in time.
func (d *daemon) logDrops(pid int, received uint64) (packets, drops uint64) {
	table, err := os.ReadFile("/proc/net/netlink")
	if err != nil {
		return received, 0 // it is only told, and was not before
	}
	drops = netlinkDrops(table, socketsOf(pid))
	return received + drops, drops
}

// socketsOf are the inodes of a process' sockets.
func socketsOf(pid int) map[string]bool {
	inodes := make(map[string]bool)
	fds, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}

// netlinkDrops adds up the column Drops of /proc/net/netlink for netfilter
// sockets with the inodes.
func netlinkDrops(table []byte, inodes map[string]bool) (drops uint64) {
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[1] != netlinkNetfilter || !inodes[f[9]] {
			continue
		}
		if n, err := strconv.ParseUint(f[8], 10, 64); err == nil {
			drops += n
		}
	}
	return drops
}
