// Package tests has the tests of Pakon as a whole: the programs as users start
// them, on a bus, in a folder laid out like a router's, with real Suricata on
// the bridges of a router made of network namespaces, or with the events of a
// made-up household where there are no namespaces.
package tests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pakon/tests/rig"
	"pakon/tests/router"
)

// programs is the folder that the programs under test are built into.
var programs string

// buildFlags are those of the tests themselves.
var buildFlags []string

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if programs, err = os.MkdirTemp("", "pakon-tests-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	for name, pkg := range map[string]string{"pakon": "pakon/daemon", "ubus": "pakon/ubus/cmd/ubus", "demo": "pakon/tests/demo"} {
		args := append([]string{"build", "-o", filepath.Join(programs, name)}, buildFlags...)
		out, err := exec.Command("go", append(args, pkg)...).CombinedOutput()
		if err != nil {
			return 1, fmt.Errorf("building %s: %w\n%s", pkg, err, out)
		}
	}
	return m.Run(), nil
}

// newSystem is Pakon with a bus that runs and a daemon that does not yet.
func newSystem(t *testing.T, where rig.Where, hosts []rig.Host) *rig.System {
	t.Helper()
	root, err := rig.NewRoot(t.TempDir(), hosts)
	if err != nil {
		t.Fatal(err)
	}
	said := &transcript{}
	s := &rig.System{
		Root: root, Where: where, Echo: said,
		Pakon: filepath.Join(programs, "pakon"), Ubus: filepath.Join(programs, "ubus"),
	}
	if err := s.StartBus(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the programs said:\n%s", said)
			if log, err := os.ReadFile(root.Path("var/run/pakon/suricata.log")); err == nil {
				t.Logf("Suricata said:\n%s", log)
			}
		}
	})
	return s
}

// transcript is what several programs say.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (tr *transcript) Write(b []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.Write(b)
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// startDaemon starts it.
func startDaemon(t *testing.T, s *rig.System, options ...string) {
	t.Helper()
	if err := s.StartDaemon(t.Context(), options...); err != nil {
		t.Fatal(err)
	}
}

// restartDaemon stops and starts it, as `service pakon restart` does.
func restartDaemon(t *testing.T, s *rig.System, options ...string) {
	t.Helper()
	if err := s.StopDaemon(); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, s, options...)
}

func status(t *testing.T, s *rig.System) rig.Status {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// newRouter makes a router for Suricata, or skips the test where none can be made.
func newRouter(t *testing.T, devices []router.Device) *router.Router {
	t.Helper()
	if _, err := exec.LookPath("suricata"); err != nil {
		t.Skipf("needs Suricata: %v", err)
	}
	return startRouter(t, devices)
}

// startRouter is newRouter for those who need no Suricata.
func startRouter(t *testing.T, devices []router.Device) *router.Router {
	t.Helper()
	r, err := router.Start(devices)
	if errors.Is(err, router.ErrUnable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}
