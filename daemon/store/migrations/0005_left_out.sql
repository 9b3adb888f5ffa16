-- Bytes of clients that were not recorded, by day and why.
CREATE TABLE left_out (
	day    INTEGER NOT NULL,              -- its start, Unix ms
	client BLOB NOT NULL,                 -- as endpoints.client; empty: all for whom there was no room
	why    TEXT NOT NULL,                 -- what became of them, as status names it
	sent   INTEGER NOT NULL,
	recvd  INTEGER NOT NULL,
	PRIMARY KEY (day, client, why)
) STRICT, WITHOUT ROWID;
