-- Bytes of clients that were not recorded, as of the last backup or run: see the
-- table of live.
CREATE TABLE left_out (
	day    INTEGER NOT NULL,              -- its start, Unix ms
	client BLOB NOT NULL,
	why    TEXT NOT NULL,
	sent   INTEGER NOT NULL,
	recvd  INTEGER NOT NULL,
	PRIMARY KEY (day, client, why)
) STRICT, WITHOUT ROWID;
