package store

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pakon/daemon/flow"
	"pakon/daemon/name"
	"pakon/daemon/store/block"
)

// flowOf is a flow of a block as it was added.
func flowOf(b *block.Block, f *block.Flow) flow.Flow {
	e := b.Endpoints[f.Endpoint]
	return flow.Flow{
		Start: f.Start(), End: f.End(), Client: e.MAC, ClientAddr: e.Address, Remote: b.Remotes[f.Remote], Port: f.Port, Proto: f.Proto,
		Direction: flow.Direction(f.Direction), Name: b.Names[f.Name], Source: name.Source(f.Source), App: b.Apps[f.App],
		Interface: e.Interface, Sent: f.Sent, Recvd: f.Recvd,
	}
}

// TestScan: all flows that a filter wants come once, in order, with their hours.
func TestScan(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 0))
	s := open(t, Options{Classify: testClassify})
	m := model{classify: testClassify, hours: make(map[int64][]moved)}
	starts := make(map[int64]bool)
	for range 5 {
		var batch []flow.Flow
		for range blockFlows / 3 {
			f := randomFlow(r, starts)
			records := []flow.Flow{f}
			if r.IntN(9) == 0 {
				records, m.hours[f.Start] = randomHours(r, &f, uint64(len(starts)))
			}
			batch = append(batch, records...)
			m.flows = append(m.flows, f)
		}
		add(t, s, batch...)
	}
	batch := s.batch.Load()
	add(t, s, randomFlow(r, starts))
	for range 20 {
		f := randomFilter(r)
		f.All, f.Hostnames = true, nil // those may come that are not wanted
		wanted := make(map[int64]flow.Flow)
		for _, w := range m.flows {
			if m.matches(w, f) {
				wanted[w.Start] = w
			}
		}
		last := int64(-1)
		err := scanAll(t, s, f.normal(), batch, false, func(b *scanned) error {
			if len(b.Flows) == 0 || len(b.Flows) > blockFlows || !b.live {
				t.Errorf("a block of %d flows", len(b.Flows))
			}
			for i := range b.Flows {
				f := &b.Flows[i]
				if f.ID <= last {
					t.Fatalf("flow %d after %d", f.ID, last)
				}
				last = f.ID
				if got, want := flowOf(b.Block, f), wanted[f.Start()]; got != want {
					t.Fatalf("got %+v, want %+v", got, want)
				}
				delete(wanted, f.Start())
				var hours []moved
				for _, h := range b.HoursOf(f) {
					hours = append(hours, moved{h.Start, h.Sent, h.Recvd})
				}
				if want := m.hours[f.Start()]; !slices.Equal(hours, want) {
					t.Fatalf("hours of %+v: got %v, want %v", flowOf(b.Block, f), hours, want)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(wanted) > 0 {
			t.Errorf("%+v: %d flows are missing", f, len(wanted))
		}
	}
	full := errors.New("full")
	blocks := 0
	err := scanAll(t, s, Filter{}.normal(), batch, false, func(*scanned) error {
		blocks++
		return full
	})
	if !errors.Is(err, full) || blocks != 1 {
		t.Errorf("got %v after %d blocks", err, blocks)
	}
}

// TestScanWithoutWhatItRefersTo: rows that are not there are empty.
func TestScanWithoutWhatItRefersTo(t *testing.T) {
	s := open(t, Options{})
	f := testFlow(1_700_000_000_000)
	add(t, s, f)
	for _, sql := range []string{"DELETE FROM names", "DELETE FROM apps", "UPDATE flows SET endpoint = 0"} {
		if _, err := s.w.conn.ExecContext(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	rows := walk(t, s, Query{Sort: BySent})
	want := flow.Flow{Start: f.Start, End: f.End, Remote: f.Remote, Port: f.Port, Proto: f.Proto, Source: f.Source, Sent: f.Sent, Recvd: f.Recvd}
	if len(rows) != 1 || rows[0].Flow != want {
		t.Errorf("got %+v, want %+v", rows, want)
	}
}

// TestRefersForgets: what is forgotten for room is read again.
func TestRefersForgets(t *testing.T) {
	s := open(t, Options{})
	for _, n := range []string{"a", "b", "c"} {
		f := testFlow(1_700_000_000_000)
		f.Name = n
		add(t, s, f)
	}
	r := newRowReader(s.read)
	for i := range id(maxRefers - 1) {
		r.names.known[1000+i] = "other"
	}
	for _, i := range []id{3, 1, 0, 2, 1} {
		r.names.number(i)
	}
	got, err := r.names.read(t.Context(), s.read, []string{""})
	if err != nil || !slices.Equal(got, []string{"", "c", "a", "b"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if len(r.names.known) != 3 {
		t.Errorf("%d are remembered", len(r.names.known))
	}
}

// scanAll scans what there is at one moment.
func scanAll(t testing.TB, s *Store, f Filter, batch int64, daily bool, do func(*scanned) error) error {
	t.Helper()
	v, err := s.view(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	var of func(span64) bool
	if daily {
		of = func(span64) bool { return true }
	}
	return v.scan(t.Context(), f, batch, of, do)
}
