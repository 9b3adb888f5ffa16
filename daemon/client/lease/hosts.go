package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"pakon/uci"
)

// What is read at most of hosts.
const (
	maxHosts  = 4096
	maxFolder = 1024 // files of a folder
)

// Ethers is where the owner may name devices for every program of the system.
const Ethers = "/etc/ethers"

// ReadHosts reads what the owner wrote of devices: ethers, which has a device a line
// and its name or address, then files of dnsmasq's hosts, of folders all files but
// those that dnsmasq passes over. What is not there names none. skipped and err are
// as in [Read].
func ReadHosts(ethers string, paths []string) (hosts []uci.Host, skipped int, err error) {
	read := func(path string, parse func(string) (uci.Host, bool)) {
		n, fileErr := readLines(path, func(line string) bool {
			h, ok := parse(line)
			switch {
			case !ok || len(h.MACs)+len(h.IDs)+len(h.Addrs) == 0:
				return ok
			case len(hosts) == maxHosts:
				return false
			}
			hosts = append(hosts, h)
			return true
		})
		skipped += n
		if fileErr != nil && !errors.Is(fileErr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("read hosts: %w", fileErr))
		}
	}
	read(ethers, uci.ParseEthers)
	for _, path := range paths {
		files, folderErr := filesOf(path)
		if folderErr != nil {
			err = errors.Join(err, fmt.Errorf("read hosts: %w", folderErr))
		}
		for _, file := range files {
			read(file, parseHost)
		}
	}
	return hosts, skipped, err
}

// filesOf are the files of a folder that dnsmasq reads, in order; of a file, itself.
func filesOf(path string) (files []string, err error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return []string{path}, nil // whoever reads it says why it can not be read
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if name[0] == '.' || strings.HasSuffix(name, "~") || name[0] == '#' && strings.HasSuffix(name, "#") {
			continue
		}
		file := filepath.Join(path, name)
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if len(files) == maxFolder {
			return files, fmt.Errorf("%s: more than %d files", path, maxFolder)
		}
		files = append(files, file)
	}
	return files, nil
}

// parseHost takes a line of a file of dnsmasq's hosts. A '#' behind a blank begins a
// comment, and quotes only hold words together.
func parseHost(line string) (h uci.Host, ok bool) {
	blank, quoted := true, false
	var b strings.Builder
	for i := range len(line) {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
			blank = false
		case c == '#' && blank && !quoted:
			return parseWords(b.String())
		default:
			b.WriteByte(c)
			blank = c == ' ' || c == '\t'
		}
	}
	return parseWords(b.String())
}

func parseWords(words string) (h uci.Host, ok bool) {
	if strings.TrimSpace(words) == "" {
		return h, true
	}
	return uci.ParseHost(words)
}
