package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"pakon/suricata"
	"pakon/tests/rig"
	"pakon/tests/router"
)

// recordCapture makes the capture file that playCapture plays.
func recordCapture(ctx context.Context, o options) (err error) {
	r, err := router.Start(router.Household())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	tap, err := r.Tap(true)
	if err != nil {
		return err
	}
	all, browseErr := browseAll(ctx, r)
	if err := errors.Join(browseErr, tap.Close()); err != nil {
		return err
	}
	if err := covered(all); err != nil {
		return err
	}
	f, err := os.Create(o.capture + ".pcap")
	if err != nil {
		return err
	}
	if err := errors.Join(tap.WritePcap(f), f.Close()); err != nil {
		return err
	}
	list, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(o.capture+".json", append(list, '\n'), 0o644)
}

// playCapture is the demonstration without root: Suricata reads a capture file.
func playCapture(ctx context.Context, s *shown) (err error) {
	s.say("Without root no router can be made. Suricata plays a capture file of one instead: %s.pcap", s.capture)
	list, err := os.ReadFile(s.capture + ".json")
	if err != nil {
		return err
	}
	var all []expected
	if err := json.Unmarshal(list, &all); err != nil {
		return fmt.Errorf("reading what is in the capture file: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.StartBus(ctx); err != nil {
		return err
	}
	if err := s.StartDaemon(ctx, "--no-suricata"); err != nil {
		return err
	}
	if err := s.play(ctx); err != nil {
		return err
	}
	if err := s.await(ctx, all, 10*time.Second); err != nil {
		return err
	}
	if err := s.show(ctx, all); err != nil || s.once {
		return err
	}
	return s.follow(ctx)
}

// play runs Suricata over the capture, as if it had been made just now.
func (s *shown) play(ctx context.Context) error {
	capture, err := os.ReadFile(s.capture + ".pcap")
	if err != nil {
		return err
	}
	if err := redate(capture, time.Now().Add(-time.Second)); err != nil {
		return fmt.Errorf("%s.pcap: %w", s.capture, err)
	}
	run := s.Root.Path("var/run/pakon")
	recent, config := filepath.Join(run, "demo.pcap"), filepath.Join(run, suricata.ConfigFile)
	binary, err := exec.LookPath("suricata")
	if err != nil {
		return err
	}
	build, err := suricata.Inspect(ctx, binary)
	if err != nil {
		return err
	}
	settings := suricata.Settings{RunDir: run, Major: build.Major}
	err = errors.Join(os.WriteFile(recent, capture, 0o600), os.WriteFile(config, suricata.YAML(settings), 0o600))
	if err != nil {
		return err
	}
	_, err = rig.Output(ctx, binary, "-c", config, "-l", run, "-r", recent, "--runmode", "single", "--disable-detection")
	if err == nil {
		s.say("Suricata %s has read it.", build.Version)
	}
	return err
}

// redate moves the packets of a capture so that the last is at a given time.
func redate(capture []byte, end time.Time) error {
	le := binary.LittleEndian
	if len(capture) < 24 || le.Uint32(capture) != 0xa1b2c3d4 {
		return errors.New("no capture file with microseconds and the lower byte first")
	}
	var times [][]byte
	for at := 24; at < len(capture); {
		if len(capture)-at < 16 {
			return errors.New("cut off in a packet's header")
		}
		times = append(times, capture[at:at+8])
		at += 16 + int(le.Uint32(capture[at+8:]))
	}
	if len(times) == 0 {
		return errors.New("no packets")
	}
	stamp := func(b []byte) int64 { return int64(le.Uint32(b))*1e6 + int64(le.Uint32(b[4:])) }
	shift := end.UnixMicro() - stamp(times[len(times)-1])
	for _, b := range times {
		t := stamp(b) + shift
		le.PutUint32(b, uint32(t/1e6))
		le.PutUint32(b[4:], uint32(t%1e6))
	}
	return nil
}
