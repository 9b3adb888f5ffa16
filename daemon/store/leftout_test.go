package store

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pakon/daemon/client"
	"pakon/daemon/flow"
)

// omit has bytes of a client left out.
func omit(t testing.TB, s *Store, at time.Time, who client.ID, why flow.Fate, sent, recvd uint64) {
	t.Helper()
	add(t, s, flow.Flow{State: flow.LeftOut, Fate: why, Client: who.MAC, ClientAddr: who.Addr, Start: at.UnixMilli(), Sent: sent, Recvd: recvd})
}

// leftOut is all that was left out, in short.
func leftOut(t testing.TB, s *Store) (list []string) {
	t.Helper()
	rows, err := s.LeftOut(t.Context(), 0)
	failOn(t, err)
	for _, l := range rows {
		who := l.Client.MAC.String()
		if l.Client.Addr.IsValid() {
			who = l.Client.Addr.String()
		}
		list = append(list, fmt.Sprintf("%s %s %s %d+%d", time.UnixMilli(l.Day).UTC().Format(time.DateTime), who, l.Why, l.Sent, l.Recvd))
	}
	return list
}

func expectLeftOut(t testing.TB, s *Store, when string, want ...string) {
	t.Helper()
	if got := leftOut(t, s); !slices.Equal(got, want) {
		t.Errorf("%s %q are left out, want %q", when, got, want)
	}
}

// TestLeftOut: what is left out is counted by client, day and why, and outlives the
// process and, from the last backup on, the machine.
func TestLeftOut(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	day := time.Date(2026, 5, 10, 23, 59, 0, 0, time.UTC)
	tv, peer := client.ID{MAC: testMAC(1)}, client.ID{Addr: netip.MustParseAddr("10.8.0.2")}
	omit(t, s, day, tv, flow.ExcludedName, 1, 2)
	omit(t, s, day, tv, flow.ExcludedName, 10, 20)
	omit(t, s, day, tv, flow.Unanswered, 5, 0)
	omit(t, s, day, peer, flow.ExcludedClient, 7, 8)
	omit(t, s, day.Add(time.Minute), tv, flow.ExcludedName, 100, 200)
	want := []string{
		"2026-05-10 00:00:00 02:00:00:00:00:01 excluded_hostname 11+22",
		"2026-05-10 00:00:00 02:00:00:00:00:01 unanswered 5+0",
		"2026-05-10 00:00:00 10.8.0.2 excluded_client 7+8",
		"2026-05-11 00:00:00 02:00:00:00:00:01 excluded_hostname 100+200",
	}
	expectLeftOut(t, s, "at first", want...)
	if len(walk(t, s, Query{Filter: Filter{All: true, In: true, Out: true}})) != 0 {
		t.Error("it is a flow")
	}
	closeStore(t, s)
	s = openDisk(t, dir, Options{})
	expectLeftOut(t, s, "in the next run", want...)
	written := int64(0)
	for range 2 {
		run, err := s.Backup(t.Context())
		failOn(t, err)
		if written > 0 && run.Written > 0 {
			t.Errorf("a backup of nothing new writes %d bytes", run.Written)
		}
		written += run.Written
	}
	if written == 0 {
		t.Error("what the backup has written is not told")
	}
	omit(t, s, day.Add(time.Minute), peer, flow.ExcludedClient, 1, 1) // which a power cut loses
	closeStore(t, s)
	reboot(t, dir)
	s = openDisk(t, dir, Options{})
	expectLeftOut(t, s, "after a reboot", want...)
	omit(t, s, day.Add(time.Minute), tv, flow.ExcludedName, 1, 1)
	want[3] = "2026-05-11 00:00:00 02:00:00:00:00:01 excluded_hostname 101+201"
	backUp(t, s)
	closeStore(t, s)
	reboot(t, dir)
	s = openDisk(t, dir, Options{})
	expectLeftOut(t, s, "after another reboot", want...)
}

// TestNothingLeftOut: where nothing is, a backup begins no archive for it.
func TestNothingLeftOut(t *testing.T) {
	s := openDisk(t, ramDir(t), Options{})
	add(t, s, testFlow(1_700_000_000_000))
	backUp(t, s)
	if s.archive.Load() != nil {
		t.Error("there is an archive")
	}
}

// TestForgetLeftOut: it is forgotten with the clients, and with time, for good.
func TestForgetLeftOut(t *testing.T) {
	now := time.Date(2026, 5, 10, 12, 0, 0, 0, time.UTC)
	tv, phone, peer := client.ID{MAC: testMAC(1)}, client.ID{MAC: testMAC(2)}, client.ID{Addr: netip.MustParseAddr("10.8.0.2")}
	const ofTV, ofPhone, ofPeer, old = "2026-05-10 00:00:00 02:00:00:00:00:01 excluded_client 1+1", "2026-05-10 00:00:00 02:00:00:00:00:02 excluded_client 1+1",
		"2026-05-10 00:00:00 10.8.0.2 excluded_client 1+1", "2026-05-08 00:00:00 02:00:00:00:00:01 excluded_client 1+1"
	for _, tt := range []struct {
		name string
		what Forgetting
		want []string
	}{
		{"a client", Forgetting{Clients: []client.ID{tv}}, []string{ofPhone, ofPeer}},
		{"a client by its address", Forgetting{Clients: []client.ID{peer}}, []string{old, ofTV, ofPhone}},
		{"a name", Forgetting{Hostnames: []string{"example.org"}}, []string{old, ofTV, ofPhone, ofPeer}},
		{"what is old", Forgetting{Before: now.AddDate(0, 0, -1).UnixMilli()}, []string{ofTV, ofPhone, ofPeer}},
		{"a part of today", Forgetting{Before: now.UnixMilli()}, []string{ofTV, ofPhone, ofPeer}},
		{"all", Forgetting{All: true}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := ramDir(t)
			s := openDisk(t, dir, Options{})
			omit(t, s, now.AddDate(0, 0, -2), tv, flow.ExcludedClient, 1, 1)
			for _, who := range []client.ID{tv, phone, peer} {
				omit(t, s, now, who, flow.ExcludedClient, 1, 1)
			}
			backUp(t, s)
			_, err := s.Forget(t.Context(), tt.what)
			failOn(t, err)
			expectLeftOut(t, s, "then", tt.want...)
			closeStore(t, s)
			reboot(t, dir)
			s = openDisk(t, dir, Options{})
			expectLeftOut(t, s, "after a reboot", tt.want...)
		})
	}
}

// TestLeftOutExpires: as flows do, by the age that is certain.
func TestLeftOutExpires(t *testing.T) {
	dir := ramDir(t)
	s := openDisk(t, dir, Options{})
	c := *s.config.Load()
	c.Keep = 7 * 24 * time.Hour
	s.SetArchive(c)
	day := time.Date(2026, 5, 10, 12, 0, 0, 0, time.UTC)
	omit(t, s, day, client.ID{MAC: testMAC(1)}, flow.ExcludedClient, 1, 1)
	const is = "2026-05-10 00:00:00 02:00:00:00:00:01 excluded_client 1+1"
	runArchive(t, s, day.AddDate(0, 0, 7))
	backUp(t, s)
	expectLeftOut(t, s, "within a week", is)
	runArchive(t, s, day.AddDate(0, 0, 9))
	expectLeftOut(t, s, "afterwards")
	backUp(t, s)
	closeStore(t, s)
	reboot(t, dir)
	expectLeftOut(t, openDisk(t, dir, Options{}), "after a reboot")
}

// TestLeftOutOfAWrongClock: it moves with the flows to the day on which it was.
func TestLeftOutOfAWrongClock(t *testing.T) {
	right := time.Date(2026, 5, 10, 12, 0, 0, 0, time.UTC)
	who := client.ID{MAC: testMAC(1)}
	for _, tt := range []struct {
		name  string
		at    time.Time     // what the clock showed
		from  time.Time     // since when it was wrong, as it showed
		by    time.Duration // by which it is then set
		other time.Time     // when something was counted by the right clock
		want  []string
	}{
		{"never set", time.Unix(30, 0), time.Unix(0, 0), right.Sub(time.Unix(60, 0)), right,
			[]string{"2026-05-10 00:00:00 02:00:00:00:00:01 excluded_client 11+11"}},
		{"a year ahead", right.AddDate(1, 0, 0), right.AddDate(1, 0, 0).Add(-time.Hour), -365 * 24 * time.Hour, right,
			[]string{"2026-05-10 00:00:00 02:00:00:00:00:01 excluded_client 11+11"}},
		{"an hour ahead", right, right.Add(-time.Hour), -time.Hour, right,
			[]string{"2026-05-10 00:00:00 02:00:00:00:00:01 excluded_client 11+11"}},
		{"not before", right.AddDate(0, 0, -1), right, 48 * time.Hour, right.AddDate(0, 0, -1),
			[]string{"2026-05-09 00:00:00 02:00:00:00:00:01 excluded_client 11+11"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, Options{})
			omit(t, s, tt.at, who, flow.ExcludedClient, 1, 1)
			omit(t, s, tt.other, who, flow.ExcludedClient, 10, 10)
			failOn(t, s.Shift(t.Context(), tt.from.UnixMilli(), max(tt.at.UnixMilli(), tt.from.UnixMilli())+1000, tt.by.Milliseconds()))
			expectLeftOut(t, s, "then", tt.want...)
		})
	}
}

// TestLeftOutOfMany: MACs cost whoever makes them up nothing, and they push out
// nobody of whom more is left out.
func TestLeftOutOfMany(t *testing.T) {
	s := open(t, Options{})
	day := time.Date(2026, 5, 10, 12, 0, 0, 0, time.UTC)
	real := client.ID{MAC: testMAC(1)}
	var flows []flow.Flow
	const made = 3 * maxLeftOut
	for i := range made {
		flows = append(flows, flow.Flow{State: flow.LeftOut, Fate: flow.Unanswered, Client: client.MAC{6, 0, 0, 0, byte(i >> 8), byte(i)}, Start: day.UnixMilli(), Sent: 1000})
	}
	add(t, s, flows[:maxLeftOut]...)
	omit(t, s, day, real, flow.ExcludedName, 1<<30, 1<<30)
	add(t, s, flows[maxLeftOut:]...)
	rows, err := s.LeftOut(t.Context(), 0)
	failOn(t, err)
	var sum uint64
	known := false
	for _, l := range rows {
		sum += l.Sent
		known = known || l.Client == real && l.Sent == 1<<30 && l.Recvd == 1<<30
	}
	if len(rows) > maxLeftOut || !known || sum != made*1000+1<<30 {
		t.Errorf("%d rows of %d bytes, the one of whom most is left out among them: %v", len(rows), sum, known)
	}
	// Days are bounded as well.
	for i := range maxLeftOutDays + 5 {
		omit(t, s, day.AddDate(0, 0, i), real, flow.ExcludedName, 1, 1)
	}
	var days int
	failOn(t, s.read.QueryRowContext(context.Background(), "SELECT count(DISTINCT day) FROM left_out").Scan(&days))
	if days != maxLeftOutDays {
		t.Errorf("%d days are kept, want %d", days, maxLeftOutDays)
	}
}
