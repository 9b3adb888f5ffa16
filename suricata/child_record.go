package suricata

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"pakon/uci/regular"
)

// processRecord names a process for the next run of this program.
type processRecord struct {
	PID      int    `json:"pid"`
	Start    uint64 `json:"start"`    // clock ticks after boot: with pid and boot it names one process
	Boot     string `json:"boot"`     // the kernel's random boot_id
	Identity string `json:"identity"` // of command and files, see Spec.identity
}

// maxRecord bounds a record, in bytes.
const maxRecord = 4 << 10

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func readRecord(path string) (processRecord, error) {
	b, err := regular.Read(path, maxRecord)
	if err != nil {
		return processRecord{}, err
	}
	var r processRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return processRecord{}, fmt.Errorf("%s: %w", path, err)
	}
	if r.PID <= 1 {
		return processRecord{}, fmt.Errorf("%s: process %d cannot be ours", path, r.PID)
	}
	return r, nil
}

func writeRecord(path string, r processRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

// writeFile replaces a file at once, mode 0600: a reader sees the old or the new content.
func writeFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
