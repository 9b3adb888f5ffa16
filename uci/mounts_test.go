package uci

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestReadMounts(t *testing.T) {
	for _, tt := range []struct {
		name, fstab, storage string
		want                 []string
	}{
		{"nothing", "", "", nil},
		{"a drive", "config global\n\toption anon_mount '0'\nconfig mount\n\toption target '/srv/'\n\toption uuid 'x'\n\toption enabled '1'\n", "", []string{"/srv"}},
		{"switched off", "config mount\n\toption target '/srv'\n\toption enabled '0'\nconfig mount\n\toption target '/mnt/a'\n", "", nil},
		{"no folder", "config mount\n\toption target 'srv'\n\toption enabled '1'\n", "", nil},
		{"Turris", "", "config srv 'srv'\n\toption uuid '5c9a'\n", []string{"/srv"}},
		{"Turris without a drive", "", "config srv 'srv'\n\toption raid 'single'\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"fstab": tt.fstab, "storage": tt.storage} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := ReadMounts(Folders{Config: dir, Staged: filepath.Join(dir, "staged")})
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
