package suricata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrMissing says that no Suricata is installed.
var ErrMissing = errors.New("suricata is not installed")

// Find returns the path of the suricata binary below root ("" or "/": this system). The error is ErrMissing if there
// is none.
func Find(root string) (string, error) {
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/local/bin"} {
		path := filepath.Join("/", root, dir, "suricata")
		st, err := os.Stat(path)
		if err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("looking for suricata: %w", err)
		}
	}
	return "", ErrMissing
}

// Build is what a suricata binary says about itself.
type Build struct {
	Version  string // "7.0.10"
	Major    int    // 7
	AFPacket bool   // can capture from interfaces
	NFLOG    bool   // can read netfilter log groups
}

// buildTimeout bounds one `suricata --build-info`: it takes milliseconds, on a router that boots some seconds.
const buildTimeout = 20 * time.Second

// maxBuildInfo bounds what is read of it, in bytes; real ones are 5 kB.
const maxBuildInfo = 64 << 10

// Inspect runs `binary --build-info`. It fails if the binary does not start, does not end within 20 s, or is no
// Suricata.
func Inspect(ctx context.Context, binary string) (Build, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	out := limitedBuffer{max: maxBuildInfo}
	cmd := exec.CommandContext(ctx, binary, "--build-info")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a child of it that keeps the pipe must not keep us
	err := cmd.Run()
	if ctx.Err() != nil {
		return Build{}, fmt.Errorf("%s --build-info did not end: %w", binary, context.Cause(ctx))
	}
	if err != nil {
		return Build{}, fmt.Errorf("%s --build-info: %w%s", binary, err, firstLine(out.Bytes()))
	}
	b, err := parseBuild(out.Bytes())
	if err != nil {
		return Build{}, fmt.Errorf("%s --build-info: %w", binary, err)
	}
	return b, nil
}

var (
	versionLine = regexp.MustCompile(`(?m)^This is Suricata version ((\d{1,4})\.[0-9][0-9A-Za-z.+-]{0,40})`)
	featureLine = regexp.MustCompile(`(?m)^\s*(AF_PACKET|NFLOG) support:\s*(\w+)`)
)

func parseBuild(out []byte) (Build, error) {
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Build{}, fmt.Errorf("no version in its output%s", firstLine(out))
	}
	major, err := strconv.Atoi(string(m[2]))
	if err != nil {
		return Build{}, fmt.Errorf("version %q: %w", m[1], err)
	}
	b := Build{Version: string(m[1]), Major: major}
	for _, f := range featureLine.FindAllSubmatch(out, -1) {
		yes := string(f[2]) == "yes"
		if string(f[1]) == "NFLOG" {
			b.NFLOG = yes
		} else {
			b.AFPacket = yes
		}
	}
	return b, nil
}

// firstLine is ": " and the first line of b as far as it is fit to be shown, or "".
func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	if len(line) == 0 {
		return ""
	}
	return ": " + cleanText(string(line))
}

// mended are, by major version, the first releases without the flaws known by early 2026 that a packet can reach.
var mended = map[int]release{7: {7, 0, 14}, 8: {8, 0, 4}}

// release is the number of a release.
type release [3]int

func (r release) String() string { return fmt.Sprintf("%d.%d.%d", r[0], r[1], r[2]) }

var releaseNumber = regexp.MustCompile(`^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(-?)`)

// Outdated returns the release that mended flaws of this one, "" if none is known. Who packages Suricata may have mended
// them in this one, too, which its version does not tell.
func (b Build) Outdated() string {
	m := releaseNumber.FindStringSubmatch(b.Version)
	wanted, ok := mended[b.Major]
	if m == nil || !ok {
		return ""
	}
	var r release
	for i := range r {
		r[i], _ = strconv.Atoi(m[i+1]) // none for 8.0
	}
	// What comes before a release is named after it: 8.0.4-rc1.
	if c := slices.Compare(r[:], wanted[:]); c > 0 || c == 0 && m[4] == "" {
		return ""
	}
	return wanted.String()
}

// limitedBuffer keeps the first max bytes and takes the rest.
type limitedBuffer struct {
	bytes.Buffer
	max int
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if room := l.max - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Inspector asks as Inspect does, and remembers the answer as long as the file is the same. Its zero value is ready; it
// is not safe for concurrent use.
type Inspector struct {
	path  string
	size  int64
	mtime time.Time
	build Build
}

// Inspect is like the function of that name.
func (i *Inspector) Inspect(ctx context.Context, binary string) (Build, error) {
	st, err := os.Stat(binary)
	if err != nil {
		return Build{}, fmt.Errorf("inspecting suricata: %w", err)
	}
	if i.path == binary && i.size == st.Size() && i.mtime.Equal(st.ModTime()) {
		return i.build, nil
	}
	b, err := Inspect(ctx, binary)
	if err != nil {
		return Build{}, err
	}
	*i = Inspector{path: binary, size: st.Size(), mtime: st.ModTime(), build: b}
	return b, nil
}

// check tells what stands in the way of capturing as the settings want with this build.
func (b Build) check(s Settings) error {
	switch {
	case b.Major < 7:
		return fmt.Errorf("suricata %s is too old: Pakon needs 7 or 8", b.Version)
	case s.NFLOGGroup != 0 && !b.NFLOG:
		return fmt.Errorf("suricata %s is built without NFLOG, which reading group %d needs", b.Version, s.NFLOGGroup)
	case s.NFLOGGroup == 0 && !b.AFPacket:
		return fmt.Errorf("suricata %s is built without AF_PACKET, which capturing from %s needs", b.Version,
			strings.Join(s.Interfaces, ", "))
	}
	return nil
}
