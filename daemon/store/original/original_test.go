package original

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/daemon/client"
	"pakon/daemon/flow"
	"pakon/tests/limits"
	"pakon/uci/regular"
)

// The tables of the original's versions.
const (
	rest          = "src_mac text, src_ip text, src_port integer, dest_ip text, dest_port integer, proto text, app_proto text, bytes_send integer, bytes_received integer, app_hostname text"
	liveTable     = "CREATE TABLE traffic (flow_id integer, start real, duration integer, " + rest + ")"
	archiveTable  = "CREATE TABLE traffic (start real, duration integer, details integer, " + rest + ")"
	firstLive     = "CREATE TABLE traffic (flow_id integer, start real, duration integer, " + rest + ", app_hostname_type integer)"
	firstArchive  = "CREATE TABLE traffic (end integer, duration integer, connections integer, details integer, " + rest + ", app_hostname_type integer)"
	liveIndexes   = "; CREATE INDEX start ON traffic(start); CREATE INDEX archive1 ON traffic(src_mac, start, COALESCE(app_hostname,dest_ip)); CREATE UNIQUE INDEX flow_id ON traffic(flow_id) WHERE flow_id IS NOT NULL; PRAGMA user_version=1"
	archiveIndex  = "; CREATE INDEX traffic_lookup ON traffic(details, start, src_mac); PRAGMA user_version=1"
	archiveLatest = "; CREATE INDEX archive1 ON traffic(details, src_mac, COALESCE(app_hostname,dest_ip), start); CREATE INDEX start ON traffic(start); CREATE INDEX dest_port ON traffic(dest_port); PRAGMA user_version=1"
)

// create makes a database by a script.
func create(t testing.TB, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pakon?#%.db")
	db := connect(t, path)
	defer db.Close()
	if _, err := db.Exec(script); err != nil {
		t.Fatal(err)
	}
	return path
}

func connect(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)+"?_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

// fill adds n rows of an archive over the four weeks from 2023-11-14 on, some
// before those that were added before them.
func fill(t testing.TB, path string, n int) {
	t.Helper()
	db := connect(t, path)
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	insert, err := tx.Prepare(`INSERT INTO traffic (start, duration, details, src_mac, src_ip, src_port, dest_ip, dest_port, proto, app_proto, bytes_send, bytes_received, app_hostname)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		start := 1.7e9 + float64(i)*2.4e6/float64(n) + r.ExpFloat64()*3600
		if i%10 == 0 {
			start = float64(int64(start)) // several in one second
		}
		var name any = fmt.Sprintf("host%d.example.org", r.IntN(30))
		if r.IntN(8) == 0 {
			name = nil
		}
		_, err := insert.Exec(start, r.IntN(600), r.IntN(5), fmt.Sprintf("02:AA:00:00:00:%02X", r.IntN(20)),
			fmt.Sprintf("192.168.1.%d", r.IntN(250)), 1024+r.IntN(60000), fmt.Sprintf("203.0.113.%d", r.IntN(250)),
			443, "TCP", "tls", r.IntN(1e6), r.IntN(1e9), name)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func openTest(t testing.TB, path string) *Database {
	t.Helper()
	d, err := Open(t.Context(), path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// read is all that Read yields after a position. It checks what holds of any
// file: the slices, and the order.
func read(t testing.TB, d *Database, from Position) ([]Flow, error) {
	t.Helper()
	var all []Flow
	err := d.Read(t.Context(), from, func(flows []Flow) error {
		if len(flows) == 0 || len(flows) > slice {
			t.Errorf("a slice of %d flows", len(flows))
		}
		all = append(all, flows...)
		return nil
	})
	for i, f := range all {
		if i > 0 && all[i-1].Position.compare(f.Position) >= 0 {
			t.Fatalf("flow %d, at %v, comes after that at %v", i, f.Position, all[i-1].Position)
		}
		if f.Position.Start != f.Flow.Start {
			t.Fatalf("a flow of %d is at %v", f.Flow.Start, f.Position)
		}
	}
	return all, err
}

func mac(s string) client.MAC {
	m, err := client.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

func TestVersions(t *testing.T) {
	want := Flow{
		Flow: flow.Flow{
			Start: 1700000000250, End: 1700000081250, Client: mac("00:01:02:03:04:ab"),
			ClientAddr: netip.MustParseAddr("192.168.1.10"), Remote: netip.MustParseAddr("203.0.113.80"),
			Port: 443, Proto: flow.TCP, Name: "www.example.org", App: "tls", Sent: 35840, Recvd: 429056,
		},
		Position: Position{1700000000250, 1},
	}
	values := "'00:01:02:03:04:AB', '192.168.1.10', 50000, '203.0.113.80', 443, 'TCP', 'tls', 35840, 429056, 'WWW.Example.org'"
	tests := []struct {
		name, table, values string
		change              func(*Flow)
	}{
		{"live", liveTable + liveIndexes, "NULL, 1700000000.25, 81, " + values, func(*Flow) {}},
		{"live, not ended", liveTable + liveIndexes, "7, 1700000000.25, NULL, '', '192.168.1.10', 50000, '203.0.113.80', 443, 'TCP', '?', NULL, NULL, NULL",
			func(f *Flow) {
				f.Flow.End, f.Flow.Client, f.Flow.Name, f.Flow.App, f.Flow.Sent, f.Flow.Recvd = f.Flow.Start, client.MAC{}, "", "", 0, 0
			}},
		{"archive of 2017", archiveTable + archiveIndex, "1700000000.25, 81, 0, " + values, func(*Flow) {}},
		{"archive", archiveTable + archiveLatest, "1700000000.25, 81, 3, " + values, func(f *Flow) { f.Level = 3 }},
		{"archive, merged", archiveTable + archiveLatest, "1700000000.25, 81, 3, '00:01:02:03:04:ab', '', '', '', 443, 'TCP', '', 35840, 429056, ''",
			func(f *Flow) {
				f.Level, f.Flow.ClientAddr, f.Flow.Remote, f.Flow.App, f.Flow.Name = 3, netip.Addr{}, netip.Addr{}, "", ""
			}},
		{"first live", firstLive, "NULL, 1700000000.25, 81, " + values + ", 2", func(*Flow) {}},
		{"first archive", firstArchive, "1700000081, 81, 2, 1, " + values + ", 1", func(f *Flow) {
			f.Level, f.Flow.Start, f.Flow.End = 1, 1700000000000, 1700000081000
			f.Position.Start = f.Flow.Start
		}},
		{"few columns", "CREATE TABLE Traffic (START, duration, src_mac, bytes_send, bytes_received)",
			"1700000000.25, 81, '00-01-02-03-04-AB', 35840, 429056", func(f *Flow) {
				f.Flow = flow.Flow{Start: f.Flow.Start, End: f.Flow.End, Client: f.Flow.Client, Sent: f.Flow.Sent, Recvd: f.Flow.Recvd}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := openTest(t, create(t, tt.table+"; INSERT INTO traffic VALUES ("+tt.values+")"))
			got, err := read(t, d, Position{})
			if err != nil {
				t.Fatal(err)
			}
			want := want
			tt.change(&want)
			if len(got) != 1 || got[0] != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if n, err := d.Count(t.Context()); n != 1 || err != nil {
				t.Errorf("Count is %d, %v", n, err)
			}
		})
	}
}

func TestSenselessRows(t *testing.T) {
	long := strings.Repeat("a", 256)
	labels := strings.Repeat("a.", 126) + "org"
	tests := []struct {
		column, value string
		change        func(*Flow) // nil: the row is skipped
	}{
		{"start", "NULL", nil},
		{"start", "'yesterday'", nil},
		{"start", "x'00'", nil},
		{"start", "zeroblob(1000000)", nil},
		{"start", "-0.5", nil},
		{"start", "7258118400", nil},
		{"start", "9e999", nil},
		{"start", "-9e999", nil},
		{"start", "'1700000001'", func(f *Flow) { f.Flow.Start += 1000; f.Flow.End += 1000; f.Position.Start += 1000 }},
		{"start", "0", func(f *Flow) { f.Flow.Start, f.Flow.End, f.Position.Start = 0, 1000, 0 }},
		{"bytes_send", "-1", nil},
		{"bytes_send", "-1.5", nil},
		{"bytes_received", "9223372036854775807", nil},
		{"bytes_received", "9e999", nil},
		{"bytes_received", "281474976710656", func(f *Flow) { f.Flow.Recvd = 1 << 48 }},
		{"bytes_send", "1.5", func(f *Flow) { f.Flow.Sent = 1 }},
		{"bytes_send", "NULL", func(f *Flow) { f.Flow.Sent = 0 }},
		{"bytes_send", "'much'", func(f *Flow) { f.Flow.Sent = 0 }},
		{"duration", "NULL", func(f *Flow) { f.Flow.End = f.Flow.Start }},
		{"duration", "-3600", func(f *Flow) { f.Flow.End = f.Flow.Start }},
		{"duration", "9223372036854775807", func(f *Flow) { f.Flow.End = f.Flow.Start }},
		{"duration", "'long'", func(f *Flow) { f.Flow.End = f.Flow.Start }},
		{"duration", "2.5", func(f *Flow) { f.Flow.End = f.Flow.Start + 2000 }},
		{"details", "NULL", func(f *Flow) { f.Level = 0 }},
		{"details", "-1", func(f *Flow) { f.Level = 0 }},
		{"details", "4294967296", func(f *Flow) { f.Level = 0 }},
		{"details", "4", func(f *Flow) { f.Level = 4 }},
		{"src_mac", "NULL", func(f *Flow) { f.Flow.Client = client.MAC{} }},
		{"src_mac", "'00:01:02:03:04'", func(f *Flow) { f.Flow.Client = client.MAC{} }},
		{"src_mac", "'ff:ff:ff:ff:ff:ff'", func(f *Flow) { f.Flow.Client = client.MAC{} }},
		{"src_mac", "42", func(f *Flow) { f.Flow.Client = client.MAC{} }},
		{"src_mac", "zeroblob(100000)", func(f *Flow) { f.Flow.Client = client.MAC{} }},
		{"src_ip", "NULL", func(f *Flow) { f.Flow.ClientAddr = netip.Addr{} }},
		{"src_ip", "'::ffff:192.168.1.11'", func(f *Flow) { f.Flow.ClientAddr = netip.MustParseAddr("192.168.1.11") }},
		{"src_ip", "'fe80::1%br-lan'", func(f *Flow) { f.Flow.ClientAddr = netip.MustParseAddr("fe80::1") }},
		{"dest_ip", "'router'", func(f *Flow) { f.Flow.Remote = netip.Addr{} }},
		{"dest_ip", "'2001:0DB8::1'", func(f *Flow) { f.Flow.Remote = netip.MustParseAddr("2001:db8::1") }},
		{"dest_port", "NULL", func(f *Flow) { f.Flow.Port = 0 }},
		{"dest_port", "''", func(f *Flow) { f.Flow.Port = 0 }},
		{"dest_port", "65536", func(f *Flow) { f.Flow.Port = 0 }},
		{"dest_port", "-1", func(f *Flow) { f.Flow.Port = 0 }},
		{"proto", "'udp'", func(f *Flow) { f.Flow.Proto = flow.UDP }},
		{"proto", "'SCTP'", func(f *Flow) { f.Flow.Proto = 0 }},
		{"proto", "''", func(f *Flow) { f.Flow.Proto = 0 }},
		{"app_proto", "'failed'", func(f *Flow) { f.Flow.App = "" }},
		{"app_proto", "'ftp-data'", func(f *Flow) { f.Flow.App = "ftp-data" }},
		{"app_proto", "'a' || char(27)", func(f *Flow) { f.Flow.App = "" }},
		{"app_proto", "'" + long + "'", func(f *Flow) { f.Flow.App = "" }},
		{"app_hostname", "NULL", func(f *Flow) { f.Flow.Name = "" }},
		{"app_hostname", "'203.0.113.80'", func(f *Flow) { f.Flow.Name = "" }},
		{"app_hostname", "'198.51.100.1'", func(f *Flow) { f.Flow.Name = "" }},
		{"app_hostname", "'*.Example.org'", func(f *Flow) { f.Flow.Name = "example.org" }},
		{"app_hostname", "'example.org:8080'", func(f *Flow) { f.Flow.Name = "example.org" }},
		{"app_hostname", "'a' || char(10) || 'b'", func(f *Flow) { f.Flow.Name = "" }},
		{"app_hostname", "CAST(x'61ff62' AS TEXT)", func(f *Flow) { f.Flow.Name = "" }},
		{"app_hostname", "'" + long + "'", func(f *Flow) { f.Flow.Name = "" }},
		{"app_hostname", "'" + labels + ":65535'", func(f *Flow) { f.Flow.Name = labels }},
		{"app_hostname", "'anna:geheim@example.org'", func(f *Flow) { f.Flow.Name = "example.org" }},
		{"app_hostname", "'<img src=x>'", func(f *Flow) { f.Flow.Name = "" }},
	}
	plain := Flow{
		Flow: flow.Flow{
			Start: 1700000000000, End: 1700000001000, Client: mac("00:01:02:03:04:ab"),
			ClientAddr: netip.MustParseAddr("192.168.1.10"), Remote: netip.MustParseAddr("203.0.113.80"),
			Port: 443, Proto: flow.TCP, Name: "example.org", App: "tls", Sent: 2, Recvd: 3,
		},
		Level:    1,
		Position: Position{1700000000000, 1},
	}
	for _, tt := range tests {
		t.Run(tt.column+" "+tt.value[:min(len(tt.value), 30)], func(t *testing.T) {
			d := openTest(t, create(t, archiveTable+archiveLatest+`;
				INSERT INTO traffic VALUES (1700000000, 1, 1, '00:01:02:03:04:ab', '192.168.1.10', 50000, '203.0.113.80', 443, 'TCP', 'tls', 2, 3, 'example.org');
				UPDATE traffic SET `+tt.column+" = "+tt.value))
			got, err := read(t, d, Position{})
			if err != nil {
				t.Fatal(err)
			}
			if tt.change == nil {
				want := Skipped{Start: 1}
				if tt.column != "start" {
					want = Skipped{Bytes: 1}
				}
				if len(got) != 0 || d.Skipped() != want {
					t.Errorf("got %+v, skipped %+v, want none and %+v", got, d.Skipped(), want)
				}
				return
			}
			want := plain
			tt.change(&want)
			if len(got) != 1 || got[0] != want || d.Skipped() != (Skipped{}) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestTotals(t *testing.T) {
	path := create(t, archiveTable+archiveLatest)
	fill(t, path, 6000)
	type key struct {
		mac, name string
		day       int64
	}
	type sum struct{ sent, recvd, flows int64 }
	want := map[key]sum{}
	db := connect(t, path)
	defer db.Close()
	rows, err := db.Query(`SELECT lower(src_mac), coalesce(app_hostname, ''), CAST(round(start * 1000) AS integer) / 86400000, sum(bytes_send), sum(bytes_received), count(*)
		FROM traffic GROUP BY 1, 2, 3`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var k key
		var s sum
		if err := rows.Scan(&k.mac, &k.name, &k.day, &s.sent, &s.recvd, &s.flows); err != nil {
			t.Fatal(err)
		}
		want[k] = s
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	got := map[key]sum{}
	flows, err := read(t, openTest(t, path), Position{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		k := key{f.Flow.Client.String(), f.Flow.Name, f.Flow.Start / 86400000}
		s := got[k]
		got[k] = sum{s.sent + int64(f.Flow.Sent), s.recvd + int64(f.Flow.Recvd), s.flows + 1}
	}
	if len(want) < 1000 || !maps.Equal(got, want) {
		t.Errorf("%d totals differ from the %d of the database", len(got), len(want))
	}
}

func TestResume(t *testing.T) {
	path := create(t, archiveTable+archiveLatest)
	fill(t, path, 3500)
	d := openTest(t, path)
	all, err := read(t, d, Position{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3500 {
		t.Fatalf("%d flows", len(all))
	}
	stop := errors.New("stop")
	for slices := 1; slices <= 4; slices++ {
		var got []Flow
		n := slices
		err := d.Read(t.Context(), Position{}, func(flows []Flow) error {
			got = append(got, flows...)
			if n--; n == 0 {
				return stop
			}
			return nil
		})
		if err != stop {
			t.Fatalf("the error is %v", err)
		}
		last, err := ParsePosition(got[len(got)-1].Position.String())
		if err != nil {
			t.Fatal(err)
		}
		rest, err := read(t, d, last)
		if err != nil {
			t.Fatal(err)
		}
		if !equal(append(got, rest...), all) {
			t.Errorf("interrupted after %d slices, it is not the same", slices)
		}
	}
	for _, i := range []int{0, 1, 10, 11, 12, 998, 3498} {
		rest, err := read(t, d, all[i].Position)
		if err != nil {
			t.Fatal(err)
		}
		if !equal(rest, all[i+1:]) {
			t.Errorf("after flow %d come %d", i, len(rest))
		}
	}
}

func equal(a, b []Flow) bool { return slices.Equal(a, b) }

func TestCancel(t *testing.T) {
	path := create(t, archiveTable)
	fill(t, path, 2500)
	d := openTest(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := d.Read(ctx, Position{}, func(flows []Flow) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrDamaged) || n != 1 {
		t.Errorf("after %d slices the error is %v", n, err)
	}
	if got, err := read(t, d, Position{}); err != nil || len(got) != 2500 {
		t.Errorf("then it reads %d flows, %v", len(got), err)
	}
}

func TestParsePosition(t *testing.T) {
	for _, s := range []string{"", "1", ".", "1.", "a.b", "1.2.3", "99999999999999999999.1"} {
		if p, err := ParsePosition(s); err == nil {
			t.Errorf("%q is %v", s, p)
		}
	}
	if p, err := ParsePosition("1500000000000.-7"); err != nil || p != (Position{1500000000000, -7}) {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestNotOriginal(t *testing.T) {
	for name, script := range map[string]string{
		"empty":      "PRAGMA user_version = 1; VACUUM",
		"other":      "CREATE TABLE flows (id INTEGER PRIMARY KEY)",
		"view":       "CREATE TABLE a (start, duration, src_mac, bytes_send, bytes_received); CREATE VIEW traffic AS SELECT * FROM a",
		"no start":   "CREATE TABLE traffic (duration, src_mac, bytes_send, bytes_received)",
		"no bytes":   "CREATE TABLE traffic (start, duration, src_mac, dest_ip)",
		"no rowids":  "CREATE TABLE traffic (start PRIMARY KEY, duration, src_mac, bytes_send, bytes_received) WITHOUT ROWID",
		"full texts": "CREATE VIRTUAL TABLE traffic USING fts5(start, duration, src_mac, bytes_send, bytes_received)",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), create(t, script), t.TempDir())
			if !errors.Is(err, ErrNotOriginal) || errors.Is(err, ErrDamaged) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestNothingIsWritten(t *testing.T) {
	for _, mode := range []string{"DELETE", "WAL"} {
		path := create(t, "PRAGMA journal_mode = "+mode+"; "+archiveTable+archiveLatest)
		fill(t, path, 100)
		long := time.Now().Add(-time.Hour).Truncate(time.Second)
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
		look := func() string {
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			files, err := os.ReadDir(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(files, fi.Size(), fi.ModTime())
		}
		before := look()
		d, err := Open(t.Context(), path, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		err = d.Read(t.Context(), Position{}, func(flows []Flow) error {
			if now := look(); now != before || len(flows) != 100 {
				t.Errorf("%d flows; there was %v, and is %v", len(flows), before, now)
			}
			return nil
		})
		if err := errors.Join(err, d.Close()); err != nil {
			t.Error(err)
		}
		if now := look(); now != before {
			t.Errorf("there was %v, and is %v", before, now)
		}
	}
}

// TestLeftBehind is for files of a process that was killed in a transaction, or
// before its WAL was moved to the database.
func TestLeftBehind(t *testing.T) {
	for _, tt := range []struct{ mode, ext, change string }{
		{"DELETE", "-journal", "BEGIN; UPDATE traffic SET bytes_send = 7, app_hostname = 'half.example'; DELETE FROM traffic WHERE rowid % 2"},
		{"WAL", "-wal", "UPDATE traffic SET bytes_send = bytes_send + 1; DELETE FROM traffic WHERE rowid % 2"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			path := create(t, archiveTable+archiveLatest)
			fill(t, path, 5000)
			before, err := read(t, openTest(t, path), Position{})
			if err != nil {
				t.Fatal(err)
			}
			db := connect(t, path)
			defer db.Close()
			if _, err := db.Exec("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_mode = " + tt.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(tt.change); err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(t.TempDir(), "copy.db")
			for _, ext := range []string{"", tt.ext} {
				b, err := os.ReadFile(path + ext)
				if err != nil {
					t.Fatal(err)
				}
				if ext != "" && len(b) < 10_000 {
					t.Fatalf("%s has %d bytes", ext, len(b))
				}
				if err := os.WriteFile(copied+ext, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want := before
			if tt.mode == "WAL" {
				want = nil
				for _, f := range before {
					if f.Position.Row%2 == 0 {
						f.Flow.Sent++
						want = append(want, f)
					}
				}
			}
			got, err := read(t, openTest(t, copied), Position{})
			if err != nil {
				t.Fatal(err)
			}
			if !equal(got, want) {
				t.Errorf("got %d flows, want %d", len(got), len(want))
			}
		})
	}
}

func TestOrder(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 128, 1000, 5003} {
		dir := t.TempDir()
		o := order{dir: dir, runLength: 64}
		r := rand.New(rand.NewPCG(uint64(n), 1))
		var want, got []Position
		for i := range n {
			p := Position{r.Int64N(500), int64(i)}
			want = append(want, p)
			if err := o.add(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.sort(); err != nil {
			t.Fatal(err)
		}
		for {
			p, ok, err := o.next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got = append(got, p)
		}
		slices.SortFunc(want, Position.compare)
		if !slices.Equal(got, want) {
			t.Errorf("%d positions are not in order", n)
		}
		o.close()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v is left, %v", left, err)
		}
	}
}

// TestNoFile: what is no file is an error, and nobody waits for it.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo, zero := filepath.Join(dir, "fifo"), filepath.Join(dir, "zero")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Symlink("/dev/zero", zero)); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(path string) error{
		"database": func(path string) error { _, err := Open(t.Context(), path, dir); return err },
		"backup":   func(path string) error { _, err := OpenXZ(t.Context(), path, dir); return err },
		"DNS":      func(path string) error { _, err := ReadDNS(path); return err },
	} {
		for _, path := range []string{fifo, zero} {
			opened := make(chan error, 1)
			go func() { opened <- open(path) }()
			select {
			case err := <-opened:
				if !errors.Is(err, regular.ErrNotRegular) {
					t.Errorf("%s: %v", name, err)
				}
			case <-time.After(limits.For(10 * time.Second)):
				t.Errorf("%s: opening %s does not end", name, path)
			}
		}
	}
}
