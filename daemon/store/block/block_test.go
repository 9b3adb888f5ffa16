package block

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"pakon/daemon/client"
	"pakon/tests/household"

	"github.com/klauspost/compress/zstd"
)

// plain is a flow with all it refers to, so that flows of different blocks can
// be compared.
type plain struct {
	Flow
	Endpoint  Endpoint
	Name, App string
	Remote    netip.Addr
	Hours     []Hour
}

func plains(b *Block) []plain {
	var all []plain
	for i := range b.Flows {
		f := &b.Flows[i]
		p := plain{*f, b.Endpoints[f.Endpoint], b.Names[f.Name], b.Apps[f.App], b.Remotes[f.Remote], slices.Clone(b.HoursOf(f))}
		p.Flow.Endpoint, p.Flow.Name, p.Flow.App, p.Flow.Remote, p.FirstHour = 0, 0, 0, 0, 0
		all = append(all, p)
	}
	return all
}

// same fails if the flows of two blocks differ.
func same(t testing.TB, got, want *Block) {
	t.Helper()
	g, w := plains(got), plains(want)
	if len(g) != len(w) {
		t.Fatalf("%d flows, want %d", len(g), len(w))
	}
	for i := range g {
		if !reflect.DeepEqual(g[i], w[i]) {
			t.Fatalf("flow %d:\n%+v, want\n%+v", i, g[i], w[i])
		}
	}
}

func encode(t testing.TB, b *Block) []byte {
	t.Helper()
	data, err := Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t testing.TB, data []byte) *Block {
	t.Helper()
	b := &Block{}
	if err := Decode(b, data); err != nil {
		t.Fatal(err)
	}
	return b
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// small is a number that is often small and at times as large as limit.
func small(r *rand.Rand, limit uint64) uint64 {
	return pick(r, 0, 1, 15, 16, 17, limit, r.Uint64N(limit+1), r.Uint64N(limit+1)>>r.IntN(60))
}

// random makes a block of n flows of all sorts.
func random(r *rand.Rand, n int) *Block {
	b := &Block{}
	address := func() netip.Addr {
		x := r.Uint64()
		switch r.IntN(5) {
		case 0:
			return netip.Addr{}
		case 1:
			return netip.AddrFrom4([4]byte{10, 0, 0, byte(x % 8)})
		case 2:
			return netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 15: byte(x % 8)})
		default:
			return netip.AddrFrom16([16]byte{0x20, 1, 14: byte(x >> 8 % 2), 15: byte(x % 100)})
		}
	}
	names := []string{"", "a", "example.com", "xn--e1afmkfd.example", "ř.example", strings.Repeat("ab", 127), "x\x00y"}
	b.Name("never used")
	b.Remote(netip.MustParseAddr("192.0.2.99"))
	id := int64(small(r, MaxTime)/2) << IDShift
	for range n {
		id += 1 + int64(pick(r, 0, 0, 1, r.Uint64N(1<<IDShift), r.Uint64N(1<<30)))
		f := Flow{
			ID: id, Duration: int64(small(r, MaxTime)), Sent: small(r, MaxBytes), Recvd: small(r, MaxBytes),
			Endpoint: b.Endpoint(Endpoint{pick(r, client.MAC{}, client.MAC{2, 0, 0, 0, 0, byte(r.IntN(9))}), address(), pick(r, "", "br-lan", "br-guest")}),
			Name:     b.Name(pick(r, names...)), App: b.App(pick(r, "", "tls", "quic")), Remote: b.Remote(address()),
			Flows: uint32(pick(r, 1, 1, 2, 1+r.Uint64N(1<<32-1))), FirstHour: uint32(len(b.Hours)),
			Port: uint16(pick(r, 0, 443, 65535, r.Uint64N(1<<16))), Proto: pick[uint8](r, 0, 6, 17, 255),
			Source: uint8(r.IntN(6)), Direction: uint8(r.IntN(2)), Hidden: r.IntN(4) == 0,
		}
		if f.Flows > 1 {
			f.Seconds = uint32(small(r, 1<<32-1))
		}
		// In most zones, all hours begin at the same quarter.
		step := pick[int64](r, hour, hour, quarter)
		h := f.Start() - f.Start()%hour + pick[int64](r, 0, 1, 2, 3)*quarter
		if h <= f.Start() {
			h += hour
		}
		for range pick(r, 0, 0, 0, 1, 3, r.IntN(400)) {
			b.Hours = append(b.Hours, Hour{h, small(r, MaxBytes), small(r, MaxBytes)})
			f.HourCount++
			h += step * int64(1+pick(r, 0, 0, r.IntN(1000)))
		}
		b.Flows = append(b.Flows, f)
	}
	return b
}

// ofHousehold makes blocks of size flows of a household's.
func ofHousehold(t testing.TB, cfg household.Config, size int) []*Block {
	t.Helper()
	var rows []household.Row
	if err := household.Generate(cfg, nil, func(r *household.Row) { rows = append(rows, *r) }); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(rows, func(a, b household.Row) int { return int(a.Start - b.Start) })
	var blocks []*Block
	last := int64(-1)
	for len(rows) > 0 {
		b := &Block{Dictionary: *NewDictionary()}
		n := min(size, len(rows))
		for _, r := range rows[:n] {
			last = max(last+1, r.Start<<IDShift)
			source := map[string]uint8{"": 0, "dns": 2, "http": 3, "quic": 4, "tls": 5}[r.Source]
			f := Flow{
				ID: last, Duration: r.End - r.Start, Sent: r.Sent, Recvd: r.Recvd,
				Endpoint: b.Endpoint(Endpoint{client.MAC(r.MAC), r.Local, r.Interface}),
				Name:     b.Name(r.Name), App: b.App(r.App), Remote: b.Remote(r.Remote),
				Flows: 1, FirstHour: uint32(len(b.Hours)), Port: r.Port, Proto: r.Proto, Source: source,
			}
			if r.Inbound {
				f.Direction = 1
			}
			for h := r.Start/hour + 1; h*hour < r.End; h++ {
				b.Hours = append(b.Hours, Hour{h * hour, r.Sent / 10, r.Recvd / 10})
				f.HourCount++
			}
			b.Flows = append(b.Flows, f)
		}
		rows = rows[n:]
		blocks = append(blocks, b)
	}
	return blocks
}

// day is 100,000 flows of a day.
func day(p2p float64, rows int) household.Config {
	cfg := household.Default()
	cfg.Rows, cfg.P2P = rows, p2p
	return cfg
}

func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	again := &Block{}
	for range 100 {
		want := random(r, pick(r, 0, 1, 2, 50, r.IntN(300)))
		data := encode(t, want)
		same(t, decode(t, data), want)
		if err := Decode(again, append([]byte(nil), data...)); err != nil {
			t.Fatal(err)
		}
		same(t, again, want)
		if strings.Contains(fmt.Sprint(again.Names, again.Remotes), "never used") || slices.Contains(again.Remotes, netip.MustParseAddr("192.0.2.99")) {
			t.Fatal("what no flow refers to is in the block")
		}
		if a, b := encode(t, again), data; !slices.Equal(a, b) {
			t.Fatal("encoding what was decoded gives something else")
		}
	}
}

func TestEncodeAppends(t *testing.T) {
	b := random(rand.New(rand.NewPCG(3, 4)), 20)
	data, err := Encode([]byte("before"), b)
	if err != nil || !strings.HasPrefix(string(data), "before") {
		t.Fatalf("%.10q, %v", data, err)
	}
	same(t, decode(t, data[6:]), b)
}

func TestLargestBlock(t *testing.T) {
	b := &Block{}
	for i := range MaxFlows {
		b.Flows = append(b.Flows, Flow{ID: int64(i), Flows: 1, Endpoint: b.Endpoint(Endpoint{}), Name: b.Name(fmt.Sprint(i)),
			Remote: b.Remote(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))})
	}
	b.Flows[7].HourCount = MaxFlows
	b.Flows[9].HourCount, b.Flows[9].FirstHour = MaxFlows, MaxFlows
	for i := range 2 * MaxFlows {
		b.Hours = append(b.Hours, Hour{Start: int64(1+i%MaxFlows) * hour, Sent: uint64(i)})
	}
	same(t, decode(t, encode(t, b)), b)

	b.Flows = append(b.Flows, Flow{ID: MaxFlows, Flows: 1})
	if _, err := Encode(nil, b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a flow too many: error %v", err)
	}
	b.Flows = b.Flows[:20]
	b.Flows[11].HourCount = 3
	if _, err := Encode(nil, b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an hour too many: error %v", err)
	}
}

// TestRoomForFullBlocks is the promise at MaxFlows: whatever 4096 flows hold
// has room, and 65535 with the longest names do not.
func TestRoomForFullBlocks(t *testing.T) {
	long := func(i int) string { return fmt.Sprintf("%0*d", MaxText, i) }
	b := &Block{}
	add := func(i int) {
		var a [16]byte
		a[0], a[1], a[2] = 0x20, byte(i>>8), byte(i)
		remote := netip.AddrFrom16(a)
		b.Flows = append(b.Flows, Flow{ID: int64(i) << 40, Flows: 1<<32 - 1, Name: b.Name(long(i)), App: b.App(long(i)), Remote: b.Remote(remote), Seconds: 1<<32 - 1,
			Endpoint: b.Endpoint(Endpoint{client.MAC{1}, remote, long(i)}), Sent: MaxBytes, Recvd: MaxBytes, Duration: MaxTime,
			FirstHour: uint32(len(b.Hours)), HourCount: 32})
		for h := range 32 {
			b.Hours = append(b.Hours, Hour{(int64(i)<<28/hour+1+50*int64(h))*hour + int64(h%4)*quarter, MaxBytes, MaxBytes})
		}
	}
	for i := range 4096 {
		add(i)
	}
	same(t, decode(t, encode(t, b)), b)

	b.Reset()
	for i := range MaxFlows {
		b.Flows = append(b.Flows, Flow{ID: int64(i), Flows: 1, Endpoint: b.Endpoint(Endpoint{}), Name: b.Name(long(i))})
	}
	if _, err := Encode(nil, b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("16 MB of names: error %v", err)
	}
}

func TestEncodeChecksItsBlock(t *testing.T) {
	tests := map[string]func(*Block){
		"order":              func(b *Block) { b.Flows[1].ID = b.Flows[2].ID },
		"negative id":        func(b *Block) { b.Flows[0].ID = -1 },
		"late start":         func(b *Block) { b.Flows[2].ID = (MaxTime + 1) << IDShift },
		"duration":           func(b *Block) { b.Flows[1].Duration = -1 },
		"long duration":      func(b *Block) { b.Flows[1].Duration = MaxTime + 1 },
		"sent":               func(b *Block) { b.Flows[1].Sent = MaxBytes + 1 },
		"received":           func(b *Block) { b.Flows[1].Recvd = MaxBytes + 1 },
		"no connection":      func(b *Block) { b.Flows[1].Flows = 0 },
		"endpoint":           func(b *Block) { b.Flows[1].Endpoint = 2 },
		"name":               func(b *Block) { b.Flows[1].Name = 2 },
		"application":        func(b *Block) { b.Flows[1].App = 2 },
		"remote":             func(b *Block) { b.Flows[1].Remote = 1<<32 - 1 },
		"hours not there":    func(b *Block) { b.Flows[1].FirstHour = 1<<32 - 1 },
		"hour of start":      func(b *Block) { b.Hours[0].Start = 0 },
		"hour of same start": func(b *Block) { b.Flows[1].ID, b.Flows[2].ID = hour<<IDShift, (hour+1)<<IDShift },
		"part of a quarter":  func(b *Block) { b.Hours[0].Start++ },
		"half a quarter":     func(b *Block) { b.Hours[0].Start += quarter / 2 },
		"order of hours":     func(b *Block) { b.Hours[0].Start = b.Hours[1].Start },
		"late hour":          func(b *Block) { b.Hours[1].Start = (2*MaxTime/quarter + 1) * quarter },
		"sent in an hour":    func(b *Block) { b.Hours[1].Sent = MaxBytes + 1 },
		"text no UTF-8":      func(b *Block) { b.Names[1] = "\xff" },
		"long text":          func(b *Block) { b.Apps[1] = strings.Repeat("a", MaxText+1) },
		"interface no UTF-8": func(b *Block) { b.Endpoints[1].Interface = "\xff" },
		"zone":               func(b *Block) { b.Remotes[1] = netip.MustParseAddr("fe80::1%eth0") },
		"zone of endpoint":   func(b *Block) { b.Endpoints[1].Address = netip.MustParseAddr("fe80::1%eth0") },
	}
	good := func() *Block {
		b := &Block{}
		b.Endpoint(Endpoint{})
		e, n, a, r := b.Endpoint(Endpoint{Interface: "br-lan"}), b.Name("n"), b.App("a"), b.Remote(netip.MustParseAddr("192.0.2.1"))
		b.Flows = []Flow{{ID: 5, Flows: 1}, {ID: 6, Flows: 1, Endpoint: e, Name: n, App: a, Remote: r, HourCount: 2}, {ID: 8, Flows: 1}}
		b.Hours = []Hour{{Start: hour}, {Start: 2 * hour}}
		return b
	}
	same(t, decode(t, encode(t, good())), good())
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			b := good()
			spoil(b)
			data, err := Encode([]byte("before"), b)
			if err == nil || string(data) != "before" {
				t.Errorf("%q, error %v: want what was given, and an error", data, err)
			}
		})
	}
}

func TestDamaged(t *testing.T) {
	b := random(rand.New(rand.NewPCG(5, 6)), 9)
	for i := range b.Flows {
		b.Flows[i].HourCount = min(b.Flows[i].HourCount, 4)
	}
	data := encode(t, b)
	got := &Block{}
	check := func(what string, data []byte) {
		t.Helper()
		if err := Decode(got, data); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: error %v", what, err)
		}
		if len(got.Flows)+len(got.Hours)+len(got.Endpoints) > 0 || len(got.Names) != 1 {
			t.Fatalf("%s: the block is not empty", what)
		}
	}
	for n := range data {
		check(fmt.Sprintf("%d bytes of %d", n, len(data)), data[:n])
	}
	check("a byte more", append(slices.Clone(data), 0))
	check("zeros", make([]byte, 1000))
	for i := range data {
		for bit := range 8 {
			bad := slices.Clone(data)
			bad[i] ^= 1 << bit
			check(fmt.Sprintf("bit %d of byte %d", bit, i), bad)
			// And with a checksum that is right: what comes out is sound, if anything.
			seal(bad)
			sound(t, got, bad)
		}
	}
	if err := Decode(got, data); err != nil {
		t.Fatal(err)
	}
	same(t, got, b)
}

// TestHours are hours of zones whose offset is not full hours, and of those
// that change it.
func TestHours(t *testing.T) {
	const last = 2 * MaxTime / quarter * quarter
	tests := map[string]struct {
		start int64
		hours []int64
	}{
		"full hours":                 {0, []int64{hour, 2 * hour, 3 * hour}},
		"full hours after a quarter": {quarter, []int64{hour, 2 * hour, 5 * hour}},
		"one ms before":              {hour - 1, []int64{hour, 2 * hour}},
		"at the start of an hour":    {hour, []int64{2 * hour}},
		"half hours":                 {0, []int64{hour / 2, 3 * hour / 2, 9 * hour / 2}},
		"half hour of a later start": {hour/2 + 1, []int64{3 * hour / 2}},
		"three quarters":             {hour + 3*quarter, []int64{2*hour + 3*quarter, 3*hour + 3*quarter}},
		"quarter by quarter":         {1, []int64{quarter, 2 * quarter, 3 * quarter, 4 * quarter, 5 * quarter}},
		"an offset that changes":     {0, []int64{hour / 2, 3 * hour / 2, 2 * hour, 3 * hour, 7 * hour / 2}},
		"the last one":               {MaxTime, []int64{last - hour, last}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := &Block{Flows: []Flow{{ID: tt.start << IDShift, Flows: 1, HourCount: uint16(len(tt.hours))}}}
			b.Endpoint(Endpoint{})
			for i, h := range tt.hours {
				b.Hours = append(b.Hours, Hour{h, uint64(i), 1})
			}
			same(t, decode(t, encode(t, b)), b)
		})
	}
}

// TestSecondsOfOne are not kept, also where memory is reused.
func TestSecondsOfOne(t *testing.T) {
	b := &Block{Flows: []Flow{{ID: 1, Flows: 1, Seconds: 7}, {ID: 2, Flows: 2, Seconds: 8}, {ID: 3, Flows: 1, Seconds: 9}}}
	b.Endpoint(Endpoint{})
	data := encode(t, b)
	if err := Decode(b, data); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{0, 8, 0} {
		if got := b.Flows[i].Seconds; got != want {
			t.Errorf("flow %d: %d s, want %d", i, got, want)
		}
	}
}

// TestWrongSections are blocks of good sections but for one.
func TestWrongSections(t *testing.T) {
	b := &Block{Flows: []Flow{{ID: 0, Flows: 1, HourCount: 2}, {ID: 1, Flows: 3, Seconds: 5, HourCount: 1, FirstHour: 2}}}
	b.Hours = []Hour{{Start: quarter}, {Start: hour + quarter}, {Start: hour}}
	b.Endpoint(Endpoint{})
	const (
		tables   = 0
		numbers  = 6
		quarters = numbers + columns + 2
	)
	tooLong := []byte{32 << 2} // at least 1<<32
	tests := map[string]struct {
		section int
		replace []byte
		want    string // of the error
	}{
		"as it is":              {quarters, []byte{1, 1, 0}, ""},
		"other quarters":        {quarters, []byte{2, 3, 1}, ""},
		"no such quarter":       {quarters, []byte{1, 4, 0}, "hours"},
		"a quarter too few":     {quarters, []byte{1, 1}, "length of a column"},
		"a quarter too many":    {quarters, []byte{1, 1, 0, 0}, "length of a column"},
		"no quarters":           {quarters, nil, "length of a column"},
		"other seconds":         {numbers + columnSeconds, []byte{6}, ""},
		"no seconds":            {numbers + columnSeconds, nil, "length of a column"},
		"seconds of one":        {numbers + columnSeconds, []byte{5, 5}, "length of a column"},
		"too many seconds":      {numbers + columnSeconds, tooLong, "counts"},
		"several, no seconds":   {numbers + columnFlows, []byte{1, 2}, "length of a column"},
		"one, but seconds":      {numbers + columnFlows, []byte{0, 0}, "length of a column"},
		"hidden":                {tables, []byte{3, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, ""},
		"application not there": {tables, []byte{3, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}, "tables"},
	}
	parts := unpack(t, encode(t, b))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			packed, rest := slices.Clone(parts[:1]), parts[1:]
			for i := 0; len(rest) > 0; i++ {
				n := int(binary.LittleEndian.Uint16(rest))
				s := rest[2 : 2+n]
				if i == tt.section {
					s = tt.replace
				}
				packed = append(binary.LittleEndian.AppendUint16(packed, uint16(len(s))), s...)
				rest = rest[2+n:]
			}
			err := Decode(&Block{}, pack(packed))
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrDamaged) || !strings.HasSuffix(err.Error(), ": "+tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			sound(t, &Block{}, pack(packed))
		})
	}
}

// seal puts the right checksum in.
func seal(data []byte) {
	if len(data) >= 5 {
		sum := checksum(data)
		data[1], data[2], data[3], data[4] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	}
}

// sound decodes data. If that works, the result must be such that it can be
// encoded.
func sound(t testing.TB, b *Block, data []byte) {
	t.Helper()
	if err := Decode(b, data); err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("error %v", err)
		}
		return
	}
	again, err := Encode(nil, b)
	if err != nil {
		t.Fatalf("what was decoded cannot be encoded: %v", err)
	}
	same(t, decode(t, again), b)
}

// TestBomb is a section that would become very large.
func TestBomb(t *testing.T) {
	bomb := bytes.Buffer{}
	z, err := zstd.NewWriter(&bomb, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 64 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, bomb := range map[string][]byte{"told": z.EncodeAll(make([]byte, 64<<20), nil), "not told": bomb.Bytes()} {
		t.Run("size "+name, func(t *testing.T) { testBomb(t, bomb) })
	}
}

func testBomb(t *testing.T, bomb []byte) {
	data := []byte{version, 0, 0, 0, 0, 1, byte(len(bomb)), byte(len(bomb) >> 8), byte(len(bomb) >> 16)}
	data = append(data, bomb...)
	seal(data)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Decode(&Block{}, data); !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 2*maxRaw {
		t.Errorf("it took %d bytes of memory", n)
	}
}

func TestDecodeReusesMemory(t *testing.T) {
	data := encode(t, ofHousehold(t, day(.1, 2048), 2048)[0])
	b := decode(t, data)
	// The least of several, as pools may lose what they hold at any time.
	least := uint64(math.MaxUint64)
	var before, after runtime.MemStats
	for range 40 {
		runtime.ReadMemStats(&before)
		if err := Decode(b, data); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > 60_000 {
		t.Errorf("%d bytes of memory, want few", least)
	}
}

func TestDictionary(t *testing.T) {
	for name, d := range map[string]*Dictionary{"zero": {}, "new": NewDictionary()} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				check := func(what string, got, want uint32) {
					t.Helper()
					if got != want {
						t.Errorf("%s: number %d, want %d", what, got, want)
					}
				}
				a, z := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::1%eth0")
				check("first name", d.Name("a"), 1)
				check("second name", d.Name("b"), 2)
				check("a name again", d.Name("a"), 1)
				check("no name", d.Name(""), 0)
				check("first application", d.App("a"), 1)
				check("no application", d.App(""), 0)
				check("first remote", d.Remote(a), 1)
				check("the same with a zone", d.Remote(z), 1)
				check("no remote", d.Remote(netip.Addr{}), 0)
				check("first endpoint", d.Endpoint(Endpoint{Address: z}), 0)
				check("the same without a zone", d.Endpoint(Endpoint{Address: a}), 0)
				check("empty endpoint", d.Endpoint(Endpoint{}), 1)
				check("no UTF-8", d.Name("x\xff"), 3)
				check("the same", d.Name("x\uFFFD"), 3)
				long := strings.Repeat("ř", 200)
				check("a long name", d.Name(long), 4)
				check("again", d.Name(long), 4)
				if s := d.Names[4]; len(s) != 254 || !utf8.ValidString(s) {
					t.Errorf("a long name became %q of %d bytes", s, len(s))
				}
				d.Reset()
				if len(d.Names) != 1 || len(d.Apps) != 1 || len(d.Remotes) != 1 || len(d.Endpoints) != 0 {
					t.Errorf("after a reset: %+v", d)
				}
			}
		})
	}
}

func TestInternAfterDecode(t *testing.T) {
	want := random(rand.New(rand.NewPCG(7, 8)), 100)
	b := decode(t, encode(t, want))
	for i, n := range b.Names {
		if got := b.Name(n); got != uint32(i) {
			t.Errorf("name %q: number %d, want %d", n, got, i)
		}
	}
	for i, e := range b.Endpoints {
		if got := b.Endpoint(e); got != uint32(i) {
			t.Errorf("endpoint %v: number %d, want %d", e, got, i)
		}
	}
	if got, want := b.Name("new"), uint32(len(b.Names)-1); got != want || b.Names[want] != "new" {
		t.Errorf("a new name: number %d, want %d", got, want)
	}
	other := decode(t, encode(t, &Block{}))
	if err := Decode(b, encode(t, other)); err != nil {
		t.Fatal(err)
	}
	if got := b.Name("another"); got != 1 {
		t.Errorf("number %d after another block: want 1", got)
	}
}

func TestImporter(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	a, b := random(r, 200), random(r, 300)
	to, want := &Block{}, []plain{}
	im := NewImporter(to, a)
	for i, from := range []*Block{a, b, a} {
		im.Reset(to, from)
		all := plains(from)
		for j := range from.Flows {
			if j%3 == i {
				continue
			}
			f := im.Add(&from.Flows[j])
			if f != &to.Flows[len(to.Flows)-1] {
				t.Fatal("not the flow that was added")
			}
			want = append(want, all[j])
		}
	}
	if got := plains(to); !reflect.DeepEqual(got, want) {
		t.Error("flows differ after they were imported")
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(to.Names)))); n != len(to.Names) {
		t.Error("a name is in the dictionary twice")
	}
}

func TestSeveralAtATime(t *testing.T) {
	var wg sync.WaitGroup
	for i := range uint64(4) {
		wg.Go(func() {
			r, b := rand.New(rand.NewPCG(i, 1)), &Block{}
			for range 20 {
				want := random(r, 100)
				data, err := Encode(nil, want)
				if err == nil {
					err = Decode(b, data)
				}
				if err != nil || !reflect.DeepEqual(plains(b), plains(want)) {
					t.Errorf("not the same came back; error %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// TestSize is the goal of the format.
func TestSize(t *testing.T) {
	flows, bytes := 0, 0
	for _, b := range ofHousehold(t, day(.1, 20_000), 4096) {
		data := encode(t, b)
		same(t, decode(t, data), b)
		flows, bytes = flows+len(b.Flows), bytes+len(data)
	}
	if per := float64(bytes) / float64(flows); per > 20 {
		t.Errorf("%.1f bytes a flow", per)
	}
}
