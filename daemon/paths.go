package main

import (
	"path/filepath"

	"pakon/uci"
)

// paths are the places of the router's file system, below a root.
type paths struct {
	root    string
	uci     uci.Folders
	lists   string // the lists of names, the owner's in folders of it
	run     string // settings and sockets, of this boot
	live    string // database of the last day
	eve     string // socket of Suricata's events
	ubus    string // socket of the bus
	saved   string // the configuration in force, for a restart with a broken file
	pidFile string
	procd   string // there where procd runs services
	vendors string // who makes devices
	scripts string // folder of what is run for a new device
	turris  string // the command that makes a notification of Turris
	restart string // while /etc/init.d/pakon restarts the daemon, the number of its process
}

// listFolders are the folders with files of lists.
func (p *paths) listFolders() []string {
	return []string{p.lists, filepath.Join(p.lists, "domains_replace"), filepath.Join(p.lists, "domains_ignore")}
}

func pathsBelow(root string) paths {
	at := func(p string) string { return filepath.Join(root, p) }
	return paths{
		root:    root,
		uci:     uci.Folders{Config: at("etc/config"), Override: at("var/run/uci"), Staged: at("tmp/.uci")},
		lists:   at("usr/share/pakon-light"),
		run:     at("var/run/pakon"),
		live:    at("var/lib/pakon.db"),
		eve:     at("var/run/pakon/eve.sock"),
		ubus:    at("var/run/ubus/ubus.sock"),
		saved:   at("var/run/pakon/config.json"),
		pidFile: at("var/run/pakon/pakon.pid"),
		procd:   at("sbin/procd"),
		vendors: at("usr/share/pakon-light/vendors"),
		scripts: at("etc/pakon/client-new.d"),
		turris:  at("usr/bin/create_notification"),
		restart: at("var/run/pakon/restart"),
	}
}
