package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/daemon/store/backup"
	"pakon/daemon/store/block"
	"pakon/tests/process"
)

// disk stands between SQLite, the backup and the files in a folder: it lets
// calls that write fail, and knows what the disk has for sure.
type disk struct {
	in string // the folder

	mu     sync.Mutex
	calls  int
	from   int // the call that fails, from 1; 0: none
	to     int // the last that fails
	err    syscall.Errno
	failed []string
	each   func(call int) // is told of each call before it is done; mu is held
	images map[string]*image
}

// image is a file as the disk has it for sure, and what was written since.
type image struct {
	synced []byte
	writes []written
}

type written struct {
	at   int64
	data []byte // nil: the file was cut off there
}

// underSQLite is the disk that SQLite uses; nil: that of the machine.
var underSQLite atomic.Pointer[disk]

// call tells whether a call about a file is to fail.
func (d *disk) call(what, path string) error {
	if d == nil || !strings.HasPrefix(path, d.in+"/") {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.each != nil {
		d.each(d.calls)
	}
	if d.from > 0 && d.from <= d.calls && d.calls <= d.to {
		d.failed = append(d.failed, what+" "+strings.TrimPrefix(path, d.in))
		return &fs.PathError{Op: what, Path: path, Err: d.err}
	}
	return nil
}

// breakAt lets calls fail, counted from now on.
func (d *disk) breakAt(from, to int, err syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls, d.from, d.to, d.err, d.failed = 0, from, to, err, nil
}

func (d *disk) repair() (failed []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.from = 0
	return d.failed
}

// note keeps what is written to a database file.
func (d *disk) note(path string, w written) {
	if d == nil || d.images == nil || !strings.HasPrefix(path, d.in+"/") {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.images[path]
	if i == nil {
		i = new(image)
		d.images[path] = i
	}
	i.writes = append(i.writes, w)
}

func (d *disk) noteSync(path string) {
	if d == nil || d.images == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.images[path]; i != nil {
		for _, w := range i.writes {
			i.synced = w.apply(i.synced)
		}
		i.writes = nil
	}
}

func (w written) apply(to []byte) []byte {
	if w.data == nil {
		return append(to, make([]byte, max(0, int(w.at)-len(to)))...)[:w.at]
	}
	if n := int(w.at) + len(w.data); n > len(to) {
		to = append(to, make([]byte, n-len(to))...)
	}
	copy(to[w.at:], w.data)
	return to
}

// record begins to keep what is written; what the files hold now is on the disk.
func (d *disk) record(t *testing.T, paths ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.images = make(map[string]*image)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		d.images[p] = &image{synced: b}
	}
}

// lose makes a folder as the disk's may be after the power was lost: of what was
// not synced, anything may be there. mu is held.
func (d *disk) lose(t *testing.T, r *rand.Rand, to string) {
	entries, err := os.ReadDir(d.in)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(d.in, e.Name())
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "-shm") {
			continue
		}
		if i := d.images[path]; i != nil {
			b = bytes.Clone(i.synced)
			some := r.IntN(4)
			for _, w := range i.writes {
				if some == 1 || some > 1 && r.IntN(some) > 0 {
					b = w.apply(b)
				}
			}
		}
		write(t, filepath.Join(to, e.Name()), b)
	}
}

// The functions of a VFS and its files that are replaced.
type (
	vfsOpen     = func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32
	vfsDelete   = func(*libc.TLS, uintptr, uintptr, int32) int32
	vfsClose    = func(*libc.TLS, uintptr) int32
	vfsWrite    = func(*libc.TLS, uintptr, uintptr, int32, int64) int32
	vfsTruncate = func(*libc.TLS, uintptr, int64) int32
	vfsSync     = func(*libc.TLS, uintptr, int32) int32
	vfsShmMap   = func(*libc.TLS, uintptr, int32, int32, int32, uintptr) int32
)

// pointer is the memory at an address that SQLite knows.
func pointer[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// function is what SQLite knows by an address.
func function[F any](address uintptr) F {
	f := &struct{ uintptr }{address}
	return *(*F)(unsafe.Pointer(f))
}

// address is that by which SQLite may call a function of the package.
func address(f any) uintptr {
	return (*[2]uintptr)(unsafe.Pointer(&f))[1]
}

// vfs is SQLite's way to files, as it is and with ours before it.
var vfs struct {
	once    sync.Once
	plain   sqlite3.Tsqlite3_vfs
	paths   sync.Map // of open files, by address
	mu      sync.Mutex
	methods map[uintptr]uintptr // of files: ours instead of the plain ones
	plains  sync.Map            // the plain ones, by address of ours
}

// useDisk puts a disk under SQLite until the test ends.
func useDisk(t *testing.T, d *disk) {
	t.Helper()
	vfs.once.Do(func() {
		tls := libc.NewTLS()
		defer tls.Close()
		found := sqlite3.Xsqlite3_vfs_find(tls, 0)
		vfs.plain = *pointer[sqlite3.Tsqlite3_vfs](found)
		vfs.methods = make(map[uintptr]uintptr)
		ours := libc.Xmalloc(tls, sqlite3.Tsize_t(unsafe.Sizeof(vfs.plain)))
		name, err := libc.CString("pakon-test")
		if ours == 0 || err != nil {
			t.Fatal("no memory", err)
		}
		v := pointer[sqlite3.Tsqlite3_vfs](ours)
		*v = vfs.plain
		v.FpNext, v.FzName = 0, name
		v.FxOpen, v.FxDelete = address(vfsOpen(openFile)), address(vfsDelete(deleteFile))
		if rc := sqlite3.Xsqlite3_vfs_register(tls, ours, 1); rc != 0 {
			t.Fatal("register:", rc)
		}
	})
	if !underSQLite.CompareAndSwap(nil, d) {
		t.Fatal("another test uses a disk of its own")
	}
	t.Cleanup(func() { underSQLite.Store(nil) })
}

func openFile(tls *libc.TLS, v, path, file uintptr, flags int32, out uintptr) int32 {
	name := libc.GoString(path)
	if flags&sqlite3.SQLITE_OPEN_CREATE != 0 {
		if _, err := os.Stat(name); err != nil && underSQLite.Load().call("create", name) != nil {
			return sqlite3.SQLITE_CANTOPEN
		}
	}
	rc := function[vfsOpen](vfs.plain.FxOpen)(tls, v, path, file, flags, out)
	f := pointer[sqlite3.Tsqlite3_file](file)
	if f.FpMethods == 0 {
		return rc
	}
	vfs.mu.Lock()
	defer vfs.mu.Unlock()
	ours, ok := vfs.methods[f.FpMethods]
	if !ok {
		m := *pointer[sqlite3.Tsqlite3_io_methods](f.FpMethods)
		ours = libc.Xmalloc(tls, sqlite3.Tsize_t(unsafe.Sizeof(m)))
		plain := m
		vfs.plains.Store(ours, &plain)
		m.FxClose, m.FxWrite, m.FxTruncate = address(vfsClose(closeFile)), address(vfsWrite(writeFile)), address(vfsTruncate(truncateFile))
		m.FxSync, m.FxShmMap = address(vfsSync(syncFile)), address(vfsShmMap(mapShared))
		*pointer[sqlite3.Tsqlite3_io_methods](ours) = m
		vfs.methods[f.FpMethods] = ours
	}
	f.FpMethods = ours
	vfs.paths.Store(file, name)
	return rc
}

// plainOf are the plain methods of a file, and its path.
func plainOf(file uintptr) (*sqlite3.Tsqlite3_io_methods, string) {
	m, _ := vfs.plains.Load(pointer[sqlite3.Tsqlite3_file](file).FpMethods)
	path, _ := vfs.paths.Load(file)
	return m.(*sqlite3.Tsqlite3_io_methods), path.(string)
}

func deleteFile(tls *libc.TLS, v, path uintptr, sync int32) int32 {
	name := libc.GoString(path)
	if underSQLite.Load().call("delete", name) != nil {
		return sqlite3.SQLITE_IOERR_DELETE
	}
	rc := function[vfsDelete](vfs.plain.FxDelete)(tls, v, path, sync)
	if d := underSQLite.Load(); d != nil && d.images != nil && rc == 0 {
		d.mu.Lock()
		delete(d.images, name)
		d.mu.Unlock()
	}
	return rc
}

func closeFile(tls *libc.TLS, file uintptr) int32 {
	m, _ := plainOf(file)
	vfs.paths.Delete(file)
	return function[vfsClose](m.FxClose)(tls, file)
}

func writeFile(tls *libc.TLS, file, buf uintptr, n int32, at int64) int32 {
	m, path := plainOf(file)
	d := underSQLite.Load()
	if err := d.call("write", path); err != nil {
		// Half of it, as a full disk does.
		function[vfsWrite](m.FxWrite)(tls, file, buf, n/2, at)
		if errors.Is(err, syscall.ENOSPC) {
			return sqlite3.SQLITE_FULL
		}
		return sqlite3.SQLITE_IOERR_WRITE
	}
	rc := function[vfsWrite](m.FxWrite)(tls, file, buf, n, at)
	if rc == 0 && d != nil && d.images != nil {
		d.note(path, written{at, bytes.Clone(unsafe.Slice(pointer[byte](buf), n))})
	}
	return rc
}

func truncateFile(tls *libc.TLS, file uintptr, size int64) int32 {
	m, path := plainOf(file)
	if underSQLite.Load().call("truncate", path) != nil {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	rc := function[vfsTruncate](m.FxTruncate)(tls, file, size)
	if rc == 0 {
		underSQLite.Load().note(path, written{at: size})
	}
	return rc
}

func syncFile(tls *libc.TLS, file uintptr, flags int32) int32 {
	m, path := plainOf(file)
	if underSQLite.Load().call("sync", path) != nil {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	rc := function[vfsSync](m.FxSync)(tls, file, flags)
	if rc == 0 {
		underSQLite.Load().noteSync(path)
	}
	return rc
}

func mapShared(tls *libc.TLS, file uintptr, region, size, extend int32, out uintptr) int32 {
	m, path := plainOf(file)
	if extend != 0 && underSQLite.Load().call("extend", path+"-shm") != nil {
		return sqlite3.SQLITE_IOERR_SHMSIZE
	}
	return function[vfsShmMap](m.FxShmMap)(tls, file, region, size, extend, out)
}

// diskFiles are the backup's files on a disk.
type diskFiles struct {
	backup.OS
	d *disk
}

type diskFile struct {
	backup.File
	d    *disk
	path string
}

func (f diskFiles) Create(path string) (backup.File, error) {
	if err := f.d.call("create", path); err != nil {
		return nil, err
	}
	file, err := f.OS.Create(path)
	if err != nil {
		return nil, err
	}
	return diskFile{file, f.d, path}, nil
}

func (f diskFiles) Rename(from, to string) error {
	if err := f.d.call("rename", from); err != nil {
		return err
	}
	return f.OS.Rename(from, to)
}

func (f diskFiles) Remove(path string) error {
	if err := f.d.call("remove", path); err != nil {
		return err
	}
	return f.OS.Remove(path)
}

func (f diskFiles) Mkdir(path string, mode fs.FileMode) error {
	if err := f.d.call("mkdir", path); err != nil {
		return err
	}
	return f.OS.Mkdir(path, mode)
}

func (f diskFiles) SyncDir(path string) error {
	if err := f.d.call("sync", path); err != nil {
		return err
	}
	return f.OS.SyncDir(path)
}

func (f diskFile) Write(b []byte) (int, error) {
	if err := f.d.call("write", f.path); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	}
	return f.File.Write(b)
}

func (f diskFile) Sync() error {
	if err := f.d.call("sync", f.path); err != nil {
		return err
	}
	return f.File.Sync()
}

// wholeCensus are the bytes that queries see: without what is in live yet, but in
// the archive already.
func wholeCensus(t testing.TB, s *Store) census {
	t.Helper()
	c := make(census)
	_, blocks := archived(t, s)
	where, args := "1", []any(nil)
	if a := s.archive.Load(); a != nil {
		m, err := s.pending(t.Context(), s.read, a.read)
		failOn(t, err)
		if m != nil {
			where, args = m.condition()
			where = "NOT (" + where + ")"
		}
	}
	for r := readLive(s.read, where, args...); ; {
		b := new(block.Block)
		ok, err := r.next(t.Context(), b)
		failOn(t, err)
		if !ok {
			break
		}
		blocks = append(blocks, b)
	}
	for _, b := range blocks {
		for i := range b.Flows {
			c.add(b, &b.Flows[i], s.hourStart(), s.classify)
		}
	}
	return c.bytes()
}

// lasting are rules that keep all bytes.
func lasting(path string) ArchiveConfig {
	return ArchiveConfig{Path: path, Keep: 10000 * 24 * time.Hour, Rules: crashRules}
}

// openDisk opens live and archive in a folder.
func openDisk(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	o.Path, o.Classify = filepath.Join(dir, "pakon.db"), testClassify
	s := open(t, o)
	s.SetArchive(lasting(filepath.Join(dir, "srv", "pakon-archive.db")))
	if err := s.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// ramDir is a folder of the test's own, in RAM where there is one: what is synced
// there costs nothing.
func ramDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pakon-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// reboot removes live.
func reboot(t testing.TB, dir string) {
	t.Helper()
	for _, ext := range []string{"", "-wal", "-shm", ".lock"} {
		if err := removeIfThere(filepath.Join(dir, "pakon.db"+ext)); err != nil {
			t.Fatal(err)
		}
	}
}

// copyFiles copies a folder and those in it.
func copyFiles(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestBackupNotNoted ends a process after a backup was written and before live knew
// of it: it is live's own, and is not taken for that of another.
func TestBackupNotNoted(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	add(t, s, randomFlows(rand.New(rand.NewPCG(1, 9)), 20, 1)...)
	want := wholeCensus(t, s)
	_, err := s.w.conn.ExecContext(t.Context(), "CREATE TEMP TRIGGER broken BEFORE UPDATE OF backed ON state WHEN new.backed > 0 BEGIN SELECT RAISE(FAIL, 'broken'); END")
	failOn(t, err)
	if _, err := s.Backup(t.Context()); err == nil {
		t.Fatal("the backup was noted")
	}
	_, err = s.w.conn.ExecContext(t.Context(), "DROP TRIGGER broken")
	failOn(t, err)
	closeStore(t, s)
	s = openDisk(t, dir, Options{})
	sameCensus(t, "after a restart", wholeCensus(t, s), want)
	_, err = s.Backup(t.Context())
	failOn(t, err)
	sameCensus(t, "backed up", wholeCensus(t, s), want)
	closeStore(t, s)
	reboot(t, dir)
	sameCensus(t, "after a reboot", wholeCensus(t, openDisk(t, dir, Options{})), want)
}

// TestFailingCalls lets each call that writes fail once, and each with all that
// follow: the run tells what failed, monitoring goes on, and the next run puts
// all right.
func TestFailingCalls(t *testing.T) {
	alone(t)
	base := ramDir(t)
	s := openDisk(t, base, Options{})
	r := rand.New(rand.NewPCG(5, 6))
	flows := randomFlows(r, 130, 2)
	add(t, s, flows[:60]...)
	if _, err := archiveAt(s, t.Context(), theNow.Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	add(t, s, flows[60:110]...)
	closeStore(t, s)
	d := new(disk)
	useDisk(t, d)
	for _, tt := range []struct {
		name    string
		err     syscall.Errno
		lasting bool
		live    bool // live's calls fail, too
	}{
		{"EIO once", syscall.EIO, false, true},
		{"ENOSPC once", syscall.ENOSPC, false, false},
		{"ENOSPC from then on", syscall.ENOSPC, true, false},
		{"EIO from then on", syscall.EIO, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, failed := 1, 0
			for done := false; !done && !t.Failed(); n++ {
				if n > 20 && tt.lasting {
					n += r.IntN(5)
				}
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					dir := ramDir(t)
					copyFiles(t, base, dir)
					d.in = dir
					if !tt.live {
						d.in = filepath.Join(dir, "srv")
					}
					to := n
					if tt.lasting {
						to = 1 << 30
					}
					hit := failingCall(t, dir, d, n, to, tt.err, flows[110:])
					done = hit == 0
					failed += hit
				})
			}
			if failed < 50 {
				t.Errorf("%d calls failed", failed)
			}
			t.Logf("%d calls", n-1)
		})
	}
}

// failingCall archives and backs up on a disk of which calls fail. It tells how
// many did.
func failingCall(t *testing.T, dir string, d *disk, from, to int, why syscall.Errno, late []flow.Flow) (failed int) {
	s := openDisk(t, dir, Options{Files: diskFiles{d: d}})
	want := censusOf(t, s).bytes()
	d.breakAt(from, to, why)
	_, err := archiveAt(s, t.Context(), theNow)
	archived := err
	_, err = s.Backup(t.Context())
	if to > from {
		// The disk is broken yet.
		if e := s.Add(t.Context(), late[:1]); e != nil {
			t.Errorf("flows can not be added while the disk is broken: %v", e)
		}
		if _, e := s.Flows(t.Context(), Query{}); e != nil && archived == nil {
			t.Errorf("flows can not be asked for while the disk is broken: %v", e)
		}
	}
	names := d.repair()
	if len(names) == 0 {
		if archived != nil || err != nil {
			t.Fatalf("nothing failed, but: %v, %v", archived, err)
		}
		return 0
	}
	for _, err := range []error{archived, err} {
		if err != nil && !strings.Contains(err.Error(), dir) {
			t.Errorf("after %v the error does not say what failed: %v", names, err)
		}
	}
	if to == from {
		add(t, s, late[:1]...)
	}
	tallyCensus(want, late[:1])
	if _, err := s.Flows(t.Context(), Query{}); err != nil {
		t.Errorf("after %v flows can not be asked for: %v", names, err)
	}
	sameCensus(t, fmt.Sprintf("after %v (%v, %v), bytes", names, archived, err), wholeCensus(t, s), want)
	if err := s.Attach(t.Context()); err != nil {
		t.Errorf("attach after %v: %v", names, err)
	}
	if _, err := archiveAt(s, t.Context(), theNow); err != nil {
		t.Errorf("archive after %v: %v", names, err)
	}
	if _, err := s.Backup(t.Context()); err != nil {
		t.Errorf("back up after %v: %v", names, err)
	}
	sameCensus(t, fmt.Sprintf("after %v, put right, bytes", names), censusOf(t, s).bytes(), want)
	closeStore(t, s)
	if from%4 > 0 {
		return len(names)
	}
	reboot(t, dir)
	s = openDisk(t, dir, Options{})
	sameCensus(t, fmt.Sprintf("after %v and a reboot, bytes", names), censusOf(t, s).bytes(), want)
	closeStore(t, s)
	return len(names)
}

// tallyCensus adds flows to a census of bytes.
func tallyCensus(c census, flows []flow.Flow) {
	for i := range flows {
		f := &flows[i]
		for k, n := range censusOfFlow(f) {
			m := c[k]
			c[k] = sent{sent: m.sent + n.sent, recvd: m.recvd + n.recvd}
		}
	}
	maps.DeleteFunc(c, func(_ placeOf, n sent) bool { return n == sent{} })
}

// censusOfFlow are the bytes of a flow by the hour.
func censusOfFlow(f *flow.Flow) census {
	p := placeOf{client: owner{mac: f.Client}, shown: f.Name, port: f.Port, direction: uint8(f.Direction), hour: f.Start / 3_600_000 * 3_600_000}
	if f.Client.IsZero() {
		p.client.address = f.ClientAddr
	}
	if g, _ := testClassify(f.Name); g != "" {
		p.shown = g
	}
	if p.shown == "" {
		p.shown = f.Remote.String()
	}
	c := make(census)
	total := sent{sent: f.Sent, recvd: f.Recvd}
	if f.Track.Hour > 0 {
		q := p
		q.hour = f.Track.Hour
		c[q] = sent{sent: f.Track.HourSent, recvd: f.Track.HourRecvd}
		total.sent, total.recvd = total.sent-f.Track.HourSent, total.recvd-f.Track.HourRecvd
	}
	m := c[p]
	c[p] = sent{sent: m.sent + total.sent, recvd: m.recvd + total.recvd}
	return c
}

// TestPowerLoss looks at what the disk may hold after each call that writes, if
// the power is lost then: what was backed up or archived is there, once.
func TestPowerLoss(t *testing.T) {
	alone(t)
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { powerLoss(t, seed) })
	}
}

func powerLoss(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 8))
	dir := ramDir(t)
	d := &disk{in: filepath.Join(dir, "srv")}
	useDisk(t, d)
	s := openDisk(t, dir, Options{Files: diskFiles{d: d}})
	clients := []client.MAC{testMAC(1), testMAC(2), testMAC(3)}
	part := func(n int) []flow.Flow {
		flows := randomFlows(r, 150, 3)
		for i := range flows {
			flows[i].Client = clients[n]
		}
		return flows
	}
	want := make(census)
	sure := 0 // clients whose flows must be there
	type state struct {
		dir  string
		call int
		sure int
	}
	var states []state
	next := func(n int) {
		flows := part(n)
		add(t, s, flows...)
		tallyCensus(want, flows)
	}
	backUp := func(n int) {
		if _, err := s.Backup(t.Context()); err != nil {
			t.Fatal(err)
		}
		sure = n
	}
	next(0)
	backUp(1)
	d.record(t, filepath.Join(d.in, "pakon-archive.db"), filepath.Join(d.in, "pakon-archive.db-wal"))
	d.each = func(call int) {
		if r.IntN(5) > 0 {
			return
		}
		to := filepath.Join(dir, fmt.Sprint("lost", call))
		d.lose(t, r, filepath.Join(to, "srv"))
		states = append(states, state{to, call, sure})
	}
	for _, step := range []func(){
		func() { next(1) },
		func() { _, err := archiveAt(s, t.Context(), theNow.Add(-12*time.Hour)); failOn(t, err) },
		func() { backUp(2) },
		func() { next(2) },
		func() { _, err := archiveAt(s, t.Context(), theNow); failOn(t, err) },
		func() { backUp(3) },
		func() { _, err := archiveAt(s, t.Context(), theNow.Add(36*time.Hour)); failOn(t, err) },
		func() { backUp(3) },
	} {
		step()
	}
	d.mu.Lock()
	d.each = nil
	d.mu.Unlock()
	sameCensus(t, "bytes without a loss", censusOf(t, s).bytes(), want)
	closeStore(t, s)
	if len(states) < 20 {
		t.Fatalf("%d states", len(states))
	}
	for _, st := range states {
		s := openDisk(t, st.dir, Options{})
		got := censusOf(t, s).bytes()
		for p, n := range got {
			if w := want[p]; n.sent > w.sent || n.recvd > w.recvd {
				t.Errorf("lost at call %d: there is more of %+v: %+v, want %+v", st.call, p, n, w)
			}
		}
		for p, w := range want {
			if slices.Index(clients, p.client.mac) < st.sure && got[p] != w {
				t.Errorf("lost at call %d: of %+v there is %+v, want %+v", st.call, p, got[p], w)
			}
		}
		if aside := aside(filepath.Join(st.dir, "srv", "pakon-archive.db")); len(aside) > 0 {
			t.Errorf("lost at call %d: set aside: %v", st.call, aside)
		}
		closeStore(t, s)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d states", len(states))
}

func failOn(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rebooting is a store whose live database is lost from time to time, and what
// it must hold. Flows are told apart by their names.
type rebooting struct {
	t   *testing.T
	r   *rand.Rand
	dir string
	s   *Store

	flows map[string]*recorded
	next  int
	stop  context.CancelFunc // of the archive run in work; called after some names
	names int
	steps []string
}

// recorded is a flow: as it is now, and what it was since the last backup.
type recorded struct {
	now      flow.Flow // its State is Whole once nothing changes any more
	gone     bool
	versions []uint64 // bytes that may be found after a reboot; 0: none
}

func (b *rebooting) open() {
	b.t.Helper()
	b.s = openDisk(b.t, b.dir, Options{})
	plain := b.s.classify
	b.s.classify = func(n string) (string, bool) {
		if b.names--; b.names == 0 && b.stop != nil {
			b.stop()
		}
		return plain(n)
	}
}

func (b *rebooting) note(format string, args ...any) {
	b.steps = append(b.steps, fmt.Sprintf(format, args...))
}

// add records flows, and what may be found of them.
func (b *rebooting) add(flows ...flow.Flow) {
	b.t.Helper()
	add(b.t, b.s, flows...)
	for i := range flows {
		f := &flows[i]
		if f.State == flow.Done || f.State == flow.Void {
			continue
		}
		old := b.flows[f.Name]
		if old == nil {
			old = &recorded{versions: []uint64{0}}
			b.flows[f.Name] = old
		}
		old.now = *f
		old.versions = append(old.versions, f.Sent)
	}
}

// some is a flow that is tracked; nil if there is none.
func (b *rebooting) some() *recorded {
	for _, n := range slices.Sorted(maps.Keys(b.flows)) {
		if f := b.flows[n]; !f.gone && f.now.State != flow.Whole && b.r.IntN(3) == 0 {
			return f
		}
	}
	return nil
}

func (b *rebooting) step() {
	b.t.Helper()
	now := time.Now().UnixMilli()
	switch k := b.r.IntN(16); {
	case k < 4:
		flows := make([]flow.Flow, 1+b.r.IntN(12))
		for i := range flows {
			b.next++
			f := testFlow(now - b.r.Int64N(3*dayMS))
			f.Name, f.Sent = fmt.Sprintf("f%d.example", b.next), 1+b.r.Uint64N(1000)
			flows[i] = f
		}
		b.note("add %s to %s", flows[0].Name, flows[len(flows)-1].Name)
		b.add(flows...)
	case k < 6:
		b.next++
		f := testFlow(now - b.r.Int64N(3_600_000))
		f.Name, f.Sent = fmt.Sprintf("f%d.example", b.next), 1+b.r.Uint64N(1000)
		f.State, f.Track.Key = flow.Running, uint64(1_000_000+b.next)
		b.note("begin %s", f.Name)
		b.add(f)
	case k < 10:
		f := b.some()
		if f == nil {
			return
		}
		g := f.now
		switch b.r.IntN(6) {
		case 0:
			b.note("void %s", g.Name)
			g.State = flow.Void
			b.add(g)
			f.gone, f.versions = true, append(f.versions, 0)
		case 1:
			b.note("done %s", g.Name)
			g.State = flow.Done
			b.add(g)
			f.now.State = flow.Whole
		default:
			g.Sent += 1 + b.r.Uint64N(500)
			g.End = now
			g.State = flow.State(int(flow.Running) + b.r.IntN(2))
			if hour := now / 3_600_000 * 3_600_000; hour > g.Start {
				g.Track.Hour, g.Track.HourSent, g.Track.HourRecvd = hour, min(g.Sent-f.now.Sent, g.Sent), 0
			}
			b.note("%v %s: %d", g.State, g.Name, g.Sent)
			b.add(g)
		}
	case k < 12:
		b.backUp()
	case k < 14:
		ctx, cancel := context.WithCancel(b.t.Context())
		defer cancel()
		b.stop, b.names = nil, 0
		partly := b.r.IntN(2) == 0
		if partly {
			b.stop, b.names = cancel, 1+b.r.IntN(60)
		}
		_, err := archiveAt(b.s, ctx, time.Now())
		b.note("archive: %v", err)
		if err != nil && !errors.Is(err, context.Canceled) {
			b.t.Fatal(err)
		}
		if partly && b.r.IntN(2) == 0 {
			b.reboot()
		}
	case k < 15:
		b.note("restart")
		b.restart()
	default:
		if b.r.IntN(2) == 0 {
			b.backUp()
		}
		b.reboot()
	}
}

func (b *rebooting) backUp() {
	b.t.Helper()
	run, err := b.s.Backup(b.t.Context())
	failOn(b.t, err)
	b.note("backup of %d", run.Flows)
	for _, f := range b.flows {
		f.versions = []uint64{f.now.Sent}
		if f.gone {
			f.versions = []uint64{0}
		}
	}
}

// restart closes and opens the store.
func (b *rebooting) restart() {
	b.t.Helper()
	closeStore(b.t, b.s)
	b.open()
	tracked, err := b.s.Tracked(b.t.Context())
	failOn(b.t, err)
	found := make(map[string]bool)
	for i := range tracked {
		found[tracked[i].Name] = true
		b.flows[tracked[i].Name].now = tracked[i]
	}
	for n, f := range b.flows {
		if !found[n] && !f.gone && f.now.State != flow.Whole {
			b.t.Errorf("%s is not tracked any more", n)
		}
	}
}

// reboot loses live, and looks at what is there then.
func (b *rebooting) reboot() {
	b.t.Helper()
	b.note("reboot")
	closeStore(b.t, b.s)
	reboot(b.t, b.dir)
	b.open()
	got := b.bytes()
	for n, f := range b.flows {
		if !slices.Contains(f.versions, got[n]) {
			b.t.Errorf("after a reboot %s has %d bytes, want one of %v", n, got[n], f.versions)
		}
		if got[n] == 0 {
			delete(b.flows, n)
			continue
		}
		f.gone, f.versions = false, []uint64{got[n]}
		f.now.State, f.now.Sent = flow.Whole, got[n]
	}
}

// bytes are those of the flows, by name.
func (b *rebooting) bytes() map[string]uint64 {
	b.t.Helper()
	got := make(map[string]uint64)
	for p, n := range wholeCensus(b.t, b.s) {
		got[p.shown] += n.sent
	}
	return got
}

func (b *rebooting) check() {
	b.t.Helper()
	got := b.bytes()
	for n, f := range b.flows {
		want := f.now.Sent
		if f.gone {
			want = 0
		}
		if got[n] != want {
			b.t.Errorf("%s has %d bytes, want %d", n, got[n], want)
		}
	}
}

// TestReboots loses live after whatever came before: what was backed up or
// archived is there, once.
func TestReboots(t *testing.T) {
	alone(t)
	// What packs blocks is kept for the next, and must not leave the bubble.
	if !process.Own(t) {
		return
	}
	dirs := make([]string, 40)
	for i := range dirs {
		dirs[i] = ramDir(t)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(theNow))
		for seed, dir := range dirs {
			b := &rebooting{t: t, r: rand.New(rand.NewPCG(uint64(seed), 9)), dir: dir, flows: make(map[string]*recorded)}
			b.open()
			for range 60 {
				b.step()
				b.check()
				if t.Failed() {
					t.Fatalf("seed %d, after %q", seed, b.steps)
				}
				time.Sleep(time.Duration(b.r.Int64N(int64(4 * time.Hour))))
			}
			b.backUp()
			b.reboot()
			b.check()
			if t.Failed() {
				t.Fatalf("seed %d, after %q", seed, b.steps)
			}
			closeStore(t, b.s)
		}
	})
}

// TestDamagedArchive opens an archive of which a part is gone: it is set aside and
// told, live is whole, and a new one is begun.
func TestDamagedArchive(t *testing.T) {
	base := ramDir(t)
	s := openDisk(t, base, Options{})
	add(t, s, randomFlows(rand.New(rand.NewPCG(1, 1)), 800, 4)...)
	_, err := archiveAt(s, t.Context(), theNow)
	failOn(t, err)
	closeStore(t, s)
	whole := read(t, filepath.Join(base, "srv", "pakon-archive.db"))
	noise := make([]byte, len(whole))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"one byte", whole[:1]}, {"100 bytes", whole[:100]}, {"a page", whole[:4096]}, {"half", whole[:len(whole)/2]},
		{"half a page", whole[:len(whole)/2/4096*4096+2048]}, {"without the last page", whole[:len(whole)-4096]},
		{"zeros", make([]byte, len(whole))}, {"noise", noise},
		{"noise behind the header", append(bytes.Clone(whole[:100]), noise[100:]...)},
		{"a page of noise", slices.Concat(whole[:4096], noise[:4096], whole[8192:])},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := ramDir(t)
			copyFiles(t, base, dir)
			path := filepath.Join(dir, "srv", "pakon-archive.db")
			write(t, path, tt.data)
			var log bytes.Buffer
			s := open(t, Options{Path: filepath.Join(dir, "pakon.db"), Classify: testClassify, Log: slog.New(slog.NewTextHandler(&log, nil))})
			want := wholeCensus(t, s)
			s.SetArchive(lasting(path))
			failOn(t, s.Attach(t.Context()))
			sameCensus(t, "live", wholeCensus(t, s), want)
			st, err := s.Storage(t.Context())
			failOn(t, err)
			if len(st.Aside) != 1 || !bytes.Equal(read(t, st.Aside[0]), tt.data) || !strings.Contains(log.String(), st.Aside[0]) {
				t.Errorf("set aside: %v, log: %s", st.Aside, &log)
			}
			_, err = archiveAt(s, t.Context(), theNow.Add(24*time.Hour))
			failOn(t, err)
			sameCensus(t, "live and the new archive", censusOf(t, s).bytes(), want)
			if st, err = s.Storage(t.Context()); err != nil || st.Flows == 0 {
				t.Errorf("the new archive has %d flows: %v", st.Flows, err)
			}
		})
	}
}

// TestDamagedBlock archives where one block of the archive can not be read: that
// is lost, and nothing else.
func TestDamagedBlock(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	r := rand.New(rand.NewPCG(1, 7))
	add(t, s, randomFlows(r, 800, 4)...)
	_, err := archiveAt(s, t.Context(), theNow)
	failOn(t, err)
	path := filepath.Join(dir, "srv", "pakon-archive.db")
	closeStore(t, s)
	execute(t, path, "UPDATE blocks SET data = zeroblob(length(data)) WHERE first = (SELECT first FROM blocks ORDER BY first DESC LIMIT 1)")
	s = openDisk(t, dir, Options{})
	add(t, s, randomFlows(r, 800, 4)...)
	if _, err := s.Flows(t.Context(), Query{Filter: Filter{All: true, Out: true, In: true}}); err != nil {
		t.Errorf("what is whole can not be asked for: %v", err)
	}
	for day := range 5 {
		run, err := archiveAt(s, t.Context(), theNow.Add(time.Duration(day)*24*time.Hour))
		if err != nil || day == 0 && run.Moved == 0 {
			t.Errorf("day %d: %+v, %v", day, run, err)
		}
	}
	if _, err := s.Forget(t.Context(), Forgetting{Clients: []client.ID{{MAC: testMAC(1)}}}); err != nil {
		t.Errorf("nothing can be forgotten: %v", err)
	}
}

// TestDamagedBackup restores from a backup of which a part is damaged: the others
// are whole, it is kept aside.
func TestDamagedBackup(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"zeros":  func(b []byte) []byte { return make([]byte, len(b)) },
		"cut":    func(b []byte) []byte { return b[:len(b)/2] },
		"empty":  func(b []byte) []byte { return nil },
		"header": func(b []byte) []byte { return b[:10] },
	} {
		for n := range 3 {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				dir := ramDir(t)
				s := openDisk(t, dir, Options{})
				want := make(census)
				for i := range 3 {
					flows := randomFlows(rand.New(rand.NewPCG(uint64(i), 4)), 100, 1)
					for j := range flows {
						flows[j].Client = testMAC(byte(i))
					}
					add(t, s, flows...)
					_, err := s.Backup(t.Context())
					failOn(t, err)
					if i != n {
						tallyCensus(want, flows)
					}
				}
				closeStore(t, s)
				reboot(t, dir)
				parts, err := filepath.Glob(filepath.Join(dir, "srv", "*.pakon"))
				failOn(t, err)
				if len(parts) != 3 {
					t.Fatal(parts)
				}
				write(t, parts[n], damage(read(t, parts[n])))
				s = openDisk(t, dir, Options{})
				sameCensus(t, "restored", wholeCensus(t, s), want)
				_, err = s.Backup(t.Context())
				failOn(t, err)
				st, err := s.Storage(t.Context())
				failOn(t, err)
				if len(st.Aside) != 1 || st.Damaged != 1 {
					t.Errorf("set aside: %v; damaged: %d", st.Aside, st.Damaged)
				}
				closeStore(t, s)
				reboot(t, dir)
				s = openDisk(t, dir, Options{})
				sameCensus(t, "restored again", wholeCensus(t, s), want)
			})
		}
	}
}

// TestFolderComesLater begins where there is no folder to put the archive in.
func TestFolderComesLater(t *testing.T) {
	dir := ramDir(t)
	srv := filepath.Join(dir, "mnt", "srv")
	s := open(t, Options{Path: filepath.Join(dir, "pakon.db"), Classify: testClassify})
	s.SetArchive(lasting(filepath.Join(srv, "pakon", "pakon-archive.db")))
	failOn(t, s.Attach(t.Context()))
	add(t, s, randomFlows(rand.New(rand.NewPCG(1, 5)), 200, 3)...)
	want := wholeCensus(t, s)
	if _, err := archiveAt(s, t.Context(), theNow); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("archive without a folder: %v", err)
	}
	if _, err := s.Backup(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("back up without a folder: %v", err)
	}
	if st, err := s.Storage(t.Context()); err != nil || st.RunErr == nil || st.BackupErr == nil || st.Open {
		t.Errorf("%+v, %v", st, err)
	}
	failOn(t, os.MkdirAll(srv, 0o755))
	failOn(t, s.Attach(t.Context()))
	_, err := s.Backup(t.Context())
	failOn(t, err)
	run, err := archiveAt(s, t.Context(), theNow)
	failOn(t, err)
	if st, err := s.Storage(t.Context()); err != nil || st.RunErr != nil || st.BackupErr != nil || !st.Open || run.Moved == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	sameCensus(t, "bytes", wholeCensus(t, s), want)
}

// mountSmall mounts a disk of so many KiB.
func mountSmall(t *testing.T, path string, kib int) {
	t.Helper()
	failOn(t, os.MkdirAll(path, 0o755))
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
		t.Skip("can not mount:", err)
	}
	t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
}

func TestFullDisk(t *testing.T) {
	if !process.OwnMounts(t) {
		return
	}
	dir := ramDir(t)
	mountSmall(t, filepath.Join(dir, "srv"), 2048)
	s := openDisk(t, dir, Options{})
	r := rand.New(rand.NewPCG(3, 3))
	add(t, s, randomFlows(r, 500, 3)...)
	_, err := archiveAt(s, t.Context(), theNow.Add(-24*time.Hour))
	failOn(t, err)
	add(t, s, randomFlows(r, 1500, 3)...)
	want := wholeCensus(t, s)
	for _, left := range []int{0, 8 << 10, 48 << 10} {
		filler := filepath.Join(dir, "srv", "filler")
		os.WriteFile(filler, make([]byte, 4<<20), 0o600) // as much as there is room for
		if fi, err := os.Stat(filler); err != nil || os.Truncate(filler, fi.Size()-int64(left)) != nil {
			t.Fatal(err)
		}
		_, err := archiveAt(s, t.Context(), theNow)
		_, err2 := s.Backup(t.Context())
		if left == 0 && (err == nil || err2 == nil) {
			t.Errorf("on a full disk: %v, %v", err, err2)
		}
		if st, e := s.Storage(t.Context()); e != nil || !errors.Is(err, st.RunErr) || !errors.Is(err2, st.BackupErr) {
			t.Errorf("%+v, %v", st, e)
		}
		more := randomFlows(r, 10, 1)
		add(t, s, more...)
		tallyCensus(want, more)
		sameCensus(t, fmt.Sprintf("%d left (%v, %v)", left, err, err2), wholeCensus(t, s), want)
		failOn(t, os.Remove(filler))
	}
	_, err = archiveAt(s, t.Context(), theNow)
	failOn(t, err)
	_, err = s.Backup(t.Context())
	failOn(t, err)
	sameCensus(t, "with room again", wholeCensus(t, s), want)
	closeStore(t, s)
	reboot(t, dir)
	s = openDisk(t, dir, Options{})
	sameCensus(t, "after a reboot", wholeCensus(t, s), want)
}

func TestReadOnlyDisk(t *testing.T) {
	if !process.OwnMounts(t) {
		return
	}
	dir := ramDir(t)
	srv := filepath.Join(dir, "srv")
	mountSmall(t, srv, 4096)
	s := openDisk(t, dir, Options{})
	add(t, s, randomFlows(rand.New(rand.NewPCG(3, 4)), 500, 3)...)
	want := wholeCensus(t, s)
	_, err := archiveAt(s, t.Context(), theNow)
	failOn(t, err)
	_, err = s.Backup(t.Context())
	failOn(t, err)
	closeStore(t, s)
	reboot(t, dir)
	failOn(t, syscall.Mount("", srv, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	s = openDisk(t, dir, Options{})
	st, err := s.Storage(t.Context())
	if err != nil || !st.Open || !st.ReadOnly || st.Flows == 0 || len(st.Aside) > 0 {
		t.Errorf("%+v, %v", st, err)
	}
	sameCensus(t, "read-only", wholeCensus(t, s), want)
	if rows := walk(t, s, Query{Filter: Filter{All: true, Out: true, In: true}}); len(rows) < int(st.Flows) {
		t.Errorf("%d rows, the archive has %d", len(rows), st.Flows)
	}
	if _, err := archiveAt(s, t.Context(), theNow.Add(24*time.Hour)); !errors.Is(err, syscall.EROFS) {
		t.Errorf("archive: %v", err)
	}
	if _, err := s.Backup(t.Context()); !errors.Is(err, syscall.EROFS) {
		t.Errorf("backup: %v", err)
	}
	failOn(t, syscall.Mount("", srv, "", syscall.MS_REMOUNT, ""))
	failOn(t, s.Attach(t.Context()))
	_, err = archiveAt(s, t.Context(), theNow.Add(24*time.Hour))
	failOn(t, err)
	_, err = s.Backup(t.Context())
	failOn(t, err)
	sameCensus(t, "writable again", wholeCensus(t, s), want)
}

// TestArchiveAcrossZones archives while the router's zone changes, over days
// that are longer and shorter, and with a clock that goes back.
func TestArchiveAcrossZones(t *testing.T) {
	zone := func(name string) *time.Location {
		l, err := time.LoadLocation(name)
		failOn(t, err)
		return l
	}
	prague, kathmandu := zone("Europe/Prague"), zone("Asia/Kathmandu")
	for _, of := range []time.Time{time.Date(2025, 3, 30, 12, 0, 0, 0, prague), time.Date(2025, 10, 26, 12, 0, 0, 0, prague)} {
		for name, zones := range map[string][]*time.Location{
			"Prague": {prague}, "changing": {prague, time.UTC, kathmandu, prague, kathmandu, time.UTC},
		} {
			t.Run(fmt.Sprint(name, of.Month()), func(t *testing.T) {
				where := prague
				dir := ramDir(t)
				s := openDisk(t, dir, Options{Location: func() *time.Location { return where }})
				r := rand.New(rand.NewPCG(3, 4))
				var want tally
				for day := range 8 {
					where = zones[day%len(zones)]
					now := of.Add(time.Duration(day-2) * 24 * time.Hour)
					flows := randomFlows(r, 300, 2)
					for i := range flows {
						f := &flows[i]
						by := now.UnixMilli() - theNow.UnixMilli()
						f.Start, f.End, f.Track = f.Start+by, f.End+by, flow.Track{}
						want.Sent, want.Recvd = want.Sent+f.Sent, want.Recvd+f.Recvd
					}
					add(t, s, flows...)
					_, err := archiveAt(s, t.Context(), now)
					failOn(t, err)
					var got tally
					for _, n := range wholeCensus(t, s) {
						got.Sent, got.Recvd = got.Sent+n.sent, got.Recvd+n.recvd
					}
					if got != want {
						t.Errorf("day %d: %+v, want %+v", day, got, want)
					}
					checkDays(t, s, name == "Prague", prague)
					before, _ := archived(t, s)
					_, err = archiveAt(s, t.Context(), now.Add(-30*24*time.Hour))
					failOn(t, err)
					if after, _ := archived(t, s); !slices.Equal(before, after) {
						t.Errorf("day %d: a run a month earlier changed the archive", day)
					}
				}
			})
		}
	}
}

// checkDays looks at the days that have sums: they do not overlap, hold the bytes
// of their flows, and are those of a zone if that did not change.
func checkDays(t *testing.T, s *Store, one bool, zone *time.Location) {
	t.Helper()
	a := s.archive.Load()
	days, err := a.days(t.Context(), a.read)
	failOn(t, err)
	_, blocks := archived(t, s)
	for i, d := range days {
		if i > 0 && days[i-1].to > d.from || d.from >= d.to {
			t.Errorf("days overlap: %+v", days)
		}
		from, to := day.period(time.UnixMilli(d.from).In(zone))
		if one && (from.UnixMilli() != d.from || to.UnixMilli() != d.to) {
			t.Errorf("a day is from %v to %v", time.UnixMilli(d.from).In(zone), time.UnixMilli(d.to).In(zone))
		}
		var want, got tally
		for _, b := range blocks {
			for j := range b.Flows {
				if f := &b.Flows[j]; d.from <= f.Start() && f.Start() < d.to {
					want.Sent, want.Recvd = want.Sent+f.Sent, want.Recvd+f.Recvd
				}
			}
		}
		rows, err := a.read.QueryContext(t.Context(), "SELECT data FROM sums WHERE day = ?", d.from)
		failOn(t, err)
		for rows.Next() {
			var data []byte
			var b block.Block
			failOn(t, rows.Scan(&data))
			failOn(t, block.Decode(&b, data))
			for j := range b.Flows {
				got.Sent, got.Recvd = got.Sent+b.Flows[j].Sent, got.Recvd+b.Flows[j].Recvd
			}
		}
		failOn(t, errors.Join(rows.Err(), rows.Close()))
		if got != want {
			t.Errorf("the sums of the day from %d: %+v, want %+v", d.from, got, want)
		}
	}
}

// TestShiftThenArchive archives flows that were recorded in 1970.
func TestShiftThenArchive(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	flows := randomFlows(rand.New(rand.NewPCG(3, 5)), 300, 3)
	by := theNow.UnixMilli() - 4*dayMS
	by -= by % 3_600_000
	early := slices.Clone(flows)
	for i := range early {
		f := &early[i]
		f.Start, f.End = f.Start-by, f.End-by
		if f.Track.Hour > 0 {
			f.Track.Hour -= by
		}
	}
	want := make(census)
	tallyCensus(want, flows)
	add(t, s, early...)
	_, err := s.Backup(t.Context())
	failOn(t, err)
	for range 2 {
		failOn(t, s.Shift(t.Context(), 0, 30*dayMS, by))
		sameCensus(t, "shifted", wholeCensus(t, s), want)
	}
	_, err = archiveAt(s, t.Context(), theNow)
	failOn(t, err)
	sameCensus(t, "archived", censusOf(t, s).bytes(), want)
	_, err = s.Backup(t.Context())
	failOn(t, err)
	closeStore(t, s)
	reboot(t, dir)
	sameCensus(t, "after a reboot", wholeCensus(t, openDisk(t, dir, Options{})), want)
}
