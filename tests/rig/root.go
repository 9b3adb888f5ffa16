// Package rig runs Pakon's own programs for whole-system tests: a folder laid
// out like a router's file system, a bus, the daemon on them, and the commands
// that a user would type. It makes no network; package router does.
package rig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"pakon/files"
)

// lists are the folder of what is known of names and of vendors.
const lists = "usr/share/pakon-light"

// Root is a folder laid out like a router's file system.
type Root string

// Host is a `config host` section of /etc/config/dhcp.
type Host struct {
	Name string
	MACs []string
}

// Interfaces are what a Turris router's guest network and LAN are called.
var Interfaces = []string{"br-lan", "br-guest_turris"}

// NewRoot lays the folder out, with a configuration that monitors Interfaces.
func NewRoot(dir string, hosts []Host) (Root, error) {
	r := Root(dir)
	for _, d := range []string{"etc/config", "tmp/.uci", "var/run", "var/lib", "srv"} {
		if err := os.MkdirAll(r.Path(d), 0o755); err != nil {
			return "", fmt.Errorf("laying out a router's folders: %w", err)
		}
	}
	if err := r.install(lists); err != nil {
		return "", err
	}
	var pakon strings.Builder
	pakon.WriteString("config monitor 'monitor'\n\toption enabled '1'\n\toption mode 'tap'\n")
	for _, i := range Interfaces {
		fmt.Fprintf(&pakon, "\tlist interface '%s'\n", i)
	}
	pakon.WriteString("\nconfig archive 'archive'\n\toption path '/srv/pakon/pakon-archive.db'\n\toption keep '4w'\n")
	return r, errors.Join(r.Write("etc/config/pakon", pakon.String()), r.WriteHosts(hosts))
}

// install puts the files of a folder where they are on a router.
func (r Root) install(folder string) error {
	entries, err := files.Shared.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("what is installed in %s: %w", folder, err)
	}
	if err := os.MkdirAll(r.Path(folder), 0o755); err != nil {
		return fmt.Errorf("laying out a router's folders: %w", err)
	}
	for _, e := range entries {
		b, err := files.Shared.ReadFile(folder + "/" + e.Name())
		if err != nil {
			return fmt.Errorf("what is installed in %s: %w", folder, err)
		}
		if err := os.WriteFile(r.Path(folder+"/"+e.Name()), b, 0o644); err != nil {
			return fmt.Errorf("installing %s: %w", e.Name(), err)
		}
	}
	return nil
}

// WriteHosts writes /etc/config/dhcp.
func (r Root) WriteHosts(hosts []Host) error {
	var b strings.Builder
	b.WriteString("config dnsmasq\n\toption domain 'lan'\n")
	for _, h := range hosts {
		fmt.Fprintf(&b, "\nconfig host\n\toption name '%s'\n", h.Name)
		if len(h.MACs) == 1 {
			fmt.Fprintf(&b, "\toption mac '%s'\n", strings.ToUpper(h.MACs[0]))
			continue
		}
		for _, m := range h.MACs {
			fmt.Fprintf(&b, "\tlist mac '%s'\n", m)
		}
	}
	return r.Write("etc/config/dhcp", b.String())
}

// Write replaces a file, which is whole at any time, as uci does.
func (r Root) Write(path, content string) error {
	name := r.Path(path)
	if err := os.WriteFile(name+".new", []byte(content), 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// Remove deletes a file, if it is there.
func (r Root) Remove(path string) error {
	if err := os.Remove(r.Path(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	return nil
}

// Path is where a path of the router is.
func (r Root) Path(path string) string { return filepath.Join(string(r), path) }

// Socket is where the bus of this router listens.
func (r Root) Socket() string { return r.Path("var/run/ubus.sock") }
