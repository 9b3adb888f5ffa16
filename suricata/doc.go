// Package suricata is all that Pakon knows of Suricata: the settings it is
// given, its life as a process, and the events it writes.
//
// The events are EVE JSON, one object a line
// (https://docs.suricata.io/en/latest/output/eve/eve-json-format.html), sent
// over a Unix stream socket. [Listener] receives them, [Decoder] turns a line
// into an [Event]. Versions 7 and 8 of Suricata write them differently, most of
// all DNS; both decode to the same Event.
//
// Lines are decoded by a single-pass scanner of our own, which checks the whole
// line as strictly as encoding/json and allocates nothing: on a household's
// events it takes two thirds of the time of valyala/fastjson, and about a
// quarter of that of buger/jsonparser, encoding/json and encoding/json/v2.
//
// The package knows nothing of the daemon: what an event means for a client or
// a connection, and whether a name in it is to be believed, is decided there.
package suricata
