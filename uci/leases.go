package uci

import "slices"

// Where OpenWrt's DHCP servers keep their leases if nothing else is set.
const (
	dnsmasqLeases = "/tmp/dhcp.leases"
	odhcpdLeases  = "/tmp/hosts/odhcpd"
)

// ReadLeaseFiles returns where the DHCP servers keep their leases, as their
// configuration says, with what is staged for it: the leasefile of each dnsmasq and
// of odhcpd, each path once. What is not set, or is no absolute path, is where it is
// by default. The files need not exist. What odhcpd writes into its hostsdir is not
// among them: its lease file has all of that, and the MACs. err is a file that could
// not be read.
func ReadLeaseFiles(in Folders) (paths []string, err error) {
	s, err := open(in, hostsFile)
	if err != nil {
		return nil, err
	}
	for _, server := range []struct{ section, file string }{{"dnsmasq", dnsmasqLeases}, {"odhcpd", odhcpdLeases}} {
		var keys []string
		if s != nil {
			keys = s.keys(server.section)
		}
		if len(keys) == 0 {
			paths = append(paths, server.file)
		}
		for _, key := range keys {
			path, ok := parsePath(s.text(key, "leasefile"))
			if !ok {
				path = server.file
			}
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// ReadHostsFiles returns the files and folders of hosts that the DHCP server is
// told to read (dhcphostsfile), each once. They need not exist. err is a file that
// could not be read.
func ReadHostsFiles(in Folders) (paths []string, err error) {
	s, err := open(in, hostsFile)
	if s == nil || err != nil {
		return nil, err
	}
	for _, key := range s.keys("dnsmasq") {
		if path, ok := parseFolder(s.text(key, "dhcphostsfile")); ok && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths, nil
}
