// Package original reads what the Python Pakon left: its SQLite databases, live
// and archive, its xz backup and its DNS cache.
//
// All its versions keep flows in a table traffic, whose columns differ little.
// Nothing that is in them is trusted: a file may be damaged, and a column may
// hold whatever SQLite lets it hold. What becomes of the flows, and of the files,
// is the business of package store.
package original

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"pakon/uci/regular"
)

// Kinds of errors.
var (
	// ErrNotOriginal is wrapped where a file is a database, but none of the
	// original's.
	ErrNotOriginal = errors.New("not a database of the original Pakon")
	// ErrDamaged is wrapped where a file, or a part of it, can not be read.
	ErrDamaged = errors.New("damaged")
	// ErrTooLarge is wrapped where a backup would be over 2 GiB, or would not fit.
	ErrTooLarge = errors.New("too large")
)

// pageCache is the memory for the database's pages, in KiB.
const pageCache = 1024

// Database is an open database of the original. Its methods must not be called
// by several goroutines at a time.
type Database struct {
	path    string
	tempDir string
	db      *sql.DB
	conn    *sql.Conn
	start   string // SQL of a row's start, in seconds
	columns string // SQL of what scanRow scans
	skipped Skipped
}

// Skipped counts what the latest Read did not yield.
type Skipped struct {
	Start int64 // rows whose start is no time between the years 1970 and 2200
	Bytes int64 // rows whose bytes are negative or over 1<<48
	Lost  int64 // rows that are there but can not be read
	Gaps  int64 // places where an unknown number of rows can not be read
}

// Open opens the database at path, which nobody may write to meanwhile. The file
// is not written to, nor is one made beside it, with one exception: where a
// process was killed and left a journal or a WAL, only they and the file together
// are right, and SQLite puts them together. While the database is read, up to 16
// bytes per row may lie in a nameless file in tempDir.
//
// Errors wrap ErrNotOriginal, ErrDamaged, or what the system said.
func Open(ctx context.Context, path, tempDir string) (*Database, error) {
	d, err := open(ctx, path, tempDir)
	if err != nil {
		return nil, fmt.Errorf("open the original's database %s: %w", path, err)
	}
	return d, nil
}

func open(ctx context.Context, path, tempDir string) (_ *Database, err error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	access := url.Values{"mode": {"ro"}, "immutable": {"1"}}
	for _, ext := range []string{"-journal", "-wal"} {
		if fi, err := os.Stat(path + ext); err == nil && fi.Size() > 0 {
			access = url.Values{"mode": {"rw"}}
		}
	}
	// writable_schema lets SQLite read a file that has lost its end.
	access["_pragma"] = []string{"writable_schema(1)", "query_only(1)", "trusted_schema(0)"}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: access.Encode()}
	d := &Database{path: path, tempDir: tempDir}
	if d.db, err = sql.Open("sqlite", dsn.String()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	d.db.SetMaxOpenConns(1)
	if d.conn, err = d.db.Conn(ctx); err != nil {
		return nil, asDamage(err)
	}
	if err := d.inspect(ctx); err != nil {
		return nil, err
	}
	// Not above: the driver would do it first, and SQLite read the schema for it.
	_, err = d.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA cache_size = -%d", pageCache))
	return d, err
}

// checkFile refuses what SQLite would take for an empty database, or wait for.
func checkFile(path string) error {
	f, err := regular.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// https://sqlite.org/fileformat.html#magic_header_string
	const magic = "SQLite format 3\x00"
	b := make([]byte, len(magic))
	if _, err := io.ReadFull(f, b); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if string(b) != magic {
		return fmt.Errorf("%w: it does not begin like a database", ErrDamaged)
	}
	return nil
}

// inspect looks for the table and its columns.
func (d *Database) inspect(ctx context.Context) error {
	var table int
	err := d.conn.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master
		WHERE type = 'table' AND name = 'traffic' COLLATE NOCASE AND sql LIKE 'CREATE TABLE%'`).Scan(&table)
	if err != nil {
		return asDamage(err)
	}
	if table == 0 {
		return fmt.Errorf("%w: it has no table traffic", ErrNotOriginal)
	}
	columns := map[string]bool{}
	rows, err := d.conn.QueryContext(ctx, "SELECT lower(name) FROM pragma_table_info('traffic')")
	if err != nil {
		return asDamage(err)
	}
	defer rows.Close()
	for rows.Next() {
		var c string
		if err := rows.Scan(&c); err != nil {
			return err
		}
		columns[c] = true
	}
	if err := rows.Err(); err != nil {
		return asDamage(err)
	}
	for _, c := range []string{"duration", "src_mac", "bytes_send", "bytes_received"} {
		if !columns[c] {
			return fmt.Errorf("%w: its table traffic has no column %s", ErrNotOriginal, c)
		}
	}
	switch {
	case columns["start"]:
		d.start = number("start")
	case columns["end"]: // of the first archives
		d.start = number(`"end" - duration`)
	default:
		return fmt.Errorf("%w: its table traffic has no column start", ErrNotOriginal)
	}
	var list []string
	for _, c := range numbers {
		list = append(list, orNull(columns[c], number(c)))
	}
	for _, c := range texts {
		list = append(list, orNull(columns[c], text(c)))
	}
	d.columns = strings.Join(list, ", ")
	// Whether it has rowids, only the attempt tells.
	if s, err := d.conn.PrepareContext(ctx, "SELECT rowid FROM traffic NOT INDEXED"); err != nil {
		return fmt.Errorf("%w: %w", ErrNotOriginal, err)
	} else if err := s.Close(); err != nil {
		return err
	}
	return nil
}

// number is the SQL of a column's value, NULL if it is not a number. Of what is
// no number and may be large, it reads nothing.
func number(expr string) string {
	return fmt.Sprintf("CASE WHEN typeof(%[1]s) IN ('integer', 'real') THEN %[1]s END", expr)
}

// text is the SQL of a column's value, NULL if it is longer than any that counts.
func text(column string) string {
	return fmt.Sprintf("CASE WHEN octet_length(%[1]s) <= %[2]d THEN %[1]s END", column, maxText)
}

func orNull(there bool, expr string) string {
	if !there {
		return "NULL"
	}
	return expr
}

// smallestRow is how many bytes a row takes at least: its place in the page, the
// length of its content, its rowid and two bytes of content.
const smallestRow = 6

// Count returns the number of rows, those that Read skips included. Of a damaged
// file they are roughly those that can be read.
func (d *Database) Count(ctx context.Context) (int64, error) {
	var n, most int64
	// Pages that refer to each other in a circle hold more rows than there is room for.
	err := d.conn.QueryRowContext(ctx, `SELECT page_count * page_size / ? FROM pragma_page_count, pragma_page_size`, smallestRow).Scan(&most)
	if err == nil {
		// Not by an index: it may know of other rows than the table.
		err = d.conn.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM traffic NOT INDEXED LIMIT ?)", most+1).Scan(&n)
	}
	if isDamage(err) || n > most {
		n = 0
		_, err = d.scan(ctx, func(int64, any) error { n++; return nil })
	}
	if err != nil {
		return 0, fmt.Errorf("count the rows of %s: %w", d.path, err)
	}
	return n, nil
}

// Skipped tells what the latest Read did not yield, also while it runs.
func (d *Database) Skipped() Skipped { return d.skipped }

// Close ends the use of the database.
func (d *Database) Close() error {
	var errs []error
	if d.conn != nil {
		errs = append(errs, d.conn.Close())
	}
	errs = append(errs, d.db.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}

// isDamage tells the errors of SQLite that are due to a part of the file. A
// sector that the disk can not read is one.
func isDamage(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS:
		return true
	}
	return e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB
}

// asDamage wraps ErrDamaged where an error met on opening is due to the file.
func asDamage(err error) error {
	var e *sqlite.Error
	// SQLITE_ERROR is what an unknown format or a schema that makes no sense gives.
	if isDamage(err) || errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_ERROR {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}
