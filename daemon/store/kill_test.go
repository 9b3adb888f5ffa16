package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"pakon/daemon/flow"
)

// killedPath, in the environment, makes the test binary a process that adds
// batches to the database there until it is killed.
const killedPath = "PAKON_TEST_STORE_KILLED"

// killedBatch is the size of its batches; each flow tells the batch it is of.
const killedBatch = 50

func TestMain(m *testing.M) {
	if path := os.Getenv(killedPath); path != "" {
		if err := addForever(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	if work := os.Getenv(crashedPath); work != "" {
		crashForever(work)
	}
	if path := os.Getenv(measuredPath); path != "" {
		if err := useOnce(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func addForever(path string) error {
	ctx, limit := context.Background(), int64(5000)
	s, err := Open(ctx, Options{Path: path, MaxFlows: limit, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	for batch := s.batch.Load() + 1; ; batch++ {
		flows := make([]flow.Flow, killedBatch)
		for i := range flows {
			flows[i] = testFlow(1_700_000_000_000 + batch*1000)
			flows[i].Sent, flows[i].Name = uint64(batch), fmt.Sprintf("n%d.example", batch)
		}
		if err := s.Add(ctx, flows); err != nil {
			return err
		}
		// Told only once it is stored.
		fmt.Println(batch)
	}
}

// TestKilled kills a process that adds batches, at any moment, many times: all
// that it has told to be stored is there, and no part of a batch.
func TestKilled(t *testing.T) {
	alone(t)
	path := filepath.Join(t.TempDir(), "pakon.db")
	var last uint64
	for round := range 10 {
		told := runAndKill(t, path, round)
		s := open(t, Options{Path: path})
		batches := make(map[uint64]int)
		for _, r := range walk(t, s, Query{}) {
			batches[r.Sent]++
			if r.Name != fmt.Sprintf("n%d.example", r.Sent) {
				t.Fatalf("a flow of batch %d is named %q", r.Sent, r.Name)
			}
		}
		newest := uint64(s.batch.Load())
		if newest < told || told < last {
			t.Fatalf("round %d: %d batches are there, %d were told, %d in the round before", round, newest, told, last)
		}
		for b, n := range batches {
			// The oldest may be partly deleted: the number of flows is limited.
			if n != killedBatch && (len(batches) < 100 || b > newest-100) {
				t.Errorf("round %d: batch %d has %d flows", round, b, n)
			}
		}
		if batches[newest] != killedBatch {
			t.Errorf("round %d: the last batch %d has %d flows", round, newest, batches[newest])
		}
		last = newest
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runAndKill lets the process add some batches, more each round, and a bit of
// the next. It returns the last that it told.
func runAndKill(t *testing.T, path string, round int) (told uint64) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; n < 3+round*7 && lines.Scan(); n++ {
	}
	// The moment of the kill within a batch is to differ from round to round.
	time.AfterFunc(time.Duration(round)*150*time.Microsecond, func() { cmd.Process.Kill() })
	rest := lines.Text()
	for lines.Scan() {
		rest = lines.Text()
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(rest, &told); err != nil && err != io.EOF {
		t.Fatalf("told %q: %v", rest, err)
	}
	cmd.Wait()
	return told
}
