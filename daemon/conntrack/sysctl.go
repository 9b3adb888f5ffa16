package conntrack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// settings are below this folder, for the network namespace of this process.
const settings = "/proc/sys/net/netfilter"

// wanted are the settings without which connections can not be counted rightly:
// bytes, times, and that ends are told of connections that began before anybody
// listened, too.
var wanted = []struct {
	name, value string
	optional    bool // kernels are built without: beginnings are then known to a tenth of a second
}{
	{"nf_conntrack_acct", "1", false},
	{"nf_conntrack_timestamp", "1", true},
	{"nf_conntrack_events", "1", false},
}

// accounting tells whether the kernel counts the bytes of new connections.
func accounting(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "nf_conntrack_acct"))
	return err == nil && strings.TrimSpace(string(b)) != "0"
}

// switchOn puts the settings in force. It returns those that it changed, and
// what it could not change.
func switchOn(dir string) (switched []string, err error) {
	var wrong []string
	for _, w := range wanted {
		path := filepath.Join(dir, w.name)
		old, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && w.optional {
			continue
		}
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s can not be read: %v", w.name, err))
			continue
		}
		if strings.TrimSpace(string(old)) == w.value {
			continue
		}
		if err := os.WriteFile(path, []byte(w.value), 0o644); err != nil {
			wrong = append(wrong, fmt.Sprintf("net.netfilter.%s is %s and can not be set to %s: %v", w.name, strings.TrimSpace(string(old)), w.value, err))
			continue
		}
		switched = append(switched, "net.netfilter."+w.name)
	}
	if len(wrong) > 0 {
		return switched, fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return switched, nil
}

// readTimeouts reads what is set; what can not be read is the kernel's default.
func readTimeouts(dir string) Timeouts {
	seconds := func(name string, otherwise int) time.Duration {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 0 {
				otherwise = n
			}
		}
		return time.Duration(otherwise) * time.Second
	}
	return Timeouts{
		UDP:       seconds("nf_conntrack_udp_timeout", 30),
		UDPStream: seconds("nf_conntrack_udp_timeout_stream", 120),
		TimeWait:  seconds("nf_conntrack_tcp_timeout_time_wait", 120),
		Close:     seconds("nf_conntrack_tcp_timeout_close", 10),
	}
}
