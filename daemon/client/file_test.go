package client

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pakon/tests/limits"
	"pakon/uci/regular"
)

func someRecords() []Record {
	return []Record{
		{MAC: MAC{2, 1}, Earlier: MAC{2, 2}, First: 1_760_000_000_000, Last: 1_770_000_000_000, Appeared: 1_765_000_000_000, Lease: "Pixel \"7\" <é>", ClientID: "01:02",
			Interface: "br-lan", Address: netip.MustParseAddr("192.168.1.7"), Told: true},
		{MAC: MAC{0, 3}},
	}
}

func TestRecordsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.json")
	if _, err := ReadRecords(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	want := someRecords()
	n, err := WriteRecords(path, want)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != n || info.Mode() != 0o600 {
		t.Errorf("%v, %v, %d bytes were written", info, err, n)
	}
	got, err := ReadRecords(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
	if n, err := WriteRecords(path, nil); n != 0 || err != nil {
		t.Errorf("nothing: %d bytes, %v", n, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// Where it can not be written, what was there stays.
func TestRecordsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.json")
	if _, err := WriteRecords(path, someRecords()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteRecords(path, someRecords()[:1]); err == nil {
		t.Error("no error")
	}
	if got, err := ReadRecords(path); err != nil || len(got) != 2 {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestBrokenFile(t *testing.T) {
	var b bytes.Buffer
	if err := formatRecords(&b, someRecords()); err != nil {
		t.Fatal(err)
	}
	whole := b.String()
	for name, tt := range map[string]struct {
		text string
		kept int
	}{
		"empty":          {"", 0},
		"zeros":          {strings.Repeat("\x00", 4096), 0},
		"another":        {`{"flows":[]}`, 0},
		"cut off":        {whole[:strings.Index(whole, "},")+1], 1},
		"no end":         {strings.TrimRight(whole, "]}\n"), 1},
		"MAC":            {strings.Replace(whole, "00:03:", "00:0x:", 1), 1},
		"no MAC":         {strings.Replace(whole, "00:03:", "00:00:", 1), 1},
		"time":           {strings.Replace(whole, "1770000000", "-1", 1), 0},
		"late":           {strings.Replace(whole, "1770000000", "99999999999999", 1), 0},
		"address":        {strings.Replace(whole, "192.168.1.7", "192.168.1", 1), 0},
		"name":           {strings.Replace(whole, "Pixel", `\u001b[2J`, 1), 0},
		"long name":      {strings.Replace(whole, "Pixel", strings.Repeat("x", 256), 1), 0},
		"type":           {strings.Replace(whole, `"br-lan"`, "7", 1), 0},
		"text behind it": {whole, 2},
	} {
		got, err := parseRecords(strings.NewReader(tt.text))
		if name != "text behind it" && !errors.Is(err, ErrBroken) || len(got) != tt.kept {
			t.Errorf("%s: %d records, %v", name, len(got), err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	var b bytes.Buffer
	if err := formatRecords(&b, someRecords()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"devices":[]}`))
	f.Add([]byte(`{"devices":[{"mac":"02:00:00:00:00:01","address":"fe80::1%eth0"}]}`))
	f.Add([]byte(`{"devices":[{"mac":"02-00-00-00-00-01","first":1,"last":2,"lease":"\ud800","earlier":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, _ := parseRecords(bytes.NewReader(data))
		if len(records) > maxDevices {
			t.Fatalf("%d records", len(records))
		}
		if len(records) == 0 {
			return
		}
		var b bytes.Buffer
		if err := formatRecords(&b, records); err != nil {
			t.Fatal(err)
		}
		again, err := parseRecords(&b)
		if err != nil || !reflect.DeepEqual(again, records) {
			t.Fatalf("%+v is written and read as %+v, %v", records, again, err)
		}
	})
}

// TestNoFile: a FIFO in place of the file, or of the new one, keeps nobody waiting.
func TestNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "devices.json")
	if err := errors.Join(unix.Mkfifo(path, 0o600), unix.Mkfifo(path+".new", 0o600)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := ReadRecords(path); !errors.Is(err, regular.ErrNotRegular) {
			t.Errorf("read: %v", err)
		}
		if _, err := WriteRecords(path, someRecords()); err != nil {
			t.Errorf("write: %v", err)
		}
		if got, err := ReadRecords(path); err != nil || len(got) != 2 {
			t.Errorf("read what was written: %v, %v", got, err)
		}
	}()
	select {
	case <-done:
	case <-time.After(limits.For(10 * time.Second)):
		t.Fatal("it does not end")
	}
}
