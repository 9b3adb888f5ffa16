package suricata

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Settings say what Suricata is to capture.
type Settings struct {
	// Interfaces are captured with AF_PACKET, a thread each. Order and repetition do not matter. Name only ones
	// that exist: Suricata ends when one does not. Names that Valid refuses are left out.
	Interfaces []string
	// NFLOGGroup, if not 0, is the netfilter log group that Suricata reads instead of the interfaces.
	NFLOGGroup uint16
	// Counted: somebody else counts the connections, so it does not matter if Suricata forgets one early and takes it
	// for another afterwards.
	Counted bool
	// RunDir is the folder of eve.sock, suricata.yaml and suricata.log.
	RunDir string
	// Major is Suricata's major version, 7 or 8 (later ones are given what 8 is given).
	Major int
	// Version is the exact version, named in a comment: so an upgrade changes the file, and with it the running
	// Suricata is replaced.
	Version string
}

// File names in Settings.RunDir.
const (
	ConfigFile = "suricata.yaml"
	LogFile    = "suricata.log"
	SocketFile = "eve.sock"
)

// Valid tells whether Suricata's configuration can name the interface: the kernel allows any bytes but '/',
// ':' and white space, YAML only UTF-8.
func Valid(iface string) bool {
	return iface != "" && len(iface) < 16 && utf8.ValidString(iface) && !strings.ContainsAny(iface, "/\x00")
}

// captured returns the valid interfaces, sorted, each once.
func (s Settings) captured() []string {
	names := slices.DeleteFunc(slices.Clone(s.Interfaces), func(n string) bool { return !Valid(n) })
	slices.Sort(names)
	return slices.Compact(names)
}

// command is how Suricata is started with the yaml of these settings.
func (s Settings) command(binary string) []string {
	capture := "--af-packet"
	if s.NFLOGGroup != 0 {
		capture = "--nflog"
	}
	// There are no rules: without the detection engine nothing below /etc/suricata is needed, nor complained about.
	return []string{binary, "-c", filepath.Join(s.RunDir, ConfigFile), capture, "--disable-detection"}
}

// clusterBase begins our fanout group ids. Two programs on one interface with the same id would share the packets
// between them, and 99 downwards is in everybody's suricata.yaml.
const clusterBase = 28160

// YAML is the configuration of a Suricata 7 or 8 that reports names and flows in about 25 MB of memory. Equal settings
// give equal bytes.
func YAML(s Settings) []byte {
	var b bytes.Buffer
	version, ethernet, capture := "7.0", "yes", ""
	if s.Major >= 8 {
		version = "8.0"
	}
	if s.NFLOGGroup != 0 {
		ethernet = "no" // the log carries no link header
		capture = fmt.Sprintf(yamlNFLOG, s.NFLOGGroup)
	} else {
		var list strings.Builder
		for i, name := range s.captured() {
			fmt.Fprintf(&list, yamlInterface, quote(name), clusterBase+i)
		}
		capture = "af-packet:\n" + list.String()
		if list.Len() == 0 {
			capture = "af-packet: []\n"
		}
	}
	b.WriteString("%YAML 1.1\n---\n# Written by Pakon at every start: changes here are lost.\n")
	if s.Version != "" {
		fmt.Fprintf(&b, "# For Suricata %s.\n", strings.Map(printable, s.Version))
	}
	fmt.Fprintf(&b, yamlHead, version, quote(s.RunDir), quote(filepath.Join(s.RunDir, SocketFile)), ethernet,
		quote(filepath.Join(s.RunDir, LogFile)))
	b.WriteString(capture)
	timeouts := yamlTimeouts
	if s.Counted {
		timeouts = yamlShortTimeouts
	}
	fmt.Fprintf(&b, yamlTail, timeouts, quote(s.RunDir))
	return b.Bytes()
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}

// quote writes s, which is UTF-8, as a double-quoted YAML scalar.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r == 0x2028 || r == 0x2029 || r == 0xfeff: // line breaks and the byte order mark to YAML
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// One thread per interface: a second one costs 4 MB and Suricata is not the bottleneck below a gigabit.
// tpacket-v3: a third to a half of v2's CPU, and v2 loses every name of segments merged by GRO.
// ring-size is in packets, 6.5 MB of the kernel's memory: with 512 a burst at full speed of two cores lost a third of the
// packets and a tenth of the names, with 2048 2 %, with 4096 none.
const yamlInterface = `  - interface: %s
    threads: 1
    cluster-id: %d
    cluster-type: cluster_flow
    defrag: yes
    use-mmap: yes
    tpacket-v3: yes
    ring-size: 4096
    checksum-checks: no
`

// buffer-size is also the socket's: the default of 18 kB loses packets at 100 connections a second.
// qthreshold above 1 fills the log with errors of nflog_handle_packet.
const yamlNFLOG = `nflog:
  - group: %d
    buffer-size: 4194304
    qthreshold: 1
    qtimeout: 10
    max-size: 8388608
`

const yamlHead = `suricata-version: "%s"
vars:
  address-groups: {HOME_NET: "any", EXTERNAL_NET: "any"}
default-log-dir: %s
# Drops are seen within seconds; an event of totals every ten costs nothing.
stats: {enabled: yes, interval: 10, decoder-events: no}
outputs:
  - eve-log:
      enabled: yes
      # A stream: datagrams are lost as soon as the reader is slow.
      filetype: unix_stream
      filename: %s
      # The MACs tell the client even where the neighbour table does not know it (yet).
      ethernet: %s
      community-id: no
      types:
        # An answer repeats the question: the questions alone would double the events.
        - dns: {requests: no, responses: yes}
        - tls: {extended: yes}
        - http: {extended: no}
        - http2
        - quic
        - flow
        - stats: {totals: yes, threads: no, deltas: no, null-values: no}
logging:
  default-log-level: notice
  outputs:
    # A file survives the one who reads it, a pipe does not. Pakon reads it and keeps it short.
    - console: {enabled: no}
    - file: {enabled: yes, level: notice, filename: %s, format: "%%d: %%M"}
`

const yamlTail = `# Otherwise Suricata switches the offloads of the router's interfaces off.
capture: {disable-offloading: false, checksum-validation: none}
app-layer:
  protocols:
    # bypass: after the handshake there is nothing to name. Without it a busy router's stream memory runs full, and the
    # names of a third of the connections are lost silently.
    tls: {enabled: yes, detection-ports: {dp: 443}, ja3-fingerprints: no, encryption-handling: bypass}
    quic: {enabled: yes}
    http: {enabled: yes, libhtp: {default-config: {personality: IDS, request-body-limit: 4kb, response-body-limit: 4kb, response-body-decompress-layer-limit: 0, http-body-inline: auto}}}
    http2: {enabled: yes}
    dns: {tcp: {enabled: yes, detection-ports: {dp: 53}}, udp: {enabled: yes, detection-ports: {dp: 53}}}
    # It names nothing, and if it is not mentioned here, Suricata 8 complains at every start.
    pgsql: {enabled: no}
exception-policy: ignore
unix-command: {enabled: no}
coredump: {max-dump: 0}
# Packets in flight: the default of 1024 is 4 MB more.
max-pending-packets: 128
runmode: workers
default-packet-size: 1514
# prealloc alone is 18 MB.
defrag: {memcap: 1mb, hash-size: 1024, trackers: 1024, max-frags: 1024, prealloc: no, timeout: 30}
flow: {memcap: 16mb, hash-size: 4096, prealloc: 128, emergency-recovery: 30, managers: 1, recyclers: 1}
%s# The head of a connection names it: what comes after depth is bypassed, that is counted but not looked at.
stream:
  memcap: 8mb
  prealloc-sessions: 64
  checksum-validation: no
  midstream: false
  bypass: yes
  inline: no
  reassembly: {memcap: 16mb, depth: 64kb, raw: false, toserver-chunk-size: 2560, toclient-chunk-size: 2560, randomize-chunk-size: no, segment-prealloc: 64}
host: {hash-size: 256, prealloc: 16, memcap: 1mb}
ippair: {hash-size: 256, prealloc: 16, memcap: 1mb}
# Tunnels on a LAN are a client's affair: their outside is the connection. GRE and IP in IP cannot be switched off, but
# four layers are enough for Ethernet, a VLAN's tag (the kernel takes off the outer one) and IP, and not for a tunnel.
decoder: {max-layers: 4, teredo: {enabled: false}, vxlan: {enabled: false}, geneve: {enabled: false}}
# The default "auto" takes Hyperscan where there is one: 12 MB.
mpm-algo: ac-ks
spm-algo: bm
threading: {set-cpu-affinity: no, detect-thread-ratio: 1.0}
default-rule-path: %s
rule-files: []
`

const yamlTimeouts = `# A compromise. Longer: a connection that takes the ports of one not yet forgotten loses its name, and the end of TLS
# (bypassed) and UDP, which shows only by silence, is told late. Shorter: idle connections are told in more pieces.
flow-timeouts:
  default: {new: 30, established: 120, closed: 0, bypassed: 30, emergency-new: 3, emergency-established: 20, emergency-closed: 0, emergency-bypassed: 5}
  tcp: {new: 60, established: 120, closed: 0, bypassed: 30, emergency-new: 3, emergency-established: 20, emergency-closed: 0, emergency-bypassed: 5}
  udp: {new: 30, established: 60, bypassed: 30, emergency-new: 3, emergency-established: 20, emergency-bypassed: 5}
  icmp: {new: 30, established: 60, bypassed: 15, emergency-new: 3, emergency-established: 20, emergency-bypassed: 5}
`

const yamlShortTimeouts = `# Short: a connection that takes the ports of one not yet forgotten loses its name. Connection tracking counts.
flow-timeouts:
  default: {new: 30, established: 60, closed: 0, bypassed: 15, emergency-new: 3, emergency-established: 20, emergency-closed: 0, emergency-bypassed: 5}
  tcp: {new: 30, established: 60, closed: 0, bypassed: 15, emergency-new: 3, emergency-established: 20, emergency-closed: 0, emergency-bypassed: 5}
  udp: {new: 20, established: 25, bypassed: 15, emergency-new: 3, emergency-established: 20, emergency-bypassed: 5}
  icmp: {new: 20, established: 20, bypassed: 15, emergency-new: 3, emergency-established: 20, emergency-bypassed: 5}
`
