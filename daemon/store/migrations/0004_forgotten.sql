-- Connections that went on when their flows were forgotten, and what is not to be
-- recorded of them again. Neither ends nor names are kept.
CREATE TABLE forgotten (
	id        INTEGER PRIMARY KEY,        -- the later, the larger
	number    INTEGER NOT NULL UNIQUE,    -- the kernel's for the connection
	at        INTEGER NOT NULL,           -- Unix milliseconds
	raw_sent  INTEGER NOT NULL,           -- the kernel's counters then
	raw_recvd INTEGER NOT NULL
) STRICT;
