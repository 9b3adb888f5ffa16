package suricata

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"pakon/uci/regular"
)

// Spec is what a Service runs.
type Spec struct {
	Command []string // path of the program, arguments
	Files   []string // read by the program: it is started anew by Start when their content is not what it was
	// Output gets what the program writes to its standard output and error, appended, where the service does not pass
	// it to the system's log by itself.
	Output string
	Nice   int // 0 to 19
	// TermTimeout is how long the program has from SIGTERM until SIGKILL; whole seconds.
	TermTimeout time.Duration
}

// identity is equal for equal commands and contents of the files.
func (s Spec) identity() (string, error) {
	h := sha256.New()
	for _, arg := range s.Command {
		fmt.Fprintf(h, "%d:%s", len(arg), arg)
	}
	fmt.Fprintf(h, " nice %d", s.Nice)
	for _, path := range s.Files {
		f, err := regular.Open(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, " file %d:%s ", len(path), path)
		n, err := io.Copy(h, f)
		_ = f.Close() // only read
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, " %d", n)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ServiceState is what a Service knows of its program.
type ServiceState struct {
	Running bool
	PID     int
	Since   time.Time // when the process began; time.Since is right even if the clock was set meanwhile
	// Pending: not running, but the service manager is about to start it again by itself.
	Pending bool
	// Removed: not running because somebody else asked the service manager to end it.
	Removed bool
	Exits   int    // how often it ended unasked since this Service was made
	Exit    string // how it last did so: "exit status 1", "signal: killed"
}

// Service keeps a program running. Its program outlives it: a new Service finds it again. Start and Stop are called
// from one goroutine at a time, while Run runs.
type Service interface {
	// Run follows the program until ctx ends, and leaves it running.
	Run(ctx context.Context) error
	// Start makes the program run as in spec. One that already does is left alone, whoever started it; one that runs
	// otherwise is replaced. started tells that a new process runs, or is about to.
	Start(ctx context.Context, spec Spec) (started bool, err error)
	// Stop ends the program and returns when it is gone. None running is not an error.
	Stop(ctx context.Context) error
	State() ServiceState
	// Changes signals (capacity 1) that State may have changed.
	Changes() <-chan struct{}
	// Kind names the service in the log: "procd", "child process".
	Kind() string
}
