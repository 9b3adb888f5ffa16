-- Connections whose flow may still change, and what ties them to the kernel's.
CREATE TABLE tracked (
	flow      INTEGER PRIMARY KEY,        -- flows.id
	running   INTEGER NOT NULL,           -- 0: it has ended, 1: it goes on
	number    INTEGER NOT NULL,           -- the kernel's for the connection
	port      INTEGER NOT NULL,           -- of the side that opened it
	raw_sent  INTEGER NOT NULL,           -- the kernel's counters as last read
	raw_recvd INTEGER NOT NULL
) STRICT;

-- What flows moved in the hours after the one in which they began: the rest of
-- their bytes belongs to that one.
CREATE TABLE hours (
	flow  INTEGER NOT NULL,               -- flows.id
	hour  INTEGER NOT NULL,               -- its start, Unix milliseconds
	sent  INTEGER NOT NULL,
	recvd INTEGER NOT NULL,
	PRIMARY KEY (flow, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX hours_by_time ON hours (hour);
