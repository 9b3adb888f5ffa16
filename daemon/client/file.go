package client

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"pakon/daemon/disk"
	"pakon/uci/regular"
)

const (
	maxFile     = 8 << 20 // bytes of a file of records that are read: maxDevices of the longest are fewer
	maxText     = 255     // bytes of a name
	maxClientID = 3*255 - 1
	maxLink     = 15
)

// ErrBroken says that a file of records is not what was written.
var ErrBroken = errors.New("not a list of devices")

// line is a record in the file, an object on a line of its own.
type line struct {
	MAC       string `json:"mac"`
	First     int64  `json:"first,omitempty"` // Unix seconds
	Last      int64  `json:"last,omitempty"`
	Lease     string `json:"lease,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Interface string `json:"interface,omitempty"`
	Address   string `json:"address,omitempty"`
	Earlier   string `json:"earlier,omitempty"`
	Appeared  int64  `json:"appeared,omitempty"` // as First
	Told      bool   `json:"told"`
	Holds     bool   `json:"holds_name,omitempty"`
}

// ReadRecords reads a file that WriteRecords has written, at most 4096 records.
// With an error that is ErrBroken it returns those before what is wrong.
func ReadRecords(path string) ([]Record, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the known devices: %w", err)
	}
	defer f.Close()
	records, err := parseRecords(f)
	if err != nil {
		return records, fmt.Errorf("read the known devices from %s: %w", path, err)
	}
	return records, nil
}

func parseRecords(r io.Reader) (records []Record, err error) {
	d := json.NewDecoder(io.LimitReader(r, maxFile))
	failed := func(err error) error {
		if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) { // of the drive
			return err
		}
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	for _, want := range []json.Token{json.Delim('{'), "devices", json.Delim('[')} {
		got, err := d.Token()
		if err != nil {
			return nil, failed(err)
		}
		if got != want {
			return nil, fmt.Errorf("%w: %v where %v is to be", ErrBroken, got, want)
		}
	}
	for d.More() && len(records) < maxDevices {
		var l line
		if err := d.Decode(&l); err != nil {
			return records, failed(err)
		}
		rec, err := l.record()
		if err != nil {
			return records, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		records = append(records, rec)
	}
	if d.More() {
		return records, nil
	}
	if _, err := d.Token(); err != nil { // a file that was cut off
		return records, failed(err)
	}
	return records, nil
}

func (l *line) record() (r Record, err error) {
	if r.MAC, err = ParseMAC(l.MAC); err != nil {
		return r, err
	}
	if l.Earlier != "" {
		if r.Earlier, err = ParseMAC(l.Earlier); err != nil {
			return r, err
		}
	}
	if l.Address != "" {
		if r.Address, err = netip.ParseAddr(l.Address); err != nil || r.Address.Zone() != "" {
			return r, fmt.Errorf("address %.50q of %s", l.Address, r.MAC)
		}
		r.Address = r.Address.Unmap()
	}
	const latest = 1 << 40 // no year that a clock shows
	switch {
	case r.MAC.IsZero():
		return r, errors.New("a device without a MAC")
	case min(l.First, l.Last, l.Appeared) < 0 || max(l.First, l.Last, l.Appeared) > latest:
		return r, fmt.Errorf("times %d, %d and %d of %s", l.First, l.Last, l.Appeared, r.MAC)
	case !isText(l.Lease, maxText) || !isText(l.ClientID, maxClientID) || !isText(l.Interface, maxLink):
		return r, fmt.Errorf("name, client or interface of %s", r.MAC)
	}
	r.First, r.Last, r.Appeared = l.First*1000, l.Last*1000, l.Appeared*1000
	r.Lease, r.ClientID, r.Interface, r.Told, r.Holds = l.Lease, l.ClientID, l.Interface, l.Told, l.Holds
	return r, nil
}

// isText tells whether s can be shown, and has at most so many bytes.
func isText(s string, longest int) bool {
	return len(s) <= longest && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
	})
}

// WriteRecords replaces the file in one step, and returns how many bytes it wrote.
// Without records there is no file then. Its folder must exist.
func WriteRecords(path string, records []Record) (written int64, err error) {
	if len(records) == 0 {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err == nil {
			err = disk.SyncFolder(filepath.Dir(path))
		}
		if err != nil {
			err = fmt.Errorf("delete the known devices: %w", err)
		}
		return 0, err
	}
	temp := path + ".new"
	if written, err = writeRecords(temp, records); err == nil {
		if err = os.Rename(temp, path); err == nil {
			err = disk.SyncFolder(filepath.Dir(path))
		}
	}
	if err != nil {
		// What is left of it would only take room.
		return written, fmt.Errorf("write the known devices: %w", errors.Join(err, removed(temp)))
	}
	return written, nil
}

func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func writeRecords(path string, records []Record) (written int64, err error) {
	f, err := regular.Create(path)
	if err != nil {
		return 0, err
	}
	b := bufio.NewWriter(f)
	err = formatRecords(b, records)
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if i, e := f.Stat(); e == nil {
		written = i.Size()
	}
	return written, errors.Join(err, f.Close())
}

func formatRecords(w io.Writer, records []Record) error {
	separator := "{\"devices\":[\n"
	for i := range records {
		r := &records[i]
		l := line{
			MAC: r.MAC.String(), First: r.First / 1000, Last: r.Last / 1000, Appeared: r.Appeared / 1000, Lease: r.Lease, ClientID: r.ClientID,
			Interface: r.Interface, Earlier: r.Earlier.String(), Told: r.Told, Holds: r.Holds,
		}
		if r.Address.IsValid() {
			l.Address = r.Address.WithZone("").String()
		}
		if !isText(l.Lease, maxText) {
			l.Lease = ""
		}
		if !isText(l.ClientID, maxClientID) {
			l.ClientID = ""
		}
		if !isText(l.Interface, maxLink) {
			l.Interface = ""
		}
		b, err := json.Marshal(&l)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, separator+string(b)); err != nil {
			return err
		}
		separator = ",\n"
	}
	_, err := io.WriteString(w, "\n]}\n")
	return err
}
