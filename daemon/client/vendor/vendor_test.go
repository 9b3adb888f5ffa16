package vendor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const installed = "../../../files/usr/share/pakon-light/vendors"

func parseMAC(t testing.TB, s string) (mac [6]byte) {
	t.Helper()
	if n, err := fmt.Sscanf(s, "%02x:%02x:%02x:%02x:%02x:%02x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]); n != 6 {
		t.Fatal(err)
	}
	return mac
}

func TestInstalled(t *testing.T) {
	table, err := Open(installed)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	if info, err := table.f.Stat(); err != nil || info.Size() > 600_000 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	for mac, want := range map[string]string{
		"00:03:93:12:34:56": "Apple",
		"f0:18:98:12:34:56": "Apple",
		"b8:27:eb:12:34:56": "Raspberry Pi",
		"dc:a6:32:12:34:56": "Raspberry Pi",
		"24:0a:c4:12:34:56": "Espressif",
		"d8:58:d7:12:34:56": "Turris (CZ.NIC)",
		"50:c7:bf:12:34:56": "TP-Link",
		"00:e0:fc:12:34:56": "Huawei",
		"00:00:f0:12:34:56": "Samsung Electronics",
		"00:11:32:12:34:56": "Synology",
		"00:17:88:12:34:56": "Philips Hue",
		"00:09:bf:12:34:56": "Nintendo",
		"00:0c:29:12:34:56": "VMware",
		"4c:5e:0c:12:34:56": "MikroTik",
		"00:1b:21:12:34:56": "Intel",
		"3c:d9:2b:12:34:56": "HP",
		"00:1b:c5:00:01:23": "Converging Systems", // 36 bits
		"00:50:c2:7d:51:23": "Deuta-Werke",        // 36 bits of an IAB
		"20:85:93:b1:23:45": "IOG Products",       // 28 bits
		"00:1b:c5:ff:f1:23": "",                   // given out in parts, this one not
		"02:03:93:12:34:56": "",                   // chosen by the device
		"01:03:93:12:34:56": "",                   // a group
		"ff:ff:ff:ff:ff:ff": "",
		"00:00:00:00:00:00": "Xerox",
	} {
		if got := table.Lookup(parseMAC(t, mac)); got != want {
			t.Errorf("%s: got %q, want %q", mac, got, want)
		}
	}
}

func someEntries() []Entry {
	entries := []Entry{
		{[6]byte{0x00, 0x11, 0x22}, 24, "Large"},
		{[6]byte{0x00, 0x11, 0x22, 0x30}, 28, "Middle"},
		{[6]byte{0x00, 0x11, 0x22, 0x34, 0x50}, 36, "Small"},
		{[6]byte{0x00, 0x11, 0x23}, 24, ""},
		{[6]byte{0xfc, 0xff, 0xff, 0xff, 0xff, 0xff}, 24, strings.Repeat("x", maxName)},
		{[6]byte{0xf8, 0xff, 0xff}, 24, strings.Repeat("x", maxName-1) + "y"},
		{[6]byte{0x00, 0x11, 0x22}, 24, "Second"},
	}
	for i := range 200 { // some blocks of names
		entries = append(entries, Entry{[6]byte{0x04, byte(i), byte(i)}, 24, fmt.Sprintf("Vendor ž%03d", i)})
	}
	return entries
}

func file(t testing.TB, entries []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, entries); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, content []byte) (*Table, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vendors")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := Open(path)
	if err == nil {
		t.Cleanup(func() { table.Close() })
	}
	return table, err
}

func TestLookup(t *testing.T) {
	table, err := open(t, file(t, someEntries()))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"00:11:22:00:00:00": "Large",
		"00:11:22:40:00:00": "Large",
		"00:11:22:3f:ff:ff": "Middle",
		"00:11:22:34:4f:ff": "Middle",
		"00:11:22:34:5f:ff": "Small",
		"00:11:22:34:50:00": "Small",
		"00:11:21:ff:ff:ff": "",
		"00:11:23:00:00:00": "",
		"00:11:24:00:00:00": "",
		"fc:ff:ff:00:00:00": strings.Repeat("x", maxName),
		"f8:ff:ff:00:00:00": strings.Repeat("x", maxName-1) + "y",
		"f8:ff:fe:00:00:00": "",
	}
	for i := range 200 {
		want[fmt.Sprintf("04:%02x:%02x:00:00:01", i, i)] = fmt.Sprintf("Vendor ž%03d", i)
	}
	for mac, name := range want {
		if got := table.Lookup(parseMAC(t, mac)); got != name {
			t.Errorf("%s: got %q, want %q", mac, got, name)
		}
	}
	if err := table.Close(); err != nil {
		t.Error(err)
	}
	if got := table.Lookup(parseMAC(t, "00:11:22:00:00:00")); got != "" {
		t.Errorf("closed: %q", got)
	}
	var none *Table
	if got, err := none.Lookup(parseMAC(t, "00:11:22:00:00:00")), none.Close(); got != "" || err != nil {
		t.Errorf("none: %q, %v", got, err)
	}
}

func TestOpenDamaged(t *testing.T) {
	whole := file(t, someEntries())
	if _, err := open(t, file(t, nil)); err != nil {
		t.Errorf("without vendors: %v", err)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x10
		if _, err := open(t, damaged); err == nil {
			t.Fatalf("byte %d is wrong, and nobody noticed", i)
		}
	}
	for _, n := range []int{0, 1, headerSize - 1, headerSize, len(whole) - 1} {
		if _, err := open(t, whole[:n]); err == nil {
			t.Errorf("cut off after %d bytes, and nobody noticed", n)
		}
	}
	if _, err := open(t, append(bytes.Clone(whole), 0)); err == nil {
		t.Error("a byte too many, and nobody noticed")
	}
	if _, err := open(t, make([]byte, maxFile+1)); err == nil {
		t.Error("too large, and nobody noticed")
	}
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, filepath.Join(dir, "missing")} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestDamagedLater cuts off a file that is open.
func TestDamagedLater(t *testing.T) {
	table, err := open(t, file(t, someEntries()))
	if err != nil {
		t.Fatal(err)
	}
	mac := parseMAC(t, "04:c7:c7:00:00:01")
	if table.Lookup(mac) == "" {
		t.Fatal("not found in the whole file")
	}
	for size := table.fileEnd - 1; size >= 0; size -= 7 {
		if err := os.Truncate(table.f.Name(), size); err != nil {
			t.Fatal(err)
		}
		if got := table.Lookup(mac); got != "" && !strings.HasPrefix(got, "Vendor") {
			t.Errorf("%d bytes: %q", size, got)
		}
	}
	if got := table.Lookup(mac); got != "" {
		t.Errorf("found in an empty file: %q", got)
	}
}

func TestWriteRefuses(t *testing.T) {
	var many []Entry
	for i := range 1<<16 + 1 {
		many = append(many, Entry{[6]byte{0, byte(i >> 16), byte(i >> 8), byte(i)}, 28, fmt.Sprint(i)})
	}
	for name, entries := range map[string][]Entry{
		"bits":    {{Bits: 25, Name: "x"}},
		"long":    {{Bits: 24, Name: strings.Repeat("x", maxName+1)}},
		"control": {{Bits: 24, Name: "a\nb"}},
		"bytes":   {{Bits: 24, Name: "\xff"}},
		"many":    many,
	} {
		if err := Write(&bytes.Buffer{}, entries); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// FuzzOpen opens files whose checksum is right, whatever else they say.
func FuzzOpen(f *testing.F) {
	whole := file(f, someEntries())
	f.Add(whole, uint64(0x001122345000))
	f.Add(whole, uint64(0x04c7c7000001))
	f.Add(whole[:headerSize], uint64(0))
	f.Add(file(f, nil), uint64(0))
	for _, at := range []int{len(magic), len(magic) + 12, len(magic) + 16, headerSize, headerSize + 1000, len(whole) - 100} {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0xff
		f.Add(damaged, uint64(0x001122345000))
	}
	path := filepath.Join(f.TempDir(), "vendors")
	f.Fuzz(func(t *testing.T, content []byte, address uint64) {
		if len(content) >= headerSize {
			content = append(bytes.Clone([]byte(magic)), content[len(magic):]...)
			sum := checksum(content[:headerSize])
			sum.Write(content[headerSize:])
			binary.LittleEndian.PutUint32(content[headerSize-4:], sum.Sum32())
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		table, err := Open(path)
		if err != nil {
			return
		}
		defer table.Close()
		mac := [6]byte(binary.BigEndian.AppendUint64(nil, address)[2:])
		if name := table.Lookup(mac); !showable([]byte(name)) || name != "" && mac[0]&3 != 0 {
			t.Errorf("%x: %q", mac, name)
		}
	})
}
