package suricata

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Protocols of Ethernet and IP.
const (
	etherIPv4, etherIPv6, etherVLAN, etherQinQ, etherBridged = 0x0800, 0x86dd, 0x8100, 0x88a8, 0x6558

	ipUDP, ipGRE, ipIPv4, ipIPv6 = 17, 47, 4, 41
)

func ethernet(protocol uint16, payload []byte) []byte {
	b := []byte{2, 0, 0, 0, 1, 1, 2, 0xaa, 0, 0, 0, 0x10}
	return append(binary.BigEndian.AppendUint16(b, protocol), payload...)
}

// tagged puts a VLAN's tag before a payload of the protocol.
func tagged(vlan, protocol uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, vlan)
	return append(binary.BigEndian.AppendUint16(b, protocol), payload...)
}

// packet is an IP packet of either version.
func packet(src, dst netip.Addr, protocol byte, payload []byte) []byte {
	if src.Is6() {
		b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(payload)))
		b = append(b, protocol, 64)
		return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), payload...)
	}
	b := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(payload)))
	b = append(b, 0, 1, 0, 0, 64, protocol, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	return append(b, payload...)
}

// datagram is one of UDP without a checksum, to the port.
func datagram(port uint16) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0xc0, 0}, port)
	return append(b, 0, 8+4, 0, 0, 'x', 'y', 'z', 0)
}

func gre(protocol uint16, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0, 0}, protocol), payload...)
}

// TestTunnelsAreNotLookedInto plays frames of tunnels, and of what is none, to the real suricata.
func TestTunnelsAreNotLookedInto(t *testing.T) {
	t.Parallel()
	binaryPath, err := Find("")
	if err != nil {
		t.Skip("needs a real suricata: ", err)
	}
	client, server := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("203.0.113.80")
	client6, server6 := netip.MustParseAddr("2001:db8:1::10"), netip.MustParseAddr("2001:db8:f::80")
	inside, inside6 := netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("2001:db8:77::2")
	// The ports from 7000 on are of the connections inside.
	frames := [][]byte{
		ethernet(etherIPv4, packet(client, server, ipUDP, datagram(6000))),
		ethernet(etherIPv6, packet(client6, server6, ipUDP, datagram(6001))),
		ethernet(etherVLAN, tagged(5, etherIPv4, packet(client, server, ipUDP, datagram(6002)))),
		ethernet(etherVLAN, tagged(5, etherIPv6, packet(client6, server6, ipUDP, datagram(6003)))),
		ethernet(etherQinQ, tagged(5, etherIPv4, packet(client, server, ipUDP, datagram(6004)))),

		ethernet(etherIPv4, packet(client, server, ipGRE, gre(etherIPv4, packet(inside, server, ipUDP, datagram(7000))))),
		ethernet(etherIPv4, packet(client, server, ipGRE, gre(etherIPv6, packet(inside6, server6, ipUDP, datagram(7001))))),
		ethernet(etherIPv4, packet(client, server, ipGRE, gre(etherBridged, ethernet(etherIPv4, packet(inside, server, ipUDP, datagram(7002)))))),
		ethernet(etherIPv4, packet(client, server, ipIPv4, packet(inside, server, ipUDP, datagram(7003)))),
		ethernet(etherIPv4, packet(client, server, ipIPv6, packet(inside6, server6, ipUDP, datagram(7004)))),
		ethernet(etherIPv6, packet(client6, server6, ipIPv4, packet(inside, server, ipUDP, datagram(7005)))),
		ethernet(etherIPv6, packet(client6, server6, ipIPv6, packet(inside6, server6, ipUDP, datagram(7006)))),
		ethernet(etherVLAN, tagged(5, etherIPv4, packet(client, server, ipGRE, gre(etherIPv4, packet(inside, server, ipUDP, datagram(7007)))))),
	}
	capture := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	for _, n := range []uint32{4<<16 | 2, 0, 0, 65535, 1} { // version 2.4, Ethernet
		capture = binary.LittleEndian.AppendUint32(capture, n)
	}
	for i, f := range frames {
		for _, n := range []uint32{uint32(time.Now().Unix()), uint32(i), uint32(len(f)), uint32(len(f))} {
			capture = binary.LittleEndian.AppendUint32(capture, n)
		}
		capture = append(capture, f...)
	}
	for _, major := range []int{7, 8} {
		dir := t.TempDir()
		config, frames := filepath.Join(dir, ConfigFile), filepath.Join(dir, "frames.pcap")
		for path, content := range map[string][]byte{config: YAML(Settings{RunDir: dir, Major: major}), frames: capture} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := net.Listen("unix", filepath.Join(dir, SocketFile))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := make(chan []uint16, 1)
		go func() {
			var ports []uint16
			defer func() { got <- ports }()
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			var d Decoder
			var ev Event
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if err := d.Decode(lines.Bytes(), &ev); err == nil && ev.Kind == Flow && ev.Proto == ipUDP {
					ports = append(ports, ev.Dst.Port())
				}
			}
		}()
		out, err := exec.Command(binaryPath, "-c", config, "-l", dir, "-r", frames, "--runmode", "single", "--disable-detection").CombinedOutput()
		if err != nil {
			t.Fatalf("suricata: %v: %s", err, out)
		}
		l.Close() // it may not have connected
		ports := <-got
		slices.Sort(ports)
		if want := []uint16{6000, 6001, 6002, 6003, 6004}; !slices.Equal(ports, want) {
			t.Errorf("settings of %d: connections to the ports %v, want %v", major, ports, want)
		}
	}
}
