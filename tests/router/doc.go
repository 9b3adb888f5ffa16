// Package router makes a home router out of network namespaces: the bridges
// br-lan and br-guest_turris with clients behind them, a resolver, and an
// "internet" of web servers behind its wan port. Clients connect as devices
// do, over real sockets, and report exactly what they did, so that a test can
// compare it with what a monitor saw.
//
// The namespaces have no names and belong to the process: whatever happens to
// it, the kernel removes them. No packet leaves them. Needs root, the `ip`
// command, veth and bridge devices.
package router
