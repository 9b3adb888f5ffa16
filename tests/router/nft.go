package router

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// nft runs a script of nft(8) in the namespace, in one transaction.
func (ns *namespace) nft(script string) error {
	return ns.do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("nft in namespace %s: %w: %s", ns.name, err, strings.TrimSpace(stderr.String()))
		}
		return nil
	})
}
