package store

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/clock"
	"pakon/daemon/flow"
	"pakon/daemon/store/block"
)

// testRules are the default ones.
var testRules = []Rule{
	{UpTo: 24 * time.Hour, Window: time.Minute, Threshold: 4096},
	{UpTo: 3 * 24 * time.Hour, Window: 15 * time.Minute, Threshold: 8192},
	{UpTo: 7 * 24 * time.Hour, Window: 30 * time.Minute},
	{UpTo: 14 * 24 * time.Hour, Window: time.Hour},
}

// withoutThresholds are rules that drop nothing.
func withoutThresholds(rules []Rule) []Rule {
	rules = slices.Clone(rules)
	for i := range rules {
		rules[i].Threshold = 0
	}
	return rules
}

// openArchived opens a store with an archive in a folder of the test's own.
func openArchived(t testing.TB, o Options, c ArchiveConfig) *Store {
	t.Helper()
	dir := t.TempDir()
	if o.Path == "" {
		o.Path = filepath.Join(dir, "pakon.db")
	}
	if c.Path == "" {
		c.Path = filepath.Join(dir, "srv", "pakon-archive.db")
	}
	if c.Rules == nil {
		c.Rules = testRules
	}
	if c.Keep == 0 {
		c.Keep = 28 * 24 * time.Hour
	}
	s := open(t, o)
	s.SetArchive(c)
	if err := s.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// place is what bytes are told apart by.
type placeOf struct {
	client    owner
	shown     string
	port      uint16
	direction uint8
	hour      int64
}

type sent struct{ sent, recvd, flows, seconds uint64 }

// census counts bytes by whom, with whom and in which hour, and flows in those
// in which they began.
type census map[placeOf]sent

func (c census) add(b *block.Block, f *block.Flow, hour func(int64) int64, group func(string) (string, bool)) {
	e := b.Endpoints[f.Endpoint]
	p := placeOf{client: owner{mac: e.MAC}, shown: b.Names[f.Name], port: f.Port, direction: f.Direction, hour: hour(f.Start())}
	if e.MAC.IsZero() {
		p.client.address = e.Address
	}
	if g, _ := group(p.shown); g != "" {
		p.shown = g
	}
	if p.shown == "" {
		p.shown = b.Remotes[f.Remote].String()
	}
	n := c[p]
	n.sent, n.recvd, n.flows, n.seconds = n.sent+f.Sent, n.recvd+f.Recvd, n.flows+uint64(f.Flows), n.seconds+secondsOf(f)
	for _, h := range b.HoursOf(f) {
		n.sent, n.recvd = n.sent-h.Sent, n.recvd-h.Recvd
		q := p
		q.hour = h.Start
		m := c[q]
		m.sent, m.recvd = m.sent+h.Sent, m.recvd+h.Recvd
		c[q] = m
	}
	c[p] = n
}

// bytes is the census without flows.
func (c census) bytes() census {
	all := make(census)
	for p, n := range c {
		if n.sent+n.recvd > 0 {
			all[p] = sent{sent: n.sent, recvd: n.recvd}
		}
	}
	return all
}

// byDay is the census with days instead of hours.
func (c census) byDay() census {
	days := make(census)
	for p, n := range c {
		p.hour = p.hour / 86_400_000 * 86_400_000
		m := days[p]
		days[p] = sent{m.sent + n.sent, m.recvd + n.recvd, m.flows + n.flows, m.seconds + n.seconds}
	}
	maps.DeleteFunc(days, func(_ placeOf, n sent) bool { return n == sent{} })
	return days
}

// archived are the blocks of the archive.
func archived(t testing.TB, s *Store) (metas []blockRow, blocks []*block.Block) {
	t.Helper()
	a := s.archive.Load()
	if a == nil {
		return nil, nil
	}
	metas, err := a.metas(t.Context(), a.read, 0, 1<<63-1)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metas {
		b := new(block.Block)
		if err := a.load(t.Context(), a.read, m.first, b); err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
	return metas, blocks
}

// inLive are the flows of live, in blocks.
func inLive(t testing.TB, s *Store) (blocks []*block.Block) {
	t.Helper()
	r := readLive(s.read, "1")
	for {
		b := new(block.Block)
		ok, err := r.next(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return blocks
		}
		blocks = append(blocks, b)
	}
}

// censusOf makes the census of live and archive, and checks what must hold of the
// archive at any time.
func censusOf(t testing.TB, s *Store) census {
	t.Helper()
	c := make(census)
	hour := s.hourStart()
	for _, b := range inLive(t, s) {
		for i := range b.Flows {
			c.add(b, &b.Flows[i], hour, s.classify)
		}
	}
	metas, blocks := archived(t, s)
	for i, m := range metas {
		b := blocks[i]
		if first, last := b.Flows[0].ID, b.Flows[len(b.Flows)-1].ID; first != m.first || last != m.last || int64(len(b.Flows)) != m.flows || latest(b.Flows) != m.ends {
			t.Errorf("block %+v holds %d flows from %d to %d, the last ends at %d", m, len(b.Flows), first, last, latest(b.Flows))
		}
		if i > 0 && metas[i-1].last >= m.first {
			t.Errorf("blocks overlap: %+v, %+v", metas[i-1], m)
		}
		if i > 0 && metas[i-1].level < m.level {
			t.Errorf("levels overlap: %+v, %+v", metas[i-1], m)
		}
		for j := range b.Flows {
			c.add(b, &b.Flows[j], hour, s.classify)
		}
	}
	checkSums(t, s, blocks)
	maps.DeleteFunc(c, func(_ placeOf, n sent) bool { return n == sent{} })
	return c
}

// checkSums compares the sums of the archive's days with its flows. All days but
// the newest have some.
func checkSums(t testing.TB, s *Store, blocks []*block.Block) {
	t.Helper()
	a := s.archive.Load()
	if a == nil {
		return
	}
	got, want := make(census), make(census)
	rows, err := a.read.QueryContext(t.Context(), "SELECT day, until, data FROM sums ORDER BY day, part")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var days []span64
	for rows.Next() {
		var d span64
		var data []byte
		if err := rows.Scan(&d.from, &d.to, &data); err != nil {
			t.Fatal(err)
		}
		if len(days) == 0 || days[len(days)-1] != d {
			days = append(days, d)
		}
		b := new(block.Block)
		if err := block.Decode(b, data); err != nil {
			t.Fatal(err)
		}
		for i := range b.Flows {
			if f := &b.Flows[i]; f.Start() < d.from || f.Start() >= d.to {
				t.Errorf("a sum of the day from %d begins at %d", d.from, f.Start())
			}
			got.add(b, &b.Flows[i], s.hourStart(), s.classify)
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	without := make(map[int64]bool)
	for _, b := range blocks {
		for i := range b.Flows {
			f := &b.Flows[i]
			if slices.ContainsFunc(days, func(d span64) bool { return d.from <= f.Start() && f.Start() < d.to }) {
				want.add(b, f, s.hourStart(), s.classify)
			} else {
				from, _ := day.period(time.UnixMilli(f.Start()).In(s.location()))
				without[from.UnixMilli()] = true
			}
		}
	}
	if len(without) > 2 { // one that was not over, and one since which no run has come to its end
		t.Errorf("%d days have no sums", len(without))
	}
	sameCensus(t, "sums", got.byDay(), want.byDay())
}

func sameCensus(t testing.TB, what string, got, want census) {
	t.Helper()
	n := 0
	for p := range want {
		if got[p] != want[p] {
			if n++; n < 6 {
				t.Errorf("%s of %+v: %+v, want %+v", what, p, got[p], want[p])
			}
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			if n++; n < 6 {
				t.Errorf("%s of %+v: %+v, want none", what, p, got[p])
			}
		}
	}
	if n >= 6 {
		t.Errorf("%s: %d of %d differ", what, n, len(want))
	}
}

// dayMS is a day in ms.
const dayMS = 86_400_000

// theNow is the time of the runs in tests.
var theNow = time.Date(2025, 6, 15, 3, 17, 0, 0, time.UTC)

// randomFlows makes n flows of the given days before theNow.
func randomFlows(r *rand.Rand, n, days int) []flow.Flow {
	flows := make([]flow.Flow, n)
	names := []string{"", "", "a.example.org", "b.example.org", "example.org", "x.ads.example", "y.ads.example", "203.0.113.5", "long.example.net", "xn--tda.example"}
	for i := range flows {
		f := &flows[i]
		f.Start = theNow.UnixMilli() - r.Int64N(int64(days)*dayMS)
		if i > 0 && r.IntN(2) == 0 {
			// One of those before goes on or comes again.
			g := flows[r.IntN(i)]
			*f = g
			f.Start = g.End + r.Int64N(2_000_000) - 200_000
			f.Track = flow.Track{}
		} else {
			f.Client = client.MAC{2, 0, 0, 0, 0, byte(r.IntN(3))}
			if r.IntN(10) == 0 {
				f.Client = client.MAC{}
			}
			f.ClientAddr = netip.AddrFrom4([4]byte{192, 168, 1, byte(r.IntN(4))})
			f.Interface = []string{"br-lan", "br-guest_turris"}[r.IntN(2)]
			f.Remote = netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(6))})
			f.Name = names[r.IntN(len(names))]
			f.Port = []uint16{443, 80, 123}[r.IntN(3)]
			f.Proto = []uint8{flow.TCP, flow.UDP}[r.IntN(2)]
			f.App = []string{"", "tls", "quic"}[r.IntN(3)]
			f.Direction = flow.Direction(r.IntN(8) / 7)
		}
		f.Start = min(max(f.Start, theNow.UnixMilli()-int64(days)*dayMS), theNow.UnixMilli())
		f.End = f.Start + r.Int64N(100_000)
		f.Sent, f.Recvd = uint64(r.IntN(6000)), uint64(r.IntN(6000))
		if r.IntN(20) == 0 { // a long one, whose bytes are known by the hour
			f.End = f.Start + r.Int64N(30*3_600_000)
			if last := f.End / 3_600_000 * 3_600_000; last > f.Start {
				f.Track.Hour = last
				f.Track.HourSent, f.Track.HourRecvd = f.Sent/2, f.Recvd/3
			}
		}
	}
	return flows
}

func TestArchiveKeepsBytes(t *testing.T) {
	alone(t)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			s := openArchived(t, Options{Classify: testClassify}, ArchiveConfig{Rules: withoutThresholds(testRules), Keep: 1000 * 24 * time.Hour})
			flows := randomFlows(r, 100+r.IntN(2000), 1+r.IntN(40))
			add(t, s, flows...)
			want := censusOf(t, s)
			for day := -3; day <= 20; day += 1 + r.IntN(4) {
				now := theNow.Add(time.Duration(day)*24*time.Hour + time.Duration(r.IntN(3600))*time.Second)
				if _, err := archiveAt(s, t.Context(), now); err != nil {
					t.Fatal(err)
				}
				got := censusOf(t, s)
				// Of flows that were put together, all count where the first began.
				sameCensus(t, fmt.Sprintf("bytes by the hour on day %d", day), got.bytes(), want.bytes())
				sameCensus(t, fmt.Sprintf("by the day on day %d", day), got.byDay(), want.byDay())
				before, _ := archived(t, s)
				run, err := archiveAt(s, t.Context(), now)
				if err != nil {
					t.Fatal(err)
				}
				after, _ := archived(t, s)
				if run.Moved+run.Merged+run.Dropped+run.Expired != 0 || !slices.Equal(before, after) {
					t.Errorf("the same run again: %+v", run)
				}
				// Late ones come in, too.
				late := randomFlows(r, 20, 40)
				add(t, s, late...)
				want = censusOf(t, s)
				if t.Failed() {
					return
				}
			}
		})
	}
}

// archiveAt runs the archive at a time up to which all has aged.
func archiveAt(s *Store, ctx context.Context, now time.Time) (ArchiveRun, error) {
	return s.Archive(ctx, now, clock.Age{Until: now.UnixMilli()})
}

// A run under a clock that is ahead moves what it takes for yesterday's, and
// merges, drops and deletes nothing that has not aged for certain.
func TestArchiveUnderAFalseClock(t *testing.T) {
	for _, ahead := range []time.Duration{27 * 24 * time.Hour, 50 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		s := openArchived(t, Options{}, ArchiveConfig{Rules: testRules, Keep: 28 * 24 * time.Hour})
		for day := range int64(20) {
			add(t, s, namedFlow(theNow.UnixMilli()-day*dayMS-3*hourLong, fmt.Sprintf("day%d.example", day)), namedFlow(theNow.UnixMilli()-day*dayMS-2*hourLong, fmt.Sprintf("day%d.example", day)))
		}
		age := clock.Age{Until: theNow.UnixMilli() - 20*dayMS, Boot: "one", Uptime: 1000}
		run, err := s.Archive(t.Context(), theNow.Add(ahead), age)
		failOn(t, err)
		if run.Moved != 40 || run.Merged+run.Dropped+run.Expired != 0 {
			t.Errorf("%s ahead: %+v", ahead, run)
		}
		st, err := s.Storage(t.Context())
		failOn(t, err)
		if st.Age != age {
			t.Errorf("the age kept is %+v", st.Age)
		}
		// The clock is right again, and has been for a day.
		run, err = s.Archive(t.Context(), theNow, clock.Age{Until: theNow.UnixMilli()})
		failOn(t, err)
		if run.Merged+run.Dropped == 0 || run.Expired != 0 {
			t.Errorf("afterwards: %+v", run)
		}
	}
}
