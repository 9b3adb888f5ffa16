// Package files holds what is installed on the router beside the program, laid
// out as there: for the tests and the demo, which lay out folders like it.
package files

import "embed"

// Shared is the folder usr/share.
//
//go:embed usr/share
var Shared embed.FS
