package store

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
)

// crashedPath, in the environment, makes the test binary a process that works on
// the archive in the folder there until it is killed: see crashing.
const crashedPath = "PAKON_TEST_STORE_CRASHED"

// crashing is the work of a process that is killed, and what it has to find when
// it comes again. The files of its folder are live, the archive in srv, what
// the original Pakon left, and the plan.
type crashing struct {
	t   testing.TB
	dir string
	s   *Store
	plan
}

// plan is what the process has noted before it did it.
type plan struct {
	Seed   uint64
	Number int              // of the batch of flows that comes next
	Want   map[string]tally // what is there, by client and day
	// Next is what is there instead if the batch in work has been added; nil if
	// none is.
	Next map[string]tally
	// Imported is what the files of the original had, once it is all there.
	Imported map[string]tally
	// Forgetting is the client that is being forgotten; zero if none is.
	Forgetting client.MAC
}

// tally counts bytes. Mark is a sum that tells with whom and in which hours.
type tally struct{ Sent, Recvd, Mark uint64 }

// tallied adds bytes of a place.
func tallied(to map[string]tally, p placeOf, sent, recvd uint64) {
	if sent+recvd == 0 {
		return
	}
	key := fmt.Sprintf("%s %s", p.client.mac, time.UnixMilli(p.hour).UTC().Format(time.DateOnly))
	h := fnv.New64a()
	fmt.Fprintf(h, "%v %q %d %d %d", p.client.address, p.shown, p.port, p.direction, p.hour)
	n := to[key]
	to[key] = tally{n.Sent + sent, n.Recvd + recvd, n.Mark + (sent+3*recvd)*h.Sum64()}
}

// The clients of what the original Pakon has left.
var (
	inOriginalArchive = client.MAC{10, 0, 0, 0, 0, 1}
	inOriginalLive    = client.MAC{10, 0, 0, 0, 0, 2}

	originals = map[string]client.MAC{"original-archive.db": inOriginalArchive, "original.db": inOriginalLive}
)

// crashRules are such that a few days make all levels.
var crashRules = []Rule{
	{UpTo: 24 * time.Hour, Window: time.Minute},
	{UpTo: 36 * time.Hour, Window: 15 * time.Minute},
	{UpTo: 48 * time.Hour, Window: 30 * time.Minute},
	{UpTo: 60 * time.Hour, Window: time.Hour},
}

// originalRows is how many rows each file of the original has.
const originalRows = 1100

func newCrashing(t testing.TB, dir string) *crashing {
	t.Helper()
	c := &crashing{t: t, dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, "plan"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &c.plan); err != nil {
		t.Fatal(err)
	}
	c.s, err = Open(t.Context(), Options{Path: filepath.Join(dir, "pakon.db"), Classify: testClassify, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c.s.SetArchive(ArchiveConfig{Path: filepath.Join(dir, "srv", "pakon-archive.db"), Keep: 10000 * 24 * time.Hour, Rules: crashRules})
	if err := c.s.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// note writes the plan, so that it is there whenever the process is killed.
func (c *crashing) note() {
	c.t.Helper()
	b, err := json.Marshal(c.plan)
	if err != nil {
		c.t.Fatal(err)
	}
	path := filepath.Join(c.dir, "plan")
	if err := errors.Join(os.WriteFile(path+".new", b, 0o600), os.Rename(path+".new", path)); err != nil {
		c.t.Fatal(err)
	}
}

// check compares what is there with the plan.
func (c *crashing) check() {
	c.t.Helper()
	got := make(map[string]tally)
	original := make(map[string]tally)
	rows := make(map[client.MAC]uint64)
	for p, n := range censusOf(c.t, c.s) {
		if p.client.mac == inOriginalArchive || p.client.mac == inOriginalLive {
			rows[p.client.mac] += n.flows
			tallied(original, p, n.sent, n.recvd)
			continue
		}
		tallied(got, p, n.sent, n.recvd)
	}
	c.checkOriginal(rows, original)
	if forgotten := c.Forgetting; !forgotten.IsZero() {
		for k, n := range got {
			if strings.HasPrefix(k, forgotten.String()) && (n.Sent > c.Want[k].Sent || n.Recvd > c.Want[k].Recvd) {
				c.t.Errorf("of a client that is being forgotten, %s became more: %+v, was %+v", k, n, c.Want[k])
			}
		}
		forget(got, forgotten)
		want := maps.Clone(c.Want)
		forget(want, forgotten)
		sameTallies(c.t, "clients that are not to be forgotten", got, want)
		return
	}
	if c.Next != nil && maps.Equal(got, c.Next) {
		c.Want = c.Next
	}
	sameTallies(c.t, "what is there", got, c.Want)
	c.Next = nil
}

// checkOriginal tells whether what has been imported are the first of the rows.
func (c *crashing) checkOriginal(rows map[client.MAC]uint64, got map[string]tally) {
	c.t.Helper()
	want := c.Imported
	if want == nil {
		want = make(map[string]tally)
		for path, of := range originals {
			n := rows[of]
			_, err := os.Stat(filepath.Join(c.dir, path))
			if n > originalRows || n < originalRows && errors.Is(err, fs.ErrNotExist) {
				c.t.Errorf("%d of %d rows of %s are there: %v", n, originalRows, path, err)
			}
			tallyFlows(want, originalFlows(c.Seed, of)[:min(n, originalRows)])
		}
	}
	sameTallies(c.t, fmt.Sprintf("of the original, %v rows", rows), got, want)
}

func forget(from map[string]tally, of client.MAC) {
	maps.DeleteFunc(from, func(k string, _ tally) bool { return strings.HasPrefix(k, of.String()) })
}

func sameTallies(t testing.TB, what string, got, want map[string]tally) {
	t.Helper()
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if got[k] != want[k] {
			t.Errorf("%s: %s: %+v, want %+v", what, k, got[k], want[k])
		}
	}
}

// tallyFlows adds to a tally what flows move.
func tallyFlows(to map[string]tally, flows []flow.Flow) {
	for i := range flows {
		f := &flows[i]
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
		sent, recvd := f.Sent, f.Recvd
		if f.Track.Hour > 0 {
			sent, recvd = sent-f.Track.HourSent, recvd-f.Track.HourRecvd
			q := p
			q.hour = f.Track.Hour
			tallied(to, q, f.Track.HourSent, f.Track.HourRecvd)
		}
		tallied(to, p, sent, recvd)
	}
}

// originalFlows are those of a file of the original, in its order.
func originalFlows(seed uint64, of client.MAC) []flow.Flow {
	r := rand.New(rand.NewPCG(seed, uint64(of[5])))
	days, before := int64(5), theNow.UnixMilli()-dayMS
	if of == inOriginalLive {
		days, before = 1, theNow.UnixMilli()
	}
	starts := make(map[int64]bool)
	flows := make([]flow.Flow, 0, originalRows)
	for len(flows) < originalRows {
		f := flow.Flow{Start: before - r.Int64N(days*dayMS), Client: of, Port: 443, Proto: flow.TCP,
			Name: fmt.Sprintf("host%d.example", r.IntN(5)), Sent: 1 + r.Uint64N(5000), Recvd: 1 + r.Uint64N(5000)}
		if !starts[f.Start] {
			starts[f.Start] = true
			flows = append(flows, f)
		}
	}
	slices.SortFunc(flows, func(a, b flow.Flow) int { return cmp.Compare(a.Start, b.Start) })
	return flows
}

// putOriginals makes the files that the original has left.
func putOriginals(t *testing.T, dir string, seed uint64) {
	t.Helper()
	for path, of := range originals {
		statements := []string{`CREATE TABLE traffic (start real, duration integer, details integer, src_mac text, src_ip text, src_port integer,
			dest_ip text, dest_port integer, proto text, app_proto text, bytes_send integer, bytes_received integer, app_hostname text)`, "BEGIN"}
		flows := originalFlows(seed, of)
		// The order of the rows is not that of time.
		rand.New(rand.NewPCG(seed, 3)).Shuffle(len(flows), func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
		for _, f := range flows {
			level := 0
			if of == inOriginalArchive {
				level = int(min((theNow.UnixMilli()-dayMS-f.Start)/dayMS, 5))
			}
			statements = append(statements, fmt.Sprintf("INSERT INTO traffic VALUES (%d.%03d, %d, %d, '%s', '', 0, '', %d, 'TCP', '', %d, %d, '%s')",
				f.Start/1000, f.Start%1000, 10, level, f.Client, f.Port, f.Sent, f.Recvd, f.Name))
		}
		execute(t, filepath.Join(dir, path), strings.Join(append(statements, "COMMIT"), ";"))
	}
}

// resume does what a process does that comes after one that was killed: it
// looks at what is there, and ends what was begun.
func (c *crashing) resume() {
	c.t.Helper()
	c.check()
	if f := c.Forgetting; !f.IsZero() {
		c.endForgetting()
	}
}

func (c *crashing) endForgetting() {
	c.t.Helper()
	if _, err := c.s.Forget(c.t.Context(), Forgetting{Clients: []client.ID{{MAC: c.Forgetting}}}); err != nil {
		c.t.Fatal(err)
	}
	c.Want = maps.Clone(c.Want)
	forget(c.Want, c.Forgetting)
	c.Forgetting, c.Next = client.MAC{}, nil
	c.note()
	c.check()
}

// imports takes over what the original has left.
func (c *crashing) imports() {
	c.t.Helper()
	_, err := c.s.Import(c.t.Context(), ImportConfig{Live: c.dir + "/original.db", Archive: c.dir + "/original-archive.db", Temp: c.dir})
	if err != nil {
		c.t.Fatal(err)
	}
	c.Imported = make(map[string]tally)
	for _, of := range originals {
		tallyFlows(c.Imported, originalFlows(c.Seed, of))
	}
	c.note()
}

// now is the time of the batch in work.
func (c *crashing) now() time.Time {
	return theNow.Add(time.Duration(c.Number) * 5 * time.Hour)
}

// batch adds flows.
func (c *crashing) batch() {
	c.t.Helper()
	flows := randomFlows(rand.New(rand.NewPCG(c.Seed, uint64(c.Number))), 60, 2)
	for i := range flows {
		by := c.now().UnixMilli() - theNow.UnixMilli()
		by -= by % 3_600_000
		flows[i].Start, flows[i].End = flows[i].Start+by, flows[i].End+by
		if flows[i].Track.Hour > 0 {
			flows[i].Track.Hour += by
		}
	}
	c.Next = maps.Clone(c.Want)
	tallyFlows(c.Next, flows)
	c.Number++
	c.note()
	add(c.t, c.s, flows...)
	c.Want, c.Next = c.Next, nil
}

// close closes the store. No process may be begun meanwhile: it would hold the
// lock of the database for a moment longer.
func (c *crashing) close() {
	c.t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	closeStore(c.t, c.s)
}

// work goes on for ever. It tells each step.
func (c *crashing) work(kind string) {
	c.t.Helper()
	step := func(name string) { fmt.Println(name) }
	step("resume")
	c.resume()
	switch kind {
	case "import":
		step("import")
		c.imports()
	case "forget":
		c.Forgetting = testMAC(byte(c.Number % 3))
		c.note()
		step("forget")
		c.endForgetting()
	}
	for {
		step("add")
		c.batch()
		if c.Number%2 == 0 {
			step("backup")
			if _, err := c.s.Backup(c.t.Context()); err != nil {
				c.t.Fatal(err)
			}
		}
		step("archive")
		if _, err := archiveAt(c.s, c.t.Context(), c.now()); err != nil {
			c.t.Fatal(err)
		}
		step("backup")
		if _, err := c.s.Backup(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// failing is what tests use of testing.TB, outside of a test: it tells what is
// wrong to the parent.
type failing struct {
	testing.TB
	done context.Context
}

func (failing) Helper()                    {}
func (f failing) Context() context.Context { return f.done }
func (failing) Errorf(format string, args ...any) {
	fmt.Printf("wrong: %s\n", strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}
func (f failing) Error(args ...any) { f.Errorf("%s", fmt.Sprint(args...)) }
func (f failing) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }
func (f failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	os.Exit(1)
}

// crashForever is the process that is killed. It never returns.
func crashForever(dir string) {
	kind, dir, _ := strings.Cut(dir, ":")
	newCrashing(failing{done: context.Background()}, dir).work(kind)
}

// crash lets the process begin some steps, and kills it a bit later. It tells
// the step that it was in.
func crash(t *testing.T, dir, kind string, steps int, later time.Duration) (in string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashedPath+"="+kind+":"+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in = "open"
	kill := func() { time.AfterFunc(later, func() { cmd.Process.Kill() }) }
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	if steps == 0 {
		kill()
	}
	for n := 1; lines.Scan(); n++ {
		if wrong, ok := strings.CutPrefix(lines.Text(), "wrong: "); ok {
			t.Errorf("%s: %s", in, wrong)
		} else {
			in = lines.Text()
		}
		if n == steps {
			kill()
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the process ended by itself, in %s: %v", in, err)
	}
	return in
}

// TestCrashes kills a process that archives, backs up, imports and forgets, at
// any moment, many times: what it was about to change is as before or as
// after, nothing is lost, and nothing doubled.
func TestCrashes(t *testing.T) {
	alone(t)
	const kills = 25
	series := uint64(20)
	in := make([]map[string]int, series)
	var all atomic.Int64
	t.Run("series", func(t *testing.T) {
		for n := range series {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				in[n] = crashes(t, n, kills)
				all.Add(kills)
			})
		}
	})
	steps := make(map[string]int)
	for _, of := range in {
		for step, k := range of {
			steps[step] += k
		}
	}
	t.Logf("%d kills: %v", all.Load(), steps)
	for _, step := range []string{"open", "resume", "import", "forget", "add", "archive", "backup"} {
		if steps[step] == 0 && !t.Failed() {
			t.Errorf("no process was killed in %q", step)
		}
	}
}

// crashes kills the process so many times over one folder. It tells how often in
// which step.
func crashes(t *testing.T, seed uint64, kills int) map[string]int {
	r := rand.New(rand.NewPCG(seed, 11))
	dir := ramDir(t)
	putOriginals(t, dir, seed)
	first := &crashing{t: t, dir: dir, plan: plan{Seed: seed, Want: map[string]tally{}}}
	first.note()
	in := make(map[string]int)
	for k := range kills {
		kind, steps, later := "archive", r.IntN(6), 30*time.Millisecond
		switch {
		case k < kills/5:
			kind, steps, later = "import", 2, 150*time.Millisecond
		case k%5 == 4:
			kind, steps, later = "forget", 2, 100*time.Millisecond
		}
		in[crash(t, dir, kind, steps, time.Duration(r.Int64N(int64(later))))]++
		if t.Failed() {
			t.Fatalf("after %d kills", k)
		}
	}
	c := newCrashing(t, dir)
	c.resume()
	c.imports()
	c.check()
	c.batch()
	if _, err := archiveAt(c.s, t.Context(), c.now()); err != nil {
		t.Fatal(err)
	}
	c.check()
	if _, err := c.s.Backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := c.s.Storage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Aside) > 2 || st.Damaged != 0 {
		t.Errorf("set aside: %v; %d damaged", st.Aside, st.Damaged)
	}
	// A reboot: live is gone.
	c.close()
	reboot(t, dir)
	c.note()
	c = newCrashing(t, dir)
	c.check()
	c.close()
	return in
}
