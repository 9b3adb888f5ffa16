//go:build race

package tests

import "os"

func init() {
	buildFlags = append(buildFlags, "-race")
	// A program with a data race ends with status 66, which fails the test. All
	// others would linger for a second at their end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
}
