package store

import (
	"context"
	"fmt"
)

// Wrote counts bytes that another has written beside the archive among those that
// Storage.Written tells.
func (s *Store) Wrote(ctx context.Context, bytes int64) error {
	if err := s.noteWritten(ctx, bytes); err != nil {
		return fmt.Errorf("count what was written: %w", err)
	}
	return nil
}
