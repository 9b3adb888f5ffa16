// Package router makes a home router out of network namespaces: the bridges
// br-lan and br-guest_turris with clients behind them, a resolver, and an
// "internet" of web servers behind its wan port. Clients connect as devices
// do, over real sockets, and report exactly what they did, so that a test can
// compare it with what a monitor saw. Firewall gives it what fw4 gives a router;
// what the kernel then tracks is a second truth beside the frames of a Tap.
//
// The namespaces have no names and belong to the process: whatever happens to
// it, the kernel removes them. No packet leaves them. Needs root, the `ip`
// command, veth and bridge devices; for firewalls and lossy links `nft`.
package router
