package uci

import "path/filepath"

// ReadMounts returns the folders at which drives are to be mounted, as
// OpenWrt's fstab says (sections mount, https://openwrt.org/docs/guide-user/storage/fstab)
// and, on Turris, the section srv of storage. Without these files there are
// none. err is a file that could not be read.
func ReadMounts(in Folders) (folders []string, err error) {
	s, err := open(in, "fstab")
	if err != nil {
		return nil, err
	}
	if s != nil {
		for _, key := range s.keys("mount") {
			on := false
			s.boolean(key, "enabled", &on)
			if target := s.text(key, "target"); on && filepath.IsAbs(target) {
				folders = append(folders, filepath.Clean(target))
			}
		}
	}
	s, err = open(in, "storage")
	if s == nil || err != nil {
		return folders, err
	}
	for _, key := range s.keys("srv") {
		if s.text(key, "uuid") != "" {
			folders = append(folders, "/srv")
		}
	}
	return folders, nil
}
