// Command vendorgen makes the file of vendors that package vendor reads, of the
// tables of the IEEE's registry as the Debian package ieee-data has them:
//
//	go run ./daemon/client/vendorgen -from /usr/share/ieee-data -to files/usr/share/pakon-light/vendors
package main

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"pakon/daemon/client/vendor"
)

// registries are the tables, and how many bits of an address their entries give.
var registries = []struct {
	file string
	bits int
}{{"oui.csv", 24}, {"mam.csv", 28}, {"oui36.csv", 36}, {"iab.csv", 36}}

func main() {
	from := flag.String("from", "/usr/share/ieee-data", "the folder of the IEEE's tables")
	to := flag.String("to", "files/usr/share/pakon-light/vendors", "the file to make")
	flag.Parse()
	if err := generate(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(from, to string) error {
	var entries []vendor.Entry
	for _, r := range registries {
		f, err := os.Open(filepath.Join(from, r.file))
		if err != nil {
			return err
		}
		of, err := read(f, r.bits)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
		entries = append(entries, of...)
	}
	var b bytes.Buffer
	if err := vendor.Write(&b, entries); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// read reads a table: registry, prefix, name and postal address of each. Who wants
// not to be named is left out, as is what is given out in smaller parts.
func read(r io.Reader, bits int) ([]vendor.Entry, error) {
	table := csv.NewReader(r)
	table.FieldsPerRecord = 4
	if _, err := table.Read(); err != nil { // the names of the columns
		return nil, err
	}
	var entries []vendor.Entry
	for {
		row, err := table.Read()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		name := shorten(row[2])
		if name == "" || row[2] == "IEEE Registration Authority" {
			continue
		}
		digits := row[1]
		if len(digits) != bits/4 {
			return nil, fmt.Errorf("prefix %q: want %d digits", digits, bits/4)
		}
		e := vendor.Entry{Bits: bits, Name: name}
		if _, err := hex.Decode(e.Prefix[:], []byte(digits+strings.Repeat("0", len(digits)%2))); err != nil {
			return nil, fmt.Errorf("prefix %q: %w", digits, err)
		}
		entries = append(entries, e)
	}
}
