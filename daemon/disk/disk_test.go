package disk

import (
	"os"
	"path/filepath"
	"testing"
)

// The mounts of a router with ubi flash, while a stick is at /mnt/usb stick.
const ubi = `14 1 31:9 / /rom ro,relatime - squashfs /dev/root ro
15 21 0:4 / /proc rw,nosuid,nodev,noexec,noatime - proc proc rw
16 21 0:14 / /sys rw,nosuid,nodev,noexec,noatime - sysfs sysfs rw
18 21 0:16 / /tmp rw,nosuid,nodev,noatime - tmpfs tmpfs rw
19 14 0:17 / /overlay rw,noatime - ubifs /dev/ubi0_1 rw,assert=read-only,ubi=0,vol=1
21 1 0:18 / / rw,noatime - overlay overlayfs:/overlay rw,lowerdir=/,upperdir=/overlay/upper,workdir=/overlay/work
30 21 8:1 / /mnt/usb\040stick rw,relatime shared:7 master:2 - ext4 /dev/sda1 rw
31 21 0:30 / /mnt/nas rw - nfs4 192.168.1.2:/vol\134ume rw
`

// One with jffs2, whose flash is still being prepared: what is written is gone
// with the next boot.
const jffs2Early = `14 1 31:3 / /rom ro,relatime - squashfs /dev/mtdblock3 ro
18 21 0:16 / /tmp rw - tmpfs tmpfs rw
21 1 0:18 / / rw,noatime - overlay overlayfs:/tmp/root rw,lowerdir=/,upperdir=/tmp/root/upper,workdir=/tmp/root/work
`

const jffs2 = `14 1 31:3 / /rom ro,relatime - squashfs /dev/root ro
18 21 0:16 / /tmp rw - tmpfs tmpfs rw
19 14 31:4 / /overlay rw,noatime - jffs2 /dev/mtdblock4 rw
21 1 0:18 / / rw,noatime - overlay overlayfs:/overlay rw,lowerdir=/,upperdir=/overlay/upper,workdir=/overlay/work
22 21 31:5 / /mnt/data rw,noatime - jffs2 /dev/mtdblock5 rw
`

// A Turris Omnia: btrfs on eMMC, a disk at /srv; and what else may be there.
const turris = `20 1 0:14 /@ / rw,noatime - btrfs /dev/mmcblk0p1 rw,ssd,subvolid=257,subvol=/@
21 20 0:4 / /proc rw - proc proc rw
22 20 0:16 / /tmp rw - tmpfs tmpfs rw
23 20 8:1 / /srv rw,relatime - ext4 /dev/sda1 ro
24 20 0:14 /@data /data rw - btrfs /dev/mmcblk0p1 rw,subvolid=300,subvol=/@data
25 20 0:40 / /more rw - btrfs /dev/mmcblk0p2 rw
26 20 179:33 / /card rw - ext4 /dev/mmcblk1p1 rw
27 20 8:17 / /two rw - ext4 /dev/sdb1 rw
28 20 8:33 / /two ro - vfat /dev/sdc1 rw
29 20 0:50 / /none rw - fuse  rw
`

func TestMounts(t *testing.T) {
	for _, tt := range []struct {
		name, table, path  string
		point, typ, source string
		readOnly           bool
		kind               Kind
	}{
		{"ubi", ubi, "/srv/pakon/pakon-archive.db", "/", "overlay", "overlayfs:/overlay", false, Internal},
		{"ubi", ubi, "/overlay/x", "/overlay", "ubifs", "/dev/ubi0_1", false, Internal},
		{"ubi", ubi, "/rom/etc", "/rom", "squashfs", "/dev/root", true, Internal},
		{"ubi", ubi, "/tmp", "/tmp", "tmpfs", "tmpfs", false, RAM},
		{"ubi", ubi, "/tmpx", "/", "overlay", "overlayfs:/overlay", false, Internal},
		{"ubi", ubi, "/mnt/usb stick/pakon/a.db", "/mnt/usb stick", "ext4", "/dev/sda1", false, Drive},
		{"ubi", ubi, "/mnt/usb", "/", "overlay", "overlayfs:/overlay", false, Internal},
		{"ubi", ubi, "/mnt/nas/../nas/x", "/mnt/nas", "nfs4", `192.168.1.2:/vol\ume`, false, Drive},
		{"early", jffs2Early, "/srv", "/", "overlay", "overlayfs:/tmp/root", false, RAM},
		{"jffs2", jffs2, "/srv", "/", "overlay", "overlayfs:/overlay", false, Internal},
		{"jffs2", jffs2, "/mnt/data/x", "/mnt/data", "jffs2", "/dev/mtdblock5", false, Internal},
		{"turris", turris, "/srv/pakon", "/srv", "ext4", "/dev/sda1", true, Drive},
		{"turris", turris, "/home", "/", "btrfs", "/dev/mmcblk0p1", false, Internal},
		{"turris", turris, "/data/x", "/data", "btrfs", "/dev/mmcblk0p1", false, Internal},
		{"turris", turris, "/more/x", "/more", "btrfs", "/dev/mmcblk0p2", false, Internal},
		{"turris", turris, "/card/x", "/card", "ext4", "/dev/mmcblk1p1", false, Drive},
		{"turris", turris, "/two/x", "/two", "vfat", "/dev/sdc1", true, Drive},
		{"turris", turris, "/none", "/none", "fuse", "", false, Drive},
	} {
		table := Parse([]byte(tt.table))
		m, ok := table.Of(tt.path)
		if !ok || m.Point != tt.point || m.Type != tt.typ || m.Source != tt.source || m.ReadOnly != tt.readOnly {
			t.Errorf("%s: %s is on %+v, %v", tt.name, tt.path, m, ok)
		}
		if got := table.Kind(m); got != tt.kind {
			t.Errorf("%s: %s is on a mount of kind %v, want %v", tt.name, tt.path, got, tt.kind)
		}
	}
	if _, ok := Parse([]byte("nonsense\n1 2 3\n\n1 2 8:1 / relative rw - ext4 /dev/sda1 rw\n")).Of("/srv"); ok {
		t.Error("lines that are none make a mount")
	}
}

func TestResolveAndMissing(t *testing.T) {
	dir := Resolve(t.TempDir())
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	at := func(p string) string { return filepath.Join(dir, p) }
	for path, want := range map[string]string{
		at("link/a/b"): at("real/a/b"), at("link"): at("real"), at("x/y"): at("x/y"), "/": "/",
	} {
		if got := Resolve(path); got != want {
			t.Errorf("Resolve(%s) = %s, want %s", path, got, want)
		}
	}
	for path, want := range map[string]string{
		at("a.db"): "", at("link/a.db"): "", at("x/y/a.db"): at("x"), at("real/x/y/a.db"): at("real/x"),
	} {
		if got := Missing(path); got != want {
			t.Errorf("Missing(%s) = %q, want %q", path, got, want)
		}
	}
}

// TestHere reads this machine's own mounts.
func TestHere(t *testing.T) {
	table, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := table.Of("/proc/self"); !ok || m.Type != "proc" {
		t.Errorf("/proc/self is on %+v", m)
	}
	if n, err := Free(t.TempDir()); err != nil || n <= 0 {
		t.Errorf("%d bytes are free, %v", n, err)
	}
	if _, err := Free(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("there is room where nothing is")
	}
}

// Whatever the text, nothing panics, and what is found is what a path lies on.
func FuzzParse(f *testing.F) {
	for _, s := range []string{ubi, jffs2, jffs2Early, turris, `1 2 3:4 / /a\04 rw - x \777 \`} {
		f.Add([]byte(s), "/srv/pakon")
	}
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		table := Parse(text)
		m, ok := table.Of("/" + path)
		if !ok {
			return
		}
		if m.Point == "" || m.Point[0] != '/' || !below(filepath.Clean("/"+path), m.Point) {
			t.Errorf("%q is on %q", path, m.Point)
		}
		table.Kind(m)
	})
}
