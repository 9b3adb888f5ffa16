package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pakon/daemon/store/block"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := Open(path, OS{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t testing.TB, d *Dir, h Header, blocks ...*block.Block) {
	t.Helper()
	n, err := d.Write(h, segmentOf(blocks...))
	if err != nil {
		t.Fatal(err)
	}
	s := d.Segments()
	if last := s[len(s)-1]; last.Size != n {
		t.Fatalf("wrote %d bytes, its size is %d", n, last.Size)
	}
}

func segmentOf(blocks ...*block.Block) func(func([]byte) error) error {
	return func(write func([]byte) error) error {
		var buf []byte
		for _, b := range blocks {
			var err error
			if buf, err = block.Encode(buf[:0], b); err != nil {
				return err
			}
			if err := write(buf); err != nil {
				return err
			}
		}
		return nil
	}
}

// testHeader has n in each field but the number.
func testHeader(n int64) Header {
	return Header{Identity: -n, Slice: n << 40, Written: 1_700_000_000_000 + n, Replaced: []int64{-n, 0, n, n << 50}}
}

// testBlock has two flows, to hosts with n in their names.
func testBlock(n int) *block.Block {
	b := &block.Block{}
	for i := range 2 {
		f := block.Flow{ID: (1_700_000_000_000+int64(n))<<block.IDShift + int64(i), Duration: 100, Sent: uint64(n), Recvd: 2, Flows: 1}
		f.Endpoint = b.Endpoint(block.Endpoint{Address: netip.MustParseAddr("192.168.1.2"), Interface: "br-lan"})
		f.Name = b.Name(fmt.Sprintf("%d.host%d.example.org", i, n))
		f.Remote = b.Remote(netip.MustParseAddr("192.0.2.1"))
		b.Flows = append(b.Flows, f)
	}
	return b
}

// describe names the flows of a block.
func describe(b *block.Block) string {
	var s []string
	for _, f := range b.Flows {
		s = append(s, fmt.Sprintf("%d %s %s %d", f.ID, b.Names[f.Name], b.Endpoints[f.Endpoint].Interface, f.Sent))
	}
	return strings.Join(s, ", ")
}

func describeAll(blocks ...*block.Block) []string {
	var s []string
	for _, b := range blocks {
		s = append(s, describe(b))
	}
	return s
}

func readAll(d *Dir, number int64) (blocks []string, err error) {
	err = d.Read(number, func(b *block.Block) error {
		blocks = append(blocks, describe(b))
		return nil
	})
	return blocks, err
}

// forget removes the flows that testBlock(n) has.
func forget(n int) func(b *block.Block) (bool, error) {
	return func(b *block.Block) (bool, error) {
		was := len(b.Flows)
		b.Flows = slices.DeleteFunc(b.Flows, func(f block.Flow) bool {
			return strings.Contains(b.Names[f.Name], fmt.Sprintf("host%d.", n))
		})
		return len(b.Flows) != was, nil
	}
}

// folder is what the files of a folder hold.
func folder(t testing.TB, path string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(path, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func equal(a, b map[string]string) bool { return maps.Equal(a, b) }

func names(files map[string]string) []string { return slices.Sorted(maps.Keys(files)) }

func writeFile(t testing.TB, path, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// segmentBytes is a segment file of number 1 with three blocks, and where each
// begins.
func segmentBytes(t testing.TB) (data []byte, at []int) {
	path := t.TempDir()
	write(t, open(t, path), testHeader(1), testBlock(1), testBlock(2), testBlock(3))
	data = []byte(folder(t, path)[fileName(1)])
	for i := 0; ; i++ {
		n := bytes.Index(data[i:], []byte(blockMagic))
		if n < 0 {
			return data, at
		}
		i += n
		at = append(at, i)
	}
}

var threeBlocks = describeAll(testBlock(1), testBlock(2), testBlock(3))

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b")
	d := open(t, path)
	if len(d.Segments()) != 0 || len(folder(t, path)) != 0 {
		t.Fatal("a folder that does not exist has segments")
	}
	headers := []Header{testHeader(1), {}, {Identity: 1<<63 - 1, Slice: -1 << 63, Replaced: []int64{-1 << 63, 1<<63 - 1}}}
	write(t, d, headers[0], testBlock(1), testBlock(2))
	write(t, d, headers[1])
	write(t, d, headers[2], testBlock(3))
	blocks := [][]string{threeBlocks[:2], nil, threeBlocks[2:]}

	for _, d := range []*Dir{d, open(t, path)} {
		segments := d.Segments()
		if len(segments) != 3 {
			t.Fatalf("%d segments", len(segments))
		}
		for i, h := range headers {
			h.Number = int64(i) + 1
			want := Info{Number: h.Number, Identity: h.Identity, Slice: h.Slice, Written: h.Written,
				Replaced: len(h.Replaced), Size: int64(len(folder(t, path)[fileName(h.Number)]))}
			if segments[i] != want {
				t.Errorf("segment %+v, want %+v", segments[i], want)
			}
			got, err := d.Header(h.Number)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(h) {
				t.Errorf("header %v, %v; want %v", got, err, h)
			}
			b, err := readAll(d, h.Number)
			if err != nil || !slices.Equal(b, blocks[i]) {
				t.Errorf("blocks %v, %v; want %v", b, err, blocks[i])
			}
		}
	}
	for name, want := range map[string]fs.FileMode{".": 0o700 | fs.ModeDir, fileName(1): 0o600} {
		if fi, err := os.Stat(filepath.Join(path, name)); err != nil || fi.Mode() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, fi.Mode(), err, want)
		}
	}
}

func TestErrorOfDoIsReturnedAsItIs(t *testing.T) {
	d := open(t, t.TempDir())
	write(t, d, Header{}, testBlock(1), testBlock(2))
	want := errors.New("test")
	calls := 0
	if err := d.Read(1, func(*block.Block) error { calls++; return want }); err != want || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if err := d.Read(2, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a segment that is not there: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	failure := errors.New("test")
	block := func(n int) func(func([]byte) error) error {
		return func(write func([]byte) error) error {
			write(make([]byte, n)) // its error must not be lost
			return nil
		}
	}
	tests := []struct {
		name   string
		h      Header
		blocks func(func([]byte) error) error
		want   string // in the error; empty for none
	}{
		{"the largest block", Header{}, block(MaxBlock), ""},
		{"too large a block", Header{}, block(MaxBlock + 1), "at most 4194304"},
		{"the most ids", Header{Replaced: ids(MaxReplaced)}, segmentOf(), ""},
		{"too many ids", Header{Replaced: ids(MaxReplaced + 1)}, segmentOf(), "at most 1048576"},
		{"the same id twice", Header{Replaced: []int64{1, 1}}, segmentOf(), "not in order"},
		{"ids in no order", Header{Replaced: []int64{2, 1}}, segmentOf(), "not in order"},
		{"an error of blocks", Header{}, func(write func([]byte) error) error {
			write([]byte("x"))
			return failure
		}, failure.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir()
			d := open(t, path)
			_, err := d.Write(tt.h, tt.blocks)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if h, err := open(t, path).Header(1); err != nil || !slices.Equal(h.Replaced, tt.h.Replaced) {
					t.Error("the ids that were read are not those written", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if tt.want == failure.Error() && !errors.Is(err, failure) {
				t.Error("the error is not wrapped")
			}
			if files := folder(t, path); len(files) != 0 || len(d.Segments()) != 0 {
				t.Errorf("it leaves %v", names(files))
			}
		})
	}
}

func ids(n int) []int64 {
	s := make([]int64, n)
	for i := range s {
		s[i] = int64(i) << block.IDShift
	}
	return s
}

func TestTruncated(t *testing.T) {
	data, at := segmentBytes(t)
	for n := range len(data) {
		d := openMemory(t, data[:n])
		got, err := readAll(d, 1)
		want := 0
		for i := range at {
			end := len(data) - frameSize
			if i+1 < len(at) {
				end = at[i+1]
			}
			if n >= end {
				want = i + 1
			}
		}
		if !errors.Is(err, ErrDamaged) || !slices.Equal(got, threeBlocks[:want]) {
			t.Fatalf("%d of %d bytes: %v, %v", n, len(data), got, err)
		}
		if _, err := d.Header(1); (err == nil) != (n >= at[0]) {
			t.Fatalf("%d of %d bytes: header: %v", n, len(data), err)
		}
		if s := d.Segments(); len(s) != 1 || (s[0].Err == nil) != (n >= headerSize) {
			t.Fatalf("%d of %d bytes: %v", n, len(data), s)
		}
	}
}

func TestEachFlippedBitIsNoticed(t *testing.T) {
	data, at := segmentBytes(t)
	for i := range len(data) * 8 {
		damaged := bytes.Clone(data)
		damaged[i/8] ^= 1 << (i % 8)
		got, err := readAll(openMemory(t, damaged), 1)
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d, bit %d: %v", i/8, i%8, err)
		}
		var want []string // no more than the block with the bit is lost
		if i/8 >= at[0] {
			want = slices.Clone(threeBlocks)
			for n := range at {
				end := len(data) - frameSize
				if n+1 < len(at) {
					end = at[n+1]
				}
				if i/8 >= at[n] && i/8 < end {
					want = slices.Delete(want, n, n+1)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("byte %d, bit %d: %v, want %v", i/8, i%8, got, want)
		}
	}
}

// seal makes all CRCs of a segment file right.
func seal(data []byte) []byte {
	b := bytes.Clone(data)
	le := binary.LittleEndian
	if len(b) < headerSize {
		return b
	}
	le.PutUint32(b[12:], checksum(b[:12]))
	ids := b[headerSize:]
	if n := le.Uint32(b[52:]); int64(n) <= int64(len(ids)) {
		le.PutUint32(b[56:], checksum(ids[:n]))
		ids = ids[n:]
	}
	le.PutUint32(b[60:], checksum(b[:60]))
	for frame := ids; len(frame) >= frameSize; {
		n := int64(le.Uint32(frame[8:]))
		if n > int64(len(frame)-frameSize) {
			break
		}
		le.PutUint32(frame[12:], checksum(frame[frameSize:frameSize+n]))
		le.PutUint32(frame[16:], checksum(frame[:16]))
		frame = frame[frameSize+n:]
	}
	return b
}

func TestDamaged(t *testing.T) {
	data, at := segmentBytes(t)
	put := func(offset int, n uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[offset:], n)
			return seal(b)
		}
	}
	size := func(n uint32) func([]byte) []byte { // of the second block
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at[1]+8:], n)
			binary.LittleEndian.PutUint32(b[at[1]+16:], checksum(b[at[1]:at[1]+16]))
			return b
		}
	}
	join := slices.Concat[[]byte, byte]
	tests := []struct {
		name   string
		change func(b []byte) []byte
		want   []string // the blocks
		err    error
		text   string // in the error
	}{
		{"nothing", seal, threeBlocks, nil, ""},
		{"empty", func(b []byte) []byte { return nil }, nil, ErrDamaged, "does not begin"},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }, nil, ErrDamaged, "does not begin"},
		{"another program's", func(b []byte) []byte { return bytes.Repeat([]byte("text\n"), 1000) }, nil, ErrDamaged, "does not begin"},
		{"newer", put(8, 2), nil, ErrNewer, "version 2, known are up to 1"},
		{"newer and short", func(b []byte) []byte { return put(8, 2)(b)[:prefixSize] }, nil, ErrNewer, "newer"},
		{"version 0", put(8, 0), nil, ErrDamaged, "version 0"},
		{"of another number", put(24, 2), nil, ErrDamaged, "number 2"},
		{"very many ids", put(48, 1<<32-1), nil, ErrDamaged, "4294967295 replaced"},
		{"too many ids", put(48, MaxReplaced+1), nil, ErrDamaged, "1048577 replaced"},
		{"the most ids, but few bytes", put(48, MaxReplaced), nil, ErrDamaged, "1048576 replaced"},
		{"ids beyond the end", func(b []byte) []byte { return put(52, 1<<20)(put(48, 1<<20)(b)) }, nil, ErrDamaged, "cut off"},
		{"one id less", func(b []byte) []byte { return put(48, 3)(b) }, nil, ErrDamaged, "list"},
		{"one id more", func(b []byte) []byte { return put(48, 5)(b) }, nil, ErrDamaged, "list"},
		{"an id twice", func(b []byte) []byte { b[headerSize+1] = 0; return seal(b) }, nil, ErrDamaged, "list"},
		{"ids that overflow", func(b []byte) []byte {
			b = put(52, 12)(put(48, 2)(b))
			list := binary.AppendUvarint(binary.AppendVarint(nil, 64), 1<<64-1)
			return seal(join(b[:headerSize], list, b[at[0]:]))
		}, nil, ErrDamaged, "list"},
		{"a block of any size", size(1<<32 - 1), []string{threeBlocks[0], threeBlocks[2]}, ErrDamaged, "1 of 3 blocks"},
		{"a block just too large", size(MaxBlock + 1), []string{threeBlocks[0], threeBlocks[2]}, ErrDamaged, "1 of 3 blocks"},
		{"a block beyond the end", size(MaxBlock), threeBlocks[:1], ErrDamaged, "after 1 "},
		{"a block that is none", func(b []byte) []byte {
			clear(b[at[1]+frameSize : at[2]])
			return seal(b)
		}, []string{threeBlocks[0], threeBlocks[2]}, ErrDamaged, "1 of 3 blocks"},
		{"two blocks missing", func(b []byte) []byte { return join(b[:at[0]], b[at[2]:]) },
			threeBlocks[2:], ErrDamaged, "2 of 3 blocks"},
		{"a block twice", func(b []byte) []byte { return join(b[:at[1]], b[at[0]:]) }, threeBlocks, nil, ""},
		{"blocks in another order", func(b []byte) []byte { return join(b[:at[0]], b[at[2]:len(b)-frameSize], b[at[0]:]) },
			threeBlocks[2:], ErrDamaged, "2 of 3 blocks"},
		{"something between blocks", func(b []byte) []byte { return join(b[:at[1]], []byte("PkBlPkBl"), b[at[1]:]) },
			threeBlocks, nil, ""},
		{"something before the end", func(b []byte) []byte { return join(b[:len(b)-frameSize], []byte("x"), b[len(b)-frameSize:]) },
			threeBlocks, nil, ""},
		{"something behind the end", func(b []byte) []byte { return join(b, b) }, threeBlocks, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir()
			writeFile(t, path, fileName(1), tt.change(bytes.Clone(data)))
			before := folder(t, path)
			d := open(t, path)
			got, err := readAll(d, 1)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q", got)
			}
			if !errors.Is(err, tt.err) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %v, %q", err, tt.err, tt.text)
			}
			if !equal(folder(t, path), before) {
				t.Error("reading has changed the folder")
			}

			// Rewriting leaves what can be read, and nothing else.
			whole := tt.name == "nothing"
			n, err := d.Rewrite(1, func(*block.Block) (bool, error) { return false, nil })
			if len(tt.want) == 0 {
				if err == nil || !equal(folder(t, path), before) {
					t.Errorf("rewrite: %v", err)
				}
				return
			}
			if err != nil || (n == 0) != whole || equal(folder(t, path), before) != whole {
				t.Fatalf("rewrite: %d bytes, %v", n, err)
			}
			if got, err := readAll(d, 1); err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("after rewriting: %q, %v", got, err)
			}
		})
	}
}

func TestForeignFilesAreIgnored(t *testing.T) {
	path := t.TempDir()
	foreign := []string{"pakon-archive.db", "x", "pakon-backup-1.pakon", "pakon-backup-000000001.pakon", "pakon-backup-00000000.pakon",
		"pakon-backup-+0000001.pakon", "pakon-backup-00000001.pakon.old", "pakon-backup-00000001.pakon.damaged-", "pakon-backup-00000001.pakon.damaged-x",
		"pakon-backup-00000001.pakon.new.new", "x.new", "pakon-backup-00000001.new", "pakon-backup-", "PAKON-BACKUP-00000001.PAKON"}
	for _, name := range foreign {
		writeFile(t, path, name, []byte(name))
	}
	if err := os.Mkdir(filepath.Join(path, fileName(7)), 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	if len(d.Segments()) != 0 || len(d.Aside()) != 0 {
		t.Errorf("%v, %v", d.Segments(), d.Aside())
	}
	for _, name := range foreign {
		if err := d.RemoveAside(name); err == nil {
			t.Errorf("%s is removed", name)
		}
	}
	// The folder with a segment's name is in the way of that segment.
	write(t, d, Header{}, testBlock(1))
	if s := d.Segments(); s[0].Number != 8 {
		t.Errorf("number %d", s[0].Number)
	}
	if err := os.Remove(filepath.Join(path, fileName(7))); err != nil {
		t.Fatal(err)
	}
	for _, name := range foreign {
		if got := folder(t, path)[name]; got != name {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	path := someSegments(t)
	before := folder(t, path)
	writeFile(t, path, fileName(9)+".new", []byte("x"))
	var log bytes.Buffer
	d, err := Open(path, OS{}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !equal(folder(t, path), before) {
		t.Error("it is still there")
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), fileName(9)) {
		t.Errorf("log: %s", &log)
	}
	// One that comes later does not stay either.
	writeFile(t, path, fileName(1)+".new", []byte("x"))
	if _, err := d.Rewrite(1, func(*block.Block) (bool, error) { return false, nil }); err != nil || !equal(folder(t, path), before) {
		t.Errorf("%v: %v", err, names(folder(t, path)))
	}
}

func TestNumbersAreNotUsedAgain(t *testing.T) {
	path := t.TempDir()
	writeFile(t, path, fileName(3)+".damaged", []byte("x"))
	d := open(t, path)
	number := func(want int64) {
		t.Helper()
		write(t, d, Header{Number: 77}, testBlock(1))
		s := d.Segments()
		if got := s[len(s)-1].Number; got != want {
			t.Fatalf("number %d, want %d", got, want)
		}
	}
	number(4)
	number(5)
	if err := d.Remove(5); err != nil {
		t.Fatal(err)
	}
	number(6)
	d = open(t, path)
	if err := d.Remove(6); err != nil {
		t.Fatal(err)
	}
	number(7)
	writeFile(t, path, fileName(8), []byte("x"))
	d = open(t, path)
	number(9)
	if err := d.SetAside(9); err != nil {
		t.Fatal(err)
	}
	d = open(t, path)
	number(10)
	writeFile(t, path, fileName(lastNumber), []byte("x"))
	before := folder(t, path)
	if _, err := open(t, path).Write(Header{}, segmentOf()); err == nil || !equal(folder(t, path), before) {
		t.Errorf("beyond the last number: %v", err)
	}
}

func TestSetAside(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	name := fileName(1)
	var want []string
	for i, suffix := range []string{".damaged", ".damaged-2", ".damaged-3"} {
		writeFile(t, path, name, []byte{byte(i)})
		d = open(t, path)
		if s := d.Segments(); len(s) != 1 || !errors.Is(s[0].Err, ErrDamaged) || s[0].Size != 1 {
			t.Fatalf("segments %v", s)
		}
		if err := d.SetAside(1); err != nil {
			t.Fatal(err)
		}
		want = append(want, name+suffix)
		if !slices.Equal(d.Aside(), want) || len(d.Segments()) != 0 || !slices.Equal(names(folder(t, path)), want) {
			t.Fatalf("aside %v, segments %v, files %v", d.Aside(), d.Segments(), names(folder(t, path)))
		}
		if folder(t, path)[name+suffix] != string([]byte{byte(i)}) {
			t.Fatalf("%s is overwritten", name+suffix)
		}
	}
	if err := d.SetAside(1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there is set aside: %v", err)
	}
	if err := d.RemoveAside("../" + filepath.Base(path) + "/" + want[0]); err == nil {
		t.Error("a path is taken for a name")
	}
	for range 3 {
		if err := d.RemoveAside(d.Aside()[0]); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.Aside()) != 0 || len(folder(t, path)) != 0 {
		t.Errorf("aside %v, files %v", d.Aside(), names(folder(t, path)))
	}
}

func TestRewrite(t *testing.T) {
	keep := func(*block.Block) (bool, error) { return false, nil }
	tests := []struct {
		name string
		edit func(b *block.Block) (bool, error)
		want []string
	}{
		{"nothing", keep, threeBlocks},
		{"nothing, but written anew", func(*block.Block) (bool, error) { return true, nil }, threeBlocks},
		{"the first", forget(1), threeBlocks[1:]},
		{"the middle", forget(2), []string{threeBlocks[0], threeBlocks[2]}},
		{"the last", forget(3), threeBlocks[:2]},
		{"all", func(b *block.Block) (bool, error) { b.Flows = b.Flows[:0]; return true, nil }, nil},
		{"without saying so", func(b *block.Block) (bool, error) { forget(2)(b); return false, nil },
			[]string{threeBlocks[0], threeBlocks[2]}},
		{"a flow of each", func(b *block.Block) (bool, error) { b.Flows = b.Flows[:1]; return true, nil },
			[]string{strings.Split(threeBlocks[0], ", ")[0], strings.Split(threeBlocks[1], ", ")[0], strings.Split(threeBlocks[2], ", ")[0]}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := someSegments(t)
			before := folder(t, path)
			d := open(t, path)
			wantHeader, err := d.Header(1)
			if err != nil {
				t.Fatal(err)
			}
			n, err := d.Rewrite(1, tt.edit)
			if err != nil {
				t.Fatal(err)
			}
			after := folder(t, path)
			if tt.name == "nothing" {
				if n != 0 {
					t.Errorf("%d bytes written", n)
				}
			} else if n != int64(len(after[fileName(1)])) {
				t.Errorf("%d bytes written, it has %d", n, len(after[fileName(1)]))
			}
			if got, err := readAll(d, 1); err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v", got, err)
			}
			if h, err := d.Header(1); err != nil || fmt.Sprint(h) != fmt.Sprint(wantHeader) {
				t.Errorf("header %v, %v", h, err)
			}
			if s := open(t, path).Segments(); !slices.Equal(d.Segments(), s) {
				t.Errorf("it knows of %v, there are %v", d.Segments(), s)
			}
			delete(before, fileName(1))
			delete(after, fileName(1))
			if !equal(before, after) {
				t.Errorf("other files changed: %v", names(after))
			}
		})
	}
}

func TestErrorOfEditLeavesTheSegment(t *testing.T) {
	path := someSegments(t)
	before := folder(t, path)
	d := open(t, path)
	want := errors.New("test")
	calls := 0
	_, err := d.Rewrite(1, func(b *block.Block) (bool, error) {
		if calls++; calls == 2 {
			return false, want
		}
		return true, nil
	})
	if !errors.Is(err, want) || !equal(folder(t, path), before) {
		t.Errorf("%v, files %v", err, names(folder(t, path)))
	}
	_, err = d.Rewrite(1, func(b *block.Block) (bool, error) {
		slices.Reverse(b.Flows) // cannot be encoded
		return true, nil
	})
	if err == nil || !equal(folder(t, path), before) {
		t.Errorf("%v, files %v", err, names(folder(t, path)))
	}
}

func TestWhatARewriteDropsIsLogged(t *testing.T) {
	data, at := segmentBytes(t)
	path := t.TempDir()
	data[at[1]+frameSize] ^= 1
	writeFile(t, path, fileName(1), data)
	var log bytes.Buffer
	d, err := Open(path, OS{}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Rewrite(1, func(*block.Block) (bool, error) { return false, nil }); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(folder(t, path)[fileName(1)], string(data[at[1]+frameSize:at[2]])) {
		t.Error("the damaged block is still in the file")
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "1 of 3 blocks") {
		t.Errorf("log: %s", &log)
	}
}

func FuzzRead(f *testing.F) {
	data, at := segmentBytes(f)
	for _, b := range [][]byte{data, data[:at[1]+30], data[:at[0]], data[:prefixSize], make([]byte, 200), nil} {
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		if sealed {
			data = seal(data)
		}
		d := openMemory(t, data)
		known := func(err error) bool { return err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) }
		h, headerErr := d.Header(1)
		blocks, err := readAll(d, 1)
		if !known(headerErr) || !known(err) || !known(d.Segments()[0].Err) {
			t.Fatal(headerErr, err, d.Segments())
		}
		if headerErr != nil && len(blocks) > 0 || len(h.Replaced) > MaxReplaced || !slices.IsSorted(h.Replaced) {
			t.Fatal(headerErr, len(blocks), h)
		}
		if headerErr == nil && d.Segments()[0].Err != nil {
			t.Fatal(d.Segments())
		}
		_, err = d.Rewrite(1, func(*block.Block) (bool, error) { return false, nil })
		if (err == nil) != (headerErr == nil) {
			t.Fatal(err, headerErr)
		}
		if err != nil {
			return
		}
		if again, err := readAll(d, 1); err != nil || !slices.Equal(again, blocks) {
			t.Fatal(again, blocks, err)
		}
		if again, err := d.Header(1); err != nil || fmt.Sprint(again) != fmt.Sprint(h) {
			t.Fatal(again, h, err)
		}
	})
}
