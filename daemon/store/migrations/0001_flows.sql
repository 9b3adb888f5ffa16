-- What a flow refers to by number, because it repeats: far ends' names, the
-- clients' addresses, application protocols.

CREATE TABLE names (
	id     INTEGER PRIMARY KEY AUTOINCREMENT,
	name   TEXT NOT NULL UNIQUE,
	-- What stands for the name where flows are put together, if not the name
	-- itself: its group (text), or the address that it spells (blob).
	shown  ANY,
	hidden INTEGER NOT NULL
) STRICT;

CREATE TABLE endpoints (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	-- Whose the address is: a MAC (6 bytes), else the address itself (0, 4 or 16).
	client    BLOB NOT NULL,
	address   BLOB NOT NULL,
	interface TEXT NOT NULL,
	UNIQUE (client, address, interface)
) STRICT;

CREATE TABLE apps (
	id   INTEGER PRIMARY KEY AUTOINCREMENT,
	name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE flows (
	-- Start in Unix milliseconds << 12, with a number that tells flows of one
	-- millisecond apart: the table is in order of time without an index.
	id       INTEGER PRIMARY KEY,
	duration INTEGER NOT NULL,            -- milliseconds
	endpoint INTEGER NOT NULL,            -- endpoints.id
	name     INTEGER,                     -- names.id, NULL if unknown
	facts    INTEGER NOT NULL,            -- port << 12 | protocol << 4 | source << 1 | direction
	app      INTEGER,                     -- apps.id, NULL if unknown
	remote   BLOB NOT NULL,               -- address, 0, 4 or 16 bytes
	sent     INTEGER NOT NULL,
	recvd    INTEGER NOT NULL,
	batch    INTEGER NOT NULL             -- state.batch when it was added
) STRICT;

-- Flows that began long before a window of time may reach into it. All others
-- are found by looking back one hour from its start.
CREATE INDEX long_flows ON flows (id, duration) WHERE duration >= 3600000;

CREATE TABLE state (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	batch    INTEGER NOT NULL,            -- how many batches have been added
	identity INTEGER NOT NULL             -- tells this database from another
) STRICT;
INSERT INTO state VALUES (1, 0, random() & 0x7fffffffffffffff);
