// Package arm checks the program for routers with 32-bit processors, on which no
// test runs.
package arm

import (
	"os"
	"testing"

	"golang.org/x/tools/go/packages"
)

// TestTypes: what is installed on a router has no error of types where an int has
// 32 bits. To compile it would take ten times as long.
func TestTypes(t *testing.T) {
	config := &packages.Config{
		Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo,
		Dir:  "../..",
		Env:  append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0"),
	}
	programs, err := packages.Load(config, "./daemon", "./ubus/cmd/ubus")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	packages.Visit(programs, nil, func(p *packages.Package) {
		checked++
		for _, err := range p.Errors {
			t.Error(err)
		}
	})
	if checked < 100 {
		t.Errorf("only %d packages were checked", checked)
	}
}
