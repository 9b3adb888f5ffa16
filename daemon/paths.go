package main

import "path/filepath"

// paths are the places of the router's file system, below a root.
type paths struct {
	root    string
	config  string // UCI's files
	staged  string // UCI's changes that are not committed
	lists   string // the owner's lists
	run     string // settings and sockets, of this boot
	live    string // database of the last day
	eve     string // socket of Suricata's events
	ubus    string // socket of the bus
	saved   string // the configuration in force, for a restart with a broken file
	pidFile string
	procd   string // there where procd runs services
	restart string // there while /etc/init.d/pakon restarts the daemon
}

func pathsBelow(root string) paths {
	at := func(p string) string { return filepath.Join(root, p) }
	return paths{
		root:    root,
		config:  at("etc/config"),
		staged:  at("tmp/.uci"),
		lists:   at("usr/share/pakon-light"),
		run:     at("var/run/pakon"),
		live:    at("var/lib/pakon.db"),
		eve:     at("var/run/pakon/eve.sock"),
		ubus:    at("var/run/ubus/ubus.sock"),
		saved:   at("var/run/pakon/config.json"),
		pidFile: at("var/run/pakon/pakon.pid"),
		procd:   at("sbin/procd"),
		restart: at("var/run/pakon/restart"),
	}
}
