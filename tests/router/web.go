package router

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sync/errgroup"
)

// maxBody bounds what a client may ask for in one request.
const maxBody = 1 << 30

// web is the web server of all sites: HTTP on 80, TLS on 443, HTTP/3 on
// 443/udp, all addresses.
type web struct {
	roots    *x509.CertPool
	names    map[string]*tls.Certificate     // by SNI
	fallback map[netip.Addr]*tls.Certificate // without SNI
	burst    *tls.Certificate                // for any name of BurstDomain
}

func (r *Router) serveWeb() error {
	w, err := newWeb()
	if err != nil {
		return err
	}
	r.web = w
	config := &tls.Config{GetCertificate: w.certificate, MinVersion: tls.VersionTLS12}
	steps := &stepServer{}
	plain := &http.Server{Handler: handler(steps), ReadHeaderTimeout: 10 * time.Second}
	secure := &http.Server{Handler: handler(steps), TLSConfig: config, ReadHeaderTimeout: 10 * time.Second}
	quick := &http3.Server{Handler: handler(steps), TLSConfig: http3.ConfigureTLSConfig(config)}
	var running errgroup.Group
	var udp *net.UDPConn
	r.closers = append(r.closers, func() error {
		errs := []error{plain.Close(), secure.Close(), quick.Close()}
		if udp != nil {
			errs = append(errs, udp.Close())
		}
		steps.conns.close()
		return errors.Join(append(errs, running.Wait())...)
	})
	return r.internet.do(func() error {
		tcp80, err := net.Listen("tcp", ":80")
		if err != nil {
			return fmt.Errorf("starting the web server: %w", err)
		}
		running.Go(func() error { return unlessClosed(plain.Serve(tcp80)) })
		tcp443, err := net.Listen("tcp", ":443")
		if err != nil {
			return fmt.Errorf("starting the web server: %w", err)
		}
		running.Go(func() error { return unlessClosed(secure.ServeTLS(tcp443, "", "")) })
		if udp, err = net.ListenUDP("udp", &net.UDPAddr{Port: 443}); err != nil {
			return fmt.Errorf("starting the web server: %w", err)
		}
		running.Go(func() error { return unlessClosed(quick.Serve(udp)) })
		return nil
	})
}

// handler is what each web server serves.
func handler(steps *stepServer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(stepsPath, steps)
	mux.HandleFunc("/", serveBytes)
	return mux
}

func unlessClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// serveBytes reads the request's body and sends as many bytes as its query
// asks for: /?bytes=N.
func serveBytes(w http.ResponseWriter, req *http.Request) {
	if _, err := io.Copy(io.Discard, io.LimitReader(req.Body, maxBody)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n, err := strconv.ParseInt(req.URL.Query().Get("bytes"), 10, 64)
	if err != nil || n < 0 || n > maxBody {
		http.Error(w, "bytes: want 0 to "+strconv.Itoa(maxBody), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	block := make([]byte, 16<<10)
	for n > 0 {
		m := min(n, int64(len(block)))
		if _, err := w.Write(block[:m]); err != nil {
			return // the client is gone
		}
		n -= m
	}
}

func newWeb() (*web, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Example CA"}, CommonName: "Example Root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	w := &web{roots: x509.NewCertPool(), names: map[string]*tls.Certificate{}, fallback: map[netip.Addr]*tls.Certificate{}}
	w.roots.AddCert(ca)
	serial := int64(1)
	issue := func(cn string, names ...string) (*tls.Certificate, error) {
		serial++
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{Country: []string{"CZ"}, Organization: []string{"Example"}, CommonName: cn},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, DNSNames: names,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key)
		if err != nil {
			return nil, fmt.Errorf("making the certificate of %s: %w", cn, err)
		}
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}
	sharing := map[netip.Addr][]string{}
	for _, s := range Sites {
		if w.names[s.Name], err = issue(s.Name, s.Name); err != nil {
			return nil, err
		}
		for _, a := range []netip.Addr{s.V4, s.V6} {
			sharing[a] = append(sharing[a], s.Name)
		}
	}
	if w.burst, err = issue("*."+BurstDomain, "*."+BurstDomain); err != nil {
		return nil, err
	}
	for a, names := range sharing {
		cn := defaultName(names)
		if w.fallback[a], err = issue(cn, append(names, cn)...); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// defaultName is what an address says it is to who does not ask for a name:
// its only site, or the network that serves all of them.
func defaultName(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return "cdn.example.net"
}

func (w *web) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := w.names[hello.ServerName]; c != nil {
		return c, nil
	}
	if strings.HasSuffix(hello.ServerName, "."+BurstDomain) {
		return w.burst, nil
	}
	local, err := netip.ParseAddrPort(hello.Conn.LocalAddr().String())
	if err != nil {
		return nil, err
	}
	if c := w.fallback[local.Addr().Unmap()]; c != nil && hello.ServerName == "" {
		return c, nil
	}
	return nil, fmt.Errorf("no certificate for %q at %v", hello.ServerName, local)
}

// verify checks a server's certificate against the authority, whatever name it
// was asked for.
func (w *web) verify(state tls.ConnectionState) error {
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: w.roots, DNSName: state.ServerName})
	return err
}
