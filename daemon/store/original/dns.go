package original

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"pakon/daemon/client"
	"pakon/daemon/name"
	"pakon/uci/regular"
)

// Bounds of a DNS cache; the original keeps 2000 names.
const (
	maxDNSBytes = 16 << 20 // of its JSON
	maxDNSNames = 100_000
)

// Name is what an address was called by a client's DNS answers.
type Name struct {
	Client  client.MAC // zero if unknown
	Address netip.Addr
	Name    string // see name.Clean
}

// ReadDNS reads the DNS cache that the original writes when it ends: gzip with a
// JSON object of "MAC:address": "name". The name used least recently is first.
// Entries that make no sense are left out. If the file is cut off, damaged or out
// of bounds, what could be read comes with an error that wraps ErrDamaged.
func ReadDNS(path string) ([]Name, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the original's DNS cache: %w", err)
	}
	defer f.Close()
	names, err := readDNS(f)
	if err != nil {
		return names, fmt.Errorf("read the original's DNS cache %s: %w: %w", path, ErrDamaged, err)
	}
	return names, nil
}

func readDNS(r io.Reader) ([]Name, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	dec := json.NewDecoder(io.LimitReader(z, maxDNSBytes))
	if t, err := dec.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	var names []Name
	for n := 0; dec.More(); n++ {
		if n == maxDNSNames {
			return names, fmt.Errorf("it has more than %d names", maxDNSNames)
		}
		key, err := dec.Token()
		if err != nil {
			return names, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return names, err
		}
		k, _ := key.(string)
		mac, a, ok := splitKey(k)
		var s string
		if !ok || json.Unmarshal(value, &s) != nil {
			continue
		}
		if s := name.Clean(nil, []byte(s)); s != nil {
			names = append(names, Name{mac, a, string(s)})
		}
	}
	_, err = dec.Token()
	return names, err
}

// splitKey splits a MAC and an address; the MAC is empty where the original did
// not know it.
func splitKey(s string) (client.MAC, netip.Addr, bool) {
	const macLen = len("00:11:22:33:44:55")
	var mac client.MAC
	switch {
	case len(s) > 0 && s[0] == ':':
		s = s[1:]
	case len(s) > macLen && s[macLen] == ':':
		var err error
		if mac, err = client.ParseMAC(s[:macLen]); err != nil {
			return client.MAC{}, netip.Addr{}, false
		}
		s = s[macLen+1:]
	default:
		return client.MAC{}, netip.Addr{}, false
	}
	a := addr(s)
	return mac, a, a.IsValid()
}
