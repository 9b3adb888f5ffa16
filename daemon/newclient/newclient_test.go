package newclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pakon/daemon/client"
	"pakon/tests/limits"
)

// rig is an Announcer with a folder of programs.
type rig struct {
	*Announcer
	log      bytes.Buffer
	mu       sync.Mutex
	told     []Notice
	refuse   error
	dir, out string
	turris   bool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir()}
	r.out = filepath.Join(r.dir, "out")
	r.Announcer = New(Config{
		Notify: func(d Notice) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, d)
			return r.refuse
		},
		Folder:  filepath.Join(r.dir, "client-new.d"),
		Turris:  filepath.Join(r.dir, "create_notification"),
		Enabled: func() bool { return r.turris },
		Log:     slog.New(slog.NewTextHandler(&r.log, nil)),
	})
	if err := os.Mkdir(r.Folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// program writes a shell script; $OUT in it is the file that output reads.
func (r *rig) program(t *testing.T, path string, mode os.FileMode, script string) {
	t.Helper()
	script = "#!/bin/sh\n" + strings.ReplaceAll(script, "$OUT", r.out) + "\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func (r *rig) output(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(r.out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// all announces devices and returns when that is done.
func (r *rig) all(t *testing.T, devices ...client.Device) {
	t.Helper()
	for _, d := range devices {
		r.Announce(d)
	}
	r.Finish()
	if err := r.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

var phone = client.Device{
	MAC: client.MAC{0x00, 0x1b, 0x44, 0x11, 0x3a, 0xb7}, Name: "Pixel-7", NameSource: client.Lease, Vendor: "Google", Interface: "br-lan",
	Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("192.168.1.23")},
}

func TestPrograms(t *testing.T) {
	t.Setenv("SECRET", "of the daemon")
	r := newRig(t)
	in := func(name string) string { return filepath.Join(r.Folder, name) }
	r.program(t, in("20-second"), 0o755, `echo second >>$OUT; pwd >>$OUT`)
	r.program(t, in("10-first"), 0o700, `{ echo first; env | grep -v '^\(PWD\|SHLVL\|_\)='; } | sort >>$OUT`)
	r.program(t, in("30-not-executable"), 0o644, `echo no >>$OUT`)
	r.program(t, in("40-anyone-may-write"), 0o777, `echo no >>$OUT`)
	r.program(t, filepath.Join(r.dir, "elsewhere"), 0o755, `echo no >>$OUT`)
	if err := os.Symlink(filepath.Join(r.dir, "elsewhere"), in("50-link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(in("60-folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	hostile := phone
	hostile.Name = "$(echo no >>" + r.out + ")`;\" 'x' %s -n"
	r.all(t, hostile)
	want := "HOME=/\nPAKON_ADDRESS=192.168.1.23\nPAKON_EARLIER=\nPAKON_INTERFACE=br-lan\nPAKON_MAC=00:1b:44:11:3a:b7\nPAKON_MORE=0\nPAKON_NAME=" + hostile.Name +
		"\nPAKON_VENDOR=Google\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nfirst\nsecond\n/\n"
	if got := r.output(t); got != want {
		t.Errorf("the programs say\n%s, want\n%s", got, want)
	}
	if log := r.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "40-anyone-may-write") {
		t.Errorf("log:\n%s", log)
	}
	if len(r.told) != 1 || r.told[0].Name != hostile.Name {
		t.Errorf("told on the bus: %v", r.told)
	}
}

func TestFolderThatOthersMayWrite(t *testing.T) {
	r := newRig(t)
	r.program(t, filepath.Join(r.Folder, "a"), 0o755, `echo no >>$OUT`)
	if err := os.Chmod(r.Folder, 0o777); err != nil {
		t.Fatal(err)
	}
	r.all(t, phone)
	if got := r.output(t); got != "" || !strings.Contains(r.log.String(), "others may write their folder") {
		t.Errorf("output %q, log:\n%s", got, r.log.String())
	}
}

func TestProgramOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	r := newRig(t)
	path := filepath.Join(r.Folder, "a")
	r.program(t, path, 0o755, `echo no >>$OUT`)
	if err := os.Chown(path, 12345, 0); err != nil {
		t.Fatal(err)
	}
	r.all(t, phone)
	if got := r.output(t); got != "" || !strings.Contains(r.log.String(), "others own it") {
		t.Errorf("output %q, log:\n%s", got, r.log.String())
	}
}

// One that fails does not keep the next from being run, nor the next device.
func TestFailures(t *testing.T) {
	r := newRig(t)
	r.refuse = errors.New("no bus")
	r.program(t, filepath.Join(r.Folder, "1"), 0o755, "for i in 1 2 3 4 5 6; do echo line $i; done; exit 3")
	r.program(t, filepath.Join(r.Folder, "2"), 0o755, "echo $PAKON_NAME >>$OUT")
	r.program(t, filepath.Join(r.Folder, "3"), 0o755, "yes | head -c 100000")
	if err := os.WriteFile(filepath.Join(r.Folder, "0"), []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	second := phone
	second.Name = "second"
	r.all(t, phone, second)
	if got := r.output(t); got != "Pixel-7\nsecond\n" {
		t.Errorf("output %q", got)
	}
	log := r.log.String()
	for _, want := range []string{`output="line 1; line 2; line 3; line 4"`, "exit status 3", "no bus", "exec format error"} {
		if strings.Count(log, want) != 2 {
			t.Errorf("%q is logged %d times:\n%s", want, strings.Count(log, want), log)
		}
	}
}

// What takes too long is killed, with all that it has started.
func TestTooLong(t *testing.T) {
	r := newRig(t)
	r.limit = 300 * time.Millisecond
	fifo := filepath.Join(r.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// Both hold the pipe; the read below ends when both are gone.
	r.program(t, filepath.Join(r.Folder, "1"), 0o755, "exec 3>"+fifo+"; sleep 1000 & sleep 1000")
	r.program(t, filepath.Join(r.Folder, "2"), 0o755, "echo next >>$OUT")
	ended := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(fifo)
		ended <- err
	}()
	r.all(t, phone)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(limits.For(20 * time.Second)):
		t.Error("what a program has started goes on")
	}
	if got := r.output(t); got != "next\n" || !strings.Contains(r.log.String(), "it was killed") {
		t.Errorf("output %q, log:\n%s", got, r.log.String())
	}
}

// A program may leave another one running.
func TestLeftRunning(t *testing.T) {
	r := newRig(t)
	r.program(t, filepath.Join(r.Folder, "1"), 0o755, "sleep 3 & echo done >>$OUT")
	r.all(t, phone)
	if got := r.output(t); got != "done\n" || strings.Contains(r.log.String(), "WARN") {
		t.Errorf("output %q, log:\n%s", got, r.log.String())
	}
}

// When the daemon ends, what waits has little time.
func TestEnd(t *testing.T) {
	r := newRig(t)
	r.atLast = 200 * time.Millisecond
	r.program(t, filepath.Join(r.Folder, "1"), 0o755, "echo $PAKON_NAME >>$OUT; sleep 1000")
	second := phone
	second.Name = "second"
	r.Announce(phone)
	r.Announce(second)
	r.Finish()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	if got := r.output(t); got != "Pixel-7\n" || len(r.told) != 2 || !strings.Contains(r.log.String(), "the daemon ends") {
		t.Errorf("output %q, told %d, log:\n%s", got, len(r.told), r.log.String())
	}
}

// take returns what was told on the bus since it was called last.
func (r *rig) take() []Notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.told
	r.told = nil
	return told
}

// Of devices without end, ten are announced in a while, then the last of the others,
// with how many there were.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ended := make(chan error, 1)
		go func() { ended <- r.Run(t.Context()) }()
		n := 0
		flood := func(devices int) {
			for range devices {
				n++
				r.Announce(client.Device{MAC: client.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)}})
			}
			synctest.Wait()
		}
		told := func(what string, want ...string) {
			t.Helper()
			var got []string
			for _, d := range r.take() {
				got = append(got, fmt.Sprintf("%d+%d", int(d.MAC[4])<<8|int(d.MAC[5]), d.More))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: told %q, want %q", what, got, want)
			}
		}
		flood(9)
		told("nine", "1+0", "2+0", "3+0", "4+0", "5+0", "6+0", "7+0", "8+0", "9+0")
		flood(1)
		flood(50)
		told("at once", "10+0")
		r.Pass(1000)
		time.Sleep(noticesFor - time.Second)
		flood(1)
		told("nearly a minute later")
		time.Sleep(time.Second)
		synctest.Wait()
		told("after a minute", "61+1050")
		flood(20)
		told("then", "62+0", "63+0", "64+0", "65+0", "66+0", "67+0", "68+0", "69+0", "70+0")
		time.Sleep(noticesFor)
		synctest.Wait()
		told("after another minute", "81+10")
		time.Sleep(noticesFor)
		flood(1)
		told("later", "82+0")
		flood(20)
		r.take()
		r.Finish()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		told("at the end", "102+10")
	})
}

// What can not be announced as fast as it comes is counted.
func TestSlowProgram(t *testing.T) {
	r := newRig(t)
	for i := range maxQueue + 10 {
		r.Announce(client.Device{MAC: client.MAC{2, 0, 0, 0, 0, byte(i)}})
	}
	r.all(t)
	sum := 0
	for _, d := range r.told {
		sum += 1 + d.More
	}
	if sum != maxQueue+10 || len(r.told) != maxNotices+1 {
		t.Errorf("told %d devices in %d notices", sum, len(r.told))
	}
}

// A program and Turris are told of which device is back, and of how many more there
// are, beside what they are told of a new one.
func TestBackAndMore(t *testing.T) {
	r := newRig(t)
	r.turris = true
	r.program(t, filepath.Join(r.Folder, "1"), 0o755, `echo "$PAKON_MAC $PAKON_NAME $PAKON_EARLIER $PAKON_MORE" >>$OUT`)
	r.program(t, r.Turris, 0o755, `for a in "$@"; do echo "$a" >>$OUT; done`)
	back := phone
	back.Earlier = client.MAC{2, 0, 0, 0, 0, 0xa1}
	r.Pass(7)
	r.all(t, back)
	const about = "br-lan: Pixel-7 (Google), 192.168.1.23, MAC 00:1b:44:11:3a:b7"
	want := "00:1b:44:11:3a:b7 Pixel-7 02:00:00:00:00:a1 7\n-s\nnews\n" +
		"Zařízení je zpět s jinou adresou v síti " + about + ", dříve 02:00:00:00:00:a1; dalších nových zařízení: 7\n" +
		"A device is back with another address in the network " + about + ", was 02:00:00:00:00:a1; more new devices: 7\n"
	if got := r.output(t); got != want {
		t.Errorf("told\n%s, want\n%s", got, want)
	}
}

func TestTurris(t *testing.T) {
	dashes := phone
	dashes.Name = "-s"
	unnamed := client.Device{MAC: phone.MAC, Random: true}
	vendor := phone
	vendor.Name, vendor.NameSource = "Google 3a:b7", client.Vendor
	for _, tt := range []struct {
		device         client.Device
		czech, english string
	}{
		{phone, "Nové zařízení v síti br-lan: Pixel-7 (Google), 192.168.1.23, MAC 00:1b:44:11:3a:b7",
			"New device in the network br-lan: Pixel-7 (Google), 192.168.1.23, MAC 00:1b:44:11:3a:b7"},
		{vendor, "Nové zařízení v síti br-lan: Google 3a:b7, 192.168.1.23, MAC 00:1b:44:11:3a:b7",
			"New device in the network br-lan: Google 3a:b7, 192.168.1.23, MAC 00:1b:44:11:3a:b7"},
		{dashes, "Nové zařízení v síti br-lan: -s (Google), 192.168.1.23, MAC 00:1b:44:11:3a:b7",
			"New device in the network br-lan: -s (Google), 192.168.1.23, MAC 00:1b:44:11:3a:b7"},
		{unnamed, "Nové zařízení v síti: MAC 00:1b:44:11:3a:b7", "New device in the network: MAC 00:1b:44:11:3a:b7"},
	} {
		for _, enabled := range []bool{true, false} {
			r := newRig(t)
			r.turris = enabled
			r.program(t, r.Turris, 0o755, `for a in "$@"; do echo "$a" >>$OUT; done`)
			r.all(t, tt.device)
			want := ""
			if enabled {
				want = fmt.Sprintf("-s\nnews\n%s\n%s\n", tt.czech, tt.english)
			}
			if got := r.output(t); got != want {
				t.Errorf("enabled %v: %q, want %q", enabled, got, want)
			}
		}
	}
	r := newRig(t)
	r.turris = true // where there is no such command
	r.all(t, phone)
	if strings.Contains(r.log.String(), "WARN") {
		t.Errorf("log:\n%s", r.log.String())
	}
}
