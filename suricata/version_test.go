package suricata

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if path, err := Find(root); !errors.Is(err, ErrMissing) {
		t.Errorf("empty root: %q, %v", path, err)
	}
	want := script(t, filepath.Join(root, "usr/sbin/suricata"), "")
	if path, err := Find(root); path != want || err != nil {
		t.Errorf("got %q, %v; want %q", path, err, want)
	}
	want = script(t, filepath.Join(root, "usr/bin/suricata"), "")
	if path, err := Find(root); path != want || err != nil {
		t.Errorf("got %q, %v; want %q", path, err, want)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		want       Build
		err        string
	}{
		{"7", fmt.Sprintf(fakeBuild, "7.0.10", "yes", "no"), Build{"7.0.10", 7, true, false}, ""},
		{"8", fmt.Sprintf(fakeBuild, "8.0.7", "no", "yes"), Build{"8.0.7", 8, false, true}, ""},
		{"development", fmt.Sprintf(fakeBuild, "9.0.0-dev", "yes", "yes"), Build{"9.0.0-dev", 9, true, true}, ""},
		{"does not start", "echo 'error while loading shared libraries: libjansson.so.4' >&2; exit 127", Build{}, "libjansson.so.4"},
		{"something else", "echo hello", Build{}, "no version"},
		{"floods", "while :; do echo flood; done | head -n 500000", Build{}, "no version"},
		{"hangs", "exec sleep 1000", Build{}, "did not end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if c.name == "hangs" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			binary := script(t, filepath.Join(t.TempDir(), "suricata"), c.body)
			b, err := Inspect(ctx, binary)
			if b != c.want {
				t.Errorf("got %+v, want %+v", b, c.want)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), binary)) {
				t.Errorf("error %v, want one that names the binary and %q", err, c.err)
			}
		})
	}
}

func TestInspectReal(t *testing.T) {
	t.Parallel()
	binary, err := Find("")
	if err != nil {
		t.Skip("needs a real suricata: ", err)
	}
	b, err := Inspect(t.Context(), binary)
	if err != nil || b.Major < 7 || !strings.HasPrefix(b.Version, fmt.Sprint(b.Major, ".")) || !b.AFPacket {
		t.Errorf("%s: %+v, %v", binary, b, err)
	}
}

func TestOutdated(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"7.0.0": "7.0.14", "7.0.10": "7.0.14", "7.0.13": "7.0.14", "7.0.14": "", "7.0.15": "", "7.0.100": "", "7.1.0": "", "7.0": "7.0.14",
		"8.0.0": "8.0.4", "8.0.3": "8.0.4", "8.0.4": "", "8.0.4+deb14": "", "8.0.10": "", "8.1.0-dev": "",
		"7.0.14-rc1": "7.0.14", "8.0.4-dev": "8.0.4", "9.0.0-dev": "", "6.0.20": "",
	} {
		b, err := parseBuild([]byte("This is Suricata version " + version + " RELEASE\n"))
		if got := b.Outdated(); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", version, got, err, want)
		}
	}
}

func FuzzParseBuild(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(fakeBuild, "7.0.10", "yes", "no")))
	f.Add([]byte("This is Suricata version 7.0.10 RELEASE\nFeatures: NFQ\n  AF_PACKET support:                       yes\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		b, err := parseBuild(out)
		b.Outdated()
		if err == nil && !strings.HasPrefix(b.Version, fmt.Sprint(b.Major)) && b.Version[0] != '0' {
			t.Errorf("%+v", b)
		}
	})
}
