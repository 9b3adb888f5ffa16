//go:build !race

package store

import "testing"

func alone(testing.TB) {}
