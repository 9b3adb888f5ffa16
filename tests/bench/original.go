package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"slices"
	"time"

	_ "modernc.org/sqlite"

	"pakon/tests/household"
)

const dayLength = 24 * time.Hour

// rule is one of the original's default rules of its archive, which are ours.
type rule struct {
	upTo, window time.Duration
	threshold    uint64 // bytes
}

var rules = []rule{
	{1 * dayLength, 60 * time.Second, 4096},
	{3 * dayLength, 900 * time.Second, 8192},
	{7 * dayLength, 1800 * time.Second, 0},
	{14 * dayLength, 3600 * time.Second, 0},
}

// keep is for how long the original, and we, keep flows by default.
const keep = 28 * dayLength

// original writes an archive of the original Pakon as its nightly run would have
// left it at cfg.End+1d: each day that was over then on the level of its age. It
// returns how many rows it has, and what is in them.
func original(ctx context.Context, path string, cfg household.Config) (rows int, sums totals, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(OFF)&_pragma=journal_mode(OFF)")
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	// Its indexes are left out: an import does not look at them.
	if _, err := db.ExecContext(ctx, `CREATE TABLE traffic (start real, duration integer, details integer, src_mac text, src_ip text,
		src_port integer, dest_ip text, dest_port integer, proto text, app_proto text, bytes_send integer, bytes_received integer,
		app_hostname text); PRAGMA user_version = 1`); err != nil {
		return 0, nil, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, nil, err
	}
	defer tx.Rollback() // fails where it was committed
	insert, err := tx.PrepareContext(ctx, "INSERT INTO traffic VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		return 0, nil, err
	}
	sums = make(totals)
	ran := cfg.End.Add(dayLength)
	put := func(day time.Time, flows []merged) error {
		flows, level := age(flows, day, ran)
		for i := range flows {
			f := &flows[i]
			rows++
			mac := f.mac.String()
			sums.add(mac, int64(f.sent), int64(f.recvd))
			if _, err := insert.ExecContext(ctx, float64(f.start)/1000, (f.end-f.start)/1000, level, mac, address(f.local),
				port(f.opener), address(f.remote), f.port, protocols[f.proto], text(f.app), int64(f.sent), int64(f.recvd), text(f.name)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := days(cfg, put); err != nil {
		return 0, nil, err
	}
	return rows, sums, tx.Commit()
}

// days calls do with the flows of each day of UTC, in order of their start.
func days(cfg household.Config, do func(day time.Time, flows []merged) error) error {
	const longest = 4 * time.Hour // of a flow
	waiting := make(map[int64][]merged)
	next := cfg.End.Add(-time.Duration(cfg.Days * float64(dayLength))).Truncate(dayLength)
	var failed error
	flush := func(until time.Time) {
		for ; failed == nil && !next.Add(dayLength).After(until); next = next.Add(dayLength) {
			flows := waiting[next.UnixMilli()]
			delete(waiting, next.UnixMilli())
			slices.SortFunc(flows, func(a, b merged) int { return cmp.Compare(a.start, b.start) })
			failed = do(next, flows)
		}
	}
	err := household.Generate(cfg, nil, func(r *household.Row) {
		if r.Inbound {
			return // the original has none
		}
		day := time.UnixMilli(r.Start).Truncate(dayLength).UnixMilli()
		waiting[day] = append(waiting[day], merged{
			start: r.Start, end: r.End, mac: r.MAC, local: r.Local, remote: r.Remote, opener: r.OpenerPort, port: r.Port,
			proto: r.Proto, app: r.App, name: r.Name, sent: r.Sent, recvd: r.Recvd,
		})
		flush(time.UnixMilli(r.End).Add(-longest - time.Hour))
	})
	flush(cfg.End.Add(dayLength))
	return errors.Join(err, failed)
}

// merged is one flow, or several: what they differ in is zero then.
type merged struct {
	start, end    int64 // Unix ms
	mac           household.MAC
	local, remote netip.Addr
	opener, port  uint16
	proto         uint8
	app, name     string
	sent, recvd   uint64
}

// age merges the flows of a day as the rules say that were due for it at a time,
// and tells the level that they are then on.
func age(flows []merged, day, at time.Time) ([]merged, int) {
	for level, r := range rules {
		// From the second on, days are merged as a whole.
		if level > 0 && day.Add(dayLength).After(at.Add(-r.upTo).Truncate(dayLength)) {
			return flows, level
		}
		flows = slices.DeleteFunc(merge(flows, r.window), func(f merged) bool { return f.sent+f.recvd < r.threshold })
	}
	return flows, len(rules)
}

// merge puts flows together that are of one client to one name (or address, where
// there is none) and port, and less than a window apart.
func merge(flows []merged, window time.Duration) []merged {
	type key struct {
		mac    household.MAC
		name   string
		remote netip.Addr
		port   uint16
	}
	open := make(map[key]int)
	out := flows[:0]
	for _, f := range flows {
		k := key{f.mac, f.name, netip.Addr{}, f.port}
		if f.name == "" {
			k.remote = f.remote
		}
		i, ok := open[k]
		if !ok || f.start-out[i].end >= window.Milliseconds() {
			open[k] = len(out)
			out = append(out, f)
			continue
		}
		o := &out[i]
		o.end = max(o.end, f.end)
		o.sent += f.sent
		o.recvd += f.recvd
		differ(&o.local, f.local)
		differ(&o.remote, f.remote)
		differ(&o.opener, f.opener)
		differ(&o.proto, f.proto)
		differ(&o.app, f.app)
	}
	return out
}

// differ makes a value zero that is not the other.
func differ[T comparable](a *T, b T) {
	if *a != b {
		*a = *new(T)
	}
}

var protocols = map[uint8]any{household.TCP: "TCP", household.UDP: "UDP"}

// address, port and text are a value as the original stores it: NULL if it is
// not known.
func address(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return a.String()
}

func port(n uint16) any {
	if n == 0 {
		return nil
	}
	return int64(n)
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}
