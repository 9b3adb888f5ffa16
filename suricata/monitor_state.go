package suricata

import "time"

// Condition is how Suricata fares.
type Condition string

// The conditions, as `status` shows them.
const (
	Stopped  Condition = "stopped"  // nothing to capture, or ended by the user
	Missing  Condition = "missing"  // not installed
	Starting Condition = "starting" // the process runs but does not capture yet
	Running  Condition = "running"
	Failing  Condition = "failing" // wanted, but does not run: tried again
)

// State is what the monitor knows of Suricata.
type State struct {
	Condition  Condition
	Reason     string    // why it is not running; empty when it is
	Version    string    // of the binary, once known: "7.0.10"
	Outdated   string    // the release that mended flaws of this version: "7.0.14"; "" if none is known
	PID        int       // 0: no process
	Since      time.Time // when the process began; time.Since is right even if the clock was set meanwhile
	Interfaces []string  // being captured
	NFLOGGroup uint16    // being read
	Restarts   int       // how often it ended unasked
	LastError  string    // the last error of its log, or how it ended
	Drops      Drops     // added up over the ends of Suricata since the monitor began
}
