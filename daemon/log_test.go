package main

import (
	"bytes"
	"errors"
	"testing"
)

func TestLogByLevel(t *testing.T) {
	var stdout, stderr bytes.Buffer
	log := newLogger(&stdout, &stderr)
	log.Debug("a detail")
	log.With("part", "store").Info("all is well", "n", 1)
	log.WithGroup("g").Warn("look here", "err", errors.New("no space"))
	log.Error("it failed")
	if got, want := stdout.String(), "level=INFO msg=\"all is well\" part=store n=1\nlevel=WARN msg=\"look here\" g.err=\"no space\"\n"; got != want {
		t.Errorf("standard output %q, want %q", got, want)
	}
	if got, want := stderr.String(), "level=ERROR msg=\"it failed\"\n"; got != want {
		t.Errorf("standard error %q, want %q", got, want)
	}
}
