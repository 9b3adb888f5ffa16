package store

import (
	"fmt"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/store/block"
)

// TestLargeIsNeverHidden: a flow of over 8 MiB is seen whatever its name, in live, on
// each level of the archive and in the sums of days, and those that are hidden stay
// so however many are put together; also if the lists come to hide them later.
func TestLargeIsNeverHidden(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name  string
		later bool // the lists hide it once it has been merged
	}{{"ads.example", false}, {"ads.x.example", false}, {"later.example", true}} {
		t.Run(tt.name, func(t *testing.T) {
			hides := !tt.later
			classify := func(n string) (string, bool) {
				// The group of some is not hidden.
				if n == "ads.x.example" || n == "log.x.example" {
					return "x.example", hides
				}
				return "", hides && n == tt.name
			}
			s := openArchived(t, Options{Classify: classify}, ArchiveConfig{Rules: withoutThresholds(testRules), Keep: 100 * 24 * time.Hour})
			day := time.Date(2026, 5, 10, 10, 0, 0, 0, time.UTC)
			const small, large = 40, 2
			sizes := make([]uint64, small, small+large)
			for i := range sizes {
				sizes[i] = 8*mib - uint64(i) // in sum more than 300 MiB
			}
			sizes = append(sizes, 8*mib+1, 1<<30)
			for i, n := range sizes {
				f := namedFlow(day.UnixMilli()+int64(i)*20_000, tt.name)
				if i%2 == 1 && tt.name == "ads.x.example" {
					f.Name = "log.x.example"
				}
				f.Sent, f.Recvd = n, 0
				add(t, s, f)
			}
			check := func(where string) {
				t.Helper()
				if tt.later {
					hides = true
					failOn(t, s.Reclassify(t.Context()))
					defer func() {
						hides = false
						failOn(t, s.Reclassify(t.Context()))
					}()
				}
				wanted := Count{Flows: large, Sent: 8*mib + 1 + 1<<30}
				var hidden Count
				for _, n := range sizes[:small] {
					hidden.add(1, n, 0)
				}
				w, h, err := s.Count(t.Context(), Filter{})
				failOn(t, err)
				if w != wanted || h != hidden {
					t.Errorf("%s: counted %+v and hidden %+v, want %+v and %+v", where, w, h, wanted, hidden)
				}
				for _, q := range []Query{{}, {Descending: true}, {Sort: ByTotal}, {Aggregate: true}, {Aggregate: true, Sort: ByTotal}, {Filter: Filter{Clients: []client.ID{{MAC: testMAC(1)}}}}} {
					var got Count
					for _, r := range walk(t, s, q) {
						got.add(uint32(r.Flows), r.Sent, r.Recvd)
						if !r.Large {
							t.Errorf("%s: %+v is said to be hidden", where, r)
						}
					}
					if got != wanted {
						t.Errorf("%s, %+v: %+v, want %+v", where, q, got, wanted)
					}
				}
				for _, by := range []string{"client", "hostname", "day", "hour"} {
					rows, h, err := s.Summary(t.Context(), SummaryQuery{By: []string{by}})
					failOn(t, err)
					var got Count
					var hiddenBytes uint64
					for _, r := range rows {
						got.add(uint32(r.Flows), r.Sent, r.Recvd)
						hiddenBytes += r.Hidden
					}
					if got != wanted || h != hidden {
						t.Errorf("%s, by %s: %+v and hidden %+v, want %+v and %+v", where, by, got, h, wanted, hidden)
					}
					if by == "client" && hiddenBytes != hidden.Sent {
						t.Errorf("%s: the client's row says that %d bytes are hidden, want %d", where, hiddenBytes, hidden.Sent)
					}
				}
				// With all, each is there.
				if all, none, err := s.Count(t.Context(), Filter{All: true}); err != nil || none != (Count{}) || all.Flows != small+large || all.Sent != wanted.Sent+hidden.Sent {
					t.Errorf("%s: all are %+v, hidden %+v, %v", where, all, none, err)
				}
			}
			check("live")
			for _, after := range []int{1, 2, 4, 8, 15} {
				runArchive(t, s, day.AddDate(0, 0, after).Add(time.Hour))
				check(fmt.Sprint("after ", after, " days"))
			}
			if _, blocks := archived(t, s); len(blocks[0].Flows) > 12 {
				t.Errorf("%d rows are left: they are not merged", len(blocks[0].Flows))
			}
		})
	}
}

// TestMeanOfLarge: whatever is put together, what was hidden stays so and what was
// not does.
func TestMeanOfLarge(t *testing.T) {
	for _, tt := range []struct {
		flows uint32
		bytes uint64
		want  bool
	}{
		{1, 8 << 20, false}, {1, 8<<20 + 1, true}, {2, 16 << 20, false}, {2, 16<<20 + 2, true},
		{1000, 8000 << 20, false}, {1<<32 - 1, 1 << 48, false},
	} {
		f := block.Flow{Flows: tt.flows, Sent: tt.bytes}
		if got := large(&f); got != tt.want {
			t.Errorf("%d flows of %d bytes are large: %v", tt.flows, tt.bytes, got)
		}
	}
}

// TestRowOfHiddenClient: a client of which all is hidden has a row in a summary by
// client, with what there is of it.
func TestRowOfHiddenClient(t *testing.T) {
	s := open(t, Options{Classify: testClassify})
	f := namedFlow(1_700_000_000_000, "ads.example")
	f.Client = testMAC(7)
	add(t, s, f, testFlow(1_700_000_000_000))
	for _, all := range []bool{false, true} {
		rows, hidden, err := s.Summary(t.Context(), SummaryQuery{Filter: Filter{All: all}, By: []string{"client"}})
		failOn(t, err)
		if len(rows) != 2 {
			t.Fatalf("%d rows: %+v", len(rows), rows)
		}
		want, total := SummaryRow{Client: testMAC(7), Hidden: 21000}, Count{1, 1000, 20000}
		if all {
			want, total = SummaryRow{Client: testMAC(7), Sent: 1000, Recvd: 20000, Flows: 1, Duration: 1}, Count{}
		}
		if rows[0] != want && rows[1] != want || hidden != total {
			t.Errorf("with all %v: rows %+v, hidden %+v, want %+v and %+v", all, rows, hidden, want, total)
		}
	}
}
