package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
	"pakon/uci/regular"
)

// execute runs statements on a SQLite file.
func execute(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// theOriginals makes a database as the original Pakon left them.
func theOriginals(t *testing.T, path string) {
	execute(t, path, `CREATE TABLE traffic (flow_id integer, start real, duration integer, src_mac, src_ip, src_port,
			dest_ip, dest_port, proto, app_proto, bytes_send integer, bytes_received integer, app_hostname)`,
		`INSERT INTO traffic (start, app_hostname) VALUES (1.5, 'example.org')`,
		`PRAGMA user_version = 1`)
}

// ours makes a database with one flow.
func ours(t *testing.T, path string) {
	s := open(t, Options{Path: path})
	add(t, s, testFlow(1_700_000_000_000))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNotOurDatabaseIsSetAside(t *testing.T) {
	tests := []struct {
		name   string
		make   func(t *testing.T, path string)
		aside  string // the suffix of the file that it becomes
		reason string // in the log
	}{
		{"not SQLite", func(t *testing.T, p string) { write(t, p, bytes.Repeat([]byte("no database\n"), 1000)) },
			".damaged-1", "not a database"},
		{"short", func(t *testing.T, p string) { write(t, p, []byte("x")) }, ".damaged-1", "not a database"},
		{"cut off", func(t *testing.T, p string) {
			ours(t, p)
			write(t, p, read(t, p)[:3*4096])
		}, ".damaged-1", "malformed"},
		{"pages overwritten", func(t *testing.T, p string) {
			ours(t, p)
			b := read(t, p)
			copy(b[4096:], bytes.Repeat([]byte{0xff}, 2*4096))
			write(t, p, b)
		}, ".damaged-1", ""},
		{"damaged again", func(t *testing.T, p string) {
			write(t, p, []byte("x"))
			write(t, p+".damaged-1", []byte("y"))
		}, ".damaged-2", "not a database"},
		{"the original's", theOriginals, ".original", "original"},
		{"the original's, twice", func(t *testing.T, p string) {
			theOriginals(t, p)
			write(t, p+".original", []byte("y"))
		}, ".original-2", "original"},
		{"the original's, damaged", func(t *testing.T, p string) {
			theOriginals(t, p)
			b := read(t, p)
			copy(b[4096:], bytes.Repeat([]byte{0xff}, 4096)) // the table's only page
			write(t, p, b)
		}, ".original", "original"},
		{"another program's", func(t *testing.T, p string) {
			execute(t, p, "CREATE TABLE x (y)", "PRAGMA application_id = 7")
		}, ".foreign-1", "another program"},
		{"of a newer version", func(t *testing.T, p string) {
			ours(t, p)
			execute(t, p, "PRAGMA user_version = 1000")
		}, ".newer-1", "version 1000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pakon.db")
			tt.make(t, path)
			was := read(t, path)
			var log bytes.Buffer
			s := open(t, Options{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if got := read(t, path+tt.aside); !bytes.Equal(got, was) {
				t.Error("the file set aside is not what it was")
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), tt.reason) ||
				!strings.Contains(log.String(), path+tt.aside) {
				t.Errorf("log: %s", &log)
			}
			if rows := walk(t, s, Query{}); len(rows) != 0 {
				t.Errorf("the new database has %d rows", len(rows))
			}
			add(t, s, testFlow(1_700_000_000_000))
		})
	}
}

// What the original's database still had in its WAL goes along with it.
func TestTheWALIsSetAsideToo(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "live.db")
	db, err := sql.Open("sqlite", live)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, s := range []string{"PRAGMA journal_mode = WAL", "CREATE TABLE traffic (start)", "PRAGMA user_version = 1",
		"PRAGMA wal_checkpoint", "INSERT INTO traffic VALUES (42)"} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	// As if its process had been killed: copied before it is closed.
	path := filepath.Join(dir, "pakon.db")
	for _, ext := range []string{"", "-wal"} {
		write(t, path+ext, read(t, live+ext))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Path: path})
	old, err := sql.Open("sqlite", path+".original")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	var start int
	if err := old.QueryRow("SELECT start FROM traffic").Scan(&start); err != nil || start != 42 {
		t.Errorf("got %d, %v", start, err)
	}
}

func TestOpenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder %41?#", "pakon.db")
	flows := household(1000)
	s := open(t, Options{Path: path})
	add(t, s, flows...)
	want := walk(t, s, Query{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", fi.Mode())
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the WAL is left: %v", err)
	}
	s = open(t, Options{Path: path})
	if got := walk(t, s, Query{}); !slices.Equal(got, want) {
		t.Error(firstDifference(got, want))
	}
	if st, err := s.Stats(t.Context()); err != nil || st.Flows != 1000 {
		t.Errorf("stats: %+v, %v", st, err)
	}
}

// The manual tells users to remove the database while the daemon is stopped.
// If it was killed, a WAL remains, and must not come back to life.
func TestRemovedButForTheWAL(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Path: filepath.Join(dir, "live.db")})
	add(t, s, testFlow(1_700_000_000_000))
	path := filepath.Join(dir, "pakon.db")
	write(t, path+"-wal", read(t, filepath.Join(dir, "live.db-wal")))
	s = open(t, Options{Path: path})
	if rows := walk(t, s, Query{}); len(rows) != 0 {
		t.Errorf("got %d rows", len(rows))
	}
}

func TestOneProcessOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pakon.db")
	s := open(t, Options{Path: path})
	_, err := Open(t.Context(), Options{Path: path, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) ||
		!strings.Contains(err.Error(), "(pid ") {
		t.Errorf("got %v", err)
	}
	add(t, s, testFlow(1_700_000_000_000))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Path: path})
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), nil)
	tests := []struct {
		name, path string
	}{
		{"a folder", dir},
		{"below a file", filepath.Join(dir, "file", "pakon.db")},
		{"where nothing can be written", "/proc/pakon.db"},
	}
	if os.Getuid() != 0 {
		closed := filepath.Join(dir, "closed")
		if err := os.Mkdir(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		tests = append(tests, struct{ name, path string }{"read-only folder", filepath.Join(closed, "pakon.db")})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(t.Context(), Options{Path: tt.path, Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("got %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{Path: filepath.Join(dir, "x.db"), Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// Damage that is found while the store is open is told apart from other errors.
func TestDamagedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pakon.db")
	s := open(t, Options{Path: path})
	fill(t, s, household(5_000))
	if _, err := s.w.conn.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, int(fi.Size())-16*4096), 16*4096); err != nil {
		t.Fatal(err)
	}
	_, err = s.Flows(t.Context(), Query{Sort: BySent})
	if !Damaged(err) {
		t.Errorf("got %v", err)
	}
	if Damaged(context.Canceled) || Damaged(nil) {
		t.Error("other errors are no damage")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: path})
	add(t, s, testFlow(1_700_000_000_000))
}

// TestOpenNoFile: SQLite would wait for who writes to a FIFO that it takes for a
// journal.
func TestOpenNoFile(t *testing.T) {
	for _, ext := range []string{"", "-journal", "-wal", "-shm"} {
		t.Run("database"+ext, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pakon.db")
			o := Options{Path: path, Log: slog.New(slog.DiscardHandler)}
			s, err := Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.RemoveAll(path+ext), unix.Mkfifo(path+ext, 0o600)); err != nil {
				t.Fatal(err)
			}
			opened := make(chan error, 1)
			go func() {
				s, err := Open(t.Context(), o)
				if err == nil {
					s.Close()
				}
				opened <- err
			}()
			select {
			case err := <-opened:
				if !errors.Is(err, regular.ErrNotRegular) {
					t.Errorf("the error is %v", err)
				}
			case <-time.After(limits.For(10 * time.Second)):
				t.Error("it does not end")
			}
		})
	}
}
