//go:build race

package store

import "testing"

// alone is called by tests that do very much, one thing after another. They are
// run without the race detector: it finds nothing there, and takes many times as
// long.
func alone(t testing.TB) {
	t.Helper()
	t.Skip("does one thing after another: run without the race detector")
}
