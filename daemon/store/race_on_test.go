//go:build race

package store

// raced tells that the tests look for data races, which takes many times as long.
const raced = true
