// Package disk tells what a file lies on: which mount, what kind of storage that
// is, how much room it has, and when mounts change. What follows from it is the
// callers' business.
package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what a mount's files are kept by.
type Kind uint8

// The kinds.
const (
	Drive    Kind = iota // a disk, a stick, another machine: whatever is none of the others
	Internal             // the router's own flash, which the system itself is on
	RAM                  // gone with the next boot
)

// String is the kind as status shows it.
func (k Kind) String() string {
	switch k {
	case Drive:
		return "drive"
	case Internal:
		return "internal"
	case RAM:
		return "ram"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Mount is a line of /proc/self/mountinfo.
type Mount struct {
	Point    string // absolute
	Type     string // of the file system: "ext4", "tmpfs", ...
	Source   string // "/dev/sda1", "ubi0:rootfs_data", or whatever else the file system says
	Device   string // major:minor
	ReadOnly bool   // the mount or the file system as a whole
	upper    string // of an overlay: where it writes to
}

// Table is the mounts of a machine, in the order in which they were mounted.
type Table []Mount

// mountInfo is read and watched; see proc_pid_mountinfo(5).
const mountInfo = "/proc/self/mountinfo"

// Read reads the mounts of this process.
func Read() (Table, error) {
	text, err := os.ReadFile(mountInfo)
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	return Parse(text), nil
}

// Parse reads the text of mountinfo. Lines that are none are left out.
func Parse(text []byte) Table {
	var t Table
	for line := range bytes.Lines(text) {
		if m, ok := parseLine(strings.TrimSuffix(string(line), "\n")); ok {
			t = append(t, m)
		}
	}
	return t
}

func parseLine(line string) (m Mount, ok bool) {
	// ID, parent, device, root, mount point, options, optional fields, "-", type,
	// source, options of the file system. All is separated by single blanks, and
	// the source may be empty.
	f := strings.Split(line, " ")
	const optional = 6
	if len(f) < optional {
		return m, false
	}
	end := slices.Index(f[optional:], "-")
	if end < 0 {
		return m, false
	}
	end += optional
	if len(f) < end+4 {
		return m, false
	}
	m = Mount{Point: unescape(f[4]), Type: unescape(f[end+1]), Source: unescape(f[end+2]), Device: f[2]}
	if !strings.HasPrefix(m.Point, "/") {
		return m, false
	}
	super := strings.Split(f[end+3], ",")
	m.ReadOnly = slices.Contains(strings.Split(f[5], ","), "ro") || slices.Contains(super, "ro")
	for _, o := range super {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok && m.Type == "overlay" {
			m.upper = unescape(dir)
		}
	}
	return m, true
}

// unescape undoes the escapes of blanks and the like: a backslash and three
// octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && s[i+1] < '4' && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

// Of is the mount that an absolute path without symbolic links lies on, whether
// or not there is such a file. ok is false if the table does not even have "/".
func (t Table) Of(path string) (m Mount, ok bool) {
	path = filepath.Clean(path)
	for _, c := range t {
		if below(path, c.Point) && len(c.Point) >= len(m.Point) {
			m, ok = c, true
		}
	}
	return m, ok
}

// below tells whether a path is that of a folder or of something in it.
func below(path, folder string) bool {
	return folder == "/" || path == folder || strings.HasPrefix(path, folder) && path[len(folder)] == '/'
}

// systemMounts are those that OpenWrt itself lies on.
var systemMounts = []string{"/", "/overlay", "/rom"}

// Kind tells what keeps the files of a mount of the table.
func (t Table) Kind(m Mount) Kind {
	switch {
	case m.Type == "tmpfs" || m.Type == "ramfs":
		return RAM
	case m.upper != "":
		if under, ok := t.Of(m.upper); ok && (under.Type == "tmpfs" || under.Type == "ramfs") {
			return RAM // as long as the flash is still being prepared
		}
	}
	for _, flash := range []string{"ubi", "mtd", "/dev/mtd", "/dev/ubi"} {
		if strings.HasPrefix(m.Source, flash) {
			return Internal
		}
	}
	for _, point := range systemMounts {
		s, ok := t.Of(point)
		if !ok || s.Point != point {
			continue
		}
		if m.Point == point || m.Device == s.Device || strings.HasPrefix(m.Source, "/") && chip(m.Source) == chip(s.Source) {
			return Internal
		}
	}
	return Drive
}

// chip is the eMMC or card that a partition is on; any other source is itself.
func chip(source string) string {
	name, ok := strings.CutPrefix(source, "/dev/mmcblk")
	if !ok {
		return source
	}
	number, _, _ := strings.Cut(name, "p")
	return "/dev/mmcblk" + number
}

// Resolve follows the symbolic links of an absolute path as far as it exists.
func Resolve(path string) string {
	rest := ""
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == filepath.Dir(dir) {
			return filepath.Clean(path)
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// Missing is the first folder on the way to an absolute path that is not there,
// "" if all are. The path itself is not looked at.
func Missing(path string) string {
	missing := ""
	for dir := filepath.Dir(filepath.Clean(path)); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return missing
		}
		missing = dir
		if dir == filepath.Dir(dir) {
			return missing
		}
	}
}

// Free is the number of bytes that may still be written where the file or folder
// is, which must exist.
func Free(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// SyncFolder returns when the names in a folder are on the disk.
func SyncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
