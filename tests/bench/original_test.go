package main

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"pakon/tests/household"
)

// TestOriginal: what is made up is what the original's archive is after a night.
func TestOriginal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	cfg := household.Default()
	cfg.Days, cfg.Rows, cfg.Hosts = archivedDays, 12_000, 20
	cfg.End = time.Date(2025, 6, 10, 15, 0, 0, 0, time.UTC)
	rows, sums, err := original(t.Context(), path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n, sent, recvd, wantSent, wantRecvd int64
	if err := db.QueryRow("SELECT count(*), sum(bytes_send), sum(bytes_received) FROM traffic").Scan(&n, &sent, &recvd); err != nil {
		t.Fatal(err)
	}
	for _, s := range sums {
		wantSent += s.sent
		wantRecvd += s.recvd
	}
	if n != int64(rows) || sent != wantSent || recvd != wantRecvd || n == 0 {
		t.Errorf("%d rows of %d and %d bytes; %d, %d and %d are told", n, sent, recvd, rows, wantSent, wantRecvd)
	}
	// The night's run was on June 11. Level 1 begins at once, 2 with days that were
	// over on June 8, and so on.
	for _, tt := range []struct {
		name, sql string
		want      int64
	}{
		{"days of two levels", "SELECT count(*) FROM (SELECT 1 FROM traffic GROUP BY date(start, 'unixepoch') HAVING min(details) < max(details))", 0},
		{"levels", "SELECT count(DISTINCT details) FROM traffic WHERE details BETWEEN 1 AND 4", 4},
		{"level of June 8", "SELECT max(details) FROM traffic WHERE date(start, 'unixepoch') = '2025-06-08'", 1},
		{"level of June 7", "SELECT max(details) FROM traffic WHERE date(start, 'unixepoch') = '2025-06-07'", 2},
		{"level of May 27", "SELECT min(details) FROM traffic WHERE date(start, 'unixepoch') = '2025-05-27'", 4},
		{"small flows of level 1", "SELECT count(*) FROM traffic WHERE details = 1 AND bytes_send + bytes_received < 4096", 0},
		{"small flows of level 4", "SELECT count(*) FROM traffic WHERE details = 4 AND bytes_send + bytes_received < 8192", 0},
		{"flows of level 4 that belong together", `SELECT count(*) FROM (SELECT start - lag(start + duration) OVER
			(PARTITION BY date(start, 'unixepoch'), src_mac, coalesce(app_hostname, dest_ip), dest_port ORDER BY start) AS apart
			FROM traffic WHERE details = 4 AND app_hostname IS NOT NULL) WHERE apart < 3599`, 0},
		{"flows of several addresses", "SELECT count(*) > 0 FROM traffic WHERE dest_ip IS NULL", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got int64
			if err := db.QueryRow(tt.sql).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
