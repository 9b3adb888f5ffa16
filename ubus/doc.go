// Package ubus is a peer of OpenWrt's message bus: it calls objects, publishes objects, subscribes to their
// notifications and sends and hears events, and holds the formats that this takes (blobmsg, frames, the JSON that the
// bus's tools print and read).
//
// There is no specification of the protocol. The source of everything here are transcripts of the C implementation
// (libubox 1aa36ee, ubus 3cc98db, procd 2c1834a, rpcd 4476687, uhttpd f682cca), recorded between its tools and its
// broker; testdata holds them, with what they show (README.md), and the tests replay them.
//
// What the objects do is left to those who publish them; the broker is ubus/broker.
package ubus
